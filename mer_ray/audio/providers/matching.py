"""Similarity of a service's result and the wanted track: by artist, title and duration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, utils

from mer_ray.io.identity import normalise
from mer_ray.io.variants import piece

LEAST_TOLERANCE_S = 5.0
"""For silence at the ends, and rounded durations."""

_NUMBER = re.compile(r"\d+|\b[ivx]{2,}\b")
_OTHERWISE = {"cover", "karaoke", "instrumental", "live", "remix", "nightcore", "slowed", "reaction", "tutorial"}


@dataclass(frozen=True)
class Hit:
    """A track that Spotify found. duration_s: None if unknown."""

    spotify_id: str
    artists: tuple[str, ...]
    title: str
    duration_s: float | None = None

    def __str__(self) -> str:
        length = "" if self.duration_s is None else f", {self.duration_s:.0f} s"
        return f"{', '.join(self.artists)} – {self.title} ({self.spotify_id}{length})"


@dataclass(frozen=True)
class Wanted:
    """The wanted track. duration_s: its expected duration, if known."""

    artist: str
    title: str
    duration_s: float | None = None


def tolerance_s(duration_s: float, share: float) -> float:
    """Seconds by which a recording may differ from its expected duration."""
    return max(share * duration_s, LEAST_TOLERANCE_S)


def fits(duration_s: float | None, expected_s: float | None, share: float) -> bool:
    """Whether two durations may be of one recording. An unknown one fits."""
    return duration_s is None or expected_s is None or abs(duration_s - expected_s) <= tolerance_s(expected_s, share)


def score(wanted: Wanted, hit: Hit, share: float) -> float:
    """0..1: the lower of the artist's and the title's similarity, minus up to a half for another duration."""
    alike = min(_artist(wanted.artist, hit.artists), _title(wanted.title, hit.title))
    if wanted.duration_s is None or hit.duration_s is None:
        return alike
    off = abs(hit.duration_s - wanted.duration_s) / tolerance_s(wanted.duration_s, share)
    return alike * (1 - 0.25 * min(off, 2.0))


def best(wanted: Wanted, hits: Iterable[Hit], share: float) -> tuple[Hit, float] | None:
    """The hit of the highest score, the first of equals; None where there are no hits."""
    scored = [(hit, score(wanted, hit, share)) for hit in hits]
    return max(scored, key=lambda pair: pair[1], default=None)


def in_media(artist: str, title: str, texts: Sequence[str]) -> float:
    """0..1: how much of a title is in a medium's texts (its title, its uploader).

    A number in the title must be in them. Words for other versions, and a missing artist, lower the score.
    """
    wanted, found = _words(piece(artist, title).title), _words(" ".join(texts))
    if not wanted or not _numbers(wanted) <= _numbers(found):
        return 0.0
    alike = fuzz.token_set_ratio(wanted, found) / 100
    others = _OTHERWISE & set(found.split()) - set(_words(title).split())
    named = fuzz.token_set_ratio(_words(artist), found) / 100 if artist else 1.0
    return float(alike * (0.8 if others else 1.0) * (0.9 + 0.1 * named))


def _artist(wanted: str, found: Sequence[str]) -> float:
    if not wanted:
        return 1.0
    artist = _words(piece(wanted, "").artist)
    names = [_words(piece(name, "").artist) for name in (*found, " ".join(found))]
    return max((fuzz.token_sort_ratio(artist, name) for name in names), default=0.0) / 100


def _title(wanted: str, found: str) -> float:
    pieces = piece("", wanted), piece("", found)
    a, b = (_words(p.title) for p in pieces)
    if not (_numbers(a) <= _numbers(b) or _numbers(b) <= _numbers(a)):
        return 0.0  # part 1 and part 2 differ only in the number
    films = [p.film for p in pieces]
    same_film = fuzz.token_set_ratio(*films) / 100 if all(films) else 1.0
    return same_film * max(fuzz.ratio(a, b), fuzz.token_sort_ratio(a, b)) / 100


def _words(text: str) -> str:
    words: str = utils.default_process(normalise(text))
    return words


def _numbers(words: str) -> set[str]:
    return set(_NUMBER.findall(words))
