"""Labels over time, as arrays, and the mean of a curve over a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """The labels of one track over time.

    Attributes:
        time_s: (n,), ascending, in seconds from the start of the audio.
        values: (n, D) in 0..1, NaN where a dimension has no label at that time.
    """

    time_s: np.ndarray
    values: np.ndarray


def from_rows(rows: Sequence[Mapping[str, Any]] | None, dimensions: Sequence[str]) -> Curve | None:
    """A cell of the column ``curves`` (`io.schemas.CURVE`), for these dimensions; None where it has none of them."""
    own = {row["dimension"]: row for row in rows or () if row["dimension"] in dimensions and row["time_s"]}
    if not own:
        return None
    time_s = np.unique(np.concatenate([np.asarray(row["time_s"], np.float64) for row in own.values()]))
    values = np.full((len(time_s), len(dimensions)), np.nan)
    for i, name in enumerate(dimensions):
        if name in own:
            values[np.searchsorted(time_s, np.asarray(own[name]["time_s"], np.float64)), i] = own[name]["value"]
    return Curve(time_s, values)


class OverTime:
    """Labels of windows of N tracks: per dimension the mean of the track's curve, or its label where it has no curve.

    Args:
        labels: (N, D), NaN where unknown: a dimension that is unknown has no labels over time either.
        curves: (N,), None of a track without; empty if no track has one.
    """

    def __init__(self, labels: np.ndarray, curves: Sequence[Curve | None] = ()) -> None:
        self.labels = labels
        self._of: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # track → times, sums and counts before
        for i, curve in enumerate(curves):
            if curve is not None and np.isfinite(curve.values).any():
                zero, known = np.zeros((1, labels.shape[1])), np.isfinite(curve.values)
                sums = np.cumsum(np.where(known, curve.values, 0), axis=0, dtype=np.float64)
                counts = np.cumsum(known, axis=0, dtype=np.float64)
                self._of[i] = curve.time_s, np.concatenate([zero, sums]), np.concatenate([zero, counts])

    def __bool__(self) -> bool:
        """Whether any track has labels over time."""
        return bool(self._of)

    def of(self, track: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """The labels (W, D) of windows: their tracks, start and end, each (W,). NaN where none lies in the window."""
        out: np.ndarray = self.labels[track]
        for w, i in enumerate(track.tolist() if self._of else ()):
            if i in self._of:
                time_s, sums, counts = self._of[i]
                first, last = np.searchsorted(time_s, (start_s[w], end_s[w]))
                n, own = counts[last] - counts[first], (counts[-1] > 0) & np.isfinite(out[w])
                mean = np.divide(sums[last] - sums[first], n, out=np.full(len(n), np.nan), where=n > 0)
                out[w] = np.where(own, mean, out[w])
        return out

    def span_s(self, track: int) -> tuple[float, float]:
        """The first and last labelled second of a track; the whole track (0, inf) where it has no curve."""
        if track not in self._of:
            return 0.0, float("inf")
        time_s, _, counts = self._of[track]
        total = counts.sum(axis=1)
        known = np.flatnonzero(np.diff(total))
        return float(time_s[known[0]]), float(time_s[known[-1]])
