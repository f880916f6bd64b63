"""VGGish's weights out of TensorFlow's formats. All that needs TensorFlow is here: its import takes 15 s."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vggish_sounds import music, relative, weights_with_biases, windows

from mer_ray import features
from mer_ray.errors import ModelError
from mer_ray.features import vggish_frontend, vggish_import, vggish_network, vggish_weights
from mer_ray.features.saved_model import import_tensorflow
from mer_ray.features.vggish import Params


@pytest.fixture(scope="module")
def tf() -> Any:
    return import_tensorflow()


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return weights_with_biases(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For large files, which do not stay."""
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder / "cache"))
    return folder / "cache"


def as_published(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: vggish_import.as_stored(array) for name, array in weights.items()}


def module(tf: Any, weights: dict[str, np.ndarray], name: Any = str, pad: int = 0, dims: int = 128) -> Any:
    """A module with the signature of ``google/vggish/1``, variables called by ``name``. The rest makes wrong ones."""

    class Module(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.arrays = {name(key): tf.Variable(array) for key, array in as_published(weights).items()}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)  # type: ignore[untyped-decorator]
        def __call__(self, waveform: Any) -> Any:
            arrays = {key: self.arrays[name(key)] for key in weights}
            return vggish_import.in_tensorflow(arrays, tf.pad(waveform, [[0, pad]]))[:, :dims]

    return Module()


@pytest.fixture(scope="module")
def saved(tf: Any, weights: dict[str, np.ndarray], folder: Path) -> Path:
    tf.saved_model.save(module(tf, weights), str(folder / "vggish"))
    return folder / "vggish"


def save_checkpoint(tf: Any, path: Path, arrays: dict[str, Any]) -> Path:
    """One file, as released."""
    tf.raw_ops.Save(filename=str(path), tensor_names=list(arrays), data=[np.asarray(a) for a in arrays.values()])
    return path


def test_front_end_is_tensorflows(tf: Any) -> None:
    sound = music(3, 6)
    spectrum = tf.abs(tf.signal.stft(sound, frame_length=400, frame_step=160, fft_length=512))
    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7_500.0)
    wanted = tf.signal.frame(tf.math.log(tf.matmul(spectrum, mel) + 0.01), 96, 96, axis=0).numpy()
    np.testing.assert_allclose(vggish_frontend.patches(windows(sound)), wanted, atol=1e-4)


def test_a_saved_model_from_setting_to_embeddings(
    tf: Any, saved: Path, weights: dict[str, np.ndarray], cache: Path
) -> None:
    """The whole way, with the import in a process of its own; then without the need for one."""
    spec = features.resolve("vggish", Params(weights=str(saved)))
    assert spec.weights is not None
    assert (spec.weights["kind"], spec.weights["location"], spec.note) == ("imported", str(saved), "")
    assert spec.weights["sha256"] == vggish_weights.content_hash(weights)
    (imported,) = cache.iterdir()
    assert imported.suffix == ".safetensors"
    sound = music(3.5, 17)
    found = features.load(spec)([sound])[0]
    assert relative(found, tf.saved_model.load(str(saved))(sound).numpy()) < 1e-4
    made = imported.stat()
    direct = features.resolve("vggish", Params(weights=str(imported)))
    assert direct.fingerprint == spec.fingerprint == features.resolve("vggish", Params(weights=str(saved))).fingerprint
    assert imported.stat() == made


def test_the_original_checkpoint_gives_the_same_import(tf: Any, folder: Path, weights: dict[str, np.ndarray]) -> None:
    path = save_checkpoint(tf, folder / "vggish_model.ckpt", {**as_published(weights), "global_step": np.int64(7)})
    vggish_import.convert(path, folder / "from-checkpoint.safetensors")
    found = vggish_weights.read(folder / "from-checkpoint.safetensors")
    assert vggish_weights.content_hash(found) == vggish_weights.content_hash(weights)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        vggish_import.convert(path, folder / "half.safetensors")
    assert not (folder / "half.safetensors").exists()
    path.unlink()


def test_a_checkpoint_in_the_newer_format(tf: Any, folder: Path, saved: Path) -> None:
    """A SavedModel's own variables are one: the same numbers, under names that say nothing."""
    with pytest.raises(ModelError, match=r"vggish/conv1/weights must be \(3, 3, 1, 64\), found None"):
        vggish_import.convert(saved / "variables" / "variables", folder / "other.safetensors")
    prefix = folder / "model"
    small = {name: np.zeros(2, np.float32) for name in vggish_network.shapes()}
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=list(small), shape_and_slices=[""] * len(small), tensors=list(small.values())
    )
    with pytest.raises(ModelError, match=r"vggish/conv1/weights must be \(3, 3, 1, 64\), found \(2,\)"):
        vggish_import.convert(prefix, folder / "other.safetensors")


def test_variables_of_any_name_are_put_in_order(tf: Any, folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Names that say nothing, and sort so that one pair of biases is exchanged at first."""
    names = {key: f"v{i:02}" for i, key in enumerate(weights)}
    last, first = "vggish/fc1/fc1_1/biases", "vggish/fc1/fc1_2/biases"
    names[last], names[first] = names[first], names[last]
    model = module(tf, weights, name=names.__getitem__)
    tf.saved_model.save(model, str(folder / "anonymous"))
    vggish_import.convert(folder / "anonymous", folder / "anonymous.safetensors")
    found = vggish_weights.read(folder / "anonymous.safetensors")
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    shutil.rmtree(folder / "anonymous")


def test_orders_begin_with_the_likeliest_and_leave_none_out() -> None:
    shapes = {name: vggish_import.stored_shape(shape) for name, shape in vggish_network.shapes().items()}
    named = {f"x/{name}/VALUE": shape for name, shape in reversed(shapes.items())}
    assert next(vggish_import.orders(named)) == {name: f"x/{name}/VALUE" for name in shapes}
    anonymous = {f"v{i:02}": shape for i, shape in enumerate(shapes.values())}
    orders = list(vggish_import.orders(anonymous))
    assert len(orders) == len({tuple(sorted(order.items())) for order in orders}) == 16
    assert all(len(set(order.values())) == 18 for order in orders)
    assert dict(zip(shapes, anonymous, strict=True)) in orders
    del anonymous["v03"]
    assert list(vggish_import.orders(anonymous)) == []


def test_wrong_weights_for_the_embeddings_are_refused(weights: dict[str, np.ndarray]) -> None:
    """Biases that are exchanged, and a kernel with time and band exchanged: same shapes, other embeddings."""
    samples = vggish_import.probe()
    wanted = np.asarray(vggish_import.in_tensorflow(as_published(weights), samples))
    exchanged = dict(weights)
    a, b = "vggish/conv2/biases", "vggish/fc2/biases"
    exchanged[a], exchanged[b] = weights[b], weights[a]
    turned = {**weights, "vggish/conv2/weights": weights["vggish/conv2/weights"].swapaxes(0, 1)}
    for wrong in (exchanged, turned):
        with pytest.raises(ModelError, match=r"x is no VGGish.*probe differ by"):
            vggish_import.verified([wrong], wanted, samples, Path("x"))
    assert vggish_import.verified([exchanged, weights], wanted, samples, Path("x")) is weights


def test_modules_of_another_kind_are_refused(tf: Any, folder: Path, weights: dict[str, np.ndarray]) -> None:
    target = folder / "none.safetensors"
    small = {name: array for name, array in weights.items() if "fc1" not in name}
    for name, function, reason in (
        ("narrow", lambda x: tf.zeros([2, 100]), r"must give \(2, 128\), it gave \(2, 100\)"),
        ("padded", lambda x: tf.zeros([3, 128]), r"must give \(2, 128\), it gave \(3, 128\)"),
        ("without", lambda x: tf.zeros([2, 128]), "its arrays are not VGGish's"),
    ):
        model = tf.Module()
        model.arrays = [tf.Variable(array) for array in small.values()]
        model.__call__ = tf.function(function, input_signature=[tf.TensorSpec([None], tf.float32)])
        tf.saved_model.save(model, str(folder / name))
        with pytest.raises(ModelError, match=rf"{name} is no VGGish.*{reason}"):
            vggish_import.convert(folder / name, target)
    (folder / "broken").mkdir()
    (folder / "broken" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ModelError, match="cannot be read as a SavedModel"):
        vggish_import.convert(folder / "broken", target)
    assert not target.exists()


def test_weights_that_are_not_finite_are_refused(tf: Any, folder: Path) -> None:
    arrays = {name: np.zeros(vggish_import.stored_shape(s), np.float32) for name, s in vggish_network.shapes().items()}
    arrays["vggish/conv2/biases"][5] = np.nan
    path = save_checkpoint(tf, folder / "nan.ckpt", arrays)
    with pytest.raises(ModelError, match="is damaged: vggish/conv2/biases"):
        vggish_import.convert(path, folder / "nan.safetensors")
    path.unlink()
