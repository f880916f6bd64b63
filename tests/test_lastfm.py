"""Last.fm through the real pylast, against a server that speaks its wire format and misbehaves on demand."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from services import LastFm, Song, closed_port

from mer_ray.errors import ConfigError, MerRayError, ServiceError, TrackError
from mer_ray.sources import Found, Track, lastfm

KEY = LastFm.key
SONGS = [Song(f"Artist {i}", f"Title {i}", (("soundtrack", 100), (f"mood {i}", 40), ("unused", 0))) for i in range(5)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "BACKOFF_S", 0.002)
    monkeypatch.delenv("LASTFM_API_KEY", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def service() -> Iterator[LastFm]:
    with LastFm(songs=list(SONGS)) as running:
        yield running


def collect(service: LastFm, limit: int | None = None, **options: Any) -> list[Found]:
    options = {"api_key": KEY, "timeout_s": 5.0, **options}
    return list(lastfm.tracks("soundtrack", limit, service.url, 1000.0, **options))


def only_tracks(found: list[Found]) -> list[Track]:
    return [item for item in found if isinstance(item, Track)]


def lost(found: list[Found]) -> list[tuple[str, str, bool]]:
    """(title, reason, transient) of each loss."""
    return [(item[0].title, item[1].reason, item[1].transient) for item in found if isinstance(item, tuple)]


def test_tracks_with_tags_and_weights(service: LastFm) -> None:
    service.songs = [
        Song("A", "One", (("epic", 100), ("sad", 7), ("zero", 0)), mbid="11111111-aaaa-4aaa-8aaa-111111111111")
    ]
    assert collect(service) == [
        Track("A", "One", mbid="11111111-aaaa-4aaa-8aaa-111111111111", tags=(("epic", 100.0), ("sad", 7.0)))
    ]


def test_an_artists_mbid_is_not_the_tracks(service: LastFm) -> None:
    assert only_tracks(collect(service, 1))[0].mbid is None


def test_requests_name_us_and_ask_through_pylast(service: LastFm) -> None:
    collect(service, 1)
    listing, tags = service.calls
    assert listing.headers["user-agent"] == "mer-ray/0.1.0 (music emotion research; pylast)"
    assert listing.verb == "POST"
    assert (listing.params["method"], listing.params["tag"], listing.params["page"]) == (
        "tag.getTopTracks",
        "soundtrack",
        "1",
    )
    assert (tags.params["artist"], tags.params["track"]) == ("Artist 0", "Title 0")


def test_pages_limit_and_duplicates(service: LastFm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 4)
    again = Song("ARTIST 1", "Title  1")  # the same track by another spelling, on another page
    service.songs = [*SONGS, again, SONGS[0], *(Song("B", str(i)) for i in range(6))]
    found = only_tracks(collect(service))
    assert [track.title for track in found] == [*(song.title for song in SONGS), *map(str, range(6))]
    assert service.count("tag.getTopTracks") == 4
    assert service.count("track.getTopTags") == 11

    service.calls.clear()
    assert len(collect(service, 6)) == 6
    assert [call.params["page"] for call in service.calls if "page" in call.params] == ["1", "2"]


def test_a_listing_that_repeats_itself_ends(service: LastFm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    service.songs = [SONGS[0], SONGS[1]] * 50
    assert len(collect(service)) == 2
    assert service.count("tag.getTopTracks") == 1 + lastfm.MAX_STALE_PAGES


def test_duplicates_within_a_page_keep_the_listings_order(service: LastFm) -> None:
    service.songs = [SONGS[0], SONGS[1], SONGS[0], SONGS[2]]
    assert [track.title for track in only_tracks(collect(service))] == ["Title 0", "Title 1", "Title 2"]


def test_a_tag_without_tracks_yields_nothing(service: LastFm) -> None:
    service.songs = []
    assert collect(service) == []


def test_known_tracks_are_not_asked_for_and_count_towards_the_limit(service: LastFm) -> None:
    first = only_tracks(collect(service, 3))
    service.calls.clear()
    second = only_tracks(collect(service, 4, known=[track.id for track in first]))
    assert [track.title for track in second] == ["Title 3"]
    assert service.count("track.getTopTags") == 1


def test_a_track_without_tags_is_still_a_track(service: LastFm) -> None:
    service.songs = [Song("A", "One", ())]
    assert collect(service) == [Track("A", "One")]


def test_odd_weights_are_left_out(service: LastFm) -> None:
    service.songs = [Song("A", "One", (("x", "many"), ("y", "nan"), ("z", -3), ("", 50), ("ok", "12")))]
    assert only_tracks(collect(service))[0].tags == (("ok", 12.0),)


def test_hostile_text_survives_as_text(service: LastFm) -> None:
    names = [
        ("../../etc/passwd", "'; DROP TABLE tracks; --"),
        ("久石譲", "もののけ姫 “Main” <Theme> & more"),
        ("Ennio Morricone", 'Il buono, il brutto, il cattivo "titoli"'),
        ("שלום", "a/b\\c%00?x=1&method=track.love#z"),
        ("🎬", "=cmd|' /C calc'!A0 ${HOME} $(id) `id`"),
    ]
    service.songs = [Song(artist, title, (("日本 & <ö>", 9),)) for artist, title in names]
    found = only_tracks(collect(service))
    assert [(track.artist, track.title) for track in found] == names
    assert {track.tags for track in found} == {(("日本 & <ö>", 9.0),)}


def test_a_track_without_a_title_is_lost_and_named(service: LastFm) -> None:
    service.songs = [Song("A", ""), SONGS[0]]
    found = collect(service)
    assert lost(found) == [("", "malformed", False)]
    assert len(only_tracks(found)) == 1


@pytest.mark.parametrize(
    "fault", ["29", "8", "11", "16", "http 500", "http 503", "http 429", "broken", "html", "foreign"]
)
@pytest.mark.parametrize("method", ["tag.getTopTracks", "track.getTopTags"])
def test_passing_faults_are_tried_again(service: LastFm, method: str, fault: str) -> None:
    service.script(method, fault, fault)
    assert len(only_tracks(collect(service, 2))) == 2
    assert service.count(method) == {"tag.getTopTracks": 3, "track.getTopTags": 4}[method]


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_an_answer_that_does_not_come_is_cut_off_and_tried_again(service: LastFm, fault: str) -> None:
    service.script("track.getTopTags", fault)
    assert len(only_tracks(collect(service, 2, timeout_s=0.4))) == 2
    assert service.count("track.getTopTags") == 3


def test_text_that_is_not_utf8_costs_no_run(service: LastFm) -> None:
    service.script("track.getTopTags", "latin1")
    assert len(only_tracks(collect(service, 2))) == 2


def test_a_track_that_keeps_failing_is_lost_and_the_rest_is_not(service: LastFm) -> None:
    service.songs.append(Song("Artist 5", "Title 5"))
    service.always = {"Title 1": "http 500", "Title 2": "6", "Title 3": "7", "Title 5": "http 403"}
    found = collect(service)
    assert lost(found) == [
        ("Title 1", "lastfm_error", True),
        ("Title 2", "not_found", False),
        ("Title 3", "lastfm_error", False),
        ("Title 5", "lastfm_error", True),
    ]
    assert [track.title for track in only_tracks(found)] == ["Title 0", "Title 4"]
    assert service.count("track.getTopTags") == 5 + lastfm.TRIES


def test_a_service_that_fails_on_every_track_ends_the_run(service: LastFm) -> None:
    service.songs = [Song("A", str(i)) for i in range(30)]
    service.always = {"track.getTopTags": "29"}
    found: list[Found] = []
    with pytest.raises(ServiceError, match="tracks in a row"):
        found.extend(lastfm.tracks("soundtrack", None, service.url, 1000.0, api_key=KEY))
    assert service.count("track.getTopTags") == lastfm.MAX_LOST_IN_A_ROW * lastfm.TRIES


def test_a_page_that_keeps_failing_ends_the_run(service: LastFm) -> None:
    service.always = {"tag.getTopTracks": "8"}
    with pytest.raises(ServiceError, match=r"page 1 .*error 8"):
        collect(service)
    assert service.count("tag.getTopTracks") == lastfm.TRIES


@pytest.mark.parametrize(
    ("fault", "kind", "words"), [("10", ConfigError, "LASTFM_API_KEY"), ("26", ServiceError, "suspended")]
)
@pytest.mark.parametrize("method", ["tag.getTopTracks", "track.getTopTags"])
def test_a_refused_key_ends_the_run_at_once(
    service: LastFm, method: str, fault: str, kind: type[MerRayError], words: str
) -> None:
    service.always = {method: fault}
    with pytest.raises(kind, match=words) as caught:
        collect(service)
    assert service.count(method) == 1
    assert "\n" not in str(caught.value)


def test_no_key_is_said_before_anything_is_asked(service: LastFm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTFM_API_KEY", " ")
    for call in (lastfm.check, lambda: lastfm.tracks("soundtrack", None, service.url, 5.0)):
        with pytest.raises(ConfigError, match=r"LASTFM_API_KEY.*https://www\.last\.fm/api/account/create"):
            call()
    assert service.calls == []


def test_the_key_comes_from_the_environment(service: LastFm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTFM_API_KEY", f"{KEY}\n")
    assert len(list(lastfm.tracks("soundtrack", 1, service.url, 1000.0))) == 1


def test_the_key_is_in_no_message_and_no_log(service: LastFm, caplog: pytest.LogCaptureFixture) -> None:
    messages = []
    service.songs = SONGS[:1]
    with caplog.at_level(logging.INFO):
        for fault in ("10", "26", "7", "29", "http 500", "http 404", "html", "foreign"):
            for method in ("tag.getTopTracks", "track.getTopTags"):
                service.always = {method: fault}
                try:
                    messages += [str(item[1]) for item in collect(service) if isinstance(item, tuple)]
                except MerRayError as error:
                    messages += [str(error), repr(error)]
        service.always = {}
        collect(service)
    assert len(messages) > 10
    assert "***" in "".join(messages)  # the test's server does echo it
    assert KEY not in "".join(messages)
    assert KEY not in caplog.text


def test_requests_keep_to_the_rate_without_bursts(service: LastFm) -> None:
    service.songs = [Song("A", str(i)) for i in range(25)]
    assert len(list(lastfm.tracks("soundtrack", None, service.url, 10.0, api_key=KEY))) == 25
    assert service.busiest_second() <= 10 + 2  # both ends of the second, and one that the machine delivered late


def test_retries_keep_to_the_rate_too(service: LastFm) -> None:
    service.always = {f"Title {i}": "29" for i in range(5)}
    collected = list(lastfm.tracks("soundtrack", 4, service.url, 10.0, api_key=KEY))
    assert len(collected) == 4
    assert service.count("track.getTopTags") == 4 * lastfm.TRIES
    assert service.busiest_second() <= 10 + 2


def test_progress_counts_every_track(service: LastFm) -> None:
    seen: list[tuple[int, int | None]] = []
    known = [Track("Artist 0", "Title 0").id]
    collect(service, 3, known=known, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_environments_proxies_do_not_take_pylasts_requests(
    service: LastFm, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The proxy is dead; were pylast's own request to go there, nothing would come back.
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,audioscrobbler.com")
    assert len(only_tracks(collect(service, 2))) == 2


def test_nobody_listens() -> None:
    with pytest.raises(ServiceError, match=r"cannot be reached.*collect\.api_url"):
        list(lastfm.tracks("x", None, f"http://127.0.0.1:{closed_port()}/2.0/", 1000.0, api_key=KEY))


def test_no_such_host() -> None:
    with pytest.raises(ServiceError, match=r"lastfm\.example\.invalid.* cannot be reached"):
        list(lastfm.tracks("x", None, "https://lastfm.example.invalid/2.0/", 1000.0, api_key=KEY))


def test_a_host_that_swallows_connections(monkeypatch: pytest.MonkeyPatch) -> None:
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
                list(lastfm.tracks("x", None, f"http://127.0.0.1:{address[1]}/", 1000.0, api_key=KEY))
            assert time.monotonic() - start < 10


def test_a_wrong_path_names_the_setting(service: LastFm) -> None:
    with pytest.raises(ServiceError, match=r"HTTP 404.*collect\.api_url"):
        list(lastfm.tracks("x", None, service.url.replace("2.0", "3.0"), 1000.0, api_key=KEY))
    assert len(service.calls) == 1


@pytest.mark.parametrize("address", ["", "ws.audioscrobbler.com", "ftp://host/2.0/", "http://", "http://[::1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match=r"collect\.api_url"):
        lastfm.tracks("x", None, address, 5.0, api_key=KEY)


def test_a_password_in_the_address_is_used_and_not_shown(
    service: LastFm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = service.url.replace("http://", "http://someone:sesame@")
    with caplog.at_level(logging.INFO):
        assert len(list(lastfm.tracks("x", 1, address, 1000.0, api_key=KEY))) == 1
        service.always = {"tag.getTopTracks": "http 404"}
        with pytest.raises(ServiceError) as caught:
            list(lastfm.tracks("x", 1, address, 1000.0, api_key=KEY))
    assert service.calls[0].headers["authorization"].startswith("Basic ")
    assert "sesame" not in str(caught.value) + caplog.text


def test_losses_cross_process_borders() -> None:
    import pickle

    error = TrackError("lastfm_error", "A – B: error 8", transient=True)
    track, again = pickle.loads(pickle.dumps((Track("A", "B"), error)))
    assert (track.id, again.transient, str(again)) == (Track("A", "B").id, True, str(error))
