"""Last.fm through the real pylast, against a server that speaks its wire format and misbehaves on demand."""

from __future__ import annotations

import gzip
import itertools
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from services import Call, LastFm, Song, closed_port, send

from mer_ray.errors import ConfigError, MerRayError, ServiceError, TrackError
from mer_ray.io.rate_limit import LocalLimiter, per_second
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources import lastfm, lastfm_harvest, lastfm_listing, lastfm_tables
from mer_ray.sources.lastfm_listing import PageAt, Wanted, listing
from mer_ray.sources.response_cache import ResponseCache

KEY = LastFm.key
SONGS = [Song(f"Artist {i}", f"Title {i}", (("soundtrack", 100), (f"mood {i}", 40), ("unused", 0))) for i in range(5)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "BACKOFF_S", 0.002)
    monkeypatch.setattr(lastfm, "MAX_BACKOFF_S", 0.01)
    monkeypatch.delenv("LASTFM_API_KEY", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def service() -> Iterator[LastFm]:
    with LastFm(songs=list(SONGS)) as running:
        yield running


def collect(service: LastFm, folder: Path, limit: int | None = None, **options: Any) -> list[SourceResult]:
    """What Last.fm says of "soundtrack", with one client and the answers in ``folder``."""
    options = {"api_url": service.url, "api_key": KEY, "timeout_s": 60.0, **options}
    wanted = Wanted(("soundtrack",), limit=limit)
    losses: dict[str, TrackError] = {}
    with ResponseCache(folder) as answers, lastfm.Client(**options) as client:

        def ask(pages: Sequence[PageAt]) -> None:
            for at in pages:
                with suppress(TrackError):
                    answers.put(lastfm.page_request(*at), client.listing(*at))

        listed = listing(wanted, answers, ask)
        for track, requests in lastfm_harvest.open_requests(listed, wanted, answers):
            try:
                for request in requests:
                    answers.put(request, client.about(track, request))
            except TrackError as error:
                losses[track.id] = error
        answers.reload()
        return [found for found, _ in lastfm_tables.tracks(listed, wanted, answers, losses)]


def only_tracks(found: list[SourceResult]) -> list[Track]:
    return [item for item in found if isinstance(item, Track)]


def failed(found: list[SourceResult]) -> list[tuple[str, str, bool]]:
    """(title, reason, transient) of each loss."""
    return [(item[0].title, item[1].reason, item[1].transient) for item in found if isinstance(item, tuple)]


def test_tracks_with_tags_and_weights(service: LastFm, tmp_path: Path) -> None:
    mbid = "11111111-aaaa-4aaa-8aaa-111111111111"
    odd = (("x", "many"), ("y", "nan"), ("z", -3), ("", 50), ("ok", "12"))
    service.songs = [
        Song("A", "One", (("epic", 100), ("sad", 7), ("zero", 0)), mbid),
        Song("A", "Two", odd),
        Song("A", "None", ()),
    ]
    assert collect(service, tmp_path) == [  # the artist has an mbid as well
        Track("A", "One", mbid=mbid, duration_s=215.0, tags=(("epic", 100.0), ("sad", 7.0))),
        Track("A", "Two", duration_s=215.0, tags=(("ok", 12.0),)),
        Track("A", "None", duration_s=215.0),
    ]


def test_requests_name_us_and_ask_through_pylast(service: LastFm, tmp_path: Path) -> None:
    collect(service, tmp_path, 1)
    listing, tags = service.calls
    assert listing.headers["user-agent"] == "mer-ray/0.1.0 (music emotion research; pylast)"
    assert listing.verb == "POST"
    assert listing.params == {
        "method": "tag.getTopTracks",
        "tag": "soundtrack",
        "page": "1",
        "limit": "100",
        "api_key": KEY,
    }
    assert tags.params == {"method": "track.getTopTags", "artist": "Artist 0", "track": "Title 0", "api_key": KEY}


def test_pages_limit_and_duplicates(service: LastFm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 4)
    again = Song("ARTIST 1", "Title  1")  # the same track by another spelling, on another page
    service.songs = [*SONGS, again, SONGS[0], *(Song("B", str(i)) for i in range(6))]
    found = only_tracks(collect(service, tmp_path / "all"))
    assert [track.title for track in found] == [*(song.title for song in SONGS), *map(str, range(6))]
    assert service.count("tag.getTopTracks") == 4
    assert service.count("track.getTopTags") == 11

    service.calls.clear()
    assert len(collect(service, tmp_path / "some", 6)) == 6
    assert [call.params["page"] for call in service.calls if "page" in call.params] == ["1", "2"]


def test_a_listing_that_repeats_itself_ends(service: LastFm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    service.songs = [SONGS[0], SONGS[1]] * 50
    assert len(collect(service, tmp_path)) == 2
    # After the first page, pages are requested by the batch.
    assert service.count("tag.getTopTracks") == 1 + lastfm_listing.MAX_BATCH
    assert lastfm_listing.MAX_STALE_PAGES < lastfm_listing.MAX_BATCH


def test_hostile_text_survives_as_text(service: LastFm, tmp_path: Path) -> None:
    names = [
        ("../../etc/passwd", "'; DROP TABLE tracks; --"),
        ("久石譲", "もののけ姫 “Main” <Theme> & more"),
        ("Ennio Morricone", 'Il buono, il brutto, il cattivo "titoli"'),
        ("שלום", "a/b\\c%00?x=1&method=track.love#z"),
        ("🎬", "=cmd|' /C calc'!A0 ${HOME} $(id) `id`"),
    ]
    service.songs = [Song(artist, title, (("日本 & <ö>", 9),)) for artist, title in names]
    found = only_tracks(collect(service, tmp_path))
    assert [(track.artist, track.title) for track in found] == names
    assert {track.tags for track in found} == {(("日本 & <ö>", 9.0),)}
    assert [(call.params["artist"], call.params["track"]) for call in service.calls[1:]] == names


@pytest.mark.parametrize(
    "fault", ["29", "8", "11", "16", "http 500", "http 503", "http 429", "broken", "html", "foreign"]
)
@pytest.mark.parametrize("method", ["tag.getTopTracks", "track.getTopTags"])
def test_passing_faults_are_tried_again(service: LastFm, tmp_path: Path, method: str, fault: str) -> None:
    service.script(method, fault, fault)
    assert len(only_tracks(collect(service, tmp_path, 2))) == 2
    assert service.count(method) == {"tag.getTopTracks": 3, "track.getTopTags": 4}[method]


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_an_answer_that_does_not_come_is_cut_off_and_tried_again(service: LastFm, tmp_path: Path, fault: str) -> None:
    service.script("track.getTopTags", fault)
    assert len(only_tracks(collect(service, tmp_path, 2, timeout_s=0.4))) == 2
    assert service.count("track.getTopTags") >= 3  # a third time where this machine was slow


@pytest.mark.parametrize("fault", ["http 429 1", "http 503 1"])
@pytest.mark.parametrize("method", ["tag.getTopTracks", "track.getTopTags"])
def test_a_server_that_asks_to_wait_is_not_asked_before(
    service: LastFm, tmp_path: Path, method: str, fault: str
) -> None:
    service.script(method, fault)
    assert len(only_tracks(collect(service, tmp_path, 1))) == 1
    first, second = [call.at for call in service.calls if call.params["method"] == method]
    assert second - first >= 1.0


def test_a_wait_is_for_once(service: LastFm, tmp_path: Path) -> None:
    service.script("track.getTopTags", "http 429 1")
    service.always = {"Title 0": "stall"}
    collect(service, tmp_path, 1, timeout_s=0.2)
    tries = [call.at for call in service.calls if "track" in call.params]
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(tries) == lastfm.TRIES
    assert pauses[0] >= 1.0
    assert min(pauses[1:]) < 1.0


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for(service: LastFm, tmp_path: Path) -> None:
    service.always = {"Title 1": f"http 429 {int(lastfm.MAX_RETRY_AFTER_S) + 1}"}
    assert failed(collect(service, tmp_path, 3)) == [("Title 1", "lastfm_error", True)]
    assert [call.params.get("track") for call in service.calls].count("Title 1") == 1

    service.always = {"tag.getTopTracks": "http 503 99999"}
    service.calls.clear()
    assert collect(service, tmp_path / "anew") == []
    assert [call.params["page"] for call in service.calls] == ["1", "2", "3"]


def test_a_mend_that_is_asked_for_in_an_error_for_good_is_not_waited_for(service: LastFm, tmp_path: Path) -> None:
    service.always = {"Title 0": "http 404 100"}
    assert failed(collect(service, tmp_path, 1)) == [("Title 0", "lastfm_error", True)]
    assert service.count("track.getTopTags") == 1


class Odd(LastFm):
    """Answers every question about a track with ``body``."""

    body = b""

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        if call.params["method"] == "tag.getTopTracks":
            super().respond(call, handler)
        else:
            send(handler, self.body, kind="text/xml")


@pytest.mark.parametrize(
    "body",
    [
        '<lfm status="ok"><toptags>' + "<a>" * 20_000 + "</a>" * 20_000 + "</toptags></lfm>",
        '<lfm status="ok"><tracks/></lfm>',
        '<x><lfm status="ok"><toptags/></lfm></x>',
        '<x><lfm status="failed"><error code="6">no such track</error></lfm></x>',
        '<lfm status="failed"><x><error code="6">no such track</error></x></lfm>',
        '<lfm status="failed"><error code="6"/></lfm>',
        '<lfm status="failed"><error>no code</error></lfm>',
        '<lfm status="failed"/>',
        "<lfm/>",
        "",
    ],
    ids=lambda body: body[:60],
)
def test_what_is_almost_an_answer_costs_the_track_and_is_not_kept(tmp_path: Path, body: str) -> None:
    with Odd(songs=SONGS[:1]) as service:
        service.body = body.encode()
        assert [title for title, _, _ in failed(collect(service, tmp_path))] == ["Title 0"]
    assert len(ResponseCache(tmp_path)) == 1  # the listing


def test_a_track_that_keeps_failing_is_lost_and_the_rest_is_not(service: LastFm, tmp_path: Path) -> None:
    service.songs.append(Song("Artist 5", "Title 5"))
    service.always = {"Title 1": "http 500", "Title 2": "6", "Title 3": "7", "Title 5": "http 403"}
    found = collect(service, tmp_path)
    assert failed(found) == [
        ("Title 1", "lastfm_error", True),
        ("Title 2", "not_found", False),
        ("Title 3", "lastfm_error", False),
        ("Title 5", "lastfm_error", True),
    ]
    assert [track.title for track in only_tracks(found)] == ["Title 0", "Title 4"]
    assert service.count("track.getTopTags") == 5 + lastfm.TRIES


@pytest.mark.parametrize("fault", ["8", "http 500", "http 502", "broken", "html", "foreign"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_page_that_keeps_failing_is_lost_for_now(service: LastFm, number: int, fault: str) -> None:
    service.always = {f"page {number}": fault}
    with lastfm.Client(service.url, api_key=KEY) as client:
        with pytest.raises(TrackError, match=f"does not list tag 'soundtrack', page {number} ") as caught:
            client.listing("soundtrack", number)
        assert (caught.value.reason, caught.value.transient) == ("page_unreachable", True)
        assert service.count("tag.getTopTracks") == lastfm.TRIES
        assert "tracks" in client.listing("soundtrack", 3)


@pytest.mark.parametrize("fault", ["6", "7", "http 400", "http 404"])
def test_a_page_that_is_refused_is_lost_and_the_first_one_names_the_setting(service: LastFm, fault: str) -> None:
    service.always = {"tag.getTopTracks": fault}
    with lastfm.Client(service.url, api_key=KEY) as client:
        with pytest.raises(TrackError, match="page 2 "):
            client.listing("soundtrack", 2)
        with pytest.raises(ServiceError, match=r"page 1 .*check collect\.(tag|api_url)"):
            client.listing("soundtrack", 1)
    assert len(service.calls) == 2


# What stands for a title in a response's bytes, and the title that it is; `test_lastfm_xml` has the others.
SENT = [(b"Ti\x03me", "Time"), (b"Ti&#x3;me", "Time"), (b"Ti & me", "Ti & me"), (b"Ti\xffme", "Ti\ufffdme")]


@pytest.mark.parametrize(("sent", "title"), SENT, ids=lambda part: repr(part))
def test_a_name_that_is_no_xml_costs_no_page(service: LastFm, tmp_path: Path, sent: bytes, title: str) -> None:
    service.songs = [Song("Hans Zimmer", title, ((f"a {title}", 9), ("epic", 7))), *SONGS]
    service.raw = {title.replace("&", "&amp;"): sent}
    found = only_tracks(collect(service, tmp_path))
    assert [track.title for track in found] == [title, *(song.title for song in SONGS)]
    assert found[0].tags == ((f"a {title}", 9.0), ("epic", 7.0))
    assert len(service.calls) == 1 + len(found)  # nothing was tried twice


def test_a_refusal_that_is_no_xml_is_a_refusal(service: LastFm, tmp_path: Path) -> None:
    service.always, service.raw = {"Title 1": "6"}, {"not found": b"n\x03t f&#3;und & \xff"}
    assert failed(collect(service, tmp_path)) == [("Title 1", "not_found", False)]
    assert service.count("track.getTopTags") == len(SONGS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_answers_in_another_encoding_than_they_claim(service: LastFm, tmp_path: Path, encoding: str) -> None:
    service.encoding, service.songs = encoding, [Song("久石譲", "Björk 🎬", (("日本", 9),))]
    (track,) = only_tracks(collect(service, tmp_path))
    assert (track.artist, track.title, track.tags) == ("久石譲", "Björk 🎬", (("日本", 9.0),))


@pytest.mark.parametrize(
    ("fault", "kind", "words"), [("10", ConfigError, "LASTFM_API_KEY"), ("26", ServiceError, "suspended")]
)
@pytest.mark.parametrize("method", ["tag.getTopTracks", "track.getTopTags"])
def test_a_refused_key_ends_the_run_at_once(
    service: LastFm, tmp_path: Path, method: str, fault: str, kind: type[MerRayError], words: str
) -> None:
    service.always = {method: fault}
    with pytest.raises(kind, match=words) as caught:
        collect(service, tmp_path)
    assert service.count(method) == 1
    assert "\n" not in str(caught.value)


def test_no_key_is_said_before_anything_is_asked(service: LastFm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTFM_API_KEY", " ")
    for call in (lastfm.key, lambda: lastfm.Client(service.url)):
        with pytest.raises(ConfigError, match=r"LASTFM_API_KEY.*https://www\.last\.fm/api/account/create"):
            call()
    assert service.calls == []
    monkeypatch.setenv("LASTFM_API_KEY", f"{KEY}\n")
    assert lastfm.key() == KEY


def test_the_key_is_in_no_message_no_log_and_no_answer(
    service: LastFm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = []
    service.songs = SONGS[:1]
    faults = ("10", "26", "7", "6", "29", "http 500", "http 404", "html", "foreign")
    with caplog.at_level(logging.DEBUG):
        for fault in faults:
            for method in ("tag.getTopTracks", "track.getTopTags"):
                service.always = {method: fault}
                try:
                    found = collect(service, tmp_path / f"{fault} {method}")
                    messages += [str(item[1]) for item in found if isinstance(item, tuple)]
                    with lastfm.Client(service.url, api_key=KEY) as client:
                        client.listing("soundtrack", 2)
                except (MerRayError, TrackError) as error:
                    messages += [str(error), repr(error)]
        service.always = {}
        collect(service, tmp_path / "well")
    kept = {file: gzip.decompress(file.read_bytes()).decode() for file in tmp_path.rglob("*.jsonl.gz")}
    assert len(messages) >= 2 * len(faults)
    assert "***" in "".join(messages)  # the test's server does echo it
    assert any("***" in text for text in kept.values())
    assert KEY not in "".join([*messages, *kept.values()])
    ours = [r.getMessage() for r in caplog.records if not (r.name == "pylast" and r.levelno == logging.DEBUG)]
    assert ours  # pylast tells its debug log the very answers, and so does an echoing server
    assert KEY not in "".join(ours)


def test_no_second_sees_more_requests_than_the_rate(service: LastFm, tmp_path: Path) -> None:
    service.songs = [Song("A", str(i)) for i in range(25)]
    service.always = {"3": "29", "7": "http 500"}  # their tries count as well
    limiter = LocalLimiter(**per_second(10.0))
    assert len(collect(service, tmp_path, slot=limiter.slot)) == 25
    assert len(service.calls) == 1 + 23 + 2 * lastfm.TRIES
    assert service.busiest_second() <= 10


def test_many_clients_together_keep_to_the_rate(service: LastFm, tmp_path: Path) -> None:
    service.songs = [Song("A", str(i)) for i in range(40)]
    limiter = LocalLimiter(**per_second(20.0))
    tracks = [Track("A", str(i)) for i in range(40)]

    def ask(client: lastfm.Client, track: Track) -> str:
        return client.about(track, lastfm.tags_request(track))

    def client() -> lastfm.Client:
        return lastfm.Client(service.url, limiter.slot, api_key=KEY)

    answers = dict(lastfm_harvest.in_threads(client, ask, tracks, 8))
    assert {track.title: f'track="{track.title}"' in str(text) for track, text in answers.items()} == {
        str(i): True for i in range(40)
    }
    assert len(service.calls) == 40
    assert service.busiest_second() <= 20


def test_the_environments_proxies_do_not_take_pylasts_requests(
    service: LastFm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The proxy is dead; were pylast's own request to go there, nothing would come back.
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,audioscrobbler.com")
    assert len(only_tracks(collect(service, tmp_path, 2))) == 2


def test_nobody_listens(service: LastFm, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"cannot be reached.*collect\.api_url"):
        collect(service, tmp_path, api_url=f"http://127.0.0.1:{closed_port()}/2.0/")


def test_a_server_that_is_gone_is_no_fault_of_the_track() -> None:
    track = Track("Artist 0", "Title 0")
    with (
        lastfm.Client(f"http://127.0.0.1:{closed_port()}/2.0/", api_key=KEY) as client,
        pytest.raises(ServiceError, match="cannot be reached"),
    ):
        client.about(track, lastfm.tags_request(track))


def test_no_such_host(service: LastFm, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"lastfm\.example\.invalid.* cannot be reached"):
        collect(service, tmp_path, api_url="https://lastfm.example.invalid/2.0/")


def test_a_host_that_swallows_connections(service: LastFm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(lastfm, "UNREACHABLE_AFTER_S", 1.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address, 1), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            start = time.monotonic()
            with pytest.raises(ServiceError, match="cannot be reached"):
                collect(service, tmp_path, api_url=f"http://127.0.0.1:{address[1]}/")
            assert time.monotonic() - start < 60  # eight tries at the usual limits would take two minutes


def test_one_connection_that_fails_after_a_long_wait_is_no_server_that_is_gone(
    service: LastFm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tries before reached the server: what they took says nothing of the network.
    waited_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + waited_s, sleep=time.sleep)
    monkeypatch.setattr(lastfm, "time", clock)
    track = Track("Artist 0", "Title 0")
    sent: list[str] = []

    def slot(name: str) -> AbstractContextManager[None]:
        nonlocal waited_s
        sent.append(name)
        if len(sent) == 3:
            raise httpx2.ConnectError("refused")
        waited_s += 3_600
        return nullcontext()

    service.script("track.getTopTags", "29", "29")
    with lastfm.Client(service.url, slot, api_key=KEY) as client:
        assert "mood 0" in client.about(track, lastfm.tags_request(track))
    assert len(sent) == 4


def test_a_wrong_path_names_the_setting(service: LastFm, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"HTTP 404.*collect\.api_url"):
        collect(service, tmp_path, api_url=service.url.replace("2.0", "3.0"))
    assert len(service.calls) == 1


@pytest.mark.parametrize("address", ["", "ws.audioscrobbler.com", "ftp://host/2.0/", "http://", "http://[::1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=r"collect\.api_url"):
        lastfm.Client(address, api_key=KEY)


def test_a_password_in_the_address_is_used_and_not_shown(
    service: LastFm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = service.url.replace("http://", "http://someone:sesame@")
    with caplog.at_level(logging.INFO):
        assert len(only_tracks(collect(service, tmp_path / "1", 1, api_url=address))) == 1
        service.always = {"tag.getTopTracks": "http 404"}
        with pytest.raises(ServiceError) as caught:
            collect(service, tmp_path / "2", 1, api_url=address)
    assert service.calls[0].headers["authorization"].startswith("Basic ")
    assert "sesame" not in str(caught.value) + caplog.text


def test_an_answer_without_end_is_not_swallowed_whole(
    service: LastFm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastfm, "MAX_RESPONSE_BYTES", 2_000)
    service.songs = [Song("A", "short"), Song("A", "long", tuple((f"tag {i}", 1) for i in range(100)))]
    found = collect(service, tmp_path)
    assert [track.title for track in only_tracks(found)] == ["short"]
    assert failed(found) == [("long", "lastfm_error", True)]


@pytest.mark.parametrize("key", ["a", "1", "rain", "lfm", "name", "0"])
def test_a_short_key_leaves_the_answers_as_they_are(tmp_path: Path, key: str) -> None:
    songs = [Song("Rain Man", "A rainy name 100", (("rain", 100), ("a name", 10)))]
    with LastFm(songs=songs) as server:
        server.key = key
        found = only_tracks(collect(server, tmp_path, 1, api_key=key))
    assert [(t.artist, t.title, dict(t.tags)) for t in found] == [
        ("Rain Man", "A rainy name 100", {"rain": 100.0, "a name": 10.0})
    ]


def test_an_address_that_an_answer_echoes_loses_its_key() -> None:
    asked = "http://x/2.0/?method=a&amp;api_key=0123abc&amp;api_sig=77&amp;tag=rain; api_key%3D0123abc%26tag"
    assert lastfm._without_keys(f'<a url="{asked}"/> {{"api_key": "0123abc"}} <api_key>0123abc</api_key>') == (
        '<a url="http://x/2.0/?method=a&amp;api_key=***&amp;api_sig=***&amp;tag=rain; api_key%3D***%26tag"/> '
        '{"api_key": "***"} <api_key>***</api_key>'
    )
    assert lastfm._without_keys("<name>api_key</name><name>The API key song</name>").count("***") == 0
