"""Opens an audio file for decoding, with errors that explain its defects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mer_ray.audio import containers, content
from mer_ray.audio.containers import Survey
from mer_ray.audio.decoders import open_reader
from mer_ray.audio.reader import DecodingError, Reader
from mer_ray.audio.reader_ffmpeg import Ffmpeg
from mer_ray.errors import TrackError, is_full
from mer_ray.io.identity import one_line


@contextmanager
def opened(file: Path) -> Iterator[tuple[Survey, Reader]]:
    """The file's structure, and a reader whose errors within the context become TrackErrors."""
    reader: Reader | None = None
    try:
        if refused := content.refused(file):
            raise refused
        survey = containers.survey(file)
        reader = open_reader(file, survey)
        yield survey, reader
    except MemoryError as error:
        raise TrackError("too_big", f"{shown(file)} needs more memory to be decoded than there is") from error
    except (DecodingError, OSError, ValueError) as error:
        if is_full(error):
            full = f"{shown(file)} needs room for temporary files, and {tempfile.gettempdir()} is full"
            raise TrackError("no_space", full, transient=True) from error
        reason = one_line(str(error), 120) or type(error).__name__
        if reader is None:
            reason = _why_not(file, reason)
        raise TrackError("corrupt", f"{shown(file)} cannot be decoded ({reason})") from error
    finally:
        if reader is not None:
            reader.close()


def _why_not(file: Path, reason: str) -> str:
    """The reason why no decoder opened a file, for a message. reason: of the first decoder."""
    with suppress(OSError):
        if what := content.looks_like(file):
            return what
    if "possibly a pipe" not in reason and "not recognised" not in reason:
        return reason
    # libsndfile's message for all unknown files, films included.
    try:
        Ffmpeg(file).close()
    except DecodingError as error:
        if "no audio" in str(error):
            return str(error)
    return "it is damaged, or of a format that no decoder knows"


def readable(path: str | Path) -> Path:
    file = Path(path)
    try:
        if not file.is_file():
            raise TrackError("missing", f"{shown(file)} is not a file")
        if file.stat().st_size == 0:
            raise TrackError("empty", f"{shown(file)} has 0 bytes")
        with file.open("rb"):
            return file
    except (OSError, ValueError) as error:
        raise TrackError("unreadable", f"{shown(file)} cannot be opened ({one_line(str(error), 120)})") from error


def shown(file: Path) -> str:
    return one_line(str(file), 300)
