"""Open audio files, one reader per library, behind one small interface. Which one reads a file, its content decides.

Measured (benchmarks/decode.py), the fastest that gives the right samples is

- Vorbis, FLAC and WAV: miniaudio (stb_vorbis, dr_flac, dr_wav);
- MP3: libsndfile (mpg123), which keeps float precision and cuts the encoder's padding. miniaudio is a little faster and
  rounds to 16 bits; and where a file does not announce its length libsndfile guesses it, so FFmpeg reads such a file;
- AIFF, AU, CAF and the like: libsndfile;
- Opus, and all that the others refuse (AAC, WMA, Matroska, the sound of a film, ...): FFmpeg, through PyAV.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.audio import containers

BLOCK = 1 << 17
"""Frames in a block: 1.5 s at 44.1 kHz. Stereo fits into a core's second cache; larger ones are no faster."""

MOST_CHANNELS = 255
HIGHEST_RATE_HZ = 3_072_000


class DecodingError(Exception):
    """A library cannot make sense of a file, or of the rest of it."""


class Reader(ABC):
    """An open file. rate: in hertz. channels: how many. suffix: of the names of files in its format.

    frames: its length as its header has it or as counting its packets gives it; None where only decoding tells.
    quick_seek: whether `seek` costs much less than decoding what lies between. at: the next frame, where it does not.
    """

    rate: int
    channels: int
    suffix: str
    quick_seek = True
    at = 0

    @property
    @abstractmethod
    def frames(self) -> int | None: ...

    @abstractmethod
    def read(self, n: int = BLOCK) -> np.ndarray:
        """The next float32 samples of shape (up to ``n``, channels), full scale 1; no rows at the end.

        n: at most `BLOCK`. The array is overwritten by the next call. Raises DecodingError.
        """

    @abstractmethod
    def seek(self, frame: int) -> None:
        """Go on at this frame, exactly; it must not lie before what has been read. Raises DecodingError."""

    @abstractmethod
    def close(self) -> None: ...

    def _pass_over(self, n: int) -> None:
        """Decode so many frames for nothing."""
        while n > 0 and (got := len(self.read(min(n, BLOCK)))):
            n -= got

    def _check_shape(self) -> None:
        if not (0 < self.rate <= HIGHEST_RATE_HZ and 0 < self.channels <= MOST_CHANNELS):
            self.close()
            raise DecodingError(f"{self.rate} Hz and {self.channels} channels make no sense")


def open_reader(file: Path) -> Reader:
    """The reader for a file that is there and is not empty. Raises DecodingError with what the first choice said."""
    first: DecodingError | None = None
    for candidate in candidates(file):
        try:
            return candidate(file)
        except DecodingError as error:
            first = first or error
    raise first or DecodingError("no decoder knows its format")


def candidates(file: Path) -> list[Callable[[Path], Reader]]:
    """The readers to be tried, in order. A look at a file's first bytes; raises OSError."""
    kind = containers.kind(file)
    if kind == "vorbis":
        return [Vorbis, Soundfile, Ffmpeg]
    if kind == "flac":
        return [Flac, Soundfile, Ffmpeg]
    if kind == "wav":
        return [Wav, Soundfile, Ffmpeg]
    if kind == "mp3":
        return [Soundfile, Ffmpeg] if containers.announces_length(file) else [Ffmpeg, Soundfile]
    if kind in ("ogg", "iso", "matroska", "asf"):
        return [Ffmpeg, Soundfile]
    return [Soundfile, Ffmpeg]


def native_name(file: Path) -> bytes:
    """A file's name for C libraries: its own bytes, which need not be UTF-8."""
    return os.fsencode(file)


# miniaudio ---------------------------------------------------------------------------------------------------------


class _Miniaudio(Reader):
    """What its three decoders have in common. They are called by their C functions, straight into a numpy array:

    the package's own generators copy every block three times.
    """

    def __init__(self, file: Path) -> None:
        from _miniaudio import ffi, lib

        self._ffi, self._lib = ffi, lib
        self._handle = self._open(native_name(file))
        self._check_shape()
        self._block = np.empty((BLOCK, self.channels), np.float32)
        self._into = ffi.from_buffer("float[]", self._block)

    @property
    def frames(self) -> int | None:
        return self._frames

    def close(self) -> None:
        if self._handle is not None:
            self._close(self._handle)
        self._handle = None

    _frames: int | None

    @abstractmethod
    def _open(self, name: bytes) -> Any:
        """Sets rate, channels and _frames too."""

    @abstractmethod
    def _close(self, handle: Any) -> None: ...


class Flac(_Miniaudio):
    """FLAC, bare or in Ogg."""

    suffix = ".flac"

    def _open(self, name: bytes) -> Any:
        flac = self._lib.ma_dr_flac_open_file(name, self._ffi.NULL)
        if not flac:
            raise DecodingError("no FLAC stream")
        self.rate, self.channels = flac.sampleRate, flac.channels
        self._frames = self._total = int(flac.totalPCMFrameCount)
        if self._total == 0:  # a stream whose encoder could not go back: it would not notice where that breaks off
            self._close(flac)
            raise DecodingError("its length is unknown")
        return flac

    def read(self, n: int = BLOCK) -> np.ndarray:
        got = self._lib.ma_dr_flac_read_pcm_frames_f32(self._handle, n, self._into)
        self.at += got
        if got < n and self.at < self._total:
            # It steps over frames whose checksum is wrong, and says nothing.
            raise DecodingError(f"{self._total - self.at:,} of {self._total:,} samples are missing or damaged")
        return self._block[:got]

    def seek(self, frame: int) -> None:
        if not self._lib.ma_dr_flac_seek_to_pcm_frame(self._handle, frame):
            raise DecodingError(f"it holds no sample {frame:,}")
        self.at = frame

    def _close(self, handle: Any) -> None:
        self._lib.ma_dr_flac_close(handle)


class Wav(_Miniaudio):
    """WAV, RF64 and Wave64, of integers or floats."""

    suffix = ".wav"

    def _open(self, name: bytes) -> Any:
        wav = self._ffi.new("ma_dr_wav *")
        if not self._lib.ma_dr_wav_init_file(wav, name, self._ffi.NULL):
            raise DecodingError("no WAV file")
        if wav.bitsPerSample <= 8:  # of unsigned bytes, dr_wav's zero is off by half a step
            self._close(wav)
            raise DecodingError("8 bits")
        self.rate, self.channels, self._frames = wav.sampleRate, wav.channels, wav.totalPCMFrameCount
        return wav

    def read(self, n: int = BLOCK) -> np.ndarray:
        return self._block[: self._lib.ma_dr_wav_read_pcm_frames_f32(self._handle, n, self._into)]

    def seek(self, frame: int) -> None:
        if not self._lib.ma_dr_wav_seek_to_pcm_frame(self._handle, frame):
            raise DecodingError(f"it holds no sample {frame:,}")

    def _close(self, handle: Any) -> None:
        self._lib.ma_dr_wav_uninit(handle)


UNKNOWN = 0xFFFFFFFF
"""stb_vorbis says so where it finds no last page."""


class Vorbis(_Miniaudio):
    """Ogg Vorbis.

    A first page may announce fewer samples than it holds: then the surplus at the start is to be discarded (Vorbis I
    specification, A.2). libvorbis does so; stb_vorbis does not, and seeks as if it had. FFmpeg gives such samples
    negative time stamps, which costs a millisecond to learn.
    """

    suffix = ".ogg"

    def __init__(self, file: Path) -> None:
        self._surplus = _samples_before_zero(file)
        super().__init__(file)
        self._pass_over(self._surplus)

    def _open(self, name: bytes) -> Any:
        error = self._ffi.new("int *")
        vorbis = self._lib.stb_vorbis_open_filename(name, error, self._ffi.NULL)
        if not vorbis:
            raise DecodingError(f"no Vorbis stream (stb_vorbis error {error[0]})")
        info = self._lib.stb_vorbis_get_info(vorbis)
        self.rate, self.channels = info.sample_rate, info.channels
        length = self._lib.stb_vorbis_stream_length_in_samples(vorbis)
        self._frames = length if 0 < length < UNKNOWN else None
        return vorbis

    def read(self, n: int = BLOCK) -> np.ndarray:
        got = 0
        while got < n and (more := self._get(got, n - got)):
            got += more
        return self._block[:got]

    def _get(self, start: int, n: int) -> int:
        into, values = self._into + start * self.channels, n * self.channels
        got = self._lib.stb_vorbis_get_samples_float_interleaved(self._handle, self.channels, into, values)
        return int(got)

    def seek(self, frame: int) -> None:
        if frame == 0:
            self._lib.stb_vorbis_seek_start(self._handle)
            self._pass_over(self._surplus)
        elif not self._lib.stb_vorbis_seek(self._handle, frame):
            raise DecodingError(f"it holds no sample {frame:,}")

    def _close(self, handle: Any) -> None:
        self._lib.stb_vorbis_close(handle)


# libsndfile --------------------------------------------------------------------------------------------------------


ENDLESS = 1 << 62
"""libsndfile says the largest number of a FLAC stream whose encoder could not go back to fill in its length."""


class Soundfile(Reader):
    """What libsndfile reads, MP3 with it."""

    def __init__(self, file: Path) -> None:
        import soundfile

        self._error = soundfile.LibsndfileError
        try:
            self._sound = soundfile.SoundFile(native_name(file))
        except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError) as error:
            raise DecodingError(str(error).split(":")[-1]) from error
        self.rate, self.channels = int(self._sound.samplerate), int(self._sound.channels)
        known = {"WAVEX": ".wav", "RF64": ".wav", "MPEG": ".mp3"}
        suffix = known.get(self._sound.format, f".{self._sound.format.lower()}")
        self.suffix = ".opus" if self._sound.subtype == "OPUS" else suffix
        self._check_shape()
        self._block = np.empty((BLOCK, self.channels), np.float32)
        self.at = 0
        self.quick_seek = self.frames is not None
        if not self.quick_seek:
            self._sound.seekable = lambda: False  # soundfile would seek to where it has read, and fail

    @property
    def frames(self) -> int | None:
        frames = int(self._sound.frames)
        return frames if frames < ENDLESS else None

    def read(self, n: int = BLOCK) -> np.ndarray:
        try:
            got: np.ndarray = self._sound.read(out=self._block[:n])
        except (self._error, RuntimeError, ValueError) as error:
            raise DecodingError(str(error).split(":")[-1]) from error
        self.at += len(got)
        return got

    def seek(self, frame: int) -> None:
        if not self.quick_seek:
            self._pass_over(frame - self.at)
            return
        try:
            self.at = self._sound.seek(frame)
        except (self._error, RuntimeError, ValueError) as error:
            raise DecodingError(str(error).split(":")[-1]) from error

    def close(self) -> None:
        self._sound.close()


# FFmpeg ------------------------------------------------------------------------------------------------------------

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma"
)
"""The containers that FFmpeg may take a file for. Not among them are playlists: they would have it open other files."""

INDEXED = ("mov", "matroska", "asf", "ape", "wv", "tta", "caf")
"""Those whose header says how long the audio is; of others FFmpeg estimates it."""

SUFFIXES = {"mov": ".m4a", "matroska": ".mka", "asf": ".wma", "mpeg": ".mpg", "mpegts": ".ts", "mpc8": ".mpc"}

_SCALES = {"u8": 2.0**-7, "s16": 2.0**-15, "s32": 2.0**-31, "s64": 2.0**-63}


class Ffmpeg(Reader):
    """Whatever FFmpeg reads: the best audio stream of a file.

    Codecs carry state from packet to packet (and AAC draws noise at random), so that only decoding from the start gives
    the same samples every time: `seek` decodes what it passes over.
    """

    quick_seek = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self._container, self._stream = _open_ffmpeg(file)
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


MOST_FAILURES = 100
"""Packets that cannot be decoded, after which FFmpeg is not asked for more."""


COARSE_S = 1 / 8_000
"""A unit of time stamps that is longer does not count samples."""


def packets_s(file: Path) -> float:
    """Seconds of audio in a file by what its packets say that they last, without decoding. Raises DecodingError."""
    import av

    container, stream = _open_ffmpeg(file)
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


def _open_ffmpeg(file: Path) -> tuple[Any, Any]:
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


def _samples_before_zero(file: Path) -> int:
    import av

    container, stream = _open_ffmpeg(file)
    try:
        return max((_before_zero(frame) for frame in _first(container.decode(stream))), default=0)
    except (av.FFmpegError, EOFError) as error:
        raise DecodingError(str(error)) from error
    finally:
        container.close()


def _first(frames: Iterator[Any]) -> list[Any]:
    frame = next(frames, None)
    return [] if frame is None else [frame]
