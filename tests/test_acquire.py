"""Providers in their order, what is kept of what they bring, and what is recorded of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fsspec
import pytest
import sounds
from parts import sets
from services import Files, closed_port, wav_bytes

from mer_ray.audio import acquisition, providers
from mer_ray.audio.decode import check
from mer_ray.audio.providers import Limits, Provider, music_folder
from mer_ray.audio.providers.fetch import Keep, fetch
from mer_ray.config import AcquireConfig
from mer_ray.errors import TrackError
from mer_ray.io import http
from mer_ray.io.identity import digest, file_digest
from mer_ray.io.tables import Workspace
from mer_ray.io.track import Track

AUDIO = wav_bytes(0.5)
LIMITS = Limits(20.0, 1.0, http.unlimited)
ALL = ["uri", "folder"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture
def keep(workspace: Workspace) -> Keep:
    return partial(acquisition.keep, workspace, check)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files(files={"a.wav": AUDIO, "page.mp3": b"<html>not here</html>" * 50}) as running:
        yield running


def media(workspace: Workspace) -> list[Path]:
    return [p for p in Path(workspace.path("media")).rglob("*") if p.is_file()]


def load(names: list[str], folder: dict[str, str] | None = None) -> list[Provider]:
    """folder: a track's id → its file, for the provider ``folder``."""
    loaded = providers.load(names, AcquireConfig(allow_private=True))
    for provider in loaded:
        if isinstance(provider, music_folder.MusicFolder):
            provider._index = {key: [music_folder.Entry("", "", "", uri)] for key, uri in (folder or {}).items()}
    return loaded


def row(track: Track, keep: Keep, names: list[str], folder: dict[str, str] | None = None) -> dict[str, object]:
    """What acquire would commit for a track."""
    known = {k: getattr(track, k) for k in ("artist", "title", "spotify_id", "duration_s", "uri")}
    asked = known | {"track_id": track.id, "attempts": 0, "again": False}
    return acquisition.row(asked, load(names, folder), keep, LIMITS)


def test_the_next_provider_is_asked_and_the_failure_is_on_record(tmp_path: Path, keep: Keep, files: Files) -> None:
    song = sounds.write(tmp_path / "music" / "x.wav", sounds.tone(seconds=0.5))
    for name, reason in ("none.wav", "http_404"), ("page.mp3", "corrupt"):
        track = Track("A", "T", uri=f"{files.url}/{name}?token=geheim")
        made = row(track, keep, ALL, {track.id: str(song)})
        assert (made["provider"], made["uri"]) == ("folder", str(song))
        (tried,) = made["tried"]
        assert (tried["provider"], tried["reason"]) == ("http", reason)
        assert f"{files.url}/{name}" in tried["message"]
        assert "geheim" not in tried["message"]


def test_the_order_is_as_it_is_said(tmp_path: Path, keep: Keep, files: Files) -> None:
    song = sounds.write(tmp_path / "music" / "x.wav", sounds.tone(seconds=0.5))
    track = Track("A", "T", uri=f"{files.url}/a.wav")
    made = row(track, keep, ["folder", "uri"], {track.id: str(song)})
    assert (made["provider"], made["tried"]) == ("folder", [])
    assert files.calls == []
    assert row(track, keep, ["folder", "uri"])["provider"] == "http"


def test_where_all_fail_each_is_named(tmp_path: Path, keep: Keep, files: Files) -> None:
    broken = sounds.text(tmp_path / "x.mp3")
    track = Track("A", "T", uri=f"http://127.0.0.1:{closed_port()}/a.wav")
    failed_rows = row(track, keep, ALL, {track.id: str(broken)})
    assert (failed_rows["reason"], failed_rows["transient"]) == ("no_audio", True)  # the server may come back
    assert "http: unreachable (" in failed_rows["message"]
    assert "folder: corrupt (" in failed_rows["message"]
    failed_rows = row(Track("A", "T", uri=f"{files.url}/none.wav"), keep, ALL)
    assert (failed_rows["reason"], failed_rows["transient"]) == ("http_404", False)
    failed_rows = row(Track("A", "T"), keep, ALL)
    assert (failed_rows["reason"], failed_rows["transient"]) == ("no_audio", False)
    assert "no provider of uri, folder has it" in failed_rows["message"]


def test_files_that_this_machine_does_not_see_are_missing_and_nobody_else_is_asked_yet(tmp_path: Path, keep: Keep):
    """On a machine without the music's mount. The next provider may have another recording."""
    hidden = tmp_path / "mount" / "a.flac"
    track = Track("A", "T", uri=str(hidden))
    found = row(track, keep, ALL, {track.id: str(hidden)})
    assert (found["reason"], "file: missing (" in found["message"]) == ("missing", True)
    assert "folder: missing (" in found["message"]
    other = sounds.write(tmp_path / "other.flac", sounds.tone())
    with pytest.raises(TrackError, match="missing"):
        fetch(track, load(ALL, {track.id: str(other)}), keep, LIMITS, final=False)
    assert fetch(track, load(ALL, {track.id: str(other)}), keep, LIMITS).provider == "folder"


def test_the_same_bytes_are_kept_once(workspace: Workspace, keep: Keep, files: Files) -> None:
    files.files |= {f"{i}.mp3": AUDIO for i in range(8)}
    tracks = [Track("A", str(i), uri=f"{files.url}/{i}.mp3") for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda track: fetch(track, load(ALL), keep, LIMITS), tracks))
    sha256 = digest(AUDIO)
    (path,) = media(workspace)
    assert path == Path(workspace.path("media", sha256[:2], f"{sha256}.wav"))  # what it is, not what it was called
    assert {(m.file.uri, m.file.sha256, m.provider) for m in made} == {(str(path), sha256, "http")}
    assert path.read_bytes() == AUDIO
    assert list(Path(workspace.path(".tmp")).iterdir()) == []


def test_what_was_left_half_is_written_again(workspace: Workspace, keep: Keep, files: Files) -> None:
    sha256 = digest(AUDIO)
    path = Path(workspace.path("media", sha256[:2], f"{sha256}.wav"))
    path.parent.mkdir(parents=True)
    path.write_bytes(AUDIO[:100])
    fetch(Track("A", "T", uri=f"{files.url}/a.wav"), load(ALL), keep, LIMITS)
    assert path.read_bytes() == AUDIO


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".aiff"])
def test_the_name_says_what_the_file_is(
    workspace: Workspace, keep: Keep, files: Files, suffix: str, tmp_path: Path
) -> None:
    files.files["song"] = sounds.write(tmp_path / f"x{suffix}", sounds.tone()).read_bytes()
    made = fetch(Track("A", "T", uri=f"{files.url}/song"), load(ALL), keep, LIMITS)
    assert Path(made.file.uri).name == f"{digest(files.files['song'])}{suffix}"
    assert made.file.probe.sample_rate == sounds.RATE


def test_what_breaks_off_is_no_audio(keep: Keep, files: Files, workspace: Workspace) -> None:
    files.files["a.wav"] = AUDIO[:-1000]
    failed_rows = row(Track("A", "T", uri=f"{files.url}/a.wav"), keep, ALL)
    assert (failed_rows["reason"], failed_rows["transient"]) == ("truncated", False)
    assert f"{files.url}/a.wav breaks off" in failed_rows["message"]
    assert media(workspace) == []


def test_files_and_objects_stay_where_they_are(tmp_path: Path, workspace: Workspace, keep: Keep) -> None:
    song = sounds.write(tmp_path / "x.wav", sounds.tone())
    fsspec.filesystem("memory").pipe_file("/music/x.wav", song.read_bytes())
    for uri, provider in (str(song), "file"), ("memory://music/x.wav", "memory"):
        made = fetch(Track("A", "T", uri=uri), load(ALL), keep, LIMITS)
        assert (made.file.uri, made.provider, made.file.sha256) == (uri, provider, file_digest(song))
    assert media(workspace) == []


def test_a_broken_object_is_named_by_its_address(keep: Keep) -> None:
    fsspec.filesystem("memory").pipe_file("/music/broken.wav", b"RIFF but no more")
    with pytest.raises(TrackError, match=r"corrupt: memory://music/broken\.wav "):
        fetch(Track("A", "T", uri="memory://music/broken.wav"), load(["uri"]), keep, LIMITS)


def test_a_workspace_in_a_store_keeps_media_too(tmp_path: Path, workspace: Workspace, files: Files) -> None:
    workspace.is_local, workspace.uri = False, "s3://bucket/w?region=eu-central-1"
    sha256 = digest(AUDIO)
    Path(workspace.path("media", sha256[:2])).mkdir(parents=True)  # a store has no folders to be made
    made = fetch(
        Track("A", "T", uri=f"{files.url}/a.wav"), load(ALL), partial(acquisition.keep, workspace, check), LIMITS
    )
    assert made.file.uri == f"s3://bucket/w/media/{sha256[:2]}/{sha256}.wav?region=eu-central-1"
    assert Path(workspace.path("media", sha256[:2], f"{sha256}.wav")).read_bytes() == AUDIO


def test_a_place_is_asked_for_under_the_hosts_name(keep: Keep, files: Files) -> None:
    fsspec.filesystem("memory").pipe_file("/music/x.wav", AUDIO)
    asked: list[str] = []

    def slot(name: str) -> object:
        asked.append(name)
        return http.unlimited(name)

    limits = Limits(20.0, 1.0, slot)
    fetch(Track("A", "T", uri=f"{files.url}/a.wav"), load(ALL), keep, limits)
    fetch(Track("A", "T", uri="memory://music/x.wav"), load(ALL), keep, limits)
    assert asked == ["127.0.0.1", "music"]


# a folder ---------------------------------------------------------------------------------------------------------

FOLDER = music_folder.index(
    [
        Track("Band", "Song", uri="/m/song.flac"),
        Track("Band", "Song - Remastered 2009", uri="/m/remaster.flac"),
        Track("Williams", 'Theme (From "Jaws")', uri="/m/jaws.flac"),
        Track("Williams", 'Theme (From "Superman")', uri="/m/superman.flac"),
        Track("Shore", 'Prologue (From "Rings")', uri="/m/rings.flac"),
        Track("Zimmer", "Time", uri="/m/time.flac"),
        Track("John Williams", "Main Title", album="Jaws", uri="/m/main-jaws.flac"),
        Track("John Williams", "Main Title", album="Star Wars", uri="/m/main-wars.flac"),
        Track("", "A - B", uri="/m/A - B.mp3", key="1123456789abcdef"),
        Track("", "2", uri="/m/2.mp3", key="2123456789abcdef"),
        Track("", "untagged", uri="/m/untagged.flac", key="0123456789abcdef"),
    ]
)


@pytest.mark.parametrize(
    ("track", "uri"),
    [
        (Track("BAND", "song"), "/m/song.flac"),
        (Track("Band", "Song - Remastered 2009"), "/m/remaster.flac"),
        (Track("Band", "Song (2015 Remaster)"), "/m/song.flac"),
        (Track("Band", "Song (feat. Somebody)"), "/m/song.flac"),
        (Track("Williams", "Theme (from 'Superman')"), "/m/superman.flac"),
        (Track("Williams", "Theme"), None),  # of which film?
        (Track("Williams", 'Theme (From "E.T.")'), None),
        (Track("Shore", "Prologue"), "/m/rings.flac"),
        (Track("Zimmer", 'Time (From "Inception")'), "/m/time.flac"),
        (Track("Band", "Song (live)"), None),
        (Track("A", "B"), "/m/A - B.mp3"),
        (Track("", "2", key="2"), "/m/2.mp3"),
        (Track("John Williams", "Main Title", album="Star Wars"), "/m/main-wars.flac"),
        (Track("John Williams", "Main Title", album="E.T."), None),  # of other albums
        (Track("Zimmer", "Time", album="Inception"), "/m/time.flac"),
        (Track("", "other", key="0123456789abcdef"), "/m/untagged.flac"),
        (Track("", "untagged"), None),
    ],
)
def test_a_folder_has_a_track_by_its_name_or_as_the_same_piece(track: Track, uri: str | None) -> None:
    def hold(path: Path, stays: str | None) -> str | None:
        return stays

    (provider,) = load(["folder"])
    provider._index = FOLDER
    if uri is None:
        with pytest.raises(TrackError, match="no_audio"):
            fetch(track, [provider], hold, LIMITS)
    else:
        found = fetch(track, [provider], hold, LIMITS)
        assert (found.file, found.provider, found.failed) == (uri, "folder", ())


def test_a_manifests_address_in_a_private_network_is_a_failure_until_it_is_allowed(
    mer_ray: Callable[..., tuple[int, str, str]], tmp_path: Path, files: Files
) -> None:
    song = sounds.write(tmp_path / "x.wav", sounds.tone(seconds=0.5))
    (tmp_path / "m.csv").write_text(f"uri,artist,title\n{files.url}/a.wav?key=geheim,A,One\n{song},A,Two\n")
    options = ["--workspace", tmp_path / "w", *sets(f"collect.manifest={tmp_path / 'm.csv'}")]
    assert mer_ray("collect", *options)[0] == 0
    assert mer_ray("acquire", *options)[0] == 0
    (failed,) = Workspace(tmp_path / "w").failures("acquire")
    assert (failed["reason"], failed["transient"]) == ("private_address", False)
    assert f"{files.url}/a.wav leads to 127.0.0.1" in failed["message"]
    assert "geheim" not in failed["message"]
    assert files.calls == []
    assert mer_ray("acquire", *options, *sets("acquire.allow_private=true"))[0] == 0
    assert len(Workspace(tmp_path / "w").ids("audio")) == 2
