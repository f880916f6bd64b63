"""Labels over time, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """The labels of one track over time.

    Attributes:
        time_s: (n,), ascending, in seconds from the start of the audio.
        values: (n, D) in 0..1, NaN where a dimension has no label at that time.
    """

    time_s: np.ndarray
    values: np.ndarray


def from_rows(rows: Sequence[Mapping[str, Any]] | None, dimensions: Sequence[str]) -> Curve | None:
    """A cell of the column ``curves`` (`io.schemas.CURVE`), for these dimensions; None where it has none of them."""
    own = {row["dimension"]: row for row in rows or () if row["dimension"] in dimensions and row["time_s"]}
    if not own:
        return None
    time_s = np.unique(np.concatenate([np.asarray(row["time_s"], np.float64) for row in own.values()]))
    values = np.full((len(time_s), len(dimensions)), np.nan)
    for i, name in enumerate(dimensions):
        if name in own:
            values[np.searchsorted(time_s, np.asarray(own[name]["time_s"], np.float64)), i] = own[name]["value"]
    return Curve(time_s, values)
