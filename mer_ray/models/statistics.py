"""Frames → the standardised statistics of passages: what the kernel network, and the sense of novelty, look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.models import layout, passages
from mer_ray.models.passages import Grid
from mer_ray.training.member import Scaler

MAX_FRAMES = 200_000


@dataclass(frozen=True)
class Statistics:
    """scaler: of frames. components: (F, K), of `mer_ray.models.passages.statistics`. shift, scale: (P,)."""

    scaler: Scaler
    components: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    def raw(self, frames: np.ndarray, places: Grid, hop_s: float) -> np.ndarray:
        """Frames (n, F) → (passages, P), as they come."""
        return passages.statistics(self.scaler.frames(frames), self.components, places, hop_s)

    def standardised(self, raw: np.ndarray) -> np.ndarray:
        """(passages, P) float32, against the training tracks."""
        scaled: np.ndarray = ((raw - self.shift) / self.scale).astype(np.float32)
        return scaled

    def like(self, other: Statistics) -> bool:
        """Whether it gives the same numbers."""
        mine, its = self._arrays(), other._arrays()
        return all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))

    def _arrays(self) -> list[np.ndarray]:
        own = self.scaler
        return [own.x_mean, own.x_sd, own.x_root, self.components, self.shift, self.scale]


def fit(tracks: Sequence[np.ndarray], labels: np.ndarray, window: int, hop_s: float, seed: int) -> Statistics:
    """From training tracks (n_i, F), for networks that have none of their own. labels: (N, 3), for the scaler."""
    scaler = Scaler.of(tracks, labels)
    count = layout.n_components(tracks[0].shape[1], hop_s)
    own = Statistics(scaler, components(tracks, count, seed, scaler.frames), np.zeros(()), np.ones(()))
    means = []
    for track in tracks:
        places, n = passages.grid(len(track), window, hop_s)
        means.append(own.raw(track, places, hop_s)[:n].mean(axis=0))
    values = np.stack(means)
    sd = values.std(axis=0)
    return Statistics(scaler, own.components, values.mean(axis=0), np.where(sd > 1e-6, sd, 1).astype(np.float32))


def components(
    tracks: Sequence[np.ndarray],
    count: int,
    seed: int,
    scale: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
) -> np.ndarray:
    """Whitening principal components (F, count) of frames (n_i, F), from about 200,000 of them at most.

    scale: what standardises them, frame by frame.
    """
    if not count:
        return np.zeros((tracks[0].shape[1], 0), np.float32)
    step = max(1, sum(len(t) for t in tracks) // MAX_FRAMES)
    frames = np.concatenate([scale(t[(seed % step) :: step]) for t in tracks]).astype(np.float64)
    variance, directions = np.linalg.eigh(frames.T @ frames / max(1, len(frames)))
    variance, directions = variance[::-1][:count], directions[:, ::-1][:, :count]
    # The sign of an eigenvector is the library's whim.
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), range(count)])
    return np.asarray(directions / np.sqrt(np.maximum(variance, 1e-4 * max(variance[0], 1e-12))), np.float32)
