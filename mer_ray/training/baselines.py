"""What a model has to beat: the registered baselines, in its own folds, and what a split by tracks would have added."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray import models
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.models import svr
from mer_ray.models.pooled import mean_sd
from mer_ray.models.splits import grouped_folds
from mer_ray.training.leakage import Leakage, leakage, out_of_fold


@dataclass(frozen=True)
class Baselines:
    """predicted: model → out-of-fold (R, N, 3) in 0..1. fold: (R, N). leakage: of the SVR.

    notes: what a reader has to know of how they were trained, one line each.
    """

    predicted: dict[str, np.ndarray]
    fold: np.ndarray
    leakage: Leakage
    notes: list[str]


def evaluate(
    tracks: Sequence[np.ndarray], labels: np.ndarray, groups: Sequence[str], folds: int, repeats: int, seed: int
) -> Baselines:
    """The baselines and the leakage of tracks (n_i, F), labels (N, 3) in 0..1 and groups (N,).

    The folds are those of `grouped_folds` with the seeds seed, seed + 1, ..., stratified by the labels, as in every
    model's cross-validation. Raises InputError where there are fewer groups than folds.
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
) -> pa.Table:
    """``baselines/FEATURE.parquet``: a row per model, repeat and track."""
    repeats, n = of.fold.shape
    parts = []
    for model, predicted in of.predicted.items():
        for r in range(repeats):
            columns: dict[str, Any] = {
                "model": pa.array([model] * n),
                "track_id": list(ids),
                "artist": list(artists),
                "title": list(titles),
                "group": list(groups),
                "repeat": np.full(n, r, np.int32),
                "fold": of.fold[r].astype(np.int32),
                **{d: labels[:, i] for i, d in enumerate(DIMENSIONS)},
                **{f"predicted_{d}": predicted[r, :, i] for i, d in enumerate(DIMENSIONS)},
            }
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def write(workspace: Workspace, feature: str, table: pa.Table, report: dict[str, Any]) -> None:
    """``baselines/FEATURE.parquet`` from `rows`, and then ``baselines/FEATURE.json`` from `Leakage.to_json`.

    Who finds the JSON file finds the other, too.
    """
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    workspace.write_bytes(sink.getvalue(), "baselines", f"{feature}.parquet")
    workspace.write_json(report, "baselines", f"{feature}.json")
