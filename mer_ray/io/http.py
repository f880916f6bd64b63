"""Downloads of audio: one streaming request with a deadline, a size limit and retries.

After a broken connection, the next attempt requests the missing bytes, if the server supports ranges. The client of
Last.fm (`mer_ray.sources.lastfm`) uses `Watchdog`, `backoff` and `retry_after_s`, too.
"""

from __future__ import annotations

import email.utils
import functools
import itertools
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import httpx2

from mer_ray.errors import TrackError
from mer_ray.io.address import shown
from mer_ray.io.identity import one_line
from mer_ray.io.private import Guard
from mer_ray.io.rate_limit import Slot
from mer_ray.io.replace import replacing
from mer_ray.version import __version__

TRIES = 3
BACKOFF_S = 0.5
CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
HEADERS = {"User-Agent": f"mer-ray/{__version__}", "Accept-Encoding": "identity"}

# At its default level httpx2 logs addresses with the tokens in their queries.
logging.getLogger("httpx2").setLevel(logging.WARNING)


def unlimited(name: str) -> AbstractContextManager[None]:
    """A slot that is always free."""
    return nullcontext()


def fetch(
    url: str, path: Path, timeout_s: float, max_mb: float, slot: Slot = unlimited, allow_private: bool = False
) -> None:
    """Download ``url`` to ``path``, atomically.

    Args:
        timeout_s: For all attempts and pauses together, without the time to wait for a slot.
        max_mb: In megabytes (10^6 bytes).
        slot: Entered with the host's name for each exchange with it.
        allow_private: Also from private networks (`mer_ray.io.private`).

    Raises:
        TrackError: With the reason ``http_404`` and the like, ``timeout``, ``unreachable``, ``truncated``, ``empty``,
            ``too_big``, ``private_address`` or ``bad_url``. Messages show scheme, host and path only.
        WorkspaceError: The file cannot be written.
    """
    address = _parse(url)
    deadline = time.monotonic() + timeout_s
    auth = (address.username, address.password) if address.userinfo else None
    watchdog, guard = Watchdog(), None if allow_private else Guard(shown(url))
    timeout = httpx2.Timeout(min(STALL_TIMEOUT_S, timeout_s), connect=min(CONNECT_TIMEOUT_S, timeout_s))
    options: dict[str, Any] = {"headers": HEADERS, "timeout": timeout, "auth": auth, "verify": _tls()}
    if guard:
        options["event_hooks"] = {"request": [guard.request]}
    with (
        httpx2.Client(follow_redirects=True, max_redirects=10, **options) as client,
        replacing(path) as file,
    ):
        download = _Download(client, address.copy_with(userinfo=b""), file, max_mb * 1e6, watchdog, guard)
        for attempt in itertools.count(1):
            waiting = time.monotonic()
            with slot(address.host):
                deadline += time.monotonic() - waiting
                with watchdog.limit(max(0.0, deadline - time.monotonic())):
                    failure = download.attempt()
            if failure is None:
                return
            error, wait_s = failure
            pause_s = backoff(attempt, BACKOFF_S) if wait_s is None else wait_s
            if not error.transient or attempt == TRIES or time.monotonic() + pause_s >= deadline:
                raise error
            time.sleep(pause_s)


def backoff(attempt: int, first_s: float) -> float:
    """The pause in seconds after a failed attempt (1, 2, ...): doubled each time, times 0.5 to 1.5."""
    return float(first_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))


class Watchdog:
    """Ends a network exchange at a wall-clock limit.

    The time-outs of an HTTP client are per read: a server that sends single bytes never exceeds them. `trace`,
    passed as the request's ``trace`` extension, collects the connections; `limit` cuts them.
    """

    def __init__(self) -> None:
        self.cut = False
        self._sockets: list[socket.socket] = []  # several after a redirect to another host
        self._lock = threading.Lock()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Record a new connection."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._sockets = [s for s in self._sockets if s.fileno() >= 0]
                self._sockets.append(info["return_value"].get_extra_info("socket"))
                if self.cut:
                    self._shut()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Within this context, cut the connections after so many seconds; ``cut`` is then True."""
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
        for connected in self._sockets:
            # Only a shutdown wakes a thread that waits in recv; the TLS socket's own is not safe beside that thread.
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # takes 0.1 s, so once per process


def _parse(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise TrackError("bad_url", "the track's address is not a valid URL") from None
    if address.scheme not in ("http", "https") or not address.host:
        # Not shown: an invalid address may contain a password anywhere.
        raise TrackError("bad_url", "the track's address is not an http or https URL")
    return address


_Failure = tuple[TrackError, float | None]
"""The error of an attempt, and the seconds of ``Retry-After``."""


class _Download:
    """The bytes of a file so far, and how to request the rest of the same version."""

    def __init__(
        self,
        client: httpx2.Client,
        address: httpx2.URL,
        file: IO[bytes],
        max_bytes: float,
        watchdog: Watchdog,
        guard: Guard | None,
    ) -> None:
        self.client, self.address, self.file, self.max_bytes = client, address, file, max_bytes
        self.watchdog, self.guard = watchdog, guard
        self.shown = shown(str(address))
        self._start_over()

    def _start_over(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.received = 0
        self.total: int | None = None
        self.validator = ""  # empty if the server does not support ranges

    def attempt(self) -> _Failure | None:
        """Request the file, or the rest of it; None once it is complete."""
        connected = False
        headers = {"Range": f"bytes={self.received}-", "If-Range": self.validator} if self.received else {}
        try:
            with self.client.stream(
                "GET", self.address, headers=headers, extensions={"trace": self._trace}
            ) as response:
                connected = True
                if headers and not self._goes_on(response):
                    self._start_over()
                    if response.status_code in (206, 416):
                        return self._error("truncated", "cannot go on where it broke off", transient=True), 0.0
                if not response.is_success or (response.status_code == 206 and not headers):
                    return self._refusal(response), retry_after_s(response.headers)
                self._take(response)
        except TrackError as error:
            return error, None
        except httpx2.UnsupportedProtocol:
            return self._error("bad_url", "leads to an address that is not http or https"), None
        except httpx2.TooManyRedirects:
            return self._error("bad_url", "redirects without end"), None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            if not self.validator:
                self._start_over()
            return self._broken(error, connected), None
        return None

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if self.guard:
            self.guard.trace(event, info)
        self.watchdog.trace(event, info)

    def _goes_on(self, response: httpx2.Response) -> bool:
        """Whether this is the rest of the same file."""
        if response.status_code != 206:
            return not response.is_success and response.status_code != 416
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        same_length = found is not None and (found[2] == "*" or self.total in (None, int(found[2])))
        return found is not None and int(found[1]) == self.received and same_length

    def _take(self, response: httpx2.Response) -> None:
        text = response.headers.get("content-length", "")
        length = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
        if not self.received and "content-encoding" not in response.headers:
            self.total = length or None
            self.validator = _validator(response)
        self._check_size(self.received + length)
        for chunk in response.iter_bytes():  # unbuffered, so that a broken connection loses no bytes
            self.received += len(chunk)
            self._check_size(self.received)
            self.file.write(chunk)
        if self.watchdog.cut:  # else a body without a length would seem complete
            raise self._timeout()
        if not self.received:
            raise self._error("empty", "holds no data")
        if self.total is not None and self.received != self.total:
            self._start_over()
            raise self._error("truncated", "broke off before its end", transient=True)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise self._error("too_big", f"is over acquire.max_mb = {self.max_bytes / 1e6:g}")

    def _refusal(self, response: httpx2.Response) -> TrackError:
        status = response.status_code
        text = f"answered {status} {one_line(response.reason_phrase, 80)}".rstrip()
        return self._error(f"http_{status}", text, transient=status in (408, 425, 429) or status >= 500)

    def _broken(self, error: Exception, connected: bool) -> TrackError:
        if self.watchdog.cut or isinstance(error, httpx2.TimeoutException):
            return self._timeout()
        if connected:
            return self._error("truncated", "broke off before its end", transient=True)
        return self._error("unreachable", f"cannot be reached ({one_line(str(error), 120)})", transient=True)

    def _timeout(self) -> TrackError:
        return self._error("timeout", "did not deliver in time", transient=True)

    def _error(self, reason: str, text: str, transient: bool = False) -> TrackError:
        return TrackError(reason, f"{self.shown} {text}", transient)


def _validator(response: httpx2.Response) -> str:
    """The strong ETag or date of this version of the file, if the server supports ranges."""
    if response.headers.get("accept-ranges", "").strip().lower() != "bytes":
        return ""
    tag = str(response.headers.get("etag", ""))
    return tag if re.fullmatch(r'"[^"]*"', tag) else str(response.headers.get("last-modified", ""))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, from its number or its date; None without a valid one."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
