"""The harvest of Last.fm: several threads make requests at a common rate.

All responses go into the cache (`response_cache`), from which all tracks are read (`lastfm_tables`): so these depend
neither on the order of requests nor on interruptions.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import TypeVar

from mer_ray.console import progress
from mer_ray.errors import ServiceError, TrackError
from mer_ray.io.identity import digest
from mer_ray.io.track import Track
from mer_ray.sources.lastfm import Client, details_request, page_request, tags_request
from mer_ray.sources.lastfm_listing import Listing, PageAt, Wanted, content
from mer_ray.sources.response_cache import Request, ResponseCache

MAX_FAILED_IN_A_ROW = 10
"""Failures of tracks, or of pages, in a row after which Last.fm counts as out of service."""

J = TypeVar("J")
R = TypeVar("R")
C = TypeVar("C")
Job = tuple[Track, list[Request]]


@dataclass
class Failures:
    """Errors of the tracks and pages without a response. requested: the ids of those that were requested."""

    tracks: dict[str, TrackError] = field(default_factory=dict)
    pages: dict[PageAt, TrackError] = field(default_factory=dict)
    requested: set[str] = field(default_factory=set)


def page_id(at: PageAt) -> str:
    """The id of a page's row in ``failures``."""
    return digest(f"page {at.number} of {at.tag}".encode())[:16]


class Harvest:
    """Requests what the cache lacks, by threads of this process.

    make_client: called in each thread. n_threads: requests that wait for their response at the same time.
    """

    def __init__(self, make_client: Callable[[], Client], cache: ResponseCache, n_threads: int) -> None:
        self._make_client, self._cache, self._n_threads = make_client, cache, n_threads
        self._failed_in_a_row = 0  # pages
        self.failures = Failures()

    def fetch_pages(self, pages: Sequence[PageAt]) -> None:
        """Request pages of the listing, until there are too many failures in a row.

        The requests about tracks then show whether Last.fm is out of service.
        """

        def fetch(client: Client, at: PageAt) -> None:
            self._cache.put(page_request(*at), client.listing(*at))

        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            return
        results = in_threads(self._make_client, fetch, pages, min(self._n_threads, len(pages)))
        with progress("collect: pages", len(pages)) as ticker, closing(results):
            for at, error in results:
                ticker.advance()
                self.failures.requested.add(page_id(at))
                self.failures.pages.pop(at, None)
                self._failed_in_a_row = self._failed_in_a_row + 1 if error is not None else 0
                if error is not None:
                    self.failures.pages[at] = error
                if self._failed_in_a_row == MAX_FAILED_IN_A_ROW:
                    break

    def fetch_tracks(self, jobs: Sequence[Job], failed_before: Set[str]) -> Generator[bool, None, None]:
        """Make the requests about tracks; yields for each track whether it succeeded.

        failed_before: ids of tracks that failed in an earlier run, which do not count. Raises as
        `Client.about`, and ServiceError after too many failures in a row.
        """
        self.failures.requested |= {track.id for track, _ in jobs}
        in_a_row = 0

        def fetch(client: Client, job: Job) -> None:
            track, requests = job
            for request in requests:
                self._cache.put(request, client.about(track, request))

        with closing(in_threads(self._make_client, fetch, jobs, min(self._n_threads, len(jobs)))) as results:
            for (track, _), error in results:
                if error is not None:
                    self.failures.tracks[track.id] = error
                yield error is None
                if error is None or error.reason != "lastfm_error":
                    in_a_row = 0
                elif track.id not in failed_before:
                    in_a_row += 1
                    if in_a_row == MAX_FAILED_IN_A_ROW:
                        raise ServiceError(
                            f"Last.fm failed on {in_a_row} tracks in a row ({error.message})",
                            "run again later; the answers that came are kept, --offline makes tables from them",
                        )


def open_requests(listed: Listing, wanted: Wanted, cache: ResponseCache, retry_refused: bool = False) -> Iterator[Job]:
    """The tracks with requests that have no response yet; with ``retry_refused``, also those with an error."""
    for track in listed.tracks:
        if not (track.artist and track.title):
            continue
        requests = [tags_request(track), *([details_request(track)] if wanted.details else [])]
        todo = [r for r in requests if r not in cache]
        if retry_refused and not todo:
            todo = [r for r in requests if (found := content(cache, r)) is None or found.refused]
        if todo:
            yield track, todo


class _End:
    """A thread has ended."""


def in_threads(
    make: Callable[[], AbstractContextManager[C]], work: Callable[[C, J], R], jobs: Iterable[J], n_threads: int
) -> Generator[tuple[J, R | TrackError], None, None]:
    """Each job with the result of ``work``, or its TrackError, in the order in which they are finished.

    make: a context for each thread, passed to ``work``. Any other error ends the work and is raised here. The threads
    are daemons: unlike those of concurrent.futures, they do not delay the end of the process.
    """
    todo = iter(jobs)
    lock = threading.Lock()
    stopped = threading.Event()
    results: queue.Queue[tuple[J, R | TrackError] | BaseException | _End] = queue.Queue(maxsize=1_000)
    end = _End()

    def run() -> None:
        try:
            with make() as context:
                while not stopped.is_set():
                    with lock:
                        job = next(todo, end)
                    if isinstance(job, _End):
                        return
                    try:
                        results.put((job, work(context, job)))
                    except TrackError as error:
                        results.put((job, error))
        except BaseException as error:  # raised by the generator
            results.put(error)
        finally:
            results.put(end)

    running = n_threads
    for _ in range(n_threads):
        threading.Thread(target=run, daemon=True).start()
    try:
        while running:
            item = results.get()
            if isinstance(item, _End):
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stopped.set()
        while running:  # unblocks threads that wait for room in the queue
            try:
                running -= isinstance(results.get_nowait(), _End)
            except queue.Empty:
                break
