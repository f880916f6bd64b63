"""Files in a folder, at a local path or in an object store: whole or not at all, and never waited for without end.

Every file system is opened here (`open_store`), so that each has time limits and tries again what may pass: object
stores answer 500 and 503 ("slow down") as a matter of course.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from mer_ray.errors import InputError, WorkspaceError
from mer_ray.identity import one_line

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
"""Without a byte for so long, a request counts as lost."""
ATTEMPTS = 8
"""Of a request. The waits between them double, at random: some 0.5, 1, 2, ... s, 20 s at most; 45 s in all."""
FIRST_ATTEMPTS = 4
"""Of the request that asks whether the store is there at all: what is mistyped is to be told within seconds."""
GCS_PATIENCE_S = 120.0
GCS_FIRST_S = 5.0
"""How long Google's client tries again in all, later and at first; it counts time, not attempts."""
KNOCK_S = 30.0
"""For all that opening a store may take: credentials are also looked for where nobody may answer."""
TEMPORARY = ".tmp"
"""The folder of what is to be gone when a run has ended."""
MARK = "here"
"""How the names of files begin by which nodes find out whether they see the same folder."""
REACHED_S = 5.0
"""What one machine has written may take so long to be seen by another, in a folder that they share."""
S3 = ("s3", "s3a")
GCS = ("gs", "gcs")
QUERIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(S3, ("region", "endpoint_override", "scheme")),
    **dict.fromkeys(GCS, ("endpoint_override", "scheme", "retry_limit_seconds", "project_id")),
    "file": (),
}
"""Where a workspace can be, and what its URI's query may say.

Not hdfs://, where a file is seen before it is complete, and not abfs://: without credentials, pyarrow ends the process.
"""
CREDENTIALS = {
    **dict.fromkeys(S3, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"),
    **dict.fromkeys(GCS, "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account"),
}
"""Where each store's credentials come from."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_FORBIDDEN = re.compile(
    r"ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY|INVALID_CLIENT|SIGNATURE|UNAUTHORI|permission|credential",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|[Bb]ucket '?[^ ]*'? not found|no bucket")
_OVERLOADED = re.compile(r"HTTP status 5\d\d|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|INTERNAL_SERVER_ERROR")
_T = TypeVar("_T")


def scheme(uri: str) -> str:
    """What stands before ``://``, in small letters; empty for a path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def shown(uri: str) -> str:
    """A URI for messages: without user, password and query."""
    bare = re.split(r"[?#]", uri, maxsplit=1)[0]
    return one_line(re.sub(r"^([^/]*//)[^/]*@", r"\1", bare), 300)


def check_lasting(path: str, option: str) -> None:
    """Raises InputError for a place in the copy of the code in which Ray runs a job, and which it throws away."""
    if {"runtime_resources", "working_dir_files"} <= set(Path(path).parts):
        raise InputError(
            f"{option} {path} is in the job's copy of the code, which Ray throws away when the job has ended",
            "give an absolute path that all nodes reach, or a bucket (s3://, gs://)",
        )


def parted(uri: str) -> tuple[str, str]:
    """(URI of the folder, name in it) of an object; the name is empty where the URI is a bucket's."""
    bare, mark, query = uri.partition("?")
    folder, _, name = bare.rstrip("/").rpartition("/")
    if folder.endswith((":/", "/")):
        return uri, ""
    return folder + mark + query, unquote(name)


def without_secrets(text: str, uri: str) -> str:
    """A driver's message, without what the URI has of user, password and query."""
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return text


def open_store(uri: str, attempts: int | None = None) -> tuple[pyarrow.fs.FileSystem, str]:
    """(file system, path in it) of a URI: s3, gs and what else pyarrow knows. Nothing is asked of the store, but an S3
    bucket's region where neither URI nor environment tell it.

    Credentials: as the stores' own tools find them (environment, profile, instance role), or, for audio that others
    have listed so, from the URI. Its query may say ``endpoint_override``, ``scheme`` and ``region``, as pyarrow's
    URIs. attempts: of a request, by default `ATTEMPTS`. Raises what pyarrow raises: OSError, ValueError or ImportError.
    """
    kind, parts, attempts = scheme(uri), urlsplit(uri), attempts or ATTEMPTS
    if kind in S3:
        bucket = parts.netloc.rpartition("@")[2]
        fs = _s3(bucket, parts.username, parts.password, parts.query, attempts, _surroundings())
        return fs, f"{bucket}{unquote(parts.path)}"
    if kind in GCS:
        query = dict(parse_qsl(parts.query))
        bucket = parts.netloc.rpartition("@")[2]
        limit = GCS_PATIENCE_S if attempts >= ATTEMPTS else GCS_FIRST_S
        return _gcs(parts.username, parts.query, float(query.get("retry_limit_seconds", limit))), (
            f"{bucket}{unquote(parts.path)}"
        )
    fs, path = pyarrow.fs.FileSystem.from_uri(uri)
    return fs, str(path)


class Storage:
    """A folder of files, at a local path or in an object store (s3://, gs://).

    Cheap to make and to send to another process: it holds only its URI and a file system that others share.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        """Raises WorkspaceError, within seconds, where the URI makes no sense or the store does not let us in."""
        text = os.fspath(uri)
        kind = scheme(text)
        self.is_local = kind in ("", "file")
        if not self.is_local:
            _check(text, kind)
            self.fs, root = _knock(text)
            self.root = root.rstrip("/")
            self.uri = text
            return
        try:
            if kind:
                self.fs, self.root = pyarrow.fs.FileSystem.from_uri(text)
            else:
                self.fs, self.root = pyarrow.fs.LocalFileSystem(), str(Path(text).expanduser().resolve())
        except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
            raise WorkspaceError(f"cannot open workspace {one_line(text)}: {one_line(str(error))}") from error
        if Path(self.root).is_file():
            raise WorkspaceError(f"workspace {self.root} is a file", "give a folder, or one that is to be made")
        self.uri = self.root

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.uri,)

    def path(self, *parts: str) -> str:
        """A path inside the folder, for ``self.fs``."""
        return posixpath.join(self.root, *parts)

    def at(self, *parts: str) -> str:
        """The path or URI of a place inside the folder, as other processes open it."""
        if self.is_local:
            return self.path(*parts)
        base, mark, query = self.uri.partition("?")
        return "/".join([base.rstrip("/"), *map(quote, parts)]) + mark + query

    def check_reached(self, *parts: str) -> None:
        """Raises WorkspaceError where this machine does not see what another one has put at that place.

        A folder of the network may take a moment to show it.
        """
        give_up = time.monotonic() + REACHED_S
        while self.is_local and not self.exists(*parts):
            if time.monotonic() > give_up:
                raise WorkspaceError(
                    f"{socket.gethostname()}, a node of the cluster, does not see {self.path(*parts)}",
                    "all nodes have to reach the workspace: give a folder that they share, at the same path, or a "
                    "bucket (s3://, gs://)",
                )
            time.sleep(0.2)

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder at that place."""
        return bool(self._asked(lambda: self.fs.get_file_info(self.path(*parts))).type != pyarrow.fs.FileType.NotFound)

    def stamp(self, *parts: str) -> tuple[int | None, int | None]:
        """(when it was written, in ns; bytes) of a file, by which one that took its place is known; Nones for none."""
        info = self._asked(lambda: self.fs.get_file_info(self.path(*parts)))
        return info.mtime_ns, info.size

    def names(self, *parts: str) -> list[str]:
        """The base names in a folder, sorted; empty if there is none. Hidden and temporary names are left out."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = (info.base_name for info in self._asked(lambda: self.fs.get_file_info(selector)))
        return sorted(n for n in names if not n.startswith((".", "_")))

    def is_folder(self, *parts: str) -> bool:
        """Whether there is a folder at that place; in a store, an object under it."""
        return bool(self._asked(lambda: self.fs.get_file_info(self.path(*parts))).type == pyarrow.fs.FileType.Directory)

    def read_bytes(self, *parts: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

        def read() -> bytes:
            # As it is: by default, pyarrow unpacks and packs by the ending of the name.
            with self.fs.open_input_stream(self.path(*parts), compression=None) as stream:
                return bytes(stream.read())

        return self._asked(read)

    def write_bytes(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write a file so that a reader meets the old one or the whole new one, never a part."""
        if self.is_local:
            with self._replacing(*parts) as file:
                file.write(data)
        else:
            self._put(data, *parts)

    def write_file(self, source: Path, *parts: str) -> None:
        """Write a copy of a local file, as `write_bytes` would write what is in it."""
        if self.is_local:
            with source.open("rb") as data, self._replacing(*parts) as file:
                shutil.copyfileobj(data, file, 1 << 20)
        elif source.stat().st_size:
            with pa.memory_map(str(source)) as data:
                self._put(data.read_buffer(), *parts)
        else:
            self._put(b"", *parts)

    def read_json(self, *parts: str) -> Any:
        """A JSON file's value, or None if there is no such file."""
        try:
            return json.loads(self.read_bytes(*parts))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise WorkspaceError(
                f"{self.path(*parts)} is not JSON ({error})", "remove it and run the stage again"
            ) from error

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n", *parts)

    def sweep(self, older_than_s: float = 86_400.0) -> None:
        """Remove temporary files that killed processes left behind. Object stores have none to remove: see README."""
        folder = Path(self.path(TEMPORARY))
        if self.is_local and folder.is_dir():
            for file in folder.iterdir():
                with suppress(FileNotFoundError):  # another process sweeps, or has just finished its file
                    # A mark is looked for as long as its run goes on.
                    longest_s = 30 * older_than_s if file.name.startswith(MARK) else older_than_s
                    if time.time() - file.stat().st_mtime > longest_s:
                        file.unlink()

    def delete(self, *parts: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._asked(lambda: self.fs.delete_file(self.path(*parts)))

    def discard(self, *parts: str) -> None:
        """Remove a folder, if it is there."""
        if self.exists(*parts):
            with suppress(FileNotFoundError):  # Google's says so of a folder that was but a prefix of names
                self._asked(lambda: self.fs.delete_dir(self.path(*parts)))

    def remove(self) -> None:
        """Remove the whole folder and all that is in it."""
        if self.is_local or "/" in self.root.strip("/"):
            self.discard()
        else:  # a bucket stays; pyarrow's delete_dir_contents of one tries again for minutes, at Google's
            for info in self._asked(lambda: self.fs.get_file_info(pyarrow.fs.FileSelector(self.root))):
                (self.discard if info.type == pyarrow.fs.FileType.Directory else self.delete)(info.base_name)

    def _put(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """One object. All of it has to be at hand: pyarrow's stream cannot be given up.

        Closed by an exception, or by nobody, it would complete the object with what it has got so far.
        """
        target = self.path(*parts)
        try:
            stream = self.fs.open_output_stream(target, compression=None)
            stream.write(data)
            stream.close()
        except (OSError, pa.ArrowException) as error:
            raise unreachable(self.at(*parts), error) from error

    @contextmanager
    def _replacing(self, *parts: str) -> Iterator[BinaryIO]:
        """A local file to write to, which takes the place of ``parts`` once all is well."""
        target, temporary = Path(self.path(*parts)), Path(self.path(TEMPORARY, uuid.uuid4().hex))
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(str(target), error) from error
            raise

    def _asked(self, question: Callable[[], _T]) -> _T:
        """What the store answers. Raises WorkspaceError where it does not, after all attempts."""
        try:
            return question()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if self.is_local:
                raise
            raise unreachable(self.uri, error) from error


def _check(uri: str, kind: str) -> None:
    """Raises WorkspaceError where a URI cannot be a workspace: its scheme, or secrets in it."""
    if kind not in QUERIES:
        raise WorkspaceError(
            f"a workspace cannot be at {shown(uri)}",
            f"give a folder, or a URI of {', '.join(f'{k}://' for k in QUERIES)}",
        )
    try:
        parts = urlsplit(uri)
        asked = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError as error:
        raise WorkspaceError(f"workspace {shown(uri)} is not a URI ({error})") from error
    if parts.password or parts.username not in (None, "", "anonymous"):
        raise WorkspaceError(
            f"workspace {shown(uri)} has credentials in its URI, which logs and tables would show",
            CREDENTIALS[kind],
        )
    unknown = sorted(set(asked) - set(QUERIES[kind]))
    if unknown:
        raise WorkspaceError(
            f"workspace {shown(uri)} has ?{one_line(unknown[0], 40)}= in its URI, which {kind}:// does not take here",
            f"it takes {', '.join(QUERIES[kind])}; {CREDENTIALS[kind]}",
        )
    if not parts.netloc.rpartition("@")[2]:
        raise WorkspaceError(f"workspace {shown(uri)} names no bucket", f"write {kind}://BUCKET/FOLDER")


def _knock(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """(file system, path) of a store that let us in. Raises WorkspaceError."""
    try:
        return _entered(uri, _surroundings())
    except (pa.ArrowException, OSError, ValueError, RuntimeError, ImportError) as error:
        raise unreachable(uri, error) from error


@lru_cache(maxsize=64)
def _entered(uri: str, surroundings: tuple[str | None, ...]) -> tuple[pyarrow.fs.FileSystem, str]:
    """As `open_store`, asked for its bucket: once per process, and with little patience where nobody is there."""
    try:
        within(KNOCK_S, lambda: _enter(*open_store(uri, FIRST_ATTEMPTS)))
        return open_store(uri)
    except OSError as error:
        if not _OVERLOADED.search(str(error)):
            raise
    fs, root = open_store(uri)
    _enter(fs, root)
    return fs, root


def _enter(fs: pyarrow.fs.FileSystem, root: str) -> None:
    """Raises OSError unless the bucket is there and may be read."""
    bucket = root.split("/")[0]
    try:
        there = fs.get_file_info(bucket).type != pyarrow.fs.FileType.NotFound
    except OSError as error:
        if not _FORBIDDEN.search(str(error)):
            raise
        # Credentials for one folder of a bucket cannot ask for the bucket itself.
        fs.get_file_info(pyarrow.fs.FileSelector(root, allow_not_found=True))
        return
    if not there:
        raise FileNotFoundError(f"there is no bucket {bucket}")


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Do it in a thread that is left behind after so many seconds: not every driver has a time limit.

    Raises TimeoutError, or what ``work`` raises.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)


def unreachable(uri: str, error: Exception) -> WorkspaceError:
    """What a store's refusal means, and what to do about it. uri: one that `_check` has passed, without secrets."""
    kind, said = scheme(uri), one_line(str(error), 240)
    bucket = shown(uri).split("://")[1].split("/")[0]
    if isinstance(error, TimeoutError) and not said:
        said = f"no answer in {KNOCK_S:g} s"
    if isinstance(error, FileNotFoundError) or _NO_BUCKET.search(said):
        hint = f"make the bucket {bucket} first (none is made here), or correct the name"
    elif _OVERLOADED.search(said):
        hint = "the store is overloaded or down: run again, it goes on from here"
    elif _FORBIDDEN.search(said):
        hint = f"check the credentials and what they may do: {CREDENTIALS.get(kind, '')}"
    else:
        hint = f"check the network, the address (AWS_ENDPOINT_URL) and region, and the credentials: {CREDENTIALS[kind]}"
        if kind not in S3:
            hint = f"check the network, the address and the credentials: {CREDENTIALS[kind]}"
    return WorkspaceError(f"cannot use {shown(uri)} ({said})", hint)


def _unwritable(place: str, error: OSError) -> WorkspaceError:
    said = error.strerror or one_line(str(error), 200)
    return WorkspaceError(
        f"cannot write {place}: {said}", "free some space or choose another --workspace, then run again"
    )


def _surroundings() -> tuple[str | None, ...]:
    """What of the environment decides which store an S3 URI names, and as whom: another one is opened anew."""
    return tuple(os.environ.get(name) for name in (*_ENDPOINT, *_REGION, "AWS_ACCESS_KEY_ID", "AWS_PROFILE"))


@lru_cache(maxsize=64)
def _s3(
    bucket: str, user: str | None, password: str | None, query: str, attempts: int, surroundings: tuple[str | None, ...]
) -> pyarrow.fs.FileSystem:
    """As pyarrow's own reading of a URI, which however knows no time-outs: it tries a dead endpoint for minutes.

    surroundings: what of the environment decides where it goes; another one is another file system.
    """
    asked = dict(parse_qsl(query))
    options: dict[str, Any] = {k: asked[k] for k in ("region", "endpoint_override", "scheme") if k in asked}
    elsewhere, region = next(filter(None, surroundings[:2]), None), next(filter(None, surroundings[2:4]), None)
    if elsewhere and "endpoint_override" not in options:  # pyarrow reads it for URIs alone
        kind, _, host = elsewhere.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": kind or "https"}
    if "endpoint_override" not in options and "region" not in options and not region:
        options["region"] = pyarrow.fs.resolve_s3_region(bucket)
    if user == "anonymous" and not password:
        options["anonymous"] = True
    elif user:
        options |= {"access_key": unquote(user), "secret_key": unquote(password or "")}
    return pyarrow.fs.S3FileSystem(
        **options,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,  # else an upload in parts is begun for the smallest of files
    )


@lru_cache(maxsize=64)
def _gcs(user: str | None, query: str, patience_s: float) -> pyarrow.fs.FileSystem:
    asked = dict(parse_qsl(query))
    options = {k: asked[k] for k in ("endpoint_override", "scheme", "project_id") if k in asked}
    return pyarrow.fs.GcsFileSystem(
        anonymous=user == "anonymous", retry_time_limit=timedelta(seconds=patience_s), **options
    )


def _secrets(uri: str) -> list[str]:
    try:
        parts = urlsplit(uri)
        given = [parts.username, parts.password, parts.query, *(value for _, value in parse_qsl(parts.query))]
    except ValueError:
        return [uri]
    return [s for text in given if text for s in {text, unquote(text)} if len(s) > 3]
