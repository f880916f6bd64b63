"""Files in, frames out: a batch loses only what is bad."""

from __future__ import annotations

import numpy as np
import pytest
import sounds

from mer_ray import features
from mer_ray.errors import TrackError
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.batch import extract
from mer_ray.features.mfcc import Params


class Strange(Extractor):
    """A feature that fails in its own ways."""

    spec = FeatureSpec("strange", 1, 8_000, 0.1, 2)

    def start(self):
        return StrangeStream()


class StrangeStream:
    """Three frames; not a number where there are more than 10,000 samples."""

    def __init__(self):
        self.n_samples = 0

    def push(self, samples):
        self.n_samples += len(samples)

    def finish(self):
        pass

    def frames(self):
        return np.full((3, 2), np.nan if self.n_samples > 10_000 else 1.0, np.float32)


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
