"""Tracks of a catalog that are the same recording, from what its scores hold: no audio is read.

Three parts are compared, and their distances are added up as the sides of a box are to its diagonal:

1. ``sound``: versions of one recording are near each other there, apart from what their difference in loudness does.
   Other recordings hardly ever are.
2. ``waveform``: the outlines in decibels, at the lag at which they fit best, rid of slow changes and of the level
   of the whole. Pieces with the same beat fit, too, so that this alone says little.
3. ``curve``: how far the predicted dimensions differ at that lag, root mean square.

Each is divided by what it may be at most, where the others are 0 (`SOUND`, `MISFIT`, `CURVE`); up to `MOST`, two tracks
are the same recording. `benchmarks/duplicates.py` measures how well that works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring.neighbours import sound

SOUND = 1.5
LEVEL = 0.22  # how far 1 dB of gain moves ``sound``: 0.225 with `light`, about 0.25 with `default`
MOST_LEVEL_DB = 12.0  # a larger difference counts as this
MISFIT = 0.4  # 1 - correlation
CURVE = 0.06
MOST = 1.0
OVERLAP = 0.75  # of the longer track: a part of a piece is not the piece
FLOOR_DB = -36.0  # quieter points count as this: eight bits say no more of them
SLOW = 25  # points of an outline's moving mean that is subtracted
FEWEST = 60  # points of an outline: fewer are alike by chance
FLAT_DB = 0.5  # an outline of less deviation says nothing
LAGS_S = 60.0  # between the beginnings of two versions, at most
_LEAF = 512  # rows that are compared together
_CELLS = 1 << 22  # distances in memory: 16 MB
_TOLERANCE = 1e-5  # of squared distances in float32, relative to the squared lengths they are computed from
_KEPT = 20_000  # outlines in memory: 48 MB


class Pair(NamedTuple):
    """Rows a < b that are the same recording. distance: 0..`MOST`."""

    a: int
    b: int
    distance: float


def same_recordings(table: pa.Table) -> list[Pair]:
    """The pairs of rows that are the same recording, in order.

    table: scores of `scores_schema`, with sound, waveform, curve and model. Rows without them, and those of different
    models, are not compared.
    """
    points, models = sound(table), np.array(table["model"].to_pylist(), dtype=object)
    values = np.column_stack([table[d].to_numpy() for d in dimensions_of(table.schema, "scores")])
    loudness = table["loudness"].to_numpy() if "loudness" in table.column_names else np.full(len(points), np.nan)
    loudness = np.where(np.isfinite(loudness), loudness, np.nan)
    duration = table["duration_s"].to_numpy(zero_copy_only=False).astype(np.float64)
    known = _known(points) & np.isfinite(duration) & (duration > 0)
    outlines, found = _Outlines(table), list[Pair]()
    for model in dict.fromkeys(models):
        rows = np.flatnonzero(known & (models == model))
        for i, j, of_sound in candidates(points[rows], loudness[rows], values[rows], duration[rows]):
            a, b = np.minimum(rows[i], rows[j]), np.maximum(rows[i], rows[j])
            for first, second, far in zip(a.tolist(), b.tolist(), (of_sound / SOUND).tolist(), strict=True):
                misfit, curve = outlines.compare(first, second)
                distance = float(np.sqrt(far**2 + (misfit / MISFIT) ** 2 + (curve / CURVE) ** 2))
                if distance <= MOST:
                    found.append(Pair(first, second, distance))
    return sorted(found)


def comparable(table: pa.Table) -> np.ndarray:
    """Which rows `same_recordings` can compare: (N,) bool. Some have no sound or waveform, or say too little."""
    outlines, known = _Outlines(table), _known(sound(table))
    known[[i for i in np.flatnonzero(known).tolist() if not outlines.says(i)]] = False
    return known


def _known(points: np.ndarray) -> np.ndarray:
    known: np.ndarray = np.isfinite(points).all(axis=1) & (points.shape[1] > 0)
    return known


def candidates(
    points: np.ndarray, loudness: np.ndarray, values: np.ndarray, duration: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of rows that may be the same recording, each once, and their distances in sound: blocks of (m,), each.

    These are all pairs that are near enough in ``sound``, less what their levels explain, and in their values, the
    means of their curves; and of lengths that can be compared.

    The rows are divided into leaves of a tree, and only leaves that have near rows by their bounds are compared. Memory
    is bounded. Where few tracks are alike in values and length, time grows less than with N².

    Args:
        points: (N, S) ``sound``.
        loudness: (N,) LUFS; may be NaN.
        values: (N, D) of the dimensions.
        duration: (N,) s, above 0.
    """
    if len(points) < 2:
        return
    mean_square = np.square(2 * MOST * CURVE)
    logs, far = np.log(duration)[:, None], np.log(1 / OVERLAP) + 1e-9
    level = np.nan_to_num(loudness, nan=-20.0)[:, None]
    scales = [points / SOUND, values / (2 * MOST * CURVE), logs / far, level * LEVEL / SOUND]
    order, starts = _leaves(np.hstack(scales))
    ends = np.append(starts[1:], len(order))
    boxes = [_bounds(x[order], starts) for x in (points, values, logs)]
    levels = loudness[order, None]
    quiet = np.fmin.reduceat(levels, starts)
    loud = np.fmax.reduceat(levels, starts)
    # float32 distances, as one product: |x|² + |y|² - 2xy
    away = (points - points.mean(axis=0))[order].astype(np.float32)
    lengths, ones = np.einsum("nd,nd->n", away, away), np.ones(len(away), np.float32)
    left, right = np.column_stack([-2 * away, lengths, ones]), np.column_stack([away, ones, lengths])
    for leaf, (start, end) in enumerate(zip(starts, ends, strict=True)):
        of_sound, of_values, of_logs = (np.square(_gaps(box, leaf)).sum(axis=1) for box in boxes)
        apart = np.fmax(loud[leaf] - quiet[leaf:], loud[leaf:] - quiet[leaf])[:, 0]  # NaN where it is unknown
        most = np.square(MOST * SOUND) + np.square(LEVEL * np.clip(np.nan_to_num(apart), 0, MOST_LEVEL_DB))
        there = (of_sound <= most * (1 + 1e-9)) & (of_logs <= far**2)
        there &= of_values <= values.shape[1] * mean_square * (1 + 1e-9)
        sizes = (ends - starts)[leaf:][there]
        others = np.concatenate([np.arange(starts[n], ends[n]) for n in leaf + np.flatnonzero(there)])
        limits = np.repeat(most[there], sizes).astype(np.float32)
        width = max(1, _CELLS // (end - start))
        for first in range(0, len(others), width):
            columns, limit = others[first : first + width], limits[first : first + width]
            squared = left[start:end] @ right[columns].T
            slack = _TOLERANCE * (float(lengths.max()) + float(limit.max()))
            i, j = np.divmod(np.flatnonzero(squared <= limit + np.float32(slack)), len(columns))
            i, j = i + start, columns[j]
            a, b = order[i[i < j]], order[j[i < j]]
            near = np.square(values[a] - values[b]).mean(axis=1) <= mean_square
            near &= np.abs(logs[a] - logs[b])[:, 0] <= far
            a, b = a[near], b[near]
            distance = _without_level(points[a] - points[b], loudness[a] - loudness[b])
            near = distance <= MOST * SOUND
            if near.any():
                yield a[near], b[near], distance[near]


def _leaves(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the rows in which those of a leaf follow each other, and the starts of the leaves.

    A leaf of over `_LEAF` rows is halved where it is widest.
    """
    todo, done = [np.arange(len(points))], list[np.ndarray]()
    while todo:
        rows = todo.pop()
        if len(rows) <= _LEAF:
            done.append(rows)
            continue
        own = points[rows]
        widest, half = int(np.argmax(own.max(axis=0) - own.min(axis=0))), len(rows) // 2
        parted = rows[np.argpartition(own[:, widest], half)]
        todo += [parted[half:], parted[:half]]
    return np.concatenate(done), np.cumsum([0, *map(len, done[:-1])])


def _bounds(points: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest of each leaf's points: (leaves, d) each."""
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def _gaps(box: tuple[np.ndarray, np.ndarray], leaf: int) -> np.ndarray:
    """How far a leaf and each from there on are apart along each axis, at least: (leaves - leaf, d)."""
    low, high = box
    apart: np.ndarray = np.maximum(0, np.maximum(low[leaf:] - high[leaf], low[leaf] - high[leaf:]))
    return apart


def _without_level(apart: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """Distances (m,) of ``sound`` vectors that are apart (m, S), less what a gain of so many decibels (m,) explains.

    The gain moves them in a direction of its own, so that squares are subtracted. NaN explains nothing.
    """
    level = LEVEL * np.minimum(np.nan_to_num(np.abs(decibels)), MOST_LEVEL_DB)
    return np.asarray(np.sqrt(np.maximum(0, np.square(apart).sum(axis=1) - np.square(level))))


@dataclass
class _Outlines:
    """Outlines and curves of a table's rows, taken out one by one."""

    table: pa.Table
    _kept: dict[int, np.ndarray | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._duration = self.table["duration_s"].to_numpy(zero_copy_only=False).astype(np.float64)
        self._n_dimensions = len(dimensions_of(self.table.schema, "scores"))
        self._waveform, self._curve = (self.table[c].combine_chunks() for c in ("waveform", "curve"))
        self._hop = self.table["curve_hop_s"].to_numpy(zero_copy_only=False).astype(np.float64)

    def compare(self, a: int, b: int) -> tuple[float, float]:
        """1 - the outlines' correlation at the best lag, and the root mean square difference of the curves there.

        Infinite where nothing can be said, the lengths differ too much, or the correlation alone is too low.
        """
        nothing = (np.inf, np.inf)
        short, long = sorted((self._duration[a], self._duration[b]))
        if not short > 0 or short < OVERLAP * long:
            return nothing
        one, other = self._outline(a), self._outline(b)
        if one is None or other is None:
            return nothing
        step = max(self._duration[a] / len(one), self._duration[b] / len(other))
        x, y = (_resampled(o, self._duration[r], step) for o, r in ((one, a), (other, b)))
        found = _best(x, y, min(round(LAGS_S / step), round((1 - OVERLAP) * long / step)), round(OVERLAP * long / step))
        if found is None:
            return nothing
        correlation, lag = found
        if 1 - correlation > MOST * MISFIT:  # too much, whatever the curves say
            return nothing
        return 1 - correlation, self._curves(a, b, lag * step)

    def says(self, row: int) -> bool:
        """Whether a row has what `compare` needs."""
        return self._duration[row] > 0 and self._outline(row) is not None and len(self._points(row)) > 0

    def _outline(self, row: int) -> np.ndarray | None:
        """(n,) float64 in decibels; None if it says nothing."""
        if row not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            values = self._waveform[row].values
            raw = np.zeros(0) if values is None else values.to_numpy(zero_copy_only=False).astype(np.float64)
            decibels = np.maximum(20 * np.log10(np.maximum(raw, 0.5) / 255), FLOOR_DB)
            is_enough = len(raw) >= FEWEST and decibels.std() >= FLAT_DB
            self._kept[row] = decibels if is_enough else None
        return self._kept[row]

    def _curves(self, a: int, b: int, lag_s: float) -> float:
        """Root mean square difference where the curves overlap; infinite where there is none."""
        one, other = self._points(a), self._points(b)
        if len(one) == 0 or len(other) == 0:
            return np.inf
        at = (np.arange(len(one)) + 0.5) * self._hop[a]
        there = (at - lag_s) / self._hop[b] - 0.5
        inside = (there >= 0) & (there <= len(other) - 1)
        if not inside.any():  # short ones: a point each
            return float(np.sqrt(np.mean(np.square(one.mean(axis=0) - other.mean(axis=0)))))
        taken = other[np.round(there[inside]).astype(int)]
        return float(np.sqrt(np.mean(np.square(one[inside] - taken))))

    def _points(self, row: int) -> np.ndarray:
        values = self._curve[row].values
        if values is None:
            return np.zeros((0, self._n_dimensions))
        flat: np.ndarray = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, self._n_dimensions).astype(np.float64)


def _resampled(outline: np.ndarray, duration: float, step: float) -> np.ndarray:
    """(m,) with a point every ``step`` seconds, without slow changes."""
    hop = duration / len(outline)
    at = np.arange(step / 2, duration, step)
    points = np.interp(at, (np.arange(len(outline)) + 0.5) * hop, outline)
    width = min(SLOW, len(points) // 2 * 2 - 1)
    padded = np.concatenate([np.full(width // 2, points[0]), points, np.full(width // 2, points[-1])])
    fast: np.ndarray = points - np.convolve(padded, np.full(width, 1 / width), "valid")
    return fast


def _best(x: np.ndarray, y: np.ndarray, most: int, least: int) -> tuple[float, int] | None:
    """The highest normalised correlation over lags up to ``most`` with ``least`` common points, and its lag: x[i + lag]
    is at y[i]. None where there is no such lag."""
    n = 1 << int(np.ceil(np.log2(len(x) + len(y))))
    spectrum = np.fft.rfft(x, n) * np.conj(np.fft.rfft(y, n))
    lags = np.arange(-most, most + 1)
    common = np.minimum(len(x), len(y) + lags) - np.maximum(0, lags)
    lags, common = lags[common >= max(2, least)], common[common >= max(2, least)]
    if len(lags) == 0:
        return None
    products = np.fft.irfft(spectrum, n)[lags]
    xx, yy = (np.concatenate([[0], np.cumsum(np.square(v))]) for v in (x, y))
    begin = np.maximum(0, lags)
    energy = (xx[begin + common] - xx[begin]) * (yy[begin - lags + common] - yy[begin - lags])
    values = products / np.sqrt(np.maximum(energy, 1e-12))
    at = int(np.argmax(values))
    return float(min(1.0, values[at])), int(lags[at])
