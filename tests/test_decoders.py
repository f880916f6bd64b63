"""Streaming decode: the right samples of every format, in bounded memory, and a reason for whatever is no music."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import held

from mer_ray.audio import decode, reader, reader_ffmpeg, reader_miniaudio, reader_soundfile
from mer_ray.audio.decode import check, probe, resample, stream
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.extensions import EXTENSIONS
from mer_ray.errors import TrackError

RATE = 48_000  # Opus knows no other
LOSSY = {".ogg", ".opus", ".mp3", ".m4a", ".aac", ".webm", ".mka", ".wma", ".ac3"}


def music(seconds: float = 4.0, channels: int = 2, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Two different chords with some noise: (n, channels) float32. Lossy codecs keep them, and shifts are seen."""
    sides = [sounds.chirp(100 + 70 * c, 3_000 + 500 * c, seconds, rate) for c in range(channels)]
    return np.stack(sides, axis=1) * 0.8 + 0.05 * sounds.noise(seconds, rate, channels, seed)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 4 s of stereo in every format."""
    folder = tmp_path_factory.mktemp("formats")
    source = sounds.write(folder / "source.wav", music(), RATE, "FLOAT")
    return {name: sounds.ffmpeg(source, folder / name, *options) for name, options in sounds.CODECS.items()}


def streamed(path: Path, rate: int, excerpt: Excerpt | None = None, allow_partial: bool = False) -> list[np.ndarray]:
    """The pieces of a file, each in one array."""
    pieces: dict[int, list[np.ndarray]] = {}
    for block in stream(path, [rate], excerpt, allow_partial=allow_partial):
        pieces.setdefault(block.piece, []).append(block.samples[rate])
    return [np.concatenate(blocks) for blocks in pieces.values()]


def whole(path: Path, rate: int = RATE, allow_partial: bool = False) -> np.ndarray:
    return streamed(path, rate, allow_partial=allow_partial)[0]


def reason(path: Path | str, **options: float) -> str:
    with pytest.raises(TrackError) as caught:
        list(stream(path, [16_000], **options))
    assert caught.value.message.isprintable()
    return caught.value.reason


# the right samples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sounds.CODECS)
def test_every_format_gives_what_an_independent_decoder_gives(files, name):
    path = files[name]
    if name in ("vorbis.ogg", "cbr.mp3"):
        expected = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    else:
        expected = sounds.ffmpeg_decoded(path, 2).mean(axis=1)
    got = whole(path)
    assert len(got) == len(expected)
    assert np.abs(got - expected).max() < 1e-4
    source = music().mean(axis=1)
    if name not in ("no xing.mp3", "a.wma", "adts.aac", "a.ac3"):  # these do not say what their encoder put in front
        n = min(len(source), len(got))
        assert np.abs(got[:n] - source[:n]).mean() < (0.02 if path.suffix in LOSSY else 0.004)


@pytest.mark.parametrize("name", sounds.CODECS)
def test_every_format_is_probed_and_checked(files, name):
    assert files[name].suffix in EXTENSIONS
    for found in (probe(files[name]), check(files[name])):
        assert (found.sample_rate, found.channels) == (RATE, 2)
        assert found.duration_s == pytest.approx(4.0, abs=0.1)
        assert found.suffix == {".webm": ".mka", "flac in.ogg": ".ogg"}.get(files[name].suffix, files[name].suffix)


@pytest.mark.parametrize("name", sounds.CODECS)
def test_the_content_decides_and_not_the_name(files, tmp_path, name):
    misnamed = tmp_path / "x.mp3"
    misnamed.write_bytes(files[name].read_bytes())
    assert np.array_equal(whole(misnamed), whole(files[name]))


@pytest.mark.parametrize("surplus", [1, 100, 400])
def test_the_surplus_before_the_first_page_of_vorbis_is_discarded(tmp_path, surplus):
    plain = sounds.write(tmp_path / "x.ogg", music(3.0), RATE)
    pages = sounds.ogg_pages(plain.read_bytes())
    audio = [page if int.from_bytes(page[6:14], "little") == 0 else b"" for page in pages]
    moved = b"".join(head or sounds.ogg_page_moved(page, -surplus) for head, page in zip(audio, pages, strict=True))
    early = tmp_path / "early.ogg"
    early.write_bytes(moved)
    expected = whole(plain)[surplus:]
    assert len(whole(early)) == len(expected)
    assert np.abs(whole(early) - expected).max() < 1e-5
    assert np.abs(sounds.ffmpeg_decoded(early, 2).mean(axis=1)[-len(expected) :] - expected).max() < 1e-5
    for start in (0, 50_000):
        with_seek = reader_miniaudio.Vorbis(early)
        with_seek.seek(start)
        assert np.abs(with_seek.read(9_000).mean(axis=1) - expected[start : start + 9_000]).max() < 1e-5
        with_seek.close()


@pytest.mark.parametrize("size", [1 << 10, 12_345])
@pytest.mark.parametrize("name", sounds.CODECS)
def test_samples_do_not_depend_on_the_size_of_the_blocks(files, monkeypatch, name, size):
    expected = whole(files[name]), whole(files[name], 22_050)
    for module in (decode, reader, reader_ffmpeg, reader_miniaudio, reader_soundfile):
        monkeypatch.setattr(module, "BLOCK", size)
    assert np.array_equal(whole(files[name]), expected[0]) or np.allclose(whole(files[name]), expected[0], atol=1e-6)
    assert np.allclose(whole(files[name], 22_050), expected[1], atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_each_wanted_rate_is_what_resampling_the_whole_gives(tmp_path, rate):
    path = sounds.write(tmp_path / "x.wav", music(7.0, rate=rate), rate, "FLOAT")
    mono = whole(path, rate)
    blocks = list(stream(path, [16_000, 22_050, rate, 16_000]))
    assert sum(block.seconds for block in blocks) == pytest.approx(7.0)
    for wanted in (16_000, 22_050, rate):
        got = np.concatenate([block.samples[wanted] for block in blocks])
        expected = resample(mono, rate, wanted)
        assert got.dtype == np.float32
        assert len(got) == len(expected)
        assert np.allclose(got, expected, atol=2e-6)


# excerpts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sounds.CODECS)
def test_an_excerpt_is_a_slice_of_the_whole(files, name):
    samples = whole(files[name])
    length = round(probe(files[name]).duration_s * RATE)
    assert abs(length - len(samples)) <= 0.05 * RATE  # of some formats packets are counted, with what encoders pad
    for excerpt in (Excerpt(1.0, "start"), Excerpt(1.5, "centre"), Excerpt(2.0, "spread", 3), Excerpt(60.0)):
        expected = [samples[start : start + n] for start, n in excerpt.pieces(length, RATE)]
        got = streamed(files[name], RATE, excerpt)
        assert [len(piece) for piece in got] == [len(piece) for piece in expected]
        assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(got, expected, strict=True))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".wav", ".flac", ".ogg", ".mp3", ".aiff"]),
    n=st.integers(3_000, 60_000),
    rate=st.sampled_from([8_000, 22_050, 44_100]),
    excerpt=st.builds(Excerpt, st.floats(0.01, 2.0), st.sampled_from(["start", "centre", "spread"]), st.integers(1, 5)),
)
def test_any_excerpt_of_any_length_is_a_slice_of_the_whole(tmp_path, suffix, n, rate, excerpt):
    path = sounds.write(tmp_path / f"x{suffix}", music(n / rate, 1, seed=n, rate=rate), rate)
    samples = whole(path, rate)
    pieces = excerpt.pieces(round(probe(path).duration_s * rate), rate)
    got = streamed(path, rate, excerpt)
    assert len(got) == len(pieces)
    for piece, (start, length) in zip(got, pieces, strict=True):
        assert len(piece) == min(length, len(samples) - start)
        assert np.abs(piece - samples[start : start + length]).max() < 1e-6


def test_the_least_duration_is_of_the_whole_track(files):
    for name in ("a.flac", "aac.m4a"):
        assert len(list(stream(files[name], [16_000], Excerpt(0.5), min_duration_s=3.0))) > 0
        assert reason(files[name], excerpt=Excerpt(0.5), min_duration_s=5.0) == "too_short"
        assert reason(files[name], min_duration_s=5.0) == "too_short"


def test_only_what_is_wanted_of_a_file_is_decoded(tmp_path):
    path = sounds.write(tmp_path / "x.flac", music(60.0, 1), RATE)
    assert sum(block.seconds for block in stream(path, [16_000], Excerpt(2.0, "spread", 2))) == pytest.approx(2.0)


# memory ------------------------------------------------------------------------------------------------------------

PEAK = "import sys; from resource import *; from mer_ray.audio.decode import stream; "
PEAK += "print(sum(b.seconds for b in stream(sys.argv[1], [16000])), getrusage(RUSAGE_SELF).ru_maxrss)"


def test_hours_need_no_more_memory_than_minutes(tmp_path):
    peaks = []
    for seconds in (60, 3 * 3600):
        path = sounds.write(tmp_path / f"{seconds}.wav", sounds.tone(seconds=1.0, rate=8_000), 8_000, "PCM_U8")
        head = bytearray(path.read_bytes()[:44])
        head[4:8], head[40:44] = (8_000 * seconds + 36).to_bytes(4, "little"), (8_000 * seconds).to_bytes(4, "little")
        with path.open("r+b") as file:  # the rest is a hole, which reads as zeros
            file.write(head)
            file.truncate(44 + 8_000 * seconds)
        lines = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True).stdout
        decoded, peak_kb = lines.split()
        assert float(decoded) == pytest.approx(seconds)
        peaks.append(int(peak_kb))
    assert peaks[1] < peaks[0] + 20_000


def test_no_file_stays_open(files, tmp_path):
    for path in [*files.values(), sounds.text(tmp_path / "x.mp3")]:
        blocks = stream(path, [16_000])
        try:
            next(blocks)
        except TrackError:
            assert path.name == "x.mp3"
        del blocks
    assert [*held(next(iter(files.values())).parent, "self"), *held(tmp_path, "self")] == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


# files that hurt ---------------------------------------------------------------------------------------------------


def test_channels_that_cancel_each_other_are_told_from_silence(tmp_path):
    left = sounds.tone()
    assert reason(sounds.write(tmp_path / "anti.wav", np.stack([left, -left], axis=1), subtype="FLOAT")) == "cancelled"
    assert (
        reason(sounds.write(tmp_path / "hush.wav", np.stack([left, -left], axis=1) * 1e-3, subtype="FLOAT")) == "silent"
    )
    half = np.concatenate([np.stack([left, -left], axis=1), np.stack([left, left], axis=1)])
    assert len(whole(sounds.write(tmp_path / "half.wav", half), sounds.RATE)) == len(half)


def test_silence_is_judged_on_the_excerpt(tmp_path):
    samples = np.concatenate([sounds.tone(), np.zeros(3 * sounds.RATE, np.float32)])
    path = sounds.write(tmp_path / "x.wav", samples)
    assert reason(path, excerpt=Excerpt(1.0, "centre")) == "silent"
    assert len(streamed(path, sounds.RATE, Excerpt(1.0, "start"))[0]) == sounds.RATE


@pytest.mark.parametrize("channels", [1, 6, 8])
@pytest.mark.parametrize("rate", [8_000, 192_000])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_odd_rates_and_many_channels(tmp_path, suffix, rate, channels):
    path = sounds.write(tmp_path / f"x{suffix}", music(0.5, channels, rate=rate), rate)
    assert len(whole(path, 16_000)) == pytest.approx(8_000, abs=2)
    assert check(path).channels == channels


@pytest.mark.parametrize("suffix", sorted(sounds.FORMATS))
@pytest.mark.parametrize("n", [1, 2, 100])
def test_a_handful_of_samples(tmp_path, suffix, n):
    path = sounds.write(tmp_path / f"x{suffix}", sounds.tone(seconds=1.0)[100 : 100 + n])
    try:
        lines = f"{len(whole(path, sounds.RATE))} samples"
    except TrackError as error:
        lines = error.reason
    assert lines in ("empty", "corrupt", "silent") or int(lines.split()[0]) >= 1


def test_a_constant_is_music_to_the_decoder(tmp_path):
    assert np.allclose(whole(sounds.write(tmp_path / "x.wav", np.full(9_000, 0.25)), sounds.RATE), 0.25)


def test_five_megabytes_of_cover_art_do_no_harm(files, tmp_path):
    for name in ("cbr.mp3", "no xing.mp3", "a.flac"):
        art = b"ID3\x03\0\0" + bytes((5_000_000 >> shift) & 0x7F for shift in (21, 14, 7, 0)) + os.urandom(5_000_000)
        path = tmp_path / name
        path.write_bytes(art + files[name].read_bytes())
        assert np.abs(whole(path) - whole(files[name])).max() < 1e-4
        assert probe(path).duration_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile 'secret.wav'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path, playlist):
    sounds.write(tmp_path / "secret.wav", sounds.tone())
    path = tmp_path / "x.m4a"
    path.write_text(playlist)
    assert reason(path) == "corrupt"


@pytest.mark.parametrize("name", ["aac.m4a", "a.opus", "vorbis.ogg", "cbr.mp3", "pcm16.wav"])
def test_hostile_names_are_opened_by_every_decoder(files, tmp_path, name):
    expected = whole(files[name])
    for hostile in (
        b"caf\xe9 \xff",
        b"line\nbreak",
        "🎻".encode(),
        b"http:x",
        b"-i",
        b"%41?#;",
        b"pipe:0",
        b"concat:a|b",
    ):
        path = tmp_path / os.fsdecode(hostile + files[name].suffix.encode())
        path.write_bytes(files[name].read_bytes())
        assert np.array_equal(whole(path), expected)
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert np.array_equal(whole(Path(f"pipe:0{files[name].suffix}")), expected)
    finally:
        os.chdir(old)


# what breaks off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.flac", "24 bits.flac", "stream.flac"])
def test_of_a_flac_file_that_is_damaged_mid_way_what_is_good_is_used(files, tmp_path, name):
    data = bytearray(files[name].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = os.urandom(40)
    path = tmp_path / name
    path.write_bytes(data)
    samples, expected = whole(path, allow_partial=True), whole(files[name])
    assert 0 < len(expected) - len(samples) < 0.4 * RATE
    assert np.array_equal(samples[:RATE], expected[:RATE])
    assert np.array_equal(samples[-RATE:], expected[-RATE:])
