"""Biases of data sets: by how much each one's labels lie above or below the others', whatever the music.

Raters of one data set may use another part of the scale than those of the next. With ``train.source_bias``, models are
trained on labels without their data set's bias, so that they predict on one pooled scale. A bias is the difference of
the data set's mean label from that of all labels, shrunk towards 0 by how far means of so few tracks differ by
chance (empirical Bayes in the random-effects model; the variance between data sets by moments: DerSimonian & Laird
1986, Controlled Clinical Trials 7(3), 177-188). It is a bias only as far as the data sets have music of equal affect:
that cannot be told from labels. So figures are given both on the labels as they are, and with each bias added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mer_ray.training.data import Dataset


def biases(labels: np.ndarray, datasets: Sequence[str]) -> dict[str, np.ndarray]:
    """Each data set's bias (D,): of labels (N, D), NaN where unknown, and the data sets' names (N,).

    0 for a dimension of which a data set has fewer than two labels, and where only one data set has more.
    """
    names, index = np.unique(np.asarray(datasets, dtype=object).astype(str), return_inverse=True)
    out = np.zeros((len(names), labels.shape[1]))
    for d, column in enumerate(labels.T):
        own = [column[(index == s) & np.isfinite(column)] for s in range(len(names))]
        rows = [s for s, values in enumerate(own) if len(values) >= 2]
        if len(rows) < 2:
            continue
        n = np.array([len(own[s]) for s in rows], float)
        means = np.array([own[s].mean() for s in rows])
        within = sum(((own[s] - own[s].mean()) ** 2).sum() for s in rows) / (n.sum() - len(rows))
        error = max(within, 1e-12) / n  # variance of each mean
        weight = 1 / error
        q = (weight * (means - np.average(means, weights=weight)) ** 2).sum()
        between = max(0.0, (q - (len(rows) - 1)) / (weight.sum() - (weight**2).sum() / weight.sum()))
        out[rows, d] = between / (between + error) * (means - np.average(means, weights=n))
    return dict(zip(names.tolist(), out, strict=True))


def without(dataset: Dataset, training: np.ndarray) -> Dataset:
    """The same with labels, also those over time, on the pooled scale.

    training: mask (N,) of the tracks that the biases are estimated on.
    """
    own = _of_tracks(dataset.labels, dataset.datasets, training)
    pairs = zip(dataset.curves, own, strict=False)  # without any curves there are none
    curves = [c and replace(c, values=c.values - bias) for c, bias in pairs]
    return replace(dataset, labels=dataset.labels - own, curves=curves)


def of_folds(labels: np.ndarray, datasets: Sequence[str], fold: np.ndarray) -> np.ndarray:
    """The bias of each track's data set, as estimated without the track's fold: labels (N, D), fold (R, N) → (R, N, D).

    To be added to predictions on the pooled scale.
    """
    out = np.zeros((*fold.shape, labels.shape[1]))
    for r, folds in enumerate(fold):
        for k in np.unique(folds[folds >= 0]):
            out[r, folds == k] = _of_tracks(labels, datasets, folds != k)[folds == k]
    return out


def _of_tracks(labels: np.ndarray, datasets: Sequence[str], training: np.ndarray) -> np.ndarray:
    """(N, D). A data set that is not in training has the bias 0."""
    known = biases(labels[training], [name for name, own in zip(datasets, training, strict=True) if own])
    return np.array([known.get(name, np.zeros(labels.shape[1])) for name in datasets])
