"""Standardisation of frames and labels by the training tracks' moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.features.joined import Frames, by_part

PREFIX = "scaler."


@dataclass(frozen=True)
class Scaler:
    """Means and deviations: of the frames, shape (F,), and of the labels, shape (D,); all float32.

    x_root: (F,), 1 for a dimension that is never negative and whose mean is below its deviation: its square root is
    standardised. Rectified embeddings are mostly zero with rare large values, which would dominate all products
    (Perronnin et al. 2010, ECCV).
    """

    x_root: np.ndarray
    x_mean: np.ndarray
    x_sd: np.ndarray
    y_mean: np.ndarray
    y_sd: np.ndarray

    @classmethod
    def of(cls, tracks: Sequence[Frames], labels: np.ndarray) -> Scaler:
        """Fit to training tracks (n_i, F) and labels (N, D), NaN where unknown. A constant column gets the deviation 1.

        Of joined features, each has the moments of its own frames.
        """
        moments = zip(*map(_moments, by_part(tracks)), strict=True)
        x_root, x_mean, x_sd = (np.concatenate(own) for own in moments)
        columns = (x_root, x_mean, _nonzero(x_sd), np.nanmean(labels, axis=0), _nonzero(np.nanstd(labels, axis=0)))
        return cls(*(c.astype(np.float32) for c in columns))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Scaler:
        """The inverse of `arrays`; other entries are ignored."""
        return cls(**{name: arrays[PREFIX + name] for name in cls.__dataclass_fields__})

    def split(self, n_dims: Sequence[int]) -> list[Scaler]:
        """One for each of the features that are joined, of so many dimensions. Raises ValueError where they are not."""
        if sum(n_dims) != len(self.x_mean):
            raise ValueError(f"{len(self.x_mean)} dimensions are not {n_dims}")
        ends = np.cumsum(n_dims)[:-1]
        own = zip(*(np.split(column, ends) for column in (self.x_root, self.x_mean, self.x_sd)), strict=True)
        return [Scaler(root, mean, sd, self.y_mean, self.y_sd) for root, mean, sd in own]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a model stores."""
        return {PREFIX + name: values for name, values in vars(self).items()}

    def frames(self, track: np.ndarray) -> np.ndarray:
        """Standardised frames (n, F), float32."""
        scaled: np.ndarray = ((_rooted(track, self.x_root > 0) - self.x_mean) / self.x_sd).astype(np.float32)
        return scaled

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Standardised labels (N, D), float32."""
        scaled: np.ndarray = ((labels - self.y_mean) / self.y_sd).astype(np.float32)
        return scaled

    def vad(self, standardised: np.ndarray) -> np.ndarray:
        """The inverse of `labels`, clipped to 0..1."""
        return np.asarray(np.clip(standardised * self.y_sd + self.y_mean, 0, 1))


def _moments(tracks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x_root, mean and deviation of tracks (n_i, F), each (F,)."""
    none = np.zeros(tracks[0].shape[1], bool)
    mean, sd = _mean_sd(tracks, none)
    x_root = (np.min([track.min(axis=0) for track in tracks], axis=0) >= 0) & (mean < sd)
    return (x_root, *(_mean_sd(tracks, x_root) if x_root.any() else (mean, sd)))


def _mean_sd(tracks: Sequence[np.ndarray], x_root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Summed track by track, in float64 around the first frame, without a copy of all frames."""
    origin = _rooted(tracks[0][:1], x_root)[0].astype(np.float64)
    count, total, squares = 0, np.zeros(len(origin)), np.zeros(len(origin))
    for track in tracks:
        centred = _rooted(track, x_root) - origin
        count += len(centred)
        total += centred.sum(axis=0)
        squares += np.square(centred).sum(axis=0)
    mean = total / count
    return origin + mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def _rooted(track: np.ndarray, root: np.ndarray) -> np.ndarray:
    if not root.any():
        return track
    return np.where(root, np.sqrt(np.maximum(track, 0)), track)


def _nonzero(sd: np.ndarray) -> np.ndarray:
    return np.where(sd > 1e-6, sd, 1)
