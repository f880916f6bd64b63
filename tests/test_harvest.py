"""A harvest of Last.fm through the command line: what it makes of the answers, and that it asks nothing twice."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import object_servers as stores
import pyarrow as pa
import pytest
from services import LastFm, Song

from mer_ray.io.rate_limit import per_second
from mer_ray.io.tables import Workspace
from mer_ray.io.track import Track
from mer_ray.sources import lastfm, lastfm_harvest, lastfm_listing, lastfm_tables
from mer_ray.sources.response_cache import ResponseCache
from mer_ray.stages import collect_lastfm as stage

SONGS = [Song(f"Artist {i}", f"Title {i}", (("soundtrack", 100 - i), ("mood", 40), ("rare", 3))) for i in range(6)]

ANY_RATE = 1000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastfm, "BACKOFF_S", 0.002)
    monkeypatch.setattr(lastfm, "MAX_BACKOFF_S", 0.01)
    monkeypatch.setenv("LASTFM_API_KEY", LastFm.key)

    def places(rate: float) -> dict[str, float | int]:
        """Each command waits a second for what the one before may have asked: not where no rate is meant."""
        return per_second(rate) | ({"hold_s": 0.0} if rate == ANY_RATE else {})

    monkeypatch.setattr(stage, "per_second", places)


@pytest.fixture
def service() -> Iterator[LastFm]:
    with LastFm(songs=list(SONGS)) as running:
        yield running


def options(service: LastFm, workspace: object, **settings: Any) -> list[str]:
    settings = {"source": "lastfm", "api_url": service.url, "requests_per_s": ANY_RATE, **settings}
    sets = [part for name, value in settings.items() for part in ("--set", f"collect.{name}={json.dumps(value)}")]
    return ["--workspace", str(workspace), *sets]


def titles(workspace: object) -> list[str]:
    """The tracks' titles, in the order of the table."""
    names: list[str] = Workspace(str(workspace)).read("tracks")["title"].to_pylist()
    return names


def questions(service: LastFm) -> Counter[tuple[str, ...]]:
    """How often each question was asked."""
    names = ("method", "tag", "page", "artist", "track")
    return Counter(tuple(call.params.get(name, "") for name in names) for call in service.calls)


def asked_tracks(service: LastFm) -> list[str]:
    """The titles that the server was asked for, sorted: several threads ask."""
    return sorted(call.params["track"] for call in service.calls if "track" in call.params)


def tables(workspace: Path) -> dict[str, bytes]:
    """The shards of ``tracks`` and ``merged``, byte for byte."""
    return {
        str(p.relative_to(workspace)): p.read_bytes() for t in ("tracks", "merged") for p in (workspace / t).glob("*")
    }


def timeless(workspace: Path) -> pa.Table:
    return Workspace(workspace).read("tracks").drop_columns(["fetched_at"])


def well(result: tuple[int, str, str]) -> str:
    """What a command printed that went well."""
    code, out, err = result
    assert code == 0, out + err
    return out


# what is wanted ---------------------------------------------------------------------------------------------------


def test_a_union_takes_the_top_of_each_tag(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    service.listings = {tag: [Song("Composer", f"{tag} {i}") for i in range(6)] for tag in ("film", "score")}
    well(mer_ray("collect", *options(service, tmp_path / "w", tag=["film", "score"], limit=6)))
    assert titles(tmp_path / "w") == ["film 0", "film 1", "score 0", "score 1", "film 2", "film 3"]

    well(mer_ray("collect", *options(service, tmp_path / "all", tag=["film", "score"])))
    assert sorted(titles(tmp_path / "all")) == sorted(f"{tag} {i}" for tag in ("film", "score") for i in range(6))


def test_a_union_goes_on_with_the_longer_listing(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    shared = Song("Composer", "shared")
    service.listings = {
        "film": [Song("Composer", f"film {i}") for i in range(9)],
        "score": [shared],
        "none": [],
    }
    service.listings["film"].append(shared)
    well(mer_ray("collect", *options(service, tmp_path / "w", tag=["film", "score", "none"])))
    assert titles(tmp_path / "w") == ["film 0", "film 1", "shared", *(f"film {i}" for i in range(2, 9))]
    assert questions(service)["track.getTopTags", "", "", "Composer", "shared"] == 1


def test_an_intersection_takes_what_every_tag_lists_under_any_of_its_names(service, mer_ray, tmp_path):
    both, other = Song("Composer", "Both"), Song("Guest", "Theirs")
    service.listings = {
        "film": [both, Song("Composer", "Film only"), other],
        "score": [Song("Composer", "Score only"), Song("Guest", "Theirs (2009 Remaster)"), both],
    }
    out = well(mer_ray("collect", *options(service, tmp_path / "w", tag=["film", "score"], combine="intersection")))
    assert titles(tmp_path / "w") == ["Both", "Theirs"]
    assert asked_tracks(service) == ["Both", "Theirs"]
    assert "1 other names" in out


def test_an_intersection_reads_on_until_its_limit_is_met(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    songs = [Song("Composer", str(i)) for i in range(12)]
    service.listings = {"film": songs, "score": songs[::-1]}
    set_up = options(service, tmp_path / "w", tag=["film", "score"], combine="intersection", limit=4)
    well(mer_ray("collect", *set_up))
    # After four pages of two from either end, 4..7 are in both; a wave may have gone a little further.
    assert sorted(titles(tmp_path / "w")) == ["4", "5", "6", "7"]
    assert 2 * 4 <= service.count("tag.getTopTracks") < 2 * 6


def test_an_intersection_keeps_two_films_of_one_title_apart(service, mer_ray, tmp_path):
    themes = [Song("Composer", f"Main Theme (From {film})") for film in ("Alpha", "Beta")]
    service.listings = {"film": [themes[0], SONGS[0]], "score": [themes[1], SONGS[0]]}
    well(mer_ray("collect", *options(service, tmp_path / "w", tag=["film", "score"], combine="intersection")))
    assert titles(tmp_path / "w") == ["Title 0"]


def test_light_tags_are_left_out(service, mer_ray, tmp_path):
    well(mer_ray("collect", *options(service, tmp_path / "w", min_tag_weight=40)))
    rows = Workspace(tmp_path / "w").read("tracks").to_pylist()
    assert [[tag["name"] for tag in row["tags"]] for row in rows] == [["soundtrack", "mood"]] * len(SONGS)
    assert service.count("track.getInfo") == 0
    assert [row["album"] for row in rows] == [None] * len(SONGS)


def test_tracks_on_which_the_tag_weighs_little_are_off_topic(service, mer_ray, tmp_path):
    service.songs.append(Song("Artist", "Bare", (("other", 100),)))
    service.songs.append(Song("Artist", "Spelt", (("  SoundTrack ", 97),)))
    well(mer_ray("collect", *options(service, tmp_path / "w", min_seed_weight=97)))
    assert titles(tmp_path / "w") == ["Title 0", "Title 1", "Title 2", "Title 3", "Spelt"]
    failed = Workspace(tmp_path / "w").failures("collect")
    assert {(f["reason"], f["transient"]) for f in failed} == {("off_topic", False)}
    assert sorted(f["message"] for f in failed) == [
        "Artist 4 – Title 4: the wanted tag weighs 96, under collect.min_seed_weight",
        "Artist 5 – Title 5: the wanted tag weighs 95, under collect.min_seed_weight",
        "Artist – Bare: the wanted tag weighs 0, under collect.min_seed_weight",
    ]


@pytest.mark.parametrize(("combine", "expected"), [("union", ["A", "B", "AB"]), ("intersection", ["AB"])])
def test_the_weight_that_counts_is_the_heaviest_of_a_union_and_the_lightest_of_an_intersection(
    service, mer_ray, tmp_path, combine, expected
):
    service.songs = [
        Song("X", "A", (("a", 90), ("b", 10))),
        Song("X", "B", (("a", 10), ("b", 90))),
        Song("X", "AB", (("a", 60), ("b", 50))),
        Song("X", "none", (("a", 49), ("b", 49))),
    ]
    wanted = {"tag": ["a", "b"], "combine": combine, "min_seed_weight": 50}
    well(mer_ray("collect", *options(service, tmp_path / "w", **wanted)))
    assert titles(tmp_path / "w") == expected


def test_details_bring_album_mbid_and_a_duration_in_seconds(service, mer_ray, tmp_path):
    mbid = "11111111-aaaa-4aaa-8aaa-111111111111"
    service.songs = [
        Song("A", "One", mbid=mbid, album="An Album & more", duration_ms=240_500),
        Song("A", "Two"),
        Song("A", "Three"),
    ]
    service.always = {"Three": "6"}
    well(mer_ray("collect", *options(service, tmp_path / "w", details=True)))
    one, two = Workspace(tmp_path / "w").read("tracks").to_pylist()
    assert (one["album"], one["mbid"], one["duration_s"]) == ("An Album & more", mbid, 240.5)
    # Where track.getInfo knows nothing, what the listing says stays.
    assert (two["album"], two["mbid"], two["duration_s"]) == (None, None, 215.0)
    assert questions(service)["track.getInfo", "", "", "A", "Three"] == 1


def test_other_names_of_a_track_are_merged_and_recorded(service, mer_ray, tmp_path):
    mbid = "11111111-aaaa-4aaa-8aaa-111111111111"
    service.songs = [
        Song("Hans Zimmer", "Time"),
        Song("Hans Zimmer", 'Time (From "Inception")', mbid=mbid),
        Song("HANS ZIMMER", "Time – 2010 Remaster"),
        Song("Hans Zimmer", "Time"),
        Song("Hans Zimmer", "Time (Live)"),
    ]
    out = well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert "2 other names" in out
    rows = Workspace(tmp_path / "w").read("tracks").to_pylist()
    assert [(row["title"], row["mbid"]) for row in rows] == [("Time", mbid), ("Time (Live)", None)]
    merged = Workspace(tmp_path / "w").read("merged").to_pylist()
    kept = rows[0]["track_id"]
    assert [(m["track_id"], m["artist"], m["title"], m["mbid"], m["rule"]) for m in merged] == [
        (kept, "Hans Zimmer", 'Time (From "Inception")', mbid, "film"),
        (kept, "HANS ZIMMER", "Time – 2010 Remaster", None, "remaster"),
    ]
    assert asked_tracks(service) == ["Time", "Time (Live)"]


# what fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [("6", "not_found"), ("7", "lastfm_error")])
def test_a_track_that_lastfm_refuses_is_asked_for_once_until_that_is_wanted(service, mer_ray, tmp_path, code, reason):
    service.always = {"Title 2": code}
    set_up = options(service, tmp_path / "w")

    def failures() -> list[tuple[str, bool, int]]:
        return [(f["reason"], f["transient"], f["attempts"]) for f in Workspace(tmp_path / "w").failures("collect")]

    well(mer_ray("collect", *set_up))
    assert failures() == [(reason, False, 1)]
    asked = questions(service)
    assert set(asked.values()) == {1}
    well(mer_ray("collect", *set_up))
    assert questions(service) == asked
    assert failures() == [(reason, False, 1)]

    service.calls.clear()
    well(mer_ray("collect", *set_up, "--retry-failed"))
    assert asked_tracks(service) == ["Title 2"]
    assert failures() == [(reason, False, 2)]

    service.always = {}
    well(mer_ray("collect", *set_up, "--retry-failed"))
    assert failures() == []
    assert titles(tmp_path / "w") == [song.title for song in SONGS]


def test_a_failure_that_may_pass_is_tried_again_by_the_next_run(service, mer_ray, tmp_path):
    service.always = {"Title 2": "29"}
    set_up = options(service, tmp_path / "w")
    for attempt in (1, 2):
        service.calls.clear()
        well(mer_ray("collect", *set_up))
        (failure,) = Workspace(tmp_path / "w").failures("collect")
        assert (failure["reason"], failure["transient"], failure["attempts"]) == ("lastfm_error", True, attempt)
        assert asked_tracks(service).count("Title 2") == lastfm.TRIES
    assert asked_tracks(service) == ["Title 2"] * lastfm.TRIES
    service.always = {}
    well(mer_ray("collect", *set_up))
    assert Workspace(tmp_path / "w").failures("collect") == []
    assert titles(tmp_path / "w") == [song.title for song in SONGS]


def test_a_service_that_fails_on_every_track_ends_the_run_and_keeps_what_came(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MAX_THREADS", 1)  # so that the tracks come in their order
    service.songs += [Song("A", f"bad {i}") for i in range(100)]
    service.always = {f"bad {i}": "29" for i in range(100)}
    set_up = options(service, tmp_path / "w")
    code, out, err = mer_ray("collect", *set_up)
    assert code == 2
    assert "10 tracks in a row" in err
    assert "error 29" in err
    assert len((out + err).strip().splitlines()) == 1
    tries = Counter(asked_tracks(service))
    assert lastfm_harvest.MAX_FAILED_IN_A_ROW <= sum(title.startswith("bad") for title in tries) < 50

    service.always = {}
    service.calls.clear()
    well(mer_ray("collect", *set_up))
    assert set(asked_tracks(service)) == {song.title for song in service.songs[len(SONGS) :]}
    assert titles(tmp_path / "w") == [song.title for song in service.songs]


def test_ten_losses_that_do_not_stand_in_a_row_end_nothing(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MAX_THREADS", 1)
    row = lastfm_harvest.MAX_FAILED_IN_A_ROW - 1
    names = [f"bad {i}" for i in range(row)] + ["unknown"] + [f"bad {i}" for i in range(row, 2 * row)] + ["good"]
    service.songs = [Song("A", name) for name in names]
    service.always = {name: "29" for name in names if name.startswith("bad")} | {"unknown": "6"}
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == ["good"]
    failed = Counter(f["reason"] for f in Workspace(tmp_path / "w").failures("collect"))
    assert failed == {"lastfm_error": 2 * row, "not_found": 1}


def test_tracks_that_fail_again_are_no_sign_of_a_service_that_is_down(service, mer_ray, tmp_path):
    names = [f"bad {i}" for i in range(lastfm_harvest.MAX_FAILED_IN_A_ROW + 2)]
    service.songs += [Song("A", name) for name in names]
    service.always = dict.fromkeys(names, "http 500")
    set_up = options(service, tmp_path / "w")
    code, _, err = mer_ray("collect", *set_up)  # so many in a row may well be Last.fm's fault
    assert code == 2
    assert "10 tracks in a row" in err
    well(mer_ray("collect", *set_up))  # those that failed then do not count now
    assert titles(tmp_path / "w") == [song.title for song in SONGS]
    failed = Workspace(tmp_path / "w").failures("collect")
    assert sorted(f["message"].split(":")[0] for f in failed) == sorted(f"A – {name}" for name in names)
    assert {f["reason"] for f in failed} == {"lastfm_error"}


# pages ------------------------------------------------------------------------------------------------------------


def failed_pages(workspace: object) -> list[tuple[str, int]]:
    """What the failures say of pages: the message's part about the page, and the attempts."""
    rows = [f for f in Workspace(str(workspace)).failures("collect") if f["reason"] == "page_unreachable"]
    assert all(f["transient"] for f in rows)
    return sorted(
        (re.search(r"(tag '.*', page \d+|page \d+ of tag '.*?')", f["message"])[0], f["attempts"]) for f in rows
    )


@pytest.fixture
def long_listing(service, monkeypatch):
    """Five pages of two tracks."""
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    service.songs += [Song(f"Artist {i}", f"Title {i}") for i in range(6, 10)]
    return [song.title for song in service.songs]


@pytest.mark.parametrize(("bad", "fault"), [(2, "http 500"), (5, "broken")])
def test_a_page_out_of_reach_is_a_failure_and_the_harvest_goes_on(
    service, mer_ray, tmp_path, long_listing, monkeypatch, bad, fault
):
    service.always = {f"page {bad}": fault}
    set_up = options(service, tmp_path / "w")
    there = long_listing[: 2 * bad - 2] + long_listing[2 * bad :]
    for attempt in (1, 2):
        service.calls.clear()
        out = well(mer_ray("collect", *set_up))
        assert titles(tmp_path / "w") == there
        assert failed_pages(tmp_path / "w") == [(f"tag 'soundtrack', page {bad}", attempt)]
        assert f"out of reach, with their tracks: page {bad} of 'soundtrack'; run" in out
    assert {call.params.get("page") for call in service.calls} == {str(bad)}

    asked = len(service.calls)
    monkeypatch.delenv("LASTFM_API_KEY")
    out = well(mer_ray("collect", "--offline", *set_up))
    assert len(service.calls) == asked
    assert titles(tmp_path / "w") == there
    assert failed_pages(tmp_path / "w") == [(f"tag 'soundtrack', page {bad}", 2)]  # it was not asked for
    assert f"out of reach, with their tracks: page {bad} of 'soundtrack'; run" in out
    monkeypatch.setenv("LASTFM_API_KEY", LastFm.key)

    service.always = {}
    assert "out of reach" not in well(mer_ray("collect", *set_up))
    assert titles(tmp_path / "w") == long_listing
    assert Workspace(tmp_path / "w").failures("collect") == []
    service.calls.clear()
    well(mer_ray("collect", *set_up))
    assert service.calls == []


def test_a_page_that_does_not_come_in_time_is_a_failure(service, mer_ray, tmp_path, long_listing, monkeypatch):
    monkeypatch.setattr(lastfm, "TRIES", 2)
    service.always = {"page 4": "stall"}
    well(mer_ray("collect", *options(service, tmp_path / "w", timeout_s=1)))
    assert titles(tmp_path / "w") == long_listing[:6] + long_listing[8:]
    assert failed_pages(tmp_path / "w") == [("tag 'soundtrack', page 4", 1)]


@pytest.mark.parametrize("bad", [[1], [1, 2, 5], [2, 3, 4, 5]])
def test_pages_out_of_reach_wherever_they_are(service, mer_ray, tmp_path, long_listing, bad):
    service.always = {f"page {number}": "http 500" for number in bad}
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == [t for i, t in enumerate(long_listing) if 1 + i // 2 not in bad]
    assert failed_pages(tmp_path / "w") == [(f"tag 'soundtrack', page {number}", 1) for number in bad]
    assert set(questions(service).values()) == {1, lastfm.TRIES}


def test_the_answers_alone_say_which_pages_are_missing(service, mer_ray, tmp_path, long_listing):
    service.always = {"page 1": "http 500", "page 3": "http 500"}
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    cache = str(tmp_path / "w" / "cache" / "lastfm")
    out = well(mer_ray("collect", "--offline", *options(service, tmp_path / "colleague", cache=cache)))
    assert "tracks: page 1 of 'soundtrack', page 3 of 'soundtrack'; run" in out
    assert tables(tmp_path / "colleague") == tables(tmp_path / "w")
    assert failed_pages(tmp_path / "colleague") == [
        ("page 1 of tag 'soundtrack'", 1),
        ("page 3 of tag 'soundtrack'", 1),
    ]


def test_a_limit_is_met_from_the_pages_that_there_are(service, mer_ray, tmp_path, long_listing):
    service.always = {"page 2": "http 500"}
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=5)))
    assert titles(tmp_path / "w") == [*long_listing[:2], *long_listing[4:7]]
    service.always = {}
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=5)))
    assert titles(tmp_path / "w") == long_listing[:5]
    assert Workspace(tmp_path / "w").failures("collect") == []


def test_a_tag_out_of_reach_leaves_the_others(service, mer_ray, tmp_path, long_listing):
    service.listings = {"film": service.songs[:5], "score": []}

    def fail(params: dict[str, str]) -> str:
        return "http 500" if params.get("tag") == "score" else ""

    service.fault_of = fail
    well(mer_ray("collect", *options(service, tmp_path / "w", tag=["score", "film"])))
    assert titles(tmp_path / "w") == long_listing[:5]
    assert failed_pages(tmp_path / "w") == [(f"tag 'score', page {number}", 1) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("fault", "flags", "said", "asked"),
    [
        ({"always": {"tag.getTopTracks": "8"}}, [], ["page 1 (error 8", "run again later"], 3 * lastfm.TRIES),
        ({"songs": []}, [], ["no track was collected"], 1),
        ({}, ["--offline"], ["holds no answers to this"], 0),
    ],
    ids=["out of service", "empty", "offline"],
)
def test_a_listing_that_does_not_come_takes_no_track_away(service, mer_ray, tmp_path, fault, flags, said, asked):
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    before = tables(tmp_path / "w")
    for file in (tmp_path / "w" / "cache" / "lastfm").iterdir():
        file.unlink()  # as the note on storage tells people to
    service.calls.clear()
    vars(service).update(fault)
    code, out, err = mer_ray("collect", *flags, *options(service, tmp_path / "w"))
    assert (code, len((out + err).strip().splitlines())) == (2, 1)
    assert all(text in err for text in said)
    assert len(service.calls) == asked
    assert tables(tmp_path / "w") == before


def test_after_ten_pages_in_a_row_no_more_are_asked_for(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 1)
    monkeypatch.setattr(stage, "MAX_THREADS", 1)
    service.songs = [Song("A", str(i)) for i in range(1, 61)]
    service.always = {f"page {n}": "http 500" for n in range(3, 61)}
    set_up = options(service, tmp_path / "w")
    out = well(mer_ray("collect", *set_up))
    assert titles(tmp_path / "w") == ["1", "2"]
    most = lastfm_harvest.MAX_FAILED_IN_A_ROW
    assert most <= len(failed_pages(tmp_path / "w")) <= most + 1  # one may be on its way
    assert f"page {3 + most} of 'soundtrack' was never asked for" in out

    service.always = {}
    well(mer_ray("collect", *set_up))
    assert titles(tmp_path / "w") == [song.title for song in service.songs]
    assert Workspace(tmp_path / "w").failures("collect") == []


@pytest.mark.parametrize(("pages", "fault", "times"), [((3, 5), "empty", 2), ((3, 5), "blank", 1), ((1,), "empty", 1)])
def test_a_page_that_is_empty_for_a_moment_is_asked_for_again(
    service, mer_ray, tmp_path, long_listing, pages, fault, times
):
    service.passing = {f"page {n}": [fault] * times for n in pages}
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == long_listing
    assert Workspace(tmp_path / "w").failures("collect") == []
    asked = questions(service)
    numbers = [asked["tag.getTopTracks", "soundtrack", str(n), "", ""] for n in range(1, 7)]
    assert numbers == [1 + times * (n in pages) for n in range(1, 6)] + [0]


class Crossed(LastFm):
    """Announces other numbers than it has."""

    pages, total = 2, 10

    def _listing(self, params: dict[str, str]) -> str:
        message = super()._listing(params)
        message = re.sub(r'totalPages="\d+"', f'totalPages="{self.pages}"', message, count=1)
        return re.sub(r'total="\d+"', f'total="{self.total}"', message, count=1)


@pytest.mark.parametrize(
    ("pages", "total", "asked"),
    [
        (2, 10, 5),  # as if counted for larger pages than it sends
        (2, 99, 6),
        (0, 0, 6),
        (5, 3, 5),
        (7, 14, 7 + 2 * 2),  # the two that are empty are asked for three times
    ],
)
def test_announcements_that_do_not_fit_lose_no_track(mer_ray, tmp_path, monkeypatch, pages, total, asked):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    with Crossed(songs=[Song("A", str(i)) for i in range(10)]) as service:
        service.pages, service.total = pages, total
        well(mer_ray("collect", *options(service, tmp_path / "w")))
        assert titles(tmp_path / "w") == [song.title for song in service.songs]
        assert service.count("tag.getTopTracks") == asked


def test_a_tag_that_had_no_track_is_looked_at_again(service, mer_ray, tmp_path):
    service.passing = {"page 1": ["blank"]}
    code, _, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 2
    assert "none is listed" in err
    assert len(service.calls) == 1
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == [song.title for song in SONGS]


def test_a_page_that_stays_empty_is_a_failure(service, mer_ray, tmp_path, long_listing):
    service.always = {"page 3": "blank"}
    set_up = options(service, tmp_path / "w")
    for attempt in (1, 2):
        service.calls.clear()
        out = well(mer_ray("collect", *set_up))
        assert titles(tmp_path / "w") == long_listing[:4] + long_listing[6:]
        assert failed_pages(tmp_path / "w") == [("page 3 of tag 'soundtrack'", attempt)]
        assert "tracks: page 3 of 'soundtrack'; run" in out
        asked = questions(service)["tag.getTopTracks", "soundtrack", "3", "", ""]
        assert asked == lastfm_listing.EMPTY_TRIES - (attempt > 1)  # an empty answer is there
    well(mer_ray("collect", "--offline", *set_up))
    assert failed_pages(tmp_path / "w") == [("page 3 of tag 'soundtrack'", 2)]
    assert titles(tmp_path / "w") == long_listing[:4] + long_listing[6:]
    service.always = {}
    well(mer_ray("collect", *set_up))
    assert titles(tmp_path / "w") == long_listing
    assert Workspace(tmp_path / "w").failures("collect") == []


def test_a_listing_that_has_become_shorter_ends_where_it_says_now(service, mer_ray, tmp_path, long_listing):
    shorter, whole = service.songs[:7], service.songs

    def shrink(params: dict[str, str]) -> str:
        service.songs = whole if params.get("page") == "1" else shorter
        return ""

    service.fault_of = shrink
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == long_listing[:7]
    assert Workspace(tmp_path / "w").failures("collect") == []
    assert service.count("tag.getTopTracks") == 5


def test_a_listing_that_lists_no_more_of_what_it_announces_ends(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 1)
    service.songs = [Song("A", str(i)) for i in range(1, 101)]
    service.always = {f"page {n}": "empty" for n in range(4, 101)}
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert titles(tmp_path / "w") == ["1", "2", "3"]
    assert len(failed_pages(tmp_path / "w")) == lastfm_listing.MAX_STALE_PAGES


# names that are no XML --------------------------------------------------------------------------------------------


def test_names_that_xml_forbids_cost_nothing_also_in_answers_that_were_kept_before(
    service, mer_ray, tmp_path, long_listing, monkeypatch
):
    service.songs[2] = Song("Composer", "Cue", (("mo~od", 100), ("x & y", 7)), album="Al~bum")
    service.songs[3] = Song("Comp~oser", "Cu~e", album="Album")
    service.raw = {"Composer": b"Com\x03poser", "Cue": b"C&#3;u&#xFFFE;e", "~": b"\xef\xbf\xbf&#0;", "&amp;": b"&"}
    set_up = options(service, tmp_path / "w", details=True)
    well(mer_ray("collect", *set_up))
    found = Workspace(tmp_path / "w").read("tracks").to_pylist()
    assert [row["title"] for row in found] == [*long_listing[:2], "Cue", *long_listing[4:]]
    assert (found[2]["artist"], found[2]["album"]) == ("Composer", "Album")
    assert [(t["name"], t["weight"]) for t in found[2]["tags"]] == [("mood", 100.0), ("x & y", 7.0)]
    assert Workspace(tmp_path / "w").failures("collect") == []
    assert set(questions(service).values()) == {1}

    cache = tmp_path / "w" / "cache" / "lastfm"
    assert any(b"\\u0003" in gzip.decompress(file.read_bytes()) for file in cache.iterdir())  # kept as it came
    monkeypatch.delenv("LASTFM_API_KEY")
    well(mer_ray("collect", "--offline", *options(service, tmp_path / "again", details=True, cache=str(cache))))
    assert tables(tmp_path / "again") == tables(tmp_path / "w")


@pytest.mark.parametrize("kept", ["no XML", '<lfm status="ok"><x/></lfm>'])
def test_kept_answers_that_are_none_are_as_good_as_absent(service, mer_ray, tmp_path, long_listing, kept):
    set_up = options(service, tmp_path / "w", details=True)
    well(mer_ray("collect", *set_up))
    before = timeless(tmp_path / "w")
    bad = Track("Artist 0", "Title 0")
    with ResponseCache(tmp_path / "w" / "cache" / "lastfm") as answers:
        for question in (lastfm.page_request("soundtrack", 2), lastfm.tags_request(bad)):
            answers.put(question, kept)
    out = well(mer_ray("collect", "--offline", *set_up))
    assert "tracks: page 2 of 'soundtrack'; run" in out
    assert titles(tmp_path / "w") == ["Title 1", *long_listing[4:]]
    failed = Workspace(tmp_path / "w").failures("collect")
    assert sorted(f["reason"] for f in failed) == ["not_asked", "page_unreachable"]
    well(mer_ray("collect", *set_up, "--retry-failed"))
    assert timeless(tmp_path / "w").equals(before)
    assert Workspace(tmp_path / "w").failures("collect") == []


def test_a_refused_key_ends_the_run_with_one_line(service, mer_ray, tmp_path):
    service.always = {"track.getTopTags": "10"}
    code, out, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 2
    assert "LASTFM_API_KEY" in err
    assert len((out + err).strip().splitlines()) == 1


def test_no_key_is_said_before_anything_is_asked_or_made(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.delenv("LASTFM_API_KEY")
    code, _, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 2
    assert "LASTFM_API_KEY" in err
    assert service.calls == []
    assert not (tmp_path / "w" / "tracks").exists()


def test_the_key_is_in_no_file(service, mer_ray, tmp_path):
    service.always = {"Title 1": "6", "Title 2": "7", "Title 3": "29"}  # the server echoes it
    out = well(mer_ray("collect", *options(service, tmp_path / "w")))
    files = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    texts = {path: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files}
    assert any(b"***" in text for path, text in texts.items() if path.suffix == ".gz")
    assert not [path for path, text in texts.items() if service.key.encode() in text]
    messages = [f["message"] for f in Workspace(tmp_path / "w").failures("collect")]
    assert len([m for m in messages if "***" in m]) == 3
    assert service.key not in out + "".join(messages)


# what is there already --------------------------------------------------------------------------------------------


def test_a_rerun_asks_nothing_and_rewrites_nothing(service, mer_ray, tmp_path):
    service.always = {"Title 2": "6"}
    service.songs += [Song("A", ""), Song("ARTIST 0", "Title 0")]
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    asked = len(service.calls)

    def state() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    out = well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert len(service.calls) == asked
    assert state() == before
    assert "nothing new" in out


def test_a_higher_limit_asks_for_the_new_tracks_only(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=3)))
    assert titles(tmp_path / "w") == ["Title 0", "Title 1", "Title 2"]
    service.calls.clear()
    out = well(mer_ray("collect", *options(service, tmp_path / "w", limit=5)))
    assert "2 new" in out
    assert titles(tmp_path / "w") == [f"Title {i}" for i in range(5)]
    assert asked_tracks(service) == ["Title 3", "Title 4"]
    assert [call.params["page"] for call in service.calls if "page" in call.params] == ["3"]

    service.calls.clear()
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=2)))
    assert titles(tmp_path / "w") == ["Title 0", "Title 1"]
    assert service.calls == []


@pytest.mark.parametrize(
    "change",
    [{"tag": "ost"}, {"min_tag_weight": 5}, {"min_seed_weight": 5}, {"details": True}, {"combine": "intersection"}],
    ids=str,
)
def test_other_settings_are_refused_before_anything_is_asked(service, mer_ray, tmp_path, change):
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=2)))
    before, asked = tables(tmp_path / "w"), len(service.calls)
    code, _, err = mer_ray("collect", *options(service, tmp_path / "w", limit=2, **change))
    assert code == 2
    assert f"collect.{next(iter(change))} was" in err
    assert len(service.calls) == asked
    assert tables(tmp_path / "w") == before


def test_the_answers_alone_make_the_same_tables_byte_for_byte(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 4)
    service.songs += [Song("ARTIST 1", "Title 1 - 2001 Remaster"), Song("A", ""), Song("A", "unknown")]
    service.always = {"unknown": "6"}
    well(mer_ray("collect", *options(service, tmp_path / "w", details=True)))
    service.__exit__(None, None, None)
    monkeypatch.delenv("LASTFM_API_KEY")
    set_up = options(service, tmp_path / "again", details=True, cache=str(tmp_path / "w" / "cache" / "lastfm"))
    well(mer_ray("collect", "--offline", *set_up))
    made = tables(tmp_path / "w")
    assert tables(tmp_path / "again") == made
    assert {name.split("/")[0] for name in made} == {"tracks", "merged"}
    assert not (tmp_path / "again" / "cache").exists()

    def failures(workspace: Path) -> list[tuple[str, str, str, bool]]:
        failed = Workspace(workspace).failures("collect")
        return sorted((f["track_id"], f["reason"], f["message"], f["transient"]) for f in failed)

    assert {reason for _, reason, _, _ in failures(tmp_path / "w")} == {"not_found", "malformed"}
    assert failures(tmp_path / "again") == failures(tmp_path / "w")


def test_offline_says_where_the_answers_end(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm, "PAGE_SIZE", 2)
    well(mer_ray("collect", *options(service, tmp_path / "w", limit=3)))
    asked = len(service.calls)
    out = well(mer_ray("collect", "--offline", *options(service, tmp_path / "w")))
    assert "page 3 of 'soundtrack' was never asked for" in out
    assert titles(tmp_path / "w") == ["Title 0", "Title 1", "Title 2"]
    (failure,) = Workspace(tmp_path / "w").failures("collect")
    assert (failure["reason"], failure["transient"]) == ("not_asked", True)
    assert "Title 3" in failure["message"]
    assert len(service.calls) == asked

    out = well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert "never asked" not in out
    assert titles(tmp_path / "w") == [song.title for song in SONGS]
    assert Workspace(tmp_path / "w").failures("collect") == []
    assert set(questions(service).values()) == {1}


@pytest.mark.parametrize("missing_bytes", [1, 30])
def test_a_run_that_was_killed_while_it_wrote_asks_for_that_answer_again(service, mer_ray, tmp_path, missing_bytes):
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    before = timeless(tmp_path / "w")
    (file,) = (tmp_path / "w" / "cache" / "lastfm").iterdir()
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        last = json.loads(list(lines)[-1])["asked"]
    os.truncate(file, file.stat().st_size - missing_bytes)
    service.calls.clear()
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert [{k: call.params[k] for k in last} for call in service.calls] == [last]
    assert timeless(tmp_path / "w").equals(before)

    service.calls.clear()
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert service.calls == []


def test_stopped_by_hand_and_continued(mer_ray, tmp_path):
    # Whoever starts this test in the background may have interrupts ignored, and a child would inherit that.
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from mer_ray.cli import main; main(sys.argv[1:])"
    )
    with LastFm(songs=[Song("A", f"{i}") for i in range(150)]) as service:
        set_up = options(service, tmp_path / "w", requests_per_s=50)
        command = [sys.executable, "-c", script, "collect", *set_up]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while len(service.calls) < 75:  # more than may be in flight: some answers were kept a second ago
                assert process.poll() is None, "it ended before it could be stopped"
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=240)
        assert process.returncode == 130, out + err
        assert err.strip().splitlines()[-1] == "mer-ray: stopped; the same command goes on from here"
        assert "Traceback" not in out + err
        assert not (tmp_path / "w" / "tracks").exists()
        answers = ResponseCache(tmp_path / "w" / "cache" / "lastfm")
        kept = {str(i) for i in range(150) if {"method": "track.getTopTags", "artist": "A", "track": str(i)} in answers}
        assert 0 < len(kept) < 150

        well(mer_ray("collect", *set_up))
        asked = Counter(asked_tracks(service))
        assert len(asked) == 150
        assert {asked[title] for title in kept} == {1}
        assert max(asked.values()) <= 2
        assert sum(asked.values()) - 150 <= stage.MAX_THREADS
        assert service.busiest_second() <= 50

        well(mer_ray("collect", *options(service, tmp_path / "clean")))
    assert timeless(tmp_path / "w").equals(timeless(tmp_path / "clean"))


def test_two_workspaces_share_a_cache(service, mer_ray, tmp_path):
    cache = str(tmp_path / "cache")
    well(mer_ray("collect", *options(service, tmp_path / "a", cache=cache, limit=4)))
    service.calls.clear()
    well(mer_ray("collect", *options(service, tmp_path / "b", cache=cache, min_tag_weight=10)))
    assert asked_tracks(service) == ["Title 4", "Title 5"]
    assert titles(tmp_path / "b") == [song.title for song in SONGS]


def test_an_answer_that_took_anothers_place_comes_into_the_tables(service, mer_ray, tmp_path):
    cache = str(tmp_path / "cache")
    service.always = {"Title 2": "6"}
    for name in ("a", "b"):
        well(mer_ray("collect", *options(service, tmp_path / name, cache=cache)))
    service.always = {}
    well(mer_ray("collect", *options(service, tmp_path / "a", cache=cache), "--retry-failed"))
    service.calls.clear()
    well(mer_ray("collect", *options(service, tmp_path / "b", cache=cache)))
    assert service.calls == []
    assert tables(tmp_path / "b") == tables(tmp_path / "a")
    assert titles(tmp_path / "b") == [song.title for song in SONGS]


def test_a_workspace_in_an_object_store_keeps_answers_and_tables_there(service, mer_ray):
    with stores.s3() as server:
        where = stores.uri_of(server, "w")
        well(mer_ray("collect", *options(service, where, limit=4)))
        assert titles(where) == [f"Title {i}" for i in range(4)]
        service.calls.clear()
        well(mer_ray("collect", *options(service, where)))
        assert asked_tracks(service) == ["Title 4", "Title 5"]
        assert titles(where) == [song.title for song in SONGS]


def test_tables_that_were_not_finished_are_made_once_more(service, mer_ray, tmp_path, monkeypatch):
    from mer_ray.io.tables import Workspace

    well(mer_ray("collect", *options(service, tmp_path / "w")))
    before = tables(tmp_path / "w")
    Workspace(tmp_path / "w").discard("tracks")

    def killed(self: Workspace, table: str, shards: object) -> None:
        if table == "merged":  # the tracks are there, the rest is not
            raise KeyboardInterrupt
        replace(self, table, shards)

    replace = Workspace.replace
    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "replace", killed)
        assert mer_ray("collect", *options(service, tmp_path / "w"))[0] == 130
    made = Workspace(tmp_path / "w").read_json("settings", "harvest.json")
    assert made is None
    well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert tables(tmp_path / "w") == before
    assert Workspace(tmp_path / "w").read_json("settings", "harvest.json") is not None


def test_settings_with_workers_are_valid_and_told_of(service, mer_ray, tmp_path):
    out = well(mer_ray("collect", *options(service, tmp_path / "w", workers=4)))
    assert "collect.workers has no effect" in out
    assert titles(tmp_path / "w") == [song.title for song in SONGS]


# how much is stored -----------------------------------------------------------------------------------------------


def test_what_is_stored_is_said_and_warned_of_near_what_lastfm_allows(service, mer_ray, tmp_path, monkeypatch):
    out = well(mer_ray("collect", *options(service, tmp_path / "w")))
    assert "7 answers of Last.fm kept in" in out
    assert "its terms allow" not in out

    kept_mb = ResponseCache(tmp_path / "w" / "cache" / "lastfm").size_bytes() / 1e6
    for allowed, warned in ((kept_mb / 0.79, False), (kept_mb / 0.81, True)):
        monkeypatch.setattr(lastfm_tables, "STORAGE_MB", allowed)
        out = well(mer_ray("collect", *options(service, tmp_path / "w")))
        assert ("its terms allow" in out) is warned


def test_too_much_is_warned_of_once_while_it_works(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(lastfm_tables, "STORAGE_MB", 1e-6)
    monkeypatch.setattr(stage, "CHECK_SIZE_EVERY", 2)
    code, _, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 0
    assert err.count("its terms allow") == 1
