"""Models whose input is the mean and standard deviation of a track's frames, without their order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from mer_ray.features.joined import Frames, parts_of
from mer_ray.models import windows
from mer_ray.models.curves import Curve
from mer_ray.models.regressor import Regressor, TrackPrediction, known_labels


def mean_sd(tracks: Sequence[Frames]) -> np.ndarray:
    """Mean and standard deviation of each dimension: frames (n_i, F), n_i > 0, in their own unit → (N, 2F) float64.

    Of joined features, each has those of its own frames.
    """
    out = np.empty((len(tracks), 2 * tracks[0].shape[1] if len(tracks) else 0))
    for row, track in zip(out, tracks, strict=True):
        own = [np.asarray(part, np.float64) for part in parts_of(track)]  # embeddings come in half precision
        row[:] = np.concatenate([*(part.mean(axis=0) for part in own), *(part.std(axis=0) for part in own)])
    return out


class PooledRegressor(Regressor):
    """Standardised `mean_sd` → standardised labels, by a subclass's `learn` and `apply`."""

    @abstractmethod
    def learn(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays to store, from x (N, 2F) and y (N, D), NaN where unknown."""

    @abstractmethod
    def apply(self, x: np.ndarray) -> np.ndarray:
        """x (n, 2F) → y (n, D), from ``self.arrays``."""

    def fit(
        self,
        tracks: Sequence[Frames],
        labels: np.ndarray,
        groups: Sequence[str] = (),
        *,
        weights: np.ndarray | None = None,
        seed: int = 0,
        dimensions: Sequence[str] = (),
        curves: Sequence[Curve | None] = (),
    ) -> Self:
        """See `Regressor.fit`; groups, weights and curves have no effect, but that a label of weight 0 is unknown."""
        labels, _ = known_labels(labels, weights, groups, dimensions)
        return self.fit_pooled(mean_sd(tracks), labels, np.random.default_rng(seed))

    def fit_pooled(self, x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Self:
        """`fit` to precomputed `mean_sd` (N, 2F)."""
        from sklearn.preprocessing import StandardScaler

        labels, _ = known_labels(labels, None)
        self.targets = (1,) * labels.shape[1]
        inputs, targets = StandardScaler().fit(x), StandardScaler().fit(labels)
        self.arrays = {
            **{"x_mean": inputs.mean_, "x_sd": inputs.scale_, "y_mean": targets.mean_, "y_sd": targets.scale_},
            **self.learn(inputs.transform(x), targets.transform(labels)),
        }
        return self

    def predict_pooled(self, x: np.ndarray) -> np.ndarray:
        """`mean_sd` (n, 2F) → values (n, D) in 0..1."""
        own = self.arrays
        y = self.apply((x - own["x_mean"]) / own["x_sd"])
        return np.asarray(np.clip(y * own["y_sd"] + own["y_mean"], 0, 1))

    def predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        """See `Regressor.predict`. The prediction is of the whole track, the curve of its windows."""
        out = []
        for track in tracks:
            pieces = [track[first : first + self.window] for first in windows.starts(len(track), self.window)]
            values = self.predict_pooled(mean_sd([track, *pieces]))
            curve, hop_s = windows.curve(values[1:], len(track), self.window, self.hop_s)
            out.append(TrackPrediction(values[0], curve, hop_s))
        return out
