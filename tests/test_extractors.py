"""One contract for every extractor: shapes, hop, and frames that do not depend on how the audio is cut."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from mer_ray import features

SETTINGS: dict[str, dict[str, Any]] = {"vggish": {"weights": "random"}}
"""What an extractor needs beside its defaults to work here."""


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, n).astype(np.float32)


@pytest.fixture(scope="module", params=features.MODULES)
def extractor(request: pytest.FixtureRequest) -> features.Extractor:
    name = request.param
    params = features.params_model(name)(**SETTINGS.get(name, {}))
    spec = features.resolve(name, params, demo=True)
    return features.load(features.FeatureSpec.from_json(spec.to_json()))


def sounds(rate_hz: int) -> dict[str, np.ndarray]:
    """Sounds that hurt: openl3's empty, short, silent and chirping files, and some more."""
    t = np.arange(3 * rate_hz) / rate_hz
    return {
        "empty": np.zeros(0, np.float32),
        "one sample": np.ones(1, np.float32),
        "short": noise(rate_hz // 200),
        "silence": np.zeros(3 * rate_hz, np.float32),
        "chirp": np.sin(2 * np.pi * (20 + rate_hz / 14 * t) * t).astype(np.float32),
        "noise": noise(5 * rate_hz + 17),
        "square": np.sign(np.sin(2 * np.pi * 440 * t)).astype(np.float32),
        "click": np.eye(1, 3 * rate_hz, rate_hz, dtype=np.float32)[0],
    }


def streamed(extractor: features.Extractor, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    stream, start = extractor.start(), 0
    while start < samples.size or sizes[0] == 0:
        block = samples[start : start + sizes[0]].copy()
        start, sizes = start + sizes[0], [*sizes[1:], sizes[0] or 1_000]
        stream.push(block)
        block[:] = np.nan  # it belongs to the caller
    stream.finish()
    return stream.frames()


def test_frames_are_finite_rows_of_n_dims_every_hop(extractor: features.Extractor) -> None:
    spec = extractor.spec
    found = dict(zip(sounds(spec.sample_rate_hz), extractor([*sounds(spec.sample_rate_hz).values()]), strict=True))
    for name, samples in sounds(spec.sample_rate_hz).items():
        frames = found[name]
        assert (frames.dtype, frames.ndim, frames.shape[1]) == (np.float32, 2, spec.n_dims), name
        assert np.isfinite(frames).all(), name
        assert abs(len(frames) - samples.size / spec.sample_rate_hz / spec.hop_s) <= 1.5, name
    assert len(found["empty"]) == 0
    assert np.ptp(found["noise"]) > 0
    assert extractor([]) == []


def test_bits_do_not_depend_on_the_blocks_or_on_the_neighbours(extractor: features.Extractor) -> None:
    rate_hz = extractor.spec.sample_rate_hz
    one, other = sounds(rate_hz)["noise"], sounds(rate_hz)["chirp"]
    wanted = extractor([one])[0]
    for sizes in ([one.size], [997], [0, 1, 0, rate_hz, 3], [rate_hz, 12_345]):
        np.testing.assert_array_equal(streamed(extractor, one, sizes), wanted)
    np.testing.assert_array_equal(extractor([other, one, other])[1], wanted)


def test_streams_may_be_open_side_by_side(extractor: features.Extractor) -> None:
    rate_hz = extractor.spec.sample_rate_hz
    pair = sounds(rate_hz)["noise"][: 3 * rate_hz], sounds(rate_hz)["chirp"]
    streams = [extractor.start(), extractor.start()]
    for start in range(0, 3 * rate_hz, 5_000):
        for stream, samples in zip(streams, pair, strict=True):
            stream.push(samples[start : start + 5_000])
    for stream in streams:
        stream.finish()
    for stream, samples in zip(streams, pair, strict=True):
        np.testing.assert_array_equal(stream.frames(), extractor([samples])[0])


def test_a_spec_is_plain_data_and_settings_are_checked(extractor: features.Extractor) -> None:
    spec = extractor.spec
    assert features.FeatureSpec.from_json(spec.to_json()) == spec
    assert (spec.hop_s > 0, spec.version > 0, spec.family) == (True, True, "")
    with pytest.raises(ValueError, match="colour"):
        features.params_model(spec.name)(colour="blue")


FINGERPRINTS = "93682e07a220c048"


def test_fingerprints_are_those_of_the_tables_that_people_have() -> None:
    """A change here voids every stored frame: raise `version` for it, and then this hash."""
    specs = [
        features.resolve(name, features.params_model(name)(**SETTINGS.get(name, {})), demo=True)
        for name in ("mfcc", "logmel", "chroma", "spectral", "vggish", "musicnn", "rhythm", "tonal")
    ]
    assert hashlib.sha256(" ".join(s.fingerprint for s in specs).encode()).hexdigest()[:16] == FINGERPRINTS
