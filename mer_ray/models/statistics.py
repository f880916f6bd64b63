"""Frames → standardised statistics of passages, for the kernel model and novelty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.models import passages
from mer_ray.models.passages import Grid
from mer_ray.models.scaling import Scaler

MAX_FRAMES = 200_000


@dataclass(frozen=True)
class PassageStatistics:
    """scaler: of frames. components: (F, K), of `passages.statistics`. shift, scale: (P,), mean and deviation."""

    scaler: Scaler
    components: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(
        cls, tracks: Sequence[np.ndarray], labels: np.ndarray, window: int, hop_s: float, seed: int
    ) -> PassageStatistics:
        """Fit to training tracks (n_i, F), for models without their own statistics. labels: (N, 3), for the scaler."""
        scaler = Scaler.of(tracks, labels)
        unscaled = cls(scaler, principal_components(scaler, tracks, hop_s, seed), np.zeros(()), np.ones(()))
        return unscaled.standardised_by(np.stack([unscaled.mean(track, window, hop_s) for track in tracks]))

    def standardised_by(self, raw: np.ndarray) -> PassageStatistics:
        """The same with shift and scale from raw statistics (n, P); a constant one gets the scale 1."""
        sd = raw.std(axis=0)
        scale = np.where(sd > 1e-6, sd, 1).astype(np.float32)
        return PassageStatistics(self.scaler, self.components, raw.mean(axis=0), scale)

    def raw(self, frames: np.ndarray, grid: Grid, hop_s: float) -> np.ndarray:
        """Frames (n, F) → (passages, P), not standardised."""
        return passages.statistics(self.scaler.frames(frames), self.components, grid, hop_s)

    def standardised(self, raw: np.ndarray) -> np.ndarray:
        """(passages, P) float32, standardised by the training tracks' moments."""
        scaled: np.ndarray = ((raw - self.shift) / self.scale).astype(np.float32)
        return scaled

    def mean(self, frames: np.ndarray, window: int, hop_s: float) -> np.ndarray:
        """(P,): the mean over the passages around the points of a track, standardised."""
        grid = passages.grid(len(frames), window, hop_s)
        return np.asarray(self.standardised(self.raw(frames, grid, hop_s))[: grid.n_points].mean(axis=0))

    def equals(self, other: PassageStatistics | None) -> bool:
        """Whether both give the same numbers."""
        if other is None:
            return False
        mine, its = self.arrays(), other.arrays()
        return all(np.array_equal(mine[name], its[name]) for name in mine)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a model folder stores."""
        own = {name: getattr(self, name) for name in ("components", "shift", "scale")}
        return {**own, **self.scaler.arrays()}


def principal_components(scaler: Scaler, tracks: Iterable[np.ndarray], hop_s: float, seed: int) -> np.ndarray:
    """Whitening principal components (F, K) of standardised frames (n_i, F), from about 200,000 of them at most."""
    tracks = list(tracks)
    n_dims = tracks[0].shape[1]
    count = passages.n_components(n_dims, hop_s)
    if not count:
        return np.zeros((n_dims, 0), np.float32)
    step = max(1, sum(len(t) for t in tracks) // MAX_FRAMES)
    frames = np.concatenate([scaler.frames(t[(seed % step) :: step]) for t in tracks]).astype(np.float64)
    variance, directions = np.linalg.eigh(frames.T @ frames / max(1, len(frames)))
    variance, directions = variance[::-1][:count], directions[:, ::-1][:, :count]
    # The sign of an eigenvector is arbitrary: fix it, for reproducibility.
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), range(count)])
    return np.asarray(directions / np.sqrt(np.maximum(variance, 1e-4 * max(variance[0], 1e-12))), np.float32)
