"""VGGish: front end, network and the ways to its weights, against independent implementations and real servers."""

from __future__ import annotations

import io
import math
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.errors import ConfigError, MerRayError, ModelError, ServiceError
from mer_ray.features import vggish, vggish_frontend, vggish_network, vggish_weights
from mer_ray.features.vggish import Params

RATE = 16_000
PUBLISHED_MEAN, PUBLISHED_SD = 0.000657, 0.343  # vggish_smoke_test.py of the AudioSet release, raw embeddings


def sine(hertz: float, seconds: float, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seconds: float, seed: int, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def music(seconds: float, seed: int) -> np.ndarray:
    """Decaying harmonic notes on a noise floor: crude, but it changes from patch to patch as music does."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    x = 0.002 * rng.standard_normal(t.size)
    for start in np.arange(0, seconds, 0.4):
        pitch, loudness, age = 110 * 2 ** (rng.integers(0, 36) / 12), rng.uniform(0.02, 0.2), t - start
        note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in (1, 2, 3))
        x += (age >= 0) * loudness * np.exp(-4 * np.maximum(age, 0)) * note
    return x.astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- front end


@given(n=st.integers(0, 40 * RATE))
@settings(max_examples=200, deadline=None)
def test_the_frame_rule(n: int) -> None:
    expected = math.floor((1 + math.floor((n - 400) / 160)) / 96) if n >= 400 else 0
    assert vggish_frontend.n_patches(n) == expected
    assert (expected == 0) == (n < 15_600)


def test_the_frame_rule_at_its_edges() -> None:
    assert [vggish_frontend.n_patches(n) for n in (0, 1, 15_599, 15_600, 30_959, 30_960)] == [0, 0, 0, 1, 1, 2]
    assert vggish_frontend.n_patches(30 * RATE) == 31
    assert [len(block) for block in vggish_frontend.blocks([np.zeros(30 * RATE, np.float32)], 16)] == [16, 15]
    assert vggish_frontend.n_patches(10 * 3_600 * RATE) == 37_499


def reference_log_mel(samples: np.ndarray) -> np.ndarray:
    """The definition, in float64, with loops and a discrete Fourier transform written out."""
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / 400) for i in range(400)])
    dft = np.exp(-2j * math.pi * np.outer(np.arange(400), np.arange(257)) / 512)
    mel = [1127 * math.log(1 + k * RATE / 512 / 700) for k in range(257)]
    low, high = 1127 * math.log(1 + 125 / 700), 1127 * math.log(1 + 7500 / 700)
    step = (high - low) / 65
    weights = np.zeros((257, 64))
    for k in range(1, 257):
        for band in range(64):
            weights[k, band] = max(0.0, 1 - abs(mel[k] - (low + (band + 1) * step)) / step)
    rows = []
    for start in range(0, samples.size - 399, 160):
        rows.append(np.log(np.abs((samples[start : start + 400].astype(np.float64) * window) @ dft) @ weights + 0.01))
    return np.array(rows)


SOUNDS = [noise(1.3, 1), noise(1, 2, 1e-4), sine(440, 1.1), music(2, 3), np.zeros(RATE, np.float32)]


@pytest.mark.parametrize("sound", SOUNDS)
def test_log_mel_is_its_definition(sound: np.ndarray) -> None:
    found = vggish_frontend.log_mel(sound)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference_log_mel(sound), atol=1e-4)


def test_a_sine_lights_the_band_that_its_frequency_lies_in() -> None:
    # Periodic Hann windows of 400 sum to 200, and 1 kHz is bin 32 of 512 exactly: its magnitude is 100.
    mel = np.exp(vggish_frontend.log_mel(sine(1_000, 3)).astype(np.float64)) - 0.01
    position = (1127 * math.log(1 + 1_000 / 700) - 1127 * math.log(1 + 125 / 700)) / (
        (1127 * math.log(1 + 7_500 / 700) - 1127 * math.log(1 + 125 / 700)) / 65
    )  # in bands, from the lower edge of band 0; band b peaks at b + 1
    below = int(position) - 1
    assert set(mel.mean(0).argsort()[-2:]) == {below, below + 1}
    assert mel.shape == (298, 64)
    assert np.allclose(mel, mel[0], atol=0.02)  # 10 ms are ten whole periods
    share = position - int(position)
    assert mel[0, below] > 100 * (1 - share)
    assert mel[0, below + 1] > 100 * share


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert np.all(vggish_frontend.log_mel(np.zeros(RATE, np.float32)) == np.float32(np.log(np.float32(0.01))))


def test_magnitude_not_power() -> None:
    quiet, loud = (np.exp(vggish_frontend.log_mel(noise(1, 4, a)).astype(np.float64)) - 0.01 for a in (0.1, 0.2))
    np.testing.assert_allclose(loud, 2 * quiet, rtol=1e-3, atol=1e-5)


@given(lengths=st.lists(st.integers(0, 90_000), max_size=4), size=st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_blocks_hold_every_patch_in_order(lengths: list[int], size: int) -> None:
    batch = [noise(1, 5, 0.1)[np.arange(n) % RATE] for n in lengths]
    found = list(vggish_frontend.blocks(batch, size))
    whole = [vggish_frontend.patches(s, 0, n) for s in batch if (n := vggish_frontend.n_patches(s.size))]
    assert all(len(block) == size for block in found[:-1])
    assert sum(map(len, found)) == sum(map(len, whole))
    if whole:
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(whole))


def test_long_audio_needs_no_more_memory_than_short() -> None:
    def peak(minutes: int) -> int:
        samples = np.zeros(minutes * 60 * RATE, np.float32)
        tracemalloc.start()
        for block in vggish_frontend.blocks([samples], 64):
            assert block.shape[1:] == (96, 64)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    vggish_frontend.log_mel(np.zeros(400, np.float32))  # makes the tables
    assert peak(8) < 1.1 * peak(2) < 100e6


@pytest.mark.parametrize(("shape", "dtype"), [((RATE,), np.int16), ((RATE, 2), np.float32), ((399,), np.float32)])
def test_log_mel_refuses_what_is_no_mono_waveform(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match="floats"):
        vggish_frontend.log_mel(np.zeros(shape, dtype))


# ------------------------------------------------------------------------------------------------------------ network


@pytest.fixture(scope="module")
def tf() -> Any:
    return vggish_weights.import_tensorflow()


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """Full size, with biases that are not zero, so that a forgotten one is seen."""
    result = vggish_network.random_weights(3)
    for index, (name, array) in enumerate(result.items()):
        if array.ndim == 1:
            result[name] = np.random.default_rng(index).uniform(-0.2, 0.2, array.shape).astype(np.float32)
    return result


def narrowed(weights: dict[str, np.ndarray], width: int = 24) -> dict[str, np.ndarray]:
    """The same network with fewer neurons in the two wide dense layers: small to write, VGGish otherwise."""
    cut = {"fc1/fc1_1": (12_288, width), "fc1/fc1_2": (width, width), "fc2": (width, 128)}
    result = dict(weights)
    for layer, (rows, columns) in cut.items():
        kernel = weights[f"vggish/{layer}/weights"]
        result[f"vggish/{layer}/weights"] = kernel[:rows, :columns] * np.float32(math.sqrt(len(kernel) / rows))
        result[f"vggish/{layer}/biases"] = weights[f"vggish/{layer}/biases"][:columns]
    return result


def tf_network(tf: Any, weights: dict[str, Any], patches: Any) -> Any:
    """VGGish written out in TensorFlow."""

    def conv(x: Any, name: str) -> Any:
        kernel, bias = weights[f"vggish/{name}/weights"], weights[f"vggish/{name}/biases"]
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides=1, padding="SAME"), bias))

    def dense(x: Any, name: str) -> Any:
        return tf.matmul(x, weights[f"vggish/{name}/weights"]) + weights[f"vggish/{name}/biases"]

    pool = partial(tf.nn.max_pool2d, ksize=2, strides=2, padding="SAME")
    x = tf.reshape(patches, [-1, 96, 64, 1])
    x = pool(conv(x, "conv1"))
    x = pool(conv(x, "conv2"))
    x = pool(conv(conv(x, "conv3/conv3_1"), "conv3/conv3_2"))
    x = pool(conv(conv(x, "conv4/conv4_1"), "conv4/conv4_2"))
    x = tf.reshape(x, [-1, 6 * 4 * 512])
    x = tf.nn.relu(dense(x, "fc1/fc1_1"))
    x = tf.nn.relu(dense(x, "fc1/fc1_2"))
    return dense(x, "fc2")


def tf_patches(tf: Any, waveform: Any) -> Any:
    """The front end as the published module has it, in TensorFlow's own signal processing."""
    spectrum = tf.abs(tf.signal.stft(waveform, frame_length=400, frame_step=160, fft_length=512))
    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7_500.0)
    return tf.signal.frame(tf.math.log(tf.matmul(spectrum, mel) + 0.01), 96, 96, axis=0)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / wanted.std())


def test_parameter_count() -> None:
    shapes = vggish_network.shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 72_141_184
    assert shapes["vggish/fc1/fc1_1/weights"] == (12_288, 4_096)
    kernels = [shape for shape in shapes.values() if len(shape) > 1]
    assert len(set(kernels)) == len(kernels) == 9


def test_front_end_is_tensorflows(tf: Any) -> None:
    sound = music(3, 6)
    np.testing.assert_allclose(vggish_frontend.patches(sound, 0, 3), tf_patches(tf, sound).numpy(), atol=1e-4)


def test_network_is_tensorflows(tf: Any, weights: dict[str, np.ndarray]) -> None:
    patches = vggish_frontend.patches(music(3, 7), 0, 3)
    found = np.asarray(vggish_network.embed(weights, vggish_network.convolve(weights, patches)))
    assert relative(found, tf_network(tf, weights, patches).numpy()) < 1e-4


def test_network_pads_what_is_left_over(weights: dict[str, np.ndarray]) -> None:
    small = narrowed(weights)
    patches = vggish_frontend.patches(music(12, 8), 0, 12)
    network = vggish_network.Network(small, batch=12)
    wanted = np.asarray(vggish_network.embed(small, vggish_network.convolve(small, patches)))
    assert network(patches[:0]).shape == (0, 128)
    for n in (1, 9, 12):
        assert relative(network(patches[:n]), wanted[:n]) < 1e-4


# ----------------------------------------------------------------------------------------------------- random weights


@pytest.fixture(scope="module")
def stand_in() -> features.Extractor:
    return features.load(features.resolve("vggish", Params(weights="random", batch_patches=8), demo=True))


def test_random_weights_are_the_same_everywhere(stand_in: features.Extractor, weights: dict[str, np.ndarray]) -> None:
    assert isinstance(stand_in, vggish.Vggish)
    first = {name: np.asarray(array) for name, array in stand_in._network._weights.items()}
    np.testing.assert_allclose(first["vggish/conv1/weights"].ravel()[:3], [0.526852, -0.653897, -0.201088], rtol=1e-5)
    np.testing.assert_allclose(first["vggish/fc2/weights"].ravel()[-3:], [-0.011318, -0.0038948, 0.0055643], rtol=1e-4)
    assert not np.allclose(first["vggish/fc2/weights"], weights["vggish/fc2/weights"])  # of another seed
    for name, array in first.items():
        assert array.dtype == np.float32
        assert array.shape == vggish_network.shapes()[name]
        wanted = math.sqrt(2 / math.prod(array.shape[:-1])) if array.ndim > 1 else 0
        assert array.std() == pytest.approx(wanted, rel=0.1)


def test_random_embeddings_tell_sounds_apart(stand_in: features.Extractor) -> None:
    sounds = [music(3, 9), music(3, 10), noise(3, 11), sine(300, 3), 0.1 * music(3, 9)]
    tracks = stand_in(sounds)
    every = np.concatenate(tracks)
    assert 0.1 < np.abs(every).mean() < 30
    assert np.isfinite(every).all()
    assert tracks[0].std(0).mean() > 0.01 * every.std()  # from patch to patch of one piece
    centred = every - every.mean(0)
    assert np.linalg.matrix_rank(centred, tol=1e-3 * np.linalg.norm(centred, 2)) >= 5
    for i, one in enumerate(tracks):
        for other in tracks[i + 1 :]:
            assert np.linalg.norm(one.mean(0) - other.mean(0)) > 0.05 * np.linalg.norm(one.mean(0))


def test_extractor_keeps_tracks_apart(stand_in: features.Extractor) -> None:
    batch = [noise(0.9, 12), music(5, 13), np.zeros(0, np.float32), music(2, 14), sine(440, 1), noise(0.5, 15)]
    together = stand_in(batch)
    assert [frames.shape for frames in together] == [(0, 128), (5, 128), (0, 128), (2, 128), (1, 128), (0, 128)]
    assert all(frames.dtype == np.float32 for frames in together)
    assert relative(together[3], stand_in([batch[3]])[0]) < 1e-4
    assert relative(together[1][4:], stand_in([batch[1][4 * 15_360 :]])[0]) < 1e-4
    assert stand_in([]) == []
    assert [frames.shape for frames in stand_in([batch[0]])] == [(0, 128)]


def test_random_weights_are_for_the_demo_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        features.resolve("vggish", Params(weights="random"), demo=False)
    assert_names_the_ways(caught.value)
    spec = features.resolve("vggish", Params(weights="random", seed=7), demo=True)
    assert spec.weights == {"kind": "random", "seed": 7}
    assert "seeded random weights (seed 7)" in spec.note


def assert_names_the_ways(error: MerRayError) -> None:
    text = str(error)
    assert "\n" not in text
    for way in ("tfhub.dev", "extract.vggish.weights", "SavedModel folder", "vggish_model.ckpt", "TFHUB_CACHE_DIR"):
        assert way in text


# ------------------------------------------------------------------------------------------------------ spec, settings


def test_spec() -> None:
    spec = features.resolve("vggish", Params(weights="random"), demo=True)
    assert (spec.name, spec.version, spec.sample_rate_hz, spec.n_dims) == ("vggish", 1, 16_000, 128)
    assert spec.hop_s == pytest.approx(0.96)
    stored = features.FeatureSpec.from_json(spec.to_json())
    assert stored.fingerprint == spec.fingerprint


def test_how_the_work_is_done_is_not_in_the_fingerprint() -> None:
    def fingerprint(**changes: Any) -> str:
        return features.resolve("vggish", Params(weights="random", **changes), demo=True).fingerprint

    assert fingerprint() == fingerprint(batch_patches=3, timeout_s=1)
    assert fingerprint() != fingerprint(seed=1)


def test_batch_size_reaches_the_extractor(stand_in: features.Extractor) -> None:
    assert isinstance(stand_in, vggish.Vggish)
    assert stand_in._network.batch == 8


def test_import_is_light() -> None:
    code = "import sys, mer_ray.features.vggish; print(sorted({'jax', 'tensorflow', 'httpx'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------------------- SavedModels


def save_module(tf: Any, folder: Path, weights: dict[str, np.ndarray], *, pad: int = 0, dims: int = 128) -> Path:
    """A module with the signature of ``google/vggish/1``. ``pad`` and ``dims`` make it a wrong one."""

    class Module(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.arrays = {name.replace("/", "."): tf.Variable(array) for name, array in weights.items()}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, waveform: Any) -> Any:
            arrays = {name.replace(".", "/"): array for name, array in self.arrays.items()}
            return tf_network(tf, arrays, tf_patches(tf, tf.pad(waveform, [[0, pad]])))[:, :dims]

    tf.saved_model.save(Module(), str(folder))
    return folder


@pytest.fixture(scope="module")
def module_weights(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return narrowed(weights)


@pytest.fixture(scope="module")
def module(tf: Any, tmp_path_factory: pytest.TempPathFactory, module_weights: dict[str, np.ndarray]) -> Path:
    return save_module(tf, tmp_path_factory.mktemp("hub") / "vggish", module_weights)


def resolve_path(path: Path, **changes: Any) -> features.FeatureSpec:
    return features.resolve("vggish", Params(weights=str(path), **changes))


def test_saved_model(tf: Any, module: Path, module_weights: dict[str, np.ndarray]) -> None:
    spec = resolve_path(module, batch_patches=2)
    assert spec.weights is not None
    assert (spec.weights["kind"], spec.weights["location"], spec.note) == ("saved_model", str(module), "")
    batch = [music(5.5, 17), noise(0.5, 18), music(1, 19)]
    found = features.load(spec)(batch)
    assert [frames.shape for frames in found] == [(5, 128), (0, 128), (1, 128)]
    direct = tf.saved_model.load(str(module))
    for samples, frames in zip(batch, found, strict=True):
        if len(frames):
            assert relative(frames, direct(samples).numpy()) < 1e-4
    in_jax = vggish_network.Network(module_weights, 8)(vggish_frontend.patches(batch[0], 0, 5))
    assert relative(found[0], in_jax) < 1e-4


def test_saved_model_with_a_serving_signature_alone(tf: Any, tmp_path: Path, module: Path) -> None:
    inner = tf.saved_model.load(str(module))
    outer = tf.Module()
    outer.inner = inner

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="waveform")])
    def serve(waveform: Any) -> Any:
        return {"embedding": inner(waveform)}

    tf.saved_model.save(outer, str(tmp_path / "served"), signatures=serve)
    sound = music(2, 20)
    found = features.load(resolve_path(tmp_path / "served"))([sound])[0]
    assert relative(found, inner(sound).numpy()) < 1e-5


def test_moving_the_weights_changes_nothing(module: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(module, tmp_path / "elsewhere"))
    assert resolve_path(moved).fingerprint == resolve_path(module).fingerprint
    (moved / "saved_model.pb").write_bytes((moved / "saved_model.pb").read_bytes() + b" ")
    assert resolve_path(moved).fingerprint != resolve_path(module).fingerprint


def test_changed_or_lost_weights_are_noticed(module: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(module, tmp_path / "vggish"))
    spec = resolve_path(folder)
    data = next(folder.glob("variables/*.data-*"))
    content = bytearray(data.read_bytes())
    content[1_000] ^= 1
    data.write_bytes(content)
    with pytest.raises(ModelError, match=r"not those that the features were made with.*set extract\.vggish\.weights"):
        features.load(spec)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=r"are gone.*extract\.vggish\.weights"):
        features.load(spec)


def test_a_module_of_another_kind_is_refused(tf: Any, tmp_path: Path, module_weights: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"must give \(1, 128\), it gave \(1, 100\)"):
        features.load(resolve_path(save_module(tf, tmp_path / "narrow", module_weights, dims=100)))
    with pytest.raises(ModelError, match=r"must give \(1, 128\), it gave \(2, 128\)"):
        features.load(resolve_path(save_module(tf, tmp_path / "padded", module_weights, pad=15_360)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ModelError, match="cannot be read as a SavedModel"):
        features.load(resolve_path(tmp_path / "broken"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="offers no function"):
        features.load(resolve_path(tmp_path / "empty"))


@pytest.mark.parametrize("demo", [False, True])
def test_a_path_without_weights_is_named(tmp_path: Path, demo: bool) -> None:
    for path, reason in ((tmp_path / "missing.ckpt", "does not exist"), (tmp_path, "holds no saved_model.pb")):
        with pytest.raises(ConfigError, match=reason) as caught:
            features.resolve("vggish", Params(weights=str(path)), demo)
        assert str(path) in str(caught.value)
        assert_names_the_ways(caught.value)


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_original_checkpoint(tf: Any, tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "vggish_model.ckpt"  # one file, as released
    arrays = {**weights, "global_step": np.int64(7)}
    tf.raw_ops.Save(filename=str(path), tensor_names=list(arrays), data=list(arrays.values()))
    spec = resolve_path(path, batch_patches=2)
    assert spec.weights is not None
    assert (spec.weights["kind"], spec.weights["location"]) == ("checkpoint", str(path))
    sound = music(2, 21)
    found = features.load(spec)([sound])[0]
    assert relative(found, tf_network(tf, weights, vggish_frontend.patches(sound, 0, 2)).numpy()) < 1e-4

    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ModelError, match="not those"):
        features.load(spec)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        features.load(resolve_path(path))
    path.unlink()  # large, and pytest keeps the folders of three runs


def test_checkpoint_in_the_newer_format(tf: Any, tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model"),
        tensor_names=list(weights),
        shape_and_slices=[""] * len(weights),
        tensors=list(weights.values()),
    )
    first = vggish_weights.find(str(tmp_path / "model"), timeout_s=1)
    found = vggish_weights.read_checkpoint(vggish_weights.locate(first, timeout_s=1))
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    for path in tmp_path.glob("model.*"):
        path.rename(path.with_name(path.name.replace("model", "renamed")))
    with pytest.raises(ModelError, match="are gone"):
        vggish_weights.locate(first, timeout_s=1)
    (data,) = tmp_path.glob("renamed.data-*")
    data.unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        vggish_weights.find(str(tmp_path / "renamed"), timeout_s=1)


def test_a_checkpoint_of_another_network_is_refused(
    tf: Any, tmp_path: Path, module_weights: dict[str, np.ndarray]
) -> None:
    tf.raw_ops.Save(
        filename=str(tmp_path / "narrow"), tensor_names=list(module_weights), data=list(module_weights.values())
    )
    with pytest.raises(ModelError, match=r"vggish/fc1/fc1_1/weights must be \(12288, 4096\), found \(12288, 24\)"):
        features.load(resolve_path(tmp_path / "narrow"))
    tf.raw_ops.Save(filename=str(tmp_path / "other"), tensor_names=["w"], data=[np.zeros(3, np.float32)])
    with pytest.raises(ModelError, match=r"vggish/conv1/weights must be \(3, 3, 1, 64\), found None"):
        features.load(resolve_path(tmp_path / "other"))


# ----------------------------------------------------------------------------------------------------------------- hub


@contextmanager
def hub(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real HTTP server on the loopback; yields a module's handle there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/google/vggish/1"
        finally:
            server.shutdown()
            thread.join()


def sends(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        wanted = request.path.endswith("/google/vggish/1?tf-hub-format=compressed")
        request.send_response(status if wanted else 404)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def archive(add: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        add(tar)
    return buffer.getvalue()


def file_member(name: str, content: bytes = b"x") -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    return add


def link_member(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("variables")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc"
    tar.addfile(info)


@pytest.fixture(scope="module")
def module_archive(module: Path) -> bytes:
    return archive(lambda tar: tar.add(module, arcname="./"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, and no proxy between it and the loopback."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


def test_module_from_a_hub(tf: Any, module: Path, module_archive: bytes, cache: Path) -> None:
    requests: list[str] = []
    serve = sends(module_archive)

    def answer(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        if request.path.startswith("/stored"):
            serve(request)
            return
        request.send_response(302)  # as tfhub.dev does, to where the archive is stored
        request.send_header("Location", f"/stored{request.path}")
        request.end_headers()

    sound = music(2, 22)
    with hub(answer) as handle:
        spec = features.resolve("vggish", Params(weights=handle))
        found = features.load(spec)([sound])[0]
    assert len(requests) == 2
    assert spec.weights is not None
    assert spec.weights["location"] == handle
    assert spec.fingerprint == resolve_path(module).fingerprint
    assert relative(found, tf.saved_model.load(str(module))(sound).numpy()) < 1e-5

    assert features.resolve("vggish", Params(weights=handle)) == spec  # the server is gone, the cache is not
    import tensorflow_hub

    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    assert Path(tensorflow_hub.resolve(handle)) == folder  # and tensorflow-hub finds it too
    shutil.rmtree(cache)
    with pytest.raises(ServiceError, match="could not be reached"):
        features.load(spec)


@pytest.mark.parametrize("hostile", [file_member("../../escaped"), file_member("/tmp/mer-ray-escaped"), link_member])
def test_hostile_archives_are_refused(hostile: Callable[[tarfile.TarFile], None], cache: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        file_member("saved_model.pb")(tar)
        hostile(tar)

    with hub(sends(archive(add))) as handle, pytest.raises(ServiceError, match="not safe"):
        features.resolve("vggish", Params(weights=handle))
    assert list(cache.iterdir()) == []
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]
    assert not Path("/tmp/mer-ray-escaped").exists()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sends(b"", status=404), "answered 404"),
        (sends(b"<html>Sign in to the guest network</html>"), "is no module"),
        (sends(archive(file_member("saved_model.pb", os.urandom(50_000)))[:-20_000]), "is no module"),
        (sends(archive(file_member("readme.txt"))), "holds no saved_model.pb"),
    ],
)
def test_a_hub_that_serves_no_module(answer: Callable[..., None], reason: str, cache: Path) -> None:
    with hub(answer) as handle, pytest.raises(ServiceError, match=reason) as caught:
        features.resolve("vggish", Params(weights=handle))
    assert_names_the_ways(caught.value)
    assert list(cache.iterdir()) == []


def test_an_archive_that_grows_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish_weights, "SIZE_LIMIT", 1_000_000)
    bomb = archive(file_member("saved_model.pb", bytes(2_000_000)))
    for body, reason in ((bomb, "unpacks to over"), (bytes(2_000_000), "sent more than")):
        with hub(sends(body)) as handle, pytest.raises(ServiceError, match=reason):
            features.resolve("vggish", Params(weights=handle))


def test_a_hub_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish_weights, "DOWNLOAD_LIMIT_S", 0.5)
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not stop.wait(0.05):
            try:
                request.wfile.write(bytes(1 << 20))
            except OSError:
                return

    started = time.monotonic()
    with hub(answer) as handle:
        with pytest.raises(ServiceError, match=r"took over 0\.5 s"):
            features.resolve("vggish", Params(weights=handle))
        stop.set()
    assert time.monotonic() - started < 5


@pytest.fixture(params=["refuses", "never answers"])
def dead_handle(request: pytest.FixtureRequest) -> Iterator[str]:
    """A handle at a port that refuses, or that accepts and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        handle = f"http://127.0.0.1:{server.getsockname()[1]}/google/vggish/1"
        if request.param == "refuses":
            server.close()
        yield handle


def test_an_unreachable_hub_fails_within_seconds(dead_handle: str) -> None:
    started = time.monotonic()
    for demo in (False, True):  # the demo's stand-in is for `auto`: who names a handle wants that one
        with pytest.raises(ServiceError, match="could not be reached") as caught:
            features.resolve("vggish", Params(weights=dead_handle, timeout_s=1), demo)
        assert_names_the_ways(caught.value)
    assert time.monotonic() - started < 4


def test_auto_falls_back_in_the_demo_alone(dead_handle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish_weights, "HANDLE", dead_handle)
    started = time.monotonic()
    spec = features.resolve("vggish", Params(seed=5, timeout_s=1), demo=True)
    assert spec.weights == {"kind": "random", "seed": 5}
    assert spec.note.startswith("VGGish with seeded random weights (seed 5): the hub could not be reached")
    with pytest.raises(ServiceError, match="could not be reached"):
        features.resolve("vggish", Params(timeout_s=1))
    assert time.monotonic() - started < 4


def test_auto_takes_the_hubs_weights(module: Path, module_archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(sends(module_archive)) as handle:
        monkeypatch.setattr(vggish_weights, "HANDLE", handle)
        spec = features.resolve("vggish", Params(), demo=True)
    assert spec.note == ""
    assert spec.fingerprint == resolve_path(module).fingerprint


def test_a_handle_that_is_no_address() -> None:
    with pytest.raises(ConfigError, match="is no address"):
        features.resolve("vggish", Params(weights="http://[::1/vggish"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="TFHUB_CACHE_DIR"):
        features.resolve("vggish", Params(weights="http://127.0.0.1:9/google/vggish/1"))


# ------------------------------------------------------------------------------------------------------- real weights


def test_published_smoke_test() -> None:
    real = os.environ.get("MER_RAY_VGGISH_WEIGHTS")
    if not real:
        pytest.skip("set MER_RAY_VGGISH_WEIGHTS to VGGish's real weights: a SavedModel folder or a checkpoint")
    embeddings = features.load(features.resolve("vggish", Params(weights=real)))([sine(1_000, 3)])[0]
    assert embeddings.shape == (3, 128)
    np.testing.assert_allclose([embeddings.mean(), embeddings.std()], [PUBLISHED_MEAN, PUBLISHED_SD], rtol=0.1)
