"""The distribution of the training tracks' sound, for novelty and for neighbours.

Novelty is the Mahalanobis distance in the first principal components of the statistics of passages, divided by the 99th
percentile of the training tracks' distances, each without its own artist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.models.splits import grouped_folds
from mer_ray.models.statistics import PassageStatistics

N_NOVELTY = 8
N_SOUND = 16
CLIP = 15.0
QUANTILE = 0.99
FOLDS = 5


@dataclass(frozen=True)
class Reference:
    """statistics: of passages. basis: (P, S), principal components of training tracks, whitened: a track's coordinates
    have variance 1 over them. limit: squared distance at which novelty is 1."""

    statistics: PassageStatistics
    basis: np.ndarray
    limit: float

    def coordinates(self, mean: np.ndarray) -> np.ndarray:
        """A track's mean standardised statistics (..., P) → (..., S), in which neighbours sound alike."""
        return np.asarray(np.clip(mean, -CLIP, CLIP) @ self.basis, np.float32)

    def novelty(self, coordinates: np.ndarray) -> np.ndarray:
        """(..., S) → (...): above 1 is out of distribution."""
        return np.sqrt(_squared(coordinates) / self.limit)


def fit(statistics: PassageStatistics, means: np.ndarray, groups: Sequence[str], seed: int) -> Reference:
    """Fit it to the mean statistics (N, P) of training tracks in groups (N,)."""
    folds = min(FOLDS, len(set(groups)))
    squared = np.zeros(len(means))
    fold = grouped_folds(groups, folds, seed) if folds > 1 else np.zeros(len(means), int)
    for k in range(folds):
        out = fold == k
        basis = _basis(means[~out] if folds > 1 else means)
        squared[out] = _squared(np.clip(means[out], -CLIP, CLIP) @ basis)
    limit = max(float(np.quantile(squared, QUANTILE)), 1e-6)
    return Reference(statistics, _basis(means).astype(np.float32), limit)


def _basis(means: np.ndarray) -> np.ndarray:
    values = np.clip(means, -CLIP, CLIP).astype(np.float64)
    _, singular, directions = np.linalg.svd(values, full_matrices=False)
    count = min(N_SOUND, max(1, len(means) // 4))
    directions = directions[:count]
    # The sign of a principal component is arbitrary: fix it, for reproducibility.
    signs = np.sign(directions[range(len(directions)), np.abs(directions).argmax(axis=1)])
    spread = np.maximum(singular[:count] / np.sqrt(len(means)), 1e-3)
    return np.asarray((directions * signs[:, None]).T / spread)


def _squared(coordinates: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(coordinates[..., :N_NOVELTY]).mean(axis=-1))
