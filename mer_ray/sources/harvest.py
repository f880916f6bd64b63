"""What a dataset needs to ask of Last.fm, and what its answers say: a listing, and each of its tracks' tags.

All that is asked goes into the answers that are kept (`mer_ray.sources.answers`), and all that comes out is read from
there: the same answers give the same tracks, whoever asked, in whatever order, after however many interruptions.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from mer_ray.errors import TrackError
from mer_ray.io import variants
from mer_ray.io.http import backoff
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.track import Found, Track
from mer_ray.io.variants import Variant, piece
from mer_ray.sources import lastfm, lastfm_xml
from mer_ray.sources.answers import Answers
from mer_ray.sources.lastfm import Client, Question, details_question, lost, page_question, tags_question

WAVE = 32
"""Pages that are asked for before it is looked at what they hold."""
MAX_STALE_PAGES = 5
"""Pages in a row without a new track, after which a listing is taken for endless."""
MAX_UNKNOWN_PAGES = 3
"""Pages in a row without an answer, from the first one on, after which a listing is given up: nobody knows its end."""
EMPTY_TRIES = 3
"""How often a page is asked for that is empty although the listing announces tracks on it."""

J = TypeVar("J")
R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True)
class Wanted:
    """tags: whose tracks; ``combine`` says whether a track needs one of them or all. limit: how many tracks.

    min_tag_weight: lighter tags of a track are left out. min_seed_weight: tracks on which the wanted tag weighs less
    are left out (0..100; the heaviest one counts for a union, the lightest for an intersection). details: also ask for
    album, MusicBrainz id and duration.
    """

    tags: tuple[str, ...]
    combine: Literal["union", "intersection"] = "union"
    limit: int | None = None
    min_tag_weight: float = 0.0
    min_seed_weight: float = 0.0
    details: bool = False


class PageAt(NamedTuple):
    """A page of a tag's listing, from 1."""

    tag: str
    number: int


@dataclass(frozen=True)
class Listing:
    """tracks: each piece once, in the order of the listing, without tags. absent: pages that there is no answer to.

    lost: those of them before a page that has one, and pages that are empty although tracks are announced on them.
    """

    tracks: list[Track]
    variants: list[Variant]
    absent: list[PageAt]
    lost: dict[PageAt, TrackError]


# the listing ------------------------------------------------------------------------------------------------------


def listing(wanted: Wanted, answers: Answers, ask: Callable[[Sequence[PageAt]], None] | None) -> Listing:
    """The tracks that are wanted, without those on pages that are out of reach.

    ask: gets pages answered, as far as they are; None for offline.
    """
    reader = _Reader(wanted)
    while not reader.complete:
        wave = reader.next_pages()
        pages = {at: _page(answers, at) for at in wave}
        for attempt in range(EMPTY_TRIES if ask is not None else 0):
            unread = [at for at in wave if (reader.doubts(at, pages[at]) if attempt else _is_open(at, pages[at]))]
            if attempt and unread:
                time.sleep(backoff(attempt, lastfm.BACKOFF_S))
            if unread and ask is not None:
                ask(unread)
                answers.reload()
                pages |= {at: _page(answers, at) for at in unread}
        for _, round_ in itertools.groupby(wave, key=lambda at: at.number):
            reader.read({at: pages[at] for at in round_})
            if reader.complete:
                break
    merged = variants.merge(track for _, track in reader.listed)
    tags_of: defaultdict[str, set[str]] = defaultdict(set)
    for (tag, _), kept in zip(reader.listed, merged.ids, strict=True):
        tags_of[kept].add(tag)
    least = len(wanted.tags) if wanted.combine == "intersection" else 1
    tracks = [track for track in merged.tracks if len(tags_of[track.id]) >= least][: wanted.limit]
    ids = {track.id for track in tracks}
    return Listing(tracks, [v for v in merged.variants if v.kept in ids], *reader.missing())


def page_lost(at: PageAt, why: str) -> TrackError:
    """The error of a page that is out of reach."""
    return TrackError("page_unreachable", f"page {at.number} of tag {one_line(at.tag)!r}: {why}", True)


class _Said(NamedTuple):
    """What an answer says. refused: Last.fm's error, instead of a value."""

    at: datetime
    value: Any
    refused: tuple[str, str] | None = None


def _said(answers: Answers, question: Question) -> _Said | None:
    """None also for an answer that is none: not one of those that were kept by `ask_about`."""
    answer = answers.get(question)
    if answer is None:
        return None
    try:
        refused = lastfm_xml.error(answer.text)
        value = None if refused else lastfm.READERS[str(question["method"])](answer.text)
    except ValueError:
        return None
    return _Said(answer.at, value, refused)


def _page(answers: Answers, at: PageAt) -> lastfm_xml.Page | None:
    said = _said(answers, page_question(*at))
    return None if said is None else said.value


def _is_open(at: PageAt, page: lastfm_xml.Page | None) -> bool:
    """Whether a page is to be asked for: also one that once said that there is no track at all."""
    return page is None or (at.number == 1 and not page.tracks)


class _Reader:
    """Reads the pages of several tags side by side, a round of one page each, until there is enough."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._round = 0
        self.listed: list[tuple[str, Track]] = []  # with the tag that lists it
        self._seen: dict[str, set[str]] = {tag: set() for tag in wanted.tags}
        self._tags_of: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        self._stale = dict.fromkeys(wanted.tags, 0)
        self._last: dict[str, int | None] = dict.fromkeys(wanted.tags)
        self._total = dict.fromkeys(wanted.tags, 0)
        self._size = dict.fromkeys(wanted.tags, 0)  # of the fullest page
        self._answered = dict.fromkeys(wanted.tags, 0)  # the last page that has an answer
        self._absent: list[PageAt] = []
        self._empty: dict[PageAt, TrackError] = {}
        self._open = list(wanted.tags)

    @property
    def complete(self) -> bool:
        """Whether no further page is needed."""
        return not self._open or (self._wanted.limit is not None and self._enough() >= self._wanted.limit)

    def next_pages(self) -> list[PageAt]:
        """The pages to look at next, by rounds: about as many as are needed, and no more than a wave."""
        first = self._round + 1
        rounds = 1
        lasts = [self._last[tag] for tag in self._open]
        if self._round and not any(self._answered[tag] for tag in self._open):
            rounds = MAX_UNKNOWN_PAGES - self._round
        elif self._round and None not in lasts:
            rounds = max(last - self._round for last in lasts if last is not None)
            if self._wanted.limit is not None:
                per_round = max(1.0, self._enough() / self._round)
                rounds = min(rounds, max(1, int((self._wanted.limit - self._enough()) / per_round)))
        numbers = range(first, first + max(1, min(rounds, WAVE)))
        return [PageAt(tag, n) for n in numbers for tag in self._open if n <= max(self._last[tag] or n, first)]

    def doubts(self, at: PageAt, page: lastfm_xml.Page | None) -> bool:
        """Whether a page is empty that should not be, by what it says itself, or else by what others said before."""
        if page is None or page.tracks:
            return False
        last, total = page.pages or self._last[at.tag], page.total or self._total[at.tag]
        if page.total == 0 and not self._total[at.tag]:
            return False
        if last is not None:
            return at.number <= last
        return sum(tag == at.tag for tag, _ in self.listed) < total

    def read(self, pages: Mapping[PageAt, lastfm_xml.Page | None]) -> None:
        """Take in a round; None for a page that has no answer."""
        self._round += 1
        for at, page in pages.items():
            if at.tag in self._open and self._ends(at, page):
                self._open.remove(at.tag)

    def missing(self) -> tuple[list[PageAt], dict[PageAt, TrackError]]:
        """What `Listing` says of pages."""
        gaps = [at for at in self._absent if at.number < self._answered[at.tag]]
        lost = {at: page_lost(at, "there is no answer to it") for at in gaps} | self._empty
        return [at for at in self._absent if at not in lost], lost

    def _ends(self, at: PageAt, page: lastfm_xml.Page | None) -> bool:
        """Take in a page. Whether its tag's listing ends with it."""
        tag, new = at.tag, False
        if self.doubts(at, page):
            self._empty[at] = page_lost(at, "it is empty, although tracks are announced on it")
        if page is None:
            self._absent.append(at)
        else:
            self._answered[tag] = at.number
            self._last[tag] = page.pages or self._last[tag]
            self._total[tag] = page.total or self._total[tag]
            self._size[tag] = max(self._size[tag], len(page.tracks))
            for track in page.tracks:
                new |= track.id not in self._seen[tag]
                self._seen[tag].add(track.id)
                self.listed.append((tag, track))
                self._tags_of[self._key(track)].add(tag)
        last = self._last[tag]
        self._stale[tag] = 0 if new else self._stale[tag] + (page is not None or last is None)
        if last is not None and at.number >= last:
            # More tracks than so many pages of this size hold: the number of pages is not what it should be.
            more = self._total[tag] > at.number * self._size[tag] > 0
            if page is None or not more:
                return True
        if page is None:
            return self._stale[tag] >= MAX_UNKNOWN_PAGES and last is None
        if not page.tracks and at not in self._empty:
            return True
        return self._stale[tag] >= MAX_STALE_PAGES or (bool(page.tracks) and not new and last is None)

    def _enough(self) -> int:
        if self._wanted.combine == "union":
            return len(self._tags_of)
        return sum(len(tags) == len(self._wanted.tags) for tags in self._tags_of.values())

    def _key(self, track: Track) -> tuple[str, ...]:
        """Of tracks that are one piece, in doubt so that `_enough` does not count too many."""
        found = piece(track.artist, track.title)
        films = (found.film,) if self._wanted.combine == "intersection" else ()
        return found.artist, found.title, *films


# the tracks -------------------------------------------------------------------------------------------------------


def questions(track: Track, wanted: Wanted) -> list[Question]:
    """What is to be asked about a track; nothing about one that has no name."""
    if not (track.artist and track.title):
        return []
    return [tags_question(track), *([details_question(track)] if wanted.details else [])]


def open_questions(
    listed: Listing, wanted: Wanted, answers: Answers, refused_too: bool = False
) -> Iterator[tuple[Track, list[Question]]]:
    """The tracks with questions that have no answer yet; ``refused_too``: or only Last.fm's refusal."""
    for track in listed.tracks:
        asked = questions(track, wanted)
        todo = [q for q in asked if q not in answers]
        if refused_too and not todo:
            todo = [q for q in asked if (said := _said(answers, q)) is None or said.refused]
        if todo:
            yield track, todo


def ask_about(client: Client, answers: Answers, track: Track, asked: Iterable[Question]) -> None:
    """Get questions about a track answered. Raises as `Client.about`."""
    for question in asked:
        answers.put(question, client.about(track, question))


def found(
    listed: Listing, wanted: Wanted, answers: Answers, losses: Mapping[str, TrackError]
) -> Iterator[tuple[Found, datetime | None]]:
    """Each track of the listing with its tags, or why it has none; and when Last.fm said so.

    losses: by track id, why a question has no answer.
    """
    for track in listed.tracks:
        if not (track.artist and track.title):
            yield (track, TrackError("malformed", "Last.fm lists this track without its artist or title")), None
            continue
        said = _said(answers, tags_question(track))
        if said is None:
            absent = TrackError("not_asked", f"{track.artist} – {track.title}: Last.fm has not been asked for it", True)
            yield (track, losses.get(track.id, absent)), None
        elif said.refused is not None:
            code, text = said.refused
            yield (track, lost(track, code, f"error {code}: {text}")), said.at
        else:
            yield _filtered(_detailed(track, wanted, answers), said.value, wanted), said.at


def _detailed(track: Track, wanted: Wanted, answers: Answers) -> Track:
    said = _said(answers, details_question(track)) if wanted.details else None
    if said is None or said.refused:
        return track
    more: lastfm_xml.Details = said.value
    # Last.fm knows a track by artist and title alone, whatever album it names.
    return replace(
        track,
        key=track.id,
        album=more.album,
        mbid=track.mbid or more.mbid,
        duration_s=more.duration_s or track.duration_s,
    )


def _filtered(track: Track, tags: lastfm_xml.Tags, wanted: Wanted) -> Found:
    if wanted.min_seed_weight > 0:
        weights = {normalise(name): weight for name, weight in tags}
        seeds = [weights.get(normalise(tag), 0.0) for tag in wanted.tags]
        weight = max(seeds) if wanted.combine == "union" else min(seeds)
        if weight < wanted.min_seed_weight:
            said = f"{track.artist} – {track.title}: the wanted tag weighs {weight:g}, under collect.min_seed_weight"
            return track, TrackError("off_topic", said)
    return replace(track, tags=tuple((n, w) for n, w in tags if w >= wanted.min_tag_weight))


# many at once -----------------------------------------------------------------------------------------------------


class _End:
    """A thread has ended."""


def in_threads(
    make: Callable[[], AbstractContextManager[C]], work: Callable[[C, J], R], jobs: Iterable[J], n_threads: int
) -> Generator[tuple[J, R | TrackError], None, None]:
    """Each job with what ``work`` made of it, or its TrackError, as they are done.

    make: a context for each thread, given to ``work``. Any other error ends the work and is raised here. The threads
    do not outlive the process: what a stopped one had in hand is lost.
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
        except BaseException as error:  # it is raised where the results are read
            results.put(error)
        finally:
            results.put(end)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    running = len(threads)
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
        while running:  # lets threads that wait to be read come to their end
            try:
                running -= isinstance(results.get_nowait(), _End)
            except queue.Empty:
                break
