"""Groups of related tracks, which no split may separate: by artist, composer, album, or near-duplicate.

Two tracks are joined, the most certain reasons first, if

1. they are near-duplicates (`training.duplicates`);
2. a person is artist or composer of both, but for names of nobody ("Various Artists", "Unknown", "Traditional");
3. their album is the same. A soundtrack joins all its tracks, whoever plays them, and so does any other album with up
   to `ALBUM_ARTISTS` artists (guests, split releases); with more artists it is a compilation of unrelated tracks.
   Titles of many albums ("Greatest Hits", "Live") do not count.

Joins are transitive: an orchestra that has played everyone, or the singers of many soundtracks, would join the whole
catalogue. So a composer or an album joins nothing where the group would hold more than `LARGEST_SHARE` of all
tracks; small ones come first, and `Grouping.left_out` names what was left out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mer_ray.io.identity import normalise, one_line
from mer_ray.io.variants import piece

ALBUM_ARTISTS = 4
LARGEST_SHARE = 0.2
"""The size of a fold of five, which a larger group would exceed."""
NAMED = 5  # of the left-out ones in a sentence
MAX_LENGTH = 500  # of an album's name; the pattern's cost grows with the square of it


def _terms(text: str) -> frozenset[str]:
    return frozenset(term.strip() for term in text.split(","))


_NOBODY = _terms(
    "various, various artists, various artist, various composers, va, v a, diverse, diverse interpreten, "
    "verschiedene, verschiedene interpreten, varios, varios artistas, artisti vari, artistes divers, unknown, unknown "
    "artist, unknown composer, artist unknown, composer unknown, unbekannt, unbekannter kunstler, anonymous, anon, "
    "traditional, trad, public domain, no artist, none, null, nan, n a, na, artist, composer, soundtrack, original "
    "soundtrack, ost, cast, original cast, original broadway cast, original london cast, original motion picture "
    "soundtrack, compilation"
)
_GENERIC = _terms(
    "a, an, and, at, by, for, from, in, no, of, on, the, to, vol, volume, disc, disk, cd, lp, ep, part, pt, edition, "
    "deluxe, expanded, special, limited, anniversary, remaster, remastered, version, bonus, track, tracks, album, "
    "albums, best, very, greatest, hit, hits, single, singles, collection, collections, collected, essential, "
    "essentials, anthology, gold, platinum, classic, classics, ultimate, definitive, complete, works, selected, live, "
    "concert, unplugged, mtv, session, sessions, acoustic, demo, demos, remix, remixes, b, side, sides, rarities, "
    "unreleased, untitled, unknown, self, titled, title, s, t, soundtrack, soundtracks, original, motion, picture, "
    "score, scores, ost, music, song, songs, film, movie, game, theme, themes, television, tv, christmas, xmas, "
    "compilation, mixtape, mix, various, artists, favorites, favourites, none, null, n, i, ii, iii, iv, v, vi"
)
_SOUNDTRACK = re.compile(
    r"\b(soundtrack|ost|score|motion picture|original cast|music (from|for|of) the|from the film)\b"
)
_NOT_WORDS = re.compile(r"[\W_]+")
_BRACKETS_BEHIND = re.compile(r"^(.*\S)\s*[(\[][^()\[\]]*[)\]]$")
_SEVERAL = re.compile(r"[;/|]")  # "Lennon/McCartney"; a comma may be in one name, "Zimmer, Hans"


@dataclass(frozen=True)
class Grouping:
    """Groups of N tracks.

    Attributes:
        groups: The name of each track's group, (N,).
        joins: How many times two groups were joined, by reason.
        left_out: Albums and composers that would have made a group too large, and compilations, one line each.
    """

    groups: list[str]
    joins: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def largest(self) -> tuple[str, int]:
        """The largest group's name and tracks; ("", 0) without any track."""
        return Counter(self.groups).most_common(1)[0] if self.groups else ("", 0)

    def sentence(self) -> str:
        """For a report: the number of groups, the largest and its share, the joins by reason, what was left out."""
        name, size = self.largest
        text = (
            f"{len(self.groups):,} tracks in {len(set(self.groups)):,} groups; the largest, {one_line(name, 80)}, has "
            f"{size:,} ({size / max(len(self.groups), 1):.1%})"
        )
        joined = ", ".join(f"{what} {n:,}" for what, n in self.joins.items() if n)
        text += f"; joined by {joined}" if joined else ""
        if self.left_out:
            rest = len(self.left_out) - NAMED
            text += f"; not joined by {'; '.join(self.left_out[:NAMED])}" + (f"; and {rest:,} more" if rest > 0 else "")
        return text + "."


def track_groups(
    ids: Sequence[str],
    artists: Sequence[str | None],
    albums: Sequence[str | None],
    composers: Sequence[str | None],
    duplicates: Iterable[tuple[int, int] | tuple[int, int, float]] = (),
) -> list[str]:
    """The name of each track's group, (N,): see `grouping`."""
    return grouping(ids, artists, albums, composers, duplicates).groups


def grouping(
    ids: Sequence[str],
    artists: Sequence[str | None],
    albums: Sequence[str | None],
    composers: Sequence[str | None],
    duplicates: Iterable[tuple[int, int] | tuple[int, int, float]] = (),
) -> Grouping:
    """Groups of N tracks by the rules above.

    Args:
        ids: (N,).
        artists: (N,), as the source spells them; empty or None if unknown.
        albums: (N,), likewise.
        composers: (N,), likewise; several are separated by ``;`` or ``/``.
        duplicates: Indices of two tracks, optionally with their similarity.

    Returns:
        Groups named by their most frequent artist, normalised, or else by the id of their first track. Except for that
        id, the result does not depend on the order of the tracks.
    """
    from scipy.cluster.hierarchy import DisjointSet

    n = len(ids)
    sets = DisjointSet(range(n))
    limit = max(2, int(LARGEST_SHARE * n))
    joins = dict.fromkeys(("near-duplicates", "artist", "composer", "album"), 0)
    left_out = []
    for a, b, *_ in duplicates:
        joins["near-duplicates"] += _join(sets, [a, b])

    people = [_person(artist or "") for artist in artists]
    by_artist = _positions(people)
    for positions in by_artist.values():
        joins["artist"] += _join(sets, positions)

    for composer, positions in _small_first(_composers(composers, by_artist)):
        if _joined_size(sets, positions) > limit:
            left_out.append(f"composer {one_line(composer, 60)} ({len(positions):,} tracks)")
        else:
            joins["composer"] += _join(sets, positions)

    keys = [_album(album or "") for album in albums]
    full_names = defaultdict(set)
    for key, album in zip(keys, albums, strict=True):
        full_names[key].add(normalise(album or ""))
    for album, positions in _small_first(_positions(keys)):
        n_artists = len({people[i] for i in positions})
        soundtrack = any(_SOUNDTRACK.search(name) for name in full_names[album])
        if n_artists > ALBUM_ARTISTS and not soundtrack:
            left_out.append(f"album {one_line(album, 60)} (a compilation: {n_artists:,} artists)")
        elif _joined_size(sets, positions) > limit:
            left_out.append(f"album {one_line(album, 60)} ({len(positions):,} tracks)")
        else:
            joins["album"] += _join(sets, positions)
    return Grouping(_names(sets, ids, people), joins, left_out)


def _join(sets: Any, positions: Sequence[int]) -> int:
    """Join the sets of these positions. Returns by how many their number falls."""
    before = sets.n_subsets
    for i in positions[1:]:
        sets.merge(positions[0], i)
    return int(before - sets.n_subsets)


def _joined_size(sets: Any, positions: Sequence[int]) -> int:
    """The size of the joined set; 0 if they are one set already."""
    roots = {sets[i] for i in positions}
    return sum(sets.subset_size(r) for r in roots) if len(roots) > 1 else 0


def _positions(keys: Sequence[str]) -> dict[str, list[int]]:
    """Key → its positions, without the empty key."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            found[key].append(i)
    return dict(found)


def _small_first(positions: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    return sorted(((k, p) for k, p in positions.items() if len(p) > 1), key=lambda item: (len(item[1]), item[0]))


def _words(text: str) -> str:
    return _NOT_WORDS.sub(" ", text).strip()


def _person(name: str) -> str:
    """A name's key, without guests; empty for names of nobody."""
    key = piece(name, "").artist
    return "" if _words(key) in _NOBODY else key


def _composers(composers: Sequence[str | None], by_artist: dict[str, list[int]]) -> dict[str, list[int]]:
    """Composer → the tracks that they composed or perform."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, cell in enumerate(composers):
        several = _SEVERAL.split(cell or "") if _person(cell or "") else []  # "n/a" is nobody, not two
        for key in {_person(part) for part in several} - {""}:
            found[key].append(i)
    return {key: sorted({*positions, *by_artist.get(key, ())}) for key, positions in found.items()}


def _album(name: str) -> str:
    """An album's key, without a suffix in brackets; empty for titles of many albums."""
    key = normalise(name[:MAX_LENGTH])
    while (shorter := _BRACKETS_BEHIND.match(key)) and not _is_generic(shorter[1]):
        key = shorter[1]
    return "" if _is_generic(key) else key


def _is_generic(name: str) -> bool:
    return all(word in _GENERIC or word.isdecimal() for word in _words(name).split())


def _names(sets: Any, ids: Sequence[str], people: Sequence[str]) -> list[str]:
    """A unique name for each track's set."""
    artists: dict[int, Counter[str]] = defaultdict(Counter)
    first: dict[int, str] = {}
    for i, person in enumerate(people):
        root = sets[i]
        first.setdefault(root, ids[i])
        if person:
            artists[root][person] += 1
    names, taken = {}, set()
    for root, track in first.items():
        name = min(artists[root], key=lambda a: (-artists[root][a], a), default=track)
        # An artist is in one group only, but an id may equal the name of another group's artist.
        names[root] = name if name not in taken else f"{name} ({track})"
        taken.add(names[root])
    return [names[sets[i]] for i in range(len(ids))]
