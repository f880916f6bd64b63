"""The runs of a workspace on the tracks that all of them predicted: their tables and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mer_ray.console import out
from mer_ray.errors import WorkspaceError
from mer_ray.evaluation import metric_tables, plots
from mer_ray.evaluation.bootstrap import group_sizes, uneven
from mer_ray.evaluation.calibration import calibration
from mer_ray.evaluation.judge import Candidate, judge
from mer_ray.evaluation.metric_tables import Cells, Table, display
from mer_ray.evaluation.predictions import Predictions, joined_groups, other_labels, shared_ids
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.schemas import DIMENSIONS

WIDTH = 100
"""Columns of a terminal that a table may fill."""
BINS = (
    "The mean label of bins of equally many predictions, with 95 % intervals; slope and intercept of the line "
    "(slope below 1: predictions too far from the mean; above 1: too near)."
)


@dataclass(frozen=True)
class Run:
    """A line of the tables: a model of ``runs``, or a baseline, whose ``described`` (``model.json``) is None."""

    network: str
    feature: str
    predictions: Predictions
    described: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.network}-{self.feature}"

    @property
    def title(self) -> str:
        """Its name in pictures: ``CNN, MFCC``."""
        return f"{display(self.network)}, {display(self.feature)}"


@dataclass(frozen=True)
class Comparison:
    """Runs on the same tracks, baselines first: models have ``described``. groups: (N,), the finest that all know.

    names: track_id → (artist, title), of the tracks that any of the runs predicted.
    """

    runs: list[Run]
    groups: list[str]
    names: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, runs: Sequence[Run], location: str) -> Comparison:
        """The runs on the tracks that all have. location: of the workspace.

        Raises WorkspaceError where there are none, or where a track has two labels.
        """
        names = {
            i: (artist, title)
            for r in runs
            for i, artist, title in zip(r.predictions.ids, r.predictions.artists, r.predictions.titles, strict=True)
        }
        ids = shared_ids([r.predictions for r in runs])
        if not ids:
            raise WorkspaceError(
                f"the models in {location} have no track in common", "extract all features, then train again"
            )
        shared = [replace(r, predictions=r.predictions.on(ids)) for r in runs]
        for r in shared[1:]:
            if other := other_labels(shared[0].predictions, r.predictions):
                raise WorkspaceError(
                    f"{shared[0].name} and {r.name} were made with other labels for {other:,} of {len(ids):,} tracks",
                    "run `mer-ray train`, which trains anew what is out of date",
                )
        return cls(shared, joined_groups([r.predictions.groups for r in shared]), names)

    @property
    def trained(self) -> list[Run]:
        """The models, without the baselines."""
        return [r for r in self.runs if r.described is not None]

    @property
    def n_left_out(self) -> int:
        """How many tracks not every run predicted."""
        return len(self.names) - len(self.runs[0].predictions.ids)

    def table(self, index: int) -> Table:
        """The table of a dimension (0..2)."""
        trained, first = self.trained, self.trained[0].predictions
        # The constants use the folds of the first candidate: a network, as all figures are of its folds.
        order = [*trained, *(r for r in self.runs if r.described is None)]
        candidates = [
            Candidate(r.network, r.feature, r.predictions.predicted[..., index], r.predictions.fold) for r in order
        ]
        rows = judge(first.labels[:, index], self.groups, candidates)
        constants, rest = rows[: -len(order)], rows[-len(order) :]
        rows = [*constants, *rest[len(trained) :], *rest[: len(trained)]]
        described = [r.described for r in trained if r.described is not None]
        settings = described[0]["details"]["settings"]
        caption = metric_tables.caption(
            n=len(first.ids),
            artists=len({normalise(artist) or i for artist, i in zip(first.artists, first.ids, strict=True)}),
            groups=len(set(self.groups)),
            label_sd=rows[0].metrics.label_sd,
            folds=settings["folds"],
            repeats=len(first.predicted),
            seed=settings["seed"],
        )
        caption = f"{caption} {uneven(len(first.ids), **group_sizes(self.groups))}".strip()
        for note in dict.fromkeys(d["feature"]["note"] for d in described if d["feature"]["note"]):
            caption += f" {one_line(note)}."
        return Table(DIMENSIONS[index], rows, caption)

    def pictures(self, index: int, table: Table) -> dict[str, bytes]:
        """File name → PNG: predictions against labels, and their calibration."""
        labels = self.trained[0].predictions.labels[:, index]
        drawn = [(r.title, r.predictions.predicted[..., index]) for r in self.trained]
        figures = [row.metrics for row in table.rows[-len(drawn) :]]
        about = f"{len(labels):,} tracks, label SD {figures[0].label_sd:.3f}."
        repeat = " Drawn is the first repeat; R² is the mean over all." if len(drawn[0][1]) > 1 else ""
        first = [(title, p[0], m["r2"]) for (title, p), m in zip(drawn, figures, strict=True)]
        binned = [(title, calibration(labels, p, self.groups)) for title, p in drawn]
        name = table.dimension
        return {
            f"{name}.png": plots.predicted_against_labelled(name, labels, first, about + repeat),
            f"{name}-calibration.png": plots.calibration_picture(name, binned, f"{about} {BINS}"),
        }


def print_table(title: str, heads: Sequence[str], rows: Cells, remarks: Sequence[str] = ()) -> None:
    """Print a table, whose first two columns are text, and remarks, at most `WIDTH` columns wide."""
    rich = RichTable(title=title.capitalize(), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        if i < 2:
            rich.add_column(head, no_wrap=True, overflow="ellipsis", max_width=15)
        else:
            rich.add_column(head, no_wrap=True, overflow="ellipsis", justify="right")
    for row in rows:
        rich.add_row(*(f"[bold]{escape(text)}[/bold]" if bold else escape(text) for text, bold in row))
    # As wide as it needs to be: the default of 80 columns in a pipe would cut figures off.
    rich.width = Measurement.get(out, out.options.update_width(WIDTH), rich).maximum
    out.print(rich)
    print_remarks(remarks)


def print_remarks(remarks: Sequence[str]) -> None:
    """Print sentences, wrapped at `WIDTH` columns."""
    for remark in remarks:
        for line in textwrap.wrap(remark, WIDTH):
            out.print(f"[dim]{escape(line)}[/dim]")
