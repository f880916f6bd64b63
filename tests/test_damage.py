"""Files that are cut, damaged, padded or put together: read as far as they go, and never short without a word."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sounds
from sounds import decode

import mer_ray
from mer_ray.audio.decode import Probe, check, stream
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.isolated import Decoder
from mer_ray.errors import TrackError
from mer_ray.io.tables import Workspace

RATE, SECONDS = 48_000, 12.0  # Opus knows no other rate
FASTSTART = ["-movflags", "faststart"]
FORMATS = {
    "cbr.mp3": ["-b:a", "96k"],
    "vbr.mp3": ["-q:a", "5"],
    "no count.mp3": ["-b:a", "96k", "-write_xing", "0"],
    "a.ogg": ["-c:a", "libvorbis", "-page_duration", "200000"],
    "a.opus": ["-c:a", "libopus", "-b:a", "64k", "-page_duration", "200000"],
    "flac.ogg": ["-c:a", "flac", "-page_duration", "200000"],
    "a.flac": [],
    "stream.flac": ["-f", "flac", "pipe:1"],
    "a.wav": [],
    "rf64.wav": ["-rf64", "always"],
    "a.w64": [],
    "a.aiff": [],
    "a.au": [],
    "a.caf": [],
    "aac.m4a": ["-c:a", "aac", *FASTSTART],
    "alac.m4a": ["-c:a", "alac", *FASTSTART],
    "a.mka": ["-c:a", "libvorbis"],
    "a.webm": ["-c:a", "libopus"],
    "a.wma": ["-c:a", "wmav2"],
    "a.wv": [],
    "a.tta": [],
    "a.flv": ["-c:a", "libmp3lame", "-ar", "44100"],
    "a.avi": ["-c:a", "libmp3lame"],
    "a.voc": [],
    "a.mp2": ["-b:a", "192k"],
    "adts.aac": [],
}
SILENT_OF_LENGTH = ("no count.mp3", "a.mp2", "adts.aac")
"""They do not say how long they are."""


def music(seconds: float = SECONDS, channels: int = 2, rate: int = RATE, base: float = 200.0) -> np.ndarray:
    """A sweep and some noise in each channel: no two places sound the same."""
    sides = [sounds.chirp(base + 70 * c, 3_000 + 500 * c, seconds, rate) for c in range(channels)]
    return 0.8 * np.stack(sides, axis=1) + 0.05 * sounds.noise(seconds, rate, channels)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    source = sounds.write(folder / "source.wav", music(), RATE)
    made = {name: folder / name for name in FORMATS}
    plain = {name: options for name, options in FORMATS.items() if options[-1:] != ["pipe:1"]}
    last = plain.popitem()[0]
    # All in one process: its start is what takes long.
    sounds.ffmpeg(source, made[last], *(str(a) for name, options in plain.items() for a in (*options, made[name])))
    for name in FORMATS.keys() - plain.keys() - {last}:
        sounds.ffmpeg(source, made[name], *FORMATS[name])
    return made


@pytest.fixture(scope="session")
def truth(files: dict[str, Path]) -> Callable[[str], np.ndarray]:
    """What the whole file holds."""
    known: dict[str, np.ndarray] = {}

    def of(name: str) -> np.ndarray:
        if name not in known:
            known[name] = decode(files[name])[0]
        return known[name]

    return of


def read(path: Path, **options: object) -> tuple[np.ndarray, float | None]:
    """A file's samples at its own rate, and its decoded_share."""
    blocks = list(stream(path, [check(path, allow_partial=True).sample_rate], **options))  # type: ignore[arg-type]
    assert [b.decoded_share for b in blocks[:-1]] == [None] * (len(blocks) - 1)
    return np.concatenate([next(iter(b.samples.values())) for b in blocks]), blocks[-1].decoded_share


def refused(read: Callable[[], object]) -> TrackError:
    with pytest.raises(TrackError) as caught:
        read()
    assert caught.value.message.isprintable()
    return caught.value


def alike(got: np.ndarray, expected: np.ndarray) -> float:
    n = min(len(got), len(expected))
    return float(np.corrcoef(got[:n], expected[:n])[0, 1])


def placed(got: np.ndarray, expected: np.ndarray, within: int = 2_400) -> float:
    """The correlation of ``expected`` with what lies so many samples, at most, from the end of ``got``."""
    return max(alike(got[len(got) - len(expected) - back :], expected) for back in range(within))


# cut ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in SILENT_OF_LENGTH])
def test_a_third_of_a_file_is_truncated_for_every_stage_or_kept_with_its_share(files, truth, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(files[name].read_bytes()[: files[name].stat().st_size // 3])
    for stage in (check, decode, lambda p: list(stream(p, [16_000]))):
        error = refused(partial(stage, path))
        # A FLAC stream of unknown length ends with half a frame; all others say how much there should be.
        assert error.reason == ("corrupt" if name == "stream.flac" else "truncated")
        assert "--allow-partial" in error.message
    got, share = read(path, allow_partial=True)
    assert alike(got, truth(name)) > 0.99
    # The bits are not spread evenly over a file.
    assert 0.2 < len(got) / len(truth(name)) < 0.45
    known = not name.endswith((".ogg", ".opus", "stream.flac", ".voc"))
    assert share == (pytest.approx(len(got) / len(truth(name)), abs=0.01) if known else None)
    kept = check(path, allow_partial=True)
    assert kept.duration_s == pytest.approx(len(got) / kept.sample_rate, abs=0.05)
    assert kept.decoded_share == (pytest.approx(share, abs=0.005) if known else None)


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in SILENT_OF_LENGTH])
def test_a_file_that_breaks_off_near_its_end_is_found_out_by_a_check(files, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(files[name].read_bytes()[: int(files[name].stat().st_size * 0.9)])
    error = refused(partial(check, path))
    assert (error.reason in ("truncated", "corrupt"), error.transient, name in error.message) == (True, False, True)


@pytest.mark.parametrize("name", SILENT_OF_LENGTH)
def test_of_a_file_that_does_not_say_how_long_it_is_nothing_is_said(files, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(files[name].read_bytes()[: files[name].stat().st_size // 3])
    assert check(path).decoded_share is None
    assert read(path)[1] is None


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in (*SILENT_OF_LENGTH, "stream.flac", "a.voc")])
def test_a_whole_file_says_so(files, name):
    assert read(files[name])[1] == 1.0
    assert check(files[name]).decoded_share == 1.0


@pytest.mark.parametrize("share", [0.005, 0.015, 0.025, 0.1])
@pytest.mark.parametrize("seconds", [4.0, 40.0])
def test_the_tolerance_is_two_percent_and_of_what_is_no_bytes_half_a_second(tmp_path, seconds, share):
    wav = sounds.write(tmp_path / "x.wav", music(seconds, 1, 8_000), 8_000)
    flac = sounds.write(tmp_path / "x.flac", music(seconds, 1, 8_000), 8_000)
    for path in (wav, flac):
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * (1 - share))])
        got, decoded_share = read(path, allow_partial=True)
        missing = 1 - len(got) / (seconds * 8_000)
        assert decoded_share == pytest.approx(1 - missing, abs=0.001) or missing * seconds < 0.05
        if missing > 0.02 and (path == wav or missing * seconds > 0.5):
            assert [refused(partial(read, path)).reason for read in (decode, check)] == ["truncated"] * 2
        else:
            assert len(decode(path)[0]) == len(got)
            assert check(path).duration_s == pytest.approx(len(got) / 8_000)


def test_an_ogg_that_ends_between_two_pages_is_truncated(files, truth, tmp_path):
    for name in ("a.ogg", "a.opus"):
        path = tmp_path / name
        path.write_bytes(b"".join(sounds.ogg_pages(files[name].read_bytes())[:-20]))
        assert "last Ogg page" in refused(partial(check, path)).message
        assert refused(partial(decode, path)).reason == "truncated"
        assert alike(read(path, allow_partial=True)[0], truth(name)) > 0.999


def test_an_excerpt_of_a_cut_file_lies_in_what_is_there(files, truth, tmp_path):
    for name in ("cbr.mp3", "a.wav", "a.flac", "alac.m4a", "a.ogg"):
        path = tmp_path / name
        path.write_bytes(files[name].read_bytes()[: files[name].stat().st_size // 2])
        centre = Excerpt(2.0, "centre")
        assert refused(partial(decode, path, excerpt=centre)).reason == "truncated"
        got, share = read(path, excerpt=centre, allow_partial=True)
        held, _ = read(path, allow_partial=True)
        ((start, n),) = centre.pieces(len(held), RATE)
        # Packets are counted, the last of which is cut through.
        assert max(alike(got, held[start + off : start + off + n]) for off in (0, 2_048)) > 0.999, name
        assert share is None or 0.4 < share < 0.6


# damaged -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", [b"\0" * 100, b"\xff" * 100, b"OggS" * 25, b"some text. " * 9_000])
def test_filling_between_two_pages_ends_nothing(files, truth, tmp_path, filling):
    for name in ("a.ogg", "a.opus", "flac.ogg"):
        pages = sounds.ogg_pages(files[name].read_bytes())
        path = tmp_path / name
        path.write_bytes(b"".join([*pages[:30], filling, *pages[30:]]))
        got, share = read(path)
        assert len(got) == len(truth(name))
        assert alike(got, truth(name)) > 0.9999
        assert share == check(path).decoded_share == 1.0


@pytest.mark.parametrize("place", [0, 4, 5, 6, 14, 18, 22, 26])
def test_a_damaged_page_header_costs_that_page_at_most(files, truth, tmp_path, place):
    for name in ("a.ogg", "a.opus", "flac.ogg"):
        data = bytearray(files[name].read_bytes())
        start = sum(map(len, sounds.ogg_pages(bytes(data))[:30])) + place
        data[start : start + 4] = b"\xa5\x5a\xff\x13"
        path = tmp_path / name
        path.write_bytes(data)
        got, share = read(path)
        # All but the checksum itself and the sizes can be told from the rest.
        assert (SECONDS - 0.5 if place >= 22 else SECONDS - 0.001) < len(got) / RATE <= SECONDS
        assert share == pytest.approx(len(got) / len(truth(name)), abs=0.004)
        assert alike(got[-RATE:], truth(name)[-RATE:]) > 0.999


@pytest.mark.parametrize("name", ["cbr.mp3", "vbr.mp3", "no count.mp3", "a.flac", "aac.m4a"])
def test_a_little_damage_costs_a_little(files, truth, tmp_path, name):
    data, rng = bytearray(files[name].read_bytes()), np.random.default_rng(7)
    middle, n = len(data) // 2, len(data) // 500
    data[middle : middle + n] = rng.bytes(n)
    path = tmp_path / name
    path.write_bytes(data)
    got, share = read(path)
    assert len(truth(name)) - 0.3 * RATE < len(got) <= len(truth(name))
    assert alike(got[: len(got) // 2 - RATE], truth(name)) > 0.999
    assert placed(got, truth(name)[-RATE // 16 :]) > 0.99  # what follows is joined on
    assert share is not None
    assert share == pytest.approx(len(got) / len(truth(name)), abs=0.005)
    check(path)


DAMAGES = {
    "cut": lambda data, rng: data[: int(len(data) * rng.uniform(0.2, 0.9))],
    "hole": lambda data, rng: _overwritten(data, rng, bytes(len(data) // 4)),
    "zero tail": lambda data, rng: data[: len(data) * 2 // 3] + bytes(len(data) // 3),
    "noise": lambda data, rng: _overwritten(data, rng, rng.bytes(len(data) // 10)),
    "0.05 %": lambda data, rng: _sprinkled(data, rng, 0.0005),
    "0.3 %": lambda data, rng: _sprinkled(data, rng, 0.003),
    "1 %": lambda data, rng: _sprinkled(data, rng, 0.01),
    "inserted": lambda data, rng: data[: len(data) // 2] + rng.bytes(100) + data[len(data) // 2 :],
    "gone": lambda data, rng: data[: len(data) // 2] + data[len(data) // 2 + 5_000 :],
    "junk behind": lambda data, rng: data + rng.bytes(2_000),
    "junk before": lambda data, rng: rng.bytes(700) + data,
    "tag behind": lambda data, rng: data + b"APETAGEX" + bytes(24) + b"TAG" + bytes(125),
    "two tags before": lambda data, rng: 2 * (b"ID3\x03\0\0\0\0\x02\0" + bytes(256)) + data,
}


def _overwritten(data: bytes, rng: np.random.Generator, new: bytes) -> bytes:
    start = int(rng.integers(len(data) // 5, len(data) - len(new)))
    return data[:start] + new + data[start + len(new) :]


def _sprinkled(data: bytes, rng: np.random.Generator, share: float) -> bytes:
    damaged = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(len(data) // 20, len(data), round(share * len(data)))
    damaged[places] = rng.integers(0, 256, len(places))
    return damaged.tobytes()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["cbr.mp3", "a.ogg", "a.opus", "a.flac", "aac.m4a"])
def test_nothing_is_short_without_a_word(files, truth, tmp_path, name, damage):
    rng = np.random.default_rng(sum(map(ord, name + damage)))
    path = tmp_path / name
    path.write_bytes(DAMAGES[damage](files[name].read_bytes(), rng))
    expected = len(truth(name)) / RATE
    try:
        got, share = read(path)
    except TrackError as error:
        assert error.reason in ("truncated", "corrupt")  # noqa: PT017
        assert damage != "tag behind"
        return
    seconds = len(got) / RATE
    assert expected - seconds <= 0.5 + 1e-6  # the tolerance: 2 % are less
    assert seconds - expected < 0.1
    assert share is None or share == pytest.approx(seconds / expected, abs=0.01)
    assert damage not in ("cut", "hole", "zero tail", "noise")
    n = round(0.05 * len(got))
    assert alike(got[:n], truth(name)) > 0.98


# whole, if odd -----------------------------------------------------------------------------------------------------


def test_mp2_and_mp3_in_a_wav_are_read(files, tmp_path):
    inside = sounds.ffmpeg(files["a.wav"], tmp_path / "mp3.wav", "-c:a", "libmp3lame")
    for path in (files["a.mp2"], inside):
        expected = sounds.ffmpeg_decoded(path, 2).mean(axis=1)
        got = decode(path)[0]
        assert abs(len(got) - len(expected)) <= 1_152
        assert alike(got, expected) > 0.999
        assert check(path).duration_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("riff", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_without_sizes_goes_to_its_end(files, truth, tmp_path, size, riff):
    data = bytearray(files["a.wav"].read_bytes())
    place = data.index(b"data") + 4
    data[4:8], data[place : place + 4] = struct.pack("<I", riff), struct.pack("<I", size)
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    assert np.array_equal(decode(path)[0], truth("a.wav"))
    assert check(path) == Probe(SECONDS, RATE, 2, ".wav", None)


@pytest.mark.parametrize("surplus", [209, 1_105])
def test_an_ogg_that_is_short_by_milliseconds_is_whole(tmp_path, surplus):
    path = sounds.write(tmp_path / "x.ogg", music(4.0), RATE)
    pages = sounds.ogg_pages(path.read_bytes())
    whole = decode(path)[0]
    path.write_bytes(b"".join([*pages[:-1], sounds.ogg_page_moved(pages[-1], surplus)]))
    assert check(path).decoded_share == 1.0
    assert abs(len(decode(path)[0]) - len(whole)) <= surplus


@pytest.mark.parametrize("serials", [(5, 5), (5, 77)])
@pytest.mark.parametrize(("codec", "rate"), [("libvorbis", 48_000), ("libvorbis", 32_000), ("libopus", 48_000)])
def test_a_chain_is_read_to_its_end(tmp_path, codec, rate, serials):
    first = sounds.write(tmp_path / "1.wav", music(3.0), RATE)
    second = sounds.write(tmp_path / "2.wav", music(2.0, 1, rate, 900.0), rate)
    links = [
        sounds.ffmpeg(wav, wav.with_suffix(".ogg"), "-c:a", codec, "-serial_offset", str(serial))
        for wav, serial in zip((first, second), serials, strict=True)
    ]
    path = tmp_path / "chain.ogg"
    path.write_bytes(b"".join(link.read_bytes() for link in links))
    expected = np.concatenate([sounds.resampled(*decode(link), RATE) for link in links])
    got, share = read(path)
    assert abs(len(got) - len(expected)) <= 2
    assert alike(got[: 3 * RATE], expected) > 0.9999
    assert alike(got[3 * RATE + 500 : -500], expected[3 * RATE + 500 : -500]) > 0.999
    assert share == check(path).decoded_share == 1.0
    path.write_bytes(path.read_bytes()[: -links[1].stat().st_size // 2])
    assert refused(lambda: decode(path)).reason == "truncated"


@pytest.mark.parametrize("options", [["-b:a", "96k"], ["-q:a", "5"], ["-b:a", "96k", "-write_xing", "0"]])
@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (32_000, 1)])
def test_mp3s_one_behind_the_other_are_all_read(tmp_path, options, rate, channels):
    first = sounds.write(tmp_path / "1.wav", music(3.0), RATE)
    second = sounds.write(tmp_path / "2.wav", music(2.0, channels, rate, 900.0), rate)
    parts = [sounds.ffmpeg(wav, wav.with_suffix(".mp3"), *options, "-id3v2_version", "0") for wav in (first, second)]
    path = tmp_path / "both.mp3"
    between = b"TAG" + bytes(125) if options[0] == "-q:a" else b""
    path.write_bytes(between.join(part.read_bytes() for part in parts))
    got = decode(path)[0]
    assert len(got) / RATE == pytest.approx(5.0, abs=0.15)
    assert check(path).duration_s == pytest.approx(5.0, abs=0.15)
    assert alike(got[: 3 * RATE - 4_000], decode(parts[0])[0]) > 0.999
    # At another rate, it may lie between two samples.
    assert placed(got, sounds.resampled(*decode(parts[1]), RATE)[-RATE // 16 :]) > 0.97
    if "-write_xing" not in options:
        path.write_bytes(path.read_bytes()[: -parts[1].stat().st_size * 2 // 3])
        assert refused(lambda: decode(path)).reason == "truncated"


def test_a_count_of_frames_that_an_editor_left_is_not_believed(files, tmp_path):
    data = files["cbr.mp3"].read_bytes()
    frame = 288  # bytes, at 96 kbit/s and 48 kHz
    first = data.index(b"\xff\xfb")
    cut = data[: first + frame * 301] + b"TAG" + bytes(125)  # frames were taken away, and the tag put back
    path = tmp_path / "x.mp3"
    path.write_bytes(cut)
    assert len(decode(path)[0]) / RATE == pytest.approx(300 * 1_152 / RATE, abs=0.06)
    assert check(path).decoded_share == 1.0
    place = data.index(b"Info") + 8
    doubled = int.from_bytes(data[place : place + 4], "big") * 2
    path.write_bytes(data[:place] + doubled.to_bytes(4, "big") + data[place + 4 :])
    assert len(decode(path)[0]) / RATE == pytest.approx(SECONDS, abs=0.06)
    halved = doubled // 4
    path.write_bytes(data[:place] + halved.to_bytes(4, "big") + data[place + 4 :])
    assert len(decode(path)[0]) / RATE == pytest.approx(SECONDS, abs=0.06)


# through the doors -------------------------------------------------------------------------------------------------


def test_the_isolated_decoder_says_the_same(files, tmp_path):
    path = tmp_path / "x.mp3"
    path.write_bytes(files["cbr.mp3"].read_bytes()[: files["cbr.mp3"].stat().st_size // 3])
    with Decoder() as strict, Decoder(allow_partial=True) as lenient:
        assert refused(lambda: list(strict.stream(path, [16_000]))).reason == "truncated"
        assert refused(lambda: strict.check(path)).reason == "truncated"
        assert list(lenient.stream(path, [16_000]))[-1].decoded_share == pytest.approx(1 / 3, abs=0.02)
        assert lenient.check(path) == check(path, allow_partial=True)


def test_score_keeps_what_is_there_if_it_is_told_to(files, tmp_path, mer_ray):
    whole, cut = files["cbr.mp3"], tmp_path / "music" / "cut.mp3"
    cut.parent.mkdir()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert refused(lambda: mer_ray_score([cut], errors="raise")).reason == "truncated"
    table = mer_ray_score([whole, cut], allow_partial=True)
    assert table["decoded_share"].to_pylist() == [1.0, pytest.approx(1 / 3, abs=0.02)]
    target = tmp_path / "scores.csv"
    code, out, err = mer_ray("score", cut.parent, "--out", target)
    assert code == 2, out + err
    code, out, err = mer_ray("score", cut.parent, "--out", target, "--allow-partial")
    assert code == 0, out + err
    assert "decoded_share" in target.read_text().splitlines()[0]


def mer_ray_score(*arguments: object, **options: object) -> object:
    return mer_ray.score(*arguments, **options)  # type: ignore[arg-type]


def test_acquire_and_extract_keep_what_is_there_if_they_are_told_to(files, tmp_path, mer_ray):
    music = tmp_path / "music"
    music.mkdir()
    (music / "whole.mp3").write_bytes(files["cbr.mp3"].read_bytes())
    (music / "cut.mp3").write_bytes(files["cbr.mp3"].read_bytes()[: files["cbr.mp3"].stat().st_size // 3])
    sets = ("collect.source=folder", f"collect.folder={music}", "extract.features=mfcc")
    options = ["--workspace", tmp_path / "w", *(part for s in sets for part in ("--set", s))]
    workspace = Workspace(tmp_path / "w")
    for stage in ("collect", "acquire", "extract"):
        code, out, err = mer_ray(stage, *options)
        assert code == 0, out + err
    assert workspace.reasons("acquire") == {"truncated": 1}
    assert workspace.read("audio")["decoded_share"].to_pylist() == [1.0]
    for stage in ("acquire", "extract"):  # what was truncated is tried again
        code, out, err = mer_ray(stage, *options, "--allow-partial")
        assert code == 0, out + err
    assert not workspace.reasons("acquire")
    shares = workspace.read("audio")["decoded_share"].to_pylist()
    assert sorted(shares) == [pytest.approx(1 / 3, abs=0.02), 1.0]
    assert len(workspace.ids("features/mfcc")) == 2
