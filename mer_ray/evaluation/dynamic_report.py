"""The section *Labels over time* of the report: tables, pictures and rows of a CSV file (`evaluation.dynamic`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.evaluation import bootstrap, plots
from mer_ray.evaluation.comparison import Comparison, print_table
from mer_ray.evaluation.dynamic import FIGURES, CurvePredictions, Judged, judge, of_track, read
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import Cells, display, heading, lines, number, with_ends
from mer_ray.evaluation.metrics import INDEX, METRICS
from mer_ray.io import cells
from mer_ray.io.tables import Workspace

CURVE, HELD, CONSTANT = "curve", "value held", "constant mean"
NONE = "-"
TERMINAL_HEADS = ["Network", "Feature", "Prediction", "RMSE", "r", "CCC", "pooled RMSE", "r", "CCC"]
DRAWN = 8
"""Tracks in a picture: the one of the lowest RMSE, the one of the highest, and some in between."""
LEGEND = (
    "Per track: of the points of one track, mean over the tracks. Pooled: of all points together. In brackets: 95 % "
    "intervals, bootstrap over groups. Value held: the model's prediction of the whole track at every point. Constant "
    "mean: that of the points of the training tracks. Less RMSE: per track, of the curve than of the value held."
)


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
    return plots.over_time(f"{heading(dimension)} over time", panels, about)


def write(workspace: Workspace, compared: Comparison, suffix: str = "") -> str:
    """Write the pictures and ``report/curves.csv``, and print the tables. Returns the section; "" without curves.

    suffix: of the files' names.
    """
    found = tables(workspace, compared)
    for table in found:
        workspace.write_bytes(table.picture, "report", f"{table.dimension}-over-time{suffix}.png")
        print_table(f"{table.dimension} over time", TERMINAL_HEADS, _terminal_rows(table), [table.caption])
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
        parts += [f"### {heading(table.dimension)} over time", "\n".join(lines(heads, rows, n_texts=3))]
        parts += [markdown_text(table.caption, 4_000), picture]
    return "\n\n".join(parts)


def _terminal_rows(table: Table) -> Cells:
    """Network, prediction and figures without intervals: narrow enough for a terminal."""
    rows: Cells = []
    for row in table.rows:
        figures = [number(f, row.judged.figure(f, pooled)[0]) for pooled in (False, True) for f in FIGURES]
        rows.append([(text, False) for text in (display(row.network), display(row.feature), row.kind, *figures)])
    _embolden(table, rows)
    return rows


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
