"""Open audio files, one reader per library, behind one small interface. Which one reads a file, its content decides.

Measured (benchmarks/decode.py), the fastest that gives the right samples is

- Vorbis, FLAC and WAV: miniaudio (stb_vorbis, dr_flac, dr_wav);
- MP3: libsndfile (mpg123), which keeps float precision and cuts the encoder's padding. miniaudio is a little faster and
  rounds to 16 bits; and where a file does not announce its length libsndfile guesses it, so FFmpeg reads such a file;
- AIFF, AU, CAF and the like: libsndfile;
- Opus, and all that the others refuse (AAC, WMA, Matroska, the sound of a film, ...): FFmpeg, through PyAV.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mer_ray.audio import containers
from mer_ray.audio.reader import DecodingError, Reader
from mer_ray.audio.reader_ffmpeg import Ffmpeg
from mer_ray.audio.reader_miniaudio import Flac, Vorbis, Wav
from mer_ray.audio.reader_soundfile import Soundfile


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
