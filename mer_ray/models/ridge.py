"""Ridge regression on pooled statistics; each dimension's penalty is the best of 13 by leave-one-out."""

from __future__ import annotations

import numpy as np

from mer_ray.models.pooled import PooledRegressor

ALPHAS = np.logspace(-1, 5, 13)


class Ridge(PooledRegressor):
    """See the module."""

    def learn(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """scikit-learn's `RidgeCV`; one for each dimension, on its own tracks, where some tracks lack a label."""
        from sklearn.linear_model import RidgeCV

        known = np.isfinite(y)
        rows = [(np.s_[:], np.s_[:])] if known.all() else [(known[:, d], np.s_[d : d + 1]) for d in range(y.shape[1])]
        with np.errstate(invalid="ignore"):  # leave-one-out of a single track
            fitted = [RidgeCV(ALPHAS, alpha_per_target=True).fit(x[i], y[i, d]) for i, d in rows]
        coefficients = np.concatenate([f.coef_.reshape(-1, x.shape[1]) for f in fitted])
        return {"coefficients": coefficients.T, "intercept": np.concatenate([np.ravel(f.intercept_) for f in fitted])}

    def apply(self, x: np.ndarray) -> np.ndarray:
        """See `PooledRegressor.apply`."""
        return np.asarray(x @ self.arrays["coefficients"] + self.arrays["intercept"])


REGRESSOR = Ridge
