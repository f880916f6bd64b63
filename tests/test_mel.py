"""Features of the same mel bands share their spectra, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sounds

from mer_ray import features
from mer_ray.audio.excerpt import Excerpt
from mer_ray.features import chroma, logmel, mel, mfcc, rhythm
from mer_ray.features.batch import extract

PARAMS = {
    "rhythm": rhythm.Params(),
    "logmel": logmel.Params(fmax=7_500),
    "mfcc": mfcc.Params(fmax=7_500),
    "chroma": chroma.Params(),
}


@pytest.fixture(scope="module")
def extractors():
    return {name: features.load(features.resolve(name, params)) for name, params in PARAMS.items()}


@pytest.fixture
def computed(monkeypatch):
    """How many frames each call of `mel.MelSpectra` has got."""
    calls = []
    original = mel.MelSpectra.__call__

    def counted(self, frames):
        calls.append(len(frames))
        return original(self, frames)

    monkeypatch.setattr(mel.MelSpectra, "__call__", counted)
    return calls


def test_shared_spectra_give_the_bits_that_each_gets_alone(extractors, computed):
    samples = np.concatenate([sounds.noise(3.0, 22_050)[:, 0], sounds.chirp(50, 5_000, 4.0, 22_050)]).astype(np.float32)
    alone = {name: e([samples])[0] for name, e in extractors.items()}
    one = sum(computed) // 3
    computed.clear()
    for order in (list(extractors), list(extractors)[::-1]):
        streams = mel.start({name: extractors[name] for name in order})
        assert sorted(streams) == sorted(extractors)
        for block in np.array_split(samples, 7):
            for stream in streams.values():
                stream.push(block.copy())
        for stream in streams.values():
            stream.finish()
        for name, stream in streams.items():
            np.testing.assert_array_equal(stream.frames(), alone[name], err_msg=name)
        assert sum(computed) == one
        computed.clear()


def test_other_bands_get_their_own(computed):
    samples = sounds.noise(2.0, 22_050)[:, 0].astype(np.float32)
    pair = {
        "rhythm": features.load(features.resolve("rhythm", rhythm.Params())),
        "logmel": features.load(features.resolve("logmel", logmel.Params())),
    }
    streams = mel.start(pair)
    for stream in streams.values():
        stream.push(samples)
        stream.finish()
    assert sum(computed) == 2 * len(streams["logmel"].frames())
    for name, stream in streams.items():
        np.testing.assert_array_equal(stream.frames(), pair[name]([samples])[0])


@pytest.mark.parametrize("excerpt", [None, Excerpt(seconds=2.0, place="spread", windows=3)])
def test_files_are_read_with_shared_spectra(tmp_path, excerpt, computed):
    file = sounds.write(tmp_path / "a.wav", sounds.noise(12.0, 22_050), 22_050)
    cut = None if excerpt is None else excerpt.to_json()
    loaded = {
        name: features.load(dataclasses.replace(features.resolve(name, params), excerpt=cut))
        for name, params in PARAMS.items()
    }
    together = extract([("a", str(file), list(loaded))], loaded, 1.0)
    shared = sum(computed)
    assert not together.errors
    for name in loaded:
        alone = extract([("a", str(file), [name])], loaded, 1.0)
        np.testing.assert_array_equal(together.frames[name]["a"], alone.frames[name]["a"], err_msg=name)
    assert sum(computed) == 4 * shared
