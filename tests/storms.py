"""A Last.fm in bad weather: thousands of tracks, and every kind of fault by seeded chance, in a process of its own.

    with storm(songs=9_000) as server: ... server.url, server.responses() ...; server.log() after the work

Whether a question fails, and how, follows from the seed, the question and how often it was asked before: the weather is
the same for every client, in whatever order it asks.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from services import LastFm, Song

PAGE = 50
KEY = LastFm.key
WEATHER = (("29", 0.05), ("http 500", 0.03), ("stall", 0.01), ("broken", 0.01), ("html", 0.01))
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
    """question: the method, and the page or the track. outcome: ``ok``, ``6`` or the fault."""

    question: tuple[str, str]
    outcome: str


class StormyLastFm(LastFm):
    """`LastFm` with pages of 50 whatever is asked for, and weather."""

    def __init__(self, n: int, seed: int, gone: float, responses: Any) -> None:
        super().__init__(songs=catalog(n, seed), fault_of=self._weather)
        self._by_name = {(song.artist, song.title): song for song in self.songs}
        self._seed, self._gone, self._responses = seed, gone, responses
        self._asked: Counter[tuple[str, str]] = Counter()
        self.requests: list[Request] = []

    def _weather(self, params: dict[str, str]) -> str:
        """The fault of a request, "" if none; called with the server's lock."""
        question = params["method"], params.get("track") or params["page"]
        self._asked[question] += 1
        drawn, outcome = chance(self._seed, question, self._asked[question]), "ok"
        for fault, share in WEATHER:
            if drawn < share:
                outcome = fault
                break
            drawn -= share
        if outcome == "ok" and "track" in params and chance(self._seed, "gone", params["track"]) < self._gone:
            outcome = "6"
        self.requests.append(Request(question, outcome))
        if outcome in ("ok", "6"):
            with self._responses.get_lock():
                self._responses.value += 1
        return outcome if outcome != "ok" else ""

    def _listing(self, params: dict[str, str]) -> str:
        return super()._listing({**params, "limit": str(PAGE)})

    def _song(self, params: dict[str, str]) -> Song:
        return self._by_name[params["artist"], params["track"]]


def _serve(n: int, seed: int, gone: float, responses: Any, pipe: Any) -> None:
    with StormyLastFm(n, seed, gone, responses) as server:
        pipe.send((server.url, len({(s.artist, s.title) for s in server.songs})))
        while pipe.recv() != "end":
            with server._lock:
                pipe.send((list(server.requests), [call.at for call in server.calls]))


class Storm:
    """url: the API's address. n_songs: how many different ones it lists."""

    def __init__(self, url: str, n_songs: int, responses: Any, pipe: Any) -> None:
        self.url, self.n_songs = url, n_songs
        self._count, self._pipe = responses, pipe

    def responses(self) -> int:
        """How many requests got their response so far."""
        return int(self._count.value)

    def log(self) -> tuple[list[Request], list[float]]:
        """All requests so far, and when they arrived, s."""
        self._pipe.send("log")
        log: tuple[list[Request], list[float]] = self._pipe.recv()
        return log


@contextmanager
def storm(songs: int, seed: int = 1, gone: float = 0.005) -> Iterator[Storm]:
    """A running server. gone: the share of songs that it lists and then does not know (error 6)."""
    context = multiprocessing.get_context("spawn")
    responses = context.Value("q", 0)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(songs, seed, gone, responses, theirs), daemon=True)
    process.start()
    try:
        yield Storm(*ours.recv(), responses, ours)
    finally:
        ours.send("end")
        process.join(10)
        process.kill()


def responses_per_question(log: list[Request]) -> Counter[tuple[str, str]]:
    """How many responses each question got."""
    return Counter(request.question for request in log if request.outcome in ("ok", "6"))
