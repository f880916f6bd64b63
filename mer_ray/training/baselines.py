"""The registered baselines, in the models' own folds, and the leakage of a split by tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray import models
from mer_ray.evaluation.predictions import Predictions
from mer_ray.features.joined import Frames
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.models import svr
from mer_ray.models.pooled import mean_sd
from mer_ray.models.splits import grouped_folds
from mer_ray.training.leakage import Leakage, leakage, out_of_fold


@dataclass(frozen=True)
class Baselines:
    """Results of the baselines.

    Attributes:
        predicted: Model → out-of-fold predictions (R, N, D) in 0..1.
        fold: (R, N).
        leakage: Of the SVR.
        notes: Remarks on the training, one line each.
    """

    predicted: dict[str, np.ndarray]
    fold: np.ndarray
    leakage: Leakage
    notes: list[str]


def evaluate(
    tracks: Sequence[Frames], labels: np.ndarray, groups: Sequence[str], folds: int, repeats: int, seed: int
) -> Baselines:
    """Cross-validate the baselines on tracks (n_i, F), labels (N, D) in 0..1 and groups (N,), and measure the leakage.

    Labels may be NaN. The folds are the models': `grouped_folds` with the seeds seed, seed + 1, ..., stratified by the
    labels. Raises InputError where there are fewer groups than folds.
    """
    x = mean_sd(tracks)
    fold = np.stack([grouped_folds(groups, folds, seed + r, labels) for r in range(repeats)])
    predicted = {name: out_of_fold(name, x, labels, fold, seed) for name in models.BASELINES}
    most = max(int((f != k).sum()) for f in fold for k in range(folds))
    notes = [f"The SVR saw {svr.MAX_ROWS:,} of up to {most:,} training tracks, drawn for each fold."]
    return Baselines(
        predicted, fold, leakage(predicted["svr"], x, labels, groups, fold, seed), notes if most > svr.MAX_ROWS else []
    )


def rows(
    of: Baselines,
    labels: np.ndarray,
    ids: Sequence[str],
    artists: Sequence[str],
    titles: Sequence[str],
    groups: Sequence[str],
    dimensions: tuple[str, ...] = DIMENSIONS,
) -> pa.Table:
    """``baselines/FEATURE.parquet``: a row per model, repeat and track."""
    made = {
        k: Predictions(list(ids), list(artists), list(titles), list(groups), labels, of.fold, p, dimensions)
        for k, p in of.predicted.items()
    }
    return pa.concat_tables(
        [own.table().add_column(0, "model", [[name] * own.predicted[..., 0].size]) for name, own in made.items()]
    )


def write(workspace: Workspace, feature: str, table: pa.Table, report: dict[str, Any]) -> None:
    """Write ``baselines/FEATURE.parquet`` from `rows`, then ``baselines/FEATURE.json`` from `Leakage.to_json`.

    The JSON file comes last, so that it marks both as complete.
    """
    workspace.write_table(table, "baselines", f"{feature}.parquet")
    workspace.write_json(report, "baselines", f"{feature}.json")
