"""Log-mel spectra, with librosa's definition.

``power_to_db(melspectrogram(y))`` of librosa 0.11: centred periodic-Hann STFT, power, Slaney's mel bands of unit area
(Slaney 1998, Auditory Toolbox 2), decibels, floored at ``top_db`` below the clip's maximum. Computed in
single precision, in chunks that stay in the processor's cache: half of librosa's time, with a visible difference only
if nearly all of the sound is outside fmin..fmax, as of a pure tone. `mer_ray.features.mfcc` adds a DCT.
"""

from __future__ import annotations

import tempfile
import weakref
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.stft import Cutter, StftParams, hann

AMIN = 1e-10
"""The lowest power; -100 dB."""

IN_MEMORY = 16 << 20
"""Bytes of one clip's log-mel spectra that are buffered in memory (12 minutes by default); more are in a file."""

BAND_BLOCK = 16
"""Bands computed by one matrix product: neighbouring bands share most of their bins."""


class MelParams(StftParams):
    """Settings of the mel bands, named as in librosa. fmin, fmax: hertz; fmax defaults to half the sample rate."""

    n_mels: int = Field(128, ge=1, le=4_096)
    fmin: float = Field(0.0, ge=0)
    fmax: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _band_limits(self) -> Self:
        half = self.sample_rate_hz / 2
        if self.highest_hz > half:
            raise ValueError(f"fmax ({self.fmax:g} Hz) must not exceed half the sample_rate_hz ({half:g} Hz)")
        if not self.fmin < self.highest_hz:
            raise ValueError(f"fmin ({self.fmin:g} Hz) must be less than fmax ({self.highest_hz:g} Hz)")
        return self

    @property
    def highest_hz(self) -> float:
        """The upper limit of the last band, in hertz."""
        return self.sample_rate_hz / 2 if self.fmax is None else self.fmax

    def mel_spec(self, name: str, version: int, n_dims: int) -> FeatureSpec:
        """`spec`, with a note if bands lie between the spectrum's bins and so are always empty."""
        empty = int(self.n_mels - self.bank().any(axis=1).sum())
        note = f"{empty} of {self.n_mels} mel bands hold no bin of the spectrum: take fewer n_mels or a longer n_fft"
        return self.spec(name, version, n_dims, note if empty else "")

    def bank(self) -> np.ndarray:
        """The bands' weights on the bins of a power spectrum: see `slaney_bank`."""
        return slaney_bank(self.sample_rate_hz, self.n_fft, self.n_mels, self.fmin, self.highest_hz)


class Params(MelParams):
    """Settings under ``extract.logmel``. top_db: null: a floor of -100 dB."""

    top_db: float | None = Field(80.0, ge=0)


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.mel_spec("logmel", 1, params.n_mels)


class LogMel(Extractor):
    """``librosa.power_to_db(librosa.feature.melspectrogram(y))``, time first."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._params = Params(**spec.params)
        self._spectra = MelSpectra(self._params)

    def start(self) -> LogMelStream:
        return LogMelStream(self._spectra, self._params.top_db)


load = LogMel


def slaney_bank(rate_hz: float, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangles of unit area with corners evenly spaced on Slaney's mel scale: (n_mels, 1 + n_fft // 2) float32.

    Equal to ``librosa.filters.mel``, whose import takes two seconds and numba's memory in every worker.
    """
    limits = _hz_to_mel(np.array([fmin, fmax]))
    corners = _mel_to_hz(np.linspace(limits[0], limits[1], n_mels + 2))
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    bank: np.ndarray = weights.astype(np.float32) * (2 / (high - low))
    return bank.astype(np.float32)


# Slaney's scale is linear up to 1 kHz, which is mel 15, and from there logarithmic, 27 mel to a factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _KNEE_MEL, _LOG_STEP = 200 / 3, 1_000.0, 15.0, np.log(6.4) / 27


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    above = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(hz >= _KNEE_HZ, above, hz / _HZ_PER_MEL)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel >= _KNEE_MEL, above, mel * _HZ_PER_MEL)


class MelSpectra:
    """Frames of samples → decibels in mel bands, for any number of streams in one thread."""

    def __init__(self, params: MelParams) -> None:
        self.params = params
        self._window = hann(params.n_fft).astype(np.float32)
        self._windowed = np.empty((0, params.n_fft), np.float32)
        bank = params.bank()
        self._products: list[tuple[slice, slice, np.ndarray]] = []
        for first in range(0, params.n_mels, BAND_BLOCK):
            bands = slice(first, first + BAND_BLOCK)
            bins = np.flatnonzero(bank[bands].any(axis=0))
            if bins.size:
                # Each weight twice, for the interleaved squares of the real and the imaginary part.
                weights = np.repeat(bank[bands, bins[0] : bins[-1] + 1].T, 2, axis=0)
                self._products.append((bands, slice(2 * bins[0], 2 * bins[-1] + 2), weights))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(T, n_fft) float32 samples → (T, n_mels) float32 dB of power, at least -100."""
        import scipy.fft

        if len(self._windowed) < len(frames):
            self._windowed = np.empty_like(frames, order="C")
        windowed = np.multiply(frames, self._window, out=self._windowed[: len(frames)])
        squares = scipy.fft.rfft(windowed, axis=1).view(np.float32)
        np.square(squares, out=squares)
        power = np.zeros((len(frames), self.params.n_mels), np.float32)
        for bands, pairs, weights in self._products:
            np.matmul(squares[:, pairs], weights, out=power[:, bands])
        decibels: np.ndarray = np.log10(np.maximum(power, AMIN, out=power), out=power)
        decibels *= 10
        return decibels


class LogMelStream:
    """A `mer_ray.features.FrameStream` of log-mel spectra, or of their product with a matrix.

    The clip's maximum, to which the floor ``top_db`` is relative, is known only at its end. Until then the spectra are
    buffered, beyond `IN_MEMORY` in a temporary file.

    top_db: None for no limit. product: (n_mels, F) float64, or None.
    """

    def __init__(self, spectra: MelSpectra, top_db: float | None, product: np.ndarray | None = None) -> None:
        self._spectra, self._top_db, self._product = spectra, top_db, product
        self._cutter = Cutter(spectra.params.n_fft, spectra.params.hop_length)
        self._buffer = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by finish
        weakref.finalize(self, self._buffer.close)  # where an error comes first
        self._highest = -np.inf
        n_dims = spectra.params.n_mels if product is None else product.shape[1]
        self._frames = np.zeros((0, n_dims), np.float32)

    def push(self, samples: np.ndarray) -> None:
        for frames in self._cutter.push(samples):
            self._store(frames)

    def finish(self) -> None:
        for frames in self._cutter.finish():
            self._store(frames)
        lowest = np.float32(-np.inf if self._top_db is None else self._highest - self._top_db)
        result = np.empty((self._cutter.n_frames, self._frames.shape[1]), np.float32)
        row_bytes = 4 * self._spectra.params.n_mels
        self._buffer.seek(0)
        for first in range(0, len(result), 1_024):
            rows = result[first : first + 1_024]
            spectra = np.frombuffer(self._buffer.read(len(rows) * row_bytes), np.float32).reshape(len(rows), -1)
            if self._product is None:
                np.maximum(spectra, lowest, out=rows)
            else:
                # In double precision: sums of 128 numbers near -60 would round more than all steps before.
                rows[:] = np.maximum(spectra, lowest, dtype=np.float64) @ self._product
        self._buffer.close()
        self._frames = result

    def frames(self) -> np.ndarray:
        """(n_frames, F) float32."""
        return self._frames

    def _store(self, frames: np.ndarray) -> None:
        decibels = self._spectra(frames)
        self._highest = max(self._highest, float(decibels.max()))
        self._buffer.write(decibels.data)
