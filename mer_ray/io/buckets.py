"""Stores that URIs name, s3:// and gs://: opened with time limits, and what their refusals mean.

Every store is opened here (`open_store`), so that each tries again what may pass: they answer 500 and 503 ("slow
down") as a matter of course.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from mer_ray.errors import WorkspaceError
from mer_ray.io.identity import one_line

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
_GARBLED = "Failed to flush response stream"
"""What pyarrow says where the text of an error of S3 is longer than the few bytes asked for: it has not understood
that this was an error which passes, and does not try again."""
GARBLED_ATTEMPTS = 5
_T = TypeVar("_T")


def scheme(uri: str) -> str:
    """What stands before ``://``, in small letters; empty for a path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def shown(uri: str) -> str:
    """A URI for messages: without user, password and query."""
    bare = re.split(r"[?#]", uri, maxsplit=1)[0]
    return one_line(re.sub(r"^([^/]*//)[^/]*@", r"\1", bare), 300)


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


def check_workspace(uri: str, kind: str) -> None:
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


def knock(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
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


def is_garbled(error: Exception) -> bool:
    """Whether to read once more would help: see `_GARBLED`."""
    return _GARBLED in str(error)


def read_again(read: Callable[[], _T]) -> _T:
    """What is read; again where an answer was garbled."""
    for attempt in range(1, GARBLED_ATTEMPTS):
        try:
            return read()
        except OSError as error:
            if not is_garbled(error):
                raise
            time.sleep(0.2 * 2**attempt)
    return read()


def read_batches(batches: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The batches of files that do not change; where an answer was garbled, they are read again from there on."""
    done = 0
    for attempt in range(1, GARBLED_ATTEMPTS + 1):
        passed = 0
        try:
            for batch in batches():
                new = batch.slice(max(0, done - passed))
                passed += len(batch)
                if len(new):
                    done = passed
                    yield new
            return
        except (pa.ArrowException, OSError) as error:
            if attempt == GARBLED_ATTEMPTS or not is_garbled(error):
                raise
            time.sleep(0.2 * 2**attempt)


def unreachable(uri: str, error: Exception) -> WorkspaceError:
    """What a store's refusal means, and what to do about it. uri: without secrets."""
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
