"""The runs of a workspace on the tracks that all of them predicted: their tables and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mer_ray.console import out
from mer_ray.errors import WorkspaceError
from mer_ray.evaluation import metric_tables, plots, protocol
from mer_ray.evaluation.bootstrap import group_sizes, uneven
from mer_ray.evaluation.calibration import calibration
from mer_ray.evaluation.judge import Candidate, judge
from mer_ray.evaluation.metric_tables import Cells, Table, display, heading
from mer_ray.evaluation.predictions import Predictions, joined_groups, other_labels, shared_ids
from mer_ray.io.identity import normalise, one_line

WIDTH = 100
"""Columns of a terminal that a table may fill."""
BINS = (
    "The mean label of bins of equally many predictions, with 95 % intervals; slope and intercept of the line "
    "(slope below 1: predictions too far from the mean; above 1: too near)."
)


@dataclass(frozen=True)
class Run:
    """A line of the tables: a model of ``runs``, or a baseline, whose ``described`` (``model.json``) is None.

    kind: see `evaluation.protocol`.
    """

    network: str
    feature: str
    predictions: Predictions
    described: dict[str, Any] | None = None
    kind: str = protocol.GROUPS

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.network}-{self.feature}{protocol.SUFFIX[self.kind]}"

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
    def make(cls, runs: Sequence[Run], location: str) -> Comparison:
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

    @property
    def dimensions(self) -> list[str]:
        """The dimensions of the models, of which any of the tracks has a label."""
        found = {d: r.predictions.of([d]) for r in self.trained for d in r.predictions.dimensions}
        return [d for d, predictions in found.items() if np.isfinite(predictions.labels).any()]

    def of(self, dimension: str) -> Comparison:
        """The runs that have the dimension, and nothing else of them, on the tracks that have a label of it."""
        runs = [r for r in self.runs if dimension in r.predictions.dimensions]
        first = next(r for r in runs if r.described is not None).predictions.of([dimension])
        known = np.flatnonzero(np.isfinite(first.labels[:, 0]))
        ids = [first.ids[k] for k in known]
        own = [replace(r, predictions=r.predictions.of([dimension]).on(ids)) for r in runs]
        return Comparison(own, [self.groups[k] for k in known], self.names)

    def table(self, dimension: str) -> Table:
        """The table of a dimension."""
        return self.of(dimension)._table(dimension, len(self.groups))

    def _table(self, dimension: str, n_all: int) -> Table:
        trained, first = self.trained, self.trained[0].predictions
        # The constants use the folds of the first candidate: a network, as all figures are of its folds.
        order = [*trained, *(r for r in self.runs if r.described is None)]
        candidates = [
            Candidate(r.network, r.feature, r.predictions.predicted[..., 0], r.predictions.fold) for r in order
        ]
        described = [r.described for r in trained if r.described is not None]
        values = described[0]["details"].get("constants")
        index = described[0].get("dimensions", [dimension]).index(dimension)
        rows = judge(first.labels[:, 0], self.groups, candidates, values and values[index])
        constants, rest = rows[: -len(order)], rows[-len(order) :]
        rows = [*constants, *rest[len(trained) :], *rest[: len(trained)]]
        how = metric_tables.Protocol.of(described[0], len(first.predicted))
        caption = metric_tables.caption(
            n=len(first.ids),
            n_all=n_all,
            artists=len({normalise(artist) or i for artist, i in zip(first.artists, first.ids, strict=True)}),
            groups=len(set(self.groups)),
            label_sd=rows[0].metrics.label_sd,
            how=how,
        )
        caption = f"{caption} {uneven(len(first.ids), **group_sizes(self.groups))}".strip()
        for note in dict.fromkeys(d["feature"]["note"] for d in described if d["feature"]["note"]):
            caption += f" {one_line(note)}."
        return Table(dimension, rows, caption, how.kind, described[0]["details"].get("scale"))

    def pictures(self, table: Table) -> dict[str, bytes]:
        """File name → PNG: predictions of the table's dimension against labels, and their calibration."""
        own = self.of(table.dimension)
        labels = own.trained[0].predictions.labels[:, 0]
        drawn = [(r.title, r.predictions.predicted[..., 0]) for r in own.trained]
        figures = [row.metrics for row in table.rows[-len(drawn) :]]
        about = f"{len(labels):,} tracks, label SD {figures[0].label_sd:.3f}."
        repeat = " Drawn is the first repeat; R² is the mean over all." if len(drawn[0][1]) > 1 else ""
        first = [(title, p[0], m["r2"]) for (title, p), m in zip(drawn, figures, strict=True)]
        binned = [(title, calibration(labels, p, own.groups)) for title, p in drawn]
        name, head = table.stem, table.title
        return {
            f"{name}.png": plots.predicted_against_labelled(head, labels, first, about + repeat),
            f"{name}-calibration.png": plots.calibration_picture(head, binned, f"{about} {BINS}"),
        }


def print_table(title: str, heads: Sequence[str], rows: Cells, remarks: Sequence[str] = ()) -> None:
    """Print a table, whose first two columns are text, and remarks, at most `WIDTH` columns wide."""
    rich = RichTable(title=heading(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
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
