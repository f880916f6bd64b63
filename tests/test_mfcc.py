"""MFCC: librosa's numbers, a spec that says what they are, and files in to frames out."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pytest
import sounds
from pydantic import ValidationError

from mer_ray import features
from mer_ray.errors import TrackError
from mer_ray.features import FeatureSpec
from mer_ray.features.batch import extract
from mer_ray.features.mfcc import Params

SIGNALS = [
    sounds.tone(seconds=1.0),
    sounds.noise(1.3)[:, 0],
    sounds.chirp(50, 10_000, 0.7),
    np.zeros(5_000, np.float32),
    sounds.noise(0.1)[:1_025, 0],
]


@pytest.mark.parametrize(
    "changes", [{}, {"n_mfcc": 13, "n_fft": 1_024, "hop_length": 160, "n_mels": 40, "sample_rate_hz": 16_000}]
)
def test_the_numbers_are_librosa_s_time_first(changes):
    p = Params(**changes)
    extractor = features.load(features.resolve("mfcc", p))
    for samples, frames in zip(SIGNALS, extractor(SIGNALS), strict=True):
        wanted = librosa.feature.mfcc(
            y=samples, sr=p.sample_rate_hz, n_mfcc=p.n_mfcc, n_fft=p.n_fft, hop_length=p.hop_length, n_mels=p.n_mels
        ).T
        assert np.array_equal(frames, wanted.astype(np.float32))
        assert frames.shape == (1 + len(samples) // p.hop_length, p.n_mfcc)
        assert frames.dtype == np.float32


@pytest.mark.parametrize("n", [0, 1, 1_024])
def test_too_little_audio_gives_no_frames(n):
    (frames,) = features.load(features.resolve("mfcc", Params()))([np.ones(n, np.float32)])
    assert frames.shape == (0, 20)


def test_a_batch_is_its_members(tmp_path):
    extractor = features.load(features.resolve("mfcc", Params()))
    together = extractor(SIGNALS)
    for samples, frames in zip(SIGNALS, together, strict=True):
        assert np.array_equal(extractor([samples])[0], frames)
    assert extractor([]) == []


def test_the_fingerprint_follows_every_parameter():
    plain = Params()
    prints = {features.resolve("mfcc", Params(**{k: v * 2})).fingerprint for k, v in plain.model_dump().items()}
    prints.add(features.resolve("mfcc", plain).fingerprint)
    assert len(prints) == 1 + len(Params.model_fields)
    assert all(len(p) == 16 for p in prints)


def test_the_fingerprint_is_the_same_in_every_process():
    code = (
        "from mer_ray import features; from mer_ray.features.mfcc import Params;"
        "print(features.resolve('mfcc', Params()).fingerprint)"
    )
    mine = features.resolve("mfcc", Params()).fingerprint
    said = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "3"}, capture_output=True, text=True)
    assert said.stdout.strip() == mine


def test_a_spec_survives_json_and_weights_may_move():
    spec = features.resolve("mfcc", Params())
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert spec.hop_s == pytest.approx(512 / 22_050)

    def weighted(sha256: str, location: str) -> str:
        return FeatureSpec("x", 1, 16_000, 1.0, 2, weights={"sha256": sha256, "location": location}).fingerprint

    assert weighted("a", "here") == weighted("a", "there")
    assert weighted("a", "here") != weighted("b", "here")


@pytest.mark.parametrize("changes", [{"n_mfcc": 0}, {"hop_length": 0}, {"n_fft": 1}, {"unknown": 1}])
def test_impossible_parameters_are_refused(changes):
    with pytest.raises(ValidationError):
        Params(**changes)


class Strange:
    """A feature that fails in its own ways."""

    spec = FeatureSpec("strange", 1, 8_000, 0.1, 2)

    def __call__(self, batch):
        return [np.full((3, 2), np.nan if len(s) > 10_000 else 1.0, np.float32) for s in batch]


def test_a_batch_of_files_loses_only_the_bad_ones(tmp_path):
    good = sounds.write(tmp_path / "good.wav", sounds.tone())
    long = sounds.write(tmp_path / "long.flac", sounds.tone(seconds=2.0, rate=192_000), 192_000)
    tiny = sounds.write(tmp_path / "tiny.wav", sounds.tone(seconds=0.04))
    bad = sounds.text(tmp_path / "bad.mp3")
    extractors = {"mfcc": features.load(features.resolve("mfcc", Params())), "strange": Strange()}
    files = [(p.stem, str(p), ["mfcc", "strange"]) for p in (good, long, tiny, bad)] + [
        ("gone", str(tmp_path / "gone.wav"), ["mfcc"])
    ]
    result = extract(files, extractors, 0.0)
    assert {name: sorted(frames) for name, frames in result.frames.items()} == {
        "mfcc": ["good", "long"],
        "strange": ["good", "tiny"],
    }
    assert {key: error.reason for key, error in result.errors.items()} == {
        ("", "bad"): "corrupt",
        ("", "gone"): "missing",
        ("mfcc", "tiny"): "too_short",
        ("strange", "long"): "not_finite",
    }
    assert all(isinstance(e, TrackError) for e in result.errors.values())
    assert result.seconds == pytest.approx(3.04, abs=0.01)
    assert result.frames["mfcc"]["long"].shape == (1 + 2 * 22_050 // 512, 20)


def test_only_the_features_that_a_file_lacks_are_computed(tmp_path):
    path = str(sounds.write(tmp_path / "x.wav", sounds.tone()))
    extractors = {"mfcc": features.load(features.resolve("mfcc", Params())), "strange": Strange()}
    result = extract([("a", path, ["strange"]), ("b", path, ["mfcc"])], extractors, 0.0)
    assert {name: list(frames) for name, frames in result.frames.items()} == {"mfcc": ["b"], "strange": ["a"]}
    assert not result.errors
