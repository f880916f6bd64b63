"""Mel-frequency cepstral coefficients, with librosa's definition.

Davis & Mermelstein (1980), IEEE TASSP 28(4), 357-366; parameters named as in ``librosa.feature.mfcc``: centred
periodic-Hann STFT, power, Slaney mel bands, 80 dB below the clip's maximum, orthonormal DCT-II.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mer_ray.features import FeatureSpec


class Params(BaseModel):
    """Settings under ``extract.mfcc``."""

    model_config = ConfigDict(extra="forbid")

    n_mfcc: int = Field(20, ge=1, le=256)
    sample_rate_hz: int = Field(22_050, ge=2_000, le=192_000)
    n_fft: int = Field(2_048, ge=64)
    hop_length: int = Field(512, ge=1)
    n_mels: int = Field(128, ge=1)

    @model_validator(mode="after")
    def _bands(self) -> Params:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc ({self.n_mfcc}) must not exceed n_mels ({self.n_mels})")
        return self


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    """Settings → spec."""
    return FeatureSpec(
        name="mfcc",
        version=1,
        sample_rate_hz=params.sample_rate_hz,
        hop_s=params.hop_length / params.sample_rate_hz,
        n_dims=params.n_mfcc,
        params=params.model_dump(),
    )


def load(spec: FeatureSpec) -> Mfcc:
    """Spec → extractor."""
    return Mfcc(spec)


class Mfcc:
    """``librosa.feature.mfcc``, time first: (n_samples,) → (1 + n_samples // hop_length, n_mfcc)."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self.params = Params(**spec.params)

    def __call__(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `mer_ray.features.Extractor`."""
        return [self._one(samples) for samples in batch]

    def _one(self, samples: np.ndarray) -> np.ndarray:
        import librosa

        p = self.params
        if samples.size <= p.n_fft // 2:  # the centred STFT's reflection needs more
            return np.zeros((0, p.n_mfcc), np.float32)
        coefficients = librosa.feature.mfcc(
            y=samples, sr=p.sample_rate_hz, n_mfcc=p.n_mfcc, n_fft=p.n_fft, hop_length=p.hop_length, n_mels=p.n_mels
        )
        return np.ascontiguousarray(coefficients.T, dtype=np.float32)
