"""From a style to a score: chords, melody, bass, ostinato, bells, clusters and drums, as notes in time.

The form: four-bar progressions usual in each mode, one rhythm for the ostinato, two motifs as A A B A over the chords,
strong beats on chord tones, and the tonic at the end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mer_ray.audio.providers.demo.style import Style

_SCALES = {
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
}
_PROGRESSIONS = {  # roots, as degrees of the scale counted from 0
    "phrygian": ((0, 1, 0, 6), (0, 1, 5, 1), (0, 6, 5, 1)),
    "aeolian": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 6, 5, 6)),
    "dorian": ((0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 0), (0, 4, 6, 3)),
    "ionian": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
    "lydian": ((0, 1, 0, 1), (0, 1, 5, 4), (0, 4, 1, 0)),
}
_FORM = "AABA"
_SLOTS = 4  # per beat: sixteenths


@dataclass(frozen=True)
class Note:
    """pitch: MIDI, may be fractional; velocity: amplitude in 0..1."""

    start_s: float
    duration_s: float
    pitch: float
    velocity: float


@dataclass(frozen=True)
class Score:
    """parts: voice (pad, lead, ostinato, bass, bells, cluster) → notes. drums: drum → (start in s, velocity)."""

    parts: dict[str, list[Note]]
    drums: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class _Bar:
    start_s: float
    beat_s: float
    root: int
    motif: str
    last: bool


def compose(style: Style, seconds: float, rng: np.random.Generator) -> Score:
    """A score that fills ``seconds``; the same style and random state give the same score."""
    return _Composer(style, rng).write(seconds)


class _Composer:
    def __init__(self, style: Style, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng
        self.scale = _SCALES[style.mode]
        progressions = _PROGRESSIONS[style.mode]
        self.progression = progressions[rng.integers(len(progressions))]
        self.ostinato = self._rhythm(style.density)
        self.figure = rng.permutation([0, 2, 4, 7])
        self.motifs = {name: self._motif() for name in sorted(set(_FORM))}
        self.parts: dict[str, list[Note]] = defaultdict(list)
        self.drums: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def write(self, seconds: float) -> Score:
        beat_s = 60 / self.style.tempo_bpm
        bar_s = beat_s * self.style.meter
        bars = max(1, int(np.ceil(seconds / bar_s)))
        for number in range(bars):
            last = number == bars - 1 and bars > 1
            root = 0 if last else self.progression[number % len(self.progression)]
            bar = _Bar(number * bar_s, beat_s, root, _FORM[number % len(_FORM)], last)
            for part in (self._pad, self._lead, self._ostinato, self._bass, self._bells, self._cluster, self._drums):
                part(bar)
        return Score(dict(self.parts), dict(self.drums))

    # material ------------------------------------------------------------------------------------------------------

    def _rhythm(self, density: float) -> list[int]:
        """Sixteenths of the bar that are played: with growing density first beats, then eighths, then others."""
        slots = np.arange(self.style.meter * _SLOTS)
        # At density d a beat is played with probability 2d, an eighth with 2d - 0.4, a sixteenth with 2d - 1.
        need = np.select([slots % 4 == 0, slots % 2 == 0], [0.0, 0.4], 1.0)
        played = self.rng.random(len(slots)) < 2 * density - need
        played[0] = True
        return [int(slot) for slot in slots[played]]

    def _motif(self) -> list[tuple[int, int]]:
        """(slot, step) pairs: steps of the scale above the chord's root, a walk around the chord's tones."""
        motif, step = [], int(self.rng.choice([0, 2, 4]))
        for slot in self._rhythm(0.15 + 0.45 * self.style.density):
            if slot % _SLOTS == 0:
                step = min((0, 2, 4, 7), key=lambda tone: abs(tone - step))
            motif.append((slot, step))
            step = int(np.clip(step + self.rng.choice([-2, -1, -1, 1, 1, 2]), -3, 8))
        return motif

    def _pitch(self, degree: int) -> int:
        octave, step = divmod(degree, 7)
        return self.style.tonic + 12 * octave + self.scale[step]

    def _pitch_near(self, degree: int, centre: float) -> int:
        """The scale degree as MIDI pitch, in the octave nearest to ``centre``."""
        pitch = self._pitch(degree)
        return pitch + 12 * round((centre - pitch) / 12)

    def _time(self, bar: _Bar, slot: float) -> float:
        return max(0.0, bar.start_s + slot * bar.beat_s / _SLOTS + self.rng.normal(0, self.style.timing_sd_s))

    def _velocity(self, slot: int) -> float:
        """Full on downbeats; the accent lowers other beats and offbeats."""
        behind = 0.0 if slot == 0 else 0.45 if slot % _SLOTS == 0 else 0.8
        return float(np.clip(1 - self.style.accent * behind, 0.15, 1) * self.rng.uniform(0.85, 1))

    # parts ---------------------------------------------------------------------------------------------------------

    def _pad(self, bar: _Bar) -> None:
        centre = 60 + 0.6 * self.style.register - 6 * self.style.body
        length = bar.beat_s * self.style.meter
        for step in (0, 2, 4):
            pitch = self._pitch_near(bar.root + step, centre)
            self.parts["pad"].append(Note(self._time(bar, 0), length, pitch, 0.8))

    def _lead(self, bar: _Bar) -> None:
        base = self._pitch_near(bar.root, 69 + self.style.register) - self._pitch(bar.root)
        motif = [(0, 0)] if bar.last else self.motifs[bar.motif]
        ends = [slot for slot, _ in motif[1:]] + [self.style.meter * _SLOTS]
        for (slot, step), end in zip(motif, ends, strict=True):
            length = (end - slot) * bar.beat_s / _SLOTS * self.style.articulation
            pitch = base + self._pitch(bar.root + step)
            self.parts["lead"].append(Note(self._time(bar, slot), length, pitch, self._velocity(slot)))

    def _ostinato(self, bar: _Bar) -> None:
        for number, slot in enumerate(self.ostinato):
            degree = bar.root + int(self.figure[number % len(self.figure)])
            pitch = self._pitch_near(degree, 62 + self.style.register)
            length = bar.beat_s * self.style.articulation
            self.parts["ostinato"].append(Note(self._time(bar, slot), length, pitch, self._velocity(slot)))

    def _bass(self, bar: _Bar) -> None:
        pitch = self._pitch_near(bar.root, 38 - 3 * self.style.weight)
        beats = self.style.meter
        step = beats * _SLOTS if self.style.density < 0.3 else 2 * _SLOTS if self.style.density < 0.6 else _SLOTS
        for slot in range(0, beats * _SLOTS, step):
            length = min(step, beats * _SLOTS - slot) * bar.beat_s / _SLOTS * 0.95
            self.parts["bass"].append(Note(self._time(bar, slot), length, pitch, self._velocity(slot)))

    def _bells(self, bar: _Bar) -> None:
        for slot in range(0, self.style.meter * _SLOTS, 2):
            if self.rng.random() < 0.15 + 0.5 * self.style.sparkle:
                pitch = self._pitch_near(bar.root + int(self.rng.choice([0, 2, 4])), 86)
                self.parts["bells"].append(Note(self._time(bar, slot), 0.8, pitch, self._velocity(slot)))

    def _cluster(self, bar: _Bar) -> None:
        """Semitones against the chord's fifth."""
        pitch = self._pitch_near(bar.root + 4, 60 + 0.5 * self.style.register)
        length = bar.beat_s * self.style.meter
        for offset in (0, 1):
            self.parts["cluster"].append(Note(self._time(bar, 0), length, pitch + offset, 0.8))

    def _drums(self, bar: _Bar) -> None:
        slots = self.style.meter * _SLOTS
        for slot in range(0, slots, 2):
            if slot % (2 * _SLOTS) == 0:
                self.drums["low"].append((self._time(bar, slot), self._velocity(slot)))
            elif slot % _SLOTS == 0:
                self.drums["snare"].append((self._time(bar, slot), self._velocity(slot)))
            if slot % _SLOTS == 0 or self.style.drive > 0.35:
                self.drums["hat"].append((self._time(bar, slot), self._velocity(slot)))
