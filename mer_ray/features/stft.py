"""Centred short-time Fourier transforms of audio that arrives block by block.

Frames are as in ``librosa.stft(center=True)`` (McFee et al. 2015, SciPy; librosa 0.11): frame t is centred at sample
``t * hop_length``, under a periodic Hann window, and the audio is padded by ``n_fft // 2`` samples at both ends. They
are processed in chunks whose borders depend on the position in the audio alone, so that the result is the same to the
bit for any blocks, in constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.features import FeatureSpec
from mer_ray.features.fourier import rfft

CHUNK_SAMPLES = 1 << 17
"""Samples in the frames of one chunk (64 frames of 2,048), to fit the processor's cache with their spectra."""


class StftParams(BaseModel):
    """Settings of all spectral features, named as in librosa."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    sample_rate_hz: int = Field(22_050, ge=2_000, le=192_000)
    """Rate to which audio is resampled, in Hz."""
    n_fft: int = Field(2_048, ge=64, le=1 << 18)
    """Samples in a window of the short-time Fourier transform."""
    hop_length: int = Field(512, ge=1, le=1 << 20)
    """Samples between two of its windows."""

    def spec(self, name: str, version: int, n_dims: int, note: str = "") -> FeatureSpec:
        """The feature's spec."""
        return FeatureSpec(
            name=name,
            version=version,
            sample_rate_hz=self.sample_rate_hz,
            hop_s=self.hop_length / self.sample_rate_hz,
            n_dims=n_dims,
            params=self.model_dump(),
            note=note,
        )


def hann(n: int) -> np.ndarray:
    """The periodic Hann window: (n,) float64 in 0..1."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def magnitude(frames: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(T, n_fft) samples and a (n_fft,) window → (T, 1 + n_fft // 2) float32.

    In double precision, like librosa, since measures of tonality depend on quiet bins beside loud ones.
    """
    spectrum = rfft(frames * window, axis=1).astype(np.complex64)
    result: np.ndarray = np.abs(spectrum)
    return result


class Cutter:
    """Audio in blocks → its frames in chunks.

    `push` and `finish` yield (T, n_fft) float32 views of one buffer, which the next chunk overwrites; exhaust one
    iterator before the next call. edge: the audio is padded by its first and last sample, not by zeros.
    """

    def __init__(self, n_fft: int, hop_length: int, edge: bool = False) -> None:
        self._chunk = max(1, CHUNK_SAMPLES // max(n_fft, hop_length))
        self._n_fft, self._hop, self._edge = n_fft, hop_length, edge
        self._buffer = np.zeros((self._chunk - 1) * hop_length + max(n_fft, hop_length), np.float32)
        self._frames = np.lib.stride_tricks.sliding_window_view(self._buffer, n_fft)[:: self._hop][: self._chunk]
        self._filled = n_fft // 2
        self._n_yielded = 0
        self._n_samples = 0

    @property
    def n_samples(self) -> int:
        """Samples so far."""
        return self._n_samples

    @property
    def n_frames(self) -> int:
        """Frames of the audio so far: librosa's number, or 0 where the first frame would be mostly padding."""
        if self._n_samples <= self._n_fft // 2:
            return 0
        return 1 + (self._n_samples + self._n_fft // 2 * 2 - self._n_fft) // self._hop

    def push(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """The next samples, of shape (n,)."""
        if self._edge and self._n_samples == 0 and samples.size:
            self._buffer[: self._filled] = samples[0]
        self._n_samples += samples.size
        yield from self._feed(samples)

    def finish(self) -> Iterator[np.ndarray]:
        last = self._buffer[self._filled - 1] if self._edge else 0.0
        yield from self._feed(np.full(self._n_fft // 2, last, np.float32))
        if self.n_frames > self._n_yielded:
            yield self._frames[: self.n_frames - self._n_yielded]

    def _feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        at = 0
        while at < samples.size:
            taken = min(samples.size - at, self._buffer.size - self._filled)
            self._buffer[self._filled : self._filled + taken] = samples[at : at + taken]
            at += taken
            self._filled += taken
            if self._filled == self._buffer.size:
                yield self._frames
                self._n_yielded += self._chunk
                self._filled -= self._chunk * self._hop
                self._buffer[: self._filled] = self._buffer[self._chunk * self._hop :]


class FramewiseStream:
    """A `mer_ray.features.FrameStream` of rows that depend on their own frame alone.

    compute: (T, n_fft) frames → (T, n_dims).
    """

    def __init__(self, cutter: Cutter, compute: Callable[[np.ndarray], np.ndarray], n_dims: int) -> None:
        self._cutter, self._compute = cutter, compute
        self._rows = [np.zeros((0, n_dims), np.float32)]

    def push(self, samples: np.ndarray) -> None:
        self._rows.extend(self._compute(frames).astype(np.float32) for frames in self._cutter.push(samples))

    def finish(self) -> None:
        self._rows.extend(self._compute(frames).astype(np.float32) for frames in self._cutter.finish())

    def frames(self) -> np.ndarray:
        """(n_frames, n_dims) float32."""
        return np.concatenate(self._rows)[: self._cutter.n_frames]
