"""Last.fm → ``tracks`` and ``merged``: ask what is not answered yet, then make the tables from the answers.

The answers are what is worth keeping; the tables follow from them. Workers only ask and keep, and the places at the
server are given out to all of them together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from rich.markup import escape

from mer_ray import errors
from mer_ray.config import CollectConfig, Config
from mer_ray.console import Summary, err, progress
from mer_ray.errors import InputError, MerRayError, ServiceError, TrackError
from mer_ray.io.identity import one_line
from mer_ray.io.rate_limit import Limiter, per_second
from mer_ray.io.tables import Workspace
from mer_ray.io.track import Track
from mer_ray.sources import harvest, lastfm
from mer_ray.sources.answers import Answers
from mer_ray.sources.harvest import Listing, PageAt, Wanted
from mer_ray.sources.lastfm import Client, Question
from mer_ray.stages import counters, harvested, session, shared_limits, workspace_source
from mer_ray.stages.harvested import Lost

MAX_THREADS = 64
"""Of all workers together: so many requests wait for an answer at once, if the rate allows."""
MAX_LOST_IN_A_ROW = 10
"""Tracks, or pages, in a row that Last.fm fails on, after which the fault is taken for Last.fm's and not theirs."""
STORAGE_MB, NEAR = 100, 0.8
"""What Last.fm's terms let one store, and the share of it from which on we warn."""
LOOK_AT_SIZE_EVERY = 500
RESTARTS = 3
"""How often a worker that dies is started again."""
CLOSE_S = 30.0
"""For all workers to make their last answers durable; one whose node died does not come to it."""
MADE = ("settings", "harvest.json")

Job = tuple[Track, list[Question]]
Told = tuple[str, str, str]
"""A MerRayError as a worker answers it: its name, message and hint. Raised there, it would come with a traceback."""


def run(config: Config, workspace: Workspace) -> Summary:
    """Ask Last.fm for what is wanted and not answered yet; make the tables anew if that changed anything."""
    started = time.monotonic()
    settings = config.collect
    wanted = Wanted(
        tuple(settings.tags),
        settings.combine,
        settings.limit,
        settings.min_tag_weight,
        settings.min_seed_weight,
        settings.details,
    )
    workspace.claim("collect", "tracks", _identity(settings))
    workspace_source.remember(settings, workspace)
    before = workspace.ids("tracks")
    summary = Summary("collect", done_before=len(before))
    cache = cache_uri(settings, workspace)
    failed = {f["track_id"]: f for f in workspace.failures("collect")}
    lost, line = Lost(), ""
    with ExitStack() as stack:
        answers = stack.enter_context(Answers(cache))
        crew = None if settings.offline else _Crew(config, cache, answers, lost)
        listed = harvest.listing(wanted, answers, crew.ask_pages if crew is not None else None)
        if crew is not None:
            jobs = list(harvest.open_questions(listed, wanted, answers, config.retry_failed))
            try:
                crew.ask(jobs, {id for id, f in failed.items() if f["reason"] == "lastfm_error"})
            except ServiceError:
                harvested.keep(workspace, lost, failed)
                raise
            answers.reload()
        if not listed.tracks:  # no reason to take away the tables that are there
            raise _nothing(settings, lost, cache)
        pages = harvested.missing_pages(listed, lost, failed)
        made = {
            "answers": len(answers),
            "bytes": answers.size_bytes(),
            "wanted": asdict(wanted) | {"tags": list(wanted.tags)},
        }
        if lost.asked or pages or not workspace.has("tracks") or workspace.read_json(*MADE) != made:
            workspace.write_json(None, *MADE)  # killed from here on, the next run makes them once more
            line = harvested.make(
                workspace, _identity(settings), listed, wanted, answers, lost, pages, failed, settings.keep_gone
            )
            if not lost.tracks and not pages:
                workspace.write_json(made, *MADE)
        summary.notes = [*filter(None, [line]), *_notes(listed, pages, answers, cache)]
    after = workspace.ids("tracks")
    summary.made = len(after - before)
    counters.count("collect", summary.made)
    summary.done_before = len(after & before)
    summary.failed = workspace.n_lost("collect")
    summary.seconds = time.monotonic() - started
    if not after:
        raise InputError(
            f"no track was collected; {summary.failed} failed", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


def cache_uri(settings: CollectConfig, workspace: Workspace) -> str:
    """Where the answers are kept."""
    if settings.cache is not None:
        return settings.cache
    return workspace.at("cache", "lastfm")


def _identity(settings: CollectConfig) -> dict[str, Any]:
    names = ("combine", "api_url", "min_tag_weight", "min_seed_weight", "details")
    return {"source": "lastfm", "tag": settings.tags, **{name: getattr(settings, name) for name in names}}


def _nothing(settings: CollectConfig, lost: Lost, cache: str) -> MerRayError:
    if lost.pages:
        return ServiceError(min(lost.pages.items())[1].message, "run again later; what was collected is kept")
    hint = "check collect.cache, collect.tag and collect.combine"
    what = f"{cache} holds no answers to this" if settings.offline else "no track was collected, none is listed"
    return InputError(what, hint)


def _notes(listed: Listing, pages: Collection[PageAt], answers: Answers, cache: str) -> list[str]:
    size_mb = answers.size_bytes() / 1e6
    notes = [f"{len(answers):,} answers of Last.fm kept in {cache} ({size_mb:.1f} MB)"]
    if size_mb > NEAR * STORAGE_MB:
        notes.append(_too_much(size_mb))
    if listed.variants:
        notes.append(f"{len(listed.variants):,} other names of these tracks merged: see the table merged")
    if pages:
        some = ", ".join(f"page {at.number} of {at.tag!r}" for at in islice(pages, 5))
        more = f" and {len(pages) - 5:,} more" if len(pages) > 5 else ""
        notes.append(f"out of reach, with their tracks: {some}{more}; run again later")
    if never := [at for at in listed.absent if at not in pages]:
        at = never[0]
        notes.append(f"the listing ends where the answers do: page {at.number} of {at.tag!r} was never asked for")
    return notes


def _too_much(size_mb: float) -> str:
    return (
        f"{size_mb:.0f} MB of Last.fm's data are stored; its terms allow {STORAGE_MB} MB: "
        "ask Last.fm for more before you go on"
    )


# the asking -------------------------------------------------------------------------------------------------------


class _Crew:
    """Everybody who asks: the threads of this process, or of workers on the cluster."""

    def __init__(self, config: Config, cache: str, answers: Answers, lost: Lost) -> None:
        """lost: takes what could not be answered, and what was asked for."""
        self._config, self._cache, self._answers, self._lost = config, cache, answers, lost
        self._lost_in_a_row = 0  # pages
        settings = config.collect
        self._key = lastfm.key()
        # Twice as many as the rate, since answers take a second or so now and then.
        self._threads = min(MAX_THREADS, max(4, round(2 * settings.requests_per_s)))

    def ask_pages(self, pages: Sequence[PageAt]) -> None:
        """Get pages of the listing answered; after too many in a row that are out of reach, no more of them.

        Whether Last.fm is out of service then shows with the tracks.
        """

        def ask(client: Client, at: PageAt) -> None:
            self._answers.put(lastfm.page_question(*at), client.listing(*at))

        if self._lost_in_a_row >= MAX_LOST_IN_A_ROW:
            return
        results = harvest.in_threads(self._plan.client, ask, pages, min(self._threads, len(pages)))
        with progress("collect: pages", len(pages)) as ticker, closing(results):
            for at, error in results:
                ticker.advance()
                self._lost.asked.add(harvested.page_id(at))
                self._lost.pages.pop(at, None)
                self._lost_in_a_row = self._lost_in_a_row + 1 if error is not None else 0
                if error is not None:
                    self._lost.pages[at] = error
                if self._lost_in_a_row == MAX_LOST_IN_A_ROW:
                    break

    def ask(self, jobs: Sequence[Job], known: Set[str]) -> None:
        """Get questions about tracks answered. Raises as `Client.about`.

        known: ids of tracks that Last.fm failed on before, which say nothing of its state.
        """
        if not jobs:
            return
        self._lost.asked |= {track.id for track, _ in jobs}
        losses = self._lost.tracks
        in_a_row = 0
        warned = False
        results = self._by_threads(jobs) if self._config.collect.workers == 1 else self._by_workers(jobs)
        with progress("collect", len(jobs)) as ticker, closing(results):
            for done, (track, error) in enumerate(results, start=1):
                ticker.advance(note=f"{len(losses):,} lost" if losses else "")
                counters.count("harvest", int(error is None))
                if error is not None:
                    losses[track.id] = error
                if error is None or error.reason != "lastfm_error":
                    in_a_row = 0
                elif track.id not in known:
                    in_a_row += 1
                    if in_a_row == MAX_LOST_IN_A_ROW:
                        raise ServiceError(
                            f"Last.fm failed on {in_a_row} tracks in a row ({error.message})",
                            "run again later; the answers that came are kept, --offline makes tables from them",
                        )
                if not warned and done % LOOK_AT_SIZE_EVERY == 0:
                    size_mb = self._answers.size_bytes() / 1e6
                    if warned := size_mb > NEAR * STORAGE_MB:
                        err.print(_too_much(size_mb))

    @cached_property
    def _plan(self) -> _Plan:
        """Made when there is something to ask: until then, Ray is not needed."""
        settings = self._config.collect
        local = settings.workers == 1
        if not local:
            session.connect(self._config.address)
        name = f"lastfm {lastfm.account(settings.api_url, self._key)}"
        bounds: dict[str, Any] = {**per_second(settings.requests_per_s), "lease_s": 3 * settings.timeout_s + 10.0}
        limiter = shared_limits.shared(name, **bounds, local=local)
        cache = Workspace(self._cache).uri  # absolute: a worker may be in another folder
        return _Plan(settings.api_url, limiter, settings.timeout_s, cache, self._key)

    def _by_threads(self, jobs: Sequence[Job]) -> Generator[tuple[Track, TrackError | None], None, None]:
        def ask(client: Client, job: Job) -> None:
            harvest.ask_about(client, self._answers, *job)

        for (track, _), result in harvest.in_threads(self._plan.client, ask, jobs, min(self._threads, len(jobs))):
            yield track, result

    def _by_workers(self, jobs: Sequence[Job]) -> Generator[tuple[Track, TrackError | None], None, None]:
        """The jobs spread over actors, each with some in hand, so that a slow answer holds up nobody else."""
        import ray

        n_workers = min(self._config.collect.workers, len(jobs))
        threads = -(-self._threads // n_workers)
        # A killed worker is started anew, and its jobs are given to it again.
        again = {"max_restarts": RESTARTS, "max_task_retries": RESTARTS}
        options = {"num_cpus": 0.01, "max_concurrency": threads + 1, **again}
        todo = iter(jobs)
        running: dict[Any, tuple[Any, Track]] = {}

        def give(worker: Any) -> None:
            for track, questions in islice(todo, 1):
                running[worker.ask.remote(track, questions)] = (worker, track)

        with session.marked(Workspace(self._cache)) as mark:
            workers = [ray.remote(_Asker).options(**options).remote(self._plan, mark) for _ in range(n_workers)]
            try:
                for _ in range(threads):
                    for worker in workers:
                        give(worker)
                while running:
                    for answered in ray.wait(list(running), num_returns=1)[0]:
                        worker, track = running.pop(answered)
                        try:
                            result = ray.get(answered)
                        except ray.exceptions.RayActorError as error:
                            raise ServiceError(
                                f"a worker that asks Last.fm died {RESTARTS + 1} times ({one_line(str(error), 200)})",
                                "see Ray's logs of the nodes; the answers that came are kept: run the command again",
                            ) from error
                        if isinstance(result, tuple):
                            raise getattr(errors, result[0])(*result[1:])
                        give(worker)
                        yield track, result
            finally:  # also when it is stopped: what is for a bucket still waits in the workers
                _close(workers)


def _close(workers: Sequence[Any]) -> None:
    """Have askers make durable what they were answered, and end. Says so where one does not; raises nothing for it."""
    import ray

    ended = [worker.close.remote() for worker in workers]
    done, late = ray.wait(ended, num_returns=len(ended), timeout=CLOSE_S)
    failed = ["no answer"] * len(late)
    for each in done:
        try:
            told: Told | None = ray.get(each)
        except ray.exceptions.RayError as error:
            told = type(error).__name__, str(error), ""
        if told is not None:
            failed.append(told[1])
    for worker in workers:  # at once: what an error has seen would keep them, and their share of a CPU
        ray.kill(worker)
    if failed:
        some = f"{len(failed)} of {len(workers)} workers may not have kept their last answers"
        err.print(escape(f"{some} ({one_line(failed[-1], 200)}): the next run asks again for what is missing"))


@dataclass(frozen=True)
class _Plan:
    """What a worker has to know."""

    api_url: str
    limiter: Limiter
    timeout_s: float
    cache: str
    key: str = field(repr=False)  # of this process's environment; a worker's may have none

    def client(self) -> Client:
        """A connection of one's own."""
        return Client(self.api_url, self.limiter.slot, self.timeout_s, self.key)


class _Asker:
    """A worker: asks in several threads, and keeps what is answered in a file of its own."""

    def __init__(self, plan: _Plan, mark: str) -> None:
        """mark: see `session.marked`."""
        self._plan = plan
        self._mine = threading.local()
        self._error: MerRayError | None = None
        try:
            session.check_reached([Workspace(plan.cache)], mark)
            self._answers = Answers(plan.cache, read=False)
        except MerRayError as error:
            self._error = error

    def ask(self, track: Track, questions: list[Question]) -> TrackError | Told | None:
        """None if all was answered, else why not; or an error that ends the harvest."""
        try:
            if self._error is not None:
                raise self._error
            harvest.ask_about(self._client(), self._answers, track, questions)
        except TrackError as error:
            return error
        except MerRayError as error:
            return _told(error)
        return None

    def close(self) -> Told | None:
        """Make what was kept durable. None, or why that failed."""
        try:
            if self._error is None:
                self._answers.__exit__(None, None, None)
        except MerRayError as error:
            return _told(error)
        return None

    def _client(self) -> Client:
        if not hasattr(self._mine, "client"):
            self._mine.client = self._plan.client().__enter__()
        client: Client = self._mine.client
        return client


def _told(error: MerRayError) -> Told:
    return type(error).__name__, error.message, error.hint
