"""Locates VGGish's weights: a TensorFlow Hub handle, a SavedModel folder, the original checkpoint, or an import.

Weights are imported once (`vggish_import`) into a ``.safetensors`` in the cache, named by the source's content. Workers
map that file into shared memory; only the import needs TensorFlow, in a process of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray import child_process, extras
from mer_ray.errors import ConfigError, ModelError
from mer_ray.features import handles
from mer_ray.features.vggish_network import shapes
from mer_ray.io.identity import digest, file_digest, one_line

HANDLE = "https://tfhub.dev/google/vggish/1"
IMPORTED = ".safetensors"


def ways() -> str:
    """How to get real weights: the hint of errors about missing ones."""
    return (
        "let this machine reach tfhub.dev, or set extract.vggish.weights to a local SavedModel folder, to the "
        "original vggish_model.ckpt, or to a .safetensors that mer-ray made of them, or set TFHUB_CACHE_DIR to a "
        f"TensorFlow Hub cache that holds {HANDLE}"
    )


def find(setting: str, timeout_s: float) -> dict[str, Any]:
    """A handle or path → ``kind`` (imported), ``location`` and ``sha256`` of the arrays, imported if necessary.

    The location of a hub's module is its handle, which is valid on every machine; of others, an absolute path. The hash
    is of the arrays, whatever they were imported from.

    Args:
        setting: A handle or path.
        timeout_s: Longest wait for the hub's response, and longest silence after it.

    Raises:
        ConfigError: The path has no weights.
        ServiceError: The hub does not send them.
        ModelError: They are not VGGish's.
    """
    location = setting if handles.is_handle(setting) else str(Path(setting).expanduser().resolve())
    path = handles.fetch(setting, timeout_s, ways()) if handles.is_handle(setting) else Path(location)
    if not _files(path):
        what = f"holds no {handles.SAVED_MODEL}" if path.is_dir() else "does not exist"
        raise ConfigError(f"extract.vggish.weights: {path} {what}", ways())
    return {"kind": "imported", "location": location, "sha256": content_hash(read(imported(path)))}


def load(weights: dict[str, Any], timeout_s: float) -> dict[str, np.ndarray]:
    """Load the weights of `find`: arrays of `vggish_network.shapes`, read-only, in shared memory.

    Raises ModelError if the weights are missing or have changed, ServiceError if their hub does not send them.
    """
    location = weights["location"]
    path = handles.fetch(location, timeout_s, ways()) if handles.is_handle(location) else Path(location)
    if not _files(path):
        raise ModelError(f"the VGGish weights {location} are gone", f"put them back, or {ways()}")
    arrays = read(imported(path))
    if content_hash(arrays) != weights["sha256"]:
        raise ModelError(
            f"the VGGish weights {location} are not those that the features were made with",
            f"set extract.vggish.weights to those of SHA-256 {weights['sha256'][:16]}…, or extract again with these",
        )
    return arrays


def imported(path: Path) -> Path:
    """The ``.safetensors`` of a SavedModel or checkpoint, imported if it does not exist yet; or ``path`` if it is one.

    An import takes half a minute and 2 GB of memory, in a child process. Raises ModelError if the source is damaged
    or not VGGish's, ConfigError if the cache cannot be written.
    """
    if path.suffix == IMPORTED:
        return path
    target = import_path(path)
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one import at a time: each needs 2 GB
            if not target.is_file():
                _import(path, target)
            target.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot keep the import of {path} in {target.parent} ({error})",
            "set TFHUB_CACHE_DIR to a folder that can be written",
        ) from error
    return target


def import_path(path: Path) -> Path:
    """The cached import of a source, named by its content."""
    content = [[name, file_digest(file)] for name, file in sorted(_files(path).items())]
    return handles.cache_folder() / f"vggish-{digest(json.dumps(content).encode())[:32]}{IMPORTED}"


def _import(path: Path, target: Path) -> None:
    """`vggish_import.convert` in a child process. Raises ModelError with its error, or MissingExtra."""
    extras.require("hub", "tensorflow")
    command = child_process.child("-m", "mer_ray.features.vggish_import", str(path), str(target))
    environment = {**os.environ, child_process.VARIABLE: child_process.path()}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, env=environment
    )
    if done.returncode == 0 and target.is_file():
        return
    try:
        message, hint = json.loads(done.stdout)
    except ValueError:
        output = one_line(done.stderr[-300:], 300)
        message, hint = f"{path}: the import of VGGish's weights ended with {done.returncode} ({output})", ""
    raise ModelError(message, hint or ways())


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an import, mapped into memory that processes share.

    Raises ModelError if it is damaged or not VGGish's.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 1 << 20:
                raise ValueError("no header")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
        arrays = {}
        for name, shape in shapes().items():
            entry = header.get(name, {"dtype": "none", "shape": []})
            found = entry["dtype"], tuple(entry["shape"])
            if found != ("F32", shape):
                raise ModelError(f"{path} is no VGGish: {name} must be F32 {shape}, found {found}", ways())
            start = entry["data_offsets"][0]
            array = data[start : start + 4 * math.prod(shape)].view("<f4").reshape(shape)
            arrays[name] = array.view(np.ndarray)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({one_line(str(error), 200)})", ways()) from error
    return arrays


def content_hash(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and numbers."""
    result = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        result.update(json.dumps([name, array.shape]).encode())
        result.update(np.ascontiguousarray(array, "<f4").data)
    return result.hexdigest()


def _files(path: Path) -> dict[str, Path]:
    """The files of the weights by relative names; empty if incomplete."""
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
        return files if handles.SAVED_MODEL in files else {}
    if path.is_file():
        return {"": path}
    parts = {p.name.removeprefix(path.name): p for p in path.parent.glob("*") if p.name.startswith(f"{path.name}.")}
    parts = {suffix: p for suffix, p in parts.items() if suffix == ".index" or suffix.startswith(".data-")}
    return parts if ".index" in parts and len(parts) > 1 else {}
