"""TensorFlow Hub handles → SavedModel folders on this machine, by tensorflow_hub's own resolver.

    python -m mer_ray.features.handles HANDLE TIMEOUT_S     # what the child process runs

`tensorflow_hub.resolve` has no limits of time and size, waits ten minutes for the lock of a process that was killed,
and imports TensorFlow. So it runs in a child process with limits, after a request that shows that the hub responds,
and into a temporary folder, which is renamed when it is complete. The cache is shared with tensorflow_hub:
``TFHUB_CACHE_DIR/SHA-1 of the handle``.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from mer_ray import child_process, extras
from mer_ray.errors import ConfigError, MerRayError, ServiceError
from mer_ray.features.saved_model import import_tensorflow_hub
from mer_ray.io.identity import one_line

SAVED_MODEL = "saved_model.pb"
DOWNLOAD_LIMIT_S = 1_800.0
SIZE_LIMIT = 2 << 30
"""Bytes of an unpacked module; VGGish has 0.3 GB."""


def is_handle(text: str) -> bool:
    """Whether it is a handle, not a path."""
    return text.startswith(("http://", "https://"))


def cache_folder() -> Path:
    """``TFHUB_CACHE_DIR``, else a folder in the user's own cache: in a shared /tmp others could place a module."""
    if chosen := os.environ.get("TFHUB_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "mer-ray", "tfhub_modules")


def fetch(handle: str, timeout_s: float, hint: str) -> Path:
    """The SavedModel folder of a handle, from the cache or the hub.

    Args:
        handle: ``https://tfhub.dev/...``, ``https://www.kaggle.com/models/...``, or any address of a tar of the folder.
        timeout_s: Longest wait for the hub's response, and longest silence after it.
        hint: Of errors.

    Raises:
        ServiceError: The hub does not respond in time, or sends no module.
        ConfigError: The handle is not an address, or the cache cannot be written.
    """
    name = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
    folder = cache_folder() / name
    if (folder / SAVED_MODEL).is_file():
        return folder
    extras.require("hub", "tensorflow_hub")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=folder.parent) as temporary:
            _check_reachable(handle, timeout_s, hint)
            _resolve(handle, Path(temporary), timeout_s, hint)
            module = Path(temporary, name)
            if not (module / SAVED_MODEL).is_file():
                raise ServiceError(f"the archive of {handle} holds no {SAVED_MODEL}", hint)
            try:
                module.rename(folder)
            except OSError:
                if not (folder / SAVED_MODEL).is_file():  # else another process was faster
                    raise
    except OSError as error:
        raise ConfigError(
            f"cannot keep {handle} in {folder.parent} ({error})", "set TFHUB_CACHE_DIR to a folder that can be written"
        ) from error
    return folder


def _check_reachable(handle: str, timeout_s: float, hint: str) -> None:
    """Raises ServiceError unless the hub responds with 200; in a thread, since name resolution has no time limit."""
    import httpx2

    def ask() -> None:
        try:
            url = httpx2.URL(handle).copy_merge_params({"tf-hub-format": "compressed"})
            with (
                httpx2.Client(timeout=timeout_s, follow_redirects=True) as client,
                client.stream("GET", url) as response,
            ):
                if response.is_error:
                    found.append(ServiceError(f"the hub answered {response.status_code} for {handle}", hint))
        except httpx2.InvalidURL as error:
            found.append(ConfigError(f"{handle} is no address ({one_line(str(error), 200)})", hint))
        except (httpx2.HTTPError, ImportError) as error:  # ImportError: a SOCKS proxy without its package
            found.append(_unreachable(handle, one_line(str(error), 200) or type(error).__name__, hint))

    found: list[MerRayError] = []
    thread = threading.Thread(target=ask, name="hub-check", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise _unreachable(handle, f"no answer in {timeout_s:g} s", hint)
    if found:
        raise found[0]


def _resolve(handle: str, cache: Path, timeout_s: float, hint: str) -> None:
    """`tensorflow_hub.resolve` into ``cache``, in a child process. Raises ServiceError."""
    variables = {"TFHUB_CACHE_DIR": str(cache), "TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED"}
    child = subprocess.Popen(
        child_process.child("-m", "mer_ray.features.handles", handle, str(timeout_s)),
        env={**os.environ, child_process.VARIABLE: child_process.path(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + DOWNLOAD_LIMIT_S
    with child:
        try:
            while child.poll() is None:
                if time.monotonic() > deadline:
                    raise ServiceError(f"the hub took over {DOWNLOAD_LIMIT_S:g} s to send {handle}", hint)
                _check_size(handle, cache, hint)
                time.sleep(0.1)
            _check_size(handle, cache, hint)
        finally:
            child.kill()
        if child.returncode:
            assert child.stdout is not None
            reason = one_line(child.stdout.read(), 200) or f"exit code {child.returncode}"
            raise ServiceError(f"what the hub sent for {handle} is no module ({reason})", hint)


def _check_size(handle: str, folder: Path, hint: str) -> None:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.lstat().st_size
        except FileNotFoundError:  # the child has renamed it
            continue
    if size > SIZE_LIMIT:
        raise ServiceError(f"the archive of {handle} unpacks to over {SIZE_LIMIT >> 20} MiB", hint)


def _unreachable(handle: str, reason: str, hint: str) -> ServiceError:
    return ServiceError(f"the hub could not be reached ({handle}: {reason})", hint)


def main(handle: str, timeout_s: str) -> int:
    """The child process. It prints the reason of a failure to standard output."""
    socket.setdefaulttimeout(float(timeout_s))
    try:
        import_tensorflow_hub().resolve(handle)
    except Exception as error:  # tensorflow_hub raises what urllib, tarfile, gzip and TensorFlow raise
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    signal.alarm(int(DOWNLOAD_LIMIT_S))  # also if the parent is gone
    sys.exit(main(*sys.argv[1:]))
