"""Files that are no audio, whatever they are called: what they are, said before a decoder finds something in them."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sounds

from mer_ray.audio.content import refused, text_kind
from mer_ray.audio.decode import check, stream
from mer_ray.errors import TrackError
from mer_ray.io.advice import ADVICE

RANDOM = np.random.default_rng(0).bytes(20_000)
PAGE = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * 20


def failed(path: Path) -> TrackError:
    """The same reason from both doors of the decoder."""
    with pytest.raises(TrackError) as caught:
        list(stream(path, [16_000]))
    with pytest.raises(TrackError) as checked:
        check(path)
    assert (checked.value.reason, checked.value.message) == (caught.value.reason, caught.value.message)
    assert path.name in caught.value.message
    return caught.value


def module(mark: bytes) -> bytes:
    return b"song".ljust(1080, b"\0") + mark + RANDOM


NO_AUDIO = {
    "a web page (HTML)": PAGE,
    "web page": b"\xef\xbb\xbf\n  <HTML lang=de><head>" + b"x" * 5_000,
    "an XML file": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    "JSON": b'{"error": {"code": 429, "message": "rate limited"}}',
    "a PDF": b"%PDF-1.7\n" + RANDOM,
    "(JPEG)": b"\xff\xd8\xff\xe0\x00\x10JFIF" + RANDOM,
    "(PNG)": b"\x89PNG\r\n\x1a\n" + RANDOM,
    "a gzip": gzip.compress(RANDOM),
    "a 7-Zip": b"7z\xbc\xaf\x27\x1c" + RANDOM,
    "(M3U)": b"#EXTM3U\n#EXTINF:1,x\na.mp3\n",
    "a cue sheet": b'FILE "a.wav" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "text": "Diese Datei enthält keine Musik.\n".encode() * 200,
    "is text": "title\tartist\n".encode("utf-16") * 50,
    "it is text": "Für Elise, daß, ä\n".encode("latin-1") * 300,
    "zeros": bytes(30_000),
    "begins with zeros": bytes(30_000) + RANDOM,
    "AppleDouble": b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + RANDOM,
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
}


@pytest.mark.parametrize("name", ["x.mp3", "x.wav", "x.ogg", "x"])
@pytest.mark.parametrize("what", NO_AUDIO)
def test_what_it_is_is_said(tmp_path, what, name):
    path = tmp_path / name
    path.write_bytes(NO_AUDIO[what])
    error = failed(path)
    assert error.reason == "corrupt"
    assert what in error.message
    assert "possibly" not in error.message


def test_damage_is_not_a_pipe(tmp_path):
    path = tmp_path / "x.mp3"
    path.write_bytes(RANDOM)
    error = failed(path)
    assert (error.reason, "possibly" in error.message) == ("corrupt", False)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_not_scored_as_its_first_track(tmp_path, kind):
    song = sounds.write(tmp_path / "song.mp3", sounds.noise(3.0)).read_bytes()
    archive = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
            zipped.writestr("song.mp3", song)
    else:
        with tarfile.open(fileobj=archive, mode="w") as tarred:
            about = tarfile.TarInfo("song.mp3")
            about.size = len(song)
            tarred.addfile(about, io.BytesIO(song))
    path = tmp_path / "album.mp3"
    path.write_bytes(archive.getvalue())
    assert f"{kind} archive" in failed(path).message.lower()


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"MThd\0\0\0\6\0\1\0\2\0\x60MTrk", "a MIDI file"),
        (b"RIFF\x20\x4e\0\0RMIDdata", "a MIDI file"),
        (module(b"M.K."), "(MOD)"),
        (module(b"6CHN"), "(MOD)"),
        (b"Extended Module: song", "(XM)"),
        (b"song".ljust(28, b"\0") + b"\x1a\x10" + bytes(14) + b"SCRM", "(S3M)"),
        (b"IMPMsong", "(IT)"),
        (b"NESM\x1a\1", "(NSF)"),
        (b"SNES-SPC700 Sound File Data v0.30", "(SPC)"),
        (b"Vgm \0\0", "(VGM)"),
        (gzip.compress(b"Vgm " + RANDOM), "(VGZ)"),
        (b"PSID\0\2", "(SID)"),
    ],
)
@pytest.mark.parametrize("name", ["x.mid", "x.mp3"])
def test_notes_are_not_damaged_audio(tmp_path, name, head, what):
    path = tmp_path / name
    path.write_bytes(head + RANDOM)
    error = failed(path)
    assert error.reason == "needs_rendering"
    assert what in error.message
    assert "holds no sound" in error.message
    assert "damaged" not in ADVICE[error.reason]


def test_what_a_shop_encrypted_is_not_decoded_to_noise(tmp_path):
    song = sounds.ffmpeg(sounds.write(tmp_path / "x.wav", sounds.noise(2.0)), tmp_path / "x.m4a", "-c:a", "aac")
    data = song.read_bytes()
    sold = tmp_path / "x.m4p"
    sold.write_bytes(data.replace(b"ftypM4A ", b"ftypM4P ").replace(b"mp4a", b"drms"))
    assert failed(sold).reason == "protected"
    key = "0123456789abcdef" * 2
    options = ("-f", "mp4", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key)
    assert failed(sounds.ffmpeg(song, tmp_path / "streamed.m4a", "-c", "copy", *options)).reason == "protected"
    sold.write_bytes(data.replace(b"ftypM4A ", b"ftypM4P "))
    assert check(sold).duration_s == pytest.approx(2.0, abs=0.1)
    wma = sounds.ffmpeg(tmp_path / "x.wav", tmp_path / "x.wma").read_bytes()
    marked = wma[:30] + b"\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e" + bytes(8) + wma[30:]
    (tmp_path / "sold.wma").write_bytes(marked)
    assert failed(tmp_path / "sold.wma").reason == "protected"
    (tmp_path / "free.wma").write_bytes(wma)
    assert check(tmp_path / "free.wma").duration_s == pytest.approx(2.0, abs=0.1)


def test_a_copy_that_broke_off_before_its_index_says_so(tmp_path):
    song = sounds.ffmpeg(sounds.write(tmp_path / "x.wav", sounds.noise(2.0)), tmp_path / "x.m4a", "-c:a", "aac")
    (tmp_path / "half.m4a").write_bytes(song.read_bytes()[: song.stat().st_size // 2])
    error = failed(tmp_path / "half.m4a")
    assert (error.reason, "its index (moov) is missing" in error.message) == ("corrupt", True)


def test_a_film_without_sound_says_so(tmp_path):
    picture = ["-f", "lavfi", "-i", "testsrc=size=320x240:duration=1", "-map", "1:v"]
    for suffix in ("mkv", "mp4", "avi", "ts"):
        path = sounds.ffmpeg(sounds.write(tmp_path / "x.wav", sounds.tone()), tmp_path / f"film.{suffix}", *picture)
        error = failed(path)
        assert (error.reason, "holds no audio" in error.message) == ("corrupt", True), error


@pytest.mark.parametrize("name", ["pcm16.wav", "a.flac", "vorbis.ogg", "cbr.mp3", "aac.m4a", "a.wma", "vorbis.mka"])
def test_audio_is_refused_by_no_mark(tmp_path, name):
    source = sounds.write(tmp_path / "source.wav", sounds.noise(1.0))
    path = sounds.ffmpeg(source, tmp_path / name, *sounds.CODECS[name])
    assert refused(path) is None
    assert text_kind(path) == ""


def test_channels_that_cancel_are_no_reason_to_run_again():
    assert "Run again" not in ADVICE["cancelled"]
    assert "channel" in ADVICE["cancelled"]
