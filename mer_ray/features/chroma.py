"""Chroma: the strength of each pitch class, summed over octaves.

``librosa.feature.chroma_stft`` of librosa 0.11 (after Ellis 2007, "Chroma feature analysis and synthesis"): the power
spectrum folded onto ``n_chroma`` classes from C upwards, each frame divided by its largest class, 0..1. One
difference: the tuning is a setting (default: A4 = 440 Hz), where librosa's default estimates it from each clip. An
estimate would change the meaning of a class from track to track, and needs the complete clip.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.stft import Cutter, FramewiseStream, StftParams, hann, magnitude


class Params(StftParams):
    """Settings under ``extract.chroma``."""

    n_chroma: int = Field(12, ge=2, le=120)
    """Pitch classes."""
    tuning: float = Field(0.0, ge=-0.5, le=0.5)
    """Offset of the music from A4 = 440 Hz, in classes."""


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.spec("chroma", 1, params.n_chroma)


class Chroma(Extractor):
    """``librosa.feature.chroma_stft(tuning=tuning)``, time first."""

    def __init__(self, spec: FeatureSpec) -> None:
        from librosa.filters import chroma

        self.spec = spec
        self._params = p = Params(**spec.params)
        self._window = hann(p.n_fft)
        self._classes = chroma(sr=p.sample_rate_hz, n_fft=p.n_fft, tuning=p.tuning, n_chroma=p.n_chroma).T

    def start(self) -> FramewiseStream:
        p = self._params
        return FramewiseStream(Cutter(p.n_fft, p.hop_length), self._rows, p.n_chroma)

    def _rows(self, frames: np.ndarray) -> np.ndarray:
        """(T, n_fft) → (T, n_chroma)."""
        import librosa

        power = magnitude(frames, self._window) ** 2
        rows: np.ndarray = librosa.util.normalize(power @ self._classes, norm=np.inf, axis=1)
        return rows


load = Chroma
