"""Predicted against labelled curves, as MediaEval's task Emotion in Music judged them.

Aljanaki, Yang and Soleymani (2017, Developing a benchmark for emotional analysis of music, PLoS ONE 12(3), e0173392):
RMSE, Pearson's r and CCC are of one track's points, and their mean over the tracks is given (per track); pooled, they
are of the points of all tracks together, so that differences between tracks count as well. Intervals are those of a
bootstrap of whole groups of tracks (`evaluation.bootstrap`). Where a track's labels vary and its predictions do not,
its r is 0; a track whose labels do not vary has neither r nor CCC.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mer_ray.errors import WorkspaceError
from mer_ray.evaluation import bootstrap, plots
from mer_ray.evaluation.bootstrap import Resampled
from mer_ray.evaluation.comparison import Comparison
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import Cells, display, lines, number, with_ends
from mer_ray.evaluation.metrics import INDEX, METRICS, metrics
from mer_ray.evaluation.predictions import AGAIN, read_table
from mer_ray.io import cells
from mer_ray.io.tables import Workspace

FILE = "curves_predicted.parquet"
FIGURES = ("rmse", "r", "ccc")
CURVE, HELD, CONSTANT = "curve", "value held", "constant mean"
NONE = "-"
DRAWN = 8
"""Tracks in a picture: the one of the lowest RMSE, the one of the highest, and some in between."""
LEGEND = (
    "Per track: of the points of one track, mean over the tracks. Pooled: of all points together. In brackets: 95 % "
    "intervals, bootstrap over groups. Value held: the model's prediction of the whole track at every point. Constant "
    "mean: that of the points of the training tracks. Less RMSE: per track, of the curve than of the value held."
)


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
    at = [np.isfinite(t) for t in labels]
    points = np.concatenate([t[own] for t, own in zip(labels, at, strict=True)])
    own_groups = np.repeat(np.asarray(groups, object), [int(own.sum()) for own in at])
    pooled = bootstrap.resample(
        points,
        [np.concatenate([p[:, own] for p, own in zip(of, at, strict=True)], axis=1) for of in predictions],
        own_groups.tolist(),
    )
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


# the report's section -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of a table. kind: `CURVE`, `HELD`, or `NONE` of the constant. less_rmse: by how much, of a curve."""

    network: str
    feature: str
    kind: str
    judged: Judged
    less_rmse: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """One dimension's rows, their caption, and a picture of some tracks (PNG)."""

    dimension: str
    rows: list[Row]
    n_tracks: int
    n_points: int
    caption: str
    picture: bytes


def read(workspace: Workspace, run: str) -> CurvePredictions | None:
    """`FILE` of a run; None where it has none. Raises WorkspaceError as `predictions.read_table`."""
    path = "runs", run, FILE
    return from_table(read_table(workspace, *path), workspace.path(*path)) if workspace.exists(*path) else None


def tables(workspace: Workspace, compared: Comparison) -> list[Table]:
    """A table for each dimension in which the models have predicted labels over time, on the tracks of all of them."""
    made = {run.name: read(workspace, run.name) for run in compared.trained}
    found = {name: curves for name, curves in made.items() if curves is not None}
    dimensions = dict.fromkeys(d for curves in found.values() for d in curves.dimensions)
    return [table for d in dimensions if (table := _table(compared, found, d)) is not None]


def _table(compared: Comparison, made: dict[str, CurvePredictions], dimension: str) -> Table | None:
    runs = [r for r in compared.trained if r.name in made and dimension in made[r.name].dimensions]
    curves = [made[r.name] for r in runs]
    rows_of = [{i: k for k, i in enumerate(c.ids)} for c in curves]
    columns = [c.dimensions.index(dimension) for c in curves]
    group_of = dict(zip(compared.runs[0].predictions.ids, compared.groups, strict=True))
    lengths = [{i: len(t) for i, t in zip(c.ids, c.time_s, strict=True)} for c in curves]
    ids = [
        i
        for i, k in rows_of[0].items()
        if i in group_of
        and all(own.get(i) == lengths[0][i] for own in lengths)
        and np.isfinite(curves[0].labels[k][:, columns[0]]).any()
    ]
    if not ids:
        return None
    groups = [group_of[i] for i in ids]
    labels = [curves[0].labels[rows_of[0][i]][:, columns[0]] for i in ids]

    def broadcast(values: np.ndarray, n: int) -> np.ndarray:
        return np.repeat(values[:, None], n, axis=1)

    first = [curves[0].constant[rows_of[0][i], :, columns[0]] for i in ids]
    kinds = [(CONSTANT, NONE, NONE)]
    predictions = [[broadcast(value, len(t)) for value, t in zip(first, labels, strict=True)]]
    for run, own, rows, d in zip(runs, curves, rows_of, columns, strict=True):
        at = {i: k for k, i in enumerate(run.predictions.ids)}
        value = run.predictions.predicted[..., run.predictions.dimensions.index(dimension)]
        predictions.append([broadcast(value[:, at[i]], len(t)) for i, t in zip(ids, labels, strict=True)])
        predictions.append([own.predicted[rows[i]][..., d] for i in ids])
        kinds += [(run.network, run.feature, HELD), (run.network, run.feature, CURVE)]
    judged = judge(labels, predictions, groups)
    out = [Row(*kinds[0], judged[0])]
    for k in range(1, len(kinds), 2):
        value, ends = bootstrap.difference(judged[k].per_track, judged[k + 1].per_track)
        lower, upper = map(float, ends[INDEX["rmse"]])
        less = float(value[INDEX["rmse"]]), lower, upper
        out += [Row(*kinds[k], judged[k]), Row(*kinds[k + 1], judged[k + 1], less)]
    n_points = sum(int(np.isfinite(t).sum()) for t in labels)
    caption = (
        f"{len(ids):,} tracks with {n_points:,} labelled points, in {len(set(groups)):,} groups; each predicted by "
        f"models that were not trained on it."
    )
    caption = f"{caption} {bootstrap.uneven(len(ids), **bootstrap.group_sizes(groups))}".strip()
    drawn = [(run.title, own) for run, own in zip(runs, predictions[2::2], strict=True)]
    times = [curves[0].time_s[rows_of[0][i]] for i in ids]
    picture = _picture(dimension, [" – ".join(filter(None, compared.names[i])) for i in ids], times, labels, drawn)
    return Table(dimension, out, len(ids), n_points, caption, picture)


def _picture(
    dimension: str,
    names: Sequence[str],
    times: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predicted: Sequence[tuple[str, Sequence[np.ndarray]]],
) -> bytes:
    errors = [of_track(t, p)[INDEX["rmse"]] for t, p in zip(labels, predicted[0][1], strict=True)]
    chosen = np.argsort(errors)[np.unique(np.linspace(0, len(errors) - 1, DRAWN).round().astype(int))]
    panels = [(names[i], times[i], labels[i], [(title, own[i][0]) for title, own in predicted]) for i in chosen]
    about = f"By RMSE of {predicted[0][0]}, from the best of {len(errors):,} tracks to the worst. The first repeat."
    return plots.over_time(f"{dimension.capitalize()} over time", panels, about)


def write(workspace: Workspace, compared: Comparison, suffix: str = "") -> str:
    """Write the pictures and ``report/curves.csv``. Returns the section of the report; "" without labels over time.

    suffix: of the files' names.
    """
    found = tables(workspace, compared)
    for table in found:
        workspace.write_bytes(table.picture, "report", f"{table.dimension}-over-time{suffix}.png")
    if found:
        workspace.write_bytes(cells.encoded(to_csv(found)), "report", f"curves{suffix}.csv")
    return markdown(found, suffix)


def markdown(found: Sequence[Table], suffix: str = "") -> str:
    """The section of the report; "" without tables. suffix: of the pictures' names."""
    if not found:
        return ""
    heads = ["Network", "Feature", "Prediction"]
    heads += [f"{METRICS[f].heading} {how}" for how in ("per track", "pooled") for f in FIGURES] + ["Less RMSE"]
    parts = ["## Labels over time", LEGEND]
    for table in found:
        rows: Cells = []
        for row in table.rows:
            texts = [display(row.network), display(row.feature), row.kind]
            for pooled in (False, True):
                for name in FIGURES:
                    value, *ends = row.judged.figure(name, pooled)
                    texts.append(with_ends(name, value, ends))
            texts.append("" if row.less_rmse is None else with_ends("rmse", row.less_rmse[0], row.less_rmse[1:]))
            rows.append([(text, False) for text in texts])
        _embolden(table, rows)
        picture = f"![{table.dimension} over time]({table.dimension}-over-time{suffix}.png)"
        parts += [f"### {table.dimension.capitalize()} over time", "\n".join(lines(heads, rows, n_texts=3))]
        parts += [markdown_text(table.caption, 4_000), picture]
    return "\n\n".join(parts)


def _embolden(table: Table, rows: Cells) -> None:
    """Make the best of each column bold, as rounded."""
    for k, (name, pooled) in enumerate([(f, p) for p in (False, True) for f in FIGURES], start=3):
        values = [
            float(number(name, v)) if np.isfinite(v := r.judged.figure(name, pooled)[0]) else v for r in table.rows
        ]
        sign = -1 if METRICS[name].smaller_is_better else 1
        best = max((sign * v for v in values if np.isfinite(v)), default=np.nan)
        for row, value in zip(rows, values, strict=True):
            row[k] = row[k][0], sign * value == best


def to_csv(found: Sequence[Table]) -> str:
    """Every figure in full precision with its interval: one line per row of each table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [(how, f) for how in ("per_track", "pooled") for f in FIGURES]
    columns = [f"{how}_{f}{end}" for how, f in names for end in ("", "_lower", "_upper")]
    differs = [f"less_rmse{end}" for end in ("", "_lower", "_upper")]
    writer.writerow(["dimension", "network", "feature", "prediction", "tracks", "points", *columns, *differs])
    for table in found:
        for row in table.rows:
            figures = [v for how, f in names for v in row.judged.figure(f, how == "pooled")]
            texts = [
                table.dimension,
                row.network,
                row.feature if row.feature == NONE else cells.guard(row.feature),
                row.kind,
            ]
            less = row.less_rmse or ("", "", "")
            writer.writerow([*texts, table.n_tracks, table.n_points, *map(repr, figures), *less])
    return out.getvalue()
