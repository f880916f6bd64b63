"""Decoding: every way in which audio is bad has its reason, and good audio comes out as it is."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import sounds
from hypothesis import given
from hypothesis import strategies as st
from sounds import decode

from mer_ray.audio.decode import check, probe, resample
from mer_ray.errors import TrackError

BAD = {
    "missing.wav": (lambda path: path, "missing", "missing"),
    "folder.mp3": (lambda path: path.mkdir(), "missing", "missing"),
    "link.wav": (sounds.broken_link, "missing", "missing"),
    "pipe.wav": (os.mkfifo, "missing", "missing"),
    "zero.ogg": (sounds.empty, "empty", "empty"),
    "header.wav": (sounds.header_only, "empty", "empty"),
    "text.mp3": (sounds.text, "corrupt", "corrupt"),
    "cut.flac": (sounds.truncated, None, "truncated"),
    "cut.ogg": (partial(sounds.truncated, share=0.1), "corrupt", "corrupt"),
    "cut.mp3": (partial(sounds.truncated, share=0.02), "corrupt", "corrupt"),
    "boast.flac": (sounds.boastful_flac, None, "corrupt"),
    "nan.wav": (sounds.not_finite, None, "not_finite"),
    "inf.wav": (partial(sounds.not_finite, value=np.inf), None, "not_finite"),
    "short.wav": (lambda path: sounds.write(path, sounds.tone(seconds=0.2)), None, "too_short"),
    "silent.wav": (lambda path: sounds.write(path, np.zeros(sounds.RATE)), None, "silent"),
    "hush.wav": (lambda path: sounds.write(path, sounds.tone(peak=5e-4)), None, "silent"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_its_reason(tmp_path, name):
    make, probed, decoded = BAD[name]
    make(tmp_path / name)
    for read, reason in ((probe, probed), (partial(decode, min_duration_s=0.5), decoded)):
        if reason is None:
            read(tmp_path / name)  # the header alone looks sound
            continue
        with pytest.raises(TrackError) as caught:
            read(tmp_path / name)
        assert caught.value.reason == reason
        assert name in caught.value.message
        assert caught.value.message.isprintable()
        assert not caught.value.transient


@pytest.mark.parametrize("name", ["nul\0.wav", "x" * 300 + ".wav", "\ud800.wav"])
def test_a_name_that_no_disk_takes_is_a_track_error(name):
    with pytest.raises(TrackError) as caught:
        decode(name)
    assert caught.value.reason in ("missing", "unreadable")
    assert caught.value.message.isprintable()


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = sounds.write(tmp_path / "secret.wav", sounds.tone())

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TrackError, match=r"unreadable: .*secret\.wav cannot be opened .*Permission denied"):
        decode(path)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_mono_is_the_mean_of_the_channels(tmp_path, channels):
    written = sounds.noise(0.3, channels=channels)
    samples, _ = decode(sounds.write(tmp_path / "x.wav", written, subtype="FLOAT"))
    assert np.allclose(samples, written.mean(axis=1), atol=1e-7)
    assert samples.flags.c_contiguous
    assert probe(tmp_path / "x.wav").channels == channels


def test_samples_beyond_full_scale_stay(tmp_path):
    samples, _ = decode(sounds.write(tmp_path / "hot.wav", 3 * sounds.tone(), subtype="FLOAT"))
    assert samples.max() == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("wanted", [16_000, 22_050])
def test_resampling_keeps_length_and_pitch(tmp_path, rate, wanted):
    path = sounds.write(tmp_path / "x.wav", sounds.tone(1_000, 1.5, rate), rate)
    out = resample(*decode(path), wanted)
    assert out.dtype == np.float32
    assert abs(len(out) - 1.5 * wanted) <= 1
    power = np.abs(np.fft.rfft(out * np.hanning(len(out)), 8 * len(out)))
    assert power.argmax() * wanted / (8 * len(out)) == pytest.approx(1_000, abs=1)
    assert np.abs(out[500:-500]).max() == pytest.approx(0.5, abs=0.01)


def test_resampling_lets_nothing_fold_back():
    above = sounds.chirp(12_000, 20_000, 1.0, 48_000)
    assert np.abs(resample(above, 48_000, 16_000)[200:-200]).max() < 0.01


# whole or not -------------------------------------------------------------------------------------------------------


def encoded(path: Path, *options: str, seconds: float = 6.0, stream: bool = False) -> Path:
    """Noise through ffmpeg; as a stream, it cannot go back to write into the header what it learnt."""
    source = sounds.write(path.with_name("source.wav"), sounds.noise(seconds, 44_100, 2), 44_100)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-i", str(source), *options]
    if stream:
        path.write_bytes(subprocess.run([*command, "-"], capture_output=True, check=True).stdout)
    else:
        subprocess.run([*command, str(path)], check=True)
    return path


ENCODED = {
    "cbr.mp3": ["-b:a", "128k"],
    "vbr.mp3": ["-q:a", "4"],
    "cbr no xing.mp3": ["-b:a", "128k", "-write_xing", "0"],
    "vbr no xing.mp3": ["-q:a", "4", "-write_xing", "0"],
    "tagged.mp3": ["-b:a", "64k", "-ar", "22050", "-id3v2_version", "3", "-write_id3v1", "1", "-metadata", "title=x"],
    "vorbis.ogg": ["-c:a", "libvorbis"],
    "opus.opus": ["-c:a", "libopus"],
    "a.flac": [],
    "a.wav": [],
    "a.aiff": [],
    "a.au": [],
}
STREAMED = {
    "stream.flac": ["-f", "flac"],
    "stream.wav": ["-f", "wav"],
    "stream.mp3": ["-f", "mp3"],
    "stream.ogg": ["-c:a", "libvorbis", "-f", "ogg"],
}


@pytest.mark.parametrize("seconds", [0.3, 1.5, 6.0])
@pytest.mark.parametrize("name", [*ENCODED, *STREAMED])
def test_a_good_file_is_found_whole_and_its_length_is_right(tmp_path, name, seconds):
    options = (ENCODED | STREAMED)[name]
    path = encoded(tmp_path / name, *options, seconds=seconds, stream=name in STREAMED)
    checked = check(path)
    samples, rate = decode(path)
    assert checked.suffix == path.suffix
    assert checked.channels == 2
    assert checked.duration_s == pytest.approx(seconds, abs=0.08)  # MP3 encoders pad
    assert len(samples) / rate == pytest.approx(checked.duration_s, abs=0.05)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_decoded_is_found_out_without_decoding_it_all(tmp_path, name):
    make, _, decoded = BAD[name]
    make(tmp_path / name)
    if decoded in ("not_finite", "too_short", "silent"):
        check(tmp_path / name)  # of what it sounds like, it says nothing
        return
    with pytest.raises(TrackError) as caught:
        check(tmp_path / name)
    assert caught.value.reason in (decoded, "truncated")


def test_a_wav_file_with_chunks_around_its_data_is_whole(tmp_path):
    path = sounds.write(tmp_path / "x.wav", sounds.tone(seconds=2.0))
    data = path.read_bytes()
    head, rest = data[:12], data[12:]
    path.write_bytes(head + b"LIST\x03\0\0\0abc\0" + rest + b"id3 \x02\0\0\0xy")
    assert check(path).duration_s == 2.0


def test_an_mp3_with_a_picture_before_and_tags_behind_is_whole(tmp_path):
    path = encoded(tmp_path / "x.mp3", "-b:a", "128k")
    picture = b"\xff\xfb\x90\x64" * 5_000  # looks like the beginnings of frames
    size = len(picture) + 10
    digits = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    tag = b"ID3\x03\0\0" + digits + frame
    path.write_bytes(tag + path.read_bytes() + b"APETAGEX" + bytes(24) + b"TAG" + bytes(125))
    assert check(path).duration_s == pytest.approx(6.0, abs=0.08)


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"OggS", b".snd", b"ID3\x03\0\0", b"\xff\xfb\x90\x64"]),
)
def test_any_bytes_are_checked_without_another_error(tmp_path_factory, data, head):
    path = tmp_path_factory.mktemp("any") / "x.mp3"
    path.write_bytes(head + data)
    try:
        seconds, lines = check(path).duration_s, ""
    except TrackError as error:
        seconds, lines = 0.0, error.message
    assert seconds > 0 or path.name in lines
    assert lines.isprintable()
