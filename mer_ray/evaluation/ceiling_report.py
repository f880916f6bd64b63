"""The ceiling of R² in a report: read from ``labels``, as a section of ``report.md``, and as a line for the console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.evaluation.ceiling import Ceiling, Evidence, ceiling
from mer_ray.evaluation.metric_tables import Cells, Table, display, heading, lines, with_ends
from mer_ray.evaluation.rater_ceiling import RaterCeiling, rater_ceiling
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace

FEW = -0.05
"""Below this `Ceiling.chance`, the ceiling is called a lower bound."""
_MOST = 0.9
"""Share of the labels that a ceiling must be of, so that a model's R² on all of them is given as a share of it."""
_BOUND = (
    " There are few different tags, and none is in both halves, which makes them differ: the ceiling is a lower bound, "
    "and shares are upper bounds."
)


@dataclass(frozen=True)
class Ceilings:
    """What limits R²: the sample of tags, and the sample of raters.

    Attributes:
        tags: Of labels from tags; None where there are too few.
        raters: Dimension → of labels with raters' standard errors.
        n_labels: Dimension → labels of any kind.
        n_tagged: How many labels are from tags.
    """

    tags: Ceiling | None
    raters: Mapping[str, RaterCeiling]
    n_labels: Mapping[str, int]
    n_tagged: int

    def reliability(self, dimension: str) -> tuple[float, int] | None:
        """(the ceiling of R², how many labels it holds for), of the kind with the most labels; None without one."""
        kinds = []
        if (raters := self.raters.get(dimension)) is not None:
            kinds.append((raters.reliability, raters.n))
        if self.tags is not None and dimension in DIMENSIONS and dimension in self.n_labels:
            kinds.append((float(self.tags.reliability[DIMENSIONS.index(dimension)]), self.n_tagged))
        return max(kinds, key=lambda kind: kind[1], default=None)

    def share(self, dimension: str, r2: float) -> str:
        """An R² as a share of the ceiling, in words; "–" where that holds for a part of the labels only."""
        found = self.reliability(dimension)
        if found is None or found[1] < _MOST * self.n_labels[dimension] or not (r2 > 0 and found[0] > 0):
            return "–"
        return f"{100 * r2 / found[0]:.0f} %"


def read(workspace: Workspace, ids: Sequence[str], groups: Sequence[str]) -> Ceilings | None:
    """The ceilings of these tracks (N,), (N,); None where labels are neither from tags nor have errors, or too few."""
    group = dict(zip(ids, groups, strict=True))
    dimensions = workspace.dimensions("labels")
    columns = ["track_id", *dimensions, *(f"se_{d}" for d in dimensions), "evidence", "n_matched"]
    wanted, pieces = pa.array(list(group), pa.string()), list[pa.Table]()
    for labels in workspace.batches("labels", columns):
        pieces.append(labels.filter(pc.is_in(labels["track_id"], wanted)))
    if not pieces:
        return None
    table = pa.concat_tables(pieces)
    own = [group[i] for i in table["track_id"].to_pylist()]
    tagged = table["n_matched"].to_numpy() > 0
    raters, n_labels = {}, {}
    for d in dimensions:
        values, errors = (table[name].to_numpy().astype(float) for name in (d, f"se_{d}"))
        n_labels[d] = int((~np.isnan(values)).sum())
        if found := rater_ceiling(values, np.where(tagged, np.nan, errors), own):
            raters[d] = found
    of_tags = ceiling(Evidence.of(table["evidence"]), own) if tagged.any() else None
    if of_tags is None and not raters:
        return None
    return Ceilings(of_tags, raters, n_labels, int(tagged.sum()))


def markdown(found: Ceilings | None, tables: Sequence[Table]) -> str:
    """The section: the ceiling of each dimension, and every model's R² as a share of it; "" without one."""
    if found is None:
        return ""
    text = ["## Ceiling", ""]
    if found.tags is not None:
        text += _about_tags(found.tags, tables)
    if found.raters:
        text += _about_raters(found.raters, tables)
    # Not every table has every model.
    r2 = {t.dimension: {(r.network, r.feature): r.metrics["r2"] for r in t.rows if not r.constant} for t in tables}
    shares: Cells = [
        [(display(network), False), (display(feature), False)]
        + [(found.share(t.dimension, r2[t.dimension].get((network, feature), math.nan)), False) for t in tables]
        for network, feature in dict.fromkeys(names for of_table in r2.values() for names in of_table)
    ]
    if all(cell == "–" for row in shares for cell, _ in row[2:]) and found.tags is not None and found.raters:
        return "\n".join(
            [*text, "Each ceiling holds for a part of the labels, so no R² is given as a share of it.", ""]
        )
    heads = ["Network", "Feature", *(f"{heading(t.dimension)}, R² / ceiling" for t in tables)]
    return "\n".join([*text, *lines(heads, shares)])


def _about_tags(found: Ceiling, tables: Sequence[Table]) -> list[str]:
    about = (
        f"Labels from tags are samples: other tags of the same track would have given another label. For {found.n:,} "
        f"tracks with two tags or more, of {found.n_labels:,} labelled from tags, random halves of the tags were "
        f"labelled apart, {found.splits} times; r is the correlation of the two. The reliability of the whole label "
        "that follows (Spearman 1910, Brown 1910; for weighted tags by their weights) is the R² of a model that knows "
        "the value behind each label exactly: the highest to be expected. In brackets: 95 % intervals, bootstrap over "
        f"groups.{_BOUND if found.chance < FEW else ''}"
    )
    own: Cells = []
    for name in (table.dimension for table in tables if table.dimension in DIMENSIONS):
        i = DIMENSIONS.index(name)
        ends = with_ends("r2", found.reliability[i], found.interval[i])
        own.append([(name, False), (f"{found.halves[i]:.3f}", False), (ends, False)])
    return [about, "", *lines(["Dimension", "r between halves", "Ceiling of R²"], own, n_texts=1), ""]


def _about_raters(found: Mapping[str, RaterCeiling], tables: Sequence[Table]) -> list[str]:
    about = (
        "Labels from raters are samples: other raters would have given other means. Of the labels with a standard "
        "error, reliability is 1 - mean(SE²) / variance of the labels (Lord and Novick 1968): the R² of a model that "
        "knows the value behind each label exactly, the highest to be expected. Its root is the highest r. In brackets:"
        " 95 % intervals, bootstrap over groups."
    )
    own: Cells = [
        [
            (table.dimension, False),
            (f"{one.n:,}", False),
            (f"{one.error:.3f}", False),
            (f"{one.deviation:.3f}", False),
            (with_ends("r2", one.reliability, one.interval), False),
            (f"{math.sqrt(one.reliability):.3f}", False),
        ]
        for table in tables
        if (one := found.get(table.dimension)) is not None
    ]
    heads = ["Dimension", "Labels", "Standard error", "SD of labels", "Ceiling of R²", "Highest r"]
    return [about, "", *lines(heads, own, n_texts=1), ""]


def remark(found: Ceilings | None, tables: Sequence[Table]) -> list[str]:
    """A sentence for the console on each kind of ceiling, or none."""
    if found is None:
        return []
    best = {
        table.dimension: max(
            (row.metrics["r2"] for row in table.rows if not math.isnan(row.metrics["r2"])), default=math.nan
        )
        for table in tables
    }
    said = []
    if found.tags is not None:
        values = {d: float(found.tags.reliability[i]) for i, d in enumerate(DIMENSIONS) if d in best}
        how = f"from halves of the tags of {found.tags.n:,} tracks"
        said.append(_sentence(found, values, best, how, found.tags.chance < FEW))
    if found.raters:
        values = {d: one.reliability for d, one in found.raters.items() if d in best}
        said.append(_sentence(found, values, best, "from the raters' standard errors", False))
    return said


def _sentence(found: Ceilings, values: Mapping[str, float], best: Mapping[str, float], how: str, is_bound: bool) -> str:
    parts = []
    for name, value in values.items():
        share = found.share(name, best[name])
        parts.append(f"{name} {value:.2f}" + ("" if share == "–" else f" (the best R² is {share} of it)"))
    bound = "; with so few different tags, a lower bound" if is_bound else ""
    return f"Highest R² to be expected, {how}: {', '.join(parts)}{bound}."
