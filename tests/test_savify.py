"""Audio through savify, spotipy and yt-dlp as they are, against stand-ins of Spotify and YouTube on loopback."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from parts import wait_until
from services import STALL_S, Spotify, Video, closed_port, wav_bytes
from sounds import decode

from mer_ray.audio import acquisition
from mer_ray.audio.decode import check
from mer_ray.audio.providers import Limits, load, savify
from mer_ray.config import AcquireConfig
from mer_ray.errors import ConfigError, TrackError
from mer_ray.io.tables import Workspace
from mer_ray.io.track import Track

AUDIO = wav_bytes(0.5)
SPOTIFY_ID = "4uLU6hMCjMI75M1A2tKUQC"
SECRET = "client-secret-for-tests"

CHILD = """
import json
import sys
from urllib.parse import urlencode

import spotipy
import yt_dlp
from spotipy.oauth2 import SpotifyClientCredentials

from mer_ray.audio.providers import savify_child

url = sys.argv[1]
YOUTUBE = "https://www.youtube.com"
SpotifyClientCredentials.OAUTH_TOKEN_URL = url + "/api/token"
of_spotipy = spotipy.Spotify.__init__
extract_info, urlopen = yt_dlp.YoutubeDL.extract_info, yt_dlp.YoutubeDL.urlopen


def at_home(self, *args, **kwargs):
    of_spotipy(self, *args, **kwargs)
    self.prefix = url + "/v1/"


def play_here(self, address, *args, **kwargs):  # a video's page and its player are not acted
    return extract_info(self, address.replace(YOUTUBE + "/watch?v=", url + "/watch/"), *args, **kwargs)


def open_here(self, request):
    if not isinstance(request, str) and request.url.startswith(YOUTUBE):
        asked = json.loads(request.data)["query"] if request.data else ""
        request.update(url=request.url.split("?")[0].replace(YOUTUBE, url) + "?" + urlencode({"asked": asked}))
    return urlopen(self, request)


spotipy.Spotify.__init__ = at_home
yt_dlp.YoutubeDL.extract_info, yt_dlp.YoutubeDL.urlopen = play_here, open_here
savify_child.main()
"""


@pytest.fixture
def spotify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Spotify]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", Spotify.client)
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for name in ("tmp", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "child.py").write_text(CHILD)
    catalog = {SPOTIFY_ID: ("Nobuo Uematsu", "Aerith's Theme")}
    with Spotify(catalog=catalog, videos={"": [Video("Aerith's Theme", AUDIO)]}) as running:
        yield running
    assert [p for p in (tmp_path / "tmp").rglob("*") if p.name != f"mer-ray-{os.getuid()}"] == []
    assert list((tmp_path / "here").iterdir()) == []  # no .cache with a token


def fetch(
    spotify: Spotify,
    path: Path,
    track: Track,
    timeout_s: float = 120.0,
    max_mb: float = 1.0,
    child: tuple[str, ...] = (),
) -> str | None:
    """The Spotify id. child: another command than the real child with the stand-ins."""
    (provider,) = load(["savify"], AcquireConfig())
    assert isinstance(provider, savify.Savify)
    provider.child = child or (sys.executable, str(path.parent / "child.py"), spotify.url)
    with tempfile.TemporaryDirectory() as folder:
        found = provider.get(track, Path(folder), Limits(timeout_s, max_mb, nullcontext))
        assert found is not None
        shutil.move(found.path, path)
    return found.spotify_id


def lose(spotify: Spotify, tmp_path: Path, track: Track, timeout_s: float = 120.0, max_mb: float = 1.0) -> TrackError:
    """The error of a fetch that must fail, and leave nothing behind."""
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x.mp3", track, timeout_s, max_mb)
    assert not (tmp_path / "x.mp3").exists()
    return caught.value


def pitch(path: Path) -> float:
    """The strongest frequency of a file, in hertz."""
    samples, rate = decode(path)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(power.argmax() * rate / (8 * len(samples)))


BY_ID = Track("Nobuo Uematsu", "Aerith's Theme", spotify_id=f"spotify:track:{SPOTIFY_ID}")
BY_NAME = Track("NOBUO Uematsu", "Aerith’s Theme (From “Final Fantasy VII”)")


@pytest.mark.parametrize("track", [BY_ID, BY_NAME], ids=["by id", "by search"])
def test_savify_brings_an_mp3(spotify: Spotify, tmp_path: Path, track: Track) -> None:
    assert fetch(spotify, tmp_path / "x.mp3", track) == SPOTIFY_ID
    assert (tmp_path / "x.mp3").read_bytes()[:3] in (b"ID3", b"\xff\xfb\x90")
    assert pitch(tmp_path / "x.mp3") == pytest.approx(440, abs=3)
    assert {p.name for p in tmp_path.iterdir()} == {"x.mp3", "tmp", "here", "child.py"}


def test_savify_with_names_that_no_disk_would_take(spotify: Spotify, tmp_path: Path) -> None:
    title = "-i /etc/passwd '\"$(id)\n../.. %(id)s " + "譲" * 100
    spotify.catalog[SPOTIFY_ID] = ("../../" + "久" * 100, title)
    spotify.videos = {"": [Video(title, AUDIO)]}
    fetch(spotify, tmp_path / "x.mp3", BY_ID)
    assert pitch(tmp_path / "x.mp3") == pytest.approx(440, abs=3)


@pytest.mark.parametrize(
    ("artist", "title"),
    [("久石譲", "人生のメリーゴーランド"), ('AC/DC "live"', "../What's / Up\\?"), ("Земфира", "П.М.М.Л")],
)
def test_names_in_any_script_and_with_any_sign_are_found(
    spotify: Spotify, tmp_path: Path, artist: str, title: str
) -> None:
    spotify.catalog = {"0" * 22: (artist, "Something else"), SPOTIFY_ID: (artist, title)}
    spotify.videos = {"": [Video(f"{artist} - {title} [HD]", AUDIO)]}
    assert fetch(spotify, tmp_path / "x.mp3", Track(artist, title)) == SPOTIFY_ID


def test_savify_finds_nothing(spotify: Spotify, tmp_path: Path) -> None:
    for track in (Track("Nobody", "Nothing"), Track("", "", spotify_id="0" * 22)):
        error = lose(spotify, tmp_path, track)
        assert (error.reason, error.transient) == ("not_found", False)
    spotify.videos = {}
    assert lose(spotify, tmp_path, BY_ID).reason == "not_found"


def test_the_best_of_spotifys_hits_is_taken(spotify: Spotify, tmp_path: Path) -> None:
    spotify.catalog = {
        "1" * 22: ("Piano Covers", "Aerith's Theme", 0.5),
        "2" * 22: ("Nobuo Uematsu", "Main Theme", 0.5),
        "3" * 22: ("Nobuo Uematsu", "Aerith's Theme", 300.0),
        "4" * 22: ("Orchestra / Nobuo Uematsu", "Aerith's Theme - 2009 Remaster", 2.0),
    }
    assert fetch(spotify, tmp_path / "x.mp3", Track("Nobuo Uematsu", "Aerith's Theme", duration_s=0.5)) == "4" * 22


def test_a_hit_that_is_not_alike_is_named_and_left(spotify: Spotify, tmp_path: Path) -> None:
    error = lose(spotify, tmp_path, Track("Nobuo Uematsu", "One-Winged Angel"))
    assert (error.reason, error.transient) == ("not_found", False)
    assert "Aerith's Theme" in error.message
    assert "similarity 0." in error.message
    assert not [call for call in spotify.calls if "youtubei" in call.path]


def test_the_video_that_fits_is_taken(spotify: Spotify, tmp_path: Path) -> None:
    spotify.catalog[SPOTIFY_ID] = ("Nobuo Uematsu", "Aerith's Theme", 6.0)
    spotify.videos = {
        "": [
            Video("Aerith's Theme 10 hours", wav_bytes(1.0, hz=200), 36_000),
            Video("Main Theme", wav_bytes(6.0, hz=300), 6),
            Video("Aerith's Theme - karaoke", wav_bytes(6.0, hz=350), 6),
            Video("Aerith's Theme", "403", 6),
            Video("Aerith's Theme (HQ)", wav_bytes(6.0, hz=500), 7, "Nobuo Uematsu"),
        ]
    }
    fetch(spotify, tmp_path / "x.mp3", BY_ID)
    assert pitch(tmp_path / "x.mp3") == pytest.approx(500, abs=3)


@pytest.mark.parametrize(
    ("video", "reason", "figures"),
    [
        (Video("Aerith's Theme", AUDIO, 93), "wrong_duration", ["93 s", "20 s"]),
        (Video("Aerith's Theme", AUDIO, None), "wrong_duration", ["lasts 0 s", "20 s"]),  # known once it is there
        (Video("Aerith's Theme", AUDIO, 20), "wrong_duration", ["lasts 0 s", "20 s"]),  # the listing lies
        (Video("Cooking with Bob", AUDIO, 20), "wrong_title", ["Cooking with Bob", "similarity 0."]),
    ],
)
def test_what_is_something_else_is_not_taken(
    spotify: Spotify, tmp_path: Path, video: Video, reason: str, figures: list[str]
) -> None:
    spotify.catalog[SPOTIFY_ID] = ("Nobuo Uematsu", "Aerith's Theme", 20.0)
    spotify.videos = {"": [video]}
    error = lose(spotify, tmp_path, BY_ID)
    assert (error.reason, error.transient) == (reason, False)
    assert all(figure in error.message for figure in figures), error.message


def test_the_tracks_own_duration_counts_where_spotify_says_none(spotify: Spotify, tmp_path: Path) -> None:
    track = Track("Nobuo Uematsu", "Aerith's Theme", duration_s=30.0)
    assert lose(spotify, tmp_path, track).reason == "wrong_duration"


def test_a_title_that_reads_as_an_address_is_searched_for(spotify: Spotify, tmp_path: Path) -> None:
    assert lose(spotify, tmp_path, Track("", f"https://open.spotify.com/album/{SPOTIFY_ID}")).reason == "not_found"
    assert [call.path for call in spotify.calls] == ["/api/token", "/v1/search"]


def test_savify_media_refused(spotify: Spotify, tmp_path: Path) -> None:
    spotify.videos = {"": [Video("Aerith's Theme", "403")] * 5}
    error = lose(spotify, tmp_path, BY_ID)
    assert (error.reason, error.transient) == ("savify_error", True)
    assert "403" in error.message
    assert 1 <= sum(call.path.startswith("/watch/") for call in spotify.calls) < 15  # savify alone would never stop


def test_savify_media_too_big(spotify: Spotify, tmp_path: Path) -> None:
    error = lose(spotify, tmp_path, BY_ID, max_mb=0.01)
    assert (error.reason, error.transient) == ("too_big", False)


def test_savify_is_ended_at_the_deadline(spotify: Spotify, tmp_path: Path) -> None:
    spotify.videos = {"": [Video("Aerith's Theme", "stall")]}
    start = time.monotonic()
    error = lose(spotify, tmp_path, BY_ID, timeout_s=8)
    assert time.monotonic() - start < STALL_S / 2
    assert (error.reason, error.transient) == ("timeout", True)


def test_the_whole_process_group_is_ended(spotify: Spotify, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child = ("sh", "-c", f"(while :; do echo alive >> '{trace}'; sleep 0.05; done) & wait")
    with pytest.raises(TrackError, match="timeout"):
        fetch(spotify, tmp_path / "x.mp3", BY_ID, 2.0, child=child)
    assert trace.stat().st_size > 0

    def still() -> bool:  # what was killed may end a moment later
        size = trace.stat().st_size
        time.sleep(0.3)
        return trace.stat().st_size == size

    wait_until(still)


def test_eight_at_once_do_not_disturb_each_other(spotify: Spotify, tmp_path: Path) -> None:
    faults = {1: ("403", "savify_error"), 4: ("", "wrong_title"), 7: ("long", "wrong_duration")}
    tracks = []
    for i in range(8):
        name, spotify_id = f"piece{i:02}", f"{i:022}"
        spotify.catalog[spotify_id] = ("Somebody", name, 2.0)
        fault = faults.get(i, (None, ""))[0]
        media = "403" if fault == "403" else wav_bytes(2.0, hz=300 + 40 * i)
        title = "another song" if fault == "" else name
        spotify.videos[name] = [Video(title, media, 90 if fault == "long" else 2)]
        tracks.append(Track("Somebody", name, spotify_id=spotify_id if i % 2 else None))
    del spotify.videos[""]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "child.py").write_text(CHILD)

    def get(i: int) -> str:
        try:
            return fetch(spotify, tmp_path / "out" / f"{i}.mp3", tracks[i], timeout_s=400)
        except TrackError as error:
            return error.reason

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(get, range(8)))
    assert outcomes == [faults[i][1] if i in faults else f"{i:022}" for i in range(8)]
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert made == {"child.py", *(f"{i}.mp3" for i in range(8) if i not in faults)}
    for i in set(range(8)) - set(faults):
        assert pitch(tmp_path / "out" / f"{i}.mp3") == pytest.approx(300 + 40 * i, abs=3)


def test_it_is_on_record_what_failed_before_and_which_track_it_is(
    spotify: Spotify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = (sys.executable, str(tmp_path / "child.py"), spotify.url)
    monkeypatch.setattr(savify.Savify, "child", child)
    workspace, asked = Workspace(tmp_path / "w"), []

    def slot(name: str) -> AbstractContextManager[None]:
        asked.append(name)
        return nullcontext()

    row = {"track_id": "1", "artist": "Nobuo Uematsu", "title": "Aerith's Theme", "spotify_id": None, "attempts": 0}
    row["again"] = False
    row |= {"duration_s": 0.5, "uri": str(tmp_path / "gone.flac")}
    keep = partial(acquisition.keep, workspace, check)
    made = acquisition.row(row, load(["uri", "folder", "savify"], AcquireConfig()), keep, Limits(120.0, 1.0, slot))
    assert (made["provider"], made["spotify_id"], asked) == ("savify", SPOTIFY_ID, ["savify"])
    assert [(t["provider"], t["reason"]) for t in made["tried"]] == [("file", "missing")]
    assert Path(made["uri"]).name == f"{made['sha256']}.mp3"
    workspace.append_rows("audio", [made])
    del made["again"]
    assert workspace.read("audio").to_pylist() == [made]

    failed = acquisition.row(
        row | {"title": "Else"}, load(["uri", "savify"], AcquireConfig()), keep, Limits(120.0, 1.0, nullcontext)
    )
    assert failed["reason"] == "no_audio"
    assert "file: missing (" in failed["message"]
    assert "savify: not_found (" in failed["message"]


# Spotify ----------------------------------------------------------------------------------------------------------


def test_spotify_out_of_reach(spotify: Spotify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x.mp3", BY_ID, child=savify.CHILD)
    assert (caught.value.reason, caught.value.transient) == ("savify_error", True)


def test_a_short_rate_limit_is_waited_for(spotify: Spotify, tmp_path: Path) -> None:
    spotify.limits = [1]
    assert fetch(spotify, tmp_path / "x.mp3", BY_ID) == SPOTIFY_ID
    first, second = (call for call in spotify.calls if call.path.startswith("/v1/"))
    assert second.at - first.at >= 1.0


def test_a_long_rate_limit_is_for_the_next_run(spotify: Spotify, tmp_path: Path) -> None:
    spotify.limits = [3_600]
    error = lose(spotify, tmp_path, BY_ID)
    assert (error.reason, error.transient) == ("rate_limited", True)
    assert sum(call.path.startswith("/v1/") for call in spotify.calls) == 1


def test_spotify_out_of_order(spotify: Spotify, tmp_path: Path) -> None:
    spotify.api_status = 503
    error = lose(spotify, tmp_path, BY_ID)
    assert (error.reason, error.transient) == ("savify_error", True)
    assert "503" in error.message
    assert 1 < sum(call.path.startswith("/v1/") for call in spotify.calls) < 10


@pytest.mark.parametrize("status", [0, 403])
def test_refused_credentials_end_the_stage(
    spotify: Spotify, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status:
        spotify.api_status = status
    else:
        monkeypatch.setenv("SPOTIPY_CLIENT_ID", "someone-else")
    with pytest.raises(ConfigError, match="SPOTIPY_CLIENT_ID and SPOTIPY_CLIENT_SECRET"):
        fetch(spotify, tmp_path / "x.mp3", BY_ID)


def test_a_child_that_crashes_says_its_last_line_without_secrets(spotify: Spotify, tmp_path: Path) -> None:
    code = "import os; print('first'); raise SystemExit('it broke with ' + os.environ['SPOTIPY_CLIENT_SECRET'])"
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x.mp3", BY_ID, child=(sys.executable, "-c", code))
    assert caught.value.reason == "savify_error"
    assert "it broke with ***" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "x")
    monkeypatch.delenv("SPOTIPY_CLIENT_SECRET", raising=False)
    (provider,) = load(["savify"], AcquireConfig())
    limits = Limits(20.0, 1.0, nullcontext)
    for call in (lambda: provider.check(AcquireConfig()), lambda: provider.get(BY_ID, tmp_path, limits)):
        with pytest.raises(ConfigError, match="SPOTIPY_CLIENT_SECRET not set"):
            call()


@pytest.mark.parametrize("spotify_id", ["x", "https://evil.example/track/" + SPOTIFY_ID, "../" + SPOTIFY_ID])
def test_a_spotify_id_that_is_none(spotify: Spotify, tmp_path: Path, spotify_id: str) -> None:
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x", Track("A", "B", spotify_id=spotify_id))
    assert caught.value.reason == "bad_spotify_id"
    assert spotify.calls == []


def test_an_ffmpeg_is_found_where_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = shutil.which("ffmpeg", path=savify._environment(tmp_path)["PATH"])
    assert found is not None
    assert os.access(found, os.X_OK)
