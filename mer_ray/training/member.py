"""A trained network as plain arrays, and the scaling that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scaler:
    """Means and deviations: of the frames, shape (F,), and of the labels, shape (3,).

    x_root: (F,), 1 for a dimension that is never negative, of which the square root is taken first. Rectified
    embeddings are mostly zero with rare large values, which would rule all products (Perronnin et al. 2010, ECCV).
    """

    x_root: np.ndarray
    x_mean: np.ndarray
    x_sd: np.ndarray
    y_mean: np.ndarray
    y_sd: np.ndarray

    @classmethod
    def of(cls, tracks: Sequence[np.ndarray], labels: np.ndarray) -> Scaler:
        """From training tracks (n_i, F) and labels (N, 3). A constant column gets the deviation 1.

        The moments are added up track by track, in float64 around the first frame: a copy of all frames is not made.
        """
        x_root = np.min([track.min(axis=0) for track in tracks], axis=0) >= 0
        origin = _rooted(tracks[0][:1], x_root)[0].astype(np.float64)
        count, total, squares = 0, np.zeros(len(origin)), np.zeros(len(origin))
        for track in tracks:
            centred = _rooted(track, x_root) - origin
            count += len(centred)
            total += centred.sum(axis=0)
            squares += np.square(centred).sum(axis=0)
        mean = total / count
        x_sd, y_sd = np.sqrt(np.maximum(squares / count - mean**2, 0)), labels.std(axis=0)
        f32 = np.float32
        return cls(
            x_root.astype(f32),
            (origin + mean).astype(f32),
            np.where(x_sd > 1e-6, x_sd, 1).astype(f32),
            labels.mean(axis=0).astype(f32),
            np.where(y_sd > 1e-6, y_sd, 1).astype(f32),
        )

    def frames(self, track: np.ndarray) -> np.ndarray:
        """Standardised frames (n, F), float32."""
        scaled: np.ndarray = ((_rooted(track, self.x_root > 0) - self.x_mean) / self.x_sd).astype(np.float32)
        return scaled

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Standardised labels (N, 3), float32."""
        scaled: np.ndarray = ((labels - self.y_mean) / self.y_sd).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Member:
    """A trained network: its flat parameters (name → array), its scaling, and what it answers for.

    targets: (3,), 1 for a dimension that this network was trained on, 0 for one that it leaves to others. chosen: for
    each dimension, what the training itself has chosen (`solve.Choice.to_json`); JSON values.
    """

    parameters: dict[str, np.ndarray]
    scaler: Scaler
    targets: tuple[int, ...] = (1, 1, 1)
    chosen: dict[str, Any] = field(default_factory=dict)


def _rooted(track: np.ndarray, root: np.ndarray) -> np.ndarray:
    if not root.any():
        return track
    return np.where(root, np.sqrt(np.maximum(track, 0)), track)
