"""Metrics of a run's out-of-fold predictions, for ``model.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mer_ray.evaluation import predictions
from mer_ray.evaluation.bootstrap import interval, resample
from mer_ray.evaluation.metrics import METRICS, metrics
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace


def evaluate(
    labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], dimensions: Sequence[str] = DIMENSIONS
) -> dict[str, dict[str, Any]]:
    """Metrics and their 95 % intervals per dimension, JSON-able.

    Args:
        labels: (N, D) in 0..1, NaN where a track has none: a dimension's metrics are of the tracks that have one.
        predicted: Out of fold, (R, N, D); a metric is its mean over the R repeats, not of averaged predictions.
        groups: (N,), which the bootstrap resamples.
        dimensions: Names of the D columns.

    Returns:
        For each dimension, mse, mae, rmse, r2, r, ccc, n, label_sd, and ``intervals``: metric → [lower, upper].
        Undefined ones (see `METRICS`) are NaN.
    """
    out: dict[str, dict[str, Any]] = {}
    for i, dimension in enumerate(dimensions):
        [resampled] = resample(labels[:, i], [predicted[..., i]], groups)
        ends = interval(resampled).tolist()
        out[dimension] = {
            **metrics(labels[:, i], predicted[..., i]).to_json(),
            "intervals": dict(zip(METRICS, ends, strict=True)),
        }
    return out


def of_baselines(workspace: Workspace) -> dict[str, dict[str, dict[str, Any]]]:
    """Feature → ridge, svr → `evaluate`, of the workspace's ``baselines/FEATURE.parquet``."""
    figures = {}
    for name in workspace.names("baselines"):
        if name.endswith(".parquet"):
            of = predictions.read(workspace, "baselines", name)
            figures[name.removesuffix(".parquet")] = {
                model: evaluate(p.labels, p.predicted, p.groups, p.dimensions) for model, p in of.items()
            }
    return figures
