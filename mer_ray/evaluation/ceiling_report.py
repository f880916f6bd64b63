"""The ceiling of R² in a report: read from ``labels``, as a section of ``report.md``, and as a line for the console."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.evaluation.ceiling import Ceiling, Evidence, ceiling
from mer_ray.evaluation.metric_tables import Cells, Table, display, lines, with_ends
from mer_ray.io.tables import Workspace

FEW = -0.05
"""Below this `Ceiling.chance`, the ceiling is called a lower bound."""
_BOUND = (
    " There are few different tags, and none is in both halves, which makes them differ: the ceiling is a lower bound, "
    "and shares are upper bounds."
)


def read(workspace: Workspace, ids: Sequence[str], groups: Sequence[str]) -> Ceiling | None:
    """The ceiling of these tracks (N,), (N,); None where their labels are not from tags, or of too few."""
    group = dict(zip(ids, groups, strict=True))
    wanted, pieces = pa.array(list(group), pa.string()), list[pa.Table]()
    for labels in workspace.batches("labels", ["track_id", "evidence"]):
        pieces.append(labels.filter(pc.is_in(labels["track_id"], wanted)))
    if not pieces:
        return None
    table = pa.concat_tables(pieces)
    return ceiling(Evidence.of(table["evidence"]), [group[i] for i in table["track_id"].to_pylist()])


def markdown(found: Ceiling | None, tables: Sequence[Table]) -> str:
    """The section: the ceiling of each dimension, and every model's R² as a share of it; "" without one."""
    if found is None:
        return ""
    about = (
        f"Labels from tags are samples: other tags of the same track would have given another label. For {found.n:,} "
        f"tracks with two tags or more, of {found.n_labels:,} labelled from tags, random halves of the tags were "
        f"labelled apart, {found.splits} times; r is the correlation of the two. The reliability of the whole label "
        "that follows (Spearman 1910, Brown 1910; for weighted tags by their weights) is the R² of a model that knows "
        "the value behind each label exactly: the highest to be expected. In brackets: 95 % intervals, bootstrap over "
        f"groups.{_BOUND if found.chance < FEW else ''}"
    )
    own: Cells = [
        [
            (table.dimension, False),
            (f"{found.halves[i]:.3f}", False),
            (with_ends("r2", found.reliability[i], found.interval[i]), False),
        ]
        for i, table in enumerate(tables)
    ]
    shares: Cells = [
        [(display(row.network), False), (display(row.feature), False)]
        + [(_share(found, i, table.rows[k].metrics["r2"]), False) for i, table in enumerate(tables)]
        for k, row in enumerate(tables[0].rows)
        if not row.constant
    ]
    heads = ["Network", "Feature", *(f"{t.dimension.capitalize()}, R² / ceiling" for t in tables)]
    head = lines(["Dimension", "r between halves", "Ceiling of R²"], own, n_texts=1)
    return "\n".join(["## Ceiling", "", about, "", *head, "", *lines(heads, shares)])


def remark(found: Ceiling | None, tables: Sequence[Table]) -> list[str]:
    """One sentence for the console, or none."""
    if found is None:
        return []
    parts = []
    for i, table in enumerate(tables):
        best = max((row.metrics["r2"] for row in table.rows if not math.isnan(row.metrics["r2"])), default=math.nan)
        parts.append(f"{table.dimension} {found.reliability[i]:.2f} (the best R² is {_share(found, i, best)} of it)")
    bound = "; with so few different tags, a lower bound" if found.chance < FEW else ""
    return [f"Highest R² to be expected, from halves of the tags of {found.n:,} tracks: {', '.join(parts)}{bound}."]


def _share(found: Ceiling, i: int, r2: float) -> str:
    return "–" if not (r2 > 0 and found.reliability[i] > 0) else f"{100 * r2 / found.reliability[i]:.0f} %"
