"""Merges variants of a track's name: remasters, film credits, guests, spelling.

Other recordings (live, acoustic, a remix, part 2) stay separate tracks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from mer_ray.io.identity import normalise
from mer_ray.io.track import Track

MAX_LENGTH = 500
_YEAR = r"(?:19|20)\d\d"
_QUOTES = "\"'“”„«»‟′"
_KIND = r"(?:motion picture|film|movie|video game|game|tv series|series|musical|show)"
_REMASTER = re.compile(
    rf"(?:{_YEAR} ?-? ?)?(?:digital(?:ly)? )?re-?master(?:ed)?(?: (?:version|edition|track))?(?: ?[-/]? ?{_YEAR})?"
)
_FROM = re.compile(
    rf"(?:(?:music |theme |song |taken )?from|(?:as )?(?:heard|featured) in) "
    rf"(?:(?:the )?(?:original |official )?{_KIND} (?=[{_QUOTES}]))?(.+)"
)
_SOUNDTRACK = re.compile(
    r"(?:the )?(?:original |official )?(?:motion picture |film |movie |game |video game |television |tv )?"
    r"(?:soundtrack|score|ost)"
)
_SOUNDTRACK_BEHIND = re.compile(rf"[ :{_QUOTES}-]+(?:{_SOUNDTRACK.pattern})$")
_THE = re.compile(r"^the ")
_GUEST = re.compile(r"(?:feat|ft|featuring)\b\.? ?.+")
_BARE_GUEST = re.compile(r"^(.*\S) (?:feat\b\.?|featuring\b|(?<!\d )ft\.) \S.*$")  # "Six Ft Under" has no guest
_IN_BRACKETS = re.compile(r"^(.*\S) ?[(\[]([^()\[\]]+)[)\]]$")
_AFTER_DASH = re.compile(r"^(.*\S) - (\S.*)$")
_SPLIT_YEAR = re.compile(rf" - ({_YEAR}) - (?=re-?master)")


@dataclass(frozen=True)
class Piece:
    """A name without additions.

    Attributes:
        artist: Normalised.
        title: Normalised.
        film: The film that the title credits, or empty.
        rules: The kinds of additions that were removed: ``remaster``, ``film``, ``guest``.
    """

    artist: str
    title: str
    film: str = ""
    rules: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=100_000)
def piece(artist: str, title: str) -> Piece:
    """The name without additions."""
    artist, title = artist[:MAX_LENGTH], title[:MAX_LENGTH]  # the patterns' time grows with its square
    found = Piece(normalise(artist), _SPLIT_YEAR.sub(r" - \1 ", normalise(title)))
    if bare := _BARE_GUEST.match(found.artist):
        found = replace(found, artist=bare[1], rules=found.rules | {"guest"})
    while (shorter := _shorten(found)) is not None:
        found = shorter
    return found


def _shorten(found: Piece) -> Piece | None:
    """The name without its last addition; None if there is none."""
    for pattern, by_dash in ((_IN_BRACKETS, False), (_AFTER_DASH, True)):
        if parts := pattern.match(found.title):
            addition = _addition(parts[2], by_dash)
            if addition is not None:
                rule, film = addition
                return Piece(found.artist, parts[1], film or found.film, found.rules | {rule})
    if bare := _BARE_GUEST.match(found.title):
        return Piece(found.artist, bare[1], found.film, found.rules | {"guest"})
    return None


def _addition(text: str, by_dash: bool) -> tuple[str, str] | None:
    """(rule, film) of an addition to a title; None where it is of another recording, or unknown."""
    if _REMASTER.fullmatch(text):
        return "remaster", ""
    if _GUEST.fullmatch(text):
        return "guest", ""
    if _SOUNDTRACK.fullmatch(text):
        return "film", ""
    source = _FROM.fullmatch(text)
    # After a dash, only a name in quotation marks is surely a film's: "Man - From Earth" is a title.
    if source and not (by_dash and source[1][0] not in _QUOTES):
        return "film", _name(source[1])
    return None


def _name(film: str) -> str:
    """A film's name, without quotation marks, article and a suffix "soundtrack"."""
    edges = _QUOTES + " -"
    stripped = _SOUNDTRACK_BEHIND.sub("", film.strip(edges)).strip(edges)
    return _THE.sub("", stripped)


@dataclass(frozen=True)
class Variant:
    """Another name of a track. merged_into: the track's id. rule: why it is the same, as in the table ``merged``."""

    merged_into: str
    track: Track
    rule: str


class Merged(NamedTuple):
    """tracks: one for each piece. variants: their other names. ids: the id of each listed track's piece."""

    tracks: list[Track]
    variants: list[Variant]
    ids: list[str]


def merge(listed: Iterable[Track]) -> Merged:
    """One track for each piece, in the order of their first appearance.

    A piece has its first name, and the first MusicBrainz id and duration of any of its tracks. A title that occurs with
    credits of several films ("Main Theme (From ...)") is a piece for each film, and one without a credit is another.
    """
    tracks = list(listed)
    films: dict[tuple[str, str], set[str]] = {}
    for track in tracks:
        found = piece(track.artist, track.title)
        if found.film:
            films.setdefault((found.artist, found.title), set()).add(found.film)
    pieces: dict[tuple[str, str, str], Track] = {}
    variants: dict[tuple[str, str, str], Variant] = {}
    ids: list[str] = []
    for track in tracks:
        found = piece(track.artist, track.title)
        apart = found.film if len(films.get((found.artist, found.title), ())) > 1 else ""
        key = (found.artist, found.title, apart)
        if not (found.artist and found.title):
            key = (track.id, "", "")  # nothing to compare
        first = pieces.setdefault(key, track)
        ids.append(first.id)
        if first is track:
            continue
        pieces[key] = replace(first, mbid=first.mbid or track.mbid, duration_s=first.duration_s or track.duration_s)
        if (track.artist, track.title) != (first.artist, first.title):
            rules = found.rules ^ piece(first.artist, first.title).rules
            variant = Variant(first.id, track, "+".join(sorted(rules)) or "spelling")
            variants.setdefault((first.id, track.artist, track.title), variant)
    return Merged(list(pieces.values()), list(variants.values()), ids)
