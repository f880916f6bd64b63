"""The labels of a manifest: numbers on a scale, some of which may be missing, and a check of that scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mer_ray.errors import InputError, TrackError
from mer_ray.io.delimited import is_missing, number
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS

Scale = tuple[float, float]
Values = tuple[float | None, float | None, float | None]

_SCALES: tuple[Scale, ...] = (
    *((0, 1), (-1, 1), (1, 5), (1, 7), (1, 9), (0, 10), (1, 10), (0, 5), (-2, 2), (-3, 3), (-4, 4), (-5, 5), (0, 100)),
    *((1, 100), (-10, 10), (-100, 100), (0, 255), (0, 1_000), (-1_000, 1_000)),
)
"""Common rating scales, the most usual ones first."""
_ROUNDING = 1e-6
"""The share of the scale by which a value may exceed its ends, for float32."""
_ROWS_NAMED = 8
_ENOUGH = 20
"""With so many labels, a narrow range on the scale is suspicious."""


def value(cell: Any) -> float | None:
    """The number in a cell, None where there is none. Raises ValueError."""
    if cell is None:
        return None
    if isinstance(cell, str):
        return None if is_missing(cell) else number(cell)
    if isinstance(cell, bool):
        raise ValueError(f"{cell} is not a number")
    found = float(cell)
    if math.isnan(found):
        return None
    if math.isinf(found):
        raise ValueError(f"{cell} is not a number")
    return found


def values(cells: Sequence[Any]) -> Values | None:
    """Valence, arousal and dominance on the manifest's scale; None if all are missing. Raises TrackError."""
    found = []
    for dimension, cell in zip(DIMENSIONS, cells, strict=True):
        try:
            found.append(value(cell))
        except (TypeError, ValueError, OverflowError) as error:
            raise TrackError("bad_label", f"{dimension} is not a number: {one_line(repr(cell), 40)}") from error
    return None if found == [None, None, None] else (found[0], found[1], found[2])


def rescaled(label: Values, scale: Scale) -> Values:
    """Map a label to 0..1. Raises TrackError (``bad_label``) for a value outside the scale."""
    low, high = scale
    for dimension, x in zip(DIMENSIONS, label, strict=True):
        if x is not None and _is_outside(x, scale):
            problem = f"{dimension} {x:g} is outside the scale {low:g}..{high:g}; declare the scale as collect.scale"
            raise TrackError("bad_label", problem)
    v, a, d = (None if x is None else min(1.0, max(0.0, (x - low) / (high - low))) for x in label)
    return v, a, d


def _is_outside(x: float, scale: Scale) -> bool:
    slack = (scale[1] - scale[0]) * _ROUNDING
    return not scale[0] - slack <= x <= scale[1] + slack


@dataclass
class Labels:
    """Statistics of a manifest's labels. lowest, highest: by dimension. outside: of the declared scale."""

    scale: Scale
    complete: int = 0
    partial: int = 0
    none: int = 0
    lowest: list[float] = field(default_factory=lambda: [math.inf] * 3)
    highest: list[float] = field(default_factory=lambda: [-math.inf] * 3)
    n_outside: list[int] = field(default_factory=lambda: [0] * 3)
    rows_outside: list[int] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)

    @property
    def n(self) -> int:
        """Rows, with and without a label."""
        return self.complete + self.partial + self.none

    def add(self, row: int, label: Values | None) -> None:
        """Add a row's label, on the manifest's scale."""
        if label is None:
            self.none += 1
            return
        lacking = [d for d, x in zip(DIMENSIONS, label, strict=True) if x is None]
        self.lacking.update(lacking)
        self.partial += bool(lacking)
        self.complete += not lacking
        is_outside = False
        for i, x in enumerate(label):
            if x is None:
                continue
            self.lowest[i], self.highest[i] = min(self.lowest[i], x), max(self.highest[i], x)
            if _is_outside(x, self.scale):
                self.n_outside[i] += 1
                is_outside = True
        if is_outside and len(self.rows_outside) <= _ROWS_NAMED:
            self.rows_outside.append(row)

    def check(self, manifest: str) -> None:
        """Raises InputError where values are outside the scale: a wrong scale, or typing errors."""
        if not self.rows_outside:
            return
        low, high = self.scale
        ranges = [
            f"{d} runs from {self.lowest[i]:g} to {self.highest[i]:g}, outside in {self.n_outside[i]:,} of {self.n:,}"
            for i, d in enumerate(DIMENSIONS)
            if self.n_outside[i]
        ]
        rows = ", ".join(map(str, self.rows_outside[:_ROWS_NAMED]))
        rows += ", ..." if len(self.rows_outside) > _ROWS_NAMED else ""
        first, *others = [f"[{a:g},{b:g}]" for a, b in self._fitting()]
        more = f" (or {' or '.join(others)})" if others else ""
        declare = f"declare the scale of the ratings, as in --set collect.scale={first}{more}"
        mend = f"if these are typing errors, mend row {rows}"
        is_few = 20 * max(self.n_outside) <= self.n
        raise InputError(
            f"{manifest}: labels outside the scale {low:g}..{high:g} that is in force: {'; '.join(ranges)}",
            f"{mend}, or {declare}" if is_few else f"{declare}, or {mend}",
        )

    def _fitting(self) -> list[Scale]:
        low, high = min(self.lowest), max(self.highest)
        fitting = [s for s in _SCALES if s[0] <= low and high <= s[1]]
        near = [s for s in fitting if s[1] - s[0] <= 3 * (fitting[0][1] - fitting[0][0])]
        return near[:3] or [(math.floor(low), math.ceil(high))]

    def notes(self) -> list[str]:
        """Remarks for the user: the number of labels, and whether they use the whole scale."""
        if not self.complete + self.partial:
            return []
        counts = [f"{self.complete:,} of {self.n:,} rows have a label"]
        if self.partial:
            lacking = " or ".join(d for d in DIMENSIONS if d in self.lacking)
            counts.append(f"{self.partial:,} a part of one ({lacking} missing)")
        low, high = self.scale
        lines = [f"labels on the scale {low:g}..{high:g}: {', '.join(counts)}"]
        lowest, highest = min(self.lowest), max(self.highest)
        is_strange = highest - lowest < (high - low) / 8 or (low < 0 <= lowest)
        if self.complete + self.partial >= _ENOUGH and is_strange:
            lines.append(
                f"all labels lie in {lowest:g}..{highest:g}: if {low:g}..{high:g} is not the scale that they were rated"
                " on, set collect.scale"
            )
        return lines
