"""Tonality: known keys and modes, the same in every key, at every level."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.features import tonal

RATE = 22_050
TONAL = features.load(features.resolve("tonal", tonal.Params()))
NAMES = ["modes", "passages", "spread", "mean", "centroid", "circles", "steps", "entropy", "flux", "intervals"]
CADENCES = {
    "major": [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)],
    "minor": [(0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)],
}


def columns(samples: np.ndarray) -> dict[str, np.ndarray]:
    """The table of the module's docstring: name → (n, columns)."""
    (frames,) = TONAL([samples.astype(np.float32)])
    return dict(zip(NAMES, np.split(frames, np.cumsum([3, 3, 3, 12, 6, 3, 2, 2, 2]), axis=1), strict=True))


def chords(pitches: list[tuple[float, ...]], seconds: float = 16.0, each_s: float = 1.0) -> np.ndarray:
    """Chords in turn, in semitones from A3, of tones with six partials."""
    t = np.arange(round(seconds * RATE)) / RATE
    turn = (t // each_s).astype(int) % len(pitches)
    out = np.zeros(t.size)
    for k, chord in enumerate(pitches):
        here = turn == k
        for pitch in chord:
            hertz = 220 * 2 ** (pitch / 12)
            out[here] += sum(np.sin(2 * np.pi * n * hertz * t[here]) / n**1.5 for n in range(1, 7))
    return 0.05 * out * (0.5 + 0.5 * np.exp(-(t % each_s)))


def transposed(mode: str, semitones: float) -> np.ndarray:
    return chords([tuple(p + semitones for p in chord) for chord in CADENCES[mode]])


@pytest.mark.parametrize("semitones", [-5, 0, 1, 4])
def test_the_mode_of_a_cadence_is_found_in_every_key(semitones):
    difference = {mode: columns(transposed(mode, semitones))["modes"][:, 2] for mode in CADENCES}
    assert difference["major"].min() > 0.05
    assert difference["minor"].max() < -0.05


@pytest.mark.parametrize("mode", CADENCES)
def test_transposing_hardly_matters(mode):
    wanted = TONAL([transposed(mode, 0).astype(np.float32)])[0]
    for semitones in (1, -3, 6, 0.25, 0.5, -0.37):
        np.testing.assert_allclose(TONAL([transposed(mode, semitones).astype(np.float32)])[0], wanted, atol=0.15)


@settings(max_examples=10, deadline=None)
@given(st.floats(-30, 0), st.sampled_from(sorted(CADENCES)))
def test_level_does_not_matter(gain_db, mode):
    samples = transposed(mode, 2)
    wanted, found = TONAL([samples.astype(np.float32), (samples * 10 ** (gain_db / 20)).astype(np.float32)])
    np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_chroma_starts_at_the_tonic():
    mean = columns(chords([(0, 4, 7)]))["mean"].mean(axis=0)
    assert set(np.argsort(mean)[-3:]) == {0, 4, 7}
    np.testing.assert_allclose(mean.sum(), 1, rtol=1e-5)


def test_intervals_are_those_that_sound():
    fifth, tritone = (columns(chords([(0, k)]))["intervals"].mean(axis=0) for k in (7, 6))
    assert fifth.argmax() == 4, "a fifth, from either side, is five semitones"
    assert tritone.argmax() == 5


def test_harmony_that_moves_is_told_from_a_held_chord():
    held, moving = columns(chords([(0, 4, 7)])), columns(transposed("major", 0))
    for name in ("circles", "steps", "flux"):
        assert np.all(moving[name].mean(axis=0) > 2 * held[name].mean(axis=0)), name
    assert moving["entropy"][:, 1].min() > held["entropy"][:, 1].max()


def test_silence_and_noise_have_no_key():
    silence = columns(np.zeros(12 * RATE))
    np.testing.assert_allclose(silence["modes"], 0, atol=1e-3)
    np.testing.assert_allclose(silence["entropy"], np.log(12), atol=1e-5)
    assert not silence["flux"].any()
    noise = columns(np.random.default_rng(0).normal(0, 0.1, 12 * RATE))
    assert noise["entropy"].min() > 2.3 > columns(transposed("major", 0))["entropy"].max()
    # What a silent 16-bit file with dither holds is no music.
    dither = np.round(np.random.default_rng(0).triangular(-1, 0, 1, 12 * RATE)) / 32_768
    assert columns(dither)["entropy"].min() > 2.3


def test_rows_are_aligned_with_the_audio():
    samples = np.concatenate([chords([(0, 4, 7)], 20.0), chords([(0, 3, 7)], 20.0)])
    difference = columns(samples)["modes"][:, 2]
    assert len(difference) == 40
    assert difference[:14].min() > 0 > difference[26:].max()


@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.0])
def test_audio_shorter_than_a_window_has_rows(seconds):
    (frames,) = TONAL([chords([(0, 4, 7)], seconds).astype(np.float32)])
    assert len(frames) == max(1, round(seconds))


def test_a_key_s_own_profile_correlates_perfectly():
    for k, profile in enumerate([tonal.MAJOR, tonal.MINOR]):
        for tonic in range(12):
            correlation = tonal.keys(np.roll(profile, tonic))
            assert correlation.argmax() == 12 * k + tonic
            assert correlation.max() == pytest.approx(1)
            wanted = np.corrcoef(np.roll(profile, tonic), tonal.MAJOR)[0, 1]
            assert correlation[0] == pytest.approx(wanted)


def test_tonal_centroids_are_librosa_s():
    chroma = np.random.default_rng(0).dirichlet(np.ones(12), 20)
    wanted = librosa.feature.tonnetz(chroma=chroma.T, sr=RATE).T
    np.testing.assert_allclose(chroma @ tonal.CIRCLES, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"fmin": 3_000}, "fmin < fmax"),
        ({"fmax": 12_000}, "half the sample_rate_hz"),
        ({"hop_length": 30_000}, "must not exceed a second"),
        ({"n_fft": 256, "fmax": 200}, "no bin"),
        ({"hop_s": 0}, "hop_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        tonal.Params(**setting)
