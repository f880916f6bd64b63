"""Key and mode, from how often each pitch class sounds in a track, with a confidence.

Power spectra are folded into thirds of a semitone and divided by their mean over the octave around, so that no register
outweighs the others; then into pitch classes, in the track's own tuning (`mer_ray.features.tonal`). Their mean is
correlated with the 24 keys of Faraldo, Gómez, Jordà & Herrera (2016, "Key estimation in electronic dance music", ECIR),
and with their lydian and phrygian variants, which count as major and minor. The bass adds its share of each tonic, as
players of a bass do. The profiles of Krumhansl & Kessler (1982), Temperley (2007) and Albrecht & Shanahan (2013) did
less well in ``benchmarks/measures.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.moving import moving_mean
from mer_ray.features.stft import Cutter, hann
from mer_ray.features.tonal import FINE, tuned_classes

KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
MAJOR = (
    *(0.16519551, 0.04749026, 0.08293076, 0.06687112, 0.09994645, 0.09274123),
    *(0.05294487, 0.13159476, 0.05218986, 0.07443653, 0.06940723, 0.06425150),
)
MINOR = (
    *(0.17235348, 0.05336489, 0.07610090, 0.10043649, 0.05621498, 0.08527853),
    *(0.04979150, 0.13451001, 0.07458916, 0.05003023, 0.09187879, 0.05545106),
)
VARIANTS = ((0, 5, 6), (1, 1, 2))
"""Mode, and the degrees in semitones that change places: lydian has a sharp fourth, phrygian a flat second."""
VARIANT_COST = 0.03
BASS_WEIGHT = 1.0

LOWEST, HIGHEST, BASS = 33, 96, 52
"""MIDI pitches: the first, the end, and the end of the bass."""
WIDTH = 0.2
"""Standard deviation of a third of a semitone's Gaussian, in semitones."""
WINDOW_S = 8_192 / 22_050
QUIET = 1e-7
"""Power that is added everywhere, for a full scale of 1 and 8,192 samples."""
N_DIMS = 1 + 2 * 12 * FINE
LEAST_SPREAD = 0.01
"""Standard deviation of the shares of pitch classes; that of noise and drums is less, that of most music over 0.02."""
OFFSET, SLOPE = -0.27, 13.4
"""Of the logistic function from the lead to the confidence; fitted in ``benchmarks/measures.py``."""


class Pitches(Extractor):
    """One row (1, 73) for each piece of audio: its frames, and their sums of shares of 36 thirds of a semitone from C
    up, of all pitches and of the bass."""

    NAME = "pitches"

    def __init__(self, beside: FeatureSpec) -> None:
        rate_hz = beside.sample_rate_hz
        self.spec = replace(beside, name=self.NAME, n_dims=N_DIMS, family="", weights=None, note="")
        self.n_fft = 1 << round(np.log2(WINDOW_S * rate_hz))
        self._window = hann(self.n_fft).astype(np.float32) * np.float32(8_192 / self.n_fft)
        hertz = np.fft.rfftfreq(self.n_fft, 1 / rate_hz)
        semitones = 12 * np.log2(np.maximum(hertz, 1) / 440) + 69
        # Half an octave more at the top, for the mean around.
        self._parts = np.arange(LOWEST * FINE, (HIGHEST + 6) * FINE)
        weights = np.exp(-0.5 * np.square((semitones[:, None] - self._parts / FINE) / WIDTH))
        weights[weights < 1e-4] = 0
        octave = 12 * FINE
        self._products = []
        for first in range(0, len(self._parts), octave):
            block = weights[:, first : first + octave]
            bins = np.flatnonzero(block.any(axis=1))
            if len(bins):
                rows = slice(bins[0], bins[-1] + 1)
                self._products.append((slice(first, first + octave), rows, block[rows].astype(np.float32)))
        classes = self._parts % octave
        self._classes = (classes[:, None] == np.arange(octave)).astype(np.float32)
        self._n = (HIGHEST - LOWEST) * FINE
        self._n_bass = (BASS - LOWEST) * FINE

    def start(self) -> PitchesStream:
        """See `mer_ray.features.Extractor`."""
        return PitchesStream(self)

    def shares(self, frames: np.ndarray) -> np.ndarray:
        """(T, n_fft) float32 samples → (73,): T, and the sums over frames of both shares."""
        spectrum = np.fft.rfft(frames * self._window, axis=1)
        squares = np.square(spectrum.real) + np.square(spectrum.imag)
        power = np.zeros((len(frames), len(self._parts)), np.float32)
        for parts, bins, weights in self._products:
            power[:, parts] = squares[:, bins] @ weights
        power += np.float32(QUIET)
        flat = (power / _around(power))[:, : self._n] @ self._classes[: self._n]
        bass = power[:, : self._n_bass] @ self._classes[: self._n_bass]
        both = [part / part.sum(axis=1, keepdims=True) for part in (flat, bass)]
        return np.concatenate([[len(frames)], *(part.sum(axis=0, dtype=np.float64) for part in both)])


def _around(power: np.ndarray) -> np.ndarray:
    """(T, P) → (T, P): the mean over an octave around each part; at the ends the last one is repeated."""
    return np.asarray(np.maximum(moving_mean(power.T, 12 * FINE + 1).T, QUIET / 2))


class PitchesStream:
    """A `mer_ray.features.FrameStream`."""

    def __init__(self, extractor: Pitches) -> None:
        self._extractor = extractor
        self._cutter = Cutter(extractor.n_fft, extractor.n_fft // 2)
        self._sum = np.zeros(N_DIMS)

    def push(self, samples: np.ndarray) -> None:
        """The next samples."""
        for frames in self._cutter.push(samples):
            self._sum += self._extractor.shares(frames)

    def finish(self) -> None:
        """End of the samples."""
        for frames in self._cutter.finish():
            self._sum += self._extractor.shares(frames)

    def frames(self) -> np.ndarray:
        """(1, 73) float32, or no row where the audio is too short."""
        return self._sum[None].astype(np.float32) if self._cutter.n_frames else np.zeros((0, N_DIMS), np.float32)


def _profiles() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(12, K) profiles without mean and of length 1, each one's key (0..11 major, 12..23 minor), and its cost."""
    profiles, keys, costs = [], [], []
    for mode, profile in enumerate((MAJOR, MINOR)):
        for degrees in [None, *((a, b) for of, a, b in VARIANTS if of == mode)]:
            own = np.array(profile)
            if degrees:
                own[list(degrees)] = own[list(degrees[::-1])]
            centred = (own - own.mean()) / np.linalg.norm(own - own.mean())
            for tonic in range(12):
                profiles.append(np.roll(centred, tonic))
                keys.append(12 * mode + tonic)
                costs.append(VARIANT_COST if degrees else 0.0)
    return np.array(profiles).T, np.array(keys), np.array(costs)


PROFILES, PROFILE_KEYS, COSTS = _profiles()


def clarity(rows: np.ndarray) -> tuple[int, float, float]:
    """Rows (n, 73) of one track → the best key (0..11 major from C up, 12..23 minor), its lead, the spread.

    lead: over the second best key, as a difference of correlations. spread: standard deviation of the pitch classes.
    """
    total = rows.sum(axis=0, dtype=np.float64)
    both = total[1:].reshape(2, -1) / max(total[0], 1)
    classes, bass = both @ tuned_classes(both[0])
    centred = classes - classes.mean()
    fit = centred / max(np.linalg.norm(centred), 1e-9) @ PROFILES - COSTS
    fit += BASS_WEIGHT * (bass / bass.sum() - 1 / 12)[PROFILE_KEYS % 12]
    by_key = np.full(24, -np.inf)
    np.maximum.at(by_key, PROFILE_KEYS, fit)
    second, best = np.argsort(by_key)[-2:]
    return int(best), float(by_key[best] - by_key[second]), float(classes.std())


def key(rows: np.ndarray) -> tuple[str, str, float] | tuple[None, None, None]:
    """Rows (n, 73) of one track → (tonic, mode, confidence), or Nones where there is no key.

    The confidence is the share of right keys (tonic and mode) among those with this lead.
    """
    if not rows[:, 0].sum():
        return None, None, None
    best, lead, spread = clarity(rows)
    confidence = 1 / (1 + np.exp(-OFFSET - SLOPE * lead))
    if spread < LEAST_SPREAD:
        return None, None, None
    return KEYS[best % 12], MODES[best // 12], float(confidence)
