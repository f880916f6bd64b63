"""Reads audio in object stores and on file servers, by pyarrow or fsspec."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mer_ray.errors import InputError, TrackError, is_full
from mer_ray.io import scratch
from mer_ray.io.address import OBJECT_SCHEMES, is_local, is_object, scheme, shown, to_path, without_secrets
from mer_ray.io.buckets import REQUEST_TIMEOUT_S, open_store, within
from mer_ray.io.identity import one_line

UNQUOTED = ("az", "webhdfs", "memory")
"""Schemes whose drivers do not decode addresses; in others, %20 is a blank."""

PACKAGES = {
    "az": "adlfs",
    "sftp": "paramiko",
    "webhdfs": "requests",
    "hdfs": "Java and Hadoop, with JAVA_HOME and HADOOP_HOME",
}
OPENED_BY_PYARROW = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "hdfs")
ATTEMPTS = 3
"""Of a request: the next run retries a track that fails."""
CHUNK = 1 << 20  # bytes


@contextmanager
def local_copy(uri: str, timeout_s: float = 600.0, max_mb: float = 4_000.0) -> Iterator[Path]:
    """A local file with the audio at ``uri``: the file itself, or a temporary copy of an object in a store.

    timeout_s, max_mb: limits of such a copy, max_mb in megabytes (10^6 bytes). Raises TrackError where the object
    cannot be read; a local file is not checked.
    """
    if is_local(uri):
        yield to_path(uri)
        return
    with scratch.folder() as folder:
        target = folder / "audio"
        copy(uri, target, timeout_s, max_mb)
        yield target


def copy(uri: str, target: Path, timeout_s: float, max_mb: float) -> None:
    """Copy an object into a local file. timeout_s: for everything together. max_mb: in megabytes (10^6 bytes).

    Credentials come from the driver's usual places (environment, profile, instance), or from the URI.
    Raises TrackError: ``missing``, ``too_big``, ``timeout``, ``unreadable``, ``no_driver`` or ``bad_uri``.
    """
    _check(uri)
    late = threading.Event()
    try:
        within(timeout_s, lambda: _copy(uri, target, max_mb * 1e6, late))
    except TimeoutError as error:
        raise TrackError("timeout", f"{shown(uri)} did not deliver in time", transient=True) from error
    except FileNotFoundError as error:
        raise TrackError("missing", f"{shown(uri)} is not there") from error
    except TrackError:
        raise
    except Exception as error:  # each driver raises its own kinds
        if is_full(error):  # here, not there
            raise
        raise _explained(error, uri) from error
    finally:
        late.set()


def listing(uri: str, timeout_s: float = 600.0) -> list[str]:
    """The addresses of all objects under a prefix, sorted. Raises InputError."""
    try:
        _check(uri)
        return within(timeout_s, lambda: _listed(uri))
    except (FileNotFoundError, TimeoutError) as error:
        problem = "is not there" if isinstance(error, FileNotFoundError) else "did not answer in time"
        raise InputError(f"{shown(uri)} {problem}", "check the address, or try again") from error
    except TrackError as error:
        raise InputError(error.message) from error
    except Exception as error:  # each driver raises its own kinds
        raise InputError(_explained(error, uri).message, "check the address and the credentials") from error


def _check(uri: str) -> None:
    if not is_object(uri):
        raise TrackError("bad_uri", f"{shown(uri)}: only {', '.join(OBJECT_SCHEMES)} can be opened")


def _listed(uri: str) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    fs, path = _open(uri)
    root = path.rstrip("/")
    bare, _, query = uri.partition("?")
    found = fs.get_file_info(FileSelector(root, recursive=True))
    inside = [str(info.path).removeprefix(root).lstrip("/") for info in found if info.type == FileType.File]
    spelled = str if scheme(uri) in UNQUOTED else quote
    return sorted(f"{bare.rstrip('/')}/{spelled(path)}" + (f"?{query}" if query else "") for path in inside)


def _copy(uri: str, target: Path, max_bytes: float, late: threading.Event) -> None:
    from pyarrow.fs import FileType

    fs, path = _open(uri)
    info = fs.get_file_info(path)
    if info.type != FileType.File:
        raise FileNotFoundError(path)
    too_big = TrackError("too_big", f"{shown(uri)} is over acquire.max_mb = {max_bytes / 1e6:g}")
    if (info.size or 0) > max_bytes:
        raise too_big
    received = 0
    with fs.open_input_stream(path) as source, target.open("wb") as file:
        while not late.is_set() and (data := source.read(CHUNK)):
            received += len(data)
            if received > max_bytes:
                raise too_big
            file.write(data)


def _open(uri: str) -> tuple[Any, str]:
    """(a pyarrow filesystem, the object's path in it)."""
    kind, parts = scheme(uri), urlsplit(uri)
    if kind in OPENED_BY_PYARROW:
        return open_store(uri, ATTEMPTS)
    import fsspec  # type: ignore[import-untyped]
    import pyarrow.fs as pafs

    # Not from fsspec's cache: several threads would share one connection.
    if kind in ("ftp", "sftp"):
        account = {"username": parts.username, "password": parts.password, "port": parts.port}
        options = {k: unquote(v) if isinstance(v, str) else v for k, v in account.items() if v}
        fs = fsspec.filesystem(
            kind, host=parts.hostname, timeout=REQUEST_TIMEOUT_S, skip_instance_cache=True, **options
        )
        path = unquote(parts.path)
    else:
        fs, path = fsspec.core.url_to_fs(uri, skip_instance_cache=True)
    return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), str(path)


def _explained(error: Exception, uri: str) -> TrackError:
    kind = scheme(uri)
    lacking = isinstance(error, ImportError) or "libjvm" in str(error) or "libhdfs" in str(error)
    if lacking:
        return TrackError("no_driver", f"{shown(uri)}: {kind}:// needs {PACKAGES.get(kind, error)}; install it", True)
    reason = without_secrets(str(error) or type(error).__name__, uri)
    return TrackError("unreadable", f"{shown(uri)} cannot be read ({one_line(reason, 160)})", transient=True)
