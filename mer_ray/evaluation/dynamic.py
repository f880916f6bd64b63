"""Predicted against labelled curves, as MediaEval's task Emotion in Music judged them.

Aljanaki, Yang and Soleymani (2017, Developing a benchmark for emotional analysis of music, PLoS ONE 12(3), e0173392):
RMSE, Pearson's r and CCC are of one track's points, and their mean over the tracks is given (per track); pooled, they
are of the points of all tracks together, so that differences between tracks count as well. Intervals are those of a
bootstrap of whole groups of tracks (`evaluation.bootstrap`). Where a track's labels vary and its predictions do not,
its r is 0; a track whose labels do not vary has neither r nor CCC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mer_ray.errors import WorkspaceError
from mer_ray.evaluation import bootstrap
from mer_ray.evaluation.bootstrap import Resampled
from mer_ray.evaluation.metrics import INDEX, metrics
from mer_ray.evaluation.predictions import AGAIN, read_table
from mer_ray.io.tables import Workspace

FILE = "curves_predicted.parquet"
FIGURES = ("rmse", "r", "ccc")


@dataclass(frozen=True)
class CurvePredictions:
    """A run's predictions of T tracks that have labels over time, none of which its models were trained on.

    Attributes:
        dimensions: Names of D dimensions.
        ids: (T,).
        time_s: T arrays (n_i,), the times of the labels.
        labels: T arrays (n_i, D) in 0..1, NaN where unknown.
        predicted: T arrays (R, n_i, D), of R repeats.
        constant: (T, R, D), the mean of the labelled points of the training tracks.
    """

    dimensions: tuple[str, ...]
    ids: list[str]
    time_s: list[np.ndarray]
    labels: list[np.ndarray]
    predicted: list[np.ndarray]
    constant: np.ndarray

    def table(self) -> pa.Table:
        """`FILE`: one row per (track, repeat). The inverse of `from_table`."""
        repeats = self.constant.shape[1]
        rows = [(i, r) for i in range(len(self.ids)) for r in range(repeats)]
        columns: dict[str, pa.Array] = {
            "track_id": pa.array([self.ids[i] for i, _ in rows], pa.string()),
            "repeat": pa.array([r for _, r in rows], pa.int32()),
            "time_s": _lists(self.time_s[i] for i, _ in rows),
        }
        for d, name in enumerate(self.dimensions):
            columns[name] = _lists(self.labels[i][:, d] for i, _ in rows)
            columns[f"predicted_{name}"] = _lists(self.predicted[i][r, :, d] for i, r in rows)
            columns[f"constant_{name}"] = pa.array([float(self.constant[i, r, d]) for i, r in rows], pa.float64())
        return pa.table(columns)


def _lists(values: Iterable[np.ndarray]) -> pa.Array:
    return pa.array([v.tolist() for v in values], pa.list_(pa.float64()))


def from_table(table: pa.Table, path: str) -> CurvePredictions:
    """The inverse of `CurvePredictions.table`. Raises WorkspaceError for another content."""
    predicted = [n for n in table.column_names if n.startswith("predicted_")]
    dimensions = tuple(name.removeprefix("predicted_") for name in predicted)
    needed = {"track_id", "repeat", "time_s", *dimensions, *(f"constant_{d}" for d in dimensions)}
    if missing := needed - set(table.column_names):
        raise WorkspaceError(f"{path} is of another version: it has no {', '.join(sorted(missing))}", AGAIN)
    rows = table.sort_by([("track_id", "ascending"), ("repeat", "ascending")]).to_pylist()
    ids = sorted({row["track_id"] for row in rows})
    repeats = len(rows) // max(1, len(ids))
    if [(row["track_id"], row["repeat"]) for row in rows] != [(i, r) for i in ids for r in range(repeats)]:
        raise WorkspaceError(f"{path} does not have each track once in each repeat", AGAIN)

    def stacked(names: Sequence[str], row: dict[str, list[float]]) -> np.ndarray:
        return np.stack([np.asarray(row[name], float) for name in names], axis=-1)

    own = [rows[k : k + repeats] for k in range(0, len(rows), repeats or 1)]
    try:
        return CurvePredictions(
            dimensions,
            ids,
            [np.asarray(of[0]["time_s"], float) for of in own],
            [stacked(dimensions, of[0]) for of in own],
            [np.stack([stacked(predicted, row) for row in of]) for of in own],
            np.array([[[row[f"constant_{d}"] for d in dimensions] for row in of] for of in own], float),
        )
    except (TypeError, ValueError) as error:
        raise WorkspaceError(f"{path} has curves of different lengths", AGAIN) from error


def read(workspace: Workspace, run: str) -> CurvePredictions | None:
    """`FILE` of a run; None where it has none. Raises WorkspaceError as `predictions.read_table`."""
    path = "runs", run, FILE
    return from_table(read_table(workspace, *path), workspace.path(*path)) if workspace.exists(*path) else None


# judging -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One prediction's metrics: those of single tracks, mean over the tracks; and those of all points together."""

    per_track: Resampled
    pooled: Resampled

    def figure(self, name: str, pooled: bool) -> tuple[float, float, float]:
        """A metric of `FIGURES` with its interval: (value, lower, upper)."""
        of = self.pooled if pooled else self.per_track
        lower, upper = bootstrap.interval(of)[INDEX[name]]
        return float(of.value[INDEX[name]]), float(lower), float(upper)


def judge(
    labels: Sequence[np.ndarray], predictions: Sequence[Sequence[np.ndarray]], groups: Sequence[str]
) -> list[Judged]:
    """Metrics of predictions of one dimension, all with the same draws.

    Args:
        labels: T arrays (n_i,), NaN where unknown; each has one that is known.
        predictions: Of each model, T arrays (R, n_i).
        groups: (T,).
    """
    each = np.array([[of_track(t, p) for t, p in zip(labels, own, strict=True)] for own in predictions])  # (P, T, M)
    known = np.isfinite(each)
    columns = np.concatenate([np.where(known, each, 0), known], axis=2).transpose(1, 0, 2).reshape(len(labels), -1)
    _, index, sizes = np.unique(np.asarray(groups, object).astype(str), return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), columns.shape[1]))
    np.add.at(sums, index, columns)
    effective = bootstrap.effective(sizes.astype(float))
    drawn = bootstrap.draw(sums, bootstrap.DRAWS, 0).reshape(bootstrap.DRAWS, len(predictions), 2, -1)
    whole = sums.sum(axis=0).reshape(len(predictions), 2, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values, draws = whole[:, 0] / whole[:, 1], drawn[:, :, 0] / drawn[:, :, 1]
    per_track = [Resampled(values[p], draws[:, p], len(sizes), effective) for p in range(len(predictions))]
    points = [np.concatenate(of, axis=1) for of in predictions]
    of_points = np.repeat(np.asarray(groups, object), [len(t) for t in labels])
    pooled = bootstrap.resample(np.concatenate(labels), points, of_points)
    return [Judged(*pair) for pair in zip(per_track, pooled, strict=True)]


def of_track(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """`METRICS` (M,) of one track: labels (n,), NaN where unknown, and predictions (R, n). See the module on r."""
    known = np.isfinite(labels)
    values = metrics(labels[known], predicted[:, known]).values.copy()
    if np.isnan(values[INDEX["r"]]) and np.isfinite(values[INDEX["ccc"]]):
        values[INDEX["r"]] = np.mean(
            [np.nan_to_num(metrics(labels[known], p[known]).values[INDEX["r"]]) for p in predicted]
        )
    return values
