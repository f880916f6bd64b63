"""Tempo, from the autocorrelation of the onset strength, with a confidence.

The onset strength of four bands is that of `mer_ray.features.rhythm`. Its autocorrelation, in windows of 12 s, is
averaged over bands and windows (Grosche, Müller & Kurth 2010, "Cyclic tempogram", ICASSP). A tempo's clarity is the
weighted mean at the lags of one to eight beats; the tempo is where clarity times a log-normal prior is largest
(Ellis 2007, "Beat tracking by dynamic programming", JNMR 36(1)). It is then refined at the lags of up to eight beats.
A tempo above `FAST` is given as half of it, since listeners rarely tap so fast, with half the confidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.mel import MelExtractor, MelSpectra
from mer_ray.features.rhythm import START_S, Flux, Params

WINDOW_S = 12.0
LEAST_S = 4.0
"""Of audio that has a tempo."""
SMOOTHING = np.array([1, 2, 3, 2, 1]) / 9
"""Over frames, for beats that are not exactly even."""
RATE_HZ, FRAME_RATES_HZ = 22_050 / 512, (40.0, 47.0)
"""Frames in a second, and which of a model's own spectra serve."""
LONGEST_S = 6.0
"""The longest lag that is kept, for the refinement."""
SLOWEST, FASTEST, STEPS = 30.0, 240.0, 1_200
BEATS = ((1, 1.0), (2, 1.0), (3, 0.5), (4, 1.0), (8, 0.5))
"""The lags that make a tempo's clarity, in beats, and their weights."""
WITHIN_S = 4.0
"""Longer lags do not count towards it, so slow tempi need clearer beats."""
PREFERRED, OCTAVES = 110.0, 1.0
"""Centre and standard deviation of the prior, in beats a minute and octaves; librosa has 120 and 1."""
REFINED, REFINED_BEATS = 0.02, 8
"""How far the refinement moves the tempo, and over how many beats it looks."""
STEADY = 0.02
"""Variance of the onset strength, in dB², of a band that has no onsets."""
LEAST_CLARITY = 0.1
"""What noise, and clicks at random, do not reach."""
FAST = 180.0
OTHER = 0.1
"""Tempi more octaves apart than this are rivals."""
OFFSET, SLOPE, SHARE = -8.67, 6.76, 15.3
"""Of the logistic function from clarity, and the share beside the strongest rival, to confidence; see
``benchmarks/RESULTS.md``."""


class Beat(MelExtractor):
    """One row (1, 1 + n_lags) for each piece of audio: its windows, and the sum of their autocorrelations.

    Shares the spectra of the model's own features where they have about 43 frames a second.
    """

    NAME = "beat"

    def __init__(self, beside: FeatureSpec, features: Iterable[Extractor]) -> None:
        own = [e.spectra for e in features if isinstance(e, MelExtractor)]
        low, high = FRAME_RATES_HZ
        near = (s for s in own if low <= s.params.sample_rate_hz / s.params.hop_length <= high)
        self.spectra = next(near, None) or _spectra(beside.sample_rate_hz)
        rate_hz = self.spectra.params.sample_rate_hz
        self.frame_rate_hz = rate_hz / self.spectra.params.hop_length
        self.spec = replace(
            beside,
            name=self.NAME,
            sample_rate_hz=rate_hz,
            n_dims=1 + round(LONGEST_S * self.frame_rate_hz),
            family="",
            weights=None,
            note="",
        )

    def listen(self) -> BeatListener:
        """See `mer_ray.features.mel.MelExtractor`."""
        shared = self.spectra.params.model_dump(include=set(Params.model_fields))
        return BeatListener(Params(**shared), self.spec.n_dims - 1)


def _spectra(rate_hz: int) -> MelSpectra:
    """As the default of `rhythm`, at another rate."""
    n_fft = 1 << round(np.log2(rate_hz * 2_048 / 22_050))
    hop, fmax = round(rate_hz / RATE_HZ), min(7_500.0, rate_hz / 2)
    return MelSpectra(Params(sample_rate_hz=rate_hz, n_fft=n_fft, hop_length=hop, fmax=fmax))


class BeatListener:
    """A `mer_ray.features.mel.MelListener`."""

    def __init__(self, params: Params, n_lags: int) -> None:
        self._rate_hz, self._n_lags = params.rate_hz, n_lags
        self._flux = Flux(params)
        self._strengths: list[np.ndarray] = []
        self._row = np.zeros((0, 1 + n_lags), np.float32)

    def take(self, decibels: np.ndarray) -> None:
        """See `mer_ray.features.mel.MelListener`."""
        self._strengths.append(self._flux(decibels)[:, :-1])

    def finish(self, n_frames: int, n_samples: int) -> None:
        """See `mer_ray.features.mel.MelListener`."""
        if n_frames < LEAST_S * self._rate_hz:
            return
        strength = np.concatenate(self._strengths)[:n_frames]
        self._strengths.clear()
        strength[: round(START_S * self._rate_hz)] = 0
        self._row = autocorrelation(strength, self._rate_hz, self._n_lags)[None].astype(np.float32)

    def frames(self) -> np.ndarray:
        """(1, 1 + n_lags) float32, or no row where the audio is too short."""
        return self._row


def autocorrelation(strength: np.ndarray, rate_hz: float, n_lags: int) -> np.ndarray:
    """(T, bands) onset strength → (1 + n_lags,): the number of windows, and the sum of their autocorrelations.

    Each is the mean over bands, 1 at lag 0 where all have onsets.
    """
    smooth = np.stack([np.convolve(band, SMOOTHING, "same") for band in strength.T.astype(np.float64)], axis=1)
    width = min(len(smooth), round(WINDOW_S * rate_hz))
    size = 1 << int(np.ceil(np.log2(2 * width)))
    starts = range(0, len(smooth) - width + 1, max(1, width // 2))
    pairs = np.maximum(width - np.arange(n_lags), width / 8)
    total = np.zeros(n_lags)
    for start in starts:
        window = smooth[start : start + width]
        spectrum = np.fft.rfft(window - window.mean(axis=0), size, axis=0)
        sums = np.fft.irfft(np.square(np.abs(spectrum)), size, axis=0)[:n_lags]
        sums = np.pad(sums, ((0, n_lags - len(sums)), (0, 0)))
        total += (sums / pairs[:, None] / np.maximum(sums[0] / width, STEADY)).mean(axis=1)
    return np.concatenate([[len(starts)], total])


def tempo(rows: np.ndarray, rate_hz: float) -> tuple[float, float] | tuple[None, None]:
    """Rows (n, 1 + n_lags) of one track → (beats a minute, confidence), or Nones where there is no beat.

    rate_hz: of the frames. The confidence is the expected share of tempi within 4 % of the right one: it is lower where
    another tempo, such as half or double, is nearly as likely.
    """
    windows = rows[:, 0].sum(dtype=np.float64)
    if windows == 0:
        return None, None
    correlation = rows[:, 1:].sum(axis=0, dtype=np.float64) / windows
    tempi = SLOWEST * 2 ** (np.arange(STEPS) / STEPS * np.log2(FASTEST / SLOWEST))
    beat = 60 * rate_hz / tempi
    within = [np.where(n * beat <= WITHIN_S * rate_hz, _at(correlation, n * beat), 0) for n, _ in BEATS]
    weights = np.array([weight for _, weight in BEATS])
    clarity = weights @ np.stack(within) / weights.sum()
    likely = clarity * np.exp(-0.5 * np.square(np.log2(tempi / PREFERRED) / OCTAVES))
    best = int(likely.argmax())
    if clarity[best] < LEAST_CLARITY:
        return None, None
    found, own, most = _refined(correlation, float(tempi[best]), rate_hz), likely[best], 1.0
    if found > FAST:
        found /= 2
        own, most = np.interp(found, tempi, likely), 0.5
    rival = likely[np.abs(np.log2(tempi / found)) > OTHER].max()
    own, rival = np.maximum((own, rival), 0)
    return found, float(most / (1 + np.exp(-OFFSET - SLOPE * clarity[best] - SHARE * own / (own + rival))))


def _refined(correlation: np.ndarray, bpm: float, rate_hz: float) -> float:
    near = bpm * (1 + REFINED * np.linspace(-1, 1, 401))
    beats = range(1, max(1, min(REFINED_BEATS, int(len(correlation) * bpm / 60 / rate_hz / 1.05))) + 1)
    return float(near[np.sum([_smooth_at(correlation, n * 60 * rate_hz / near) for n in beats], axis=0).argmax()])


def _at(correlation: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Values between lags, by linear interpolation; 0 beyond the last."""
    return np.asarray(np.interp(lags, np.arange(len(correlation)), correlation, right=0.0))


def _smooth_at(correlation: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """As `_at`, by cubic interpolation (Catmull-Rom): of linear pieces, the largest value is always at a whole lag."""
    whole = np.floor(lags)
    a, b, c, d = (_at(correlation, whole + n) for n in (-1, 0, 1, 2))
    x = lags - whole
    return np.asarray(b + x / 2 * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a))))
