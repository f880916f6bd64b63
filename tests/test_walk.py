"""A search of folders: through links and no circles, and a count for everything that is passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sounds

from mer_ray.audio import walk
from mer_ray.audio.decode import check
from mer_ray.audio.extensions import EXTENSIONS
from mer_ray.errors import InputError
from mer_ray.sources import folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def link(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def found(root: Path) -> list[str]:
    """What is found, below the root."""
    return [str(path.relative_to(root)) for path in walk.search(root)[0]]


def skipped(root: Path) -> str:
    return str(walk.search(root)[1]).replace(f"{root}/", "")


# links ---------------------------------------------------------------------------------------------------------------


def test_links_are_followed_and_nothing_is_found_twice(tmp_path):
    music, other = tmp_path / "music", tmp_path / "other"
    own = touch(music / "z" / "own.mp3")
    touch(other / "album" / "far.flac")
    link(music / "b", other)
    link(music / "a", own.parent)  # by its name it comes first, and yet the folder's own place counts
    link(music / "c", other / "album")
    link(music / "d.flac", other / "album" / "far.flac")
    link(music / "e.mp3", "z/own.mp3")
    link(music / "f.mp3", touch(tmp_path / "single.mp3"))
    assert found(music) == ["b/album/far.flac", "f.mp3", "z/own.mp3"]
    assert skipped(music) == "skipped 2 links to files that are found anyway"


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_to_a_folder_around_it_ends(tmp_path, target):
    music = tmp_path / "music"
    touch(tmp_path / "not-mine.mp3")
    touch(music / "x.mp3")
    link(music / "round", target)
    assert found(music) == ["x.mp3"]
    around = "skipped 1 link to a folder around it (round)"
    assert skipped(music) == ("" if target == "." else around)


def test_links_to_each_other_and_to_themselves_end(tmp_path):
    touch(tmp_path / "a" / "1.mp3")
    touch(tmp_path / "b" / "2.mp3")
    link(tmp_path / "a" / "to-b", "../b")
    link(tmp_path / "b" / "to-a", "../a")
    link(tmp_path / "self", "self")
    link(tmp_path / "gone", "/nowhere/music")
    assert found(tmp_path) == ["a/1.mp3", "b/2.mp3"]
    assert skipped(tmp_path) in (f"skipped 2 links that lead nowhere (first: {name})" for name in ("self", "gone"))
    assert found(tmp_path / "a") == ["1.mp3", "to-b/2.mp3"]


def test_outside_too_no_link_leads_up(tmp_path):
    touch(tmp_path / "disk" / "not-mine.mp3")
    touch(tmp_path / "disk" / "album" / "x.mp3")
    link(tmp_path / "disk" / "album" / "up", "..")
    link(tmp_path / "music" / "album", "../disk/album")
    assert found(tmp_path / "music") == ["album/x.mp3"]


def test_a_folder_may_be_a_link_and_end_with_a_slash(tmp_path):
    touch(tmp_path / "disk" / "x.mp3")
    link(tmp_path / "disk" / "again", ".")
    root = link(tmp_path / "music", "disk")
    assert found(root) == ["x.mp3"]
    assert walk.search(f"{root}/")[0] == [root / "x.mp3"]


# what is passed over -------------------------------------------------------------------------------------------------


def test_what_is_passed_over_is_counted_in_one_line(tmp_path):
    for name in ("a/1.mp3", "a/._1.mp3", ".DS_Store", ".hidden.mp3", "@eaDir/1.mp3/x.mp3", "$RECYCLE.BIN/x.mp3"):
        touch(tmp_path / name)
    for name in (".Trash-1000/files/x.mp3", "cover.jpg", "a/Cover.JPG", "a/x.cue", "Thumbs.db", "x.mp3.part", "x.mp3~"):
        touch(tmp_path / name)
    for name in ("README", "Dr. Jones is here", "a/x.log", "a/x.nfo", "...And Justice/...And.mp3", "wav"):
        touch(tmp_path / name)
    assert found(tmp_path) == ["...And Justice/...And.mp3", "a/1.mp3"]
    line = skipped(tmp_path)
    assert "\n" not in line
    assert line.startswith("skipped 3 hidden files, 1 hidden folder (.Trash-1000), 2 system folders (first: ")
    assert "11 files not named as audio (" in line
    assert "without ending 3" in line
    assert ".jpg 2" in line
    assert line.endswith(", others 2)")


def test_a_clean_folder_has_nothing_to_tell(tmp_path):
    touch(tmp_path / "x.mp3")
    assert (skipped(tmp_path), bool(walk.search(tmp_path)[1])) == ("", False)


def test_a_folder_without_audio_says_what_is_there(tmp_path):
    touch(tmp_path / "cover.jpg")
    with pytest.raises(InputError, match=r"holds no audio files: looked for .*1 file not named as audio \(\.jpg 1\)"):
        walk.search(tmp_path)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder of a user who is not root, as whom the test runs."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    is_root = os.geteuid() == 0
    if is_root:
        try:
            os.chown(place, 65_534, 65_534)
            os.seteuid(65_534)
        except OSError:
            pytest.skip("there is no other user on this machine")
    try:
        yield place
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(place)


def test_folders_that_cannot_be_read_are_counted(nobody):
    touch(nobody / "x.mp3")
    touch(nobody / "closed" / "y.mp3")
    touch(nobody / "shut" / "z.mp3")
    link(nobody / "way in", "shut")
    for name in ("closed", "shut"):
        (nobody / name).chmod(0)
    try:
        files, passed_over = walk.search(nobody)
        assert files == [nobody / "x.mp3"]
        assert passed_over.counts[walk.UNREADABLE] == 2
        assert "2 folders that cannot be read (first: " in str(passed_over)
        assert "Permission denied" in str(passed_over)
        with pytest.raises(InputError, match=r"closed cannot be read \(Permission denied\)"):
            walk.search(nobody / "closed")
    finally:
        for name in ("closed", "shut"):
            (nobody / name).chmod(0o700)


def test_folders_may_lie_deep(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 1_100)  # more than Python calls itself
    subprocess.run(["mkdir", "-p", deep], check=True)
    touch(deep / "x.mp3")
    try:
        assert found(tmp_path) == ["d/" * 1_100 + "x.mp3"]
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_folders_too_deep_for_a_path_are_counted(tmp_path):
    name = "d" * 250
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # 5,000 characters are more than a path may have
        os.close(os.open("x.mp3", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir(name, dir_fd=here)
        above, here = here, os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(above)
    os.close(here)
    files, passed_over = walk.search(tmp_path)
    assert 14 <= len(files) <= 17
    assert passed_over.counts == {walk.UNREADABLE: 1}
    assert "File name too long" in str(passed_over)


# names ---------------------------------------------------------------------------------------------------------------

MADE = {
    ".mkv": ["-c:a", "aac"],
    ".mov": [],
    ".avi": [],
    ".ts": [],
    ".m2ts": ["-f", "mpegts"],
    ".flv": ["-ar", "44100"],
    ".mpg": [],
    ".vob": [],
    ".m4v": [],
    ".wmv": [],
    ".3gp": ["-c:a", "aac"],
    ".mp2": [],
    ".aifc": ["-f", "aiff"],
    ".dts": ["-strict", "-2"],
    ".voc": [],
    ".eac3": [],
    ".rm": ["-c:a", "ac3"],
    ".oga": [],
    ".adx": ["-ar", "44100"],
    ".thd": ["-strict", "-2"],
    ".SND": ["-f", "au"],
}


def test_what_ffmpeg_reads_is_found_and_read(tmp_path):
    source = sounds.write(tmp_path / "source.wav", sounds.noise(0.5, 48_000, 2), 48_000)
    music = tmp_path / "music"
    music.mkdir()
    made = [sounds.ffmpeg(source, music / f"x{suffix}", *options) for suffix, options in MADE.items()]
    assert folder.files(music) == sorted(made)
    for path in made:
        assert check(path).duration_s == pytest.approx(0.5, abs=0.06), path.suffix


def test_a_store_is_searched_by_the_same_names():
    passed_over = walk.Skipped()
    names = ["a/x.mkv", "a/._x.mp3", "@eaDir/y.mp3", "...z.MP3", "cover.jpg"]
    assert [n for n in names if walk.named_as_audio(n, passed_over)] == ["a/x.mkv", "...z.MP3"]
    assert str(passed_over) == ("skipped 1 hidden file, 1 system folder (@eaDir), 1 file not named as audio (.jpg 1)")
    assert ".spx" in EXTENSIONS
