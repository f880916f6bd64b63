"""Whether a predicted value means what it says: the mean label of the tracks that were predicted about so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.evaluation.bootstrap import effective, times_error
from mer_ray.evaluation.metrics import CONSTANT_SD, moments

BINS = 8


@dataclass(frozen=True)
class Calibration:
    """predicted, labelled, lower, upper: (b,), a bin's mean prediction, its mean label and that one's 95 % interval.

    slope, intercept: of the least-squares line label = intercept + slope * prediction, 1 and 0 where all is well, mean
    over the repeats. Below 1, predictions lie too far from the mean: of tracks that are predicted 0.1 apart, the labels
    are less than that apart, on average. Above 1, they lie too near to it. Which of the two varies more is another
    question: the slope is Pearson's r times the labels' SD over the predictions'; a well calibrated model
    has 1, though its predictions vary less than the labels. NaN where the predictions do not vary.
    """

    predicted: np.ndarray
    labelled: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    slope: float
    intercept: float


def calibration(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], bins: int = BINS) -> Calibration:
    """Labels (N,), predictions (R, N), groups (N,) → at most ``bins`` bins of about equal numbers of predictions.

    The repeats are pooled. The interval is that of a ratio of sums over groups (Cochran 1977, Sampling Techniques, 6),
    so it allows for tracks of a group, and for repeats of a track, being alike; for groups of unlike sizes, as
    `bootstrap.times_error` has it.
    """
    repeats, n = predicted.shape
    _, group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
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
