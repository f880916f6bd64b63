"""R² of each model with its 95 % interval, as a drawing (SVG) in the page's own colours."""

from __future__ import annotations

import html
import math

import numpy as np

from mer_ray.evaluation.metric_tables import Table, name, number, with_ends
from mer_ray.evaluation.metrics import INDEX

ROW, TOP, LEFT, RIGHT, WIDTH = 26, 8, 190, 64, 760
LOWEST = -0.5
"""R² below is drawn at this place, with an arrow."""


def drawing(table: Table) -> str:
    """An ``svg`` element: a line for each row of the table with an R²; "" where there is none."""
    column = INDEX["r2"]
    rows = [row for row in table.rows if math.isfinite(row.metrics["r2"])]
    if not rows:
        return ""
    ends = [[end if math.isfinite(end) else row.metrics["r2"] for end in row.intervals[column]] for row in rows]
    low = max(LOWEST, min(0.0, math.floor(10 * min(e[0] for e in ends)) / 10))
    height = TOP + ROW * len(rows) + 34

    def x(value: float) -> float:
        return LEFT + (min(1.0, max(low, value)) - low) / (1 - low) * (WIDTH - LEFT - RIGHT)

    parts = []
    step = 0.2 if low > -0.4 else 0.25
    for tick in np.arange(math.ceil(low / step - 1e-9) * step, 1.0001, step):
        at, bottom = x(tick), height - 34
        kind = "axis zero" if abs(tick) < 1e-9 else "axis"
        parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{tick + 0.0:.2g}</text>')
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 4}" text-anchor="middle">R²</text>')
    for i, (row, (lower, upper)) in enumerate(zip(rows, ends, strict=True)):
        y, r2 = TOP + ROW * (i + 0.5), row.metrics["r2"]
        kind = "best" if row.best else "near" if row.near_best else "row"
        parts.append(
            f'<g class="{kind}"><title>{html.escape(name(row))}: {with_ends("r2", r2, (lower, upper))}</title>'
        )
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{html.escape(name(row))}</text>')
        if upper >= low:
            parts.append(f'<line x1="{x(lower):.1f}" x2="{x(upper):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{x(r2):.1f}" cy="{y}" r="{5 if row.best else 4}"/>')
        parts.append(f'<text class="value" x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{number("r2", r2)}</text></g>')
    about = html.escape(f"{table.title}: R² of each model with its 95 % interval; the table has the same figures")
    return f'<svg class="forest" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{about}">{"".join(parts)}</svg>'
