"""Real audio files for the tests: music-like ones, and every way in which a file can hurt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
import soxr

RATE = 22_050


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = RATE, peak: float = 0.5) -> np.ndarray:
    """A sine: (n,) float32."""
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 1.0, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """White noise: (n, channels) float32, SD 0.1."""
    drawn = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return (0.1 * np.clip(drawn, -4, 4)).astype(np.float32)


def chirp(low: float, high: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """A linear sweep from ``low`` to ``high`` hertz: (n,) float32."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (low * t + (high - low) * t**2 / (2 * seconds)))).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    """An audio file; the container follows from the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # by handle: libsndfile's own opening knows no names that are not UTF-8
        soundfile.write(file, samples, rate, format=FORMATS[path.suffix.lower()], subtype=subtype)
    return path


FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3", ".aiff": "AIFF", ".au": "AU"}


def truncated(path: Path, share: float = 0.5) -> Path:
    """Four seconds of noise, of which the file ends after ``share`` of its bytes."""
    write(path, noise(4.0))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def boastful_flac(path: Path) -> Path:
    """A FLAC file whose header announces 2^36 - 1 samples."""
    write(path, noise())
    data = bytearray(path.read_bytes())
    first = 4 + 4 + 13  # marker, block header, and the byte of STREAMINFO in whose lower half the count begins
    data[first] |= 0x0F
    data[first + 1 : first + 5] = b"\xff" * 4
    path.write_bytes(data)
    return path


def not_finite(path: Path, value: float = np.nan) -> Path:
    """A float WAV, two channels, with one bad sample in one of them."""
    samples = noise(channels=2)
    samples[1000, 1] = value
    return write(path, samples, subtype="FLOAT")


def text(path: Path) -> Path:
    """A web page that was saved under the name of a song."""
    path.write_text("<html><body>404 Not Found</body></html>\n" * 20)
    return path


def empty(path: Path) -> Path:
    """0 bytes."""
    path.write_bytes(b"")
    return path


def header_only(path: Path) -> Path:
    """A WAV of no frames."""
    return write(path, np.zeros((0, 1), np.float32))


def broken_link(path: Path) -> Path:
    """A symbolic link to nothing."""
    path.symlink_to(path.with_name("gone with the disk.wav"))
    return path


def hostile_names(folder: Path) -> list[Path]:
    """The same sound under names that break careless programs."""
    names = [b"two  blanks.wav", b"line\nbreak.wav", "émoji 🎻.wav".encode(), b"caf\xe9 \xff.wav", b"100% %41?#;.wav"]
    names += [b"-rf.wav", b"[red]markup.wav", b"a;b,c\"d'e.wav", b"UPPER.WAV", b"\xe2\x80\xaegnp.wav"]
    return [write(folder / os.fsdecode(name), tone(200 + 20 * i)) for i, name in enumerate(names)]


# what ffmpeg makes -------------------------------------------------------------------------------------------------

CODECS = {
    "pcm16.wav": [],
    "pcm24.wav": ["-c:a", "pcm_s24le"],
    "pcm8.wav": ["-c:a", "pcm_u8"],
    "float.wav": ["-c:a", "pcm_f32le"],
    "a.w64": ["-f", "w64"],
    "a.aiff": [],
    "a.au": [],
    "a.caf": [],
    "a.flac": [],
    "24 bits.flac": ["-sample_fmt", "s32"],
    "stream.flac": ["-f", "flac", "pipe:1"],
    "vorbis.ogg": ["-c:a", "libvorbis"],
    "flac in.ogg": ["-c:a", "flac"],
    "a.opus": ["-c:a", "libopus"],
    "cbr.mp3": ["-b:a", "128k"],
    "no xing.mp3": ["-q:a", "4", "-write_xing", "0"],
    "aac.m4a": ["-c:a", "aac"],
    "alac.m4a": ["-c:a", "alac"],
    "adts.aac": ["-c:a", "aac"],
    "opus.webm": ["-c:a", "libopus"],
    "vorbis.mka": ["-c:a", "libvorbis"],
    "a.wma": ["-c:a", "wmav2"],
    "a.wv": [],
    "a.tta": [],
    "a.ac3": [],
}
"""Names of files and the options that make ffmpeg write them; every format that is promised to be read."""


def ffmpeg(source: Path, target: Path, *options: str) -> Path:
    """``source`` in the format of ``target``. With ``pipe:1`` as the last option, as a stream without a way back."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-i", str(source), *options]
    if options[-1:] == ("pipe:1",):
        target.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    else:
        subprocess.run([*command, str(target)], check=True)
    return target


def ffmpeg_decoded(path: Path, channels: int) -> np.ndarray:
    """What the ffmpeg program makes of a file: (n, channels) float32 at the file's rate."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-i", str(path), "-f", "f32le", "pipe:1"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.float32).reshape(-1, channels)


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Mono samples (n,) at another rate, by soxr in one piece."""
    return samples if rate == wanted else soxr.resample(samples, rate, wanted, quality="HQ")


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    pages = []
    while data:
        segments = data[26]
        size = 27 + segments + sum(data[27 : 27 + segments])
        pages.append(data[:size])
        data = data[size:]
    return pages


def ogg_page_moved(page: bytes, samples: int) -> bytes:
    """A page whose granule position is so much greater, with its checksum put right."""
    moved = bytearray(page)
    position = int.from_bytes(moved[6:14], "little", signed=True) + samples
    moved[6:14] = position.to_bytes(8, "little", signed=True)
    moved[22:26] = bytes(4)
    crc = 0
    for byte in moved:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    moved[22:26] = crc.to_bytes(4, "little")
    return bytes(moved)
