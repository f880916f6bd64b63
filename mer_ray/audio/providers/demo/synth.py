"""From a score to samples: wavetable voices, noise drums, a reverb.

Each note reads one cycle that is built from harmonics below the Nyquist frequency, so nothing aliases. The reverb
convolves with exponentially decaying noise, as in J. A. Moorer, "About this reverberation business", Computer Music
Journal 3 (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mer_ray.audio.providers.demo.composition import Note, Score
from mer_ray.audio.providers.demo.style import Style

RATE = 22_050
_TABLE = 2**13  # samples per stored cycle
_TURN = 2**32  # phase units per period
_CEILING = 0.97
_HISS = 10 ** (-72 / 20)  # room tone, RMS: real recordings are never digitally silent
_RAMP_S = 0.01

Samples = np.ndarray
"""Mono float32 samples at RATE."""


@dataclass(frozen=True)
class Voice:
    """The timbre of a part. Times in s; with a ``ring_s`` (time constant) it is struck, else sustained."""

    gain: float
    slope: float  # harmonic k has amplitude k ** -slope
    even: float = 1.0  # amplitude of the even harmonics against the odd ones
    formant_hz: float = 1000.0
    formant: float = 0.0  # height of the formant against the plain slope
    attack_s: float = 0.01
    release_s: float = 0.08
    ring_s: float | None = None
    detune_cents: float = 0.0  # of a second, equal oscillator
    vibrato_cents: float = 0.0
    tremolo: float = 0.0  # depth, 0..1


_LEADS = {  # harmonic slope, even harmonics, formant of the melody voices
    "flute": (1.9, 0.7, 900.0, 0.5),
    "reed": (1.3, 0.25, 1100.0, 1.0),
    "strings": (1.2, 1.0, 1000.0, 1.0),
    "horn": (1.6, 1.0, 600.0, 1.5),
}
LEADS = tuple(_LEADS)


def voices(style: Style) -> dict[str, Voice]:
    """The orchestra for a style: the same six players, differently coloured and balanced."""
    shade = 0.9 * (0.5 - style.brightness)  # added to every slope
    slope, even, formant_hz, formant = _LEADS[style.lead]
    attack, rough = style.attack_s, style.roughness
    return {
        "pad": Voice(
            0.05 + 0.3 * style.body, 1.5 + shade, 1.0, 350.0, 2 * style.body, attack + 0.1, 0.25, None, 5 + 14 * rough
        ),
        "lead": Voice(0.30, slope + shade, even, formant_hz, formant, attack, 0.1, None, 0, 18),
        "ostinato": Voice(0.22, 1.2 + shade, 0.8, 800.0, 0.3, 0.004, 0.06, 0.12 + 0.35 * style.articulation),
        "bass": Voice(0.08 + 0.75 * style.weight, 1.4 + shade, 1.0, 200.0, 0.5, 0.02, 0.08, 0.9),
        "bells": Voice(0.01 + 0.16 * style.sparkle, 1.0, 0.5, 5000.0, 2.0, 0.002, 0.2, 0.25),
        "cluster": Voice(0.01 + 0.22 * rough, 1.0 + shade, 0.9, 1500.0, 3.0, attack, 0.2, None, 20, 0, 0.6),
    }


def perform(score: Score, style: Style, seconds: float, rng: np.random.Generator) -> Samples:
    """``seconds`` of sound: float32, shape (round(seconds * RATE),), |x| < 0.97, at the style's level."""
    length = max(1, round(seconds * RATE))
    dry = np.zeros(length, np.float32)
    band = voices(style)
    for part, notes in score.parts.items():
        _play(dry, notes, band[part])
    kit = _kit(style, rng)
    for drum, hits in score.drums.items():
        for start_s, velocity in hits:
            _add(dry, kit[drum] * np.float32(velocity), start_s)
    wet = _reverb(dry, style.decay_s, rng)
    mix = dry + np.float32(0.7 * style.distance) * wet
    mix *= np.float32(10 ** (style.level_db / 20) / max(float(np.sqrt(np.mean(mix**2))), 1e-6))
    mix += rng.standard_normal(length, np.float32) * np.float32(_HISS)
    _fade(mix)
    return np.asarray(_CEILING * np.tanh(mix / _CEILING), np.float32)


# voices ------------------------------------------------------------------------------------------------------------


def _play(out: Samples, notes: list[Note], voice: Voice) -> None:
    cycles: dict[float, Samples] = {}
    tones: dict[tuple[float, int], Samples] = {}  # a cache, since most notes are repeated
    for note in notes:
        key = note.pitch, max(1, round((note.duration_s + voice.release_s) * RATE))
        if note.pitch not in cycles:
            cycles[note.pitch] = _cycle(_hz(note.pitch), voice)
        if key not in tones:
            tones[key] = _tone(*key, voice, cycles[note.pitch])
        _add(out, tones[key] * np.float32(note.velocity), note.start_s)


def _hz(pitch: float) -> float:
    return float(440 * 2 ** ((pitch - 69) / 12))


def _cycle(hz: float, voice: Voice) -> Samples:
    """One period of the voice at a pitch, RMS 1; shape (_TABLE,)."""
    k = np.arange(1, max(2, int(0.47 * RATE / hz) + 1))
    amplitude = k**-voice.slope * np.where(k % 2 == 0, voice.even, 1.0)
    amplitude *= 1 + voice.formant * np.exp(-0.5 * (np.log2(k * hz / voice.formant_hz) / 0.6) ** 2)
    spectrum = np.zeros(_TABLE // 2 + 1, complex)
    # Quadratic phases spread the energy over the period, without peaks.
    spectrum[k] = amplitude * np.exp(1j * np.pi * k**2 / len(k))
    cycle = np.fft.irfft(spectrum)
    return np.asarray(cycle / np.sqrt(np.mean(cycle**2)), np.float32)


def _tone(pitch: float, n: int, voice: Voice, cycle: Samples) -> Samples:
    """``n`` samples of a note at full velocity, its release included."""
    time = np.arange(n, dtype=np.float32) / np.float32(RATE)
    hz = _hz(pitch)
    wave = _oscillate(cycle, hz, time, voice.vibrato_cents)
    if voice.detune_cents:
        wave = (wave + _oscillate(cycle, hz * 2 ** (voice.detune_cents / 1200), time, 0)) * np.float32(0.7)
    if voice.tremolo:
        wave *= 1 - np.float32(voice.tremolo) * (0.5 + 0.5 * np.sin(np.float32(2 * np.pi * 6.5) * time))
    if voice.ring_s is not None:
        wave *= np.exp(time * np.float32(-1 / voice.ring_s))
    wave *= np.float32(voice.gain)
    rise = min(n, max(1, int(voice.attack_s * RATE)))
    fall = min(n, max(1, int(voice.release_s * RATE)))
    wave[:rise] *= _ramp(rise)
    wave[n - fall :] *= _ramp(fall)[::-1] ** 2
    return wave


@lru_cache(maxsize=64)
def _ramp(n: int) -> Samples:
    return np.linspace(0, 1, n, dtype=np.float32)


def _oscillate(cycle: Samples, hz: float, time: Samples, vibrato_cents: float) -> Samples:
    """Read the cycle at a pitch. The phase is an integer in units of 2^-32 of a period, so that it does not drift."""
    step = round(hz / RATE * _TURN)
    phase = np.arange(0, len(time) * step, step, dtype=np.int64)
    if vibrato_cents:
        rate_hz = 5.5
        swing = hz * (2 ** (vibrato_cents / 1200) - 1) / (2 * np.pi * rate_hz)  # periods
        onset = np.minimum(time * 3, 1)  # vibrato starts gradually
        wobble = np.float32(swing * _TURN) * onset * np.sin(np.float32(2 * np.pi * rate_hz) * time)
        phase += wobble.astype(np.int64)
    phase //= _TURN // len(cycle)
    phase &= len(cycle) - 1
    samples: Samples = cycle.take(phase)
    return samples


def _add(out: Samples, sound: Samples, start_s: float) -> None:
    start = int(start_s * RATE)
    stop = min(len(out), start + len(sound))
    if start < stop:
        out[start:stop] += sound[: stop - start]


# drums -------------------------------------------------------------------------------------------------------------


def _kit(style: Style, rng: np.random.Generator) -> dict[str, Samples]:
    """One stroke of each drum, balanced for the style."""
    time = np.arange(int(0.9 * RATE), dtype=np.float32) / np.float32(RATE)
    noise = rng.standard_normal(len(time), np.float32)
    hiss = np.diff(noise, prepend=noise[:1]) * np.float32(0.7)  # a high-pass
    low = np.sin(2 * np.pi * (52 * time + 3.5 * (1 - np.exp(-time / 0.05)))) * np.exp(-time / 0.28)
    low += 0.12 * noise * np.exp(-time / 0.02)
    snare = (0.5 * noise + 0.6 * np.sin(2 * np.pi * 185 * time)) * np.exp(-time / 0.09)
    gains = {"low": 0.1 + 2.2 * style.weight, "snare": 0.7 * style.drive, "hat": 0.02 + 0.35 * style.drive}
    strokes = {"low": low, "snare": snare, "hat": hiss * np.exp(-time / 0.035)}
    rise = np.minimum(time / 0.002, 1)
    return {name: np.asarray(gains[name] * rise * stroke, np.float32) for name, stroke in strokes.items()}


# room --------------------------------------------------------------------------------------------------------------


def _reverb(dry: Samples, decay_s: float, rng: np.random.Generator) -> Samples:
    """The dry sound in a hall whose echo falls by 60 dB in ``decay_s`` (at most 2.9 s); same shape, similar level."""
    block = 2**16
    n = min(block, max(2, int(decay_s * RATE)))
    time = np.arange(n) / RATE
    echo = rng.standard_normal(n) * 10 ** (-3 * time / decay_s) * np.minimum(time / _RAMP_S, 1)
    echo = np.convolve(echo, [0.25, 0.5, 0.25], "same")  # walls absorb the treble
    echo = (echo / np.sqrt(np.sum(echo**2))).astype(np.float32)
    hall = np.fft.rfft(echo, 2 * block)
    out = np.zeros(len(dry) + 2 * block, np.float32)
    # Overlap-add, so that a long cue needs no longer transforms than a short one.
    for start in range(0, len(dry), block):
        out[start : start + 2 * block] += np.fft.irfft(np.fft.rfft(dry[start : start + block], 2 * block) * hall)
    return out[: len(dry)]


def _fade(mix: Samples) -> None:
    rise, fall = min(len(mix), int(0.02 * RATE)), min(len(mix), RATE, len(mix) // 8 + 1)
    mix[:rise] *= _ramp(rise)
    mix[len(mix) - fall :] *= _ramp(fall)[::-1]
