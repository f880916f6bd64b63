"""A folder of audio files, searched with its subfolders. Artist, title and album come from the files' own tags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.audio import walk
from mer_ray.audio.file_tags import describe
from mer_ray.audio.walk import Skipped
from mer_ray.errors import ConfigError, TrackError
from mer_ray.io.address import to_uri
from mer_ray.io.identity import digest, one_line
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources.source import Stored, TrackSource


class Source(TrackSource):
    """The audio files under ``collect.folder``."""

    by_content = True

    def check(self) -> None:
        """See `TrackSource`."""
        if not self.settings.folder:
            raise ConfigError("collect.folder is not set", "give the path of a folder with audio files")
        files(self.settings.folder)

    def tracks(self, stored: Stored) -> Iterator[SourceResult]:
        """See `TrackSource`."""
        self._skipped = Skipped()
        return tracks(self.settings.folder, self._skipped, Known(stored(Known.COLUMNS)))

    @property
    def incomplete(self) -> bool:
        """See `TrackSource`. Files that cannot be read now, or are on an unmounted disk, are not gone."""
        return bool(self._skipped.counts[walk.UNREADABLE] or self._skipped.counts[walk.BROKEN])

    def notes(self) -> list[str]:
        """See `TrackSource`."""
        return [str(self._skipped)] if self._skipped else []


def files(folder: str | Path) -> list[Path]:
    """The files under a folder with an audio suffix (`walk.search`). Raises InputError if there are none."""
    return walk.search(folder)[0]


class Known:
    """Hashes of untagged files from an earlier run, valid while their size and modification time are the same."""

    COLUMNS = ("track_id", "artist", "uri", "size", "mtime_ns")

    def __init__(self, stored: Iterable[pa.Table] = ()) -> None:
        """stored: rows of ``tracks``, with `COLUMNS`."""
        self._hashes: dict[str, str] = {}
        for table in stored:
            for row in table.filter(pc.equal(table["artist"], "")).to_pylist():
                self._hashes[_state(row["uri"], row["size"], row["mtime_ns"])] = row["track_id"]

    def find(self, track: Track) -> str | None:
        """The hash of the track's file."""
        return self._hashes.get(_state(track.uri, track.size, track.mtime_ns))


def _state(uri: str | None, size: int | None, mtime_ns: int | None) -> str:
    return digest(f"{uri} {size} {mtime_ns}".encode())[:16]


def tracks(folder: str | Path, skipped: Skipped | None = None, known: Known | None = None) -> Iterator[SourceResult]:
    """A `Track` per file: named by its tags or, without them, by its file name, and identified by its content.

    skipped: filled with what was ignored, before the first track. known: hashes of an earlier run.
    """
    root = Path(folder).expanduser().absolute()
    found, passed_over = walk.search(folder)
    if skipped is not None:
        skipped.merge(passed_over)
    for path in found:
        try:
            if not path.is_file():  # a broken link, or a pipe, which would block
                reason = "is a link that leads nowhere" if path.is_symlink() else "is not a file"
                raise TrackError("missing", f"{one_line(str(path), 300)} {reason}")
            yield describe(path, root, known.find if known else None)
        except (OSError, TrackError) as error:
            if not isinstance(error, TrackError):
                reason = f"{one_line(str(path), 300)} cannot be read ({error.strerror})"
                error = TrackError("unreadable", reason)
            yield Track("", one_line(path.stem), uri=to_uri(path), key=digest(os.fsencode(path))[:16]), error
