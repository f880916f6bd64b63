"""Mel-frequency cepstral coefficients, with librosa's definition.

Davis & Mermelstein (1980), IEEE TASSP 28(4), 357-366; parameters named as in ``librosa.feature.mfcc``: the log-mel
spectra of `mer_ray.features.logmel`, 80 dB below the clip's maximum, and their orthonormal DCT-II.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from mer_ray.features import FeatureSpec
from mer_ray.features.logmel import Floored
from mer_ray.features.mel import MelExtractor, MelParams, MelSpectra

TOP_DB = 80.0


class Params(MelParams):
    """Settings under ``extract.mfcc``."""

    n_mfcc: int = Field(20, ge=1, le=256)
    """Coefficients of a frame, at most `n_mels`."""

    @model_validator(mode="after")
    def _coefficients(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc ({self.n_mfcc}) must not exceed n_mels ({self.n_mels})")
        return self


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.mel_spec("mfcc", 2, params.n_mfcc)


class Mfcc(MelExtractor):
    """``librosa.feature.mfcc``, time first: (n_samples,) → (1 + n_samples // hop_length, n_mfcc)."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        params = Params(**spec.params)
        self.spectra = MelSpectra(params)
        self._dct = dct_matrix(params.n_mels, params.n_mfcc)

    def listen(self) -> Floored:
        return Floored(self.spectra.params.n_mels, TOP_DB, self._dct)


load = Mfcc


def dct_matrix(n: int, n_coefficients: int) -> np.ndarray:
    """The first ``n_coefficients`` rows of the orthonormal DCT-II, as columns: (n, n_coefficients) float64."""
    k = np.arange(n_coefficients)
    matrix: np.ndarray = np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, k))
    return matrix * np.where(k == 0, np.sqrt(1 / n), np.sqrt(2 / n))
