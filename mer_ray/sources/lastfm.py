"""Tracks and their weighted tags from Last.fm, or from a server that speaks its protocol, through pylast.

pylast knows the methods, the XML and its errors, but only talks HTTPS to ws.audioscrobbler.com, retries little and does
not keep to a rate. All of its requests go through one transport here, which carries them to ``api_url`` at a bounded
rate and in bounded time; `_ask` repeats those that failed for a passing cause.
"""

from __future__ import annotations

import html
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx2
import pylast

from mer_ray import __version__
from mer_ray.errors import ConfigError, MerRayError, ServiceError, TrackError
from mer_ray.identity import one_line
from mer_ray.sources import Found, Track
from mer_ray.sources.http import Watchdog, backoff

USER_AGENT = f"mer-ray/{__version__} (music emotion research; pylast)"
KEY_PAGE = "https://www.last.fm/api/account/create"
PAGE_SIZE = 100
TRIES = 5
BACKOFF_S = 0.5
CONNECT_TIMEOUT_S = 5.0
UNREACHABLE_AFTER_S = 14.0
MAX_RESPONSE_BYTES = 16_000_000
MAX_STALE_PAGES = 5
"""Pages in a row without a new track, after which a listing is taken for endless."""
MAX_LOST_IN_A_ROW = 10
"""Tracks in a row that Last.fm fails on, after which the fault is taken for Last.fm's and not the tracks'."""

# A name that no network resolves: only our transport can carry a request to it, and no key leaks past it.
_STAND_IN = "lastfm.invalid"
_PASSING = {"8", "11", "16", "29", "500", "502", "503", "504"}
_NOT_FOUND, _INVALID_KEY, _SUSPENDED = "6", "10", "26"

T = TypeVar("T")


def check() -> None:
    """Raises ConfigError where Last.fm's API key is not in the environment."""
    _key(None)


def tracks(
    tag: str,
    limit: int | None,
    api_url: str,
    requests_per_s: float,
    *,
    known: Collection[str] = (),
    api_key: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    timeout_s: float = 20.0,
) -> Iterator[Found]:
    """The top tracks of a Last.fm tag, in its order, each with its own tags and their weights (1..100).

    limit: how many distinct tracks to look at, known ones included; None for all. requests_per_s: evenly spaced, never
    in bursts. known: ids (`Track.id`) to pass over without asking for their tags. api_key: else from LASTFM_API_KEY.
    progress: called after each track with (tracks so far, tracks in all or None). timeout_s: per request.

    Yields a `Track` (``tags`` is empty where listeners gave none), or (`Track`, TrackError) where its tags could not be
    had: ``not_found``, ``malformed``, or ``lastfm_error``, transient where the cause may pass.
    Raises ConfigError for an absent or invalid key or address, ServiceError where Last.fm cannot be reached or keeps
    failing. No message holds the key.
    """
    key = _key(api_key)
    transport = _Transport(_address(api_url), requests_per_s, timeout_s)
    mounts = {"all://": transport, f"https://{_STAND_IN}": transport}  # the second outranks proxies of the environment
    network = pylast.LastFMNetwork(api_key=key, proxy=mounts)
    network.ws_server = (_STAND_IN, "/")
    return _walk(_Service(network, transport, key), tag, limit, frozenset(known), progress)


def _key(given: str | None) -> str:
    key = (os.environ.get("LASTFM_API_KEY", "") if given is None else given).strip()
    if not key:
        raise ConfigError("no Last.fm API key", f"set the environment variable LASTFM_API_KEY; get a key at {KEY_PAGE}")
    return key


def _walk(
    service: _Service,
    tag: str,
    limit: int | None,
    known: frozenset[str],
    progress: Callable[[int, int | None], None] | None,
) -> Iterator[Found]:
    done = lost_in_a_row = 0
    with service.transport:
        for track, total in itertools.islice(_distinct(service, tag), limit):
            if track.id not in known:
                found = _with_tags(service, track)
                yield found
                error = found[1] if isinstance(found, tuple) else None
                lost_in_a_row = lost_in_a_row + 1 if error and error.reason == "lastfm_error" else 0
                if error and lost_in_a_row == MAX_LOST_IN_A_ROW:
                    raise ServiceError(
                        f"Last.fm failed on {lost_in_a_row} tracks in a row ({error.message})",
                        "run again later; what was collected is kept",
                    )
            done += 1
            if progress is not None:
                progress(done, total if limit is None or total is None else min(limit, total))


def _distinct(service: _Service, tag: str) -> Iterator[tuple[Track, int | None]]:
    """Each track of the tag once, with Last.fm's count of all."""
    seen: set[str] = set()
    stale = 0
    for number in itertools.count(1):
        page = service.page(tag, number)
        before = len(seen)
        for track in page.tracks:
            if track.id not in seen:
                seen.add(track.id)
                yield track, page.total
        stale = 0 if len(seen) > before else stale + 1
        ended = page.pages is not None and number >= page.pages
        if ended or not page.tracks or stale == MAX_STALE_PAGES or (stale and page.pages is None):
            return


def _with_tags(service: _Service, track: Track) -> Found:
    if not (track.artist and track.title):
        return track, TrackError("malformed", "Last.fm lists this track without its artist or title")
    try:
        return replace(track, tags=service.tags(track))
    except TrackError as error:
        return track, error


# the service ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Page:
    tracks: list[Track]
    pages: int | None
    total: int | None


class _Refused(Exception):
    """Why a call failed for good: Last.fm's code or an HTTP status, a text, and what kind of failure that is."""

    def __init__(self, text: str, code: str = "", passing: bool = False, unreachable: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.passing = passing
        self.unreachable = unreachable
        self.is_foreign = code.startswith("HTTP")


class _Service:
    """The two calls that we need, with retries; failures come out as our own errors, without the key."""

    def __init__(self, network: Any, transport: _Transport, key: str) -> None:
        self.transport = transport
        self._network = network
        self._key = key

    def page(self, tag: str, number: int) -> _Page:
        """One page of the tag's top tracks. Raises ConfigError or ServiceError."""
        sender = self._network.get_tag(tag)
        # Not get_top_tracks: it starts at page 1 whatever its limit, and a failure on page 50 would begin anew.
        parameters = {"tag": tag, "page": number, "limit": PAGE_SIZE}
        try:
            return _ask(lambda: _read_page(sender._request("tag.getTopTracks", False, parameters)))
        except _Refused as refused:
            text = self._clean(refused.text)
            if refused.passing:
                hint = "run again later; what was collected is kept"
            else:
                hint = "check collect.api_url" if refused.is_foreign else "check collect.tag"
            message = f"{self.transport.shown} does not list tag {one_line(tag)!r}, page {number} ({text})"
            raise self._fatal(refused) or ServiceError(message, hint) from None

    def tags(self, track: Track) -> tuple[tuple[str, float], ...]:
        """A track's tags. Raises TrackError, or ConfigError or ServiceError where the next track would fail alike."""
        sender = self._network.get_track(track.artist, track.title)
        try:
            return _ask(lambda: _read_tags(sender.get_top_tags()))
        except _Refused as refused:
            if fatal := self._fatal(refused):
                raise fatal from None
            reason = "not_found" if refused.code == _NOT_FOUND else "lastfm_error"
            message = f"{track.artist} – {track.title}: {self._clean(refused.text)}"
            # An HTTP error without Last.fm's word on it says nothing about the track.
            raise TrackError(reason, one_line(message), refused.passing or refused.is_foreign) from None

    def _fatal(self, refused: _Refused) -> MerRayError | None:
        if refused.code == _INVALID_KEY:
            return ConfigError("Last.fm refuses the API key", f"check LASTFM_API_KEY; get a key at {KEY_PAGE}")
        if refused.code == _SUSPENDED:
            return ServiceError(
                "Last.fm has suspended this API key",
                f"lower collect.requests_per_s, and ask Last.fm or get another key at {KEY_PAGE}",
            )
        if refused.unreachable:
            text = f"{self.transport.shown} cannot be reached ({self._clean(refused.text)})"
            return ServiceError(text, "check the network and collect.api_url")
        return None

    def _clean(self, text: str) -> str:
        return one_line(text.replace(self._key, "***"), 200)


def _ask(call: Callable[[], T]) -> T:
    """The call's value, after some tries. Raises _Refused."""
    start = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return call()
        except (pylast.PyLastError, IndexError, AttributeError, UnicodeError) as error:
            refused = _refusal(error)
        pause_s = backoff(attempt, BACKOFF_S)
        spent_s = time.monotonic() + pause_s + CONNECT_TIMEOUT_S - start
        hopeless = refused.unreachable and spent_s > UNREACHABLE_AFTER_S
        if not refused.passing or attempt == TRIES or hopeless:
            raise refused
        time.sleep(pause_s)


def _refusal(error: Exception) -> _Refused:
    """What pylast's exceptions mean; API errors have a str for a status, HTTP errors an int."""
    if isinstance(error, pylast.WSError):
        code = str(error.status)
        text = f"error {code}: {error.details}" if isinstance(error.status, str) else str(error.details)
        return _Refused(text, code, code in _PASSING)
    if isinstance(error, pylast.NetworkError):
        cause = error.underlying_error
        if isinstance(cause, _HTTPStatus):
            return _Refused(str(cause), f"HTTP {cause.status}", cause.passing)
        unreachable = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
        return _Refused(str(cause) or type(cause).__name__, passing=True, unreachable=unreachable)
    # pylast falls over well-formed XML that is not Last.fm's with whatever exception comes first.
    text = str(error) if isinstance(error, pylast.PyLastError) else "the answer is not Last.fm's XML"
    return _Refused(text, passing=True)


# the XML ----------------------------------------------------------------------------------------------------------


def _read_page(document: Any) -> _Page:
    """Raises IndexError where there is no listing in it."""
    listing = document.documentElement.getElementsByTagName("*")[0]
    nodes = [node for node in listing.childNodes if node.nodeName == "track"]
    return _Page([_read_track(node) for node in nodes], _count(listing, "totalPages"), _count(listing, "total"))


def _read_track(node: Any) -> Track:
    """A listed track. Last.fm names no album here; to ask for it would cost another request per track."""
    artists = [child for child in node.childNodes if child.nodeName == "artist"]
    artist = (_text(artists[0], "name") or _own_text(artists[0])) if artists else ""
    return Track(artist=artist, title=_text(node, "name"), mbid=_text(node, "mbid") or None)


def _text(node: Any, name: str) -> str:
    """The text of a direct child: an artist's mbid must not pass for the track's."""
    children = [child for child in node.childNodes if child.nodeName == name]
    return _own_text(children[0]) if children else ""


def _own_text(node: Any) -> str:
    parts = (child.data for child in node.childNodes if child.nodeType in (child.TEXT_NODE, child.CDATA_SECTION_NODE))
    return html.unescape("".join(parts)).strip()  # Last.fm escapes twice, and pylast undoes it alike


def _count(node: Any, name: str) -> int | None:
    text = node.getAttribute(name) or node.getAttribute(name.lower())
    return int(text) if text.isascii() and text.isdigit() else None


def _read_tags(items: list[Any]) -> tuple[tuple[str, float], ...]:
    pairs = ((item.item.name, _weight(item.weight)) for item in items)
    return tuple((name, weight) for name, weight in pairs if name and weight > 0)


def _weight(text: str | None) -> float:
    """A tag's weight; 0 where it is none."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


# the transport ----------------------------------------------------------------------------------------------------


class _HTTPStatus(httpx2.TransportError):
    """An HTTP status with a body that is not Last.fm's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.passing = status in (408, 425, 429) or status >= 500


class _Limiter:
    """Lets one caller through at a time, with at least so much time between two."""

    def __init__(self, per_s: float) -> None:
        self._gap_s = 1.0 / per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            time.sleep(max(0.0, self._next - time.monotonic()))
            # From now, not from the slot: after an oversleep two requests must not come closer.
            self._next = time.monotonic() + self._gap_s


class _Transport(httpx2.BaseTransport):
    """Carries pylast's requests to another address. Its own context closes the connection that it keeps."""

    def __init__(self, address: httpx2.URL, requests_per_s: float, timeout_s: float) -> None:
        self._address = address.copy_with(userinfo=b"")
        self._timeout_s = timeout_s
        self._limiter = _Limiter(requests_per_s)
        self._watchdog = Watchdog()
        self._users = 0
        self._client = httpx2.Client(
            auth=(address.username, address.password) if address.userinfo else None,
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/x-www-form-urlencoded"},
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            verify=pylast.SSL_CONTEXT,
        )
        self.shown = one_line(str(self._address.copy_with(query=None, fragment=None)), 200)

    def __enter__(self) -> _Transport:
        self._users += 1
        return self

    def __exit__(self, *error: object) -> None:
        # pylast makes a client for every request, and each of them enters and leaves this transport.
        self._users -= 1
        if not self._users:
            self._client.close()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._limiter.wait()
        with self._watchdog.limit(self._timeout_s):
            try:
                status, body = self._post(request.read())
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                raise
            except httpx2.TransportError as error:
                raise httpx2.ReadTimeout("no answer in time") if self._watchdog.cut else error from None
            if self._watchdog.cut:
                raise httpx2.ReadTimeout("no answer in time")
        if status != 200 and b"<lfm" not in body:
            raise _HTTPStatus(status)
        # Last.fm sends its errors with 4xx and 5xx as well: its own code says more than the status.
        return httpx2.Response(200, content=body.decode("utf-8", "replace").encode())

    def _post(self, form: bytes) -> tuple[int, bytes]:
        extensions = {"trace": self._watchdog.trace}
        body = bytearray()
        with self._client.stream("POST", self._address, content=form, extensions=extensions) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise httpx2.ReadError("the answer is too long")
            return response.status_code, bytes(body)


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
