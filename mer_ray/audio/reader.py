"""The interface of readers of audio files: samples block by block, and exact seeks."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

BLOCK = 1 << 17
"""Frames in a block: 1.5 s at 44.1 kHz. Stereo fits into a core's second-level cache; larger ones are no faster."""

MOST_CHANNELS = 255

HIGHEST_RATE_HZ = 3_072_000

SLACK_S = 0.05
"""Tolerance of the announced length, for encoders' padding and rounding."""


class DecodingError(Exception):
    """A library cannot decode a file, or the rest of it."""


class Reader(ABC):
    """An open file.

    Attributes:
        rate: In hertz.
        channels: Their number.
        layout: FFmpeg's name of their order, or "vorbis"; "" if unknown.
        suffix: Of file names in its format.
        frames: Its length from its header or by counting packets; None if it must be decoded.
        quick_seek: Whether `seek` is much faster than decoding.
        at: The next frame, if `seek` decodes.
        announced_s: The length in its header, if any.
        failed: The error that ended the decoding too early, if any.
        undecoded_s: Seconds in packets that could not be decoded so far.
    """

    rate: int
    channels: int
    layout = ""
    suffix: str
    quick_seek = True
    at = 0
    announced_s: float | None = None
    failed: DecodingError | None = None
    undecoded_s = 0.0

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
        """Continue exactly at this frame, which must not be before the present position. Raises DecodingError."""

    @abstractmethod
    def close(self) -> None: ...

    def _skip(self, n: int) -> None:
        """Decode and drop so many frames."""
        while n > 0 and (got := len(self.read(min(n, BLOCK)))):
            n -= got

    def _check_shape(self) -> None:
        if not (0 < self.rate <= HIGHEST_RATE_HZ and 0 < self.channels <= MOST_CHANNELS):
            self.close()
            raise DecodingError(f"{self.rate} Hz and {self.channels} channels make no sense")


def native_name(file: Path) -> bytes:
    """A file's name for C libraries: its bytes, which may not be UTF-8."""
    return os.fsencode(file)
