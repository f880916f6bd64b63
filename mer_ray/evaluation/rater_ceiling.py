"""How well labels that people rated can be predicted at all: their reliability, from the standard errors of raters.

A label is the mean of several raters: label = value + error, where the error is that of the sample of raters, with the
standard error that the manifest states (`sources.manifest`). Errors are independent of the values, so the variance of
the labels is that of the values plus the mean squared error, and

    reliability = 1 - mean(se²) / var(labels)

is the squared correlation of label and value (Lord and Novick 1968, Statistical Theories of Mental Test Scores): the R²
of a model that knows every track's value exactly. Its root is the highest Pearson's r. What raters have in common
counts as value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.evaluation.bootstrap import DRAWS, draw, effective, times_error

FEWEST = 30
"""Tracks with a standard error: with fewer there is no ceiling."""


@dataclass(frozen=True)
class RaterCeiling:
    """The ceiling of one dimension.

    Attributes:
        reliability: 0..1; interval: its lower and upper end, 95 %.
        error: Root mean square of the standard errors, on 0..1.
        deviation: SD of the labels.
        n: Labels with a standard error.
    """

    reliability: float
    interval: tuple[float, float]
    error: float
    deviation: float
    n: int


def rater_ceiling(labels: np.ndarray, errors: np.ndarray, groups: Sequence[str], seed: int = 0) -> RaterCeiling | None:
    """The ceiling from labels (N,) and their standard errors (N,), both NaN where there is none.

    The interval is by a bootstrap over groups (N,). None with fewer than `FEWEST` errors, or for constant labels.
    """
    known = ~(np.isnan(labels) | np.isnan(errors))
    if known.sum() < FEWEST or np.ptp(labels[known]) == 0:
        return None
    x, se = labels[known] - labels[known].mean(), errors[known]
    columns = np.column_stack([np.ones(len(x)), x, x**2, se**2])
    _, index = np.unique(np.asarray(groups, dtype=object).astype(str)[known], return_inverse=True)
    by_group = np.zeros((index.max() + 1, columns.shape[1]))
    np.add.at(by_group, index, columns)
    reliability = _reliability(by_group.sum(axis=0))
    drawn = _reliability(draw(by_group, DRAWS, seed))
    half = times_error(len(by_group), effective(by_group[:, 0])) * float(np.nanstd(drawn[np.isfinite(drawn)], ddof=1))
    low, high = (float(np.clip(reliability + sign * half, 0.0, 1.0)) for sign in (-1, 1))
    return RaterCeiling(
        max(0.0, float(reliability)),
        (low, high),
        float(np.sqrt(np.mean(se**2))),
        float(np.std(x, ddof=1)),
        len(x),
    )


def _reliability(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 4) of 1, label, label², se² → reliability (...)."""
    n, x, squares, errors = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (squares - x**2 / n) / (n - 1)
        out: np.ndarray = 1 - errors / n / variance
    return out
