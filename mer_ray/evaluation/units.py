"""Errors in the unit of the ratings themselves, where they came on another scale than 0..1, such as 1..9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer_ray.evaluation.metric_tables import Cells, Table, display, heading, lines, scale_in_words
from mer_ray.evaluation.metrics import INDEX
from mer_ray.io.last_command import SOURCE
from mer_ray.io.store import Store

ERRORS = ("rmse", "mae")
_DECIMALS = 3


def of_source(workspace: Store) -> list[float] | None:
    """The lowest and highest rating of the workspace's manifests; None where they are 0 and 1, unknown, or differ."""
    recorded = ((workspace.read_json(*SOURCE) or {}).get("collect") or {}).get("scale")
    scales = recorded.values() if isinstance(recorded, Mapping) else recorded or ()
    if len(scales) == 2 and all(isinstance(end, int | float) for end in scales):
        scales = [scales]
    different = {tuple(map(float, scale)) for scale in scales}
    if len(different) != 1:
        return None
    [(low, high)] = different
    return None if (low, high) == (0, 1) else [low, high]


def error(value: float, scale: Sequence[float]) -> str:
    """An RMSE or MAE of labels in 0..1 on that scale; – for NaN."""
    return "–" if np.isnan(value) else f"{value * (scale[1] - scale[0]):.{_DECIMALS}f}"


def markdown(tables: Sequence[Table]) -> str:
    """A section: RMSE and MAE of every row, with the intervals of RMSE; "" where labels came on the scale 0..1."""
    scale = next((table.scale for table in tables if table.scale is not None), None)
    if scale is None:
        return ""
    parts = [f"## On the scale {scale_in_words(scale)}", "", "RMSE and MAE in the unit of the ratings."]
    for table in tables:
        heads = ["Network", "Feature", "RMSE", "95 % interval", "MAE"]
        rows: Cells = []
        for row in table.rows:
            rmse, mae = (error(row.metrics[name], scale) for name in ERRORS)
            ends = ", ".join(error(end, scale) for end in row.intervals[INDEX["rmse"]])
            texts = [display(row.network), display(row.feature), rmse, f"[{ends}]", mae]
            rows.append([(text, False) for text in texts])
        parts += ["", f"{table.title}:", "", *lines(heads, rows)]
    return "\n".join(parts)


def remark(metrics: Mapping[str, Any], dimensions: Sequence[str], scale: Sequence[float] | None) -> list[str]:
    """A sentence with the errors of each dimension, or none. metrics: by dimension, of ``model.json``."""
    if scale is None:
        return []
    own = [
        f"{heading(d).lower()} {error(metrics[d]['rmse'], scale)} and {error(metrics[d]['mae'], scale)}"
        for d in dimensions
    ]
    return [f"On the ratings' own scale {scale_in_words(scale)}, RMSE and MAE are: {'; '.join(own)}."]
