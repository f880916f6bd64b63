"""The outline of a track's waveform for display, small enough to store for every track."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mer_ray.features import Extractor, FeatureSpec

HOP_S = 0.05
POINTS = 300
"""Points of a stored outline at most."""


class Waveform(Extractor):
    """Every 50 ms, the highest |sample| and the seconds it is of: frames (n, 2); the last one may be shorter.

    Reads the same samples as the feature ``beside`` it.
    """

    NAME = "waveform"

    def __init__(self, beside: FeatureSpec) -> None:
        self.spec = replace(beside, name=self.NAME, hop_s=HOP_S, n_dims=2, family="", weights=None, note="")

    def start(self) -> WaveformStream:
        """See `mer_ray.features.Extractor`."""
        return WaveformStream(self.spec.sample_rate_hz)


class WaveformStream:
    """A `mer_ray.features.FrameStream`."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz, self._size = rate_hz, max(1, round(rate_hz * HOP_S))
        self._rest = np.zeros(0, np.float32)
        self._peaks: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        """The next samples."""
        samples = np.concatenate([self._rest, np.abs(samples)])
        whole = len(samples) // self._size * self._size
        self._peaks.append(samples[:whole].reshape(-1, self._size).max(axis=1))
        self._rest = samples[whole:]

    def finish(self) -> None:
        """End of the samples."""
        if len(self._rest):
            self._peaks.append(self._rest.max(keepdims=True))

    def frames(self) -> np.ndarray:
        """(n, 2) float32."""
        peaks = np.concatenate(self._peaks) if self._peaks else np.zeros(0, np.float32)
        sizes = np.full(len(peaks), self._size)
        if len(self._rest):
            sizes[-1] = len(self._rest)
        return np.stack([peaks, sizes / self._rate_hz], axis=1, dtype=np.float32)


def duration_s(frames: np.ndarray) -> float:
    """Seconds of audio in frames (n, 2) of `Waveform`, to the millisecond."""
    return round(float(frames[:, 1].sum(dtype=np.float64)), 3)


def outline(frames: np.ndarray) -> np.ndarray:
    """Frames (n, 2) of `Waveform` as at most 300 points (m,) uint8, 255 for full scale."""
    n = len(frames)
    edges = np.unique(np.linspace(0, n, min(n, POINTS) + 1).astype(int))[:-1]
    highest = np.maximum.reduceat(frames[:, 0], edges) if n else frames[:0, 0]
    return np.round(255 * np.clip(highest, 0, 1)).astype(np.uint8)
