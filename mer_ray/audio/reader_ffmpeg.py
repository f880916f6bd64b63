"""Reads FFmpeg's formats, through PyAV: Opus, AAC, WMA, Matroska, the sound of a film, ..."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mer_ray.audio.reader import BLOCK, DecodingError, Reader

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma,"
    "adx,ast,bfstm,brstm,hca,mlp,mmf,sox,truehd"
)
"""The containers that FFmpeg may read. Without playlists, which would make it open other files."""

INDEXED = ("mov", "matroska", "ape", "wv", "tta", "caf", "mpc", "mpc8", "tak", "dsf", "flv")
"""Containers with the length in their header; of others FFmpeg estimates it."""

SUFFIXES = {"mov": ".m4a", "matroska": ".mka", "asf": ".wma", "mpeg": ".mpg", "mpegts": ".ts", "mpc8": ".mpc"}

MOST_FAILURES = 100
"""Failures to find a next packet in a row after which reading ends."""

COPIED = 1 << 20  # bytes

COARSE_S = 1 / 8_000
"""Time stamps with a longer unit do not count samples."""

MOST_PLANES = 7
"""PyAV reads one plane more than a frame has, which crashes the process for eight."""

_SCALES = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63}


class Ffmpeg(Reader):
    """The best audio stream of a file, by FFmpeg.

    Codecs carry state from packet to packet (and AAC adds random noise), so that only decoding from the start is
    reproducible: `seek` decodes the samples that it skips. Packets that cannot be decoded are left out.

    Args:
        file: Its path.
        links: Streams to decode one after the other, each a list of byte ranges of the file, or bytes instead of some;
            by default the whole file.
        shape: (rate, channels) of the samples, by default of the first frame; other audio is resampled and averaged.
    """

    quick_seek = False

    def __init__(
        self,
        file: Path,
        links: Sequence[Sequence[tuple[int, int] | bytes]] = (),
        shape: tuple[int, int] | None = None,
    ) -> None:
        self._file, self._links, self._shape = file, links, shape
        self._container: Any = None
        self._joined: IO[bytes] | None = None
        self._frames: int | None = None
        self.at = 0
        self.suffix = ""
        try:
            self._decoded = self._pieces()
            # The first frame has the true rate; some AAC headers have half of it.
            self._rest = self._next()
            if self._rest is None or self._shape is None:
                raise DecodingError("it holds no audio that FFmpeg can decode")
        except DecodingError:
            self.close()
            raise
        self.rate, self.channels = self._shape
        self._check_shape()
        self._block = np.empty((BLOCK, self.channels), np.float32)

    @property
    def frames(self) -> int | None:
        if self._frames is None:
            self._frames = 0 if self._links else round(packets_s(self._file) * self.rate)
        return self._frames or None

    def read(self, n: int = BLOCK) -> np.ndarray:
        got = 0
        while got < n and self._rest is not None:
            taken = self._rest[: n - got]
            self._block[got : got + len(taken)] = taken
            got += len(taken)
            self._rest = self._rest[len(taken) :] if len(taken) < len(self._rest) else self._next()
        self.at += got
        return self._block[:got]

    def seek(self, frame: int) -> None:
        self._skip(frame - self.at)

    def close(self) -> None:
        for opened in (self._container, self._joined):
            if opened is not None:
                opened.close()

    def _next(self) -> np.ndarray | None:
        return next(self._decoded, None)

    def _pieces(self) -> Iterator[np.ndarray]:
        """The decoded audio, in pieces (n, channels), float32, n > 0."""
        failed: DecodingError | None = None
        links: Sequence[Sequence[tuple[int, int] | bytes] | None] = self._links or [None]
        for parts in links:
            self.close()
            try:
                self._joined = None if parts is None else _joined(self._file, parts)
                self._container, stream = _open(self._joined or self._file)
            except DecodingError as error:
                failed = failed or error
                continue
            self._describe(stream)
            fit = _Fit()
            for rate, samples, layout in self._frames_of(stream):
                self._shape = self._shape or (rate, samples.shape[1])
                self.layout = self.layout or layout
                fitted = fit.push(rate, samples, self._shape)
                if len(fitted):
                    yield fitted
            if len(rest := fit.flush()):
                yield rest
        if failed is not None and self._shape is None:
            raise failed

    def _describe(self, stream: Any) -> None:
        """Set ``suffix``, and ``announced_s``, the length in the file's header in seconds."""
        if self.suffix:
            return
        name = self._container.format.name.split(",")[0]
        self.suffix = SUFFIXES.get(name, f".{name}")
        if name == "ogg" and stream.codec_context.name == "opus":
            self.suffix = ".opus"
        if name not in INDEXED:
            return
        if stream.duration is not None:
            self.announced_s = float(stream.duration * stream.time_base)
        elif tagged := _clock_s(stream.metadata.get("DURATION", "")):
            self.announced_s = tagged
        elif len(self._container.streams) == 1 and self._container.duration:
            self.announced_s = self._container.duration / 1e6

    def _frames_of(self, stream: Any) -> Iterator[tuple[int, np.ndarray, str]]:
        """(rate, samples (n, channels), layout) of a container's frames; undecodable packets add to ``undecoded_s``."""
        import av

        # The last frame, and its samples beyond the end.
        last, rate, layout, surplus = np.zeros((0, 0), np.float32), 0, "", 0
        packets = self._container.demux(stream)
        failures, undecoded_s = 0, 0.0
        while failures <= MOST_FAILURES:
            packet = None
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except EOFError:
                packet, frames = None, []
            except av.FFmpegError:
                # The end of a truncated stream, or one followed by tags, or a gap: the next packet decides.
                failures += packet is None
                undecoded_s += float((packet.duration or 0) * packet.time_base) if packet is not None else 0.0
                continue
            for frame in frames:
                samples = _samples_of(frame)
                if len(last):
                    yield rate, last, layout
                self.undecoded_s, undecoded_s, failures = self.undecoded_s + undecoded_s, 0.0, 0
                rate, layout = int(frame.sample_rate), frame.layout.name
                last, surplus = samples[_before_zero(frame) :], _beyond_end(frame, packet)
            if packet is None:
                break
        if len(last) > surplus:
            yield rate, last[: len(last) - surplus], layout


def _joined(file: Path, parts: Sequence[tuple[int, int] | bytes]) -> IO[bytes]:
    """A temporary file without a name: byte ranges of a file, and bytes between them."""
    joined = tempfile.TemporaryFile()  # noqa: SIM115
    with file.open("rb") as source:
        for part in parts:
            if isinstance(part, bytes):
                joined.write(part)
                continue
            source.seek(part[0])
            for start in range(part[0], part[1], COPIED):
                joined.write(source.read(min(COPIED, part[1] - start)))
    joined.seek(0)
    return joined


class _Fit:
    """Converts samples to one shape: rates by soxr, channels by their mean."""

    def __init__(self) -> None:
        self._rate = self._channels = 0
        self._resampler: Any = None

    def push(self, rate: int, samples: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """samples (n, channels) at ``rate`` → the available ones (m, channels of ``shape``) at its rate."""
        wanted, channels = shape
        self._channels = channels
        if samples.shape[1] != channels:
            samples = np.repeat(samples.mean(axis=1, keepdims=True), channels, axis=1)
        rest = self.flush() if rate != self._rate else samples[:0]
        if rate != self._rate:
            self._rate = rate
            if rate != wanted:
                import soxr

                self._resampler = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(np.ascontiguousarray(samples)).reshape(-1, channels)
        return np.concatenate([rest, samples]) if len(rest) else samples

    def flush(self) -> np.ndarray:
        """The resampler's remaining samples, at the end of the audio at this rate."""
        resampler, self._resampler = self._resampler, None
        nothing = np.zeros((0, self._channels), np.float32)
        return (
            nothing if resampler is None else resampler.resample_chunk(nothing, last=True).reshape(-1, self._channels)
        )


def _clock_s(text: str) -> float:
    """``00:03:20.500`` → 200.5; 0 for other text."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0


def packets_s(file: Path) -> float:
    """Seconds of audio in a file by its packets' durations, without decoding, up to a truncation."""
    import av

    container, stream = _open(file)
    first: float | None = None
    last = total = 0.0
    coarse = stream.time_base is not None and stream.time_base > COARSE_S
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            lasts = float((packet.duration or 0) * packet.time_base)
            total, coarse = total + lasts, coarse or lasts == 0
            if packet.pts is not None:
                at = float(packet.pts * packet.time_base)
                first, last = at if first is None else first, max(last, at + lasts)
    except (av.FFmpegError, EOFError):
        pass  # truncated
    finally:
        container.close()
    # Audio before zero is discarded. Stamps may jump, and durations in milliseconds are rounded.
    start = first or 0.0
    return last - max(0.0, start) if coarse and first is not None else total + min(0.0, start)


def _open(file: Path | IO[bytes]) -> tuple[Any, Any]:
    """(a container, its best audio stream, with one thread)."""
    import av

    try:
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
        # With the protocol, as a file's name may be "http:x".
        opened = f"file:{file}" if isinstance(file, Path) else file
        container = av.open(opened, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise DecodingError(str(getattr(error, "strerror", None) or error)) from error
    stream = container.streams.best("audio")
    if stream is None or stream.codec_context is None:
        container.close()
        raise DecodingError("it holds no audio")
    stream.codec_context.thread_count = 1
    if stream.codec_context.name == "flac":
        stream.codec_context.options = {"err_detect": "crccheck+explode"}  # an error instead of noise
    return container, stream


def _samples_of(frame: Any) -> np.ndarray:
    """(n, channels) float32, full scale 1."""
    if frame.format.is_planar and len(frame.layout.channels) > MOST_PLANES:
        frame = _interleaved(frame)
    values: np.ndarray = frame.to_ndarray()
    kind, channels = frame.format.name, len(frame.layout.channels)
    samples = values.T if kind.endswith("p") else values.reshape(-1, channels)
    scale = _SCALES.get(kind.removesuffix("p"))
    if scale is None:
        return samples.astype(np.float32, copy=False)
    centre = 128 if kind.startswith("u8") else 0
    return (samples.astype(np.float32) - np.float32(centre)) * np.float32(scale)


def _interleaved(frame: Any) -> Any:
    import av

    (packed,) = av.AudioResampler(frame.format.packed, frame.layout, frame.sample_rate).resample(frame)
    return packed


def _before_zero(frame: Any) -> int:
    """The number of a frame's samples before time 0, if its time stamps count samples."""
    if frame.pts is None or frame.pts >= 0 or frame.time_base * frame.sample_rate != 1:
        return 0
    return -int(frame.pts)


def _beyond_end(frame: Any, packet: Any) -> int:
    """The number of a frame's samples after the end of its packet: in a file's last frame, the encoder's padding."""
    if packet is None or None in (packet.pts, packet.duration, frame.pts) or frame.time_base * frame.sample_rate != 1:
        return 0
    within = packet.pts <= frame.pts < packet.pts + packet.duration and packet.time_base == frame.time_base
    return max(0, int(frame.pts + frame.samples - packet.pts - packet.duration)) if within else 0


def samples_before_zero(file: Path) -> int:
    """The number of samples of its first packet before time 0, which are to be discarded."""
    import av

    container, stream = _open(file)
    try:
        return max((_before_zero(frame) for frame in _first(container.decode(stream))), default=0)
    except (av.FFmpegError, EOFError) as error:
        raise DecodingError(str(error)) from error
    finally:
        container.close()


def _first(frames: Iterator[Any]) -> list[Any]:
    frame = next(frames, None)
    return [] if frame is None else [frame]
