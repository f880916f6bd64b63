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
from mer_ray.training.leakage import Leakage, leakage, out_of_fold


@dataclass(frozen=True)
class Baselines:
    """Results of the baselines.

    Attributes:
        predicted: Model → out-of-fold predictions (R, N, D) in 0..1.
        fold: (R, N).
        leakage: Of the SVR; None where it is not measured.
        notes: Remarks on the training, one line each.
    """

    predicted: dict[str, np.ndarray]
    fold: np.ndarray
    leakage: Leakage | None
    notes: list[str]


def evaluate(
    tracks: Sequence[Frames],
    labels: np.ndarray,
    groups: Sequence[str],
    fold: np.ndarray,
    seed: int,
    seeds: Sequence[int] = (),
    leaks: bool = True,
) -> Baselines:
    """Train the baselines outside of each fold and predict it, and measure the leakage of folds by tracks.

    Args:
        tracks: (N), frames (n_i, F).
        labels: (N, D) in 0..1, NaN where unknown.
        groups: (N,).
        fold: (R, N), the models' own; see `training.given` for those below 0.
        seed: Of random numbers.
        seeds: Of the repeats, where they are listed; see `crossval.parts`.
        leaks: Whether the leakage is measured.
    """
    x = mean_sd(tracks)
    predicted = {name: out_of_fold(name, x, labels, fold, seed, seeds) for name in models.BASELINES}
    most = max(int((f != k).sum()) for f in fold for k in np.unique(f[f >= 0]))
    notes = [f"The SVR saw {svr.MAX_ROWS:,} of up to {most:,} training tracks, drawn for each fold."]
    leak = leakage(predicted["svr"], x, labels, groups, fold, seed, seeds=seeds) if leaks else None
    return Baselines(predicted, fold, leak, notes if most > svr.MAX_ROWS else [])


def rows(
    of: Baselines,
    labels: np.ndarray,
    ids: Sequence[str],
    artists: Sequence[str],
    titles: Sequence[str],
    groups: Sequence[str],
    dimensions: tuple[str, ...] = DIMENSIONS,
) -> pa.Table:
    """``baselines/FEATURE.parquet``: a row per model, repeat and track that is in a fold."""
    texts = list(ids), list(artists), list(titles), list(groups)
    made = {k: Predictions(*texts, labels, of.fold, p, dimensions).tested for k, p in of.predicted.items()}
    return pa.concat_tables(
        [own.table().add_column(0, "model", [[name] * own.fold.size]) for name, own in made.items()]
    )


def write(workspace: Workspace, feature: str, table: pa.Table, report: dict[str, Any]) -> None:
    """Write ``baselines/FEATURE.parquet`` from `rows`, then ``baselines/FEATURE.json`` from `Leakage.to_json`.

    feature: its name, with the ending of the protocol. The JSON file comes last, so that it marks both as complete.
    """
    workspace.write_table(table, "baselines", f"{feature}.parquet")
    workspace.write_json(report, "baselines", f"{feature}.json")
