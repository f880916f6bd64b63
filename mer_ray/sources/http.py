"""Audio from a web address: one streaming download with a deadline, a size limit and a few tries."""

from __future__ import annotations

import email.utils
import functools
import itertools
import logging
import os
import random
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx

from mer_ray import __version__
from mer_ray.errors import TrackError, WorkspaceError
from mer_ray.identity import one_line

TRIES = 3
BACKOFF_S = 0.5
CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
HEADERS = {"User-Agent": f"mer-ray/{__version__}", "Accept-Encoding": "identity"}

# At its usual level httpx logs whole addresses, tokens in their query included.
logging.getLogger("httpx").setLevel(logging.WARNING)


def fetch(url: str, path: Path, timeout_s: float, max_mb: float) -> None:
    """Download ``url`` to ``path``, which appears whole or not at all.

    timeout_s: for everything together, tries and pauses included. max_mb: size limit in megabytes (10^6 bytes).
    Raises TrackError with the reason ``http_404`` and the like, ``timeout``, ``unreachable``, ``truncated``, ``empty``,
    ``too_big`` or ``bad_url``; WorkspaceError where the disk refuses. Messages show scheme, host and path only.
    """
    address = _parse(url)
    deadline = time.monotonic() + timeout_s
    auth = (address.username, address.password) if address.userinfo else None
    bare = address.copy_with(userinfo=b"")
    watchdog = Watchdog()
    timeout = httpx.Timeout(min(STALL_TIMEOUT_S, timeout_s), connect=min(CONNECT_TIMEOUT_S, timeout_s))
    with (
        httpx.Client(
            follow_redirects=True, max_redirects=10, headers=HEADERS, timeout=timeout, auth=auth, verify=_tls()
        ) as client,
        watchdog.limit(timeout_s),
    ):
        for attempt in itertools.count(1):
            failure = _attempt(client, bare, path, max_mb * 1e6, watchdog)
            if failure is None:
                return
            pause_s = failure.wait_s if failure.wait_s is not None else backoff(attempt, BACKOFF_S)
            if not failure.error.transient or attempt == TRIES or time.monotonic() + pause_s >= deadline:
                raise failure.error
            time.sleep(pause_s)


def backoff(attempt: int, first_s: float) -> float:
    """The pause in seconds after a failed attempt (1, 2, ...): twice as long each time, give or take a half."""
    return float(first_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))


class Watchdog:
    """Ends a network exchange at a wall-clock limit, whatever the server does.

    The time-outs of an HTTP client are per read: a server that sends one byte now and then never meets them. `trace`,
    given as the request's ``trace`` extension (httpx and httpx2), learns of the connection; `limit` cuts it.
    """

    def __init__(self) -> None:
        self.cut = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the connection that the client has just made."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self.cut:
                    self._shut()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Within this context, cut the connection after so many seconds; ``cut`` then says so."""
        self.cut = False
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        with self._lock:
            self.cut = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            # Only a shutdown wakes a thread that waits in recv; the TLS socket's own would trip over that thread.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new binary file that takes the place of ``path`` when the context ends well, and vanishes when it does not.

    Raises WorkspaceError where the disk refuses.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"cannot write {path}: {error.strerror}", "free some space or choose another --workspace, then run again"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class _Failure(NamedTuple):
    error: TrackError
    wait_s: float | None = None  # what the server asked for


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # 0.1 s: once a process, not once a file


def _parse(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise TrackError("bad_url", "the track's address is not a valid URL") from None
    if address.scheme not in ("http", "https") or not address.host:
        # Not shown: what is no such address may hold a password anywhere.
        raise TrackError("bad_url", "the track's address is not an http or https URL")
    return address


def _shown(address: httpx.URL) -> str:
    port = f":{address.port}" if address.port else ""
    return one_line(f"{address.scheme}://{address.host}{port}{address.path}", 200)


def _attempt(
    client: httpx.Client, address: httpx.URL, path: Path, max_bytes: float, watchdog: Watchdog
) -> _Failure | None:
    shown = _shown(address)
    answered = False
    try:
        with client.stream("GET", address, extensions={"trace": watchdog.trace}) as response:
            answered = True
            if not response.is_success:
                return _refusal(response, shown)
            if _content_length(response) > max_bytes:
                return _Failure(_too_big(shown, max_bytes))
            with replacing(path) as file:
                _copy(response, file, shown, max_bytes, watchdog)
    except TrackError as error:
        return _Failure(error)
    except httpx.UnsupportedProtocol:
        return _Failure(TrackError("bad_url", f"{shown} leads to an address that is not http or https"))
    except httpx.TooManyRedirects:
        return _Failure(TrackError("bad_url", f"{shown} redirects without end"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _Failure(_broken(error, shown, answered, watchdog))
    return None


def _copy(response: httpx.Response, file: IO[bytes], shown: str, max_bytes: float, watchdog: Watchdog) -> None:
    received = 0
    for chunk in response.iter_bytes(65_536):
        received += len(chunk)
        if received > max_bytes:
            raise _too_big(shown, max_bytes)
        file.write(chunk)
    if watchdog.cut:  # a body without a length ends where the connection does
        raise _timeout(shown)
    if not received:
        raise TrackError("empty", f"{shown} holds no data")


def _content_length(response: httpx.Response) -> int:
    text = response.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _refusal(response: httpx.Response, shown: str) -> _Failure:
    status = response.status_code
    transient = status in (408, 425, 429) or status >= 500
    message = f"{shown} answered {status} {one_line(response.reason_phrase, 80)}".rstrip()
    return _Failure(TrackError(f"http_{status}", message, transient), retry_after_s(response.headers))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait, from its number or its date; None without a valid one."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _broken(error: Exception, shown: str, answered: bool, watchdog: Watchdog) -> TrackError:
    if watchdog.cut or isinstance(error, httpx.TimeoutException):
        return _timeout(shown)
    if answered:
        return TrackError("truncated", f"{shown} broke off before its end", transient=True)
    return TrackError("unreachable", f"{shown} cannot be reached ({one_line(str(error), 120)})", transient=True)


def _timeout(shown: str) -> TrackError:
    return TrackError("timeout", f"{shown} did not deliver in time", transient=True)


def _too_big(shown: str, max_bytes: float) -> TrackError:
    return TrackError("too_big", f"{shown} is over acquire.max_mb = {max_bytes / 1e6:g}")
