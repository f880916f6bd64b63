"""Tonality: how clear the key is, whether it is major or minor, and how the harmony moves; the same in every key.

Power spectra under long windows are folded into thirds of a semitone, each frame divided by its sum. A window's tuning
is the phase of their mean over a semitone (Dressler & Streich 2007, "Tuning frequency estimation using circular
statistics", ISMIR); in that tuning they become 12 pitch classes, the chroma. Its mean is correlated with the 24 keys of
the profiles of Krumhansl & Kessler (1982; Krumhansl 1990, "Cognitive foundations of musical pitch"); the best one's
tonic is the zero of what is given by pitch class. Tonal centroids are those of Harte, Sandler & Gasser (2006,
"Detecting harmonic change in musical audio"): chroma on the circles of fifths, minor thirds and major thirds.

| columns | what, of a window |
| --- | --- |
| 3 | correlation with the best major and the best minor key, and their difference |
| 6 | the same of each `PASSAGE_S`: means, then standard deviations |
| 12 | mean of the chroma, from the tonic up |
| 6 | tonal centroid of the mean, from the tonic: sine and cosine on each circle |
| 3 | spread of the centroid on each circle |
| 2 | its step from frame to frame: mean and standard deviation |
| 2 | entropy of the chroma in nats: mean of the frames', and of their mean |
| 2 | chroma flux, the sum of absolute differences from frame to frame: mean and standard deviation |
| 6 | circular autocorrelation of the chroma: the intervals of 1 to 6 semitones that sound together |

Windows: `mer_ray.features.windowed`. Frames of less than about -96 dBFS of noise have no tonality: `SILENCE`.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.fourier import rfft
from mer_ray.features.stft import Cutter, hann
from mer_ray.features.windowed import WindowParams, rows

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
"""How well each pitch class from the tonic up fits a key, as rated by listeners (Krumhansl & Kessler 1982)."""

PASSAGE_S = 4.0
"""Or half of a shorter window."""
SILENCE = 3e-5
"""Power that is added to every third of a semitone, for a full scale of 1 and 8,192 samples: silence has no pitch."""
FINE = 3
"""Parts of a semitone."""
BIN_WIDTH, CLASS_WIDTH = 0.2, 0.45
"""Standard deviations, in semitones, of the Gaussians by which a bin belongs to a part, and a part to a pitch class."""
N_DIMS = 42
TINY = 1e-9


PARTS = np.arange(12 * FINE) / FINE
"""In semitones from C."""


def closeness(semitones: np.ndarray, others: np.ndarray, width: float) -> np.ndarray:
    """1 where two pitches are equal, whatever their octave; a Gaussian of their distance."""
    distance = (semitones - others + 6) % 12 - 6
    return np.asarray(np.exp(-0.5 * np.square(distance / width)))


class Params(WindowParams):
    """Settings under ``extract.tonal``."""

    n_fft: int = Field(8_192, ge=64, le=1 << 18)
    """Samples in a window of the short-time Fourier transform."""
    hop_length: int = Field(4_096, ge=1, le=1 << 20)
    """Samples between two of its windows."""
    fmin: float = Field(55.0, gt=0)
    """Lowest pitch that counts, in Hz."""
    fmax: float = Field(2_000.0, gt=0)
    """Highest pitch that counts, in Hz."""

    @model_validator(mode="after")
    def _pitches(self) -> Self:
        if not self.fmin < self.fmax <= self.sample_rate_hz / 2:
            raise ValueError(f"fmin < fmax <= {self.sample_rate_hz / 2:g} Hz, half the sample_rate_hz, is needed")
        if self.hop_length > self.sample_rate_hz:
            raise ValueError(f"hop_length ({self.hop_length}) must not exceed a second ({self.sample_rate_hz})")
        if self.folding().sum(axis=0).min() < TINY:
            raise ValueError("a third of a semitone has no bin of the spectrum: take a longer n_fft or a higher fmax")
        return self

    def folding(self) -> np.ndarray:
        """(1 + n_fft // 2, 36): how much each bin belongs to each third of a semitone, from C up."""
        hertz = np.fft.rfftfreq(self.n_fft, 1 / self.sample_rate_hz)
        semitones = 12 * np.log2(np.maximum(hertz, 1) / 440) + 9
        within = (hertz >= self.fmin) & (hertz <= self.fmax)
        return closeness(semitones[:, None], PARTS, BIN_WIDTH) * within[:, None]


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.window_spec("tonal", 1, N_DIMS)


class Tonal(Extractor):
    """See the table above."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._params = p = Params(**spec.params)
        self._window = hann(p.n_fft).astype(np.float32)
        folding = p.folding()
        bins = np.flatnonzero(folding.any(axis=1))
        # Each weight twice, for the interleaved squares of the real and the imaginary part.
        self._pairs = slice(2 * bins[0], 2 * bins[-1] + 2)
        self._folding = np.repeat(folding[bins[0] : bins[-1] + 1], 2, axis=0).astype(np.float32)

    def start(self) -> TonalStream:
        return TonalStream(self._params, self)

    def fine_chroma(self, frames: np.ndarray) -> np.ndarray:
        """(T, n_fft) float32 samples → (T, 36) float32, each row's sum 1."""
        squares = rfft(frames * self._window, axis=1).view(np.float32)[:, self._pairs]
        power = np.square(squares) @ self._folding + np.float32(SILENCE)
        result: np.ndarray = power / power.sum(axis=1, keepdims=True)
        return result


load = Tonal


class TonalStream:
    """A `mer_ray.features.FrameStream`."""

    def __init__(self, params: Params, extractor: Tonal) -> None:
        self._params, self._extractor = params, extractor
        self._cutter = Cutter(params.n_fft, params.hop_length)
        self._fine = [np.zeros((0, 12 * FINE), np.float32)]

    def push(self, samples: np.ndarray) -> None:
        self._fine.extend(map(self._extractor.fine_chroma, self._cutter.push(samples)))

    def finish(self) -> None:
        self._fine.extend(map(self._extractor.fine_chroma, self._cutter.finish()))

    def frames(self) -> np.ndarray:
        """(n, 42) float32."""
        fine = np.concatenate(self._fine)[: self._cutter.n_frames]
        passage = max(1, round(PASSAGE_S * self._params.rate_hz))
        return rows(fine, self._cutter.n_samples, self._params, lambda w: describe(w, passage), N_DIMS)


def _key_profiles() -> np.ndarray:
    """(12, 24): major from C up, then minor; each without its mean and of length 1."""
    profiles = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return np.asarray((centred / np.linalg.norm(centred, axis=1, keepdims=True)).T)


def _circles() -> np.ndarray:
    """(12, 6): sine and cosine of each pitch class on the circles of fifths, minor and major thirds (Harte 2006)."""
    angles = np.pi * np.arange(12)[:, None] * np.array([7 / 6, 3 / 2, 2 / 3])
    sines = np.stack([np.sin(angles), np.cos(angles)], axis=2) * np.array([1, 1, 0.5])[:, None]
    return np.asarray(sines.reshape(12, 6))


KEYS, CIRCLES = _key_profiles(), _circles()


def keys(chroma: np.ndarray) -> np.ndarray:
    """(..., 12) → (..., 24): Pearson's correlation with every key, major from C up, then minor; 0 where it is flat."""
    centred = chroma - chroma.mean(axis=-1, keepdims=True)
    length = np.sqrt(np.square(centred).sum(axis=-1, keepdims=True))
    result: np.ndarray = centred / np.maximum(length, TINY) @ KEYS
    return result


def modes(correlation: np.ndarray) -> np.ndarray:
    """(..., 24) → (..., 3): the best major and the best minor key's, and their difference."""
    major, minor = correlation[..., :12].max(axis=-1), correlation[..., 12:].max(axis=-1)
    return np.stack([major, minor, major - minor], axis=-1)


def tuned_classes(fine: np.ndarray) -> np.ndarray:
    """(..., 36) mean fine chroma → (..., 36, 12): what makes it, and others in its tuning, chroma; sums stay 1."""
    phase = np.exp(2j * np.pi * PARTS)
    offset = np.angle(fine @ phase) / (2 * np.pi)
    weights = closeness(PARTS[:, None], np.arange(12) + offset[..., None, None], CLASS_WIDTH)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def tuned(fine: np.ndarray) -> np.ndarray:
    """(N, W, 36) fine chroma → (N, W, 12) chroma in each window's own tuning; sums stay 1."""
    return np.asarray(fine @ tuned_classes(fine.mean(axis=1)))


def describe(windows: np.ndarray, passage: int) -> np.ndarray:
    """(N, 36, W) fine chroma → (N, 42); see the table above. passage: in frames."""
    chroma = tuned(windows.transpose(0, 2, 1).astype(np.float64, order="C"))
    n, width, _ = chroma.shape
    mean = chroma.mean(axis=1)
    correlation = keys(mean)
    from_tonic = (correlation.argmax(axis=1)[:, None] + np.arange(12)) % 12
    mean = np.take_along_axis(mean, from_tonic, axis=1)
    passage = max(1, min(passage, width // 2))
    count = width // passage
    passages = modes(keys(chroma[:, : count * passage].reshape(n, count, passage, 12).mean(axis=2)))
    centroids = chroma @ CIRCLES
    # A single frame does not move.
    moves, changes = (np.diff(v, axis=1) if width > 1 else np.zeros((n, 1, v.shape[2])) for v in (centroids, chroma))
    steps, flux = np.linalg.norm(moves, axis=2), np.abs(changes).sum(axis=2)
    together = [np.einsum("ntc,ntc->n", chroma, np.roll(chroma, k, axis=2)) for k in range(7)]
    columns = [
        modes(correlation),
        passages.mean(axis=1),
        passages.std(axis=1),
        mean,
        mean @ CIRCLES,
        np.sqrt(centroids.var(axis=1).reshape(n, 3, 2).sum(axis=2)),
        *(f(steps, axis=1)[:, None] for f in (np.mean, np.std)),
        entropy(chroma).mean(axis=1)[:, None],
        entropy(mean)[:, None],
        *(f(flux, axis=1)[:, None] for f in (np.mean, np.std)),
        np.stack(together[1:], axis=1) / together[0][:, None],
    ]
    return np.concatenate(columns, axis=1)


def entropy(chroma: np.ndarray) -> np.ndarray:
    """(..., 12) shares whose sum is 1 → nats, from 0 for one pitch class to log 12."""
    return np.asarray(-(chroma * np.log(np.maximum(chroma, TINY))).sum(axis=-1))
