"""Opens audio files by one of several libraries, chosen by the content.

The fastest one with correct samples (benchmarks/decode.py, tests/test_matrix.py) is

- Vorbis of one or two channels, FLAC and WAV: miniaudio (stb_vorbis, dr_flac, dr_wav). stb_vorbis
  decodes six channels wrongly, so libsndfile (libvorbis) reads Vorbis with more than two;
- MP3: libsndfile (mpg123), with float precision and without the encoder's padding. miniaudio is slightly faster, but
  rounds to 16 bits. If a file does not announce its length, libsndfile guesses it, so FFmpeg reads such a file;
- AIFF, AU, CAF and the like: libsndfile. But it reads padding in Wave64 and block headers in VOC as audio;
- Opus, and all other formats (AAC, WMA, Matroska, the sound of a film, ...): FFmpeg, through PyAV. It also reads files
  that are damaged, have padding between pages or frames, or consist of several joined pieces.

If the first choice ends before the announced length, FFmpeg continues from there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from mer_ray.audio.containers import Survey, survey
from mer_ray.audio.reader import BLOCK, SLACK_S, DecodingError, Reader
from mer_ray.audio.reader_ffmpeg import Ffmpeg
from mer_ray.audio.reader_miniaudio import Flac, Vorbis, Wav
from mer_ray.audio.reader_soundfile import Soundfile


def open_reader(file: Path, surveyed: Survey | None = None) -> Reader:
    """The reader for a non-empty file. Raises DecodingError with the error of the first choice."""
    first: DecodingError | None = None
    for candidate in candidates(file, surveyed or survey(file)):
        try:
            reader = candidate(file)
        except DecodingError as error:
            first = first or error
        else:
            return reader if isinstance(reader, Ffmpeg | Flac) else Relay(file, reader)
    raise first or DecodingError("no decoder knows its format")


def candidates(file: Path, surveyed: Survey) -> list[Callable[[Path], Reader]]:
    """The readers to attempt, in order."""
    kind = surveyed.kind
    if kind == "ogg" and surveyed.ogg is not None:
        links = surveyed.ogg.links
        if not surveyed.sound or len(links) > 1:
            return [partial(Ffmpeg, links=[link.ranges for link in links]), Ffmpeg, Soundfile]
        audio = links[0].audio if links and len(links[0].serials) == 1 else None
        if audio is not None and audio.codec == "vorbis":
            return [Vorbis, Soundfile, Ffmpeg] if audio.channels <= 2 else [Soundfile, Ffmpeg]
        return [Flac, Soundfile, Ffmpeg] if audio is not None and audio.codec == "flac" else [Ffmpeg, Soundfile]
    if kind == "flac":
        return [Flac, Soundfile, Ffmpeg]
    if kind == "wav":
        return [Wav, Soundfile, Ffmpeg] if surveyed.sound else [Ffmpeg]
    if kind == "mpeg" and surveyed.mpeg is not None:
        plain = surveyed.sound and surveyed.mpeg.kinds[0].layer == 3 and surveyed.mpeg.announced is not None
        return [Soundfile, Ffmpeg] if plain else [Ffmpeg, Soundfile]
    if kind in ("iso", "matroska", "asf", "w64", "voc"):
        return [Ffmpeg, Soundfile]
    return [Soundfile, Ffmpeg]


class Relay(Reader):
    """A reader that FFmpeg replaces when it fails or ends before the announced length."""

    def __init__(self, file: Path, first: Reader) -> None:
        self._file, self._reader = file, first
        self.rate, self.channels, self.suffix = first.rate, first.channels, first.suffix
        self.layout = first.layout
        self._is_first, self._exhausted = True, False

    @property
    def quick_seek(self) -> bool:  # type: ignore[override]
        """Of the present reader."""
        return self._reader.quick_seek

    @property
    def frames(self) -> int | None:
        return self._reader.frames if self._is_first else None

    def read(self, n: int = BLOCK) -> np.ndarray:
        if self._exhausted:
            return np.zeros((0, self.channels), np.float32)
        try:
            block = self._reader.read(n)
        except DecodingError as error:
            if not self._is_first:
                raise
            self._hand_over(error)
            return self.read(n)
        self.at += len(block)
        if len(block) == 0 and self._is_first and self.at < (self.frames or 0) - SLACK_S * self.rate:
            self._hand_over(None)
            return self.read(n)
        return block

    def seek(self, frame: int) -> None:
        try:
            if not self._exhausted:
                self._reader.seek(frame)
        except DecodingError as error:
            if not self._is_first:
                raise
            self._hand_over(error)
            self.seek(frame)
        self.at = frame

    def close(self) -> None:
        self._reader.close()

    def _hand_over(self, failed: DecodingError | None) -> None:
        frames = self.frames
        self.announced_s = frames / self.rate if frames else None
        self._is_first = False
        self.failed = failed
        try:
            other = Ffmpeg(self._file, shape=(self.rate, self.channels))
        except DecodingError:
            self._exhausted = True
            return
        self._reader.close()
        self._reader = other
        other.seek(self.at)
