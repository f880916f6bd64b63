"""Reads tables of frames row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from mer_ray.errors import InputError, ModelError, TrackError
from mer_ray.features import FeatureSpec
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import ragged_arrays
from mer_ray.io.tables import failure

MAX_ROWS, MAX_VALUES = 1_024, 10**8
"""Rows, and numbers in their frames, that are scored and written together at most."""
KNOWN = ("track_id", "artist", "title", "album", "uri")
READING = (pa.ArrowException, OSError)
"""What pyarrow raises if it cannot read a file."""


def unit_rows(file: str, filesystem: Any, model: str) -> Iterator[dict[str, Any]]:
    """A file's row groups: file, group, start (rows of the file before it), rows, piece_rows (rows of a piece) and key,
    which changes with their content.

    Raises InputError where the file cannot be read.
    """
    try:
        metadata = pq.read_metadata(file, filesystem=filesystem)
    except READING as error:
        raise InputError(f"{one_line(file)} cannot be read ({one_line(str(error), 200)})") from error
    start = 0
    for group in range(metadata.num_row_groups):
        about = metadata.row_group(group)
        columns = [about.column(i) for i in range(about.num_columns)]
        rows, packed = about.num_rows, sum(c.total_compressed_size for c in columns)
        values = sum(c.num_values for c in columns if c.path_in_schema.startswith("frames."))
        yield {
            "file": file,
            "group": group,
            "start": start,
            "rows": rows,
            "piece_rows": max(1, min(MAX_ROWS, MAX_VALUES * rows // max(1, values))),
            "key": f"{model} {file} {group} {rows} {packed}",
        }
        start += rows


def shards(unit: Mapping[str, Any]) -> list[str]:
    """The names of the shards of a row group's pieces."""
    return [f"{unit['key']} {start}" for start in range(0, unit["rows"], unit["piece_rows"])]


def ids(unit: Mapping[str, Any], filesystem: Any) -> pa.ChunkedArray:
    """The track_ids of a row group, as text; empty where they cannot be read (`Frames` then raises)."""
    column = pa.chunked_array([], pa.string())
    try:
        opened = pq.ParquetFile(unit["file"], filesystem=filesystem)
        if "track_id" in opened.schema_arrow.names:
            column = opened.read_row_group(unit["group"], ["track_id"])["track_id"].cast(pa.string())
            column.validate(full=True)
    except READING:
        return column[:0]
    return column


def unit_id(unit: Mapping[str, Any]) -> str:
    """The id of a row group in ``failures``."""
    return digest(unit["key"].encode())[:16]


def unit_name(unit: Mapping[str, Any]) -> str:
    """The name of a row group in messages."""
    return f"{one_line(unit['file'])}, row group {unit['group']} ({unit['rows']:,} rows)"


def unit_stage(feature: str) -> str:
    """The stage in ``failures`` of row groups that cannot be read, or on which workers die.

    Another one than that of their rows, because each run restarts it: it reads such row groups again.
    """
    return f"score:{feature}:groups"


def unit_failure(stage: str, unit: Mapping[str, Any], error: TrackError) -> dict[str, Any]:
    """A row of ``failures`` for a row group, with ``tries``, how often it could not be read before."""
    return failure(stage, unit_id(unit), error.reason, error.message, error.transient, unit["tries"] + 1)


def repeated(unit: Mapping[str, Any], column: pa.ChunkedArray, new: np.ndarray) -> list[dict[str, Any]]:
    """Rows of ``failures`` for repeated track_ids. column: of `ids`. new: those that are not repeated, (n,) bool."""
    failed = []
    for row in (np.flatnonzero(~new) + unit["start"]).tolist():
        track = one_line(column[row - unit["start"]].as_py() or "", 40)
        twice = f"its track_id, {track}, is that of an earlier row; one of them is kept"
        message = f"{one_line(unit['file'])}, row {row + 1}: {twice}"
        failed.append(failure("score", digest(f"{unit['file']} {row}".encode())[:16], "duplicate", message))
    return failed


class Frames:
    """One row group of a table with the columns track_id, frames, fingerprint and any of `KNOWN`.

    Raises InputError or ModelError where the frames do not fit the model, TrackError (``unreadable``) where the file
    is damaged.
    """

    def __init__(self, unit: Mapping[str, Any], filesystem: Any, spec: FeatureSpec) -> None:
        """unit: of `unit_rows`."""
        self.unit, self.spec = unit, spec
        self.file = file = unit["file"]
        # Errors of an object store may be transient.
        self._may_pass = not isinstance(filesystem, pyarrow.fs.LocalFileSystem | None)
        try:
            self._opened = pq.ParquetFile(file, filesystem=filesystem)
        except READING as error:
            raise self._unreadable(error) from error
        names = self._opened.schema_arrow.names
        if "track_id" not in names:
            raise InputError(f"{one_line(file)} has no column track_id", "name each row's track")
        self.has_fingerprint = "fingerprint" in names
        if not self.has_fingerprint and spec.family != "precomputed":
            raise ModelError(
                f"{one_line(file)} does not say which frames it holds: it has no column fingerprint",
                f"the model reads {spec.name} with the fingerprint {spec.fingerprint}; take features that mer-ray made",
            )
        self._columns = [n for n in (*KNOWN, "frames", "fingerprint") if n in names]

    def pieces(self) -> Iterator[tuple[str, pa.Table]]:
        """The pieces of the row group, each with its name in `shards`."""
        names, pending, piece_rows = iter(shards(self.unit)), pa.table({}), self.unit["piece_rows"]
        for table in self._read():
            pending = pa.concat_tables([pending, table]) if pending.num_rows else table
            while pending.num_rows >= piece_rows:
                yield next(names), pending.slice(0, piece_rows)
                pending = pending.slice(piece_rows)
        if pending.num_rows:
            yield next(names), pending

    def _read(self) -> Iterator[pa.Table]:
        piece_rows, groups = self.unit["piece_rows"], [self.unit["group"]]
        try:
            for batch in self._opened.iter_batches(piece_rows, row_groups=groups, columns=self._columns):
                batch.validate(full=True)
                yield pa.Table.from_batches([batch])
        except READING as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> TrackError:
        message = f"{unit_name(self.unit)} cannot be read ({one_line(str(error), 200)})"
        return TrackError("unreadable", message, self._may_pass)

    def read(self, piece: pa.Table) -> tuple[list[dict[str, Any]], list[np.ndarray], list[dict[str, Any]]]:
        """Known columns of the tracks, their frames (n_i, F), and rows of ``failures`` for those without frames."""
        if self.has_fingerprint:
            others = set(piece["fingerprint"].unique().to_pylist()) - {self.spec.fingerprint}
            if others:
                raise ModelError(
                    f"{one_line(self.file)} holds frames of {', '.join(sorted(map(str, others)))[:80]}, and the model "
                    f"reads {self.spec.fingerprint} ({self.spec.name})",
                    "extract the features with the settings that the model was trained with",
                )
        kind = pa.list_(pa.list_(pa.float32(), self.spec.n_dims))
        try:
            frames = piece["frames"].cast(kind).combine_chunks()
            if frames.flatten().null_count:
                raise ValueError("some are null")
            empty = pc.fill_null(pc.equal(pc.list_value_length(frames), 0), True).to_numpy(zero_copy_only=False)
            arrays = ragged_arrays(frames.filter(pa.array(~empty)) if empty.any() else frames)
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"{one_line(self.file)}: its frames are not {self.spec.n_dims} numbers wide "
                f"({one_line(str(error), 100)})",
                f"the model reads {self.spec.name}",
            ) from error
        finite = np.array([bool(np.isfinite(a).all()) for a in arrays], bool)
        known = self._known(piece)
        ids = known["track_id"].to_pylist()
        # Not the stage "score", which each run restarts: these failures stay, since finished shards are not reread.
        stage = f"score:{self.spec.name}"
        failed = [
            failure(stage, ids[i], "too_short", f"{self.file}: row {ids[i]} has no frames")
            for i in np.flatnonzero(empty)
        ]
        tracks = known.filter(pa.array(~empty)).to_pylist()
        for track, good in zip(tracks, finite, strict=True):
            if not good:
                i = track["track_id"]
                failed.append(failure(stage, i, "not_finite", f"{self.file}: row {i} has NaN or infinite frames"))
        usable = np.flatnonzero(finite)
        return [tracks[i] for i in usable], [arrays[i] for i in usable], failed

    def _known(self, piece: pa.Table) -> pa.Table:
        try:
            known = pa.table({n: piece[n].cast(pa.string()) for n in KNOWN if n in piece.column_names})
        except pa.ArrowException as error:
            message = f"{one_line(self.file)}: {', '.join(KNOWN)} must be text ({one_line(str(error), 100)})"
            raise InputError(message) from error
        if known["track_id"].null_count:
            raise InputError(f"{one_line(self.file)} has rows without track_id", "name each row's track")
        return known
