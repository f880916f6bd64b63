"""``runs`` → ``report/``: the metric tables, their plots and ``metrics.csv``."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table as RichTable

from mer_ray.config import Config
from mer_ray.console import Summary, out
from mer_ray.errors import WorkspaceError
from mer_ray.evaluation.metrics import constant_mean, metrics
from mer_ray.evaluation.plots import predicted_against_labelled
from mer_ray.evaluation.tables import COLUMNS, CONSTANT, Row, Table, display, markdown, to_csv
from mer_ray.features import MODULES as FEATURES
from mer_ray.identity import normalise
from mer_ray.models import NETWORKS
from mer_ray.tables import DIMENSIONS, Workspace


def run(config: Config, workspace: Workspace) -> Summary:
    """Compare the workspace's models on the tracks that all of them predicted."""
    from mer_ray.scoring import store

    started = time.monotonic()
    runs: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]] = []
    for name in workspace.names("runs"):
        described = store.describe(workspace, "runs", name)
        if described is not None:
            rows = pq.read_table(io.BytesIO(workspace.read_bytes("runs", name, "predictions.parquet"))).to_pylist()
            runs.append((described, {r["track_id"]: r for r in rows}))
    if not runs:
        raise WorkspaceError(f"workspace {workspace.uri} has no trained models", "run `mer-ray train` on it first")
    order = {**{n: i for i, n in enumerate(NETWORKS)}, **{n: i for i, n in enumerate(FEATURES)}}
    runs.sort(key=lambda r: (order.get(r[0]["network"], 99), order.get(r[0]["feature"]["name"], 99)))
    shared = sorted(set.intersection(*(set(rows) for _, rows in runs)))
    if not shared:
        raise WorkspaceError(
            f"the models in {workspace.uri} have no track in common", "extract all features, then train again"
        )
    tables = [_table(i, runs, shared) for i in range(len(DIMENSIONS))]
    for i, table in enumerate(tables):
        _print(table)
        panels = [
            (
                f"{display(d['network'])}, {display(d['feature']['name'])}",
                _column(rows, shared, f"predicted_{table.dimension}"),
                table.rows[k + 1].metrics.r2,
            )
            for k, (d, rows) in enumerate(runs)
        ]
        labelled = _column(runs[0][1], shared, DIMENSIONS[i])
        workspace.write_bytes(
            predicted_against_labelled(table.dimension, labelled, panels, table.caption),
            "report",
            f"{table.dimension}.png",
        )
    sections = [markdown(t) + f"\n![{t.dimension}]({t.dimension}.png)\n" for t in tables]
    workspace.write_bytes(("# Metrics\n\n" + "\n".join(sections)).encode(), "report", "report.md")
    workspace.write_bytes(to_csv(tables).encode(), "report", "metrics.csv")
    summary = Summary("report", unit="models", made=len(runs), seconds=time.monotonic() - started)
    summary.notes.append(f"tables and plots: {workspace.path('report')}")
    return summary


def _column(rows: dict[str, dict[str, Any]], ids: list[str], column: str) -> np.ndarray:
    return np.array([rows[i][column] for i in ids])


def _table(index: int, runs: list[tuple[dict[str, Any], dict[str, dict[str, Any]]]], ids: list[str]) -> Table:
    dimension = DIMENSIONS[index]
    described, first = runs[0]
    labelled, fold = _column(first, ids, dimension), _column(first, ids, "fold")
    rows = [Row(CONSTANT, "-", metrics(labelled, constant_mean(labelled, fold)))]
    rows += [
        Row(d["network"], d["feature"]["name"], metrics(labelled, _column(r, ids, f"predicted_{dimension}")))
        for d, r in runs
    ]
    artists = len({normalise(first[i]["artist"]) or i for i in ids})
    folds = described["details"]["settings"]["folds"]
    caption = (
        f"{len(ids):,} tracks by {artists:,} artists, label SD {rows[0].metrics.label_sd:.3f}; "
        f"out-of-fold, {folds} folds, no artist on both sides. R² is against the mean of these labels."
    )
    for note in dict.fromkeys(d["feature"]["note"] for d, _ in runs if d["feature"]["note"]):
        caption += f" {note}."
    return Table(dimension, rows, caption)


def _print(table: Table) -> None:
    rich = RichTable(
        title=table.dimension.capitalize(), title_justify="left", caption=table.caption, caption_justify="left"
    )
    for column in COLUMNS:
        rich.add_column(column, justify="left" if column in ("Network", "Feature") else "right", no_wrap=True)
    for row in table.cells():
        rich.add_row(*(f"[bold]{text}[/bold]" if bold else text for text, bold in row))
    out.print(rich)
