"""A track's frames as a few numbers, and the two models that get no more of it: they know nothing of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ALPHAS = np.logspace(-1, 5, 13)
SVR_ROWS = 5_000
"""An SVR's time and memory go with the square of its rows: of more training tracks, so many are drawn in each fold."""


def mean_sd(tracks: Sequence[np.ndarray]) -> np.ndarray:
    """Mean and standard deviation of each dimension: frames (n_i, F), n_i > 0, in their own unit → (N, 2F) float64."""
    out = np.empty((len(tracks), 2 * tracks[0].shape[1] if len(tracks) else 0))
    for row, frames in zip(out, tracks, strict=True):
        frames = np.asarray(frames, np.float64)  # embeddings come in half precision
        row[:] = np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
    return out


def out_of_fold(kind: str, x: np.ndarray, labels: np.ndarray, fold: np.ndarray, seed: int = 0) -> np.ndarray:
    """Statistics (N, P), labels (N, 3) in 0..1, folds (R, N) → predictions (R, N, 3), each by a model that has not
    seen the track's fold; clipped to 0..1.

    kind: ``ridge``, whose alpha for each dimension is the best of 13 by leave-one-out within the training folds; or
    ``svr``, scikit-learn's with its defaults (RBF kernel). Both on inputs and labels that are standardised by the
    training folds. An SVR trains on at most `SVR_ROWS` tracks, drawn by the seed.
    """
    out = np.empty((*fold.shape, labels.shape[1]))
    for r, folds in enumerate(fold):
        for k in np.unique(folds):
            inside, outside = np.flatnonzero(folds != k), folds == k
            if kind == "svr" and len(inside) > SVR_ROWS:
                inside = np.sort(np.random.default_rng([seed, r, int(k)]).choice(inside, SVR_ROWS, replace=False))
            out[r, outside] = _predict(kind, x[inside], labels[inside], x[outside])
    return np.clip(out, 0, 1)


def _predict(kind: str, x: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    inputs, targets = StandardScaler().fit(x), StandardScaler().fit(labels)
    x, others, y = inputs.transform(x), inputs.transform(others), targets.transform(labels)
    if kind == "ridge":
        predicted = RidgeCV(ALPHAS, alpha_per_target=True).fit(x, y).predict(others)
    else:
        predicted = np.stack([SVR().fit(x, column).predict(others) for column in y.T], axis=1)
    back: np.ndarray = targets.inverse_transform(predicted)
    return back
