"""90 % prediction intervals: they contain the label in 9 of 10 cases, for tracks of new artists.

Conformal prediction on out-of-fold residuals, normalised by their expected size at the predicted V, A and D
(Papadopoulos et al. 2008, in Tools in Artificial Intelligence, 325-330; Lei et al. 2018, JASA 113(523), 1094-1111).
That size is a plane, fitted without the artists to whom it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.models.splits import grouped_folds

LEVEL = 0.9
FOLDS = 5
RIDGE = 1.0
LEAST, MOST = 0.5, 2.0
"""Limits of a predicted size, relative to the mean size."""


@dataclass(frozen=True)
class Intervals:
    """Fitted intervals.

    Attributes:
        size: (4, 3), the plane: (1, V - 1/2, A - 1/2, D - 1/2) @ size predicts |residual| of each dimension.
        mean: (3,), mean |residual|.
        factor: (3,), by which the size is multiplied.
    """

    size: np.ndarray
    mean: np.ndarray
    factor: np.ndarray

    def radius(self, predicted: np.ndarray) -> np.ndarray:
        """Half-widths (N, 3) around predictions (N, 3)."""
        return np.asarray(_size(self.size, self.mean, predicted) * self.factor)

    def ends(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (N, 3), in 0..1."""
        radius = self.radius(predicted)
        return np.clip(predicted - radius, 0, 1), np.clip(predicted + radius, 0, 1)

    def to_json(self) -> dict[str, list[float] | list[list[float]]]:
        """For ``model.json``."""
        return {"size": self.size.tolist(), "mean": self.mean.tolist(), "factor": self.factor.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> Intervals:
        """The inverse of `to_json`."""
        return cls(*(np.asarray(value[name], float) for name in ("size", "mean", "factor")))


def intervals(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0) -> Intervals:
    """Fit them to labels (N, 3) and out-of-fold predictions (R, N, 3) of tracks in groups (N,), such as artists."""
    ratio = np.empty_like(predicted)
    parts = _parts(groups, labels, seed)
    for out in parts:
        rest = ~out if len(parts) > 1 else out
        size, mean = _plane(labels[rest], predicted[:, rest])
        for r, values in enumerate(predicted):
            ratio[r, out] = np.abs(values[out] - labels[out]) / _size(size, mean, values[out])
    # Repeats of a track are not independent: the rank is that of N residuals, not of R N.
    n = len(labels)
    level = min(1.0, np.ceil((n + 1) * LEVEL) / n)
    factor = np.quantile(ratio.reshape(-1, labels.shape[1]), level, axis=0, method="higher")
    return Intervals(*_plane(labels, predicted), factor)


def coverage(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """The share (3,) of labels that lie in their intervals, which are fitted without their own artists.

    NaN where there is one group only.
    """
    inside = np.zeros(predicted.shape, bool)
    for out in _parts(groups, labels, seed + 1):
        if out.all():
            return np.full(labels.shape[1], np.nan)
        known = intervals(labels[~out], predicted[:, ~out], [g for g, o in zip(groups, out, strict=True) if not o])
        for r, values in enumerate(predicted):
            inside[r, out] = np.abs(values[out] - labels[out]) <= known.radius(values[out])
    return np.asarray(inside.mean(axis=(0, 1)))


def _parts(groups: Sequence[str], labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Masks (N,) of whole groups, each track in one of them."""
    folds = min(FOLDS, len(set(groups)))
    fold = grouped_folds(groups, folds, seed, labels)
    return [fold == k for k in range(folds)]


def _plane(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 3) and the mean size (3,), by ridge regression."""
    residual = np.abs(predicted - labels).reshape(-1, labels.shape[1])
    x = _inputs(predicted.reshape(residual.shape))
    penalty = np.diag([0.0] + [RIDGE * len(predicted)] * (x.shape[1] - 1))
    mean = np.maximum(residual.mean(axis=0), 1e-9)
    return np.linalg.solve(x.T @ x + penalty, x.T @ residual), mean


def _inputs(predicted: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(predicted), 1)), predicted - 0.5], axis=1)


def _size(plane: np.ndarray, mean: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(_inputs(predicted) @ plane, LEAST * mean, MOST * mean))
