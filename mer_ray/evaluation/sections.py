"""The sections of a report: the runs of one protocol, with their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mer_ray.evaluation import (
    by_dataset,
    ceiling_report,
    dynamic_report,
    leakage_report,
    metric_tables,
    overlap_report,
    plots,
    predictions,
    protocol,
    published,
    units,
)
from mer_ray.evaluation.comparison import Comparison, print_remarks, print_table
from mer_ray.evaluation.metric_tables import Table
from mer_ray.io.tables import Workspace

CURVES = (
    "MSE of standardised labels per epoch: the median over the members of all folds and repeats, of those that got so "
    "far, and their 10th to 90th percentile. Thin: each fold's validation, the mean of its members."
)

PICTURES = ("predictions against labels, a panel for each model", "calibration, a panel for each model")
"""What `Comparison.pictures` show."""


def write(
    workspace: Workspace, compared: Comparison, kind: str, dataset_of: Mapping[str, str]
) -> tuple[list[str], list[Table]]:
    """Write the pictures of the runs of one protocol, and print their tables. Returns paragraphs and tables."""
    tables = [compared.table(dimension) for dimension in compared.dimensions]
    sections = [f"# {protocol.TITLES[kind]}"]
    for table in tables:
        pictures = compared.pictures(table)
        for name, picture in pictures.items():
            workspace.write_bytes(picture, "report", name)
        sections.append(metric_tables.markdown(table))
        sections += [f"![{table.title}: {what}]({name})" for name, what in zip(pictures, PICTURES, strict=True)]
    sections += [metric_tables.LEGEND, units.markdown(tables), metric_tables.original_markdown(tables)]
    sections.append(published.markdown(published.dataset(compared, dataset_of), compared, tables))
    sections += [by_dataset.markdown(compared, dataset_of), by_dataset.biases_markdown(compared)]
    ceiling = ceiling_report.read(workspace, compared.runs[0].predictions.ids, compared.groups)
    sections += [metric_tables.differences_markdown(tables), ceiling_report.markdown(ceiling, tables)]
    remarks = ceiling_report.remark(ceiling, tables)
    if kind == protocol.GROUPS:
        known = {r.feature for r in compared.runs}
        leaks = [r for r in _leakage(workspace) if r["feature"] in known]
        sections.append(leakage_report.leakage_markdown(leaks, compared.names))
    else:
        sections.append(overlap_report.markdown(compared.trained, kind))
        remarks += overlap_report.remarks(compared.trained, kind)
    sections.append(dynamic_report.write(workspace, compared, protocol.SUFFIX[kind]))
    if curves := [(r.title, c) for r in compared.trained if (c := _curves(workspace, r.name)) is not None]:
        name = f"learning-curves{protocol.SUFFIX[kind]}.png"
        workspace.write_bytes(plots.learning_curves(curves, CURVES), "report", name)
        sections += ["## Learning curves", CURVES, f"![Loss per epoch, a panel for each run]({name})"]
    for table in tables:
        rows, own = metric_tables.terminal_rows(table), [*table.remarks(), table.caption]
        print_table(table.title, metric_tables.TERMINAL_HEADS, rows, own)
    print_remarks(remarks)
    return sections, tables


def _leakage(workspace: Workspace) -> list[dict[str, Any]]:
    """Of folds of groups; given ones have none."""
    files = [n for n in workspace.names("baselines") if n.endswith(".json") and n.count(".") == 1]
    return [leakage_report.check(workspace.read_json("baselines", f), workspace.path("baselines", f)) for f in files]


def datasets(workspace: Workspace) -> dict[str, str]:
    """Track id → the data set that it belongs to, as the source says."""
    rows = workspace.read("tracks", ["track_id", "dataset"])
    return {i: name for i, name in zip(rows["track_id"].to_pylist(), rows["dataset"].to_pylist(), strict=True) if name}


def _curves(workspace: Workspace, name: str) -> pa.Table | None:
    """A run's learning curves; None where it has none."""
    path = "runs", name, "curves.parquet"
    if not workspace.exists(*path):
        return None
    table = predictions.read_table(workspace, *path, columns=["repeat", "fold", "epoch", "train_loss", "valid_loss"])
    return table if table.num_rows else None
