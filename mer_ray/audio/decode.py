"""A file → mono float32 at a rate. Every way in which audio can be bad ends here, as a TrackError that says which."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_ray.errors import TrackError
from mer_ray.identity import one_line

EXTENSIONS = frozenset({".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""What a folder is searched for: the containers that libsndfile reads."""

SILENT_PEAK = 1e-3
"""Full scale is 1; a file that never exceeds -60 dBFS holds no music."""


@dataclass(frozen=True)
class Probe:
    """What a file's header says. duration_s > 0; sample_rate in hertz."""

    duration_s: float
    sample_rate: int
    channels: int


def probe(path: str | Path) -> Probe:
    """Read a file's header. Raises TrackError (missing, empty, corrupt)."""
    import soundfile

    file = _readable(path)
    try:
        info = soundfile.info(_native(file))
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise _corrupt(file, error) from error
    if info.frames <= 0 or info.samplerate <= 0:
        raise TrackError("empty", f"{_name(file)} holds no audio")
    return Probe(info.frames / info.samplerate, int(info.samplerate), int(info.channels))


def decode(path: str | Path, min_duration_s: float = 0.0) -> tuple[np.ndarray, int]:
    """A whole file as mono: (float32 samples of shape (n,), about -1..1, sample rate in hertz).

    Channels are averaged. Raises TrackError: missing, unreadable, empty, corrupt, not_finite, too_short, silent.
    """
    import soundfile

    file = _readable(path)
    try:
        samples, rate = soundfile.read(_native(file), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise _corrupt(file, error) from error
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
