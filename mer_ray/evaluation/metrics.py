"""Errors of predictions against labels, one dimension at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """mse, mae: in squared and plain units of the label (0..1). r2: against the mean of these very labels, -inf..1.

    n: tracks. label_sd: standard deviation of the labels (divided by n), whose square is the MSE of their mean.
    """

    mse: float
    mae: float
    r2: float
    n: int
    label_sd: float


def metrics(true: np.ndarray, predicted: np.ndarray) -> Metrics:
    """Metrics of predictions (n,) against labels (n,). r2 is NaN where the labels do not vary."""
    error = predicted - true
    mse = float(np.mean(np.square(error)))
    variance = float(np.var(true))
    return Metrics(
        mse=mse,
        mae=float(np.mean(np.abs(error))),
        r2=1 - mse / variance if np.ptp(true) > 0 else float("nan"),  # the variance of equal labels is not quite 0
        n=len(true),
        label_sd=float(np.sqrt(variance)),
    )


def constant_mean(true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What a model predicts that knows only the mean of its training labels: labels (n,), folds (n,) → (n,)."""
    predicted = np.empty(len(true))
    for f in np.unique(fold):
        predicted[fold == f] = true[fold != f].mean()
    return predicted


def interval_radius(residuals: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Half-width of a prediction interval per column: residuals (n, 3) → (3,).

    The ceil((n + 1) level)-th smallest absolute residual of split conformal prediction (Lei et al. 2018, JASA
    113(523), 1094-1111), taken over out-of-fold residuals; the largest one where n is too small for the level.
    """
    n = len(residuals)
    rank = min(n, int(np.ceil((n + 1) * level)))
    radius: np.ndarray = np.sort(np.abs(residuals), axis=0)[rank - 1]
    return radius
