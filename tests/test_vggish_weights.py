"""Where VGGish's weights lie: paths, a hub, the cache of imports, and what may be wrong there.

No import here: one that another process has made is taken as it is.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from vggish_sounds import assert_names_the_ways

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError, ServiceError
from mer_ray.features import vggish_network, vggish_weights
from mer_ray.features.vggish import Params


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, and no proxy between it and the loopback."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.random(shape, np.float32) for name, shape in vggish_network.shapes().items()}


@pytest.fixture(scope="module")
def stored(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An import. Large: nothing writes to it, and it does not stay."""
    path = tmp_path_factory.mktemp("imported") / "vggish.safetensors"
    save_file(weights, path)
    yield path
    path.unlink()


@pytest.fixture
def source(tmp_path: Path, stored: Path) -> Path:
    """A SavedModel's folder that has been imported already."""
    folder = tmp_path / "module"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    link_import(folder, stored)
    return folder


def link_import(source: Path, stored: Path) -> None:
    place = vggish_weights.import_path(source)
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(stored)


def resolve_path(path: Path, **changes: Any) -> features.FeatureSpec:
    return features.resolve("vggish", Params(weights=str(path), **changes))


# --------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("demo", [False, True])
def test_a_path_without_weights_is_named(tmp_path: Path, demo: bool) -> None:
    for path, reason in (
        (tmp_path / "missing.ckpt", "does not exist"),
        (tmp_path / "missing.safetensors", "does not exist"),
        (tmp_path, "holds no saved_model.pb"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            features.resolve("vggish", Params(weights=str(path)), demo)
        assert str(path) in str(caught.value)
        assert_names_the_ways(caught.value)


def test_half_a_checkpoint_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.index").touch()
    with pytest.raises(ConfigError, match="does not exist"):
        vggish_weights.find(str(tmp_path / "model"), timeout_s=1)
    (tmp_path / "model.data-00000-of-00001").touch()
    first = vggish_weights.import_path(tmp_path / "model")
    for path in tmp_path.glob("model.*"):
        path.rename(path.with_name(path.name.replace("model", "renamed")))
    assert vggish_weights.import_path(tmp_path / "renamed") == first


def test_where_the_weights_lie_is_not_in_the_fingerprint(source: Path, stored: Path, tmp_path: Path) -> None:
    spec = resolve_path(source)
    assert resolve_path(stored).fingerprint == spec.fingerprint
    moved = source.rename(tmp_path / "elsewhere")
    assert resolve_path(moved).fingerprint == spec.fingerprint
    with pytest.raises(ModelError, match=r"are gone.*extract\.vggish\.weights"):
        features.load(spec)


def test_weights_are_mapped_not_copied(stored: Path, weights: dict[str, np.ndarray]) -> None:
    found = vggish_weights.read(stored)
    assert found.keys() == weights.keys()
    for name, array in found.items():
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.aligned
        np.testing.assert_array_equal(array[-3:], weights[name][-3:])


def test_the_hash_is_of_names_shapes_and_numbers() -> None:
    arrays = {"a": np.arange(6, dtype=np.float32), "b": np.ones(2, np.float32)}
    first = vggish_weights.content_hash(arrays)
    assert vggish_weights.content_hash(dict(reversed(arrays.items()))) == first
    assert vggish_weights.content_hash({**arrays, "a": arrays["a"].reshape(2, 3)}) != first
    assert vggish_weights.content_hash({"b": arrays["a"], "a": arrays["b"]}) != first
    assert vggish_weights.content_hash({**arrays, "b": np.array([1, 1.0000001], np.float32)}) != first


def test_other_weights_are_noticed(stored: Path) -> None:
    other = {"kind": "imported", "location": str(stored), "sha256": "0" * 64}
    with pytest.raises(ModelError, match=r"not those that the features were made with.*set extract\.vggish\.weights"):
        vggish_weights.load(other, timeout_s=1)


# -------------------------------------------------------------------------------------------------------------- imports


def header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 100, header(b"no JSON"), header(b"[]"), header(b'{"vggish/conv1/weights": 3}')],
)
def test_a_file_that_is_no_safetensors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.safetensors cannot be read as safetensors"):
        resolve_path(tmp_path / "x.safetensors")


def test_a_safetensors_of_something_else(tmp_path: Path) -> None:
    shapes = vggish_network.shapes()
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"vggish/conv1/weights must be F32 \(3, 3, 1, 64\)"):
        resolve_path(tmp_path / "other.safetensors")
    first = dict(list(shapes.items())[:4])
    save_file({n: np.zeros(s, np.float16) for n, s in first.items()}, tmp_path / "half.safetensors")
    with pytest.raises(ModelError, match=r"must be F32 .*F16"):
        resolve_path(tmp_path / "half.safetensors")


def test_a_safetensors_that_is_cut_short(stored: Path, tmp_path: Path) -> None:
    with stored.open("rb") as file:
        (tmp_path / "cut.safetensors").write_bytes(file.read(1_000_000))
    with pytest.raises(ModelError, match=r"cut\.safetensors cannot be read as safetensors"):
        resolve_path(tmp_path / "cut.safetensors")


def test_an_import_that_another_process_makes_is_waited_for(source: Path, stored: Path) -> None:
    """The lock is held; meanwhile the import appears. Nothing is imported twice, and nothing is left."""
    import fcntl

    place = vggish_weights.import_path(source)
    place.unlink()
    lock = place.with_suffix(".lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found: list[Path] = []
        thread = threading.Thread(target=lambda: found.append(vggish_weights.imported(source)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        place.symlink_to(stored)
    thread.join(120)
    assert found == [place]


def test_an_import_that_dies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"x")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(ModelError, match=r"model\.ckpt: the import of VGGish's weights ended with 1") as caught:
        resolve_path(tmp_path / "model.ckpt")
    assert_names_the_ways(caught.value)
    assert not list(cache.glob("*.safetensors"))


# ----------------------------------------------------------------------------------------------------------------- hub


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
    assert time.monotonic() - started < 240  # the client's own patience is a matter of minutes


def test_auto_falls_back_in_the_demo_alone(dead_handle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vggish_weights, "HANDLE", dead_handle)
    started = time.monotonic()
    spec = features.resolve("vggish", Params(seed=5, timeout_s=1), demo=True)
    assert spec.weights == {"kind": "random", "seed": 5}
    assert spec.note.startswith("VGGish with seeded random weights (seed 5): the hub could not be reached")
    with pytest.raises(ServiceError, match="could not be reached"):
        features.resolve("vggish", Params(timeout_s=1))
    assert time.monotonic() - started < 240  # the client's own patience is a matter of minutes


def test_auto_takes_the_hubs_weights(source: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    handle = "http://127.0.0.1:9/google/vggish/1"
    shutil.copytree(source, cache / hashlib.sha1(handle.encode()).hexdigest())  # as tensorflow_hub keeps it
    monkeypatch.setattr(vggish_weights, "HANDLE", handle)
    spec = features.resolve("vggish", Params(), demo=True)
    assert spec.note == ""
    assert spec.weights == {**vggish_weights.find(str(source), 1), "location": handle}
    assert spec.fingerprint == resolve_path(source).fingerprint
    assert features.resolve("vggish", Params(weights=handle)) == spec
    shutil.rmtree(cache)
    with pytest.raises(ServiceError, match="could not be reached"):
        features.load(spec)
