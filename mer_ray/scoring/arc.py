"""Playlists that follow an arc: from one mood or track to another, in even steps through the catalog's plane.

The plane is that of `standing`: the percentiles of valence (across) and arousal (up) in the whole catalog. A mood word
stands in its direction from the middle, `RADIUS` away; a track where it is. The path goes straight from stop to stop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import standing
from mer_ray.scoring.assignment import assigned
from mer_ray.scoring.scores_table import find, name

RADIUS = 40.0
"""Percentile points: well outside of `standing.NEUTRAL`, and inside of the plane, whose edge is 50 away, all around."""
TRACKS = 20
MOST = 500
"""The assignment's memory grows with tracks · artists: 400 MB for 500 · 100,000."""
_PLANE = ("valence_percentile", "arousal_percentile")
_BETWEEN = re.compile(r"\s*(?:→|->|[-:>,])\s*|\s+")
_SAME_ARTIST = 1e9  # more than all squared distances of the plane together


def choose(
    table: pa.Table,
    rows: np.ndarray,
    words: str | None,
    start: str | None,
    end: str | None,
    n: int = TRACKS,
) -> tuple[np.ndarray, str]:
    """An arc of n tracks: their rows (n,), in order, and a remark for the user.

    Args:
        table: A whole catalog, with `standing`'s columns.
        rows: (M,), which may be in the arc. The start and the end may be others.
        words: Moods, as in ``calm→tense``; ``->``, ``-`` and ``:`` do as well.
        start: The first track, as of `scores_table.find`; without one, the nearest to the first mood.
        end: The last track, likewise.

    Raises InputError where the scores have no plane, a mood or track is unknown, or there are too few tracks.
    """
    if not set(_PLANE) <= set(table.column_names):
        own = ", ".join(dimensions_of(table.schema, "scores"))
        raise InputError("an arc goes through valence and arousal", f"the dimensions of these scores are: {own}")
    moods = [] if words is None else parsed(words)
    if moods and table.num_rows < standing.FEWEST:
        raise InputError(
            f"{table.num_rows} tracks have no moods: those compare a track with a catalog of {standing.FEWEST} or more",
            "give --from and --to instead of --arc",
        )
    first, last = (None if query is None else find(table, query) for query in (start, end))
    if len(moods) + (first is not None) + (last is not None) < 2:
        raise InputError("an arc needs a start and an end", "as in --arc calm-tense, or --from TRACK --to TRACK")
    if first is not None and first == last:
        raise InputError("--from and --to are the same track", "give two")
    fixed = [row for row in (first, last) if row is not None]
    rows = np.union1d(rows, np.array(fixed, np.int64))
    if not 2 <= n <= MOST or n < len(fixed):
        raise InputError(f"an arc of {n:,} tracks", f"-n may be 2 to {MOST}")
    if len(rows) < n:
        remedy = f"give -n {len(rows)}, or a wider --where" if len(rows) > 1 else "give a wider --where"
        raise InputError(f"an arc of {n:,} tracks needs as many, and there are {len(rows):,}", remedy)
    plane = np.stack([table[c].to_numpy() for c in _PLANE], axis=1)
    stops = [*([plane[first]] if first is not None else []), *map(place, moods)]
    stops += [plane[last]] if last is not None else []
    goal = path(np.array(stops), n)
    taken = pa.array(rows)
    at = [None if row is None else int(np.searchsorted(rows, row)) for row in (first, last)]
    chosen = rows[along(plane[rows], _artists(table["artist"].take(taken).to_pylist()), goal, *at)]
    off = np.hypot(*(plane[chosen] - goal).T)
    named = [one_line(_name(table, row), 60) if row is not None else "" for row in (first, last)]
    listed = " → ".join(text for text in (named[0], *moods, named[1]) if text)
    return chosen, f"{listed}: {off.mean():.0f} percentile points from the path on average, {off.max():.0f} at most"


def parsed(words: str) -> list[str]:
    """``calm→tense`` → calm, tense. Raises InputError with the words that there are."""
    found = [word for word in _BETWEEN.split(words.strip().casefold()) if word]
    known = f"moods are {', '.join(standing.WORDS)}; as in --arc calm-tense"
    for word in found:
        if word not in standing.WORDS:
            raise InputError(f"there is no mood {one_line(word, 40)!r}", known)
    if not found:
        raise InputError("--arc is empty", known)
    return found


def place(word: str) -> np.ndarray:
    """Where a mood stands in the plane: (2,) percentiles."""
    if word == standing.MIDDLE:
        return np.array([50.0, 50.0])
    angle = np.radians(standing.ANGLES[word])
    return 50.0 + RADIUS * np.array([np.cos(angle), np.sin(angle)])


def path(stops: np.ndarray, n: int) -> np.ndarray:
    """n points (n, 2) at equal distances along the straight lines between stops (k, 2), both ends included."""
    at = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stops, axis=0).T))])
    steps = np.linspace(0.0, at[-1], n)
    return np.stack([np.interp(steps, at, stops[:, d]) for d in (0, 1)], axis=1)


def along(
    points: np.ndarray, artists: np.ndarray, goal: np.ndarray, first: int | None = None, last: int | None = None
) -> np.ndarray:
    """Different tracks near the points of a path: (n,) of 0..M - 1; always the same for the same input.

    The ends are the nearest tracks to the path's ends, unless given. The others have the least sum of squared distances
    of all choices with an artist each; if there are fewer artists than points, each gets one, then the rest likewise.
    No artist has two tracks more than another one that has some left. None follows itself, if an order of these
    tracks avoids it, or, unless ``last`` is given, a choice that ends with the first one's artist.

    Args:
        points: (M, 2), at least n.
        artists: (M,), 0 to the number of artists - 1.
        goal: (n, 2), n at least 2.
        first: The track at the first point; ``last`` at the last one.
    """
    rows, left = np.full(len(goal), -1), np.ones(len(points), bool)
    used = np.zeros(artists.max() + 1, np.int64)

    def take(position: int, row: int) -> None:
        rows[position], left[row] = row, False
        used[artists[row]] += 1

    for position, row in ((0, first), (-1, last)):
        if row is not None:
            take(position, row)
    for position in (0, -1):
        if rows[position] < 0:
            take(position, _nearest(_open(left, used, artists), points, goal[position]))
    # The most places that an artist can have without following itself.
    room = (len(goal) + 1 - sum(np.arange(len(used)) != artists[row] for row in rows[[0, -1]])) // 2
    while len(free := np.flatnonzero(rows < 0)):
        fits = left & (used < room)[artists]
        open_ = _open(fits if fits.any() else left, used, artists)
        open_ = open_[np.argsort(artists[open_], kind="stable")]
        own, starts = np.unique(artists[open_], return_index=True)
        costs = []
        for position in free.tolist():
            cost = np.minimum.reduceat(_squared(points[open_], goal[position]), starts)
            beside = rows[[position - 1, position + 1]]
            costs.append(cost + _SAME_ARTIST * np.isin(own, artists[beside[beside >= 0]]))
        # No best choice has an artist that is not among the nearest len(free) of any point: one of those were free.
        near = np.unique([np.argsort(cost, kind="stable")[: len(free)] for cost in costs])
        columns = assigned(np.array(costs)[:, near])
        for i, j in zip(np.flatnonzero(columns >= 0).tolist(), columns[columns >= 0].tolist(), strict=True):
            position = int(free[i])
            take(position, _nearest(open_[artists[open_] == own[near[j]]], points, goal[position]))
    rows = _apart(rows, points, artists, goal)
    same = np.flatnonzero(artists == artists[rows[0]])
    if _is_apart(artists[rows]) or last is not None or len(same) < 2:
        return rows
    # As of an odd number of tracks by two artists, which has to end as it starts.
    end = _nearest(same[same != rows[0]], points, goal[-1])
    other = along(points, artists, goal, int(rows[0]), end)
    return other if _is_apart(artists[other]) else rows


def _open(left: np.ndarray, used: np.ndarray, artists: np.ndarray) -> np.ndarray:
    """The tracks left of those artists that have the fewest so far."""
    return np.flatnonzero(left & (used[artists] == used[artists[left]].min()))


def _nearest(rows: np.ndarray, points: np.ndarray, goal: np.ndarray) -> int:
    return int(rows[np.argmin(_squared(points[rows], goal))])


def _squared(points: np.ndarray, goal: np.ndarray) -> np.ndarray:
    distances: np.ndarray = ((points - goal) ** 2).sum(axis=1)
    return distances


def _apart(rows: np.ndarray, points: np.ndarray, artists: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The rows in an order in which no artist follows itself, with the same ends; unchanged where none is found."""
    if _is_apart(artists[rows]):
        return rows
    out, rest, end = [int(rows[0])], rows[1:-1].tolist(), artists[rows[-1]]
    while rest:
        before, counts, n = artists[out[-1]], Counter(artists[rest].tolist()), len(rest)
        # In n places, of which an artist cannot have the one beside itself, it has room for every second one.
        room = {a: (n + 1 - (a == before) - (a == end)) // 2 for a in counts}
        if any(count > room[a] for a, count in counts.items()):
            return rows
        # An artist with more tracks than there is room for after this place must be in it.
        urgent = [a for a, count in counts.items() if a != before and count > (n - (a == end)) // 2]
        fit = [r for r in rest if artists[r] != before and (n > 1 or artists[r] != end)]
        fit = [r for r in fit if not urgent or artists[r] in urgent]
        if not fit:
            return rows
        nearest = min(fit, key=lambda r: (float(_squared(points[[r]], goal[len(out)])[0]), r))
        rest.remove(nearest)
        out.append(nearest)
    return np.array([*out, rows[-1]])


def _is_apart(artists: np.ndarray) -> bool:
    return bool((artists[1:] != artists[:-1]).all())


def _artists(names: Sequence[str | None]) -> np.ndarray:
    """A number for each artist; a track without one is by nobody else."""
    keys = [normalise(text) if text else "" for text in names]
    return np.unique([f"a{key}" if key else f"t{i}" for i, key in enumerate(keys)], return_inverse=True)[1]


def _name(table: pa.Table, row: int) -> str:
    return name(table["artist"][row].as_py(), table["title"][row].as_py())
