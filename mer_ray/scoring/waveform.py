"""The outline of a track's waveform, small enough to keep for every track: for people to look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mer_ray.features import Extractor, FeatureSpec

HOP_S = 0.05
POINTS = 300
"""At most so many of them are kept."""


class Waveform(Extractor):
    """Highest |sample| of every 50 ms: frames (n, 1) in 0..1. Reads what another feature reads."""

    NAME = "waveform"

    def __init__(self, beside: FeatureSpec) -> None:
        self.spec = replace(beside, name=self.NAME, hop_s=HOP_S, n_dims=1, family="", weights=None, note="")

    def start(self) -> WaveformStream:
        """See `mer_ray.features.Extractor`."""
        return WaveformStream(max(1, round(self.spec.sample_rate_hz * HOP_S)))


class WaveformStream:
    """A `mer_ray.features.FrameStream`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = np.zeros(0, np.float32)
        self._peaks: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        """The next samples."""
        samples = np.concatenate([self._rest, np.abs(samples)])
        whole = len(samples) // self._size * self._size
        self._peaks.append(samples[:whole].reshape(-1, self._size).max(axis=1))
        self._rest = samples[whole:]

    def finish(self) -> None:
        """There are no more samples."""
        if len(self._rest):
            self._peaks.append(self._rest.max(keepdims=True))

    def frames(self) -> np.ndarray:
        """(n, 1) float32."""
        return np.concatenate(self._peaks)[:, None] if self._peaks else np.zeros((0, 1), np.float32)


def drawn(peaks: np.ndarray) -> np.ndarray:
    """Frames (n, 1) of `Waveform` as at most 300 points (m,) uint8, 255 for full scale."""
    n = len(peaks)
    edges = np.unique(np.linspace(0, n, min(n, POINTS) + 1).astype(int))[:-1]
    highest = np.maximum.reduceat(peaks[:, 0], edges) if n else peaks[:0, 0]
    return np.round(255 * np.clip(highest, 0, 1)).astype(np.uint8)
