"""A folder as a source: everything that looks like audio is a track or a failure, and nothing stops the search."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from sounds import broken_link, empty, ffmpeg, hostile_names, noise, text, tone, truncated, write

from mer_ray.errors import InputError, TrackError
from mer_ray.io.address import to_path
from mer_ray.io.identity import file_digest, track_id
from mer_ray.io.track import Track
from mer_ray.sources import folder


def tagged_mp3(path: Path, **frames: str) -> Path:
    """An MP3 with an ID3v2.3 tag of UTF-16 text frames."""
    body = b""
    for name, value in frames.items():
        data = b"\x01" + value.encode("utf-16")
        body += name.encode() + struct.pack(">I", len(data)) + b"\0\0" + data
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    write(path, tone())
    path.write_bytes(b"ID3\x03\0\0" + size + body + path.read_bytes())
    return path


def test_names_come_from_the_files_own_tags(tmp_path):
    path = tagged_mp3(tmp_path / "07 - x.mp3", TIT2="Jóga\n(live)", TPE1="Björk", TALB="Homogenic")
    (track,) = folder.tracks(tmp_path)
    assert isinstance(track, Track)
    assert (track.artist, track.title, track.album, track.uri) == ("Björk", "Jóga (live)", "Homogenic", str(path))
    assert track.id == track_id("bjork", "JOGA (LIVE)", "homogenic")


def test_names_come_from_ape_tags(tmp_path):
    wave = write(tmp_path / "x" / "x.wav", tone())
    names = (word for name in ("artist=Björk", "title=Jóga", "album=Größe") for word in ("-metadata", name))
    tagged = ffmpeg(wave, tmp_path / "a.wv", *names)
    data = tagged.read_bytes()
    footer = data[-32:]
    assert footer.startswith(b"APETAGEX")
    tag = data[-int.from_bytes(footer[12:16], "little") - 32 :]
    (tmp_path / "b.wv").write_bytes(data + b"TAG".ljust(128, b"\0"))
    (tmp_path / "c.mp3").write_bytes(write(tmp_path / "x" / "c.mp3", tone()).read_bytes() + tag)
    (tmp_path / "d.wv").write_bytes(data[:-20] + b"\xff\xff\xff\x00" + data[-16:])  # announces more than the file has
    (tmp_path / "e.wv").write_bytes(data[:-32] + footer[:12] + bytes([40, 0, 0, 0]) + footer[16:])  # less
    shutil.rmtree(tmp_path / "x")
    found = [(t.artist, t.title, t.album) for t in folder.tracks(tmp_path) if isinstance(t, Track)]
    assert found == [("Björk", "Jóga", "Größe")] * 3 + [("", "d", None), ("", "e", None)]


@pytest.mark.parametrize("frames", [{}, {"TIT2": "Only a title"}, {"TPE1": "Only an artist"}])
def test_a_file_that_does_not_name_both_is_known_by_its_content(tmp_path, frames):
    path = tagged_mp3(tmp_path / "song.mp3", **frames)
    shutil.copy(path, tmp_path / "copy.mp3")
    copy, song = folder.tracks(tmp_path)
    assert isinstance(song, Track)
    assert isinstance(copy, Track)
    assert song.id == copy.id == file_digest(path)[:16]
    assert song.title == frames.get("TIT2", "song")
    assert song.artist == frames.get("TPE1", "")


def test_subfolders_are_searched_and_other_files_are_left(tmp_path):
    wanted = [write(tmp_path / p, tone()) for p in ("a/b/y.OGG", "a/x.flac", "z.wav")]
    for other in "cover.jpg", "a/notes.txt", "wav":
        (tmp_path / other).write_bytes(b"x")
    (tmp_path / "folder.mp3").mkdir()
    assert folder.files(tmp_path) == wanted


def test_bad_files_are_tracks_or_failures_and_do_not_stop_the_others(tmp_path):
    write(tmp_path / "m good.wav", tone())
    text(tmp_path / "a.mp3")
    empty(tmp_path / "b.ogg")
    truncated(tmp_path / "c.flac", 0.02)
    broken_link(tmp_path / "d.wav")
    (tmp_path / "e.mp3").mkdir()
    os.mkfifo(tmp_path / "f.wav")  # reading it would wait for ever
    (tmp_path / "g.mp3").write_bytes(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"TIT2\x00\x00\x00\xff" * 9)
    found = {to_path((f[0] if isinstance(f, tuple) else f).uri or "").name: f for f in folder.tracks(tmp_path)}
    assert set(found) == {"a.mp3", "b.ogg", "c.flac", "d.wav", "f.wav", "g.mp3", "m good.wav"}
    for name in "d.wav", "f.wav":
        track, error = found[name]
        assert isinstance(error, TrackError)
        assert error.reason == "missing"
        assert name in error.message
        assert track.id
    assert found["m good.wav"].title == "m good"


def test_links_that_go_round_in_circles_end(tmp_path):
    write(tmp_path / "music" / "x.wav", tone())
    (tmp_path / "music" / "again").symlink_to(tmp_path / "music")
    assert len(folder.files(tmp_path / "music")) == 1


def test_hostile_names_lead_to_their_files(tmp_path):
    paths = hostile_names(tmp_path)
    tracks = list(folder.tracks(tmp_path))
    assert {to_path(t.uri) for t in tracks} == set(paths)
    for track in tracks:
        assert track.title.isprintable()
        assert track.uri.encode("utf-8")
    assert len({t.id for t in tracks}) == len(paths)


def test_the_order_is_the_same_every_time(tmp_path):
    hostile_names(tmp_path)
    assert folder.files(tmp_path) == sorted(folder.files(tmp_path), key=os.fsencode)
    assert [t.id for t in folder.tracks(tmp_path)] == [t.id for t in folder.tracks(tmp_path)]


def test_what_is_found_is_found_from_elsewhere_too(tmp_path, monkeypatch):
    write(tmp_path / "music" / "x.wav", noise(0.1))
    monkeypatch.chdir(tmp_path)
    (track,) = folder.tracks("music")
    monkeypatch.chdir("/")
    assert isinstance(track, Track)
    assert to_path(track.uri or "").is_file()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: None])
def test_a_folder_without_audio_is_refused(tmp_path, make):
    make(tmp_path / "here")
    with pytest.raises(InputError, match="here"):
        next(folder.tracks(tmp_path / "here"))
