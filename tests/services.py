"""Web services on the loopback interface, in the wire formats of the real ones, with faults on demand.

Each is a context manager with a ``url``; what it was asked stands in ``calls``.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import soundfile

from mer_ray.io.identity import digest

STALL_S = 120.0
"""How long a server that stalls is silent, or until its test has ended."""


@dataclass(frozen=True)
class Call:
    """A request: its HTTP method, path, parameters from query and form, headers, and when it came (s, monotonic)."""

    verb: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    at: float


class Server(ThreadingHTTPServer):
    """Answers each client in a thread of its own, on a free port of the loopback interface. A context manager."""

    daemon_threads = True
    request_queue_size = 128  # with the default of 5, clients that connect together are dropped for seconds

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.at = f"127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that has gone is what some tests mean
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Quiet, with connections that stay open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every response waits 40 ms for an acknowledgement

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass
class Service:
    """A threaded HTTP server; subclasses respond in `respond`."""

    def __post_init__(self) -> None:
        self.calls: list[Call] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        service = self

        class Asked(Handler):
            def _handle(self) -> None:
                at = time.monotonic()
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
                params = dict(parse_qsl(f"{parts.query}&{body}", keep_blank_values=True))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, unquote(parts.path), params, headers, at)
                with service._lock:
                    service.calls.append(call)
                service.respond(call, self)

            do_GET = do_POST = do_HEAD = _handle

        self._server = Server(Asked)
        self.url = f"http://{self._server.at}"

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.__exit__()

    def busiest_second(self) -> int:
        """The largest number of requests that came within any one second."""
        return busiest_second([call.at for call in self.calls])


def busiest_second(times: Iterable[float]) -> int:
    """The largest number of times, in s, within any one second."""
    ordered = sorted(times)
    return max((bisect_left(ordered, at + 1.0) - i for i, at in enumerate(ordered)), default=0)


def send(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    kind: str = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
) -> None:
    """A whole response; ``length`` is what the header claims, where that is to be a lie."""
    handler.send_response(status)
    for name, value in {"Content-Type": kind, **(headers or {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    if length is not None:
        handler.close_connection = True


def closed_port() -> int:
    """A port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wav_bytes(seconds: float = 1.0, rate: int = 22_050, hz: float = 440.0) -> bytes:
    """A sine as a mono 16-bit WAV file."""
    buffer = io.BytesIO()
    sine = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(buffer, sine, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


# Last.fm ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Song:
    """A track in Last.fm's catalog; tags: (name, count). album, duration_ms: what only track.getInfo says."""

    artist: str
    title: str
    tags: tuple[tuple[str, int | str], ...] = (("soundtrack", 100),)
    mbid: str = ""
    album: str = ""
    duration_ms: int = 0


@dataclass
class LastFm(Service):
    """Last.fm's web service: tag.getTopTracks, track.getTopTags and track.getInfo in XML, at ``url``.

    songs: the listing, in order; the same song may stand in it twice. listings: those of tags that have their own.
    key: the only one that it takes.
    always["some title"]: the fault for all calls about that track; always["tag.getTopTracks"]: for that method;
    always["page 3"]: for that page of every listing.
    A fault is an error code, ``http NNN`` (``http 429 7`` with a Retry-After of 7), ``broken``, ``html``, ``foreign``,
    ``latin1``, ``stall``, ``drip``, or for pages ``empty`` (with the totals) and ``blank`` (without).
    passing[...]: faults for the next calls of that kind, used up one by one. fault_of: by the parameters.
    raw: what is sent, byte for byte, instead of a text. encoding: of all responses, which claim to be UTF-8.
    """

    songs: list[Song] = field(default_factory=list)
    listings: dict[str, list[Song]] = field(default_factory=dict)
    key: str = "0123456789abcdef0123456789abcdef"
    always: dict[str, str] = field(default_factory=dict)
    passing: dict[str, list[str]] = field(default_factory=dict)
    fault_of: Callable[[dict[str, str]], str] = lambda params: ""
    raw: dict[str, bytes] = field(default_factory=dict)
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.url += "/2.0/"

    def script(self, method: str, *faults: str) -> None:
        """Faults for the next calls of a method, used up one by one."""
        self.passing.setdefault(method, []).extend(faults)

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(call.params.get("method") == method for call in self.calls)

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        method = call.params.get("method", "")
        about = (call.params.get("track", ""), f"page {call.params.get('page')}", method)
        with self._lock:
            fault = next((self.passing[what].pop(0) for what in about if self.passing.get(what)), "")
            fault = fault or self.fault_of(call.params)
        fault = fault or next((self.always[what] for what in about if what in self.always), "")
        if call.path != "/2.0/":
            send(handler, b"<html><body>Not Found</body></html>", 404, "text/html")
        elif fault in ("empty", "blank"):
            head, _, _ = self._listing(call.params).partition(">")
            self._xml(handler, f"{head if fault == 'empty' else '<tracks'}></tracks>")
        elif fault:
            self._fail(fault, call, handler)
        elif call.params.get("api_key") != self.key:
            self._fail("10", call, handler)
        elif method == "tag.getTopTracks":
            self._xml(handler, self._listing(call.params))
        elif method == "track.getTopTags":
            self._tags(call, handler)
        elif method == "track.getInfo":
            self._info(call, handler)
        else:
            self._fail("3", call, handler)

    def _xml(self, handler: BaseHTTPRequestHandler, inner: str, http: int = 200, status: str = "ok") -> None:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<lfm status="{status}">{inner}</lfm>\n'
        body = text.encode(self.encoding)
        for plain, raw in self.raw.items():
            body = body.replace(plain.encode(self.encoding), raw)
        send(handler, body, http, "text/xml; charset=UTF-8")

    def _listing(self, params: dict[str, str]) -> str:
        size, page = int(params.get("limit", 50)), int(params.get("page", 1))
        start = (page - 1) * size
        songs = self.listings.get(params["tag"], self.songs)
        nodes = [_track_xml(song, start + i + 1) for i, song in enumerate(songs[start : start + size])]
        pages = -(-len(songs) // size)
        tag = quoteattr(params["tag"])
        head = f'<tracks tag={tag} page="{page}" perPage="{size}" totalPages="{pages}" total="{len(songs)}">'
        return f"{head}\n{''.join(nodes)}</tracks>"

    def _song(self, params: dict[str, str]) -> Song | None:
        songs = [*self.songs, *(song for listed in self.listings.values() for song in listed)]
        return next((s for s in songs if (s.artist, s.title) == (params.get("artist"), params.get("track"))), None)

    def _tags(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        song = self._song(call.params)
        if song is None:
            return self._fail("6", call, handler)
        tags = "".join(
            f"<tag><count>{count}</count><name>{escape(name)}</name><url>https://www.last.fm/tag/x</url></tag>\n"
            for name, count in song.tags
        )
        head = f"<toptags artist={quoteattr(song.artist)} track={quoteattr(song.title)}>"
        return self._xml(handler, f"{head}\n{tags}</toptags>")

    def _info(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        song = self._song(call.params)
        if song is None:
            return self._fail("6", call, handler)
        artist, title = escape(song.artist), escape(song.title)
        album = (
            f'<album position="1"><artist>{artist}</artist><title>{escape(song.album)}</title>'
            "<mbid>22222222-aaaa-4aaa-8aaa-222222222222</mbid></album>"
        )
        return self._xml(
            handler,
            f"<track><name>{title}</name><mbid>{song.mbid}</mbid><duration>{song.duration_ms}</duration>"
            f"<artist><name>{artist}</name><mbid>00000000-aaaa-4aaa-8aaa-000000000000</mbid></artist>"
            f"{album if song.album else ''}<toptags><tag><name>x</name></tag></toptags></track>",
        )

    def _fail(self, fault: str, call: Call, handler: BaseHTTPRequestHandler) -> None:
        if fault.isdigit():
            http = {"6": 400, "10": 403, "26": 403, "29": 429}.get(fault, 500)
            # The real one does not echo the key; one that does must not make us print it.
            text = f"{_ERRORS.get(fault, 'Some error')} ({call.params.get('api_key')})"
            self._xml(handler, f'<error code="{fault}">{escape(text)}</error>', http, "failed")
        elif fault.startswith("http "):
            status, *wait = fault.split()[1:]
            headers = {"Retry-After": wait[0]} if wait else None
            send(handler, b"<html><body>An error</body></html>", int(status), "text/html", headers)
        elif fault == "broken":
            send(handler, b'<?xml version="1.0"?><lfm status="ok"><tracks tag="x"><track><na', kind="text/xml")
        elif fault == "html":
            send(handler, b"<html><head><title>Log in</title><br></head><body>Wi-Fi</body></html>", kind="text/html")
        elif fault == "foreign":
            send(handler, b'<?xml version="1.0"?><feed><entry/></feed>', kind="text/xml")
        elif fault == "latin1":
            send(handler, '<lfm status="ok"><toptags>Bj\xf6rk</toptags></lfm>'.encode("latin-1"), kind="text/xml")
        elif fault == "stall":
            self.closing.wait(STALL_S)
        elif fault == "drip":
            drip(handler, self.closing)
        else:
            raise ValueError(fault)


_ERRORS = {
    "6": "Track not found",
    "8": "Operation failed - Most likely the backend service failed. Please try again.",
    "10": "Invalid API key - You must be granted a valid key by last.fm",
    "26": "API Key Suspended - This application is not allowed to make requests to the web services",
    "29": "Rate Limit Exceeded - Your IP has made too many requests in a short period, exceeding our API guidelines",
}


def _track_xml(song: Song, rank: int) -> str:
    return (
        f'<track rank="{rank}"><name>{escape(song.title)}</name><duration>215</duration><mbid>{song.mbid}</mbid>'
        f'<url>https://www.last.fm/music/x/_/y</url><streamable fulltrack="0">0</streamable>'
        f"<artist><name>{escape(song.artist)}</name><mbid>00000000-aaaa-4aaa-8aaa-000000000000</mbid>"
        f'<url>https://www.last.fm/music/x</url></artist><image size="small">https://img.example/1.png</image></track>\n'
    )


def drip(handler: BaseHTTPRequestHandler, closing: threading.Event, headers: bool = False) -> None:
    """A byte now and then, without end; in the body, or already in the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n" + (b"X-Long: " if headers else b"\r\n"))
    while not closing.wait(0.05):
        handler.wfile.write(b"x")


# files ------------------------------------------------------------------------------------------------------------


@dataclass
class Files(Service):
    """Files at ``url/NAME``. faults[NAME]: what happens at the next calls, one by one; the last one stays for good.

    A fault is ``ok``, a status (``404``, or ``503 7`` with a Retry-After of 7), ``stall``, ``drip``, ``drip headers``,
    ``truncated``, ``unbounded`` (no length, no end), ``close`` (no response), ``whole`` (a range is not heeded),
    ``elsewhere`` (another range than was asked for) or ``-> ADDRESS`` (a redirect).
    validator: the kind of header that names a file's version (``etag``, ``weak``, ``modified``), where the server can
    go on from the middle of a file. pause_s: before each response. most_in_flight: the largest number of
    requests without a response.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    validator: str = ""
    pause_s: float = 0.0
    most_in_flight: int = 0
    in_flight: int = 0

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._pause()
        with self._lock:
            self.in_flight -= 1
        self._answer(call, handler)

    def _pause(self) -> None:
        self.closing.wait(self.pause_s)

    def _answer(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        name = call.path.lstrip("/")
        queue = self.faults.get(name, ["ok"])
        fault = queue.pop(0) if len(queue) > 1 else queue[0]
        data = self.files.get(name)
        if fault[0].isdigit():
            status, *wait = fault.split()
            send(handler, b"no", int(status), "text/plain", {"Retry-After": wait[0]} if wait else None)
        elif fault == "stall":
            self.closing.wait(STALL_S)
        elif fault.startswith("drip"):
            drip(handler, self.closing, headers=fault == "drip headers")
        elif fault == "close":
            handler.close_connection = True
        elif fault.startswith("-> "):
            send(handler, b"", 302, headers={"Location": fault[3:]})
        elif data is None:
            send(handler, b"no such file", 404, "text/plain")
        elif fault == "unbounded":
            handler.close_connection = True
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nConnection: close\r\n\r\n")
            while not self.closing.is_set():
                handler.wfile.write(data)
        else:
            self._file(data, fault, call, handler)

    def _file(self, data: bytes, fault: str, call: Call, handler: BaseHTTPRequestHandler) -> None:
        headers = _version(data, self.validator)
        start, status = 0, 200
        if call.headers.get("if-range") in headers.values() and fault != "whole":
            start = int(call.headers["range"].removeprefix("bytes=").removesuffix("-"))
            start -= fault == "elsewhere"
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        if fault == "truncated":
            send(handler, rest[: len(rest) // 2], status, "audio/wav", headers, length=len(rest))
        else:
            send(handler, rest, status, "audio/wav", headers)


def _version(data: bytes, kind: str) -> dict[str, str]:
    version = zlib.crc32(data) // 2
    known = {
        "etag": {"ETag": f'"{version}"'},
        "weak": {"ETag": f'W/"{version}"'},
        "modified": {"Last-Modified": formatdate(version, usegmt=True)},
    }
    return {**known[kind], "Accept-Ranges": "bytes"} if kind else {}


# Spotify ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Video:
    """What a search for a video finds. media: its bytes, or a fault: a status, ``stall``. length_s: as it is listed."""

    title: str
    media: bytes | str = b""
    length_s: int | None = None
    channel: str = "Somebody"


@dataclass
class Spotify(Service):
    """Spotify's token, search and track endpoints, and in the wire format of YouTube's own the videos to be found.

    catalog: Spotify id to (artist, title) or (artist, title, seconds). videos: what a search finds, by words in it;
    the videos under the empty text are found by all. limits: Retry-After of the next responses (429) of the API.
    api_status: the status of search and tracks.
    """

    catalog: dict[str, tuple[str, str] | tuple[str, str, float]] = field(default_factory=dict)
    videos: dict[str, list[Video]] = field(default_factory=dict)
    client: str = "client-id-for-tests"
    api_status: int = 200
    limits: list[int] = field(default_factory=list)

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        if call.path == "/api/token":
            asked = base64.b64decode(call.headers.get("authorization", "").removeprefix("Basic ")).decode()
            if asked.split(":")[0] != self.client:
                return _json(handler, {"error": "invalid_client", "error_description": "Invalid client"}, 400)
            return _json(handler, {"access_token": "token-for-tests", "token_type": "Bearer", "expires_in": 3600})
        if call.path == "/youtubei/v1/search":
            return _json(handler, self._videos(call.params["asked"]))
        if call.path.startswith("/watch/"):
            return self._media(call.path.removeprefix("/watch/"), handler)
        if not call.path.startswith("/v1/"):
            return send(handler, b"<html></html>", kind="text/html")
        if self.limits:
            wait = {"Retry-After": str(self.limits.pop(0))}
            body = json.dumps({"error": {"status": 429, "message": "API rate limit exceeded"}}).encode()
            return send(handler, body, 429, "application/json", wait)
        if self.api_status != 200:
            return _json(handler, {"error": {"status": self.api_status, "message": "refused"}}, self.api_status)
        if call.path == "/v1/search":
            query = set(call.params["q"].casefold().split())
            shared = {i: len(query & set(" ".join(n[:2]).casefold().split())) for i, n in self.catalog.items()}
            hits = sorted((i for i, n in shared.items() if n), key=lambda i: -shared[i])
            return _json(handler, {"tracks": {"items": [self._track(i) for i in hits[: int(call.params["limit"])]]}})
        spotify_id = call.path.removeprefix("/v1/tracks/")
        if spotify_id in self.catalog:
            return _json(handler, self._track(spotify_id))
        return _json(handler, {"error": {"status": 404, "message": "Non existing id"}}, 404)

    def _videos(self, query: str) -> dict[str, Any]:
        listed = [
            {
                "videoRenderer": {
                    "videoId": f"{digest(about.encode())[:9]}{i:02}",
                    "title": {"runs": [{"text": video.title}]},
                    "ownerText": {"runs": [{"text": video.channel}]},
                }
                | ({"lengthText": {"simpleText": _clock(video.length_s)}} if video.length_s is not None else {})
            }
            for about, videos in self.videos.items()
            if about in query
            for i, video in enumerate(videos)
        ]
        section = [{"itemSectionRenderer": {"contents": listed}}]
        found = {"primaryContents": {"sectionListRenderer": {"contents": section}}}
        return {"contents": {"twoColumnSearchResultsRenderer": found}}

    def _media(self, video_id: str, handler: BaseHTTPRequestHandler) -> None:
        (videos,) = (v for about, v in self.videos.items() if digest(about.encode())[:9] == video_id[:9])
        media = videos[int(video_id[9:])].media
        if isinstance(media, bytes):
            send(handler, media, kind="audio/wav")
        elif media == "stall":
            self.closing.wait(STALL_S)
        else:
            send(handler, b"no", int(media), "text/plain")

    def _track(self, spotify_id: str) -> dict[str, Any]:
        artist, title, *length_s = self.catalog[spotify_id]
        length = {"duration_ms": round(1000 * length_s[0])} if length_s else {}
        return {
            "id": spotify_id,
            "name": title,
            "type": "track",
            "uri": f"spotify:track:{spotify_id}",
            "external_urls": {"spotify": f"https://open.spotify.com/track/{spotify_id}"},
            "artists": [{"name": name, "type": "artist"} for name in artist.split(" / ")],
            "album": {"name": "An Album", "release_date": "2001-01-01", "total_tracks": 9, "images": []},
            "disc_number": 1,
            "track_number": 1,
            **length,
        }


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02}"


def _json(handler: BaseHTTPRequestHandler, value: object, status: int = 200) -> None:
    send(handler, json.dumps(value).encode(), status, "application/json")
