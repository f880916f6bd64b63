"""What all readers of audio files have in common: samples block by block, and exact seeks."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

BLOCK = 1 << 17
"""Frames in a block: 1.5 s at 44.1 kHz. Stereo fits into a core's second cache; larger ones are no faster."""

MOST_CHANNELS = 255

HIGHEST_RATE_HZ = 3_072_000

SLACK_S = 0.05
"""So much less than announced is what encoders pad, or a count that is off by one: nothing is missing."""


class DecodingError(Exception):
    """A library cannot make sense of a file, or of the rest of it."""


class Reader(ABC):
    """An open file. rate: in hertz. channels: how many. suffix: of the names of files in its format.

    frames: its length as its header has it or as counting its packets gives it; None where only decoding tells.
    quick_seek: whether `seek` costs much less than decoding what lies between. at: the next frame, where it does not.
    announced_s: the length in its header, where that states one. failed: the error of a decoder that could not go
    on, if what comes after it is missing. lost_s: of audio in packets that could not be decoded, so far.
    """

    rate: int
    channels: int
    suffix: str
    quick_seek = True
    at = 0
    announced_s: float | None = None
    failed: DecodingError | None = None
    lost_s = 0.0

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


def native_name(file: Path) -> bytes:
    """A file's name for C libraries: its own bytes, which need not be UTF-8."""
    return os.fsencode(file)
