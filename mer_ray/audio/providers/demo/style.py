"""From an affect to musical qualities: mode, tempo, loudness, brightness, ...

The directions follow what listeners report; the strengths are chosen by ear.

valence     mode from phrygian to lydian (Hevner 1935; Gabrielsson & Lindström 2010), consonance and simple harmony
            (Gomez & Danuser 2007), higher register and light bright colours against harsh, rough ones (Hevner 1937;
            Eerola, Friberg & Bresin 2013), bouncing articulation (Juslin & Laukka 2003)
arousal     tempo and loudness (Ilie & Thompson 2006; Gomez & Danuser 2007), note density, staccato, sharp attacks, a
            brighter spectrum (Juslin & Laukka 2003, 2004; Gabrielsson & Lindström 2010)
dominance   low register, weight of bass and drums, firm accented rhythm, close sound; its absence: high and thin, free
            timing, far away in the reverb (Hevner 1937 on low pitch and on firm rhythm as dignified and vigorous;
            power and potency in Gabrielsson & Lindström 2010)

Cues are additive and each contributes a part (Eerola, Friberg & Bresin 2013), so every quality has its own noise: none
of them alone determines the affect.

- K. Hevner, "The affective character of the major and minor modes in music", American Journal of Psychology 47 (1935)
- K. Hevner, "The affective value of pitch and tempo in music", American Journal of Psychology 49 (1937)
- P. N. Juslin and P. Laukka, "Communication of emotions in vocal expression and music performance: different channels,
  same code?", Psychological Bulletin 129 (2003)
- P. N. Juslin and P. Laukka, "Expression, perception, and induction of musical emotions", Journal of New Music
  Research 33 (2004)
- G. Ilie and W. F. Thompson, "A comparison of acoustic cues in music and speech for three dimensions of affect", Music
  Perception 23 (2006)
- P. Gomez and B. Danuser, "Relationships between musical structure and psychophysiological measures of emotion",
  Emotion 7 (2007)
- A. Gabrielsson and E. Lindström, "The role of structure in the musical expression of emotions", in P. N. Juslin and
  J. A. Sloboda (eds.), Handbook of Music and Emotion (2010)
- T. Eerola, A. Friberg and R. Bresin, "Emotional expression in music: contribution, linearity, and additivity of
  primary musical cues", Frontiers in Psychology 4 (2013)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MODES = ("phrygian", "aeolian", "dorian", "mixolydian", "ionian", "lydian")
"""From dark to bright: each raises one more degree of the scale."""
_MODE_ENDS = np.array([0.22, 0.42, 0.52, 0.62, 0.84])  # valence at which the next mode begins

_QUALITY_NOISE = 0.06  # SD of each quality around the affect


@dataclass(frozen=True)
class Style:
    """Musical qualities of one cue. Shares are in 0..1."""

    mode: str
    tonic: int  # MIDI pitch, 48..59
    meter: int  # beats per bar
    tempo_bpm: float
    density: float  # share of the sixteenths that are played
    articulation: float  # sounding share of a note's time: staccato to legato
    accent: float  # how far downbeats stand out
    timing_sd_s: float  # freedom of the rhythm
    register: float  # semitones above or below the middle
    brightness: float  # share: from round to brilliant spectra
    attack_s: float  # of the sustained voices
    roughness: float  # share: clusters, beating, harsh colour
    sparkle: float  # share: bells and light colour
    weight: float  # share: bass and low drums
    body: float  # share: full chords, with the low middle of horns
    drive: float  # share: hats and snare
    distance: float  # share: reverb against direct sound
    decay_s: float  # of the reverb, to -60 dB
    level_db: float  # RMS of the cue, dB of full scale
    lead: str  # voice of the melody


def choose(affect: tuple[float, float, float], lead: str, rng: np.random.Generator) -> Style:
    """A style for (valence, arousal, dominance) in 0..1; ``lead`` is the composer's favourite voice."""

    def near(value: float) -> float:
        return float(np.clip(value + rng.normal(0, _QUALITY_NOISE), 0, 1))

    valence, arousal, dominance = affect
    energy = near(arousal)
    return Style(
        mode=MODES[int(np.searchsorted(_MODE_ENDS, near(valence)))],
        tonic=int(rng.integers(48, 60)),
        meter=int(rng.choice([3, 4], p=[0.2, 0.8])),
        tempo_bpm=58 * 2 ** (1.3 * near(arousal) + 0.1 * near(valence)),
        density=near(0.1 + 0.75 * arousal),
        articulation=1.05 - 0.5 * near(arousal) - 0.2 * near(valence),
        accent=near(0.15 + 0.5 * dominance + 0.3 * arousal),
        timing_sd_s=0.002 + 0.02 * near(1 - dominance),
        register=10 * (near(valence) - 0.5) + 4 * (near(arousal) - 0.5) - 9 * (near(dominance) - 0.5),
        brightness=near(0.1 + 0.65 * arousal + 0.15 * valence),
        attack_s=0.015 + 0.16 * (1 - energy) ** 2,
        roughness=near(1 - valence) ** 1.3,
        sparkle=near(valence) ** 1.3,
        weight=near(dominance) ** 1.3,
        body=near(dominance),
        drive=near(0.9 * arousal) ** 1.3,
        distance=near(0.05 + 0.75 * (1 - dominance) + 0.15 * (1 - arousal)),
        decay_s=0.6 + 1.6 * near(0.6 * (1 - arousal) + 0.4 * (1 - dominance)),
        # Mastering differs: without this, loudness alone would determine the arousal.
        level_db=-26.5 + 5 * energy + 3.5 * near(dominance) + float(np.clip(rng.normal(0, 1.5), -3, 3)),
        lead=lead,
    )
