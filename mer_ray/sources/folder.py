"""A folder of audio files, searched with its subfolders. Artist, title and album come from the files' own tags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mer_ray.audio.location import to_uri
from mer_ray.errors import TrackError
from mer_ray.identity import digest, file_digest, one_line
from mer_ray.sources import Found, Track, walk
from mer_ray.sources.walk import Skipped


def files(folder: str | Path) -> list[Path]:
    """The files under a folder that are named as audio (`walk.search`). Raises InputError if there are none."""
    return walk.search(folder)[0]


def tracks(folder: str | Path, skipped: Skipped | None = None) -> Iterator[Found]:
    """A `Track` per file: named by its tags or, without them, by its file name, and identified by its content.

    skipped: is told what was passed over, before the first track.
    """
    found, passed_over = walk.search(folder)
    if skipped is not None:
        skipped.merge(passed_over)
    for path in found:
        try:
            if not path.is_file():  # a broken link, or a pipe that nobody would ever write to
                raise TrackError("missing", f"{one_line(str(path), 300)} is not a file")
            yield describe(path)
        except (OSError, TrackError) as error:
            if not isinstance(error, TrackError):
                said = f"{one_line(str(path), 300)} cannot be read ({error.strerror})"
                error = TrackError("unreadable", said)
            yield Track("", one_line(path.stem), uri=to_uri(path), key=digest(os.fsencode(path))[:16]), error


def describe(path: Path) -> Track:
    """What a file's tags say. Raises OSError where the file cannot be read."""
    from tinytag import TinyTag, TinyTagException, UnsupportedFormatError

    try:
        try:
            with path.open("rb") as file:  # by its content: a file may be called other than what it is
                tags = TinyTag.get(file_obj=file, tags=True, duration=False)
        except UnsupportedFormatError:
            tags = TinyTag.get(path, tags=True, duration=False)
        artist, title, album = tags.artist or "", tags.title or "", tags.album
    except (TinyTagException, ValueError, LookupError, ArithmeticError):
        # Damaged tags are no reason to lose a file whose audio may be sound.
        artist, title, album = "", "", None
    artist, title = one_line(artist), one_line(title)
    return Track(
        artist=artist,
        title=title or one_line(path.stem),
        album=one_line(album) if album else None,
        uri=to_uri(path),
        key=None if artist and title else file_digest(path)[:16],
    )
