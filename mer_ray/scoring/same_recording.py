"""Tracks of a catalog that are the same recording, from what its scores hold: no audio is read.

Two rows are compared in three steps, and each has to agree:

1. ``sound``: versions of one recording are near each other there. All pairs within `RADIUS` are candidates.
2. ``waveform``: the outlines in decibels, at the lag at which they fit best. The level of the whole, an offset, does not
   count; the normalised correlation must reach `CORRELATION`.
3. ``curve``: at that lag, the predicted dimensions must differ by no more than `CURVE` (root mean square).

The outline is rid of slow changes first, so that two pieces that merely fade in and out alike do not match.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring.neighbours import sound

RADIUS = 1.0
CORRELATION = 0.8
CURVE = 0.05
OVERLAP = 0.75  # of the longer track: a part of a piece is not the piece
FLOOR_DB = -36.0  # quieter points count as this: eight bits say no more of them
SLOW = 25  # points of an outline's moving mean that is subtracted
FEWEST = 60  # points of an outline: fewer are alike by chance
FLAT_DB = 0.5  # an outline of less deviation says nothing
LAGS_S = 60.0  # between the beginnings of two versions, at most
_CELLS = 1 << 22  # distances in memory: 16 MB


class Pair(NamedTuple):
    """Rows a < b. correlation: of the outlines, at most 1. curve: root mean square difference of the dimensions."""

    a: int
    b: int
    correlation: float
    curve: float


def same_recordings(table: pa.Table) -> list[Pair]:
    """The pairs of rows that are the same recording, in order. table: scores, with sound, waveform and curve."""
    points = sound(table)
    known = np.isfinite(points).all(axis=1) & (points.shape[1] > 0)
    rows = np.flatnonzero(known)
    outlines = _Outlines(table)
    found = []
    for i, j in candidates(points[rows], RADIUS):
        for a, b in zip(rows[i], rows[j], strict=True):
            first, second = (int(a), int(b)) if a < b else (int(b), int(a))
            pair = outlines.compare(first, second)
            if pair is not None and pair.correlation >= CORRELATION and pair.curve <= CURVE:
                found.append(pair)
    return sorted(found)


def candidates(points: np.ndarray, radius: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows of points (N, d) at most ``radius`` apart, each once: blocks of (m,), (m,).

    The rows are sorted along the direction in which they vary most, and each block is compared with what can be within
    the radius there. Memory is bounded; time grows with N², the less the smaller the radius.
    """
    if len(points) < 2:
        return
    away = points - points.mean(axis=0)
    _, vectors = np.linalg.eigh(away.T @ away)
    turned = away @ vectors[:, ::-1]
    order = np.argsort(turned[:, 0], kind="stable")
    turned = turned[order].astype(np.float32)
    along, lengths = turned[:, 0], np.einsum("nd,nd->n", turned, turned)
    start = 0
    while start < len(turned):
        # as many rows as keep the block in memory, by what the first of them is compared with
        width = np.searchsorted(along, along[start] + radius, "right") - start
        end = min(len(turned), start + max(1, min(2048, _CELLS // max(1, int(width)))))
        last = int(np.searchsorted(along, along[end - 1] + radius, "right"))
        squared = lengths[start:end, None] + lengths[None, start:last] - 2 * (turned[start:end] @ turned[start:last].T)
        i, j = np.nonzero(squared <= radius**2 * (1 + 1e-4))
        i, j = i + start, j + start
        once = i < j
        i, j = i[once], j[once]
        near = np.square(turned[i] - turned[j]).sum(axis=1) <= radius**2
        if near.any():
            yield order[i[near]], order[j[near]]
        start = end


@dataclass
class _Outlines:
    """Outlines and curves of a table's rows, taken out one by one."""

    table: pa.Table

    def __post_init__(self) -> None:
        self._duration = self.table["duration_s"].to_numpy(zero_copy_only=False).astype(np.float64)
        self._n_dimensions = len(dimensions_of(self.table.schema, "scores"))
        self._waveform, self._curve = (self.table[c].combine_chunks() for c in ("waveform", "curve"))
        self._hop = self.table["curve_hop_s"].to_numpy(zero_copy_only=False).astype(np.float64)
        self._kept: dict[int, np.ndarray | None] = {}

    def compare(self, a: int, b: int) -> Pair | None:
        """The pair at its best lag; None where nothing can be said, or lengths differ too much."""
        short, long = sorted((self._duration[a], self._duration[b]))
        if not short > 0 or short < OVERLAP * long:
            return None
        one, other = self._outline(a), self._outline(b)
        if one is None or other is None:
            return None
        step = max(self._duration[a] / len(one), self._duration[b] / len(other))
        x, y = (_resampled(o, self._duration[r], step) for o, r in ((one, a), (other, b)))
        found = _best(x, y, min(round(LAGS_S / step), round((1 - OVERLAP) * long / step)), round(OVERLAP * long / step))
        if found is None:
            return None
        correlation, lag = found
        return Pair(a, b, correlation, self._curves(a, b, lag * step))

    def _outline(self, row: int) -> np.ndarray | None:
        """(n,) float64 in decibels; None if it says nothing."""
        if row not in self._kept:
            if len(self._kept) > 50_000:
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
    padded = np.pad(points, width // 2, mode="edge")
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
