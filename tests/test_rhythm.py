"""Rhythm: known tempi are found, and neither level nor quiet noise changes what is said of the music."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.features import rhythm

RATE = 22_050
RHYTHM = features.load(features.resolve("rhythm", rhythm.Params()))
BANDS = ("bass", "low", "high", "treble", "all")


def columns(samples: np.ndarray, extractor: features.Extractor = RHYTHM) -> dict[str, np.ndarray]:
    """The table of the module's docstring: name → (n, columns)."""
    (frames,) = extractor([samples.astype(np.float32)])
    parts = np.split(frames, np.cumsum([5, 5, 5, 5, 5, 24, 1]), axis=1)
    return dict(
        zip(("level", "spread", "density", "skewness", "pulse", "tempi", "tempo", "salience"), parts, strict=True)
    )


def drums(per_minute: float, seconds: float = 20.0, seed: int = 0) -> np.ndarray:
    """A hit on each beat (bursts of decaying noise), over a soft chord."""
    t = np.arange(round(seconds * RATE)) / RATE
    since = t % (60 / per_minute)
    noise = np.random.default_rng(seed).normal(0, 1, t.size)
    chord = sum(np.sin(2 * np.pi * f * t) for f in (220, 277.2, 329.6))
    return 0.2 * noise * np.exp(-since / 0.03) + 0.02 * chord


def bin_of(per_minute: float) -> int:
    return round(rhythm.PER_OCTAVE * np.log2(per_minute / rhythm.SLOWEST))


@pytest.mark.parametrize("per_minute", [72, 90, 105, 120, 133, 160])
def test_the_tempo_of_drums_is_found(per_minute):
    found = columns(drums(per_minute))
    assert np.all(np.abs(found["tempo"] - np.log2(per_minute / 120)) <= 1 / rhythm.PER_OCTAVE)
    mean = found["tempi"].mean(axis=0)
    assert mean[bin_of(per_minute)] > 0.8
    # Between the beat and half of it there is no pulse.
    assert mean[bin_of(per_minute) - 3] < 0.3
    assert np.allclose(found["density"][:, -1], per_minute / 60, rtol=0.1)


@pytest.mark.parametrize("per_minute", [60, 75, 100])
def test_twice_as_fast_is_an_octave_further(per_minute):
    slow, fast = (columns(drums(n))["tempi"].mean(axis=0) for n in (per_minute, 2 * per_minute))
    octave = rhythm.PER_OCTAVE
    slow, fast = slow[: bin_of(300) - octave], fast[octave : bin_of(300)]
    # A faster pulse's peaks are wider beside their period.
    assert np.all(fast[slow > 0.7] > 0.7)
    assert np.all(slow[fast < 0.2] < 0.2)
    assert np.sum(fast < 0.2) >= 5
    assert np.sum(slow > 0.7) >= 3


@settings(max_examples=10, deadline=None)
@given(st.floats(-40, 0), st.sampled_from([80, 120]))
def test_level_does_not_matter(gain_db, per_minute):
    samples = drums(per_minute, 12.0)
    (wanted, found) = RHYTHM([samples.astype(np.float32), (samples * 10 ** (gain_db / 20)).astype(np.float32)])
    np.testing.assert_allclose(found, wanted, atol=2e-2)


def test_noise_far_below_the_music_hardly_matters():
    samples = drums(120)
    noise = 1e-4 * np.random.default_rng(1).normal(0, 1, samples.size)
    clean, noisy = columns(samples), columns(samples + noise)
    for name in ("density", "pulse", "tempi", "tempo"):
        np.testing.assert_allclose(noisy[name], clean[name], atol=0.15, err_msg=name)


def test_silence_tones_and_noise_have_no_beat():
    n = 12 * RATE
    t = np.arange(n) / RATE
    silence = columns(np.zeros(n))
    for name in ("density", "pulse", "tempi", "skewness", "salience"):
        assert not silence[name].any(), name
    tone = columns(np.tile(0.3 * np.sin(2 * np.pi * 440 * t), 3))
    assert not tone["density"][5:-5].any(), "but for its start and its end"
    noise = columns(np.random.default_rng(0).normal(0, 0.1, n))
    assert noise["pulse"][:, -1].max() < 0.5 < columns(drums(120))["pulse"][:, -1].min()
    assert noise["skewness"][:, -1].max() < columns(drums(120))["skewness"][:, -1].min()


def test_a_band_has_the_onsets_of_its_frequencies():
    t = np.arange(20 * RATE) / RATE
    low = np.sin(2 * np.pi * 100 * t) * np.exp(-(t % 1.0) / 0.2)
    high = np.sin(2 * np.pi * 5_000 * t) * np.exp(-(t % 0.25) / 0.02)
    density = columns(0.5 * low + 0.3 * high)["density"].mean(axis=0)
    assert density[BANDS.index("treble")] == pytest.approx(4, rel=0.1)
    level = columns(0.3 * high)["level"].mean(axis=0)
    assert level[BANDS.index("treble")] > level[BANDS.index("low")] + 1


def test_rows_are_aligned_with_the_audio():
    samples = np.concatenate([np.zeros(20 * RATE), drums(120, 20.0)])
    density = columns(samples)["density"][:, -1]
    assert len(density) == 40
    assert not density[:15].any()
    assert np.all(density[25:] > 1.7)
    assert np.all(np.diff(density[13:27]) >= -0.15)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 4.0, 9.9])
def test_audio_shorter_than_a_window_has_rows(seconds):
    (frames,) = RHYTHM([drums(120, seconds).astype(np.float32)])
    assert len(frames) == max(1, round(seconds))
    assert np.all(frames == frames[0]), "it is described as a whole"


def test_onset_strength_is_librosa_s_within_the_range():
    spectra = np.random.default_rng(0).uniform(-20, -6, (300, 128)).astype(np.float32)
    flux = rhythm.Flux(rhythm.Params())
    found = np.concatenate([flux(part) for part in np.split(spectra, [64, 128, 129])])
    wanted = librosa.onset.onset_strength(S=spectra.T, sr=RATE, center=False)
    np.testing.assert_allclose(found[:, -1], wanted, rtol=1e-5, atol=1e-5)


def test_the_tempogram_is_the_autocorrelation():
    values = np.random.default_rng(0).normal(0, 1, 431)
    values -= values.mean()
    rate_hz = RATE / 512
    (found,) = rhythm.tempogram(values[None, None], rate_hz)[0]
    smooth = np.convolve(values, [0.25, 0.5, 0.25])
    sums = librosa.autocorrelate(smooth)[: values.size]
    whole = sums / sums[0] * values.size / (values.size - np.arange(values.size))
    for tempo, value in enumerate(found):
        slow, fast = (60 * rate_hz / (rhythm.SLOWEST * 2 ** ((tempo + d) / rhythm.PER_OCTAVE)) for d in (-0.5, 0.5))
        lags = np.linspace(fast, slow, 400)
        assert value == pytest.approx(np.interp(lags, np.arange(values.size), whole).max(), abs=0.03)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hop_length": 2_048}, "20 frames a second"),
        ({"sample_rate_hz": 8_000}, "fmax"),
        ({"window_s": 0.5}, "window_s"),
        ({"hop_s": 0.01}, "hop_s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        rhythm.Params(**setting)


def test_other_spectra_do_as_well():
    params = rhythm.Params(
        sample_rate_hz=16_000, n_fft=1_024, hop_length=160, n_mels=40, fmax=None, window_s=8, hop_s=2
    )
    extractor = features.load(features.resolve("rhythm", params))
    samples = librosa.resample(drums(100), orig_sr=RATE, target_sr=16_000)
    tempo = columns(samples, extractor)["tempo"]
    assert len(tempo) == 10
    assert np.all(np.abs(tempo - np.log2(100 / 120)) <= 1 / rhythm.PER_OCTAVE)
