"""Vorbis, FLAC and WAV by miniaudio (stb_vorbis, dr_flac, dr_wav)."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.audio import reader_ffmpeg
from mer_ray.audio.reader import BLOCK, DecodingError, Reader, native_name

MOST_FAILURES = 100
"""Undecodable frames in a row after which reading ends."""

UNKNOWN = 0xFFFFFFFF
"""stb_vorbis's length of a stream without a last page."""


class _Miniaudio(Reader):
    """The common part of its three decoders.

    Their C functions write into a numpy array, since the package's own generators copy every block three times.
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
        """Open the file; also sets rate, channels and _frames."""

    @abstractmethod
    def _close(self, handle: Any) -> None: ...


class Flac(_Miniaudio):
    """FLAC, native or in Ogg."""

    suffix = ".flac"

    def _open(self, name: bytes) -> Any:
        flac = self._lib.ma_dr_flac_open_file(name, self._ffi.NULL)
        if not flac:
            raise DecodingError("no FLAC stream")
        self.rate, self.channels = flac.sampleRate, flac.channels
        self._frames = self._total = int(flac.totalPCMFrameCount)
        if self._total == 0:  # streamed without a length, so that truncation would go unnoticed
            self._close(flac)
            raise DecodingError("its length is unknown")
        return flac

    def read(self, n: int = BLOCK) -> np.ndarray:
        got = idle = 0
        # dr_flac skips frames with a wrong checksum and stops at undecodable ones, after which others may be intact.
        while got < n and self.at + got < self._total and idle < MOST_FAILURES:
            more = self._lib.ma_dr_flac_read_pcm_frames_f32(self._handle, n - got, self._into + got * self.channels)
            got, idle = got + more, 0 if more else idle + 1
        self.at += got
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
        if wav.bitsPerSample <= 8:  # dr_wav's zero of unsigned bytes is off by half a step
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


class Vorbis(_Miniaudio):
    """Ogg Vorbis.

    If a first page announces fewer samples than it has, the surplus at the start is to be discarded (Vorbis I
    specification, A.2). libvorbis does so; stb_vorbis does not, and seeks as if it had. Their number comes from
    FFmpeg's negative time stamps, in a millisecond.
    """

    suffix = ".ogg"

    def __init__(self, file: Path) -> None:
        self._surplus = reader_ffmpeg.samples_before_zero(file)
        super().__init__(file)
        self._skip(self._surplus)

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
            self._skip(self._surplus)
        elif not self._lib.stb_vorbis_seek(self._handle, frame):
            raise DecodingError(f"it holds no sample {frame:,}")

    def _close(self, handle: Any) -> None:
        self._lib.stb_vorbis_close(handle)
