"""Audio from a web address: one streaming download with a deadline, a size limit and a few tries.

What arrived before a connection broke is kept for the next try, where the server can go on from there.
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
from typing import IO, Any, NamedTuple

import httpx

from mer_ray.errors import TrackError
from mer_ray.io.address import shown
from mer_ray.io.identity import one_line
from mer_ray.io.rate_limit import Slot
from mer_ray.io.replace import replacing
from mer_ray.version import __version__

TRIES = 3
BACKOFF_S = 0.5
CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
HEADERS = {"User-Agent": f"mer-ray/{__version__}", "Accept-Encoding": "identity"}

# At its usual level httpx logs whole addresses, tokens in their query included.
logging.getLogger("httpx").setLevel(logging.WARNING)


def unlimited(name: str) -> AbstractContextManager[None]:
    """A slot that is always free."""
    return nullcontext()


def fetch(url: str, path: Path, timeout_s: float, max_mb: float, slot: Slot = unlimited) -> None:
    """Download ``url`` to ``path``, which appears whole or not at all.

    timeout_s: for everything together, tries and pauses included, but not the waiting for a slot. max_mb: size limit in
    megabytes (10^6 bytes). slot: entered with the host's name for each exchange with it.
    Raises TrackError with the reason ``http_404`` and the like, ``timeout``, ``unreachable``, ``truncated``, ``empty``,
    ``too_big`` or ``bad_url``; WorkspaceError where the disk refuses. Messages show scheme, host and path only.
    """
    address = _parse(url)
    deadline = time.monotonic() + timeout_s
    auth = (address.username, address.password) if address.userinfo else None
    watchdog = Watchdog()
    timeout = httpx.Timeout(min(STALL_TIMEOUT_S, timeout_s), connect=min(CONNECT_TIMEOUT_S, timeout_s))
    with (
        httpx.Client(
            follow_redirects=True, max_redirects=10, headers=HEADERS, timeout=timeout, auth=auth, verify=_tls()
        ) as client,
        replacing(path) as file,
    ):
        download = _Download(client, address.copy_with(userinfo=b""), file, max_mb * 1e6, watchdog)
        for attempt in itertools.count(1):
            waiting = time.monotonic()
            with slot(address.host):
                deadline += time.monotonic() - waiting
                with watchdog.limit(max(0.0, deadline - time.monotonic())):
                    failure = download.attempt()
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
    given as the request's ``trace`` extension (httpx and httpx2), learns of the connections; `limit` cuts them.
    """

    def __init__(self) -> None:
        self.cut = False
        self._sockets: list[socket.socket] = []  # several, where a redirect leads to another host
        self._lock = threading.Lock()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember a connection that the client has just made."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._sockets = [s for s in self._sockets if s.fileno() >= 0]
                self._sockets.append(info["return_value"].get_extra_info("socket"))
                if self.cut:
                    self._shut()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Within this context, cut the connections after so many seconds; ``cut`` then says so."""
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
            # Only a shutdown wakes a thread that waits in recv; the TLS socket's own would trip over that thread.
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


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


class _Download:
    """One file on its way: what has arrived, and how to ask for the rest of the same."""

    def __init__(
        self, client: httpx.Client, address: httpx.URL, file: IO[bytes], max_bytes: float, watchdog: Watchdog
    ) -> None:
        self.client, self.address, self.file, self.max_bytes, self.watchdog = client, address, file, max_bytes, watchdog
        self.shown = shown(str(address))
        self._start_over()

    def _start_over(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.received = 0
        self.total: int | None = None
        self.validator = ""  # empty where the server cannot go on from the middle

    def attempt(self) -> _Failure | None:
        """Ask for the file, or for the rest of it; None once it is whole."""
        answered = False
        headers = {"Range": f"bytes={self.received}-", "If-Range": self.validator} if self.received else {}
        try:
            with self.client.stream(
                "GET", self.address, headers=headers, extensions={"trace": self.watchdog.trace}
            ) as response:
                answered = True
                if headers and not self._goes_on(response):
                    self._start_over()
                    if response.status_code in (206, 416):
                        again = TrackError("truncated", f"{self.shown} cannot go on where it broke off", transient=True)
                        return _Failure(again, 0.0)
                if not response.is_success or (response.status_code == 206 and not headers):
                    return _refusal(response, self.shown)
                self._take(response)
        except TrackError as error:
            return _Failure(error)
        except httpx.UnsupportedProtocol:
            return _Failure(TrackError("bad_url", f"{self.shown} leads to an address that is not http or https"))
        except httpx.TooManyRedirects:
            return _Failure(TrackError("bad_url", f"{self.shown} redirects without end"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if not self.validator:
                self._start_over()
            return _Failure(_broken(error, self.shown, answered, self.watchdog))
        return None

    def _goes_on(self, response: httpx.Response) -> bool:
        """Whether the answer is the rest of the very file whose beginning is there; a refusal leaves that open."""
        if response.status_code != 206:
            return not response.is_success and response.status_code != 416
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("content-range", "")
        )
        same_length = found is not None and (found[2] == "*" or self.total in (None, int(found[2])))
        return found is not None and int(found[1]) == self.received and same_length

    def _take(self, response: httpx.Response) -> None:
        length = _content_length(response)
        if self.received + length > self.max_bytes:
            raise _too_big(self.shown, self.max_bytes)
        if not self.received and "content-encoding" not in response.headers:
            self.total = length or None
            self.validator = _validator(response)
        for chunk in response.iter_bytes():  # as it comes: what is gathered would be lost with the connection
            self.received += len(chunk)
            if self.received > self.max_bytes:
                raise _too_big(self.shown, self.max_bytes)
            self.file.write(chunk)
        if self.watchdog.cut:  # a body without a length ends where the connection does
            raise _timeout(self.shown)
        if not self.received:
            raise TrackError("empty", f"{self.shown} holds no data")
        if self.total is not None and self.received != self.total:
            self._start_over()
            raise TrackError("truncated", f"{self.shown} broke off before its end", transient=True)


def _validator(response: httpx.Response) -> str:
    """What names this very version of the file to its server, where it can also go on from the middle."""
    if response.headers.get("accept-ranges", "").strip().lower() != "bytes":
        return ""
    tag = str(response.headers.get("etag", ""))
    return tag if re.fullmatch(r'"[^"]*"', tag) else str(response.headers.get("last-modified", ""))


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
