"""Whatever FFmpeg reads, through PyAV: Opus, AAC, WMA, Matroska, the sound of a film, ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.audio.reader import BLOCK, DecodingError, Reader

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma,"
    "adx,ast,bfstm,brstm,hca,mlp,mmf,sox,truehd"
)
"""The containers that FFmpeg may take a file for. Not among them are playlists: they would have it open other files."""

INDEXED = ("mov", "matroska", "asf", "ape", "wv", "tta", "caf")
"""Those whose header says how long the audio is; of others FFmpeg estimates it."""

SUFFIXES = {"mov": ".m4a", "matroska": ".mka", "asf": ".wma", "mpeg": ".mpg", "mpegts": ".ts", "mpc8": ".mpc"}

MOST_FAILURES = 100
"""Packets that cannot be decoded, after which FFmpeg is not asked for more."""

COARSE_S = 1 / 8_000
"""A unit of time stamps that is longer does not count samples."""

_SCALES = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63}


class Ffmpeg(Reader):
    """Whatever FFmpeg reads: the best audio stream of a file.

    Codecs carry state from packet to packet (and AAC draws noise at random), so that only decoding from the start gives
    the same samples every time: `seek` decodes what it passes over.
    """

    quick_seek = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self._container, self._stream = _open(file)
        self._frames: int | None = None
        self.at = 0
        try:
            self._decoded = self._pieces()
            # The first frame tells the true rate: of some AAC, the header has half of it.
            self._rest = self._next()
            if self._rest is None:
                raise DecodingError("it holds no audio that FFmpeg can decode")
        except DecodingError:
            self.close()
            raise
        self.channels = self._rest.shape[1]
        name = self._container.format.name.split(",")[0]
        self.suffix = SUFFIXES.get(name, f".{name}")
        if name == "ogg" and self._stream.codec_context.name == "opus":
            self.suffix = ".opus"
        self._check_shape()
        self._block = np.empty((BLOCK, self.channels), np.float32)

    @property
    def frames(self) -> int | None:
        if self._frames is None:
            self._frames = round(packets_s(self._file) * self.rate)
        return self._frames or None

    @property
    def announced_s(self) -> float | None:
        """The length in its header, in seconds; None where there is none."""
        if self._container.format.name.split(",")[0] not in INDEXED:
            return None
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1e6 if self._container.duration else None

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
        self._pass_over(frame - self.at)

    def close(self) -> None:
        self._container.close()

    def _next(self) -> np.ndarray | None:
        return next(self._decoded, None)

    def _pieces(self) -> Iterator[np.ndarray]:
        """What is decoded, in pieces (n, channels), float32. Raises DecodingError where it is damaged mid-way."""
        import av

        failures: list[str] = []
        held, surplus = np.zeros((0, 0), np.float32), 0  # the last piece, and what of it lies beyond the end
        shape: tuple[int, int] | None = None
        packets = self._container.demux(self._stream)
        while len(failures) <= MOST_FAILURES:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except EOFError:
                packet, frames = None, []
            except av.FFmpegError as error:
                # A stream that breaks off ends like this, or one with tags behind it: what comes next decides.
                failures.append(error.strerror or str(error))
                continue
            for frame in frames:
                if failures and shape is not None:
                    raise DecodingError(failures[0])
                samples = _samples_of(frame)
                if shape is None:
                    self.rate, shape = int(frame.sample_rate), (int(frame.sample_rate), samples.shape[1])
                if (int(frame.sample_rate), samples.shape[1]) != shape:
                    raise DecodingError("its sample rate or its number of channels changes")
                if len(held):
                    yield held
                held, surplus = samples[_before_zero(frame) :], _beyond_end(frame, packet)
            if packet is None:
                break
        else:
            raise DecodingError(failures[0])
        if len(held) > surplus:
            yield held[: len(held) - surplus]


def packets_s(file: Path) -> float:
    """Seconds of audio in a file by what its packets say that they last, without decoding. Raises DecodingError."""
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
    except (av.FFmpegError, EOFError) as error:
        raise DecodingError(str(error)) from error
    finally:
        container.close()
    # What lies before zero is thrown away. Stamps may jump, and durations in milliseconds are rounded.
    start = first or 0.0
    return last - max(0.0, start) if coarse and first is not None else total + min(0.0, start)


def _open(file: Path) -> tuple[Any, Any]:
    """(a container, its best audio stream, with one thread)."""
    import av

    try:
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
        # With its protocol: a file may be called "http:x".
        container = av.open(f"file:{file}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise DecodingError(str(getattr(error, "strerror", None) or error)) from error
    stream = container.streams.best("audio")
    if stream is None or stream.codec_context is None:
        container.close()
        raise DecodingError("it holds no audio")
    stream.codec_context.thread_count = 1
    return container, stream


def _samples_of(frame: Any) -> np.ndarray:
    """(n, channels) float32, full scale 1."""
    values: np.ndarray = frame.to_ndarray()
    kind, channels = frame.format.name, len(frame.layout.channels)
    samples = values.T if kind.endswith("p") else values.reshape(-1, channels)
    scale = _SCALES.get(kind.removesuffix("p"))
    if scale is None:
        return samples.astype(np.float32, copy=False)
    centre = 128 if kind.startswith("u8") else 0
    return (samples.astype(np.float32) - np.float32(centre)) * np.float32(scale)


def _before_zero(frame: Any) -> int:
    """How many of a frame's samples lie before the beginning, where its time stamps count samples."""
    if frame.pts is None or frame.pts >= 0 or frame.time_base * frame.sample_rate != 1:
        return 0
    return -int(frame.pts)


def _beyond_end(frame: Any, packet: Any) -> int:
    """How many of a frame's samples lie behind the end of its packet. Of a file's last frame, the encoder's padding."""
    if packet is None or None in (packet.pts, packet.duration, frame.pts) or frame.time_base * frame.sample_rate != 1:
        return 0
    within = packet.pts <= frame.pts < packet.pts + packet.duration and packet.time_base == frame.time_base
    return max(0, int(frame.pts + frame.samples - packet.pts - packet.duration)) if within else 0


def samples_before_zero(file: Path) -> int:
    """How many samples its first packet holds of before the beginning, which are to be discarded."""
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
