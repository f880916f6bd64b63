"""Support vector regression on pooled statistics: RBF kernel, scikit-learn's defaults, one machine per dimension.

A machine is fitted to the tracks that have a label of its dimension.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from mer_ray.models.pooled import PooledRegressor

MAX_ROWS = 5_000
"""Training tracks at most, drawn at random: time and memory grow with the square of their number."""


class Svr(PooledRegressor):
    """Stored as its training rows and their dual coefficients, 0 for rows that are not support vectors."""

    def fit_pooled(self, x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Self:
        """See `PooledRegressor.fit_pooled`."""
        if len(x) > MAX_ROWS:
            chosen = np.sort(rng.choice(len(x), MAX_ROWS, replace=False))
            x, labels = x[chosen], labels[chosen]
        return super().fit_pooled(x, labels, rng)

    def learn(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """See `PooledRegressor.learn`."""
        from sklearn.svm import SVR

        gamma = 1 / (x.shape[1] * x.var()) if x.var() else 1.0
        rows = [np.flatnonzero(np.isfinite(column)) for column in y.T]
        fitted = [SVR(gamma=gamma).fit(x[own], y[own, d]) for d, own in enumerate(rows)]
        dual = np.zeros(y.shape)
        for d, (own, machine) in enumerate(zip(rows, fitted, strict=True)):
            dual[own[machine.support_], d] = machine.dual_coef_[0]
        intercept = np.concatenate([machine.intercept_ for machine in fitted])
        return {"rows": x, "dual": dual, "intercept": intercept, "gamma": np.array([gamma])}

    def apply(self, x: np.ndarray) -> np.ndarray:
        """See `PooledRegressor.apply`."""
        from sklearn.metrics.pairwise import rbf_kernel

        own = self.arrays
        return np.asarray(rbf_kernel(x, own["rows"], own["gamma"][0]) @ own["dual"] + own["intercept"])


REGRESSOR = Svr
