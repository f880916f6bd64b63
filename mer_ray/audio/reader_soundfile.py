"""Reads MP3, AIFF, AU, CAF and other formats of libsndfile."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mer_ray.audio.reader import BLOCK, DecodingError, Reader, native_name

ENDLESS = 1 << 62
"""libsndfile's length, at least, of a FLAC stream without a length."""


class Soundfile(Reader):
    """A file read by libsndfile."""

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
        self.layout = "vorbis" if self._sound.subtype == "VORBIS" else ""
        self._check_shape()
        self._block = np.empty((BLOCK, self.channels), np.float32)
        self.at = 0
        self.quick_seek = self.frames is not None
        if not self.quick_seek:
            self._sound.seekable = lambda: False  # else soundfile seeks after each read, and fails

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
            self._skip(frame - self.at)
            return
        try:
            self.at = self._sound.seek(frame)
        except (self._error, RuntimeError, ValueError) as error:
            raise DecodingError(str(error).split(":")[-1]) from error

    def close(self) -> None:
        self._sound.close()
