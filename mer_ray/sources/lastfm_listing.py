"""Last.fm's listings of the tracks with a tag, read page by page from the cached responses."""

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
"""Pages that are requested together before they are read."""
MAX_STALE_PAGES = 5
"""Pages in a row without a new track after which a listing counts as endless."""
MAX_UNKNOWN_PAGES = 3
"""Failed pages in a row from the first one on after which a listing is abandoned, as its length is unknown."""
EMPTY_TRIES = 3
"""Requests of a page that is empty although the listing announces tracks on it."""


@dataclass(frozen=True)
class Wanted:
    """What is collected from Last.fm.

    Attributes:
        tags: Whose tracks are collected.
        combine: Whether a track needs one of the tags or all.
        limit: Number of tracks.
        min_tag_weight: Lowest weight of a track's tags, 0..100.
        min_seed_weight: Lowest weight of the wanted tag on a track, 0..100; of several, the heaviest one counts for a
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
    """The content of all pages.

    Attributes:
        tracks: Each piece once, in the order of the listing, without tags.
        variants: Other names of these tracks, which were merged.
        absent: Pages without a response after the last page with one.
        missing: Pages without a response before a page with one, and pages that are empty although they should not be.
    """

    tracks: list[Track]
    variants: list[Variant]
    absent: list[PageAt]
    missing: dict[PageAt, TrackError]


def listing(wanted: Wanted, cache: ResponseCache, fetch: Callable[[Sequence[PageAt]], None] | None) -> Listing:
    """The wanted tracks, without those on pages that failed.

    fetch: requests pages and puts the responses into the cache; None for offline.
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
    return Listing(tracks, [v for v in merged.variants if v.merged_into in ids], *reader.missing())


def page_missing(at: PageAt, why: str) -> TrackError:
    """The error of a page without a response."""
    return TrackError("page_unreachable", f"page {at.number} of tag {one_line(at.tag)!r}: {why}", True)


class Content(NamedTuple):
    """A parsed response. refused: Last.fm's error (code, message), instead of a value."""

    at: datetime
    value: Any
    refused: tuple[str, str] | None = None


def content(cache: ResponseCache, request: Request) -> Content | None:
    """The parsed response to a request; None if the cache has none, or none of Last.fm's."""
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
    """Whether a page is to be requested: also one whose response says that the listing is empty."""
    return page is None or (at.number == 1 and not page.tracks)


class _Reader:
    """Reads the pages of several tags side by side, a round of one page each, until there is enough."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._round = 0
        self.listed: list[tuple[str, Track]] = []  # (tag, track)
        self._seen: dict[str, set[str]] = {tag: set() for tag in wanted.tags}
        self._tags_of: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        self._stale = dict.fromkeys(wanted.tags, 0)
        self._last: dict[str, int | None] = dict.fromkeys(wanted.tags)
        self._total = dict.fromkeys(wanted.tags, 0)
        self._size = dict.fromkeys(wanted.tags, 0)  # tracks on the fullest page
        self._last_read = dict.fromkeys(wanted.tags, 0)  # the last page with a response
        self._absent: list[PageAt] = []
        self._empty: dict[PageAt, TrackError] = {}
        self._open = list(wanted.tags)

    @property
    def complete(self) -> bool:
        """Whether no further page is needed."""
        return not self._open or (self._wanted.limit is not None and self._enough() >= self._wanted.limit)

    def next_pages(self) -> list[PageAt]:
        """The next pages to read, in rounds: about as many as are needed, at most a batch."""
        first = self._round + 1
        rounds = 1
        lasts = [self._last[tag] for tag in self._open]
        if self._round and not any(self._last_read[tag] for tag in self._open):
            rounds = MAX_UNKNOWN_PAGES - self._round
        elif self._round and None not in lasts:
            rounds = max(last - self._round for last in lasts if last is not None)
            if self._wanted.limit is not None:
                per_round = max(1.0, self._enough() / self._round)
                rounds = min(rounds, max(1, int((self._wanted.limit - self._enough()) / per_round)))
        numbers = range(first, first + max(1, min(rounds, MAX_BATCH)))
        return [PageAt(tag, n) for n in numbers for tag in self._open if n <= max(self._last[tag] or n, first)]

    def doubts(self, at: PageAt, page: lastfm_xml.Page | None) -> bool:
        """Whether a page is empty that should not be, by its own totals, or else by those of earlier pages."""
        if page is None or page.tracks:
            return False
        last, total = page.pages or self._last[at.tag], page.total or self._total[at.tag]
        if page.total == 0 and not self._total[at.tag]:
            return False
        if last is not None:
            return at.number <= last
        return sum(tag == at.tag for tag, _ in self.listed) < total

    def read(self, pages: Mapping[PageAt, lastfm_xml.Page | None]) -> None:
        """Read a round; None for a page without a response."""
        self._round += 1
        for at, page in pages.items():
            if at.tag in self._open and self._ends(at, page):
                self._open.remove(at.tag)

    def missing(self) -> tuple[list[PageAt], dict[PageAt, TrackError]]:
        """`Listing.absent` and `Listing.missing`."""
        gaps = [at for at in self._absent if at.number < self._last_read[at.tag]]
        missing = {at: page_missing(at, "there is no answer to it") for at in gaps} | self._empty
        return [at for at in self._absent if at not in missing], missing

    def _ends(self, at: PageAt, page: lastfm_xml.Page | None) -> bool:
        """Read a page. Returns whether its tag's listing ends with it."""
        tag, new = at.tag, False
        if self.doubts(at, page):
            self._empty[at] = page_missing(at, "it is empty, although tracks are announced on it")
        if page is None:
            self._absent.append(at)
        else:
            self._last_read[tag] = at.number
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
            # More tracks are announced than fit on the announced pages, whose number is therefore wrong.
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
        """The key of tracks that may be the same piece, so that `_enough` does not overestimate."""
        found = piece(track.artist, track.title)
        films = (found.film,) if self._wanted.combine == "intersection" else ()
        return found.artist, found.title, *films
