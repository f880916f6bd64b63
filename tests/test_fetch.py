"""Audio by HTTP and through savify, against servers on the loopback interface."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from services import Files, Spotify, closed_port, wav_bytes

from mer_ray.errors import ConfigError, TrackError, WorkspaceError
from mer_ray.sources import Track, http, savify

AUDIO = wav_bytes(0.5)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files(files={"a.wav": AUDIO}) as running:
        yield running


def lose(files: Files, path: Path, name: str = "a.wav", timeout_s: float = 20.0, max_mb: float = 1.0) -> TrackError:
    """The error of a fetch that must fail, and leave nothing behind."""
    start = time.monotonic()
    with pytest.raises(TrackError) as caught:
        http.fetch(f"{files.url}/{name}", path, timeout_s, max_mb)
    assert time.monotonic() - start < timeout_s + 3
    assert list(path.parent.iterdir()) == []
    return caught.value


# http -------------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole(files: Files, tmp_path: Path) -> None:
    target = tmp_path / "new" / "0123.wav"
    http.fetch(f"{files.url}/a.wav", target, 20, 1)
    assert target.read_bytes() == AUDIO
    assert [p.name for p in target.parent.iterdir()] == ["0123.wav"]
    assert files.calls[0].headers["user-agent"].startswith("mer-ray/")


def test_an_older_file_is_replaced(files: Files, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    http.fetch(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


@pytest.mark.parametrize(
    ("status", "transient"), [(400, False), (403, False), (404, False), (410, False), (429, True), (503, True)]
)
def test_refusals(files: Files, tmp_path: Path, status: int, transient: bool) -> None:
    files.faults = {"a.wav": [str(status)]}
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == (f"http_{status}", transient)
    assert len(files.calls) == (http.TRIES if transient else 1)


@pytest.mark.parametrize("fault", ["503", "429", "408", "close", "truncated", "503 0", "503 soon"])
def test_what_passes_is_tried_again(files: Files, tmp_path: Path, fault: str) -> None:
    files.faults = {"a.wav": [fault, fault, "ok"]}
    http.fetch(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    assert len(files.calls) == 3


def test_retry_after_is_kept_to_where_it_fits(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["503 1", "ok"]}
    http.fetch(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    first, second = files.calls
    assert second.at - first.at >= 1.0


def test_retry_after_beyond_the_deadline_ends_at_once(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["503 600"]}
    assert lose(files, tmp_path / "x").reason == "http_503"
    assert len(files.calls) == 1


def test_retry_after_reads_numbers_and_dates() -> None:
    assert http.retry_after_s({"retry-after": "7"}) == 7
    assert http.retry_after_s({"retry-after": formatdate(time.time() + 90, usegmt=True)}) == pytest.approx(90, abs=5)
    assert http.retry_after_s({"retry-after": formatdate(0, usegmt=True)}) == 0
    assert [http.retry_after_s({"retry-after": text}) for text in ("", "-1", "soon", "²")] == [None] * 4


@pytest.mark.parametrize("fault", ["stall", "drip", "drip headers"])
def test_a_slow_server_is_ended_at_the_deadline(files: Files, tmp_path: Path, fault: str) -> None:
    files.faults = {"a.wav": [fault]}
    error = lose(files, tmp_path / "x", timeout_s=0.6)
    assert (error.reason, error.transient) == ("timeout", True)


def test_a_body_without_end_is_ended_at_the_size_limit(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["unbounded"]}
    error = lose(files, tmp_path / "x", max_mb=0.5)
    assert (error.reason, error.transient) == ("too_big", False)


def test_a_body_that_says_it_is_too_big_is_not_read(files: Files, tmp_path: Path) -> None:
    files.files["a.wav"] = bytes(2_000_000)
    assert lose(files, tmp_path / "x").reason == "too_big"
    assert len(files.calls) == 1


def test_a_truncated_body(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["truncated"]}
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == ("truncated", True)


def test_an_empty_body(files: Files, tmp_path: Path) -> None:
    files.files["a.wav"] = b""
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == ("empty", False)


def test_redirects_are_followed(files: Files, tmp_path: Path) -> None:
    files.faults = {"b": ["-> /c"], "c": [f"-> {files.url}/a.wav"]}
    http.fetch(f"{files.url}/b", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/b"])
def test_redirects_that_lead_astray(files: Files, tmp_path: Path, target: str) -> None:
    files.faults = {"b": [f"-> {target}"]}
    error = lose(files, tmp_path / "x", "b")
    assert (error.reason, error.transient) == ("bad_url", False)


@pytest.mark.parametrize(
    "url", ["", "a.wav", "file:///etc/passwd", "ftp://host/a", "http://", "http://a:b:c/", "me:sesame@host/a"]
)
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(TrackError) as caught:
        http.fetch(url, tmp_path / "x", 5, 1)
    assert (caught.value.reason, caught.value.transient) == ("bad_url", False)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("host", [f"127.0.0.1:{closed_port()}", "nowhere.invalid"])
def test_nobody_there(tmp_path: Path, host: str) -> None:
    with pytest.raises(TrackError) as caught:
        http.fetch(f"http://{host}/a.wav", tmp_path / "x", 5, 1)
    assert (caught.value.reason, caught.value.transient) == ("unreachable", True)


@pytest.mark.parametrize("fault", ["ok", "404", "503", "truncated", "drip", "-> ftp://host/x"])
def test_secrets_in_an_address_are_used_and_not_shown(
    files: Files, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    files.faults = {"a.wav": [fault]}
    url = f"{files.url.replace('http://', 'http://me:sesame@')}/a.wav?token=geheim#s"
    said = ""
    with caplog.at_level(logging.INFO):
        try:
            http.fetch(url, tmp_path / "x", 0.5, 1)
        except TrackError as error:
            said = str(error)
            assert f"{files.url}/a.wav" in said
    assert files.calls[0].headers["authorization"].startswith("Basic ")
    assert files.calls[0].params["token"] == "geheim"
    for secret in ("sesame", "geheim"):
        assert secret not in said + caplog.text


def test_a_disk_that_refuses_ends_the_stage(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WorkspaceError, match="cannot write"):
        http.fetch(f"{files.url}/a.wav", tmp_path / "file" / "x", 20, 1)


# savify -----------------------------------------------------------------------------------------------------------

CHILD = """
import sys

import spotipy
import yt_dlp
from spotipy.oauth2 import SpotifyClientCredentials

from mer_ray.sources import savify_child

url = sys.argv[1]
SpotifyClientCredentials.OAUTH_TOKEN_URL = url + "/api/token"
of_spotipy = spotipy.Spotify.__init__
of_yt_dlp = yt_dlp.YoutubeDL.extract_info


def local(self, *args, **kwargs):
    of_spotipy(self, *args, **kwargs)
    self.prefix = url + "/v1/"


def extract_info(self, address, *args, **kwargs):
    assert address.startswith("ytsearch:"), address
    return of_yt_dlp(self, url + "/media", *args, **kwargs)


spotipy.Spotify.__init__ = local
yt_dlp.YoutubeDL.extract_info = extract_info
savify_child.main()
"""

SPOTIFY_ID = "4uLU6hMCjMI75M1A2tKUQC"
SECRET = "client-secret-for-tests"


@pytest.fixture
def spotify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Spotify]:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", Spotify.client)
    monkeypatch.setenv("SPOTIPY_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with Spotify(catalog={SPOTIFY_ID: ("Nobuo Uematsu", "Aerith's Theme")}, media=AUDIO) as running:
        yield running
    assert list((tmp_path / "tmp").glob("mer-ray-savify-*")) == []


def fetch(spotify: Spotify, path: Path, track: Track, timeout_s: float = 60.0, max_mb: float = 1.0) -> None:
    script = path.parent / "tmp" / "child.py"
    script.write_text(CHILD)
    savify.fetch(track, path, timeout_s, max_mb, child=(sys.executable, str(script), spotify.url))


BY_ID = Track("Nobuo Uematsu", "Aerith's Theme", spotify_id=f"spotify:track:{SPOTIFY_ID}")


@pytest.mark.parametrize("track", [BY_ID, Track("NOBUO Uematsu", "Aerith's Theme")], ids=["by id", "by search"])
def test_savify_brings_an_mp3(spotify: Spotify, tmp_path: Path, track: Track) -> None:
    before = set(Path().iterdir())
    fetch(spotify, tmp_path / "x.mp3", track)
    assert (tmp_path / "x.mp3").read_bytes()[:3] in (b"ID3", b"\xff\xfb\x90")
    assert len((tmp_path / "x.mp3").read_bytes()) > 1000
    assert {p.name for p in tmp_path.iterdir()} == {"x.mp3", "tmp"}
    assert set(Path().iterdir()) == before  # no .cache with a token


def test_savify_with_names_that_no_disk_would_take(spotify: Spotify, tmp_path: Path) -> None:
    spotify.catalog[SPOTIFY_ID] = ("../../" + "久" * 100, "-i /etc/passwd '\"$(id)\n" + "譲" * 100)
    fetch(spotify, tmp_path / "x.mp3", BY_ID)
    assert (tmp_path / "x.mp3").stat().st_size > 1000


def test_savify_finds_nothing(spotify: Spotify, tmp_path: Path) -> None:
    for track in (Track("Nobody", "Nothing"), Track("", "", spotify_id="0" * 22)):
        with pytest.raises(TrackError) as caught:
            fetch(spotify, tmp_path / "x.mp3", track)
        assert (caught.value.reason, caught.value.transient) == ("not_found", False)


def test_a_title_that_reads_as_an_address_is_searched_for(spotify: Spotify, tmp_path: Path) -> None:
    with pytest.raises(TrackError, match="not_found"):
        fetch(spotify, tmp_path / "x.mp3", Track("", f"https://open.spotify.com/album/{SPOTIFY_ID}"))
    assert [call.path for call in spotify.calls] == ["/api/token", "/v1/search"]


def test_savify_media_refused(spotify: Spotify, tmp_path: Path) -> None:
    spotify.media = "403"
    with pytest.raises(TrackError, match="403") as caught:
        fetch(spotify, tmp_path / "x.mp3", BY_ID)
    assert (caught.value.reason, caught.value.transient) == ("savify_error", True)
    assert sum(call.path == "/media" for call in spotify.calls) < 10  # savify alone would never stop


def test_savify_media_too_big(spotify: Spotify, tmp_path: Path) -> None:
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x.mp3", BY_ID, max_mb=0.01)
    assert (caught.value.reason, caught.value.transient) == ("too_big", False)


def test_savify_is_ended_at_the_deadline(spotify: Spotify, tmp_path: Path) -> None:
    spotify.media = "stall"
    start = time.monotonic()
    with pytest.raises(TrackError) as caught:
        fetch(spotify, tmp_path / "x.mp3", BY_ID, timeout_s=4)
    assert time.monotonic() - start < 12
    assert (caught.value.reason, caught.value.transient) == ("timeout", True)


def test_the_whole_process_group_is_ended(spotify: Spotify, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    child = ("sh", "-c", f"(while :; do echo alive >> '{trace}'; sleep 0.05; done) & wait")
    with pytest.raises(TrackError, match="timeout"):
        savify.fetch(BY_ID, tmp_path / "x.mp3", 0.5, 1, child=child)
    size = trace.stat().st_size
    assert size > 0
    time.sleep(0.3)
    assert trace.stat().st_size == size


def test_spotify_out_of_reach(spotify: Spotify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TrackError) as caught:
        savify.fetch(BY_ID, tmp_path / "x.mp3", 60, 1)  # the real child
    assert (caught.value.reason, caught.value.transient) == ("savify_error", True)


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
        savify.fetch(BY_ID, tmp_path / "x.mp3", 20, 1, child=(sys.executable, "-c", code))
    assert caught.value.reason == "savify_error"
    assert "it broke with ***" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPOTIPY_CLIENT_ID", "x")
    monkeypatch.delenv("SPOTIPY_CLIENT_SECRET", raising=False)
    for call in (savify.check, lambda: savify.fetch(BY_ID, tmp_path / "x", 5, 1)):
        with pytest.raises(ConfigError, match="SPOTIPY_CLIENT_SECRET not set"):
            call()


@pytest.mark.parametrize("spotify_id", ["x", "https://evil.example/track/" + SPOTIFY_ID, "../" + SPOTIFY_ID])
def test_a_spotify_id_that_is_none(spotify: Spotify, tmp_path: Path, spotify_id: str) -> None:
    with pytest.raises(TrackError) as caught:
        savify.fetch(Track("A", "B", spotify_id=spotify_id), tmp_path / "x", 5, 1)
    assert caught.value.reason == "bad_spotify_id"
    assert spotify.calls == []


def test_an_ffmpeg_is_found_where_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = shutil.which("ffmpeg", path=savify._environment(tmp_path)["PATH"])
    assert found is not None
    assert os.access(found, os.X_OK)
