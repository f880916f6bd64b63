"""Calibration: the mean label of tracks with similar predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.evaluation.bootstrap import effective, times_error
from mer_ray.evaluation.metrics import CONSTANT_SD, labelled, moments

BINS = 8


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model in b bins of predictions.

    Attributes:
        predicted: (b,), mean predictions.
        labelled: (b,), mean labels.
        lower: (b,), lower ends of the mean labels' 95 % intervals.
        upper: (b,), upper ends.
        slope: Of the least-squares line label = intercept + slope * prediction, mean over the repeats; NaN if the
            predictions do not vary. 1 for a calibrated model; below 1, predictions are too extreme; above 1, too close
            to the mean. It is Pearson's r times the labels' SD over the predictions' SD.
        intercept: Of that line; 0 for a calibrated model.
    """

    predicted: np.ndarray
    labelled: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    slope: float
    intercept: float


def calibration(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], bins: int = BINS) -> Calibration:
    """Labels (N,), predictions (R, N), groups (N,) → at most ``bins`` bins of about equal numbers of predictions.

    Tracks without a label (NaN) are left out. The repeats are pooled. The interval is of a ratio of sums over groups
    (Cochran 1977, Sampling Techniques, 6), so it allows for correlated tracks of a group and repeats of a track; its
    width is `bootstrap.times_error`.
    """
    labels, predicted, names = labelled(labels, predicted, np.asarray(groups, dtype=object))
    repeats, n = predicted.shape
    _, group = np.unique(names.astype(str), return_inverse=True)
    p, t, g = predicted.ravel(), np.tile(labels, repeats), np.tile(group, repeats)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, min(bins, n) + 1)))
    _, index = np.unique(np.searchsorted(edges[1:-1], p, side="right"), return_inverse=True)
    count = np.bincount(index)
    centre, mean = np.bincount(index, p) / count, np.bincount(index, t) / count
    cells = np.zeros((len(count), group.max() + 1))
    np.add.at(cells, (index, g), t - mean[index])
    tracks = np.zeros_like(cells)
    np.add.at(tracks, (index, g), 1)
    times = np.array([times_error(len(met), effective(met)) for met in (row[row > 0] for row in tracks)])
    half = np.sqrt((cells**2).sum(axis=1)) / count * times
    slope, intercept = _least_squares(labels, predicted)
    return Calibration(centre, mean, mean - half, mean + half, slope, intercept)


def _least_squares(labels: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    sums = moments(labels, predicted).mean(axis=1)
    variance, covariance = sums[:, 4], sums[:, 5]
    slope = covariance / np.where(variance > CONSTANT_SD**2, variance, np.nan)
    return float(slope.mean()), float((labels.mean() - slope * predicted.mean(axis=1)).mean())
