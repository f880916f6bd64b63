"""Parts of models that say nothing: for tests of what stands around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mer_ray.models import passages
from mer_ray.models.scaling import Scaler
from mer_ray.models.statistics import PassageStatistics
from mer_ray.scoring.intervals import Intervals
from mer_ray.training.reference import Reference


def even_intervals(radius: Sequence[float]) -> Intervals:
    """Of the same half-width wherever the prediction lies."""
    mean = np.asarray(radius, float)
    return Intervals(np.concatenate([mean[None], np.zeros((3, 3))]), mean, np.ones(3))


def blank_reference(n_dims: int, hop_s: float) -> Reference:
    """Nothing is new to it."""
    size, ones = sum(passages.block_sizes(n_dims, hop_s)), np.ones(n_dims, np.float32)
    scaler = Scaler(0 * ones, 0 * ones, ones, np.full(3, 0.5, np.float32), np.ones(3, np.float32))
    components = np.zeros((n_dims, passages.n_components(n_dims, hop_s)), np.float32)
    own = PassageStatistics(scaler, components, np.zeros(size, np.float32), np.ones(size, np.float32))
    return Reference(own, np.zeros((size, 16), np.float32), 1.0)
