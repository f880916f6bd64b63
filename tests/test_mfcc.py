"""MFCC and log-mel spectra: librosa's numbers, whatever the sound, and a spec that says what they are."""

from __future__ import annotations

import tracemalloc

import librosa
import numpy as np
import pytest
import sounds
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mer_ray import features
from mer_ray.features import FeatureSpec, logmel
from mer_ray.features.mel import slaney_bank
from mer_ray.features.mfcc import Params, dct_matrix

TOLERANCE = 1e-3
"""Of a coefficient, which are of the size of 100, and of a level in dB."""

LOUD_THEN_QUIET = np.concatenate(
    [
        sounds.noise(0.5)[:, 0],
        1e-5 * sounds.noise(0.5, seed=1)[:, 0],
        np.zeros(9_000, np.float32),
        sounds.tone(seconds=0.3),
    ]
)
SIGNALS = {
    "tone": sounds.tone(seconds=1.0),
    "noise": sounds.noise(1.3)[:, 0],
    "chirp": sounds.chirp(50, 10_000, 0.7),
    "square wave": np.sign(sounds.tone(330)) * np.float32(0.7),
    "loud, then near silence, then digital silence": LOUD_THEN_QUIET,
    "quiet, then loud": LOUD_THEN_QUIET[::-1],
    "digital silence": np.zeros(5_000, np.float32),
    "DC": np.full(30_000, 0.8, np.float32),
    "one click": np.eye(1, 20_000, 7_000, dtype=np.float32)[0],
    "beyond full scale": 40 * sounds.chirp(50, 10_000, 0.7),
    "very loud": 1e4 * sounds.noise(0.5)[:, 0],
    "very quiet": 1e-6 * sounds.noise(0.5)[:, 0],
    "shortest": sounds.noise(0.1)[:1_025, 0],
}


def librosa_mfcc(samples: np.ndarray, p: Params) -> np.ndarray:
    """What librosa says, time first."""
    return librosa.feature.mfcc(
        y=samples,
        sr=p.sample_rate_hz,
        n_mfcc=p.n_mfcc,
        n_fft=p.n_fft,
        hop_length=p.hop_length,
        n_mels=p.n_mels,
        fmin=p.fmin,
        fmax=p.fmax,
    ).T


def mfcc(samples: np.ndarray, p: Params) -> np.ndarray:
    """What we say."""
    return features.load(features.resolve("mfcc", p))([samples])[0]


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"n_mfcc": 13, "n_fft": 1_024, "hop_length": 160, "n_mels": 40, "sample_rate_hz": 16_000, "fmax": 7_600}],
    ids=["defaults", "speech"],
)
def test_the_numbers_are_librosa_s_time_first(name, changes):
    samples, p = SIGNALS[name], Params(**changes)
    frames = mfcc(samples, p)
    assert frames.shape == (1 + len(samples) // p.hop_length, p.n_mfcc)
    assert frames.dtype == np.float32
    assert np.abs(frames - librosa_mfcc(samples, p)).max() <= TOLERANCE


@st.composite
def parameters(draw):
    """Any that make sense, odd ones among them."""
    rate = draw(st.integers(2_000, 192_000))
    n_mels = draw(st.integers(1, 150))
    fmin = draw(st.floats(0, rate / 5))
    return Params(
        sample_rate_hz=rate,
        n_fft=draw(st.sampled_from([64, 255, 400, 512, 1_000, 2_048, 4_096]) | st.integers(64, 3_000)),
        hop_length=draw(st.integers(50, 5_000)),
        n_mels=n_mels,
        n_mfcc=draw(st.integers(1, n_mels)),
        fmin=fmin,
        fmax=draw(st.none() | st.floats(fmin + rate / 10, rate / 2)),
    )


@pytest.mark.filterwarnings("ignore:Empty filters", "ignore:n_fft=")
@settings(max_examples=25, deadline=None)
@given(parameters(), st.integers(0, 99), st.lists(st.sampled_from([0, 1e-5, 1e-2, 1, 30]), min_size=1, max_size=4))
def test_the_numbers_are_librosa_s_with_any_parameters(p, seed, loudness):
    """Of noise that changes its loudness: of a pure tone that fmin leaves out, single precision would show."""
    samples = sounds.noise(0.3, seed=seed)[:, 0]
    samples = np.concatenate([samples * np.float32(gain) for gain in loudness])
    frames = mfcc(samples, p)
    if len(samples) <= p.n_fft // 2:
        assert frames.shape == (0, p.n_mfcc)
        return
    assert np.abs(frames - librosa_mfcc(samples, p)).max() <= 3 * TOLERANCE


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("top_db", [80.0, 30.0, 0.0])
def test_log_mel_spectra_are_librosa_s(name, top_db):
    p = logmel.Params(n_mels=64, n_fft=1_024, hop_length=300, fmin=30, fmax=9_000, top_db=top_db)
    (frames,) = features.load(features.resolve("logmel", p))([SIGNALS[name]])
    power = librosa.feature.melspectrogram(
        y=SIGNALS[name], sr=22_050, n_fft=1_024, hop_length=300, n_mels=64, fmin=30, fmax=9_000
    )
    wanted = librosa.power_to_db(power, top_db=top_db).T
    assert frames.shape == wanted.shape
    # 80 dB below a pure tone, single precision leaves two digits of the power.
    assert np.abs(frames - wanted).max() <= 0.05
    assert np.abs(frames - wanted).mean() <= TOLERANCE


def test_without_a_limit_levels_go_down_to_minus_100_db():
    (frames,) = features.load(features.resolve("logmel", logmel.Params(top_db=None)))([LOUD_THEN_QUIET])
    wanted = librosa.power_to_db(librosa.feature.melspectrogram(y=LOUD_THEN_QUIET), top_db=None).T
    assert frames.min() == pytest.approx(-100, abs=1e-4)
    quiet = slice(25, 40)  # noise alone
    assert np.abs(frames[quiet] - wanted[quiet]).max() <= TOLERANCE


@pytest.mark.parametrize("backwards", [False, True])
def test_what_is_80_db_below_the_maximum_is_cut_off_wherever_that_comes(backwards):
    samples = LOUD_THEN_QUIET[::-1] if backwards else LOUD_THEN_QUIET
    limited, unlimited = (
        features.load(features.resolve("logmel", logmel.Params(top_db=top_db)))([samples])[0] for top_db in (80.0, None)
    )
    assert (unlimited < unlimited.max() - 80).mean() > 0.2
    assert np.array_equal(limited, np.maximum(unlimited, unlimited.max() - np.float32(80)))


@pytest.mark.parametrize("in_memory", [1, 40_000])
def test_what_waits_in_a_file_gives_the_same_numbers(monkeypatch, in_memory):
    samples = sounds.noise(20.0)[:, 0]
    wanted = mfcc(samples, Params())
    monkeypatch.setattr(logmel, "IN_MEMORY", in_memory)
    assert np.array_equal(mfcc(samples, Params()), wanted)


def test_an_hour_needs_no_more_memory_than_five_minutes(monkeypatch):
    monkeypatch.setattr(logmel, "IN_MEMORY", 1 << 20)
    extractor = features.load(features.resolve("mfcc", Params(n_mfcc=1, hop_length=2_048)))
    block = sounds.noise(5.0)[:, 0]

    def peak(minutes: int) -> int:
        tracemalloc.start()
        stream = extractor.start()
        for _ in range(12 * minutes):
            stream.push(block)
        stream.finish()
        assert len(stream.frames()) == 1 + 12 * minutes * len(block) // 2_048
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(60) < peak(5) + 1e6  # the spectra that wait are 20 and 1.7 MB


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2_000, 192_000), st.integers(64, 5_000), st.integers(1, 200), st.floats(0, 0.3), st.floats(0.31, 0.5)
)
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_the_mel_bands_are_librosa_s(rate, n_fft, n_mels, low, high):
    ours = slaney_bank(rate, n_fft, n_mels, low * rate, high * rate)
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=low * rate, fmax=high * rate)
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_the_dct_is_orthonormal(n, kept):
    matrix = dct_matrix(n, min(n, kept))
    assert np.allclose(matrix.T @ matrix, np.eye(min(n, kept)), atol=1e-12)


def test_the_fingerprint_follows_every_parameter():
    others = {"n_mfcc": 40, "sample_rate_hz": 44_100, "n_fft": 4_096, "hop_length": 1_024, "n_mels": 256}
    others |= {"fmin": 20.0, "fmax": 8_000.0}
    assert others.keys() == Params.model_fields.keys()
    prints = {features.resolve("mfcc", Params(**{k: v})).fingerprint for k, v in others.items()}
    prints.add(features.resolve("mfcc", Params()).fingerprint)
    assert len(prints) == 1 + len(others)
    assert all(len(p) == 16 for p in prints)


def test_where_weights_lie_is_not_in_the_fingerprint():
    def weighted(sha256: str, location: str) -> str:
        return FeatureSpec("x", 1, 16_000, 1.0, 2, weights={"sha256": sha256, "location": location}).fingerprint

    assert weighted("a", "here") == weighted("a", "there")
    assert weighted("a", "here") != weighted("b", "here")


def test_a_spec_notes_bands_that_never_hold_anything():
    assert features.resolve("mfcc", Params()).note == ""
    assert "20 of 128 mel bands" in features.resolve("mfcc", Params(n_fft=256)).note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_mfcc": 0}, "n_mfcc"),
        ({"hop_length": 0}, "hop_length"),
        ({"n_fft": 1}, "n_fft"),
        ({"unknown": 1}, "unknown"),
        ({"n_mfcc": 50, "n_mels": 40}, "n_mfcc (50) must not exceed n_mels (40)"),
        ({"fmax": 12_000}, "fmax (12000 Hz) must not exceed half the sample_rate_hz (11025 Hz)"),
        ({"fmin": 5_000, "fmax": 4_000}, "fmin (5000 Hz) must be less than fmax (4000 Hz)"),
        ({"fmin": 11_025}, "fmin (11025 Hz) must be less than fmax (11025 Hz)"),
        ({"fmax": float("nan")}, "fmax"),
    ],
)
def test_impossible_parameters_are_refused(changes, message):
    with pytest.raises(ValidationError) as refused:
        Params(**changes)
    assert message in str(refused.value)
