"""A client of Last.fm, or a server with its protocol, through pylast: one request at a time, with retries.

pylast implements the methods and the errors, but connects only to ws.audioscrobbler.com, hardly retries and has no rate
limit. All of its requests go through one transport, which sends them to ``api_url`` in bounded time and when the rate
allows; `_retry` repeats those that failed for a transient reason. `mer_ray.sources.lastfm_xml` reads the responses;
`mer_ray.sources.lastfm_harvest` decides which ones a dataset needs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
import pylast

from mer_ray.errors import ConfigError, MerRayError, ServiceError, TrackError
from mer_ray.io.http import Watchdog, backoff, retry_after_s
from mer_ray.io.identity import one_line
from mer_ray.io.rate_limit import Slot
from mer_ray.io.track import Track
from mer_ray.sources import lastfm_xml
from mer_ray.sources.response_cache import Request
from mer_ray.version import __version__

USER_AGENT = f"mer-ray/{__version__} (music emotion research; pylast)"
KEY_PAGE = "https://www.last.fm/api/account/create"
PAGE_SIZE = 100
TRIES = 8
BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 120.0
"""Longest ``Retry-After`` that is obeyed; with a longer one, the server counts as out of service."""
CONNECT_TIMEOUT_S = 5.0
UNREACHABLE_AFTER_S = 14.0
MAX_RESPONSE_BYTES = 16_000_000

# A name that no network resolves, so that no request, with its key, can bypass the transport.
_PLACEHOLDER = "lastfm.invalid"
_KEY_OF = re.compile(r"(api_(?:key|sig)(?:=|%3D|[\"']\s*:\s*[\"']|>))[^&\s\"'<>%]+", re.IGNORECASE)
_TRANSIENT = {"8", "11", "16", "29", "500", "502", "503", "504"}
_NOT_FOUND, _INVALID_RESOURCE, _INVALID_KEY, _SUSPENDED = "6", "7", "10", "26"

T = TypeVar("T")


def page_request(tag: str, number: int) -> Request:
    """One page of a tag's top tracks."""
    return {"method": "tag.getTopTracks", "tag": tag, "page": number, "limit": PAGE_SIZE}


def tags_request(track: Track) -> Request:
    """A track's tags with their weights."""
    return {"method": "track.getTopTags", "artist": track.artist, "track": track.title}


def details_request(track: Track) -> Request:
    """A track's album, MusicBrainz id and duration."""
    return {"method": "track.getInfo", "artist": track.artist, "track": track.title}


READERS: Mapping[str, Callable[[str], Any]] = {
    "tag.getTopTracks": lastfm_xml.page,
    "track.getTopTags": lastfm_xml.tags,
    "track.getInfo": lastfm_xml.details,
}


def key() -> str:
    """Last.fm's API key, from LASTFM_API_KEY in the environment. Raises ConfigError where it is missing."""
    found = os.environ.get("LASTFM_API_KEY", "").strip()
    if not found:
        raise ConfigError("no Last.fm API key", f"set the environment variable LASTFM_API_KEY; get a key at {KEY_PAGE}")
    return found


def track_error(track: Track, code: str, text: str, transient: bool = False) -> TrackError:
    """The error of a track that Last.fm refuses with ``code``."""
    reason = "not_found" if code == _NOT_FOUND else "lastfm_error"
    return TrackError(reason, one_line(f"{track.artist} – {track.title}: {text}"), transient)


class Client:
    """Makes requests to Last.fm. Not thread-safe. A context manager, which closes its connection at the end.

    slot: waits for a slot at the server (`mer_ray.io.rate_limit`). timeout_s: per request. api_key: by default from the
    environment. Raises ConfigError for a missing key or an invalid address.
    """

    def __init__(self, api_url: str, slot: Slot | None = None, timeout_s: float = 10.0, api_key: str | None = None):
        self._key = api_key or key()
        self._transport = _Transport(_address(api_url), slot or (lambda name: nullcontext()), timeout_s)
        # The second mount takes precedence over proxies of the environment.
        mounts = {"all://": self._transport, f"https://{_PLACEHOLDER}": self._transport}
        self._network = pylast.LastFMNetwork(api_key=self._key, proxy=mounts)
        self._network.ws_server = (_PLACEHOLDER, "/")

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.__exit__()

    def listing(self, tag: str, number: int) -> str:
        """The valid response to `page_request`.

        Raises TrackError for a page that fails; ConfigError or ServiceError where the next page would fail, too.
        """
        request = page_request(tag, number)
        try:
            return self._fetch(self._network.get_tag(tag), request)
        except _Refused as refused:
            message = f"{self._transport.shown} does not list tag {one_line(tag)!r}, page {number}"
            message = f"{message} ({self._clean(refused.text)})"
            if fatal := self._fatal(refused):
                raise fatal from None
            if number == 1 and not refused.transient:
                hint = "check collect.api_url" if refused.is_foreign else "check collect.tag"
                raise ServiceError(message, hint) from None
            raise TrackError("page_unreachable", message, transient=True) from None

    def about(self, track: Track, request: Request) -> str:
        """The response to a request about a track: valid, or Last.fm's error that the track does not exist.

        Raises TrackError, transient where a retry may succeed; ConfigError or ServiceError where the next track would
        fail, too.
        """
        try:
            return self._fetch(self._network.get_track(track.artist, track.title), request)
        except _Refused as refused:
            if refused.code in (_NOT_FOUND, _INVALID_RESOURCE) and _is_refusal(refused.response):
                # Cleans its text only, since it is parsed again.
                return re.sub("(?<=>)[^<]+", lambda m: m[0].replace(self._key, "***"), _without_keys(refused.response))
            if fatal := self._fatal(refused):
                raise fatal from None
            # An HTTP error without Last.fm's own error says nothing about the track.
            raise track_error(
                track, refused.code, self._clean(refused.text), refused.transient or refused.is_foreign
            ) from None

    def _fetch(self, sender: Any, request: Request) -> str:
        parameters = {name: value for name, value in request.items() if name != "method"}
        read = READERS[str(request["method"])]

        def call() -> str:
            # Not pylast's get_top_tracks: it always starts at page 1, and again after a failure on page 50. pylast's
            # checks of the response raise; its content is parsed by `lastfm_xml`.
            sender._request(request["method"], False, parameters)
            read(self._transport.text)
            return self._transport.text

        return _without_keys(_retry(call, self._transport))

    def _fatal(self, refused: _Refused) -> MerRayError | None:
        if refused.code == _INVALID_KEY:
            return ConfigError("Last.fm refuses the API key", f"check LASTFM_API_KEY; get a key at {KEY_PAGE}")
        if refused.code == _SUSPENDED:
            return ServiceError(
                "Last.fm has suspended this API key",
                f"lower collect.requests_per_s, and ask Last.fm or get another key at {KEY_PAGE}",
            )
        if refused.unreachable:
            text = f"{self._transport.shown} cannot be reached ({self._clean(refused.text)})"
            return ServiceError(text, "check the network and collect.api_url")
        return None

    def _clean(self, text: str) -> str:
        return one_line(_without_keys(text).replace(self._key, "***"), 200)


def _without_keys(text: str) -> str:
    """The text without keys in addresses that a server or proxy echoes. Equal words in names and tags stay."""
    return _KEY_OF.sub(r"\1***", text)


class _Refused(Exception):
    """The reason why a call failed after all retries: Last.fm's code or an HTTP status, and a text."""

    def __init__(self, text: str, code: str = "", transient: bool = False, unreachable: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.transient = transient
        self.unreachable = unreachable
        self.is_foreign = code.startswith("HTTP")
        self.response = ""


def _is_refusal(text: str) -> bool:
    """Whether `lastfm_xml`, too, reads it as an error."""
    try:
        return lastfm_xml.error(text) is not None
    except ValueError:
        return False


def _retry(call: Callable[[], T], transport: _Transport) -> T:
    """The call's value, after retries. Raises _Refused."""
    away_since: float | None = None  # the start of the present run of attempts without connection
    attempt = 0
    while True:
        attempt += 1
        transport.text, transport.wait_s = "", None
        try:
            return call()
        except (pylast.PyLastError, IndexError, AttributeError, ValueError, RecursionError) as error:
            refused = _refusal(error)
        refused.response = transport.text
        pause_s = min(backoff(attempt, BACKOFF_S), MAX_BACKOFF_S)
        if transport.wait_s is not None and refused.transient:
            pause_s = max(pause_s, transport.wait_s)
        away_since = (transport.sent_at if away_since is None else away_since) if refused.unreachable else None
        away_s = 0.0 if away_since is None else time.monotonic() + pause_s + CONNECT_TIMEOUT_S - away_since
        hopeless = pause_s > MAX_RETRY_AFTER_S or away_s > UNREACHABLE_AFTER_S
        if not refused.transient or attempt == TRIES or hopeless:
            raise refused
        time.sleep(pause_s)


def _refusal(error: Exception) -> _Refused:
    """Interpret pylast's exceptions; API errors have a str for a status, HTTP errors an int."""
    if isinstance(error, pylast.WSError):
        code = str(error.status)
        text = f"error {code}: {error.details}" if isinstance(error.status, str) else str(error.details)
        return _Refused(text, code, code in _TRANSIENT)
    if isinstance(error, pylast.NetworkError):
        cause = error.underlying_error
        if isinstance(cause, MerRayError):
            raise cause
        if isinstance(cause, _HTTPStatus):
            return _Refused(str(cause), f"HTTP {cause.status}", cause.transient)
        unreachable = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
        return _Refused(str(cause) or type(cause).__name__, transient=True, unreachable=unreachable)
    # pylast raises arbitrary exceptions for well-formed XML that is not Last.fm's.
    text = str(error) if isinstance(error, pylast.PyLastError) else "the answer is not Last.fm's XML"
    return _Refused(text, transient=True)


# the transport ----------------------------------------------------------------------------------------------------


class _HTTPStatus(httpx2.TransportError):
    """An HTTP status with a body that is not Last.fm's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.transient = status in (408, 425, 429) or status >= 500


class _Transport(httpx2.BaseTransport):
    """Sends pylast's requests to the configured address, over one persistent connection.

    text: the last body. wait_s: ``Retry-After`` of the last response, if any. sent_at: when the last request got its
    slot and was sent, by `time.monotonic`.
    """

    def __init__(self, address: httpx2.URL, slot: Slot, timeout_s: float) -> None:
        self._address = address.copy_with(userinfo=b"")
        self._timeout_s = timeout_s
        self._slot = slot
        self._watchdog = Watchdog()
        self._users = 0
        self._client = httpx2.Client(
            auth=(address.username, address.password) if address.userinfo else None,
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/x-www-form-urlencoded"},
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            verify=pylast.SSL_CONTEXT,
        )
        self.shown = one_line(str(self._address.copy_with(query=None, fragment=None)), 200)
        self.text = ""
        self.wait_s: float | None = None
        self.sent_at = 0.0

    def __enter__(self) -> _Transport:
        self._users += 1
        return self

    def __exit__(self, *error: object) -> None:
        # pylast makes a client for every request, each of which enters and leaves this transport.
        self._users -= 1
        if not self._users:
            self._client.close()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        form = request.read()
        with self._slot(self.shown), self._watchdog.limit(self._timeout_s):
            self.sent_at = time.monotonic()
            try:
                status, charset, body = self._post(form)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                raise
            except httpx2.TransportError as error:
                raise httpx2.ReadTimeout("no answer in time") if self._watchdog.cut else error from None
            if self._watchdog.cut:
                raise httpx2.ReadTimeout("no answer in time")
        if status != 200 and b"<lfm" not in body:
            raise _HTTPStatus(status)
        self.text = lastfm_xml.decode(body, charset)
        # Last.fm sends its errors with 4xx and 5xx, too: its own code is more specific than the status.
        return httpx2.Response(200, content=lastfm_xml.clean(self.text).encode())

    def _post(self, form: bytes) -> tuple[int, str | None, bytes]:
        extensions = {"trace": self._watchdog.trace}
        body = bytearray()
        with self._client.stream("POST", self._address, content=form, extensions=extensions) as response:
            self.wait_s = retry_after_s(response.headers)
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise httpx2.ReadError("the answer is too long")
            return response.status_code, response.charset_encoding, bytes(body)


def _address(api_url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(api_url)
    except (httpx2.InvalidURL, ValueError):
        address = httpx2.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError(
            "collect.api_url is not an http or https address", "for example https://ws.audioscrobbler.com/2.0/"
        )
    return address
