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
Values = tuple[float | None, ...]
"""A number or None for each dimension."""

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


def values(cells: Sequence[Any], dimensions: Sequence[str] = DIMENSIONS) -> Values | None:
    """The labels of the dimensions on the manifest's scale; None if all are missing. Raises TrackError."""
    found = tuple(_number(cell, dimension) for dimension, cell in zip(dimensions, cells, strict=True))
    return found if any(x is not None for x in found) else None


def _number(cell: Any, what: str) -> float | None:
    try:
        return value(cell)
    except (TypeError, ValueError, OverflowError) as error:
        raise TrackError("bad_label", f"{what} is not a number: {one_line(repr(cell), 40)}") from error


def rescaled(label: Values, scale: Scale, dimensions: Sequence[str] = DIMENSIONS) -> Values:
    """Map a label to 0..1. Raises TrackError (``bad_label``) for a value outside the scale."""
    low, high = scale
    for dimension, x in zip(dimensions, label, strict=True):
        if x is not None and is_outside(x, scale):
            problem = f"{dimension} {x:g} is outside the scale {low:g}..{high:g}; declare the scale as collect.scale"
            raise TrackError("bad_label", problem)
    return tuple(None if x is None else min(1.0, max(0.0, (x - low) / (high - low))) for x in label)


def standard_error(se: Any, sd: Any, n: Any, scale: Scale, dimension: str) -> float | None:
    """The standard error of a label on 0..1, from cells; None where there is none.

    se: on the manifest's scale. Without it, it is SD / √n, where sd is the SD over n raters; the SD over fewer than two
    says nothing. Raises TrackError (``bad_label``) for what cannot be an error of a mean on that scale.
    """
    width, raters, what = scale[1] - scale[0], 1.0, f"the standard error of {dimension}"
    found, largest = _number(se, what), width / 2
    if found is None:
        what = f"the SD of {dimension}"
        found, n_raters = _number(sd, what), _number(n, f"the number of raters of {dimension}")
        if found is None or n_raters is None or n_raters < 2:
            return None
        # The largest SD is that of half the raters at the lowest value, and half at the highest.
        raters, largest = n_raters, width / 2 * math.sqrt(n_raters / (n_raters - 1))
    if not 0 <= found <= largest * (1 + _ROUNDING):
        raise TrackError(
            "bad_label", f"{what}, {found:g}, must be 0 to {largest:g} on the scale {scale[0]:g}..{scale[1]:g}"
        )
    return found / math.sqrt(raters) / width


def is_outside(x: float, scale: Scale) -> bool:
    """Whether a value is outside the scale by more than rounding."""
    slack = (scale[1] - scale[0]) * _ROUNDING
    return not scale[0] - slack <= x <= scale[1] + slack


@dataclass
class Labels:
    """Statistics of labels on a scale.

    Attributes:
        scale: As declared by ``setting``.
        dimensions: Of the labels, in order.
        n: Rows, with and without a label.
        labelled: Rows with a label of any dimension.
        n_values, n_outside, lowest, highest: By dimension; outside of the declared scale.
        n_errors: Labels with a standard error, by dimension.
        rows_outside: Some of the rows that have a value outside.
        setting: The name of the setting that declares the scale.
    """

    scale: Scale
    dimensions: Sequence[str] = DIMENSIONS
    n: int = 0
    labelled: int = 0
    n_values: list[int] = field(default_factory=list)
    n_outside: list[int] = field(default_factory=list)
    n_errors: list[int] = field(default_factory=list)
    lowest: list[float] = field(default_factory=list)
    highest: list[float] = field(default_factory=list)
    rows_outside: list[int] = field(default_factory=list)
    setting: str = "collect.scale"

    def __post_init__(self) -> None:
        size = len(self.dimensions)
        self.n_values, self.n_outside, self.n_errors = ([0] * size for _ in range(3))
        self.lowest, self.highest = [math.inf] * size, [-math.inf] * size

    def add(self, row: int, label: Values | None) -> None:
        """Add a row's label, on the manifest's scale."""
        self.n += 1
        if label is None:
            return
        self.labelled += 1
        for i, x in enumerate(label):
            if x is not None:
                self.add_value(row, i, x)

    def add_value(self, row: int, i: int, x: float) -> None:
        """Add a value of dimension i, on the manifest's scale."""
        self.n_values[i] += 1
        self.lowest[i], self.highest[i] = min(self.lowest[i], x), max(self.highest[i], x)
        if is_outside(x, self.scale):
            self.n_outside[i] += 1
            if len(self.rows_outside) <= _ROWS_NAMED and row not in self.rows_outside[-1:]:
                self.rows_outside.append(row)

    def add_errors(self, errors: Values) -> None:
        """Count the standard errors of a label."""
        for i, x in enumerate(errors):
            self.n_errors[i] += x is not None

    def check(self, manifest: str) -> None:
        """Raises InputError where values are outside the scale: a wrong scale, or typing errors."""
        if not self.rows_outside:
            return
        low, high = self.scale
        total = self.n or max(self.n_values)
        ranges = [
            f"{d} runs from {self.lowest[i]:g} to {self.highest[i]:g}, outside in {self.n_outside[i]:,} of {total:,}"
            for i, d in enumerate(self.dimensions)
            if self.n_outside[i]
        ]
        rows = ", ".join(map(str, self.rows_outside[:_ROWS_NAMED]))
        rows += ", ..." if len(self.rows_outside) > _ROWS_NAMED else ""
        first, *others = [f"[{a:g},{b:g}]" for a, b in self._fitting()]
        more = f" (or {' or '.join(others)})" if others else ""
        declare = f"declare the scale of the ratings, as in --set {self.setting}={first}{more}"
        mend = f"if these are typing errors, mend row {rows}"
        is_few = 20 * max(self.n_outside) <= total
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
        """Remarks for the user: how many labels of which dimensions there are, and whether they use the scale."""
        if not self.labelled:
            return []
        low, high = self.scale
        has_all = set(self.n_values) == {self.labelled}
        counts = "" if has_all else f" ({self._by_dimension(self.n_values)})"
        errors = f", with standard errors ({self._by_dimension(self.n_errors)})" if any(self.n_errors) else ""
        lines = [
            f"labels on the scale {low:g}..{high:g}: {self.labelled:,} of {self.n:,} rows have a label{counts}{errors}"
        ]
        return [*lines, *self.doubts()]

    def doubts(self) -> list[str]:
        """A remark where the labels use so little of the scale that it may be another."""
        low, high = self.scale
        lowest, highest = min(self.lowest), max(self.highest)
        is_strange = highest - lowest < (high - low) / 8 or (low < 0 <= lowest)
        if max(self.n_values) < _ENOUGH or not is_strange:
            return []
        return [
            f"all labels lie in {lowest:g}..{highest:g}: if {low:g}..{high:g} is not the scale that they were rated"
            f" on, set {self.setting}"
        ]

    def _by_dimension(self, counts: Sequence[int]) -> str:
        return ", ".join(f"{d} {n:,}" for d, n in zip(self.dimensions, counts, strict=True))
