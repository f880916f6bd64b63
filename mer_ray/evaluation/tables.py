"""The tables that people read: one per dimension, the constant mean first, the best figures in bold."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mer_ray.evaluation.metrics import Metrics

NAMES = {"vggish": "VGGish", "logmel": "log-mel", "chroma": "chroma", "spectral": "spectral", "yamnet": "YAMNet"}
CONSTANT = "constant mean"
COLUMNS = ("Network", "Feature", "MSE", "MAE", "R²")


def display(name: str) -> str:
    """``mfcc`` → MFCC, ``vggish`` → VGGish; the constant mean as it is."""
    return name if name in (CONSTANT, "-") else NAMES.get(name, name.upper())


@dataclass(frozen=True)
class Row:
    """One line of a table. network and feature are names as in the settings; feature is "-" for the constant mean."""

    network: str
    feature: str
    metrics: Metrics


@dataclass(frozen=True)
class Table:
    """One dimension's rows, and what a reader has to know about them."""

    dimension: str
    rows: Sequence[Row]
    caption: str

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Text and whether it is bold, per row and column. All rows that share the best figure are bold."""
        figures = [(f"{r.metrics.mse:.4f}", f"{r.metrics.mae:.4f}", f"{r.metrics.r2:.3f}") for r in self.rows]
        values = [(float(mse), float(mae), -float(r2)) for mse, mae, r2 in figures]
        best = [min((v[c] for v in values if not math.isnan(v[c])), default=math.nan) for c in range(3)]
        return [
            [(display(row.network), False), (display(row.feature), False)]
            + [(figures[i][c], values[i][c] == best[c]) for c in range(3)]
            for i, row in enumerate(self.rows)
        ]


def markdown(table: Table) -> str:
    """A section with the table and its caption."""
    lines = [
        f"### {table.dimension.capitalize()}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in table.cells():
        lines.append("| " + " | ".join(f"**{text}**" if bold else text for text, bold in row) + " |")
    return "\n".join([*lines, "", table.caption, ""])


def to_csv(tables: Sequence[Table]) -> str:
    """dimension, network, feature, mse, mae, r2, n, label_sd: full precision, one line per row of each table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["dimension", "network", "feature", "mse", "mae", "r2", "n", "label_sd"])
    for table in tables:
        for row in table.rows:
            m = row.metrics
            writer.writerow(
                [table.dimension, row.network, row.feature, *map(repr, (m.mse, m.mae, m.r2)), m.n, repr(m.label_sd)]
            )
    return out.getvalue()
