"""Artist, title and album of a file, from its tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mer_ray.audio import ape_tag
from mer_ray.io.address import to_uri
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.track import Track


def describe(path: Path, root: Path | None = None, known: Callable[[Track], str | None] | None = None) -> Track:
    """A file as a track: named by its tags, or else by its file name and identified by its content.

    Args:
        root: The folder to which the track's ``location`` is relative.
        known: Returns the known key of an untagged file.

    Raises:
        OSError: The file cannot be read.
    """
    artist, title, album = _tags(path)
    found = path.stat()
    track = Track(
        artist=artist,
        title=title or one_line(path.stem),
        album=album or None,
        uri=to_uri(path),
        location=one_line(str(path.relative_to(root)), 4_000) if root is not None else None,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
    )
    if artist and title:
        return track
    key = None if artist or known is None else known(track)
    return replace(track, key=key or file_digest(path)[:16])


def _tags(path: Path) -> tuple[str, str, str]:
    """(artist, title, album), empty where unknown. Raises OSError."""
    found = _usual(path)
    if not any(found):
        own = ape_tag.texts(path)
        found = own.get("artist", ""), own.get("title", ""), own.get("album", "")
    artist, title, album = map(one_line, found)
    return artist, title, album


def _usual(path: Path) -> tuple[str, str, str]:
    """ID3, Vorbis comments, and the tags of MP4, ASF, WAV and AIFF."""
    from tinytag import TinyTag, TinyTagException, UnsupportedFormatError

    try:
        try:
            with path.open("rb") as file:  # by its content, as the suffix may be wrong
                tags = TinyTag.get(file_obj=file, tags=True, duration=False)
        except UnsupportedFormatError:
            tags = TinyTag.get(path, tags=True, duration=False)
        return tags.artist or "", tags.title or "", tags.album or ""
    except (TinyTagException, ValueError, LookupError, ArithmeticError):
        return "", "", ""  # damaged tags: the audio may be usable
