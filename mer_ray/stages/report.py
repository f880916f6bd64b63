"""``runs`` and ``baselines`` → ``report/``: the metric tables, their plots, ``metrics.csv`` and ``report.tex``."""

from __future__ import annotations

import io
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mer_ray.config import Config
from mer_ray.console import Summary, out
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation import against as versus
from mer_ray.evaluation import leakage_report, metric_tables, plots, predictions
from mer_ray.evaluation.bootstrap import group_sizes, uneven
from mer_ray.evaluation.calibration import calibration
from mer_ray.evaluation.judge import BASELINES, Candidate, judge
from mer_ray.evaluation.latex import latex
from mer_ray.evaluation.metric_tables import Cells, Table, display
from mer_ray.evaluation.predictions import Predictions
from mer_ray.features import MODULES as FEATURES
from mer_ray.io import cells
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.models import NETWORKS

WIDTH = 100
"""Columns of a terminal that a table may fill."""
CURVES = (
    "MSE of standardised labels per epoch: the median over the members of all folds and repeats, of those that got so "
    "far, and their 10th to 90th percentile."
)


@dataclass(frozen=True)
class Run:
    """A line of the tables: a model of ``runs``, or a baseline, whose ``described`` is None."""

    network: str
    feature: str
    predictions: Predictions
    described: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.network}-{self.feature}"


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
    runs, names = _same_tracks(workspace, [*(r for r in _baselines(workspace) if r.feature in known), *models])
    trained = [r for r in runs if r.described is not None]
    groups = predictions.joined_groups([r.predictions.groups for r in runs])
    made = [_table(i, runs, groups) for i in range(len(DIMENSIONS))]
    curves = {r.name: c for r in trained if (c := _curves(workspace, r.name)) is not None}
    sections = ["# Metrics"]
    for i, table in enumerate(made):
        _plot(workspace, i, table, trained, groups)
        pictures = [f"![{name}]({name}.png)" for name in (table.dimension, f"{table.dimension}-calibration")]
        sections += [metric_tables.markdown(table), *pictures]
    sections += [metric_tables.LEGEND, metric_tables.original_markdown(made), metric_tables.differences_markdown(made)]
    sections.append(leakage_report.leakage_markdown([r for r in _leakage(workspace) if r["feature"] in known], names))
    if curves:
        panels = [(_title(r), curves[r.name]) for r in trained if r.name in curves]
        workspace.write_bytes(plots.learning_curves(panels, CURVES), "report", "learning-curves.png")
        sections += ["## Learning curves", CURVES, "![learning curves](learning-curves.png)"]
    text = "\n\n".join(section for section in sections if section)
    workspace.write_bytes(f"{text}\n".encode(), "report", "report.md")
    workspace.write_bytes(cells.encoded(metric_tables.to_csv(made)), "report", "metrics.csv")
    workspace.write_bytes(latex(made).encode(), "report", "report.tex")
    for table in made:
        _print(table)
    _print_remarks([metric_tables.LEGEND])
    return len(names) - len(trained[0].predictions.ids)


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
    try:
        data = workspace.read_bytes("runs", name, "curves.parquet")
    except FileNotFoundError:
        return None
    try:
        table = pq.read_table(io.BytesIO(data), columns=["epoch", "train_loss", "valid_loss"])
    except (OSError, pa.ArrowException, KeyError) as error:
        path = workspace.path("runs", name, "curves.parquet")
        raise WorkspaceError(f"{path} cannot be read ({one_line(str(error), 200)})", predictions.AGAIN) from error
    return table if table.num_rows else None


def _same_tracks(workspace: Workspace, runs: Sequence[Run]) -> tuple[list[Run], dict[str, tuple[str, str]]]:
    """The runs on the tracks that all have, and the artist and title of every track that any has.

    Raises WorkspaceError where there are none, or where a track has two labels.
    """
    names = {
        i: (artist, title)
        for r in runs
        for i, artist, title in zip(r.predictions.ids, r.predictions.artists, r.predictions.titles, strict=True)
    }
    ids = predictions.shared_ids([r.predictions for r in runs])
    if not ids:
        raise WorkspaceError(
            f"the models in {workspace.uri} have no track in common", "extract all features, then train again"
        )
    shared = [Run(r.network, r.feature, r.predictions.on(ids), r.described) for r in runs]
    for r in shared[1:]:
        if other := predictions.other_labels(shared[0].predictions, r.predictions):
            raise WorkspaceError(
                f"{shared[0].name} and {r.name} were made with other labels for {other:,} of {len(ids):,} tracks",
                "run `mer-ray train`, which trains anew what is out of date",
            )
    return shared, names


# tables and plots ------------------------------------------------------------------------------------------------


def _table(index: int, runs: Sequence[Run], groups: Sequence[str]) -> Table:
    trained = [r for r in runs if r.described is not None]
    first = trained[0].predictions
    # The constants use the folds of the first candidate: a network, as all figures are of its folds.
    order = [*trained, *(r for r in runs if r.described is None)]
    candidates = [
        Candidate(r.network, r.feature, r.predictions.predicted[..., index], r.predictions.fold) for r in order
    ]
    rows = judge(first.labels[:, index], groups, candidates)
    constants, rest = rows[: -len(order)], rows[-len(order) :]
    rows = [*constants, *rest[len(trained) :], *rest[: len(trained)]]
    described = [r.described for r in trained if r.described is not None]
    settings = described[0]["details"]["settings"]
    caption = metric_tables.caption(
        n=len(first.ids),
        artists=len({normalise(artist) or i for artist, i in zip(first.artists, first.ids, strict=True)}),
        groups=len(set(groups)),
        label_sd=rows[0].metrics.label_sd,
        folds=settings["folds"],
        repeats=len(first.predicted),
        seed=settings["seed"],
    )
    caption = f"{caption} {uneven(len(first.ids), **group_sizes(groups))}".strip()
    for note in dict.fromkeys(d["feature"]["note"] for d in described if d["feature"]["note"]):
        caption += f" {one_line(note)}."
    return Table(DIMENSIONS[index], rows, caption)


def _title(run: Run) -> str:
    return f"{display(run.network)}, {display(run.feature)}"


def _plot(workspace: Workspace, index: int, table: Table, trained: Sequence[Run], groups: Sequence[str]) -> None:
    """Both plots of a dimension."""
    labelled = trained[0].predictions.labels[:, index]
    figures = [row.metrics for row in table.rows[-len(trained) :]]
    drawn = [(r, r.predictions.predicted[..., index]) for r in trained]
    first = [(_title(r), p[0], m["r2"]) for (r, p), m in zip(drawn, figures, strict=True)]
    about = f"{len(labelled):,} tracks, label SD {figures[0].label_sd:.3f}."
    repeat = " Drawn is the first repeat; R² is the mean over all." if len(drawn[0][1]) > 1 else ""
    picture = plots.predicted_against_labelled(table.dimension, labelled, first, about + repeat)
    workspace.write_bytes(picture, "report", f"{table.dimension}.png")
    binned = [(_title(r), calibration(labelled, p, groups)) for r, p in drawn]
    about += (
        " The mean label of bins of equally many predictions, with 95 % intervals; slope and intercept of the line "
        "(slope below 1: predictions too far from the mean; above 1: too near)."
    )
    picture = plots.calibration_picture(table.dimension, binned, about)
    workspace.write_bytes(picture, "report", f"{table.dimension}-calibration.png")


def _print(table: Table) -> None:
    heads = [*("Network", "Feature"), *metric_tables.HEADS.values(), ""]
    heads[heads.index("R²")] = "R² [95 %]"
    _print_table(table.dimension, heads, metric_tables.terminal_rows(table), 2, [*table.remarks(), table.caption])


def _print_table(title: str, heads: Sequence[str], rows: Cells, n_texts: int, remarks: Sequence[str]) -> None:
    """A table and remarks, at most `WIDTH` columns wide."""
    rich = RichTable(title=title.capitalize(), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        text = i < n_texts
        rich.add_column(
            head,
            justify="left" if text else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=15 if text else None,
        )
    for row in rows:
        rich.add_row(*(f"[bold]{escape(text)}[/bold]" if bold else escape(text) for text, bold in row))
    # As wide as it needs to be: the default of 80 columns in a pipe would cut figures off.
    rich.width = Measurement.get(out, out.options.update_width(WIDTH), rich).maximum
    out.print(rich)
    _print_remarks(remarks)


def _print_remarks(remarks: Sequence[str]) -> None:
    for remark in remarks:
        for line in textwrap.wrap(remark, WIDTH):
            out.print(f"[dim]{escape(line)}[/dim]")


# against another run -----------------------------------------------------------------------------------------------


def _against(workspace: Workspace, models: Sequence[Run], uri: str) -> int:
    """Compare, print, and write ``report/against.md`` and ``.csv``. Returns the number of comparisons."""
    other = Workspace(uri)
    one = _model(other)
    if one is not None:
        itself = other.at()
        others = [r for r in models if workspace.at("runs", r.name) != itself]
        pairs = [(r, one) for r in others]
        if not pairs:
            raise InputError(f"{uri} is the only run of workspace {workspace.uri}", "name a run of another workspace")
    else:
        there = {r.name: r for r in _models(other)}
        if not there:
            raise InputError(
                f"--against {uri} is neither a run nor a workspace with runs", "give .../runs/NAME or a workspace"
            )
        pairs = [(r, there[r.name]) for r in models if r.name in there]
        if not pairs:
            raise InputError(
                f"no run of {workspace.uri} ({', '.join(r.name for r in models)}) has a namesake in {uri} "
                f"({', '.join(there)})",
                "name one run, as .../runs/NAME",
            )
    differences = [
        difference
        for this, that in pairs
        for difference in versus.compare(this.predictions, that.predictions, (this.name, that.name))
    ]
    workspace.write_bytes(versus.markdown(differences, uri).encode(), "report", "against.md")
    workspace.write_bytes(cells.encoded(versus.to_csv(differences)), "report", "against.csv")
    for dimension in DIMENSIONS:
        _print_table(dimension, versus.HEAD, versus.cells(differences, dimension), 2, [])
    _print_remarks([versus.caption(differences)])
    return len(pairs)
