"""A file → mono float32 at a rate. Every way in which audio can be bad ends here, as a TrackError that says which."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.audio import containers
from mer_ray.errors import TrackError
from mer_ray.identity import one_line

EXTENSIONS = frozenset({".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""What a folder is searched for: the containers that libsndfile reads."""

SILENT_PEAK = 1e-3
"""Full scale is 1; a file that never exceeds -60 dBFS holds no music."""


UNKNOWN_LENGTH = 2**63 - 1
"""What libsndfile says of a FLAC stream whose encoder could not go back to fill in its length."""

BLOCK = 1 << 20  # frames


@dataclass(frozen=True)
class Probe:
    """What a file's header says. duration_s > 0; sample_rate in hertz; suffix: of file names in its format."""

    duration_s: float
    sample_rate: int
    channels: int
    suffix: str = ""


def probe(path: str | Path) -> Probe:
    """Read a file's header. Raises TrackError (missing, empty, corrupt)."""
    file = _readable(path)
    with _opened(file) as sound:
        frames = sound.frames if sound.frames != UNKNOWN_LENGTH else sum(len(block) for block in _blocks(sound))
        if frames <= 0 or sound.samplerate <= 0:
            raise TrackError("empty", f"{_name(file)} holds no audio")
        return Probe(frames / sound.samplerate, int(sound.samplerate), int(sound.channels), _suffix(sound))


def check(path: str | Path) -> Probe:
    """Whether a file will decode: its header, its structure, and its first second, one in its middle and its last.

    Raises TrackError: missing, unreadable, empty, corrupt, or ``truncated`` where it holds less than it announces.
    """
    file = _readable(path)
    probed = probe(file)
    try:
        extent = containers.extent(file)
    except (OSError, ValueError) as error:
        raise TrackError("unreadable", f"{_name(file)} cannot be read ({one_line(str(error), 120)})") from error
    if extent.breaks_off:
        said = f"{extent.held:,} of {extent.announced:,} {extent.unit}"
        raise TrackError("truncated", f"{_name(file)} breaks off: {said} that its header announces are there")
    with _opened(file) as sound:
        if sound.frames == UNKNOWN_LENGTH:
            return probed  # decoded from beginning to end already, to learn its length
        length = min(sound.samplerate, sound.frames)
        for start in sorted({0, (sound.frames - length) // 2, sound.frames - length}):
            sound.seek(start)
            got = len(sound.read(length, dtype="float32"))
            # An MP3's frames are counted; where nothing announces them, its end is a guess of libsndfile's.
            if got < (length if extent.unit != "frames" else start == 0):
                raise TrackError("truncated", f"{_name(file)} breaks off before its end")
    if extent.duration_s is not None and extent.announced is None:
        return replace(probed, duration_s=extent.duration_s)
    return probed


def decode(path: str | Path, min_duration_s: float = 0.0) -> tuple[np.ndarray, int]:
    """A whole file as mono: (float32 samples of shape (n,), about -1..1, sample rate in hertz).

    Channels are averaged. Raises TrackError: missing, unreadable, empty, corrupt, not_finite, too_short, silent.
    """
    file = _readable(path)
    try:
        with _opened(file, whole=True) as sound:
            rate = sound.samplerate
            if sound.frames == UNKNOWN_LENGTH:
                samples = np.concatenate([np.zeros((0, sound.channels), np.float32), *_blocks(sound)])
            else:
                samples = sound.read(dtype="float32", always_2d=True)
    except MemoryError as error:  # damaged headers announce years of audio
        raise TrackError("corrupt", f"{_name(file)} announces more audio than fits into memory") from error
    if samples.size == 0:
        raise TrackError("empty", f"{_name(file)} holds no audio")
    # A product with a constant vector is a tenth of the cost of ndarray.mean over a short axis.
    mono = (
        samples[:, 0]
        if samples.shape[1] == 1
        else samples @ np.full(samples.shape[1], 1 / samples.shape[1], np.float32)
    )
    if not np.isfinite(mono).all():
        raise TrackError("not_finite", f"{_name(file)} holds NaN or infinite samples")
    if mono.size < min_duration_s * rate:
        raise TrackError("too_short", f"{_name(file)} lasts {mono.size / rate:.2f} s, less than {min_duration_s:g} s")
    if max(mono.max(), -mono.min()) < SILENT_PEAK:
        raise TrackError("silent", f"{_name(file)} never exceeds -60 dBFS")
    return np.ascontiguousarray(mono), int(rate)


def resample(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """Mono samples (n,) at another rate (soxr, high quality)."""
    if rate_hz == wanted_hz:
        return samples
    import soxr

    out: np.ndarray = soxr.resample(samples, rate_hz, wanted_hz, quality="HQ")
    return out.astype(np.float32, copy=False)


@contextmanager
def _opened(file: Path, whole: bool = False) -> Iterator[Any]:
    """A soundfile.SoundFile whose errors, then and later, are TrackErrors. whole: one that is read to its very end."""
    import soundfile

    try:
        with soundfile.SoundFile(_native(file)) as sound:
            if sound.frames == UNKNOWN_LENGTH:
                sound.seekable = lambda: False  # soundfile would seek to where it has read, and fail
            data = containers.with_length(file) if whole and sound.format in ("MP3", "MPEG") else None
            if data is None:
                yield sound
                return
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            yield sound
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError) as error:
        raise _corrupt(file, error) from error


def _blocks(sound: Any) -> Iterator[np.ndarray]:
    """The rest of a file, in pieces of shape (n, channels)."""
    while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
        yield block


def _suffix(sound: Any) -> str:
    if sound.subtype == "OPUS":
        return ".opus"
    return {"WAVEX": ".wav", "RF64": ".wav", "MPEG": ".mp3"}.get(sound.format, f".{sound.format.lower()}")


def _readable(path: str | Path) -> Path:
    file = Path(path)
    try:
        if not file.is_file():
            raise TrackError("missing", f"{_name(file)} is not a file")
        if file.stat().st_size == 0:
            raise TrackError("empty", f"{_name(file)} has 0 bytes")
        with file.open("rb"):
            return file
    except (OSError, ValueError) as error:
        raise TrackError("unreadable", f"{_name(file)} cannot be opened ({one_line(str(error), 120)})") from error


def _native(file: Path) -> bytes | str:
    # As text, libsndfile would refuse a name that is not UTF-8.
    return os.fsencode(file) if os.name == "posix" else str(file)


def _corrupt(file: Path, error: Exception) -> TrackError:
    return TrackError("corrupt", f"{_name(file)} cannot be decoded ({one_line(str(error).split(':')[-1], 120)})")


def _name(file: Path) -> str:
    return one_line(str(file), 300)
