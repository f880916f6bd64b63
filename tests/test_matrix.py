"""Every decoder × channels × depth × rate that the readers accept, held against what the ffmpeg program decodes.

Each channel has a sound of its own, so that one that is missing, doubled or noise shows in the mean of them all. The
usual run covers each format with every channel count, and some rates; MER_RAY_LONG_TESTS=1 takes the whole product.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import sounds
from sounds import decode

from mer_ray.audio.decode import check
from mer_ray.errors import TrackError

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
SECONDS = 0.5
SAME, LENGTH = 0.999, 1_024
"""The least correlation, and the most samples by which lengths may differ."""

ANY = frozenset(range(1, 9))
PAIR = frozenset({1, 2})
MPEG = RATES[:9]
OPUS = {3: "3.0", 4: "quad"}
ALAC = {3: "3.0", 8: "7.1(wide)"}
"""What ffmpeg is to call so many channels, where the codec does not know the usual arrangement."""


class Format(NamedTuple):
    """How ffmpeg writes it, the channels and rates that it can hold, and what it has to call the channels."""

    suffix: str
    options: tuple[str, ...]
    channels: frozenset[int] = ANY
    rates: tuple[int, ...] = RATES
    layouts: Mapping[int, str] = MappingProxyType({})

    def written(self, channels: int) -> tuple[str, ...]:
        """ffmpeg's options for a file of so many channels."""
        layout = self.layouts.get(channels)
        named = ("-af", f"channelmap={'|'.join(map(str, range(channels)))}:{layout}") if layout else ()
        return (*named, *self.options)


def _pcm(suffix: str, codecs: str, *options: str, **bounds: object) -> dict[str, Format]:
    return {f"{c}{suffix}": Format(suffix, ("-c:a", c, *options), **bounds) for c in codecs.split()}  # type: ignore[arg-type]


FORMATS: dict[str, Format] = {
    **_pcm(".wav", "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw"),
    **_pcm(".wav", "adpcm_ms adpcm_ima_wav", channels=PAIR),
    **_pcm(".wav", "libmp3lame", channels=PAIR, rates=MPEG),
    "rf64": Format(".rf64.wav", ("-c:a", "pcm_s16le", "-rf64", "always")),
    "rf64 float": Format(".f.rf64.wav", ("-c:a", "pcm_f32le", "-rf64", "always")),
    **_pcm(".w64", "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw"),
    **_pcm(".aiff", "pcm_s8 pcm_s16be pcm_s24be pcm_s32be pcm_f32be pcm_f64be pcm_alaw pcm_mulaw"),
    **_pcm(".aifc", "pcm_s16le pcm_f32be", "-f", "aiff"),
    **_pcm(".au", "pcm_s8 pcm_s16be pcm_s24be pcm_s32be pcm_f32be pcm_f64be pcm_alaw pcm_mulaw"),
    **_pcm(".caf", "pcm_s8 pcm_s16be pcm_s16le pcm_s24le pcm_s32be pcm_f32le pcm_f64be pcm_alaw pcm_mulaw"),
    "alac in caf": Format(".alac.caf", ("-c:a", "alac"), layouts=ALAC),
    **_pcm(".voc", "pcm_u8 pcm_s16le", channels=PAIR),
    **_pcm(".mov", "pcm_s16le pcm_s24be pcm_f32le"),
    **_pcm(".mka", "pcm_s16le pcm_f32le flac libvorbis"),
    "flac": Format(".flac", ("-sample_fmt", "s16")),
    "flac 24": Format(".24.flac", ("-sample_fmt", "s32")),
    "flac in ogg": Format(".flac.ogg", ("-c:a", "flac")),
    "vorbis": Format(".ogg", ("-c:a", "libvorbis")),
    "opus": Format(".opus", ("-c:a", "libopus"), ANY, (8_000, 12_000, 16_000, 24_000, 48_000), OPUS),
    "opus webm": Format(".webm", ("-c:a", "libopus"), ANY, (48_000,), OPUS),
    "mp3": Format(".mp3", ("-b:a", "64k"), PAIR, MPEG),
    "mp3 vbr": Format(".v.mp3", ("-q:a", "4"), PAIR, MPEG),
    "mp3 without count": Format(".n.mp3", ("-b:a", "64k", "-write_xing", "0"), PAIR, MPEG),
    "mp3 in mkv": Format(".mkv", ("-c:a", "libmp3lame"), PAIR, MPEG),
    "mp3 in avi": Format(".avi", ("-c:a", "libmp3lame"), PAIR, (44_100, 48_000)),
    "mp3 in flv": Format(".flv", ("-c:a", "libmp3lame"), PAIR, (22_050, 44_100)),
    "mp2": Format(".mp2", ("-c:a", "mp2", "-b:a", "64k"), PAIR, (16_000, 22_050, 24_000)),
    "mp2 fast": Format(".f.mp2", ("-c:a", "mp2", "-b:a", "192k"), frozenset({2}), (32_000, 44_100, 48_000)),
    "mp2 in ts": Format(".ts", ("-c:a", "mp2", "-b:a", "192k"), frozenset({2}), (44_100, 48_000)),
    "aac": Format(".m4a", ("-c:a", "aac"), ANY - {7}, RATES[:11]),
    "aac adts": Format(".aac", ("-c:a", "aac"), ANY - {7, 8}, RATES[:11]),
    "alac": Format(".alac.m4a", ("-c:a", "alac", "-sample_fmt", "s16p"), layouts=ALAC),
    "alac 24": Format(".alac24.m4a", ("-c:a", "alac", "-sample_fmt", "s32p"), layouts=ALAC),
    "ac3": Format(".ac3", ("-c:a", "ac3"), frozenset(range(1, 7)), (32_000, 44_100, 48_000)),
    "eac3": Format(".eac3", ("-c:a", "eac3"), frozenset(range(1, 7)), (32_000, 44_100, 48_000)),
    "wma": Format(".wma", ("-c:a", "wmav2"), PAIR, (22_050, 32_000, 44_100, 48_000)),
    "wma 1": Format(".1.wma", ("-c:a", "wmav1"), PAIR, (22_050, 32_000, 44_100, 48_000)),
    "wavpack": Format(".wv", ("-sample_fmt", "s16p")),
    "wavpack float": Format(".f.wv", ("-sample_fmt", "fltp")),
    "tta": Format(".tta", ("-sample_fmt", "s16")),
    "tta 24": Format(".24.tta", ("-sample_fmt", "s32")),
    "dts": Format(".dts", ("-c:a", "dca", "-strict", "-2"), frozenset({1, 2, 4, 5, 6}), (44_100, 48_000), {4: "quad"}),
}

REFUSED: dict[tuple[str, int], str] = {}
"""(format, channels) that no reader takes, and why."""


def shapes() -> list[tuple[int, int]]:
    """(rate, channels) of the files."""
    if os.environ.get("MER_RAY_LONG_TESTS"):
        return [(rate, channels) for rate in RATES for channels in sorted(ANY)]
    every_count = [(48_000, channels) for channels in sorted(ANY)]
    return [*every_count, (8_000, 1), (22_050, 2), (44_100, 2), (96_000, 1), (192_000, 2)]


def music(rate: int, channels: int) -> np.ndarray:
    """A sweep and a noise of its own in every channel: (n, channels)."""
    sides = [sounds.chirp(200 + 90 * c, min(1_500 + 250 * c, rate / 3), SECONDS, rate) for c in range(channels)]
    return 0.7 * np.stack(sides, axis=1) + 0.1 * sounds.noise(SECONDS, rate, channels)


def ffmpeg(*arguments: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.mark.parametrize(("rate", "channels"), shapes())
def test_every_format_is_decoded_as_ffmpeg_does_or_refused(tmp_path: Path, rate: int, channels: int) -> None:
    source = sounds.write(tmp_path / "source.wav", music(rate, channels), rate, "FLOAT")
    formats = {n: f for n, f in FORMATS.items() if channels in f.channels and rate in f.rates}
    files = {name: tmp_path / f"{i}{f.suffix}" for i, (name, f) in enumerate(formats.items())}
    raw = {name: tmp_path / f"{i}.raw" for i, name in enumerate(formats)}
    # One process writes them all, and one reads them all: starting it is what takes long.
    ffmpeg("-i", source, *(a for n, f in formats.items() for a in (*f.written(channels), files[n])))
    inputs = [a for name in formats for a in ("-i", files[name])]
    outputs = [a for i, name in enumerate(formats) for a in ("-map", f"{i}:a", "-f", "f32le", raw[name])]
    ffmpeg(*inputs, *outputs)
    wrong = []
    for name in formats:
        expected = np.fromfile(raw[name], np.float32).reshape(-1, channels).mean(axis=1)
        try:
            got, hertz = decode(files[name])
        except TrackError as error:
            if (name, channels) not in REFUSED:
                wrong.append(f"{name}: refused ({error.reason})")
            continue
        if len(expected) == 0 and name.startswith("flac"):  # ffmpeg finds no frame where they are so large
            expected = music(rate, channels).mean(axis=1)
        n = min(len(got), len(expected))
        r = np.corrcoef(got[:n], expected[:n])[0, 1]
        seconds = check(files[name]).duration_s
        if (name, channels) in REFUSED or r < SAME or abs(len(got) - len(expected)) > LENGTH:
            wrong.append(f"{name}: r = {r:.4f}, {len(got)} samples, {len(expected)} expected")
        elif abs(seconds - len(got) / hertz) > 0.1:
            wrong.append(f"{name}: {seconds:.3f} s by its check")
    assert not wrong, "\n".join(wrong)
    assert len(formats) > 30


SNDFILE = {
    "WAV": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM",
    "WAVEX": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "RF64": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "W64": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "AIFF": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "AU": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "CAF": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "FLAC": "PCM_16 PCM_24",
    "VOC": "PCM_U8 PCM_16 ULAW ALAW",
}
"""What libsndfile writes: its headers differ from ffmpeg's. (Of its ALAC, ffmpeg cuts the last packet short.)"""

ONLY_PAIRS = ("VOC", "IMA_ADPCM", "MS_ADPCM")


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 1), (44_100, 2), (22_050, 6)])
def test_what_libsndfile_writes_is_decoded_as_ffmpeg_does(tmp_path: Path, rate: int, channels: int) -> None:
    files = {}
    for kind, depths in SNDFILE.items():
        for depth in depths.split():
            if channels <= 2 or not {kind, depth} & {*ONLY_PAIRS}:
                files[kind, depth] = tmp_path / f"{kind}.{depth}"
                soundfile.write(files[kind, depth], music(rate, channels), rate, format=kind, subtype=depth)
    raw = {name: file.with_suffix(".raw." + name[1]) for name, file in files.items()}
    inputs = [a for name in files for a in ("-i", files[name])]
    ffmpeg(*inputs, *(a for i, name in enumerate(files) for a in ("-map", f"{i}:a", "-f", "f32le", raw[name])))
    for name, file in files.items():
        expected = np.fromfile(raw[name], np.float32).reshape(-1, channels).mean(axis=1)
        got, _ = decode(file)
        n = min(len(got), len(expected))
        assert abs(len(got) - len(expected)) <= LENGTH, name
        assert np.corrcoef(got[:n], expected[:n])[0, 1] >= SAME, name
