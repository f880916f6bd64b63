"""Chroma and spectral shape: librosa's numbers, column by column."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import sounds
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mer_ray import features
from mer_ray.features import chroma, spectral

SIGNALS = {
    "tone": sounds.tone(seconds=1.0),
    "noise": sounds.noise(1.3)[:, 0],
    "chirp": sounds.chirp(50, 10_000, 0.7),
    "loud, then silence": np.concatenate(
        [sounds.noise(0.5)[:, 0], np.zeros(9_000, np.float32), sounds.tone(seconds=0.3)]
    ),
    "digital silence": np.zeros(5_000, np.float32),
    "DC": np.full(30_000, 0.8, np.float32),
    "one click": np.eye(1, 20_000, 7_000, dtype=np.float32)[0],
    "beyond full scale": 40 * sounds.chirp(50, 10_000, 0.7),
    "shortest": sounds.noise(0.1)[:1_025, 0],
}

LIBROSA = {
    "centroid": librosa.feature.spectral_centroid,
    "bandwidth": librosa.feature.spectral_bandwidth,
    "rolloff": librosa.feature.spectral_rolloff,
    "flatness": lambda y, sr, **shape: librosa.feature.spectral_flatness(y=y, **shape),
    "contrast": librosa.feature.spectral_contrast,
    "zero_crossing_rate": lambda y, sr, n_fft, hop_length: librosa.feature.zero_crossing_rate(
        y, frame_length=n_fft, hop_length=hop_length
    ),
    "rms": lambda y, sr, n_fft, hop_length: librosa.feature.rms(y=y, frame_length=n_fft, hop_length=hop_length),
}


def spectral_frames(samples: np.ndarray, p: spectral.Params) -> np.ndarray:
    return features.load(features.resolve("spectral", p))([samples])[0]


def librosa_frames(samples: np.ndarray, p: spectral.Params) -> np.ndarray:
    shape = {"sr": p.sample_rate_hz, "n_fft": p.n_fft, "hop_length": p.hop_length}
    return np.vstack([LIBROSA[measure](y=samples, **shape) for measure in p.measures]).T


def assert_alike(frames: np.ndarray, wanted: np.ndarray) -> None:
    """To 1e-5 of the value, and of its column's largest; a flat spectrum has a contrast of rounding alone."""
    assert frames.shape == wanted.shape
    assert frames.dtype == np.float32
    assert (np.abs(frames - wanted) <= 1e-5 * (np.abs(wanted) + np.abs(wanted).max(axis=0)) + 5e-6).all()


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "changes", [{}, {"n_fft": 1_001, "hop_length": 1_300, "sample_rate_hz": 48_000}], ids=["defaults", "odd"]
)
def test_spectral_columns_are_librosa_s(name, changes):
    p = spectral.Params(**changes)
    assert_alike(spectral_frames(SIGNALS[name], p), librosa_frames(SIGNALS[name], p))


@pytest.mark.filterwarnings("ignore:n_fft=")
@settings(max_examples=25, deadline=None)
@given(
    st.integers(13_000, 96_000),
    st.integers(512, 4_000),
    st.integers(100, 5_000),
    st.sets(st.sampled_from(spectral.MEASURES), min_size=1),
    st.sampled_from(sorted(SIGNALS)),
)
def test_any_choice_of_measures_has_librosa_s_columns_in_their_order(rate, n_fft, hop, measures, name):
    samples = SIGNALS[name]
    p = spectral.Params(sample_rate_hz=rate, n_fft=n_fft, hop_length=hop, measures=sorted(measures))
    frames = spectral_frames(samples, p)
    assert frames.shape[1] == len(p.columns) == features.resolve("spectral", p).n_dims
    if len(samples) > n_fft // 2:
        assert_alike(frames, librosa_frames(samples, p))


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"tuning": 0.3}, {"n_chroma": 24, "n_fft": 2_000, "hop_length": 700, "sample_rate_hz": 44_100}],
    ids=["defaults", "tuned", "quarter tones"],
)
def test_chroma_is_librosa_s_with_the_tuning_given(name, changes):
    p = chroma.Params(**changes)
    (frames,) = features.load(features.resolve("chroma", p))([SIGNALS[name]])
    wanted = librosa.feature.chroma_stft(
        y=SIGNALS[name],
        sr=p.sample_rate_hz,
        n_fft=p.n_fft,
        hop_length=p.hop_length,
        n_chroma=p.n_chroma,
        tuning=p.tuning,
    ).T
    assert frames.dtype == np.float32
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() <= 1e-5
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_an_a_sounds_in_the_class_of_a():
    (frames,) = features.load(features.resolve("chroma", chroma.Params()))([sounds.tone(440.0)])
    assert (frames.argmax(axis=1) == 9).all()  # C is 0


def test_measures_have_one_order_and_may_be_given_as_text():
    p = spectral.Params(measures="rms, contrast,rms")
    assert p.measures == ["contrast", "rms"]
    assert p.columns == [*(f"contrast_{i}" for i in range(7)), "rms"]
    assert features.resolve("spectral", p) == features.resolve(
        "spectral", spectral.Params(measures=["contrast", "rms"])
    )
    assert len(spectral.Params().columns) == 13


@pytest.mark.parametrize(
    ("params", "changes", "message"),
    [
        (spectral.Params, {"measures": []}, "measures"),
        (spectral.Params, {"measures": ["loudness"]}, "measures"),
        (spectral.Params, {"sample_rate_hz": 12_800}, "contrast needs a sample_rate_hz over 12800"),
        (spectral.Params, {"n_fft": 64}, "contrast needs two bins below 200 Hz, an n_fft of 111"),
        (chroma.Params, {"n_chroma": 1}, "n_chroma"),
        (chroma.Params, {"tuning": 0.6}, "tuning"),
        (chroma.Params, {"fmin": 3}, "fmin"),
    ],
)
def test_impossible_parameters_are_refused(params, changes, message):
    with pytest.raises(ValidationError) as refused:
        params(**changes)
    assert message in str(refused.value)


def test_without_contrast_low_rates_are_fine():
    p = spectral.Params(sample_rate_hz=8_000, n_fft=64, hop_length=32, measures="centroid,rms")
    assert_alike(spectral_frames(SIGNALS["chirp"], p), librosa_frames(SIGNALS["chirp"], p))
