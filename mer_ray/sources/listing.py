"""A source's listing, buffered on disk until it is complete, since the ids depend on all tracks.

A track's id is the user's own, or made from artist, title and album. If several files share these, each file is a
track, and its location (in a folder: its content) becomes part of its id. So ids do not depend on the order.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.errors import TrackError, WorkspaceError
from mer_ray.io import scratch
from mer_ray.io.address import to_path
from mer_ray.io.identity import digest, file_digest, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.track import Track

BATCH = 5_000
_FIRST = pa.schema([*SCHEMAS["tracks"], pa.field("location", pa.string()), pa.field("kind", pa.string())])


def row(track: Track, source: str, at: Any) -> dict[str, Any]:
    """A row of ``tracks``. at: when the source was read."""
    return {
        "track_id": track.id,
        "artist": one_line(track.artist),
        "title": one_line(track.title),
        "album": one_line(track.album) if track.album else None,
        "composer": track.composer,
        "mbid": track.mbid,
        "spotify_id": track.spotify_id,
        "duration_s": track.duration_s,
        "uri": track.uri,
        "tags": [{"name": one_line(n), "weight": w} for n, w in track.tags],
        "ratings": [rating._asdict() for rating in track.ratings] or None,
        "curves": [curve._asdict() for curve in track.curves] or None,
        "dataset": track.dataset,
        "split": track.split,
        "fold": track.fold,
        "size": track.size,
        "mtime_ns": track.mtime_ns,
        "source": source,
        "fetched_at": at,
    }


class Listing:
    """Collects tracks one by one; after `close`, `rows` yields the distinct tracks as rows of ``tracks``.

    by_content: tracks of the same artist, title and album differ by their files' bytes, not by their locations.
    """

    def __init__(self, source: str, at: Any, by_content: bool = False) -> None:
        self._source, self._at, self._by_content = source, at, by_content
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(scratch.folder())
        self._rows: list[dict[str, Any]] = []
        self._first = pq.ParquetWriter(self._file("first"), _FIRST, compression="zstd")
        self._ids, self._locations = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the file is removed next
            self._first.close()
        self._stack.close()

    def add(self, track: Track) -> None:
        """Add a track."""
        kind = "track_id" if track.own_id else "content" if track.key else "name"
        location = track.location or track.uri or ""
        self._rows.append({**row(track, self._source, self._at), "location": location, "kind": kind})
        if len(self._rows) == BATCH:
            self._flush()

    def close(self) -> list[tuple[str, TrackError]]:
        """Complete the listing. Returns (an id, the error) of each duplicated track."""
        self._flush()
        with _temporary_files():
            self._first.close()
        apart = _several(np.concatenate(self._ids), np.concatenate(self._locations))
        seen, repeats = Ids(), list[dict[str, Any]]()
        with _temporary_files(), pq.ParquetWriter(self._file("rows"), SCHEMAS["tracks"], compression="zstd") as writer:
            for batch in self._read("first"):
                rows = batch.to_pylist()
                for r in rows:
                    if r["kind"] == "name" and r["location"] and int(r["track_id"], 16) in apart:
                        r["track_id"] = digest(f"{r['track_id']}\x1f{self._file_of(r)}".encode())[:16]
                first = seen.add([r["track_id"] for r in rows])
                repeats += [r for r, new in zip(rows, first, strict=True) if not new]
                new = [r for r, is_new in zip(rows, first, strict=True) if is_new]
                writer.write_table(pa.Table.from_pylist(new, SCHEMAS["tracks"]))
        stored = self._find({r["track_id"] for r in repeats})
        times = Counter[tuple[str, str]]()
        errors = []
        for r in repeats:
            key = (r["track_id"], r["location"])
            times[key] += 1
            errors.append((digest(f"{key} {times[key]}".encode())[:16], _repeat(r, stored[r["track_id"]])))
        return errors

    def rows(self) -> Iterator[pa.Table]:
        """The tracks, in batches; each call starts at the first."""
        yield from self._read("rows")

    def _flush(self) -> None:
        with _temporary_files():
            self._first.write_table(pa.Table.from_pylist(self._rows, _FIRST))
        located = [r for r in self._rows if r["kind"] == "name" and r["location"]]
        self._ids.append(np.array([int(r["track_id"], 16) for r in located], np.uint64))
        self._locations.append(np.array([int(digest(r["location"].encode())[:16], 16) for r in located], np.uint64))
        self._rows = []

    def _file_of(self, row: dict[str, Any]) -> str:
        """The identity of a file: its bytes for ``by_content`` if they can be read, else its location."""
        if self._by_content and row["uri"]:
            try:
                return file_digest(to_path(row["uri"]))
            except OSError:
                return str(row["location"])
        return str(row["location"])

    def _find(self, ids: set[str]) -> dict[str, dict[str, Any]]:
        wanted = Ids(ids)
        batches = self._read("rows") if ids else iter(())
        return {r["track_id"]: r for b in batches for r in b.filter(pa.array(wanted.mask(b["track_id"]))).to_pylist()}

    def _read(self, name: str) -> Iterator[pa.Table]:
        with pq.ParquetFile(self._file(name)) as file:
            for batch in file.iter_batches(BATCH):
                yield pa.Table.from_batches([batch])

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.parquet"


@contextmanager
def _temporary_files() -> Iterator[None]:
    """Raises WorkspaceError where temporary files cannot be written."""
    try:
        yield
    except OSError as error:
        reason = one_line(error.strerror or str(error), 200)
        hint = "free some space there, or set TMPDIR to another folder"
        raise WorkspaceError(f"cannot write temporary files in {tempfile.gettempdir()}: {reason}", hint) from error


def _several(ids: np.ndarray, locations: np.ndarray) -> set[int]:
    """The ids that have several locations. ids, locations: (n,) uint64."""
    pairs = np.unique(np.stack([ids, locations], axis=1), axis=0)
    found, counts = np.unique(pairs[:, 0], return_counts=True)
    return set(found[counts > 1].tolist())


def _repeat(row: dict[str, Any], first: dict[str, Any]) -> TrackError:
    same = {"track_id": f"track_id {row['track_id']}", "content": "bytes", "name": "artist, title, album and file"}
    if row["kind"] == "name" and not row["uri"]:
        same["name"] = "artist, title and album"
    message = f"{_named(row)} has the same {same[row['kind']]} as {_named(first)}, which was kept"
    return TrackError("duplicate", message)


def _named(row: dict[str, Any]) -> str:
    name = f"{row['artist']} – {row['title']}" if row["artist"] else row["title"]
    where = row["uri"] or row["dataset"]
    return one_line(f"{name} ({where})" if where else name, 200)
