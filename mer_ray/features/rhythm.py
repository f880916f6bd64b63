"""Rhythm: how strong, how dense and how regular the onsets are, in bands of frequency, and at which tempo.

Onset strength is the spectral flux of the log-mel spectra: the mean rise from each frame to the next (Dixon 2006,
"Onset detection revisited", DAFx; Böck & Widmer 2013, "Maximum filter vibrato suppression for onset detection", DAFx),
in four bands and in all. What is more than `RANGE_DB` below the recent peak does not count; the peak falls by
`FALL_DB_PER_S`, as in the adaptive whitening of Stowell & Plumbley 2007 (ICMC). So the numbers do not depend on
the level, nor on noise far below the music. The tempogram is the autocorrelation of the onset strength (Grosche,
Müller & Kurth 2010, "Cyclic tempogram", ICASSP), the largest value in each sixth of an octave.

| columns | for each | what, of a window |
| --- | --- | --- |
| 5 | band | logarithm of the mean onset strength, in dB a frame |
| 5 | band | logarithm of its standard deviation |
| 5 | band | onsets a second: local maxima that stand out from their surroundings |
| 5 | band | skewness: large where the onsets are few and clear |
| 5 | band | largest value of the tempogram, at most 1: pulse clarity (Lartillot et al. 2008, ISMIR) |
| 24 | tempo from 25 a minute, in sixths of an octave | tempogram of all bands together |
| 1 | | preferred tempo, in octaves from 120 a minute |
| 1 | | its salience: how far it exceeds the mean tempo |

The preferred tempo is that of the largest value after weighting by a Gaussian of an octave around 120 a minute (Ellis
2007, "Beat tracking by dynamic programming", JNMR 36(1)). Windows: `mer_ray.features.windowed`. The spectra are those
of `logmel` with ``fmax: 7500``, which both share; the onset strength takes 3 MB for each hour of audio until its end.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import model_validator

from mer_ray.features import FeatureSpec
from mer_ray.features.fourier import irfft, next_fast_len, rfft
from mer_ray.features.mel import MelExtractor, MelParams, MelSpectra
from mer_ray.features.moving import moving_max, moving_mean
from mer_ray.features.windowed import WindowParams, rows

EDGES_HZ = (200.0, 800.0, 2_500.0)
"""Between the four bands: bass, low and high middle, treble."""
N_BANDS = len(EDGES_HZ) + 2
"""With the one of all."""

RANGE_DB = 40.0
FALL_DB_PER_S = 6.0
MOST_DB = 15.0
"""The most that a band's rise counts, so that a start from silence is an onset like others."""

START_S = 0.1
"""The audio's own start is no onset, nor is what an encoder put before it."""
NEAR_S, AROUND_S, STANDS_OUT_DB = 0.07, 0.4, 0.5
"""An onset is the largest within +-NEAR_S, and so much above the mean of +-AROUND_S."""

N_TEMPI, PER_OCTAVE, SLOWEST = 24, 6, 25.0
"""Tempi, the first one in beats a minute."""
POINTS = 12
"""Of the autocorrelation in each tempo's bin."""
PREFERRED = 120.0

N_DIMS = 5 * N_BANDS + N_TEMPI + 2
LEAST_RATE_HZ = 20.0
SMALL = 1e-3
"""Variance, in dB², of what has no onsets."""


class Params(WindowParams, MelParams):
    """Settings under ``extract.rhythm``."""

    fmax: float | None = 7_500.0
    """Upper end of the mel bands, in Hz."""

    @model_validator(mode="after")
    def _frame_rate(self) -> Self:
        if self.rate_hz < LEAST_RATE_HZ:
            raise ValueError(f"hop_length must give {LEAST_RATE_HZ:g} frames a second or more, not {self.rate_hz:.1f}")
        return self


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.window_spec("rhythm", 1, N_DIMS)


class Rhythm(MelExtractor):
    """See the table above."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._params = Params(**spec.params)
        self.spectra = MelSpectra(self._params)

    def listen(self) -> RhythmListener:
        return RhythmListener(self._params)


load = Rhythm


class RhythmListener:
    """A `mel.MelListener`."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._flux = Flux(params)
        self._strengths = [np.zeros((0, N_BANDS), np.float32)]
        self._rows = np.zeros((0, N_DIMS), np.float32)

    def take(self, decibels: np.ndarray) -> None:
        """See `mel.MelListener`."""
        self._strengths.append(self._flux(decibels))

    def finish(self, n_frames: int, n_samples: int) -> None:
        """See `mel.MelListener`."""
        strength = np.concatenate(self._strengths)[:n_frames]
        self._strengths.clear()
        rate_hz = self._params.rate_hz
        strength[: round(START_S * rate_hz)] = 0
        values = np.concatenate([strength, onsets(strength, rate_hz)], axis=1)
        self._rows = rows(values, n_samples, self._params, lambda windows: describe(windows, rate_hz), N_DIMS)

    def frames(self) -> np.ndarray:
        """(n, 51) float32."""
        return self._rows


class Flux:
    """Onset strength of spectra that come in chunks, which it remembers."""

    def __init__(self, params: Params) -> None:
        bands = np.digitize(params.centres_hz(), EDGES_HZ)
        members = np.stack([*(bands == k for k in range(N_BANDS - 1)), bands >= 0], axis=1)
        self._means = (members / np.maximum(members.sum(axis=0), 1)).astype(np.float32)
        self._fall_db = FALL_DB_PER_S / params.rate_hz
        self._last: np.ndarray | None = None
        self._peak_db = -np.inf

    def __call__(self, decibels: np.ndarray) -> np.ndarray:
        """(T, n_mels) dB → (T, 5) float32 dB a frame, at least 0; the audio's first frame has no onset."""
        before = np.concatenate([decibels[:1] if self._last is None else self._last, decibels[:-1]])
        self._last = decibels[-1:].copy()
        fallen = self._fall_db * np.arange(1, len(decibels) + 1)
        peaks = np.maximum(np.maximum.accumulate(decibels.max(axis=1) + fallen), self._peak_db) - fallen
        self._peak_db = float(peaks[-1])
        floor = (peaks - RANGE_DB).astype(np.float32)[:, None]
        # One floor for both, so that a rise of the floor is no onset.
        rise = np.maximum(decibels, floor)
        rise -= np.maximum(before, floor, out=before)
        return np.asarray(np.clip(rise, 0, MOST_DB, out=rise) @ self._means)


def onsets(strength: np.ndarray, rate_hz: float) -> np.ndarray:
    """(T, 5) onset strength → (T, 5) float32, 1 at onsets."""
    near, around = (2 * round(seconds * rate_hz) + 1 for seconds in (NEAR_S, AROUND_S))
    highest = moving_max(strength, near)
    mean = moving_mean(strength, around)
    return np.asarray((strength == highest) & (strength > mean + STANDS_OUT_DB), np.float32)


def describe(windows: np.ndarray, rate_hz: float) -> np.ndarray:
    """(N, 10, W) onset strength and onsets in five bands → (N, 51); see the table above."""
    strength, at_onsets = windows[:, :N_BANDS].astype(np.float64), windows[:, N_BANDS:]
    mean = strength.mean(axis=2)
    centred = strength - mean[:, :, None]
    variance = np.square(centred).mean(axis=2)
    skewness = (np.square(centred) * centred).mean(axis=2) / np.maximum(variance, SMALL) ** 1.5
    tempi = tempogram(centred.astype(np.float32), rate_hz)
    octaves = np.arange(N_TEMPI) / PER_OCTAVE + np.log2(SLOWEST / PREFERRED)
    weighted = tempi[:, -1] * np.exp(-0.5 * np.square(octaves))
    return np.concatenate(
        [
            np.log(mean + 0.05),
            np.log(np.sqrt(variance) + 0.05),
            at_onsets.mean(axis=2, dtype=np.float64) * rate_hz,
            skewness,
            tempi.max(axis=2),
            tempi[:, -1],
            octaves[weighted.argmax(axis=1)][:, None],
            (weighted.max(axis=1) - weighted.mean(axis=1))[:, None],
        ],
        axis=1,
    )


def tempogram(centred: np.ndarray, rate_hz: float) -> np.ndarray:
    """(N, C, W) values whose means are 0 → (N, C, 24): their largest autocorrelation in each tempo's bin, at most 1."""
    width = centred.shape[2]
    steps = (np.arange(N_TEMPI * POINTS) + 0.5) / POINTS - 0.5
    lags = 60 * rate_hz / (SLOWEST * 2 ** (steps / PER_OCTAVE))
    n_lags = int(lags.max()) + 2
    size = next_fast_len(width + n_lags)
    spectrum = rfft(centred, size, axis=2)
    # Smoothed by weights of 1/4, 1/2, 1/4, since periods are no whole number of frames.
    smoothing = 0.5 + 0.5 * np.cos(2 * np.pi / size * np.arange(spectrum.shape[2], dtype=np.float32))
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) * np.square(smoothing)
    sums = irfft(power, size, axis=2)[:, :, :n_lags]
    # Divided by the number of pairs, but not by few.
    pairs = np.maximum(width - np.arange(n_lags), width / 8)
    correlation = sums / pairs / np.maximum(sums[:, :, :1] / width, SMALL)
    whole = lags.astype(int)
    part = lags - whole
    between = (1 - part) * correlation[:, :, whole] + part * correlation[:, :, whole + 1]
    shape = (*centred.shape[:2], N_TEMPI, POINTS)
    return np.asarray(np.minimum(between.reshape(shape).max(axis=3), 1))
