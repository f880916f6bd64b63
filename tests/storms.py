"""A Last.fm in bad weather: thousands of tracks, and every kind of fault by seeded chance, in a process of its own.

    with storm(songs=9_000) as server: ... server.url, server.answered() ...; server.log() after the work

Whether a question fails, and how, follows from the seed, the question and how often it was asked before: the weather is
the same for every client, in whatever order it asks.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from services import Call, LastFm, Song, send

PAGE = 50
KEY = LastFm.key
WEATHER = (("29", 0.05), ("http 500", 0.03), ("stall", 0.01), ("truncated", 0.01), ("html", 0.01))
MOODS = ("sad", "epic", "calm", "dark", "happy", "tense", "dreamy", "angry")


def chance(*what: object) -> float:
    """A number in 0..1 that follows from its arguments."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:6]) / 2**48


def catalog(n: int, seed: int) -> list[Song]:
    """n different songs, 4 % of them without tags; as a listing in which 5 % of the pages repeat 10 earlier tracks."""
    songs = []
    for i in range(n):
        moods = [(MOODS[(i + k) % len(MOODS)], 100 - 30 * k) for k in range(1 + i % 3)]
        tags = () if chance(seed, "untagged", i) < 0.04 else (("soundtrack", 100), *moods)
        songs.append(Song(f"Composer {i % 701}", f"Cue {i}", tags))
    listing: list[Song] = []
    for start in range(0, n, PAGE):
        if start and chance(seed, "drift", start) < 0.05:
            listing += listing[-10:]
        listing += songs[start : start + PAGE]
    return listing


@dataclass(frozen=True)
class Request:
    """at: when it arrived, s. question: what was asked. outcome: ``ok``, ``6`` or the fault."""

    at: float
    question: tuple[str, str]
    outcome: str


class StormyLastFm(LastFm):
    """`LastFm` with pages of 50 whatever is asked for, and weather."""

    def __init__(self, n: int, seed: int, gone: float, answered: Any) -> None:
        super().__init__(songs=catalog(n, seed))
        self._by_name = {(song.artist, song.title): song for song in self.songs}
        self._seed, self._gone = seed, gone
        self._asked: Counter[tuple[str, str]] = Counter()
        self._answered = answered
        self.requests: list[Request] = []

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        method = call.params["method"]
        subject = call.params["page"] if method == "tag.getTopTracks" else call.params["track"]
        question = (method, subject)
        with self._lock:
            self._asked[question] += 1
            nth = self._asked[question]
        outcome = self._weather(question, nth)
        if outcome == "ok" and method == "track.getTopTags" and chance(self._seed, "gone", subject) < self._gone:
            outcome = "6"
        with self._lock:
            self.requests.append(Request(call.at, question, outcome))
        if outcome == "ok":
            self._answer(method, call, handler)
        elif outcome == "truncated":
            body = b'<?xml version="1.0" encoding="UTF-8"?>\n<lfm status="ok"><toptags artist="C" track="x"><tag><co'
            send(handler, body, kind="text/xml")
        else:
            self._fail(outcome, call, handler)
        if outcome in ("ok", "6"):
            with self._answered.get_lock():
                self._answered.value += 1

    def _weather(self, question: tuple[str, str], nth: int) -> str:
        drawn = chance(self._seed, question, nth)
        for fault, share in WEATHER:
            if drawn < share:
                return fault
            drawn -= share
        return "ok"

    def _answer(self, method: str, call: Call, handler: BaseHTTPRequestHandler) -> None:
        if method == "tag.getTopTracks":
            self._xml(handler, self._listing({**call.params, "limit": str(PAGE)}))
        else:
            self._tags(call, handler)

    def _tags(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        song = self._by_name[call.params["artist"], call.params["track"]]
        tags = "".join(f"<tag><count>{count}</count><name>{name}</name></tag>" for name, count in song.tags)
        self._xml(handler, f'<toptags artist="{song.artist}" track="{song.title}">{tags}</toptags>')


def _serve(n: int, seed: int, gone: float, answered: Any, pipe: Any) -> None:
    with StormyLastFm(n, seed, gone, answered) as server:
        pipe.send((server.url, len({(s.artist, s.title) for s in server.songs})))
        while pipe.recv() != "end":
            with server._lock:
                pipe.send(list(server.requests))


class Storm:
    """url: the API's address. n_songs: how many different ones it lists."""

    def __init__(self, url: str, n_songs: int, answered: Any, pipe: Any) -> None:
        self.url, self.n_songs = url, n_songs
        self._count, self._pipe = answered, pipe

    def answered(self) -> int:
        """How many questions got their answer so far."""
        return int(self._count.value)

    def log(self) -> list[Request]:
        """All requests so far."""
        self._pipe.send("log")
        log: list[Request] = self._pipe.recv()
        return log


@contextmanager
def storm(songs: int, seed: int = 1, gone: float = 0.005) -> Iterator[Storm]:
    """A running server. gone: the share of songs that it lists and then does not know (error 6)."""
    context = multiprocessing.get_context("spawn")
    answered = context.Value("q", 0)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(songs, seed, gone, answered, theirs), daemon=True)
    process.start()
    try:
        yield Storm(*ours.recv(), answered, ours)
    finally:
        ours.send("end")
        process.join(10)
        process.kill()


def busiest_second(log: list[Request]) -> int:
    """The largest number of requests that arrived within any one second."""
    times = sorted(request.at for request in log)
    worst = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def answers_per_question(log: list[Request]) -> Counter[tuple[str, str]]:
    """How often each question was answered."""
    return Counter(request.question for request in log if request.outcome in ("ok", "6"))


def faults(log: list[Request]) -> dict[str, int]:
    """How often each fault struck."""
    count: defaultdict[str, int] = defaultdict(int)
    for request in log:
        count[request.outcome] += 1
    return dict(count)
