"""``mer-ray weights musicnn``: from a wheel to a file of weights, and what an index may do to it."""

from __future__ import annotations

import io
import os
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import musicnn_graph
import numpy as np
import pytest
from services import STALL_S, Call, Service, send

from mer_ray.cli import main
from mer_ray.errors import ModelError
from mer_ray.features import musicnn_import, musicnn_weights, tensor_bundle
from mer_ray.features.musicnn_network import TAGS, shapes
from mer_ray.io.identity import digest

WHEEL_NAME = "musicnn-0.1.0-py3-none-any.whl"


class Index(Service):
    """A package index (PEP 503) with one wheel. wheel: its content; hangs: it never answers."""

    def __init__(self, wheel: bytes | None, hangs: bool = False) -> None:
        self.wheel, self.hangs = wheel, hangs
        self.__post_init__()

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        if self.hangs:
            self.closing.wait(STALL_S)
        elif call.path == "/simple/musicnn/" and self.wheel is not None:
            link = f'<!DOCTYPE html><a href="/files/{WHEEL_NAME}">{WHEEL_NAME}</a>'
            send(handler, link.encode(), kind="text/html; charset=utf-8")
        elif call.path == f"/files/{WHEEL_NAME}" and self.wheel is not None:
            send(handler, self.wheel)
        else:
            send(handler, b"no", 404, "text/plain")


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    """Types ``mer-ray weights musicnn ...``; returns the exit code, the output and the errors."""
    pytest.importorskip("pip")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    def run(*arguments: str, index: str = "http://127.0.0.1:9/simple") -> tuple[int, str, str]:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        with pytest.raises(SystemExit) as ended:
            main(["weights", "musicnn", *arguments])
        caught = capsys.readouterr()
        return ended.value.code or 0, caught.out, caught.err

    return run


# the package index ---------------------------------------------------------------------------------------------------


def refused(code: int, out: str, err: str, folder: Path) -> str:
    """One line on standard error, and nothing left behind; returns that line."""
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "--wheel" in err
    assert [*folder.iterdir()] == []
    return err


def test_a_wheel_of_another_hash_is_refused(typed, tmp_path):
    with Index(zipped({"musicnn/__init__.py": b""})) as index:
        line = refused(*typed(index=f"{index.url}/simple"), tmp_path)
    assert "hash" in line
    assert any(call.path.endswith(WHEEL_NAME) for call in index.calls)


def test_an_index_that_hangs_costs_the_time_limit_at_most(typed, tmp_path):
    with Index(None, hangs=True) as index:
        line = refused(*typed("--timeout", "3", index=f"{index.url}/simple"), tmp_path)
    assert "within 3 s" in line


def test_an_index_without_it_or_out_of_reach_is_said(typed, tmp_path):
    with Index(None) as index:
        assert "musicnn==0.1.0" in refused(*typed(index=f"{index.url}/simple"), tmp_path)
    assert "musicnn==0.1.0" in refused(*typed("--timeout", "240"), tmp_path)


def test_an_index_s_password_is_not_shown(typed, tmp_path):
    with Index(None) as index:
        line = refused(*typed(index=f"http://user:s3cret@{index.url.removeprefix('http://')}/simple"), tmp_path)
    assert "s3cret" not in line


# the real wheel ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel() -> Path:
    if not musicnn_graph.WHEEL:
        pytest.skip("MER_RAY_MUSICNN_WHEEL does not name the wheel of musicnn 0.1.0")
    return Path(musicnn_graph.WHEEL)


def test_the_packaged_weights_are_made_again_to_the_byte(typed, tmp_path, wheel):
    with Index(wheel.read_bytes()) as index:
        code, out, err = typed("--packed", "--out", "from-index.safetensors", index=f"{index.url}/simple")
    assert (code, err) == (0, "")
    assert "those that mer-ray has" in out
    made = (tmp_path / "from-index.safetensors").read_bytes()
    assert made == musicnn_weights.PACKAGED.read_bytes()
    assert typed("--packed", "--wheel", str(wheel), "--out", "from-file.safetensors")[0] == 0
    assert (tmp_path / "from-file.safetensors").read_bytes() == made


def test_full_precision_is_near_the_packaged(typed, tmp_path, wheel):
    code, out, _ = typed("--wheel", str(wheel))
    assert (code, "those that mer-ray has" in out) == (0, False)
    content = (tmp_path / "musicnn.safetensors").read_bytes()
    assert digest(content) in out
    full = musicnn_weights.parse(content, "full")
    packed = musicnn_weights.parse(musicnn_weights.PACKAGED.read_bytes(), "packed")
    for network in TAGS:
        for name, array in full[network].items():
            np.testing.assert_allclose(packed[network][name], array, atol=2.0**-20 * 1.1 * np.abs(array).max())


# other wheels --------------------------------------------------------------------------------------------------------


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_wheels_that_are_missing_or_others_are_named(typed, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "other.whl").write_bytes(zipped({"x": b""}))
    for name, why in (("in/other.whl", "has SHA-256"), ("in/gone.whl", "cannot be read")):
        code, _, err = typed("--wheel", name)
        assert (code, err.count("\n")) == (2, 1)
        assert name in err
        assert why in err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_target_that_cannot_be_written_is_named(typed, wheel):
    code, _, err = typed("--wheel", str(wheel), "--out", "nowhere/x.safetensors")
    assert (code, "nowhere/x.safetensors cannot be written" in err) == (2, True)


# checkpoints, as TensorFlow writes them ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, tuple[bytes, bytes, dict[str, np.ndarray]]]:
    """For each network: index and data of a checkpoint of random arrays, and the arrays."""
    tensorflow = pytest.importorskip("tensorflow")
    result = {}
    for seed, network in enumerate(TAGS):
        arrays = checkpoint(seed)
        prefix = tmp_path_factory.mktemp(network) / "model"
        tensorflow.raw_ops.SaveV2(
            prefix=str(prefix), tensor_names=[*arrays], shape_and_slices=[""] * len(arrays), tensors=[*arrays.values()]
        )
        result[network] = (
            prefix.with_suffix(".index").read_bytes(),
            prefix.with_suffix(".data-00000-of-00001").read_bytes(),
            arrays,
        )
    return result


def checkpoint(seed: int) -> dict[str, np.ndarray]:
    """Random arrays with the release's names and shapes, a step, and enough others for several blocks of an index."""
    rng = np.random.default_rng(seed)
    kernels = [shape for name, shape in shapes().items() if name.endswith("kernel")]
    names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 8)), "dense", "dense_1"]
    result: dict[str, np.ndarray] = {}
    for name, shape in zip(names, kernels, strict=True):
        places = shape[:-1] if len(shape) == 3 else (shape[0], 1)
        stored = shape if name.startswith("dense") else (*places, 1, shape[-1])
        result[f"{name}/kernel"] = rng.standard_normal(stored).astype(np.float32)
        result[f"{name}/bias"] = rng.standard_normal(shape[-1]).astype(np.float32)
    for i, width in enumerate((1, 204, 204, 51, 51, 51, 64, 64, 64, 1506, 200)):
        name = f"batch_normalization_{i}" if i else "batch_normalization"
        for part in ("beta", "gamma", "moving_mean", "moving_variance"):
            result[f"{name}/{part}"] = np.abs(rng.standard_normal(width)).astype(np.float32)
    result["global_step"] = np.int64(7)
    return result | {f"other/{'long' * 25}/{i}": np.float32(i) for i in range(12_000)}


def test_tensors_are_those_that_tensorflow_wrote(written):
    index, data, arrays = written["msd"]
    assert len(index) > 1 << 18  # so there are several blocks
    found = tensor_bundle.tensors(index, data, "x")
    assert found.keys() == arrays.keys() - {"global_step"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_layers_get_their_own_arrays(written):
    found = musicnn_import.convert(release(written))
    for network, (_, _, arrays) in written.items():
        assert {name: array.shape for name, array in found[network].items()} == shapes()
        np.testing.assert_array_equal(found[network]["timbral67/kernel"], arrays["conv2d_1/kernel"][:, :, 0])
        np.testing.assert_array_equal(found[network]["tags/bias"], arrays["dense_1/bias"])
        x = np.linspace(-2, 2, 1506)
        mean, variance, gamma, beta = (
            arrays[f"batch_normalization_9/{part}"].astype(np.float64)
            for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        np.testing.assert_allclose(
            x * found[network]["pooled/scale"] + found[network]["pooled/shift"],
            (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta,
            rtol=1e-5,
            atol=1e-4,
        )


def release(written: dict[str, tuple[bytes, bytes, dict[str, np.ndarray]]], **changed: bytes) -> bytes:
    """A wheel of these checkpoints; changed: the bytes of ``index`` or ``data`` of one network instead."""
    members = {}
    for network, (index, data, _) in written.items():
        folder = f"musicnn/{musicnn_graph.FOLDERS[network]}/"
        members[f"{folder}.index"] = changed.get("index", index) if network == "mtt" else index
        members[f"{folder}.data-00000-of-00001"] = changed.get("data", data) if network == "mtt" else data
    return zipped(members)


def test_damaged_checkpoints_are_refused(written):
    index, data, _ = written["mtt"]
    for changed in (
        {"index": b""},
        {"index": index[:-1]},
        {"index": b"\xff" * 200 + index[200:]},
        {"index": index[: len(index) // 2] + index[-48:]},
        {"data": data[:-100]},
        {"data": b""},
    ):
        with pytest.raises(ModelError, match=r"musicnn|MTT"):
            musicnn_import.convert(release(written, **changed))
    with pytest.raises(ModelError, match="cannot be read"):
        musicnn_import.convert(b"no wheel")
    with pytest.raises(ModelError, match="cannot be read"):
        musicnn_import.convert(zipped({"musicnn/__init__.py": b""}))
