"""Ridge regression on pooled statistics; each dimension's penalty is the best of 13 by leave-one-out."""

from __future__ import annotations

import numpy as np

from mer_ray.models.pooled import PooledRegressor

ALPHAS = np.logspace(-1, 5, 13)


class Ridge(PooledRegressor):
    """See the module."""

    def learn(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """scikit-learn's `RidgeCV`."""
        from sklearn.linear_model import RidgeCV

        with np.errstate(invalid="ignore"):  # leave-one-out of a single track
            fitted = RidgeCV(ALPHAS, alpha_per_target=True).fit(x, y)
        return {"coefficients": fitted.coef_.T, "intercept": fitted.intercept_}

    def apply(self, x: np.ndarray) -> np.ndarray:
        """See `PooledRegressor.apply`."""
        return np.asarray(x @ self.arrays["coefficients"] + self.arrays["intercept"])


REGRESSOR = Ridge
