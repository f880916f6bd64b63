"""Errors of predictions against labels, one dimension at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FIGURES = ("mse", "mae", "rmse", "r2", "r", "ccc")
"""The figures of a prediction, in the order in which arrays hold them."""
SMALLER_IS_BETTER = ("mse", "mae", "rmse")
CONSTANT_SD = 1e-10
"""Values in 0..1 that vary by less are all the same: what is left is rounding."""


@dataclass(frozen=True)
class Metrics:
    """How far predictions are from labels. A figure of several repeats is its mean over them.

    mse, mae, rmse: in squared and plain units of the label (0..1). r2: against the mean of these very labels, -inf..1.
    r: Pearson's correlation, -1..1. ccc: Lin's concordance (1989, Biometrics 45(1), 255-268), -1..1, which also asks
    for the right mean and spread. n: tracks. label_sd: standard deviation of the labels (divided by n), whose square is
    the MSE of their mean.

    Labels that do not vary: r2, r and ccc are NaN. Predictions that do not vary: r is NaN, ccc is 0.
    """

    mse: float
    mae: float
    rmse: float
    r2: float
    r: float
    ccc: float
    n: int
    label_sd: float

    @property
    def figures(self) -> np.ndarray:
        """(6,), in the order of `FIGURES`."""
        return np.array([getattr(self, name) for name in FIGURES])


def metrics(true: np.ndarray, predicted: np.ndarray) -> Metrics:
    """Metrics of predictions (N,), or of repeats (R, N), against labels (N,)."""
    mse, mae, rmse, r2, r, ccc = repeated_figures(moments(true, predicted).sum(axis=-2)).tolist()
    return Metrics(mse, mae, rmse, r2, r, ccc, n=len(true), label_sd=float(np.std(true)))


def moments(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What `figures` needs of each track, so that it can be summed over any of them.

    Labels (N,), predictions (N,) or (R, N) → (R, N, 9); R is 1 for (N,). The columns: 1, t, t², p, p², tp, |e|, e² and
    the distance of the means, where t and p are labels and predictions less their own means (sums of squares of values
    far from 0 would lose digits) and e is the error.
    """
    predicted = np.atleast_2d(predicted)
    error = predicted - true
    t = np.broadcast_to(true - true.mean(), predicted.shape)
    p = predicted - predicted.mean(axis=1, keepdims=True)
    apart = np.broadcast_to(error.mean(axis=1, keepdims=True), predicted.shape)
    return np.stack([np.ones_like(t), t, t * t, p, p * p, t * p, np.abs(error), error * error, apart], axis=-1)


def figures(sums: np.ndarray) -> np.ndarray:
    """Sums of `moments` (..., 9) → the `FIGURES` (..., 6)."""
    n = sums[..., 0]
    mean_t, square_t, mean_p, square_p, product, mae, mse, apart = np.moveaxis(sums[..., 1:], -1, 0) / n
    variance_t, variance_p = square_t - mean_t**2, square_p - mean_p**2
    covariance = product - mean_t * mean_p
    variance_t = np.where(variance_t > CONSTANT_SD**2, variance_t, np.nan)
    varies_p = variance_p > CONSTANT_SD**2
    r = covariance / np.sqrt(variance_t * np.where(varies_p, variance_p, np.nan))
    ccc = 2 * covariance / (variance_t + variance_p + (mean_p - mean_t + apart) ** 2)
    ccc = np.where(varies_p, ccc, 0 * variance_t)  # 0, or NaN where the labels do not vary
    return np.stack([mse, mae, np.sqrt(mse), 1 - mse / variance_t, np.clip(r, -1, 1), ccc], axis=-1)


def repeated_figures(sums: np.ndarray) -> np.ndarray:
    """Sums of `moments` of R repeats (..., R, 9) → the mean of each figure over the repeats (..., 6)."""
    mean: np.ndarray = figures(sums).mean(axis=-2)
    return mean


def constant_mean(true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What a model predicts that knows only the mean of its training labels: labels (N,), folds (N,) → (N,)."""
    predicted = np.empty(len(true))
    for f in np.unique(fold):
        predicted[fold == f] = true[fold != f].mean()
    return predicted


def constant_median(true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The same with the median, which has the smaller absolute error: labels (N,), folds (N,) → (N,)."""
    predicted = np.empty(len(true))
    for f in np.unique(fold):
        predicted[fold == f] = np.median(true[fold != f])
    return predicted


def spread(true: np.ndarray, predicted: np.ndarray, fold: np.ndarray) -> float:
    """How much predictions vary, as a share of the labels' SD: labels (N,), predictions and folds (R, N).

    Within folds, since each fold's model sits at another level, even one that knows nothing; mean over the repeats.
    NaN where the labels do not vary.
    """
    label_sd = float(np.std(true))
    if label_sd <= CONSTANT_SD:
        return float("nan")
    sds = []
    for values, part in zip(np.atleast_2d(predicted), np.atleast_2d(fold), strict=True):
        _, index = np.unique(part, return_inverse=True)
        level = np.bincount(index, values) / np.bincount(index)
        sds.append(np.sqrt(np.mean((values - level[index]) ** 2)))
    return float(np.mean(sds)) / label_sd
