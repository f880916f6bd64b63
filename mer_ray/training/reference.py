"""The distribution of the training tracks' sound, for novelty and for neighbours.

A track is novel by how far its level and spread lie outside of what the training tracks have: of each statistic, how
many standard deviations beyond nearly all of them (`INSIDE`), on average over a block. That is divided by the same of
training tracks that are compared with other artists, of which `QUANTILE` are below. Distances in principal components
miss what no training track has: noise, a narrow band, clipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.models.splits import grouped_folds
from mer_ray.models.statistics import PassageStatistics

N_SOUND = 16
CLIP = 15.0
INSIDE = 0.996
"""Share of the training tracks between the two limits of a statistic."""
QUANTILE = 0.985
FOLDS = 5
LEAST = 1e-3
"""The smallest distance that a limit may have: a few tracks may all lie within their own limits."""


@dataclass(frozen=True)
class Reference:
    """The fitted distribution.

    Attributes:
        statistics: Of passages.
        basis: (P, S), whitened principal components of training tracks, over which coordinates have variance 1.
        columns: (C,), the statistics that novelty looks at, block after block.
        sizes: (B,), how many of them each block has.
        limits: (2, C), lower and upper.
        usual: (B,), distances of each block by which they are divided.
        limit: mean relative distance at which novelty is 1.
    """

    statistics: PassageStatistics
    basis: np.ndarray
    columns: np.ndarray
    sizes: np.ndarray
    limits: np.ndarray
    usual: np.ndarray
    limit: float

    def coordinates(self, mean: np.ndarray) -> np.ndarray:
        """A track's mean standardised statistics (..., P) → (..., S), in which neighbours sound alike."""
        return np.asarray(np.clip(mean, -CLIP, CLIP) @ self.basis, np.float32)

    def novelty(self, mean: np.ndarray) -> np.ndarray:
        """A track's mean standardised statistics (..., P) → (...): above 1 is out of distribution."""
        distances = _distances(mean[..., self.columns], self.sizes, self.limits)
        return np.asarray(np.sqrt((distances / self.usual).mean(axis=-1) / self.limit))


def fit(
    statistics: PassageStatistics, means: np.ndarray, groups: Sequence[str], seed: int, blocks: Sequence[slice]
) -> Reference:
    """Fit it to the mean statistics (N, P) of training tracks in groups (N,).

    blocks: the statistics for novelty, of `passages.level_blocks`.
    """
    columns = np.concatenate([np.arange(b.start, b.stop) for b in blocks])
    sizes = np.array([b.stop - b.start for b in blocks])
    values = means[:, columns]
    folds = min(FOLDS, len(set(groups)))
    fold = grouped_folds(groups, folds, seed) if folds > 1 else np.zeros(len(means), int)
    distances = np.zeros((len(means), len(sizes)))
    for k in range(folds):
        out = fold == k
        distances[out] = _distances(values[out], sizes, _limits(values[~out] if folds > 1 else values))
    usual = np.maximum(np.quantile(distances, QUANTILE, axis=0), LEAST)
    limit = max(float(np.quantile((distances / usual).mean(axis=1), QUANTILE)), LEAST)
    basis = _basis(means).astype(np.float32)
    return Reference(statistics, basis, columns, sizes, _limits(values), usual, limit)


def _limits(values: np.ndarray) -> np.ndarray:
    """(2, C) of the values (N, C) of training tracks."""
    tail = (1 - INSIDE) / 2
    return np.asarray(np.quantile(values, [tail, 1 - tail], axis=0))


def _distances(values: np.ndarray, sizes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Mean distance of values (..., C) beyond the limits, in standard deviations of all training tracks: (..., B)."""
    beyond = np.maximum(np.maximum(limits[0] - values, values - limits[1]), 0)
    starts = np.cumsum(sizes) - sizes
    return np.asarray(np.add.reduceat(np.minimum(beyond, CLIP), starts, axis=-1) / sizes)


def _basis(means: np.ndarray) -> np.ndarray:
    values = np.clip(means, -CLIP, CLIP).astype(np.float64)
    _, singular, directions = np.linalg.svd(values, full_matrices=False)
    count = min(N_SOUND, max(1, len(means) // 4))
    directions = directions[:count]
    # The sign of a principal component is arbitrary: fix it, for reproducibility.
    signs = np.sign(directions[range(len(directions)), np.abs(directions).argmax(axis=1)])
    spread = np.maximum(singular[:count] / np.sqrt(len(means)), 1e-3)
    return np.asarray((directions * signs[:, None]).T / spread)
