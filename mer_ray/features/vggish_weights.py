"""Where VGGish's weights lie: a TensorFlow Hub handle, a SavedModel folder, the original checkpoint, or an import.

Weights are imported once (`vggish_import`) into a ``.safetensors`` in the cache, under a name that follows from the
content of what it was made from. Workers map that file into memory, so that they share it; TensorFlow is needed for the
import alone, in a process of its own. Modules from a hub are kept as tensorflow-hub keeps them, under
``TFHUB_CACHE_DIR/SHA-1 of the handle``: what either has fetched, both find.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import lzma
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from mer_ray import child_process
from mer_ray.errors import ConfigError, ModelError, ServiceError
from mer_ray.features.vggish_network import shapes
from mer_ray.io.identity import digest, file_digest, one_line

HANDLE = "https://tfhub.dev/google/vggish/1"
DOWNLOAD_LIMIT_S = 1_800.0
SIZE_LIMIT = 2 << 30  # bytes; the module has 0.3 GB
SAVED_MODEL = "saved_model.pb"
IMPORTED = ".safetensors"


def ways() -> str:
    """How to get real weights: the hint of every error about missing ones."""
    return (
        "let this machine reach tfhub.dev, or set extract.vggish.weights to a local SavedModel folder, to the "
        "original vggish_model.ckpt, or to a .safetensors that mer-ray made of them, or set TFHUB_CACHE_DIR to a "
        f"TensorFlow Hub cache that holds {HANDLE}"
    )


def find(setting: str, timeout_s: float) -> dict[str, Any]:
    """A handle or path → ``kind`` (imported), ``location`` and ``sha256`` of the arrays; imports them if need be.

    Fetches what is not in the cache yet; ``timeout_s`` bounds the seconds until the hub answers, and every silence
    after. The location of a hub's module is its handle, which means the same on every machine; of the others, an
    absolute path. The hash is the same for equal numbers, whatever they were imported from.
    Raises ConfigError for a path that holds no weights, ServiceError for a hub that does not give them, ModelError for
    what is there and is not VGGish.
    """
    location = setting if _is_handle(setting) else str(Path(setting).expanduser().resolve())
    path = fetch(setting, timeout_s) if _is_handle(setting) else Path(location)
    if not _files(path):
        what = f"holds no {SAVED_MODEL}" if path.is_dir() else "does not exist"
        raise ConfigError(f"extract.vggish.weights: {path} {what}", ways())
    return {"kind": "imported", "location": location, "sha256": content_hash(read(imported(path)))}


def load(weights: dict[str, Any], timeout_s: float) -> dict[str, np.ndarray]:
    """What `find` found, on this machine, unchanged: arrays of `vggish_network.shapes`, read-only, in shared memory.

    Raises ModelError if the weights are gone or are others, ServiceError if their hub does not give them.
    """
    location = weights["location"]
    path = fetch(location, timeout_s) if _is_handle(location) else Path(location)
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
    """The ``.safetensors`` made of a SavedModel or checkpoint; made now, once, if there is none. Itself, if it is one.

    Takes half a minute and 2 GB of memory, in a process that ends after it. Raises ModelError if the source is damaged
    or not VGGish's, ConfigError if the cache cannot be written.
    """
    if path.suffix == IMPORTED:
        return path
    target = place(path)
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one machine would each need the 2 GB
            if not target.is_file():
                _import(path, target)
            target.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot keep the import of {path} in {target.parent} ({error})",
            "set TFHUB_CACHE_DIR to a folder that can be written",
        ) from error
    return target


def place(path: Path) -> Path:
    """Where the import of a source lies in the cache. Equal content has one import, wherever it lies."""
    content = [[name, file_digest(file)] for name, file in sorted(_files(path).items())]
    return cache_folder() / f"vggish-{digest(json.dumps(content).encode())[:32]}{IMPORTED}"


def _import(path: Path, target: Path) -> None:
    """`vggish_import.convert` in a process of its own. Raises ModelError with what it said."""
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
        said = one_line(done.stderr[-300:], 300)
        message, hint = f"{path}: the import of VGGish's weights ended with {done.returncode} ({said})", ""
    raise ModelError(message, hint or ways())


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an import, mapped into memory: no copy of them is made, and processes share them.

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


def import_tensorflow() -> Any:
    """TensorFlow, on the CPU: on a GPU it would take all memory, which belongs to JAX here."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU"):
        try:
            tf.config.set_visible_devices([], "GPU")
        except RuntimeError as error:
            raise ModelError("TensorFlow had already taken the GPU", "load VGGish in a process of its own") from error
    return tf


def fetch(handle: str, timeout_s: float) -> Path:
    """The SavedModel folder of a hub handle, from the cache or over HTTP as tfhub.dev serves it (a tar of the folder).

    Raises ServiceError if the hub does not answer in time or answers something else, ConfigError if the handle is no
    address or the cache cannot be written.
    """
    folder = cache_folder() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    if (folder / SAVED_MODEL).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
            archive, module = Path(temporary, "archive"), Path(temporary, "module")
            _Download(handle, archive, timeout_s).run()
            _unpack(archive, module, handle)
            try:
                module.rename(folder)
            except OSError:
                if not (folder / SAVED_MODEL).is_file():  # else another process was faster, and its copy is as good
                    raise
    except OSError as error:
        raise ConfigError(
            f"cannot keep {handle} in {folder.parent} ({error})", "set TFHUB_CACHE_DIR to a folder that can be written"
        ) from error
    return folder


def cache_folder() -> Path:
    """``TFHUB_CACHE_DIR``, else a folder in the user's own cache: a shared /tmp would let others plant a module."""
    if chosen := os.environ.get("TFHUB_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "mer-ray", "tfhub_modules")


def _is_handle(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _files(path: Path) -> dict[str, Path]:
    """The files that make up the weights, by names that do not depend on where they lie; none if incomplete."""
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
        return files if SAVED_MODEL in files else {}
    if path.is_file():
        return {"": path}
    parts = {p.name.removeprefix(path.name): p for p in path.parent.glob("*") if p.name.startswith(f"{path.name}.")}
    parts = {suffix: p for suffix, p in parts.items() if suffix == ".index" or suffix.startswith(".data-")}
    return parts if ".index" in parts and len(parts) > 1 else {}


class _Download:
    """One GET to a file, in a thread: name resolution obeys no time limit, so the limit is on waiting for it."""

    def __init__(self, handle: str, target: Path, timeout_s: float) -> None:
        self.handle = handle
        self.target = target
        self.timeout_s = timeout_s
        self.answered = threading.Event()
        self.abandoned = threading.Event()
        self.failure: Exception | None = None

    def run(self) -> None:
        """Raises ServiceError, ConfigError, or an OSError of the local disk."""
        thread = threading.Thread(target=self._work, name="vggish-download", daemon=True)
        thread.start()
        if not self.answered.wait(self.timeout_s):
            self.abandoned.set()
            raise self._unreachable(f"no answer in {self.timeout_s:g} s")
        thread.join()  # ends on its own now: it reads with a time-out, and until a deadline
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        import httpx

        try:
            url = httpx.URL(self.handle).copy_merge_params({"tf-hub-format": "compressed"})
            with (
                httpx.Client(timeout=self.timeout_s, follow_redirects=True) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                response.raise_for_status()
                self.answered.set()
                if not self.abandoned.is_set():
                    with self.target.open("wb") as file:
                        self._copy(response, file)
        except httpx.HTTPStatusError as error:
            self.failure = ServiceError(f"the hub answered {error.response.status_code} for {self.handle}", ways())
        except httpx.InvalidURL as error:
            reason = one_line(str(error), 200)
            self.failure = ConfigError(f"extract.vggish.weights: {self.handle} is no address ({reason})", ways())
        except (httpx.HTTPError, ImportError) as error:  # ImportError: a SOCKS proxy without its package
            self.failure = self._unreachable(one_line(str(error), 200) or type(error).__name__)
        except Exception as error:  # handed over, not swallowed: `run` raises it in the caller's thread
            self.failure = error
        finally:
            self.answered.set()

    def _copy(self, response: Any, file: IO[bytes]) -> None:
        deadline, size = time.monotonic() + DOWNLOAD_LIMIT_S, 0
        for chunk in response.iter_bytes(1 << 20):
            size += len(chunk)
            if size > SIZE_LIMIT:
                raise ServiceError(f"the hub sent more than {SIZE_LIMIT >> 30} GiB for {self.handle}", ways())
            if time.monotonic() > deadline:
                raise ServiceError(f"the hub took over {DOWNLOAD_LIMIT_S:g} s to send {self.handle}", ways())
            file.write(chunk)

    def _unreachable(self, reason: str) -> ServiceError:
        return ServiceError(f"the hub could not be reached ({self.handle}: {reason})", ways())


def _unpack(archive: Path, folder: Path, handle: str) -> None:
    """A tar of a SavedModel → a new folder. Nothing is written outside it, and only plain files and folders in it."""
    folder.mkdir()
    size = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                target = Path(os.path.normpath(folder / member.name))
                if not target.is_relative_to(folder) or not (member.isfile() or member.isdir()):
                    name = one_line(member.name, 80)
                    raise ServiceError(f"the archive of {handle} is not safe: it holds {name!r}", ways())
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                size += member.size
                if size > SIZE_LIMIT:
                    raise ServiceError(f"the archive of {handle} unpacks to over {SIZE_LIMIT >> 30} GiB", ways())
                source = tar.extractfile(member)
                assert source is not None  # isfile() holds
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        reason = one_line(str(error), 100)
        raise ServiceError(f"what the hub sent for {handle} is no module ({reason})", ways()) from error
    if not (folder / SAVED_MODEL).is_file():
        raise ServiceError(f"the archive of {handle} holds no {SAVED_MODEL}", ways())
