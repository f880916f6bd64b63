"""Which tracks Last.fm lists under tags, read page by page from the cached responses."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from mer_ray.errors import TrackError
from mer_ray.io import variants
from mer_ray.io.http import backoff
from mer_ray.io.identity import one_line
from mer_ray.io.track import Track
from mer_ray.io.variants import Variant, piece
from mer_ray.sources import lastfm, lastfm_xml
from mer_ray.sources.lastfm import page_request
from mer_ray.sources.response_cache import Request, ResponseCache

MAX_BATCH = 32
"""Pages that are requested before it is looked at what they hold."""
MAX_STALE_PAGES = 5
"""Pages in a row without a new track, after which a listing is taken for endless."""
MAX_UNKNOWN_PAGES = 3
"""Pages in a row without a response, from the first one on, after which a listing is given up: its end is unknown."""
EMPTY_TRIES = 3
"""How often a page is requested that is empty although the listing announces tracks on it."""


@dataclass(frozen=True)
class Wanted:
    """What is collected of Last.fm.

    Attributes:
        tags: Whose tracks.
        combine: Whether a track needs one of the tags or all.
        limit: Number of tracks.
        min_tag_weight: Lighter tags of a track are left out, 0..100.
        min_seed_weight: Tracks on which the wanted tag weighs less are left out, 0..100; the heaviest one counts for a
            union, the lightest for an intersection.
        details: Also request album, MusicBrainz id and duration.
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
    """What the pages list.

    Attributes:
        tracks: Each piece once, in the order of the listing, without tags.
        variants: Other names of these tracks, which were merged.
        absent: Pages that there is no response to, with none after them that has one.
        missing: Pages before one that has a response, and those that are empty although tracks are announced on them.
    """

    tracks: list[Track]
    variants: list[Variant]
    absent: list[PageAt]
    missing: dict[PageAt, TrackError]


def listing(wanted: Wanted, cache: ResponseCache, fetch: Callable[[Sequence[PageAt]], None] | None) -> Listing:
    """The tracks that are wanted, without those on pages that are out of reach.

    fetch: puts responses to pages into the cache, as far as it gets them; None for offline.
    """
    reader = _Reader(wanted)
    while not reader.complete:
        batch = reader.next_pages()
        pages = {at: _page(cache, at) for at in batch}
        for attempt in range(EMPTY_TRIES if fetch is not None else 0):
            unread = [at for at in batch if (reader.doubts(at, pages[at]) if attempt else _is_open(at, pages[at]))]
            if attempt and unread:
                time.sleep(backoff(attempt, lastfm.BACKOFF_S))
            if unread and fetch is not None:
                fetch(unread)
                cache.reload()
                pages |= {at: _page(cache, at) for at in unread}
        for _, round_ in itertools.groupby(batch, key=lambda at: at.number):
            reader.read({at: pages[at] for at in round_})
            if reader.complete:
                break
    merged = variants.merge(track for _, track in reader.listed)
    tags_of: defaultdict[str, set[str]] = defaultdict(set)
    for (tag, _), merged_id in zip(reader.listed, merged.ids, strict=True):
        tags_of[merged_id].add(tag)
    least = len(wanted.tags) if wanted.combine == "intersection" else 1
    tracks = [track for track in merged.tracks if len(tags_of[track.id]) >= least][: wanted.limit]
    ids = {track.id for track in tracks}
    return Listing(tracks, [v for v in merged.variants if v.kept in ids], *reader.missing())


def page_missing(at: PageAt, why: str) -> TrackError:
    """The error of a page that is out of reach."""
    return TrackError("page_unreachable", f"page {at.number} of tag {one_line(at.tag)!r}: {why}", True)


class Content(NamedTuple):
    """What a response says. refused: Last.fm's (code, message), instead of a value."""

    at: datetime
    value: Any
    refused: tuple[str, str] | None = None


def content(cache: ResponseCache, request: Request) -> Content | None:
    """What the cached response to a request says; None without one, also where it is not a response of Last.fm's."""
    response = cache.get(request)
    if response is None:
        return None
    try:
        refused = lastfm_xml.error(response.text)
        value = None if refused else lastfm.READERS[str(request["method"])](response.text)
    except ValueError:
        return None
    return Content(response.at, value, refused)


def _page(cache: ResponseCache, at: PageAt) -> lastfm_xml.Page | None:
    found = content(cache, page_request(*at))
    return None if found is None else found.value


def _is_open(at: PageAt, page: lastfm_xml.Page | None) -> bool:
    """Whether a page is to be requested: also one that once said that there is no track at all."""
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
        self._answered = dict.fromkeys(wanted.tags, 0)  # the last page that has a response
        self._absent: list[PageAt] = []
        self._empty: dict[PageAt, TrackError] = {}
        self._open = list(wanted.tags)

    @property
    def complete(self) -> bool:
        """Whether no further page is needed."""
        return not self._open or (self._wanted.limit is not None and self._enough() >= self._wanted.limit)

    def next_pages(self) -> list[PageAt]:
        """The pages to look at next, by rounds: about as many as are needed, and no more than a batch."""
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
        numbers = range(first, first + max(1, min(rounds, MAX_BATCH)))
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
        """Take in a round; None for a page that has no response."""
        self._round += 1
        for at, page in pages.items():
            if at.tag in self._open and self._ends(at, page):
                self._open.remove(at.tag)

    def missing(self) -> tuple[list[PageAt], dict[PageAt, TrackError]]:
        """What `Listing` says of pages."""
        gaps = [at for at in self._absent if at.number < self._answered[at.tag]]
        missing = {at: page_missing(at, "there is no answer to it") for at in gaps} | self._empty
        return [at for at in self._absent if at not in missing], missing

    def _ends(self, at: PageAt, page: lastfm_xml.Page | None) -> bool:
        """Take in a page. Whether its tag's listing ends with it."""
        tag, new = at.tag, False
        if self.doubts(at, page):
            self._empty[at] = page_missing(at, "it is empty, although tracks are announced on it")
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
