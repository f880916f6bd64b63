"""Object stores (s3://, gs://): opened with time limits and retries, and their errors explained.

Every store is opened by `open_store`, so that each request is retried: responses 500 and 503 ("slow down") are usual.
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
from mer_ray.io.address import EXPOSED, has_credentials, host, scheme, shown
from mer_ray.io.identity import one_line

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
"""A request fails after so long without a byte."""
ATTEMPTS = 8
"""Of a request. The random pauses between them double: about 0.5, 1, 2, ... s, at most 20 s; 45 s in total."""
FIRST_ATTEMPTS = 4
"""Of the first request, whether the bucket exists: a mistyped name is reported within seconds."""
GCS_RETRY_S = 120.0
GCS_FIRST_RETRY_S = 5.0
"""Correspond to `ATTEMPTS` and `FIRST_ATTEMPTS`: Google's client limits the time of retries, not their number."""
REACHABLE_S = 30.0
"""Limit of `check_reachable`: requests of credentials may go to addresses that do not respond."""
S3 = ("s3", "s3a")
GCS = ("gs", "gcs")
QUERIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(S3, ("region", "endpoint_override", "scheme")),
    **dict.fromkeys(GCS, ("endpoint_override", "scheme", "retry_limit_seconds", "project_id")),
    "file": (),
}
"""Schemes of a workspace, and the keys that its URI's query may have.

Not hdfs://, where readers see incomplete files, and not abfs://: without credentials, pyarrow ends the process.
"""
CREDENTIALS = {
    **dict.fromkeys(S3, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"),
    **dict.fromkeys(GCS, "set GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account"),
}
"""How to give each store its credentials."""
_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")
_FORBIDDEN = re.compile(
    r"ACCESS_DENIED|HTTP status 40[13]|INVALID_ACCESS_KEY|INVALID_CLIENT|SIGNATURE|UNAUTHORI|permission|credential",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|[Bb]ucket '?[^ ]*'? not found|no bucket")
_OVERLOADED = re.compile(r"HTTP status 5\d\d|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|INTERNAL_SERVER_ERROR")
_GARBLED = "Failed to flush response stream"
"""pyarrow's message if the text of an S3 error is longer than the requested range of bytes: pyarrow does not recognise
a transient error, and does not retry."""
GARBLED_ATTEMPTS = 5
_T = TypeVar("_T")


def open_store(uri: str, attempts: int | None = None) -> tuple[pyarrow.fs.FileSystem, str]:
    """Open the store of a URI: s3, gs and others of pyarrow.

    No request is sent, except for the region of an S3 bucket that neither URI nor environment name. Credentials
    come from the stores' usual places (environment, profile, instance role), or, in a list of audio, from the URI.

    Args:
        uri: Its query may have ``endpoint_override``, ``scheme`` and ``region``, as in pyarrow's URIs.
        attempts: Of a request, by default `ATTEMPTS`.

    Returns:
        (file system, path in it)

    Raises:
        OSError, ValueError, ImportError: Of pyarrow.
    """
    kind, parts, attempts = scheme(uri), urlsplit(uri), attempts or ATTEMPTS
    bucket = host(uri)
    path = f"{bucket}{unquote(parts.path)}"
    if kind in S3:
        return _s3(bucket, parts.username, parts.password, parts.query, attempts, _environment()), path
    if kind in GCS:
        limit = GCS_RETRY_S if attempts >= ATTEMPTS else GCS_FIRST_RETRY_S
        retry_s = float(dict(parse_qsl(parts.query)).get("retry_limit_seconds", limit))
        return _gcs(parts.username, parts.query, retry_s), path
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
        requested = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError as error:
        raise WorkspaceError(f"workspace {shown(uri)} is not a URI ({error})") from error
    if has_credentials(uri):
        raise WorkspaceError(
            f"workspace {shown(uri)} {EXPOSED}",
            CREDENTIALS[kind],
        )
    unknown = sorted(set(requested) - set(QUERIES[kind]))
    if unknown:
        raise WorkspaceError(
            f"workspace {shown(uri)} has ?{one_line(unknown[0], 40)}= in its URI, which {kind}:// does not take here",
            f"it takes {', '.join(QUERIES[kind])}; {CREDENTIALS[kind]}",
        )
    if not host(uri):
        raise WorkspaceError(f"workspace {shown(uri)} names no bucket", f"write {kind}://BUCKET/FOLDER")


def check_reachable(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """`open_store`, and check that the bucket responds. Raises WorkspaceError."""
    try:
        return _open_checked(uri, _environment())
    except (pa.ArrowException, OSError, ValueError, RuntimeError, ImportError) as error:
        raise unreachable(uri, error) from error


@lru_cache(maxsize=64)
def _open_checked(uri: str, environment: tuple[str | None, ...]) -> tuple[pyarrow.fs.FileSystem, str]:
    """Once per process and environment, with `FIRST_ATTEMPTS`, unless the store says that it is overloaded."""
    try:
        within(REACHABLE_S, lambda: _check_bucket(*open_store(uri, FIRST_ATTEMPTS)))
        return open_store(uri)
    except OSError as error:
        if not _OVERLOADED.search(str(error)):
            raise
    fs, root = open_store(uri)
    _check_bucket(fs, root)
    return fs, root


def _check_bucket(fs: pyarrow.fs.FileSystem, root: str) -> None:
    """Raises OSError unless the bucket exists and may be read."""
    bucket = root.split("/")[0]
    try:
        there = fs.get_file_info(bucket).type != pyarrow.fs.FileType.NotFound
    except OSError as error:
        if not _FORBIDDEN.search(str(error)):
            raise
        # Credentials for one folder of a bucket do not permit requests about the bucket itself.
        fs.get_file_info(pyarrow.fs.FileSelector(root, allow_not_found=True))
        return
    if not there:
        raise FileNotFoundError(f"there is no bucket {bucket}")


def within(seconds: float, work: Callable[[], _T]) -> _T:
    """Call ``work`` in a thread that is abandoned after so many seconds, for drivers without a time limit.

    Raises TimeoutError, or the error of ``work``.
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
    """Whether it is an unrecognised transient error: see `_GARBLED`."""
    return _GARBLED in str(error)


def read_again(read: Callable[[], _T]) -> _T:
    """Call ``read``, again where the response was garbled (`is_garbled`)."""
    for attempt in range(1, GARBLED_ATTEMPTS):
        try:
            return read()
        except OSError as error:
            if not is_garbled(error):
                raise
            time.sleep(0.2 * 2**attempt)
    return read()


def read_batches(batches: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The batches of files that do not change; after a garbled response, reading continues from there."""
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
    """A store's error explained, with what to do about it."""
    kind, reason = scheme(uri), one_line(str(error), 240)
    if isinstance(error, TimeoutError) and not reason:
        reason = f"no answer in {REACHABLE_S:g} s"
    if isinstance(error, FileNotFoundError) or _NO_BUCKET.search(reason):
        hint = f"make the bucket {host(uri)} first (none is made here), or correct the name"
    elif _OVERLOADED.search(reason):
        hint = "the store is overloaded or down: run again, it goes on from here"
    elif _FORBIDDEN.search(reason):
        hint = f"check the credentials and what they may do: {CREDENTIALS.get(kind, '')}"
    else:
        where = "the address (AWS_ENDPOINT_URL) and region, and" if kind in S3 else "the address and"
        hint = f"check the network, {where} the credentials: {CREDENTIALS[kind]}"
    return WorkspaceError(f"cannot use {shown(uri)} ({reason})", hint)


def _environment() -> tuple[str | None, ...]:
    """The variables that decide an S3 URI's store and credentials: after a change it is opened again."""
    return tuple(os.environ.get(name) for name in (*_ENDPOINT, *_REGION, "AWS_ACCESS_KEY_ID", "AWS_PROFILE"))


@lru_cache(maxsize=64)
def _s3(
    bucket: str, user: str | None, password: str | None, query: str, attempts: int, environment: tuple[str | None, ...]
) -> pyarrow.fs.FileSystem:
    """Like pyarrow's `from_uri`, but with time-outs: pyarrow itself retries a dead endpoint for minutes."""
    requested = dict(parse_qsl(query))
    options: dict[str, Any] = {k: requested[k] for k in ("region", "endpoint_override", "scheme") if k in requested}
    endpoint, region = next(filter(None, environment[:2]), None), next(filter(None, environment[2:4]), None)
    if endpoint and "endpoint_override" not in options:  # pyarrow reads it only for URIs
        kind, _, address = endpoint.rpartition("://")
        options |= {"endpoint_override": address.rstrip("/"), "scheme": kind or "https"}
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
        allow_delayed_open=True,  # else the smallest file becomes a multipart upload
    )


@lru_cache(maxsize=64)
def _gcs(user: str | None, query: str, retry_s: float) -> pyarrow.fs.FileSystem:
    requested = dict(parse_qsl(query))
    options = {k: requested[k] for k in ("endpoint_override", "scheme", "project_id") if k in requested}
    return pyarrow.fs.GcsFileSystem(
        anonymous=user == "anonymous", retry_time_limit=timedelta(seconds=retry_s), **options
    )
