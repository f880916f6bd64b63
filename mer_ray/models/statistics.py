"""Frames → standardised statistics of passages, for the kernel model and novelty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.features.joined import Frames, Joined, by_part, parts_of
from mer_ray.models import passages
from mer_ray.models.passages import Grid
from mer_ray.models.scaling import Scaler

MAX_FRAMES = 200_000


@dataclass(frozen=True)
class PassageStatistics:
    """Each feature has its own statistics, side by side; of joined features, on passages that agree in time.

    Attributes:
        scaler: Of the frames of all features.
        components: (F_i, K_i) of each feature, of `passages.statistics`.
        shift: (P,), mean of the raw statistics.
        scale: (P,), their deviation.
    """

    scaler: Scaler
    components: tuple[np.ndarray, ...]
    shift: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(
        cls, tracks: Sequence[Frames], labels: np.ndarray, window: int, hop_s: float, seed: int
    ) -> PassageStatistics:
        """Fit to training tracks (n_i, F), for models without their own statistics. labels: (N, D), for the scaler."""
        unscaled = cls.unscaled(Scaler.of(tracks, labels), tracks, hop_s, seed)
        return unscaled.standardised_by(np.stack([unscaled.mean(track, window, hop_s) for track in tracks]))

    @classmethod
    def unscaled(cls, scaler: Scaler, tracks: Sequence[Frames], hop_s: float, seed: int) -> PassageStatistics:
        """With the principal components of training tracks, but no shift and scale. hop_s: of plain tracks."""
        own = by_part(tracks)
        scalers, hops = scaler.split([part[0].shape[1] for part in own]), _hops(tracks[0], hop_s)
        each = (principal_components(s, part, hop, seed) for s, part, hop in zip(scalers, own, hops, strict=True))
        return cls(scaler, tuple(each), np.zeros(()), np.ones(()))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> PassageStatistics:
        """The inverse of `arrays`. prefix: of all names but the scaler's. Raises KeyError where one lacks."""
        count = sum(name.startswith(f"{prefix}components") for name in arrays)
        components = tuple(arrays[prefix + name] for name in _names(max(1, count)))
        return cls(Scaler.from_arrays(arrays), components, arrays[f"{prefix}shift"], arrays[f"{prefix}scale"])

    def standardised_by(self, raw: np.ndarray) -> PassageStatistics:
        """The same with shift and scale from raw statistics (n, P); a constant one gets the scale 1."""
        sd = raw.std(axis=0)
        scale = np.where(sd > 1e-6, sd, 1).astype(np.float32)
        return PassageStatistics(self.scaler, self.components, raw.mean(axis=0), scale)

    def raw(self, frames: Frames, grid: Grid, hop_s: float) -> np.ndarray:
        """Frames (n, F), hop_s apart → (passages, P), not standardised. grid: of the finest feature."""
        own, hops = parts_of(frames), _hops(frames, hop_s)
        scalers = self.scaler.split([len(c) for c in self.components])
        out = []
        for part, hop, scaler, components in zip(own, hops, scalers, self.components, strict=True):
            its = passages.aligned(grid, hop_s, len(part), hop) if len(own) > 1 else grid
            out.append(passages.statistics(scaler.frames(part), components, its, hop))
        return np.concatenate(out, axis=1)

    def standardised(self, raw: np.ndarray) -> np.ndarray:
        """(passages, P) float32, standardised by the training tracks' moments."""
        scaled: np.ndarray = ((raw - self.shift) / self.scale).astype(np.float32)
        return scaled

    def mean(self, frames: Frames, window: int, hop_s: float) -> np.ndarray:
        """(P,): the mean over the passages around the points of a track, standardised."""
        grid = passages.grid(len(frames), window, hop_s)
        return np.asarray(self.standardised(self.raw(frames, grid, hop_s))[: grid.n_points].mean(axis=0))

    def equals(self, other: PassageStatistics | None) -> bool:
        """Whether both give the same numbers."""
        if other is None:
            return False
        mine, its = self.arrays(), other.arrays()
        return mine.keys() == its.keys() and all(np.array_equal(mine[name], its[name]) for name in mine)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a model folder stores."""
        components = dict(zip(_names(len(self.components)), self.components, strict=True))
        return {**components, "shift": self.shift, "scale": self.scale, **self.scaler.arrays()}


def _names(n: int) -> list[str]:
    """Of the components' arrays of n features."""
    return ["components"] if n == 1 else [f"components{i}" for i in range(n)]


def _hops(track: Frames, hop_s: float) -> tuple[float, ...]:
    return track.hops if isinstance(track, Joined) else (hop_s,)


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
