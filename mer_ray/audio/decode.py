"""A file → mono float32 at the requested rates, block by block, in constant memory.

Every defect of the audio becomes a TrackError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.extent import Extent
from mer_ray.audio.loudness import Loudness, Meter
from mer_ray.audio.opened import opened, readable, shown
from mer_ray.audio.reader import BLOCK, SLACK_S, DecodingError, Reader
from mer_ray.audio.reader_ffmpeg import Ffmpeg
from mer_ray.errors import TrackError

SILENT_PEAK = 1e-3
"""Full scale is 1; a file that never exceeds -60 dBFS is silent."""


@dataclass(frozen=True)
class Probe:
    """A file's header. duration_s > 0; sample_rate in hertz; suffix: of file names in its format.

    decoded_share: as in `Block`; only set by `check`.
    """

    duration_s: float
    sample_rate: int
    channels: int
    suffix: str = ""
    decoded_share: float | None = None


@dataclass(frozen=True)
class Block:
    """The next seconds of a file.

    Attributes:
        piece: The index of the excerpt's window; 0 for a whole track.
        samples: Requested rate in hertz → the next mono float32 samples (n,) of that piece at that rate, full scale 1;
            n differs between the rates and may be 0.
        seconds: Of decoded audio, including audio between pieces.
        decoded_share: On the last block, the decoded share of the announced audio, in 0..1; None if unknown.
        loudness: On the last block, if asked for, of all channels and pieces.
    """

    piece: int
    samples: dict[int, np.ndarray]
    seconds: float
    decoded_share: float | None = None
    loudness: Loudness | None = None


def probe(path: str | Path) -> Probe:
    """Read a file's header, and count the length if it has none. Raises TrackError (missing, empty, corrupt)."""
    file = readable(path)
    with opened(file) as (_, reader):
        frames = _length(file, reader)
        if frames <= 0:
            raise TrackError("empty", f"{shown(file)} holds no audio")
        return Probe(frames / reader.rate, reader.rate, reader.channels, reader.suffix)


def check(path: str | Path, allow_partial: bool = False) -> Probe:
    """Check that a file will decode: its header, its structure, and its first, a middle and its last second.

    If the format has no fast seek, only the first second is decoded; if something is wrong, the whole file. Raises
    TrackError: missing, unreadable, empty, corrupt, or, without ``allow_partial``, truncated.
    """
    file = readable(path)
    name = shown(file)
    with opened(file) as (survey, reader):
        probed = Probe(0.0, reader.rate, reader.channels, reader.suffix)
        extent = Extent.of(survey, reader)
        extent.judge_structure(name, allow_partial)
        decoded_s = (reader.frames or 0) / reader.rate
        if extent.announced_s is None and extent.counted_s is not None:
            decoded_s = extent.counted_s
        frames = round(decoded_s * reader.rate)
        length = min(reader.rate, frames)
        starts = {0, (frames - length) // 2, frames - length} if reader.quick_seek and reader.frames else {0}
        sound = frames > 0 and survey.sound and extent.is_whole and extent.missing_s(decoded_s) < SLACK_S
        sound = sound and all(_holds(reader, start, length) for start in sorted(starts))
    if not sound:
        with opened(file) as (survey, reader):
            decoded_s = sum(map(len, _blocks(reader, None))) / reader.rate
            if decoded_s == 0:
                raise _empty(file, reader.frames)
            extent = Extent.of(survey, reader)
    extent.judge(name, decoded_s, allow_partial)
    return replace(probed, duration_s=decoded_s, decoded_share=extent.share(decoded_s))


def _holds(reader: Reader, start: int, length: int) -> bool:
    """Whether there are so many frames, up to an encoder's padding."""
    try:
        reader.seek(start)
        return sum(map(len, _blocks(reader, length))) >= max(1, length - SLACK_S * reader.rate)
    except DecodingError:
        return False


def _ends(file: Path) -> bool:
    """Whether the last second can be decoded, if the length is known."""
    with opened(file) as (_, reader):
        frames = reader.frames
        length = min(reader.rate, frames or 0)
        return frames is None or _holds(reader, frames - length, length)


def stream(
    path: str | Path,
    rates: Sequence[int],
    excerpt: Excerpt | None = None,
    min_duration_s: float = 0.0,
    allow_partial: bool = False,
    loudness: bool = False,
) -> Iterator[Block]:
    """Decode mono audio, the mean of all channels, in blocks of several seconds. Damaged parts are left out.

    Args:
        path: A local file.
        rates: In hertz.
        excerpt: Decode only its pieces, with the same samples as in the whole file. Their positions follow from the
            announced length, or else from counted packets or samples.
        min_duration_s: Of the whole file.
        allow_partial: Also accept files of which more, or an unknown amount, is missing (`extent.Extent.judge`).
        loudness: Also measure loudness and true peak, before channels are averaged.

    Raises:
        TrackError: At any point, and invalidates earlier blocks: missing, unreadable, empty, corrupt, truncated,
            too_big (for the memory), not_finite, too_short, silent (no channel exceeds -60 dBFS) or cancelled (one
            does, and their mean does not).
    """
    file = readable(path)
    with opened(file) as (survey, reader):
        rate = reader.rate
        pieces: list[tuple[int, int | None]] = [(0, None)]
        extent, missing = Extent.of(survey, reader), 0
        extent.judge_structure(shown(file), allow_partial)
        if excerpt is not None:
            whole = extent.is_whole and (survey.kind != "flac" or _ends(file))
            length = _length(file, reader) if whole else _counted(file)
            if isinstance(reader, Ffmpeg) or not whole:
                extent.judge(shown(file), length / rate, allow_partial)
            _long_enough(file, length, rate, min_duration_s)
            pieces = [*excerpt.pieces(length, rate)]
        done, level, meter = 0, _Level(), Meter(rate, reader.channels, reader.layout) if loudness else None
        for piece, (start, n) in enumerate(pieces):
            for passed in _go_to(reader, start):
                yield Block(piece, {wanted: np.zeros(0, np.float32) for wanted in rates}, passed / rate)
            resamplers = {wanted: _Resampler(rate, wanted) for wanted in dict.fromkeys(rates)}
            got = 0
            for samples in _blocks(reader, n):
                mono = _mono(samples)
                if not np.isfinite(mono).all():
                    raise TrackError("not_finite", f"{shown(file)} holds NaN or infinite samples")
                level.add(samples, mono)
                if meter is not None:
                    meter.add(samples)
                got += len(mono)
                yield Block(piece, {wanted: r.push(mono) for wanted, r in resamplers.items()}, len(mono) / rate)
            done, missing = done + got, missing + (0 if n is None else n - got)
            if piece < len(pieces) - 1:
                if meter is not None:
                    meter.pause()
                yield Block(piece, {wanted: r.flush() for wanted, r in resamplers.items()}, 0.0)
        if done == 0:
            raise _empty(file, reader.frames)
        if excerpt is None:
            extent, length = Extent.of(survey, reader), done
            _long_enough(file, done, rate, min_duration_s)
        decoded_s = (length - missing) / rate
        extent.judge(shown(file), decoded_s, allow_partial)
        level.judge(file)
        ends = {wanted: r.flush() for wanted, r in resamplers.items()}
        yield Block(piece, ends, 0.0, extent.share(decoded_s), meter.result() if meter is not None else None)


def resample(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """Mono samples (n,) at another rate (soxr, high quality)."""
    if rate_hz == wanted_hz:
        return samples
    import soxr

    out: np.ndarray = soxr.resample(samples, rate_hz, wanted_hz, quality="HQ")
    return out.astype(np.float32, copy=False)


class _Resampler:
    """`resample`, block by block."""

    def __init__(self, rate_hz: int, wanted_hz: int) -> None:
        import soxr

        same = rate_hz == wanted_hz
        self._stream = None if same else soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32", quality="HQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        if self._stream is None:
            return samples
        out: np.ndarray = self._stream.resample_chunk(samples)
        return out

    def flush(self) -> np.ndarray:
        rest = np.zeros(0, np.float32)
        if self._stream is None:
            return rest
        out: np.ndarray = self._stream.resample_chunk(rest, last=True)
        return out


class _Level:
    """Tracks whether any channel, and their mean, exceeds the level of silence."""

    def __init__(self) -> None:
        self._channels = self._mono = False

    def add(self, samples: np.ndarray, mono: np.ndarray) -> None:
        """samples: (n, channels), n > 0; mono: (n,)."""
        self._mono = self._mono or _peak(mono) >= SILENT_PEAK
        self._channels = self._channels or self._mono or _peak(samples) >= SILENT_PEAK

    def judge(self, file: Path) -> None:
        """Raises TrackError: silent, cancelled."""
        if not self._channels:
            raise TrackError("silent", f"{shown(file)} never exceeds -60 dBFS")
        if not self._mono:
            raise TrackError("cancelled", f"{shown(file)}: its channels cancel each other out (opposite phases)")


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(), -samples.min()))


def _mono(samples: np.ndarray) -> np.ndarray:
    """(n, channels) → (n,), a new array. A product with a constant vector takes a tenth of the time of ndarray.mean."""
    channels = samples.shape[1]
    return samples[:, 0].copy() if channels == 1 else samples @ np.full(channels, 1 / channels, np.float32)


def _blocks(reader: Reader, length: int | None) -> Iterator[np.ndarray]:
    """The next ``length`` frames, or all the rest, in blocks (n, channels), n > 0."""
    while length is None or length > 0:
        block = reader.read(BLOCK if length is None else min(BLOCK, length))
        if len(block) == 0:
            return
        length = None if length is None else length - len(block)
        yield block


def _go_to(reader: Reader, frame: int) -> Iterator[int]:
    """Seek to a frame; yields the number of frames decoded on the way, block by block."""
    if reader.quick_seek:
        reader.seek(frame)
    while not reader.quick_seek and reader.at < frame and (n := len(reader.read(min(BLOCK, frame - reader.at)))):
        yield n


def _length(file: Path, reader: Reader) -> int:
    """Frames in a file: announced, or counted by decoding."""
    return _counted(file) if reader.frames is None else reader.frames


def _counted(file: Path) -> int:
    with opened(file) as (_, reader):
        return sum(map(len, _blocks(reader, None)))


def _long_enough(file: Path, frames: int, rate: int, min_duration_s: float) -> None:
    if frames < min_duration_s * rate:
        raise TrackError("too_short", f"{shown(file)} lasts {frames / rate:.2f} s, less than {min_duration_s:g} s")


def _empty(file: Path, announced: int | None) -> TrackError:
    if announced:
        return TrackError("corrupt", f"{shown(file)} holds none of the audio that its header announces")
    return TrackError("empty", f"{shown(file)} holds no audio")
