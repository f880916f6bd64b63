"""musicnn: the numbers of its release, on audio of any length and in any blocks."""

from __future__ import annotations

import json
from pathlib import Path

import musicnn_graph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vggish_sounds import music, noise, sine

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError
from mer_ray.features import musicnn_cpu, musicnn_frontend, musicnn_network, musicnn_weights
from mer_ray.features.musicnn import Params, tags

RATE = 16_000
PATCH_S = 187 * 256 / RATE
TOLERANCE = 1e-4  # of both outputs, which have an SD of about 1 and 0.1
SIGNALS = {
    "music": music(7.0, 3),
    "noise": noise(7.0, 1),
    "sine": sine(440.0, 7.0),
    "silence": np.zeros(7 * RATE, np.float32),
    "clipped": np.clip(20 * noise(7.0, 2), -1, 1),
}


def extractor(**settings: object) -> features.Extractor:
    params = features.params_model("musicnn")(**settings)
    return features.load(features.resolve("musicnn", params))


@pytest.fixture(scope="module")
def both() -> features.Extractor:
    return extractor()


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """Of the right shapes, with scales of both signs, and activations of about 1."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in musicnn_network.shapes().items():
        values = rng.standard_normal(shape)
        if name.endswith("kernel"):
            values /= np.sqrt(np.prod(shape[:-1]))
        result[name] = (values if name.endswith(("kernel", "scale")) else 0.3 * values).astype(np.float32)
    return result


def plain(weights: dict[str, np.ndarray], patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One network as it is defined, in double precision: no spectra, no tricks."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def finished(x: np.ndarray, layer: str) -> np.ndarray:
        return np.maximum(x + w[f"{layer}/bias"], 0) * w[f"{layer}/scale"] + w[f"{layer}/shift"]

    def slid(x: np.ndarray, before: int, frames: int) -> np.ndarray:
        """(T, C) → (T, C, frames)."""
        padded = np.pad(x, ((before, frames - 1 - before), (0, 0)))
        return np.lib.stride_tricks.sliding_window_view(padded, frames, axis=0)

    x = patch.astype(np.float64) * w["input/scale"] + w["input/shift"]
    front = []
    for name, bands in musicnn_network.TIMBRAL.items():
        windows = np.lib.stride_tricks.sliding_window_view(slid(x, 3, 7), bands, axis=1)  # (T, places, taps, bands)
        front.append(finished(np.einsum("tpkb,kbf->tpf", windows, w[f"{name}/kernel"], optimize=True), name).max(1))
    for name, frames in musicnn_network.TEMPORAL.items():
        front.append(finished(slid(x, (frames - 1) // 2, frames) @ w[f"{name}/kernel"], name).max(1))
    channels = [np.concatenate(front, axis=1)]
    for name in musicnn_network.CONVOLUTIONS:
        made = finished(np.einsum("tck,kco->to", slid(channels[-1], 3, 7), w[f"{name}/kernel"], optimize=True), name)
        channels.append(made + channels[-1] if len(channels) > 1 else made)
    everything = np.concatenate(channels, axis=1)
    pooled = np.stack([everything.max(0), everything.mean(0)], axis=1).reshape(-1)
    pooled = pooled * w["pooled/scale"] + w["pooled/shift"]
    penultimate = finished(pooled @ w["penultimate/kernel"], "penultimate")
    return penultimate, 1 / (1 + np.exp(-penultimate @ w["tags/kernel"] - w["tags/bias"]))


# the numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [[0], [1, 2]], ids=["one network", "two"])
def test_the_fast_networks_are_those_defined(seeds):
    weights = [random_weights(seed) for seed in seeds]
    patch = next(musicnn_frontend.Patches().push(SIGNALS["music"]))
    penultimate, likelihoods = musicnn_cpu.Networks(weights)(patch)
    for i, each in enumerate(weights):
        wanted = plain(each, patch)
        scale = np.abs(wanted[0]).max()
        np.testing.assert_allclose(penultimate[i] / scale, wanted[0] / scale, atol=2e-6)
        np.testing.assert_allclose(likelihoods[i], wanted[1], atol=2e-5)


def test_the_stored_numbers_of_the_release(both):
    """`musicnn_expected.json`: librosa's mel and the release's graph in TensorFlow, with its float32 weights."""
    wanted = json.loads(musicnn_graph.EXPECTED.read_text(encoding="utf-8"))
    frames = both([musicnn_graph.signal()])[0]
    np.testing.assert_allclose(frames, wanted["penultimate"], atol=TOLERANCE)
    np.testing.assert_allclose(extractor(output="tags")([musicnn_graph.signal()])[0], wanted["tags"], atol=TOLERANCE)
    assert frames.std() > 0.5


def test_the_release_itself_in_tensorflow(both):
    wheel = wheel_or_skip()
    pytest.importorskip("tensorflow")
    batch = np.stack([p for samples in SIGNALS.values() for p in musicnn_frontend.Patches().push(samples)])
    wanted = musicnn_graph.both(wheel, batch)
    for output, found in (("penultimate", both), ("tags", extractor(output="tags"))):
        frames = np.concatenate(found([*SIGNALS.values()]))
        np.testing.assert_allclose(frames, wanted[output], atol=TOLERANCE, err_msg=output)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_mel_spectra_are_librosas(name):
    """But for a few numbers that lie between two of float16 and are rounded to the other one."""
    found = np.concatenate([*musicnn_frontend.Patches().push(SIGNALS[name])])
    wanted = musicnn_graph.log_mel(SIGNALS[name])[: len(found)]
    np.testing.assert_allclose(found, wanted, atol=6e-4)
    assert (found != wanted).mean() < 0.01


def test_tags_have_the_names_of_the_release():
    spec = features.resolve("musicnn", Params(output="tags"))
    names = tags(spec)
    assert (len(names), len(set(names)), spec.n_dims) == (100, 100, 100)
    assert names[:2] == ["msd:rock", "msd:pop"]
    assert names[50:52] == ["mtt:guitar", "mtt:classical"]
    assert tags(features.resolve("musicnn", Params(networks=["mtt"], output="tags")))[-1] == "mtt:choral"
    assert tags(features.resolve("musicnn", Params())) == []


def test_tags_hear_a_difference():
    """A bare sine is no rock; drum-like bursts of noise are, rather than classical music."""
    likelihoods = extractor(output="tags")
    names = tags(likelihoods.spec)
    t = np.arange(6 * RATE) / RATE
    bursts = (noise(6.0, 0, 0.5) * np.exp(-12 * (t % 0.25))).astype(np.float32)
    calm, beat = (dict(zip(names, likelihoods([x])[0].mean(0), strict=True)) for x in (sine(330.0, 6.0, 0.1), bursts))
    assert beat["mtt:drums"] > calm["mtt:drums"]
    assert beat["mtt:beat"] > calm["mtt:beat"]
    assert calm["msd:ambient"] > beat["msd:ambient"]


# settings ------------------------------------------------------------------------------------------------------------


def test_networks_stand_side_by_side_in_the_order_asked_for(both):
    frames = both([SIGNALS["music"]])[0]
    assert both.spec.n_dims == 400
    msd, mtt = (extractor(networks=[network])([SIGNALS["music"]])[0] for network in ("msd", "mtt"))
    swapped = extractor(networks=["mtt", "msd"])([SIGNALS["music"]])[0]
    for found, wanted in ((np.hstack([msd, mtt]), frames), (swapped, np.hstack([mtt, msd]))):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("every", [2, 3])
def test_every_second_patch_is_one_of_two(both, every):
    samples = np.tile(SIGNALS["music"], 4)
    some = extractor(every=every)
    assert some.spec.hop_s == pytest.approx(every * PATCH_S)
    np.testing.assert_array_equal(some([samples])[0], both([samples])[0][::every])


def test_settings_are_in_the_fingerprint():
    specs = [
        features.resolve("musicnn", Params(**changed))
        for changed in ({}, {"every": 2}, {"output": "tags"}, {"networks": ["msd"]}, {"networks": ["mtt", "msd"]})
    ]
    assert len({spec.fingerprint for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "wrong", [{"networks": []}, {"networks": ["msd", "msd"]}, {"networks": ["vgg"]}, {"every": 0}, {"output": "mel"}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)


# audio of any length, in any blocks ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(0, 3 * 47_872),
    cuts=st.lists(st.integers(0, 3 * 47_872), max_size=6),
    every=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_patches_do_not_depend_on_the_blocks_and_are_those_of_the_whole(n, cuts, every, seed):
    samples = np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)
    stream = musicnn_frontend.Patches(every)
    found = []
    for block in np.split(samples, sorted(min(cut, n) for cut in cuts)):
        found.extend(stream.push(block))
    found.extend(stream.finish())
    if n <= 256:
        assert found == []
        return
    frames = musicnn_frontend.log_mel(np.pad(samples, 256, mode="reflect"))
    assert len(frames) == 1 + n // 256
    wanted = musicnn_graph.patches(np.resize(frames, (187, 96)) if len(frames) < 187 else frames)[::every]
    np.testing.assert_array_equal(found, wanted)


def test_a_short_sound_counts_as_if_repeated(both):
    """A loop of 1.024 s that is repeated sounds like the loop: near, since the seam's frames are repeated ones."""
    loop = music(8.192, 5)[-16_384:]
    short, repeated = both([loop, np.tile(loop, 4)])
    assert len(short) == len(repeated) == 1
    assert np.corrcoef(short[0], repeated[0])[0, 1] > 0.95


def test_what_is_not_a_number_gives_no_number(both):
    samples = SIGNALS["music"].copy()
    samples[1_000] = np.nan
    frames = both([samples])[0]
    assert np.isnan(frames[0]).all()
    assert np.isfinite(frames[1]).all()


# weights -------------------------------------------------------------------------------------------------------------


def test_other_weights_are_another_feature(tmp_path, both):
    arrays = {network: random_weights(i) for i, network in enumerate(musicnn_network.TAGS)}
    file = tmp_path / "other.safetensors"
    file.write_bytes(musicnn_weights.to_bytes(arrays, packed=False))
    spec = features.resolve("musicnn", Params(weights=str(file)))
    assert spec.fingerprint != both.spec.fingerprint
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    assert features.resolve("musicnn", Params(weights=str(moved))).fingerprint == spec.fingerprint
    file.write_bytes(musicnn_weights.to_bytes({**arrays, "mtt": random_weights(7)}, packed=False))
    with pytest.raises(ModelError, match=r"other\.safetensors are not those"):
        features.load(spec)
    file.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        features.load(spec)


@pytest.mark.parametrize("exponent", [-20, 0, 20])
def test_packing_keeps_twenty_bits(exponent):
    arrays = {name: array * np.float32(2.0**exponent) for name, array in random_weights(0).items()}
    arrays["conv2/kernel"][..., 3] = 0
    content = musicnn_weights.to_bytes(dict.fromkeys(musicnn_network.TAGS, arrays), packed=True)
    assert len(content) < 4_000_000
    found = musicnn_weights.parse(content, "x")["msd"]
    for name, array in arrays.items():
        largest = np.abs(array).max(tuple(range(array.ndim - 1))) if name.endswith("kernel") else 0
        assert (np.abs(found[name] - array) <= 1.1 * largest * 2.0**-20).all(), name
    assert musicnn_weights.to_bytes(musicnn_weights.parse(content, "x"), packed=False) == musicnn_weights.to_bytes(
        dict.fromkeys(musicnn_network.TAGS, found), packed=False
    )


def damaged() -> dict[str, bytes]:
    whole = musicnn_weights.PACKAGED.read_bytes()
    arrays = {network: random_weights(0) for network in musicnn_network.TAGS}
    nan = {name: array * np.float32(np.nan) for name, array in arrays["mtt"].items()}
    narrow = {**arrays["msd"], "tags/bias": np.zeros(49, np.float32)}
    return {
        "empty": b"",
        "no safetensors": b"musicnn" * 1_000,
        "cut": whole[:-1_000],
        "one network": musicnn_weights.to_bytes({"msd": arrays["msd"]}, packed=True),
        "not finite": musicnn_weights.to_bytes({**arrays, "mtt": nan}, packed=False),
        "another shape": musicnn_weights.to_bytes({**arrays, "msd": narrow}, packed=False),
    }


@pytest.mark.parametrize("kind", damaged())
def test_damaged_weights_are_named(tmp_path, kind):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(damaged()[kind])
    with pytest.raises(ModelError, match=r"weights\.safetensors") as caught:
        features.resolve("musicnn", Params(weights=str(file)))
    assert "mer-ray weights musicnn" in str(caught.value)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.safetensors"):
        features.resolve("musicnn", Params(weights=str(tmp_path / "gone.safetensors")))


def test_the_licence_stands_beside_the_weights_and_in_them():
    from safetensors import safe_open

    text = musicnn_weights.NOTICE.read_text(encoding="utf-8")
    assert "Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019" in text
    assert "Permission to use, copy, modify, and/or distribute" in text
    with safe_open(musicnn_weights.PACKAGED, "numpy") as file:
        assert file.metadata() == {"notice": text}


def wheel_or_skip() -> Path:
    if not musicnn_graph.WHEEL:
        pytest.skip("MER_RAY_MUSICNN_WHEEL does not name the wheel of musicnn 0.1.0")
    return Path(musicnn_graph.WHEEL)
