"""Errors of predictions against labels, one dimension at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CONSTANT_SD = 1e-10
"""Values in 0..1 with a smaller SD are constant up to rounding."""
_EDGE = 1e-12  # the scales are infinite for a perfect prediction


class Scale(NamedTuple):
    """A scale on which a metric is about normally distributed, for its intervals, and the inverse."""

    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


LOG = Scale(lambda error: np.log(np.maximum(error, _EDGE**2)), np.exp)
LOG_UNEXPLAINED = Scale(lambda r2: np.log(np.maximum(1 - r2, _EDGE)), lambda x: 1 - np.exp(x))
FISHER_Z = Scale(lambda r: np.arctanh(np.clip(r, _EDGE - 1, 1 - _EDGE)), np.tanh)


class Means(NamedTuple):
    """The inputs of the metrics, each (...): errors, variances and covariance of labels t and predictions p.

    bias: mean of p minus mean of t. variance_t is NaN where the labels do not vary.
    """

    mse: np.ndarray
    mae: np.ndarray
    variance_t: np.ndarray
    variance_p: np.ndarray
    covariance: np.ndarray
    bias: np.ndarray


def _r(m: Means) -> np.ndarray:
    variance_p = np.where(m.variance_p > CONSTANT_SD**2, m.variance_p, np.nan)
    r: np.ndarray = np.clip(m.covariance / np.sqrt(m.variance_t * variance_p), -1, 1)
    return r


def _ccc(m: Means) -> np.ndarray:
    ccc = 2 * m.covariance / (m.variance_t + m.variance_p + m.bias**2)
    return np.where(m.variance_p > CONSTANT_SD**2, ccc, 0 * m.variance_t)


class Metric(NamedTuple):
    """A metric: its heading, its formula, the scale of its intervals, the decimals shown, and which way is better."""

    heading: str
    of: Callable[[Means], np.ndarray]
    scale: Scale
    decimals: int = 3
    smaller_is_better: bool = False


METRICS = {
    "mse": Metric("MSE", lambda m: m.mse, LOG, 4, smaller_is_better=True),
    "mae": Metric("MAE", lambda m: m.mae, LOG, 4, smaller_is_better=True),
    "rmse": Metric("RMSE", lambda m: np.sqrt(m.mse), LOG, 4, smaller_is_better=True),
    "r2": Metric("R²", lambda m: 1 - m.mse / m.variance_t, LOG_UNEXPLAINED),
    "r": Metric("r", _r, FISHER_Z),
    "ccc": Metric("CCC", _ccc, FISHER_Z),
}
"""Every metric that is computed, in the order in which arrays hold them and tables show them. To add one, add it here.

mse, mae, rmse: in squared and plain units of the label (0..1). r2: against the mean of these labels, -inf..1.
r: Pearson's correlation, -1..1. ccc: Lin's concordance (1989, Biometrics 45(1), 255-268), -1..1, which also depends
on mean and spread. Where labels do not vary, r2, r and ccc are NaN; where predictions do not, r is NaN, ccc 0.
"""
INDEX = {name: i for i, name in enumerate(METRICS)}
"""Position of a metric in arrays whose last axis is M, the number of metrics."""


@dataclass(frozen=True)
class Metrics:
    """Metrics of predictions. A metric of several repeats is its mean over them.

    values: (M,) in the order of `METRICS`. n: tracks. label_sd: standard deviation of the labels (divided by n), whose
    square is the MSE of their mean.
    """

    values: np.ndarray
    n: int
    label_sd: float

    def __getitem__(self, name: str) -> float:
        return float(self.values[INDEX[name]])

    def to_json(self) -> dict[str, float]:
        """Each metric under its name, n and label_sd."""
        return {**{name: self[name] for name in METRICS}, "n": self.n, "label_sd": self.label_sd}


def metrics(true: np.ndarray, predicted: np.ndarray) -> Metrics:
    """Metrics of predictions (N,), or of repeats (R, N), against labels (N,), on the tracks whose label is not NaN."""
    true, predicted = labelled(true, predicted)
    return Metrics(mean_over_repeats(moments(true, predicted).sum(axis=-2)), len(true), float(np.std(true)))


def labelled(true: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Labels (N,) and other arrays (..., N), of the n tracks whose label is known, not NaN: (n,) and (..., n) each."""
    known = np.isfinite(true)
    return (true, *columns) if known.all() else (true[known], *(column[..., known] for column in columns))


def moments(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Each track's inputs of `from_moments`, which can be summed over tracks.

    Labels (N,), predictions (N,) or (R, N) → (R, N, 9); R is 1 for (N,). The columns: 1, t, t², p, p², tp, |e|, e² and
    the difference of the means, where t and p are centred labels and predictions (for the precision of their squares)
    and e is the error.
    """
    predicted = np.atleast_2d(predicted)
    error = predicted - true
    t = np.broadcast_to(true - true.mean(), predicted.shape)
    p = predicted - predicted.mean(axis=1, keepdims=True)
    apart = np.broadcast_to(error.mean(axis=1, keepdims=True), predicted.shape)
    return np.stack([np.ones_like(t), t, t * t, p, p * p, t * p, np.abs(error), error * error, apart], axis=-1)


def from_moments(sums: np.ndarray) -> np.ndarray:
    """Sums of `moments` (..., 9) → `METRICS` (..., M)."""
    n = sums[..., 0]
    mean_t, square_t, mean_p, square_p, product, mae, mse, apart = np.moveaxis(sums[..., 1:], -1, 0) / n
    variance_t = square_t - mean_t**2
    means = Means(
        mse,
        mae,
        np.where(variance_t > CONSTANT_SD**2, variance_t, np.nan),
        square_p - mean_p**2,
        product - mean_t * mean_p,
        mean_p - mean_t + apart,
    )
    return np.stack([metric.of(means) for metric in METRICS.values()], axis=-1)


def mean_over_repeats(sums: np.ndarray) -> np.ndarray:
    """Sums of `moments` of R repeats (..., R, 9) → the mean of each metric over the repeats (..., M)."""
    mean: np.ndarray = from_moments(sums).mean(axis=-2)
    return mean


def constant_mean(true: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predictions of a model that returns the mean of its training labels: labels (N,), folds (N,) → (N,)."""
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

    Within folds, since each fold's model has another mean; averaged over the repeats. NaN where the labels do not vary.
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
