"""Where VGGish's weights lie: a TensorFlow Hub handle, a SavedModel folder, or the original checkpoint.

Everything here works without TensorFlow, except reading a checkpoint, so that `find` answers within seconds. Modules
from a hub are kept as tensorflow-hub keeps them, under ``TFHUB_CACHE_DIR/SHA-1 of the handle``: what either has
fetched, both find.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from mer_ray.errors import ConfigError, MerRayError, ModelError, ServiceError
from mer_ray.features.vggish_network import shapes
from mer_ray.identity import digest, file_digest, one_line

HANDLE = "https://tfhub.dev/google/vggish/1"
DOWNLOAD_LIMIT_S = 1_800.0
SIZE_LIMIT = 2 << 30  # bytes; the module has 0.3 GB
SAVED_MODEL = "saved_model.pb"


def ways() -> str:
    """How to get real weights: the hint of every error about missing ones."""
    return (
        "let this machine reach tfhub.dev, or set extract.vggish.weights to a local SavedModel folder or to the "
        f"original vggish_model.ckpt, or set TFHUB_CACHE_DIR to a TensorFlow Hub cache that holds {HANDLE}"
    )


def find(setting: str, timeout_s: float) -> dict[str, Any]:
    """A handle or path → ``kind`` (saved_model, checkpoint), ``location`` and ``sha256`` of the content.

    Fetches what is not in the cache yet; ``timeout_s`` bounds the seconds until the hub answers, and every silence
    after. The location of a hub's module is its handle, which means the same on every machine; of the others, an
    absolute path.
    Raises ConfigError for a path that holds no weights, ServiceError for a hub that does not give them.
    """
    if _is_handle(setting):
        return _describe("saved_model", setting, fetch(setting, timeout_s))
    path = Path(setting).expanduser().resolve()
    if (path / SAVED_MODEL).is_file():
        return _describe("saved_model", str(path), path)
    if not path.is_dir() and _files("checkpoint", path):
        return _describe("checkpoint", str(path), path)
    what = f"holds no {SAVED_MODEL}" if path.is_dir() else "does not exist"
    raise ConfigError(f"extract.vggish.weights: {path} {what}", ways())


def locate(weights: dict[str, Any], timeout_s: float) -> Path:
    """What `find` found, on this machine, unchanged: the path of the folder or checkpoint.

    Raises ModelError if the weights are gone or are others, ServiceError if their hub does not give them.
    """
    kind, location = weights["kind"], weights["location"]
    path = fetch(location, timeout_s) if _is_handle(location) else Path(location)
    if not _files(kind, path):
        raise ModelError(f"the VGGish weights {location} are gone", f"put them back, or {ways()}")
    if _describe(kind, location, path)["sha256"] != weights["sha256"]:
        raise ModelError(
            f"the VGGish weights {location} are not those that the features were made with",
            f"set extract.vggish.weights to those of SHA-256 {weights['sha256'][:16]}…, or extract again with these",
        )
    return path


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the original TensorFlow 1 checkpoint (V1 file or V2 prefix), float32, under their names there.

    Raises ModelError if it is damaged or not VGGish's.
    """
    tf = import_tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(path))
        present = reader.get_variable_to_shape_map()
        for name, shape in shapes().items():
            found = tuple(present[name]) if name in present else None
            if found != shape:
                raise ModelError(f"{path} is no VGGish checkpoint: {name} must be {shape}, found {found}", ways())
        arrays = {name: np.asarray(reader.get_tensor(name), np.float32) for name in shapes()}
    except MerRayError:
        raise
    except Exception as error:  # TensorFlow has no common exception for what it cannot read
        raise ModelError(f"{path} cannot be read as a checkpoint ({one_line(str(error), 200)})", ways()) from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(f"{path} is damaged: {name} holds values that are not finite", ways())
    return arrays


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


def _files(kind: str, path: Path) -> dict[str, Path]:
    """The files that make up the weights, by names that do not depend on where they lie; none if incomplete."""
    if kind == "saved_model":
        files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
        return files if SAVED_MODEL in files else {}
    if path.is_file():
        return {"": path}
    parts = {p.name.removeprefix(path.name): p for p in path.parent.glob("*") if p.name.startswith(f"{path.name}.")}
    parts = {suffix: p for suffix, p in parts.items() if suffix == ".index" or suffix.startswith(".data-")}
    return parts if ".index" in parts and len(parts) > 1 else {}


def _describe(kind: str, location: str, path: Path) -> dict[str, Any]:
    content = [[name, file_digest(file)] for name, file in sorted(_files(kind, path).items())]
    return {"kind": kind, "location": location, "sha256": digest(json.dumps(content).encode())}


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
