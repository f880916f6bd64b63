"""Spectra in mel bands, computed once for all features that follow from them.

``power_to_db(melspectrogram(y))`` of librosa 0.11, without its floor: centred periodic-Hann STFT, power, Slaney's mel
bands of unit area (Slaney 1998, Auditory Toolbox 2), decibels. Computed in single precision, in chunks that stay in
the processor's cache: half of librosa's time, with a visible difference only if nearly all of the sound is outside
fmin..fmax, as of a pure tone. A feature made from them is a `MelExtractor`; those with the same mel bands share one
`MelStream` (`start`), since the transform takes most of their time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from mer_ray.features import Extractor, FeatureSpec, FrameStream
from mer_ray.features.fourier import rfft
from mer_ray.features.stft import Cutter, StftParams, hann

AMIN = 1e-10
"""The lowest power; -100 dB."""

BAND_BLOCK = 16
"""Bands computed by one matrix product: neighbouring bands share most of their bins."""


class MelParams(StftParams):
    """Settings of the mel bands, named as in librosa."""

    n_mels: int = Field(128, ge=1, le=4_096)
    """Mel bands."""
    fmin: float = Field(0.0, ge=0)
    """Lower end of the bands, in Hz."""
    fmax: float | None = Field(None, gt=0)
    """Upper end of the bands, in Hz; by default half the sample rate."""

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

    def centres_hz(self) -> np.ndarray:
        """(n_mels,) hertz: where each band's weight is largest."""
        return mel_corners(self.n_mels, self.fmin, self.highest_hz)[1:-1]

    @property
    def bands(self) -> tuple[float, ...]:
        """What defines the spectra: features in which it is equal can share them."""
        return (self.sample_rate_hz, self.n_fft, self.hop_length, self.n_mels, self.fmin, self.highest_hz)


def slaney_bank(rate_hz: float, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangles of unit area with corners evenly spaced on Slaney's mel scale: (n_mels, 1 + n_fft // 2) float32.

    Equal to ``librosa.filters.mel``, whose import takes two seconds and numba's memory in every worker.
    """
    corners = mel_corners(n_mels, fmin, fmax)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    bank: np.ndarray = weights.astype(np.float32) * (2 / (high - low))
    return bank.astype(np.float32)


def mel_corners(n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """(n_mels + 2,) hertz: band i rises from corner i, is largest at corner i + 1 and falls to corner i + 2."""
    limits = _hz_to_mel(np.array([fmin, fmax]))
    return _mel_to_hz(np.linspace(limits[0], limits[1], n_mels + 2))


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
        if len(self._windowed) < len(frames):
            self._windowed = np.empty_like(frames, order="C")
        windowed = np.multiply(frames, self._window, out=self._windowed[: len(frames)])
        squares = rfft(windowed, axis=1).view(np.float32)
        np.square(squares, out=squares)
        power = np.zeros((len(frames), self.params.n_mels), np.float32)
        for bands, pairs, weights in self._products:
            np.matmul(squares[:, pairs], weights, out=power[:, bands])
        decibels: np.ndarray = np.log10(np.maximum(power, AMIN, out=power), out=power)
        decibels *= 10
        return decibels


class MelListener(Protocol):
    """Makes one feature of the spectra of one piece of audio."""

    def take(self, decibels: np.ndarray) -> None:
        """The next spectra, (T, n_mels) dB, which others read too. The borders follow from the position alone."""
        ...

    def finish(self, n_frames: int, n_samples: int) -> None:
        """End of the audio. Spectra beyond ``n_frames`` do not count: where it is too short, there may be one."""
        ...

    def frames(self) -> np.ndarray:
        """(n, F) float32."""
        ...


class MelExtractor(Extractor):
    """A feature that follows from spectra in mel bands alone. Its ``__init__`` sets ``spectra``."""

    spectra: MelSpectra

    @abstractmethod
    def listen(self) -> MelListener:
        """What makes the feature for the next piece of audio."""

    def start(self) -> MelStream:
        return MelStream(self.spectra, [self.listen()])


class MelStream:
    """A `mer_ray.features.FrameStream` that computes spectra for several listeners; its frames are the first one's."""

    def __init__(self, spectra: MelSpectra, listeners: Sequence[MelListener]) -> None:
        self._spectra, self._listeners = spectra, listeners
        self._cutter = Cutter(spectra.params.n_fft, spectra.params.hop_length)

    def push(self, samples: np.ndarray) -> None:
        self._take(self._cutter.push(samples))

    def finish(self) -> None:
        self._take(self._cutter.finish())
        for listener in self._listeners:
            listener.finish(self._cutter.n_frames, self._cutter.n_samples)

    def frames(self) -> np.ndarray:
        """(n, F) float32."""
        return self._listeners[0].frames()

    def _take(self, chunks: Iterable[np.ndarray]) -> None:
        for frames in chunks:
            decibels = self._spectra(frames)
            for listener in self._listeners:
                listener.take(decibels)


class _Listening:
    """The `mer_ray.features.FrameStream` of a feature whose spectra another one's stream computes."""

    def __init__(self, listener: MelListener) -> None:
        self.frames = listener.frames

    def push(self, samples: np.ndarray) -> None:
        """The other one gets them."""

    def finish(self) -> None:
        """The other one is finished."""


def start(extractors: Mapping[str, Extractor]) -> dict[str, FrameStream]:
    """A stream for each, of the same audio: push all, finish all, then ask for frames.

    Those with the same spectra share them, to the same bits as alone.
    """
    streams: dict[str, FrameStream] = {}
    sharing: dict[tuple[float, ...], dict[str, MelExtractor]] = {}
    for name, extractor in extractors.items():
        if isinstance(extractor, MelExtractor):
            sharing.setdefault(extractor.spectra.params.bands, {})[name] = extractor
        else:
            streams[name] = extractor.start()
    for group in sharing.values():
        listeners = [extractor.listen() for extractor in group.values()]
        first, *others = group
        streams[first] = MelStream(group[first].spectra, listeners)
        streams |= {name: _Listening(listener) for name, listener in zip(others, listeners[1:], strict=True)}
    return streams
