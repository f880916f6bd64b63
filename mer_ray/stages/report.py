"""``runs`` and ``baselines`` → ``report/``: the metric tables, their plots, ``metrics.csv`` and ``report.tex``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation import against as versus
from mer_ray.evaluation import ceiling_report, leakage_report, metric_tables, plots, predictions
from mer_ray.evaluation.comparison import Comparison, Run, print_remarks, print_table
from mer_ray.evaluation.judge import BASELINES
from mer_ray.evaluation.latex import latex
from mer_ray.features import MODULES as FEATURES
from mer_ray.io import cells
from mer_ray.io.tables import Workspace
from mer_ray.models import NETWORKS

CURVES = (
    "MSE of standardised labels per epoch: the median over the members of all folds and repeats, of those that got so "
    "far, and their 10th to 90th percentile."
)


def run(config: Config, workspace: Workspace, against: str | None = None) -> Summary:
    """Compare the workspace's models on the tracks that all of them and their baselines predicted.

    against: a run's folder, or another workspace. Then each model is compared with that run, or with the one of the
    same name there, and nothing else is written.
    """
    started = time.monotonic()
    models = _models(workspace)
    if not models:
        raise WorkspaceError(f"workspace {workspace.uri} has no trained models", "run `mer-ray train` on it first")
    summary = Summary("report", unit="models")
    if against is None:
        summary.made = len(models)
        left_out = _report(workspace, models)
        if left_out:
            summary.notes.append(f"{left_out:,} tracks are left out, since not every model predicted them")
        summary.notes.append(f"tables and plots: {workspace.path('report')}")
    else:
        summary.made = _against(workspace, models, against)
        summary.notes.append(f"against.md and against.csv: {workspace.path('report')}")
    summary.seconds = time.monotonic() - started
    return summary


def _report(workspace: Workspace, models: list[Run]) -> int:
    """Write and print everything. Returns the number of tracks that not every run has."""
    known = {r.feature for r in models}
    compared = Comparison.make([*(r for r in _baselines(workspace) if r.feature in known), *models], workspace.uri)
    tables = [compared.table(dimension) for dimension in compared.dimensions]
    sections = ["# Metrics"]
    for table in tables:
        pictures = compared.pictures(table)
        for name, picture in pictures.items():
            workspace.write_bytes(picture, "report", name)
        sections += [metric_tables.markdown(table), *(f"![{n.removesuffix('.png')}]({n})" for n in pictures)]
    sections += [metric_tables.LEGEND, metric_tables.original_markdown(tables)]
    ceiling = ceiling_report.read(workspace, compared.runs[0].predictions.ids, compared.groups)
    sections += [metric_tables.differences_markdown(tables), ceiling_report.markdown(ceiling, tables)]
    leaks = [r for r in _leakage(workspace) if r["feature"] in known]
    sections.append(leakage_report.leakage_markdown(leaks, compared.names))
    if curves := [(r.title, c) for r in compared.trained if (c := _curves(workspace, r.name)) is not None]:
        workspace.write_bytes(plots.learning_curves(curves, CURVES), "report", "learning-curves.png")
        sections += ["## Learning curves", CURVES, "![learning curves](learning-curves.png)"]
    text = "\n\n".join(section for section in sections if section)
    workspace.write_bytes(f"{text}\n".encode(), "report", "report.md")
    workspace.write_bytes(cells.encoded(metric_tables.to_csv(tables)), "report", "metrics.csv")
    workspace.write_bytes(latex(tables).encode(), "report", "report.tex")
    for table in tables:
        rows, remarks = metric_tables.terminal_rows(table), [*table.remarks(), table.caption]
        print_table(table.dimension, metric_tables.TERMINAL_HEADS, rows, remarks)
    print_remarks([*ceiling_report.remark(ceiling, tables), metric_tables.LEGEND])
    return compared.n_left_out


# reading -----------------------------------------------------------------------------------------------------------


def _models(workspace: Workspace) -> list[Run]:
    """The finished runs, in the order of the registries."""
    runs = [_model(workspace, "runs", name) for name in workspace.names("runs")]
    return sorted((r for r in runs if r is not None), key=_order)


def _model(workspace: Workspace, *folder: str) -> Run | None:
    from mer_ray.scoring import model_folder

    described = model_folder.describe(workspace, *folder)
    if described is None:
        return None
    [made] = predictions.read(workspace, *folder, "predictions.parquet").values()
    return Run(described["network"], described["feature"]["name"], made, described)


def _baselines(workspace: Workspace) -> list[Run]:
    files = [n for n in workspace.names("baselines") if n.endswith(".parquet")]
    runs = [
        Run(model, file.removesuffix(".parquet"), made)
        for file in files
        for model, made in predictions.read(workspace, "baselines", file).items()
    ]
    return sorted(runs, key=_order)


def _order(run: Run) -> tuple[int, str, int, str]:
    networks, features = [*BASELINES, *NETWORKS], list(FEATURES)
    return (
        networks.index(run.network) if run.network in networks else len(networks),
        run.network,
        features.index(run.feature) if run.feature in features else len(features),
        run.feature,
    )


def _leakage(workspace: Workspace) -> list[dict[str, Any]]:
    files = [n for n in workspace.names("baselines") if n.endswith(".json")]
    return [leakage_report.check(workspace.read_json("baselines", f), workspace.path("baselines", f)) for f in files]


def _curves(workspace: Workspace, name: str) -> pa.Table | None:
    """A run's learning curves; None where it has none."""
    path = "runs", name, "curves.parquet"
    if not workspace.exists(*path):
        return None
    table = predictions.read_table(workspace, *path, columns=["epoch", "train_loss", "valid_loss"])
    return table if table.num_rows else None


# against another run -----------------------------------------------------------------------------------------------


def _against(workspace: Workspace, models: Sequence[Run], uri: str) -> int:
    """Compare, print, and write ``report/against.md`` and ``.csv``. Returns the number of comparisons."""
    pairs = _pairs(workspace, models, uri)
    differences = [
        difference
        for this, that in pairs
        for difference in versus.compare(this.predictions, that.predictions, (this.name, that.name))
    ]
    remarks = [
        remark
        for this, that in pairs
        for remark in versus.not_compared(this.predictions, that.predictions, (this.name, that.name))
    ]
    workspace.write_bytes(versus.markdown(differences, uri, remarks).encode(), "report", "against.md")
    workspace.write_bytes(cells.encoded(versus.to_csv(differences)), "report", "against.csv")
    for dimension in versus.dimensions_of(differences):
        print_table(dimension, versus.HEAD, versus.cells(differences, dimension))
    print_remarks([versus.caption(differences), *remarks])
    return len(pairs)


def _pairs(workspace: Workspace, models: Sequence[Run], uri: str) -> list[tuple[Run, Run]]:
    """Each model, and the run that it is compared with. Raises InputError where there are none."""
    other = Workspace(uri)
    one = _model(other)
    if one is not None:
        if pairs := [(r, one) for r in models if workspace.at("runs", r.name) != other.at()]:
            return pairs
        raise InputError(f"{uri} is the only run of workspace {workspace.uri}", "name a run of another workspace")
    there = {r.name: r for r in _models(other)}
    if not there:
        raise InputError(
            f"--against {uri} is neither a run nor a workspace with runs", "give .../runs/NAME or a workspace"
        )
    if pairs := [(r, there[r.name]) for r in models if r.name in there]:
        return pairs
    raise InputError(
        f"no run of {workspace.uri} ({', '.join(r.name for r in models)}) has a namesake in {uri} ({', '.join(there)})",
        "name one run, as .../runs/NAME",
    )
