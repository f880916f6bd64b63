"""``mer-ray tag`` keeps others' tags byte for byte, also those that mutagen cannot read, or leaves the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutagen import apev2, id3
from test_tag import made, read_by_ffmpeg, read_by_mutagen, samples, scored

OLD = b"TAG" + b"Old title".ljust(30, b"\0") + b"Old artist".ljust(30, b"\0") + bytes(64) + b"\x18"
UTF16 = "Träume".encode("utf-16")
FRAMES = [
    (b"TIT2", b"\1" + UTF16),
    (b"TPE1", b"\0First"),
    (b"TPE1", b"\0Second"),  # twice: mutagen joins them
    (b"TXXX", b"\0ARTISTS\0a"),
    (b"TXXX", b"\0ARTISTS\0b"),
    (b"TXXX", b"\1\xff\xfea"),  # half a letter: mutagen drops it
    (b"TCOM", b"\7unknown encoding"),
    (b"COMM", b"\0en"),
    (b"POPM", b"a@b\0\x50\0\0\0\1"),
    (b"POPM", b"a@b\0\x90\0\0\0\2"),  # mutagen keeps the last one
    (b"GEOB", b"\0a/b\0f\0d\0one"),
    (b"GEOB", b"\0a/b\0f\0d\0two"),
    (b"APIC", b"\0image/png\0\3\0one"),
    (b"APIC", b"\0PNG\0\3\0" + bytes(200)),
    (b"PRIV", b"owner\0" + bytes(range(256))),
    (b"XFOO", b"not in the standard"),
]


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def frame(version: int, name: bytes, content: bytes, flags: int = 0) -> bytes:
    if version == 2:
        return name + len(content).to_bytes(3, "big") + content
    size = synchsafe(len(content)) if version == 4 else len(content).to_bytes(4, "big")
    return name + size + flags.to_bytes(2, "big") + content


def with_id3(folder: Path, version: int, frames: list[bytes], flags: int = 0, end: bytes = b"") -> Path:
    """An MP3 whose tag is written here, by the standard."""
    path = made(folder, "untagged.mp3")
    body = b"".join(frames)
    header = b"ID3" + bytes([version, 0, flags]) + synchsafe(len(body))
    footer = b"3DI" + header[3:] if flags & 0x10 else b""
    path.write_bytes(header + body + footer + path.read_bytes() + end)
    return path


def tagged_and_undone(mer_ray, path: Path) -> tuple[bytes, bytes]:
    """The bytes after each."""
    scores = scored(path.parent / "s.parquet", [path])
    sound = samples(path)
    code, _, err = mer_ray("tag", scores)
    assert code == 0, err
    tagged = path.read_bytes()
    assert b"MER_RAY_VALENCE" in tagged.replace(b"\0", b"")  # ID3v2.3 has UTF-16
    assert samples(path) == sound
    assert mer_ray("tag", "--undo", path.parent / "s.parquet.tags.jsonl")[0] == 0
    assert b"MER_RAY" not in path.read_bytes().replace(b"\0", b"")
    assert samples(path) == sound
    return tagged, path.read_bytes()


@pytest.mark.parametrize("version", [3, 4])
def test_frames_of_others_stay_as_they_are(mer_ray, tmp_path, version):
    """Also those in a group: a flag says that the content begins with the group's number."""
    frames = [frame(version, *parts) for parts in FRAMES]
    frames.append(frame(version, b"TALB", b"\x81\0Grouped", 0x40 if version == 4 else 0x20))
    path = with_id3(tmp_path, version, frames, end=OLD)
    for data in tagged_and_undone(mer_ray, path):
        assert data[3] == version
        at = [data.find(each) for each in frames]
        assert -1 not in at
        assert at == sorted(at)
        assert data.endswith(OLD)


def test_what_is_compressed_or_unsynchronised_says_the_same(mer_ray, tmp_path):
    picture = b"\0image/png\0\3\0" + b"\xff\xe0\xff\0" * 50
    unsynchronised = picture.replace(b"\xff", b"\xff\0")
    path = with_id3(tmp_path, 4, [frame(4, b"APIC", unsynchronised, 2)], flags=0x80)
    for data in tagged_and_undone(mer_ray, path):
        assert frame(4, b"APIC", picture) in data


def test_frames_of_id3v22_are_kept_as_id3v23_or_the_file_is_left_alone(mer_ray, tmp_path):
    known = [frame(2, b"TT2", b"\0Title"), frame(2, b"PIC", b"\0PNG\3\0" + bytes(99)), frame(2, b"TXX", b"\0foo\0bar")]
    known.append(frame(2, b"TSP", b"\0Sorted"))  # of iTunes, which writes it into ID3v2.3 as well
    data, _ = tagged_and_undone(mer_ray, with_id3(tmp_path, 2, known))
    assert data[3] == 3
    assert b"image/png\0\3\0" + bytes(99) in data
    tags = id3.ID3(tmp_path / "untagged.mp3")
    assert [tags[key].text for key in ("TIT2", "TXXX:foo", "TSOP")] == [["Title"], ["bar"], ["Sorted"]]
    path = with_id3(tmp_path, 2, [*known, frame(2, b"XYZ", b"precious")])
    before = path.read_bytes()
    assert "ID3v2.3 has not all" in mer_ray("tag", scored(tmp_path / "t.parquet", [path]))[2]
    assert path.read_bytes() == before


def test_a_footer_would_become_audio(mer_ray, tmp_path):
    path = with_id3(tmp_path, 4, [frame(4, b"TIT2", b"\0Title")], flags=0x10)
    before = path.read_bytes()
    assert "ends with a footer" in mer_ray("tag", scored(tmp_path / "t.parquet", [path]))[2]
    assert path.read_bytes() == before


@pytest.mark.parametrize("has_ape", [True, False])
def test_an_id3v1_tag_behind_wavpack_stays(mer_ray, tmp_path, has_ape):
    path = made(tmp_path, "a.wv")
    if not has_ape:
        apev2.delete(path)
    path.write_bytes(path.read_bytes() + OLD)
    ffmpeg, mutagen = read_by_ffmpeg(path), read_by_mutagen(path)
    tagged, undone = tagged_and_undone(mer_ray, path)
    assert (tagged[-len(OLD) :], undone[-len(OLD) :]) == (OLD, OLD)
    assert (read_by_ffmpeg(path), read_by_mutagen(path)) == (ffmpeg, mutagen)


def test_comments_that_mutagen_would_change_are_left_alone(mer_ray, tmp_path):
    good, before = "title=Träume & Tod".encode(), {}
    for name in ("a.flac", "a.ogg"):
        data = made(tmp_path, name).read_bytes()
        at = data.index(len(good).to_bytes(4, "little") + good) + 4
        for i, bad in enumerate((b"title=Tr\xe4ume & Tod", b"no name of a field", b"=no name")):
            path = tmp_path / f"{i}{name}"
            path.write_bytes(data[:at] + bad.ljust(len(good), b".") + data[at + len(good) :])
            before[path] = path.read_bytes()
    code, _, err = mer_ray("tag", scored(tmp_path / "s.parquet", list(before)))
    assert (code, err.count("would change (unsafe)")) == (2, len(before)), err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("end", [b"", OLD])
def test_an_mp3_with_an_ape_tag_gets_no_id3v2_tag_that_would_hide_it(mer_ray, tmp_path, end):
    """TagLib, for one, reads no title from APEv2 or ID3v1 once there is an ID3v2 tag."""
    path = made(tmp_path, "untagged.mp3")
    tags = apev2.APEv2()
    tags["Title"], tags["Artist"], tags["Replaygain_Track_Gain"] = (
        "A title of more than 30 letters, whole",
        "A",
        "-3 dB",
    )
    tags.save(path)
    path.write_bytes(path.read_bytes() + end)
    before = path.read_bytes()
    tagged, undone = tagged_and_undone(mer_ray, path)
    assert not tagged.startswith(b"ID3")
    assert undone == before
    assert mer_ray("tag", tmp_path / "s.parquet")[0] == 0
    now = apev2.APEv2(path)
    assert (str(now["MOOD"]), str(now["MER_RAY_VALENCE"])) == ("excited", "0.900")
    assert {key: str(now[key]) for key in tags} == {key: str(tags[key]) for key in tags}


def test_the_comment_of_an_id3v1_tag_stays_in_sight(mer_ray, tmp_path):
    path = made(tmp_path, "untagged.mp3")
    old = OLD[:97] + b"A comment".ljust(30, b"\0") + OLD[127:]
    path.write_bytes(path.read_bytes() + old)
    before = read_by_ffmpeg(path)
    assert mer_ray("tag", scored(tmp_path / "s.parquet", [path]))[0] == 0
    assert (before["COMMENT"], read_by_ffmpeg(path)["COMMENT"]) == ("A comment", "A comment")
    assert before.items() <= read_by_ffmpeg(path).items()
