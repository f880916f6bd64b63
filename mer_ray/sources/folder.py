"""A folder of audio files, searched with its subfolders. Artist, title and album come from the files' own tags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mer_ray.audio.decode import EXTENSIONS
from mer_ray.audio.location import to_uri
from mer_ray.errors import InputError, TrackError
from mer_ray.identity import digest, file_digest, one_line
from mer_ray.sources import Found, Track


def files(folder: str | Path) -> list[Path]:
    """The audio files under a folder, by extension, sorted. Raises InputError if there is no folder, or none in it."""
    root = Path(folder).expanduser().absolute()  # what is found goes into tables that other processes read
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist", "give the path of a folder with audio files")
    found = [
        Path(base) / name
        for base, _, names in os.walk(root, onerror=None)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS
    ]
    if not found:
        raise InputError(f"folder {root} holds no audio files", f"looked for {' '.join(sorted(EXTENSIONS))}")
    return sorted(found, key=os.fsencode)


def tracks(folder: str | Path) -> Iterator[Found]:
    """A `Track` per file: named by its tags or, without them, by its file name, and identified by its content."""
    for path in files(folder):
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
    from tinytag import TinyTag, TinyTagException

    try:
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
