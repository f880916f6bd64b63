"""Comparison of two runs, on the tracks that both predicted."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.errors import InputError
from mer_ray.evaluation.bootstrap import difference, group_sizes, resample, uneven
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import HEADS, Cells, lines, number
from mer_ray.evaluation.metrics import METRICS
from mer_ray.evaluation.predictions import Predictions, joined_groups, other_labels, shared_ids
from mer_ray.io.cells import guard
from mer_ray.io.schemas import DIMENSIONS


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two runs.

    this, that: their names. value: this minus that, with its 95 % interval. n: tracks.

    remark: see `bootstrap.uneven`.
    """

    dimension: str
    this: str
    that: str
    figure: str
    this_value: float
    that_value: float
    value: float
    lower: float
    upper: float
    n: int
    remark: str = ""

    @property
    def word(self) -> str:
        """Whether this is better than that, in words; – if the difference is not defined."""
        if np.isnan(self.value):
            return "–"
        below, above = self.upper < 0, self.lower > 0
        better = below if METRICS[self.figure].smaller_is_better else above
        return "better" if better else "worse" if below or above else "not distinguishable"


def compare(this: Predictions, that: Predictions, names: tuple[str, str]) -> list[Difference]:
    """All metrics of all dimensions, paired over the common tracks and groups.

    Raises InputError where they have no track in common, or different labels of a track.
    """
    ids = shared_ids([this, that])
    if not ids:
        raise InputError(f"{names[0]} and {names[1]} have no track in common", "compare runs on the same catalog")
    this, that = this.on(ids), that.on(ids)
    if other := other_labels(this, that):
        raise InputError(
            f"{names[0]} and {names[1]} have other labels for {other:,} of the {len(ids):,} tracks that both predicted",
            "compare runs that were trained on the same labels",
        )
    groups = joined_groups([this.groups, that.groups])
    remark = uneven(len(ids), **group_sizes(groups))
    out = []
    for i, dimension in enumerate(DIMENSIONS):
        a, b = resample(this.labels[:, i], [this.predicted[..., i], that.predicted[..., i]], groups)
        value, interval = difference(a, b)
        for k, figure in enumerate(METRICS):
            lower, upper = interval[k].tolist()
            figures = float(a.value[k]), float(b.value[k]), float(value[k])
            out.append(Difference(dimension, *names, figure, *figures, lower, upper, len(ids), remark))
    return out


HEAD = ("This", "That", "Figure", "this", "that", "this − that", "95 % interval", "This is")


def cells(differences: Sequence[Difference], dimension: str) -> Cells:
    """The table rows of one dimension, for `HEAD`."""

    def signed(figure: str, value: float) -> str:
        text = number(figure, value)
        return f"+{text}" if value > 0 else text

    return [
        [
            (text, False)
            for text in (
                *(d.this, d.that, HEADS[d.figure], number(d.figure, d.this_value), number(d.figure, d.that_value)),
                signed(d.figure, d.value),
                f"[{signed(d.figure, d.lower)}, {signed(d.figure, d.upper)}]",
                d.word,
            )
        ]
        for d in differences
        if d.dimension == dimension
    ]


def caption(differences: Sequence[Difference]) -> str:
    """The caption of these tables."""
    counts = sorted({d.n for d in differences})
    tracks = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    remarks = "".join(f" {r}" for r in dict.fromkeys(d.remark for d in differences) if r)
    return (
        f"On the {tracks} tracks that both predicted out of fold; 95 % intervals of the paired difference, bootstrap "
        f"over groups. Not distinguishable: the interval includes 0. Each is one comparison, not corrected for their "
        f"number.{remarks}"
    )


def markdown(differences: Sequence[Difference], location: str) -> str:
    """``report/against.md``; location: the run or workspace compared with."""
    parts = [f"# This workspace's runs against {markdown_text(location, 500)}", ""]
    for dimension in DIMENSIONS:
        rows = cells(differences, dimension)
        parts += [f"## {dimension.capitalize()}", "", *lines(HEAD, rows, n_texts=3, last_is_text=True), ""]
    return "\n".join([*parts, caption(differences), ""])


def to_csv(differences: Sequence[Difference]) -> str:
    """``report/against.csv``, in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["this_value", "that_value", "difference", "lower", "upper"]
    writer.writerow(["dimension", "this", "that", "figure", *columns, "n", "this_is"])
    for d in differences:
        values = [d.this_value, d.that_value, d.value, d.lower, d.upper]
        writer.writerow([d.dimension, guard(d.this), guard(d.that), d.figure, *map(repr, values), d.n, d.word])
    return out.getvalue()
