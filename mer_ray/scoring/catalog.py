"""A catalog to score: audio files from folders, lists and stores, and tables of frames."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.audio import content, walk
from mer_ray.audio.extensions import EXTENSIONS
from mer_ray.audio.file_tags import describe
from mer_ray.errors import InputError, TrackError
from mer_ray.io import address, objects
from mer_ray.io.address import is_url, to_path, to_uri
from mer_ray.io.identity import digest, file_digest, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.tables import failure
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources import folder, manifest

BYTES_PER_S = 20_000
"""Of compressed audio, roughly: an estimate of durations, for blocks of equal work."""
USUAL_S = 240.0
LEAST_S = 1.0
_BATCH = 10_000


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("track_id", "artist", "title", "album", "uri")]
    + [("planned", pa.float64()), ("size", pa.int64()), ("mtime_ms", pa.int64())]
)


class Catalog:
    """Files and tables to score. The rows are in a temporary file: in memory, a million files would take a gigabyte.

    Attributes:
        failed: Rows of ``failures``, once `close` was called.
        tables: Parquet files with frames.
        folders: Folders that were searched and could be read completely.
        skipped: Files that a search of folders ignored.
        again: How many of what was added had been added before: the same file of the same id.
    """

    def __init__(self) -> None:
        self.failed: list[dict[str, Any]] = []
        self.tables: list[str] = []
        self.folders: list[str] = []
        self.skipped = walk.Skipped()
        self.again = 0
        self._ids, self._files = Ids(), Ids()
        self._unusable: list[tuple[Track, TrackError]] = []
        self._pending: list[dict[str, Any]] = []
        self._file = tempfile.TemporaryFile(prefix="mer-ray-")  # noqa: SIM115  the system deletes it when this process ends
        weakref.finalize(self, self._file.close)
        self._writer = pq.ParquetWriter(self._file, SCHEMA, compression="zstd")

    @property
    def tracks(self) -> int:
        """The number of distinct files, once `close` was called."""
        return len(self._ids)

    def add(self, row: dict[str, Any]) -> None:
        """Add a file, unless it is present. Another file of the same id becomes a failure."""
        self._pending.append(row)
        if len(self._pending) == _BATCH:
            self._flush()

    def refuse(self, track: Track, error: TrackError) -> None:
        """Add what cannot be scored. It becomes a failure of the user's own id, where no other row has that."""
        self._unusable.append((track, error))

    def close(self) -> None:
        """End adding, so that `windows` may be called."""
        self._flush()
        self._writer.close()
        known = {row["track_id"] for row in self.failed}
        for track, error in self._unusable:
            own = track.own_id if track.own_id not in self._ids and track.own_id not in known else None
            known.add(row_id := own or track.key or file_id(track.uri or track.id))
            self.failed.append(failure("score", row_id, error.reason, error.message, error.transient))
        self.tables = list(dict.fromkeys(self.tables))

    def notes(self) -> list[str]:
        """What was added again, and what a search of folders ignored; each in a line."""
        again = f"listed more than once: {self.again:,}; each file is scored once, under its first names"
        return [again] * (self.again > 0) + [str(self.skipped)] * bool(self.skipped)

    def windows(self, rows: int) -> Iterator[pa.Table]:
        """Rows with the columns of `SCHEMA`, so many at a time."""
        self._file.seek(0)
        for batch in pq.ParquetFile(self._file).iter_batches(rows):
            yield pa.Table.from_batches([batch])

    def _flush(self) -> None:
        rows = pa.Table.from_pylist(self._pending, schema=SCHEMA)
        new, another = self._ids.add(rows["track_id"]), self._files.add([file_id(r["uri"]) for r in self._pending])
        self._writer.write_table(rows.filter(pa.array(new)))
        self.again += int(np.sum(~new & ~another))
        for i in np.flatnonzero(~new & another):
            message = f"{one_line(rows['uri'][i].as_py(), 300)} has the track_id of another file, {rows['track_id'][i]}"
            self.failed.append(failure("score", file_id(rows["uri"][i].as_py()), "duplicate", message))
        self._pending = []


def find(paths: Sequence[str], scale: tuple[float, float] = (0.0, 1.0)) -> Catalog:
    """Read folders, manifests, audio files, tables of frames, and objects or folders in a store.

    scale: of labels that a manifest may have. Duplicated files are merged. Raises InputError.
    """
    catalog, nothing = Catalog(), list[walk.NoAudio]()
    try:
        for path in paths:
            try:
                for item in _look(path, scale, catalog, len(paths) == 1):
                    _take(item, catalog)
            except walk.NoAudio as error:  # a folder of covers, among other paths
                nothing.append(error)
                catalog.skipped.add(walk.EMPTY, path)
                catalog.skipped.merge(error.skipped)
                if not (error.skipped.counts[walk.UNREADABLE] or error.skipped.counts[walk.BROKEN]):
                    catalog.folders.append(str(_absolute(to_path(path).expanduser())))
    finally:
        catalog.close()
    if nothing and not (catalog.tracks or catalog.tables or catalog.failed):
        raise nothing[0]
    return catalog


def _take(item: SourceResult, catalog: Catalog) -> None:
    track, error = item if isinstance(item, tuple) else (item, None)
    if track.uri and address.has_credentials(track.uri):
        error = TrackError("credentials", f"{address.shown(track.uri)} {address.EXPOSED}")
    if error is not None:
        catalog.refuse(track, error)
    else:
        catalog.add(_row(track))


def file_id(uri: str) -> str:
    """The track_id of a scored file, from its path: two files of one title are two rows."""
    return digest(uri.encode())[:16]


def has_frames(path: str | Path) -> bool:
    """Whether a Parquet file is a table of frames."""
    try:
        return "frames" in pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return False


def _look(text: str, scale: tuple[float, float], catalog: Catalog, alone: bool) -> Iterator[SourceResult]:
    if is_url(text):
        raise InputError(
            f"{address.shown(text)} is a web address",
            "fetch it first: list it in a manifest, and run `mer-ray collect` and `mer-ray acquire`",
        )
    if address.has_credentials(text):
        raise InputError(f"{address.shown(text)} {address.EXPOSED}", address.INSTEAD)
    if not address.is_local(text):
        yield from (_object(uri) for uri in _objects(text, catalog.skipped))
        return
    path = _absolute(to_path(text).expanduser())
    try:
        there = path.exists()
    except OSError as error:
        raise InputError(f"catalog {one_line(text)} cannot be read ({error.strerror})") from error
    if not there and not path.is_symlink():
        raise InputError(
            f"catalog {one_line(text)} does not exist",
            "give a folder with audio, a manifest (CSV, JSON lines, Parquet), or a table of frames",
        )
    if path.is_dir():
        shards = sorted(str(f) for f in path.glob("*.parquet") if not f.name.startswith((".", "_")))
        if shards and has_frames(shards[0]):
            catalog.tables.extend(shards)
        else:
            skipped = walk.Skipped()
            yield from folder.tracks(path, skipped)
            catalog.skipped.merge(skipped)
            if not (skipped.counts[walk.UNREADABLE] or skipped.counts[walk.BROKEN]):
                catalog.folders.append(str(path))
    elif path.is_file() and _is_table(path):
        if has_frames(path):
            catalog.tables.append(str(path))
        else:
            yield from _listed(path, scale, alone)
    else:
        yield _described(path)


def _listed(file: Path, scale: tuple[float, float], alone: bool) -> Iterator[SourceResult]:
    """The tracks of a manifest. If it is unusable, and one of several paths, it becomes a failure."""
    try:
        yield from manifest.tracks(file, scale, to_score=True)
    except InputError as error:
        if alone:
            raise
        uri = to_uri(file)
        yield Track("", one_line(file.stem), uri=uri, key=file_id(uri)), TrackError("bad_manifest", str(error))


def _is_table(file: Path) -> bool:
    """Whether a file is a manifest or a table of frames, else audio. A manifest's suffix decides, unless the content is
    audio; else the content decides. Workbooks count, to be refused as manifests."""
    named = (*manifest.SUFFIXES, *manifest.WORKBOOKS)
    try:
        if content.is_parquet(file):
            return True
        return file.suffix.lower() in named and not content.is_audio(file)
    except OSError:
        return file.suffix.lower() in named


def _described(file: Path) -> SourceResult:
    """A file that was named itself: its content decides, not its suffix."""
    name = one_line(str(file), 300)
    try:
        if not file.is_file():
            raise TrackError(
                "missing", f"{name} is not a file" + (", but a link that leads nowhere" if file.is_symlink() else "")
            )
        if file.suffix.lower() not in EXTENSIONS and (what := content.text_kind(file)):
            raise TrackError(
                "corrupt", f"{name} is {what}, no audio; a manifest ends in {', '.join(manifest.SUFFIXES)}"
            )
        return describe(file)
    except (OSError, TrackError) as error:
        if not isinstance(error, TrackError):
            error = TrackError("unreadable", f"{name} cannot be read ({error.strerror})")
        uri = to_uri(file)
        return Track("", one_line(file.stem), uri=uri, key=file_id(uri)), error


def _objects(uri: str, skipped: walk.Skipped) -> list[str]:
    """One object, or all audio under a prefix that ends with a slash."""
    prefix = _name(uri)
    if not prefix.endswith("/"):
        return [uri]
    below = walk.Skipped()
    found = [u for u in objects.listing(uri) if walk.named_as_audio(unquote(_name(u).removeprefix(prefix)), below)]
    if not found:
        hint = "; ".join(filter(None, [walk.SUCH_AS, str(below)]))
        raise InputError(f"{address.shown(uri)} holds no audio files", hint)
    skipped.merge(below)
    return found


def _object(uri: str) -> Track:
    return Track("", one_line(unquote(PurePosixPath(_name(uri)).stem)), uri=uri)


def _name(uri: str) -> str:
    """An object's address without its query, which may hold settings and secrets."""
    return uri.partition("?")[0]


def _absolute(path: Path) -> Path:
    """An absolute path without ``..``, the same however it was typed. Symbolic links are not resolved."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _row(track: Track) -> dict[str, Any]:
    uri = track.uri or ""
    if address.is_local(uri):
        uri = to_uri(_absolute(to_path(uri)))
    planned, found = track.duration_s or USUAL_S, state(uri)
    if address.is_local(uri):
        # A missing file will become a row of failures.
        planned = LEAST_S if found["size"] is None else track.duration_s or found["size"] / BYTES_PER_S
    return {
        "track_id": track.own_id or file_id(uri),
        "artist": track.artist,
        "title": track.title,
        "album": track.album,
        "uri": uri,
        "planned": max(LEAST_S, planned),
        **found,
    }


def content_hash(uri: str) -> str | None:
    """SHA-256 of a local file's bytes; None for anything else, or if it cannot be read."""
    try:
        return file_digest(to_path(uri)) if address.is_local(uri) else None
    except OSError:
        return None


def state(uri: str) -> dict[str, int | None]:
    """A file's version: its ``size`` in bytes and ``mtime_ms``; Nones for what is no local file."""
    try:
        found = to_path(uri).stat() if address.is_local(uri) else None
    except (OSError, ValueError):
        found = None
    return {
        "size": None if found is None else found.st_size,
        "mtime_ms": None if found is None else found.st_mtime_ns // 1_000_000,
    }
