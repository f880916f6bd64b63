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
from mer_ray.evaluation.metric_tables import HEADS, Cells, heading, lines, number
from mer_ray.evaluation.metrics import METRICS
from mer_ray.evaluation.predictions import Predictions, common, joined_groups, other_labels, shared_ids
from mer_ray.io.cells import guard


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
    """All metrics of the common dimensions, paired over the common tracks and groups.

    Raises InputError where they have no track or no dimension in common, or different labels of a track.
    """
    dimensions = common(this, that)
    if not dimensions:
        raise InputError(
            f"{names[0]} predicts {', '.join(this.dimensions)}, {names[1]} {', '.join(that.dimensions)}",
            "compare runs that have a dimension in common",
        )
    ids = shared_ids([this, that])
    if not ids:
        raise InputError(f"{names[0]} and {names[1]} have no track in common", "compare runs on the same catalog")
    this, that = this.on(ids), that.on(ids)
    if other := other_labels(this, that):
        raise InputError(
            f"{names[0]} and {names[1]} have other labels for {other:,} of the {len(ids):,} tracks that both predicted",
            "compare runs that were trained on the same labels",
        )
    this, that, all_groups = this.of(dimensions), that.of(dimensions), joined_groups([this.groups, that.groups])
    out = []
    for i, dimension in enumerate(dimensions):
        labels = this.labels[:, i]
        groups = [g for g, known in zip(all_groups, np.isfinite(labels), strict=True) if known]
        if not groups:
            continue
        remark = uneven(len(groups), **group_sizes(groups))
        a, b = resample(labels, [this.predicted[..., i], that.predicted[..., i]], all_groups)
        value, interval = difference(a, b)
        for k, figure in enumerate(METRICS):
            lower, upper = interval[k].tolist()
            figures = float(a.value[k]), float(b.value[k]), float(value[k])
            out.append(Difference(dimension, *names, figure, *figures, lower, upper, len(groups), remark))
    return out


def not_compared(this: Predictions, that: Predictions, names: tuple[str, str]) -> list[str]:
    """Sentences on the dimensions that only one of two runs predicts."""
    shared = common(this, that)
    pairs = zip(names, names[::-1], (this, that), strict=True)
    only = [(a, b, [d for d in p.dimensions if d not in shared]) for a, b, p in pairs]
    return [f"Not compared: {', '.join(found)}, which {a} predicts and {b} does not." for a, b, found in only if found]


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
        f"On the {tracks} tracks that both predicted, not trained on; 95 % intervals of the paired difference, "
        "bootstrap over groups. Not distinguishable: the interval includes 0. Each is one comparison, not corrected "
        f"for their number.{remarks}"
    )


def dimensions_of(differences: Sequence[Difference]) -> list[str]:
    """The dimensions that were compared, each once, in their order."""
    return list(dict.fromkeys(d.dimension for d in differences))


def markdown(differences: Sequence[Difference], location: str, remarks: Sequence[str] = ()) -> str:
    """``report/against.md``; location: the run or workspace compared with; remarks: of `not_compared`."""
    parts = [f"# This workspace's runs against {markdown_text(location, 500)}", ""]
    for dimension in dimensions_of(differences):
        rows = cells(differences, dimension)
        parts += [f"## {heading(dimension)}", "", *lines(HEAD, rows, n_texts=3, last_is_text=True), ""]
    return "\n".join([*parts, caption(differences), *(markdown_text(remark, 1_000) for remark in remarks), ""])


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
