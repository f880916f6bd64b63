"""The Parquet files with frames that a user brings: what is in them, and the matrices of some rows."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from mer_ray.errors import ConfigError, TrackError
from mer_ray.features import brought_cells as cells
from mer_ray.features.brought_paths import named, plain
from mer_ray.io.address import is_local, to_path
from mer_ray.io.identity import digest, one_line

BATCH_ROWS = 64
READING = (pa.ArrowException, OSError)  # what pyarrow raises for what it cannot read


class Place(NamedTuple):
    """A row: the numbers of its file, of its row group there, and of itself in that."""

    file: int
    group: int
    row: int


class Places(NamedTuple):
    """Where each key stands, and where it stands again."""

    first: dict[str, Place]
    second: dict[str, Place]


@dataclass(frozen=True)
class Source:
    """Parquet files in the user's hands. setting: where the settings speak of them."""

    setting: str
    location: str
    fs: pyarrow.fs.FileSystem
    base: str
    files: list[str]
    root: str

    @classmethod
    def open(cls, setting: str, path: str) -> Source:
        """Raises ConfigError where there is nothing to read."""
        remote = not is_local(path)
        location = path if remote else str(to_path(path).expanduser().absolute())
        if remote and re.match(r"[^/]*//[^/@]*:[^/@]*@", path):
            raise ConfigError(f"{setting}.path holds a password", "give keys through the environment")
        try:
            fs, base = pyarrow.fs.FileSystem.from_uri(location) if remote else (pyarrow.fs.LocalFileSystem(), location)
            info = fs.get_file_info(base)
            if info.type == pyarrow.fs.FileType.NotFound:
                raise ConfigError(f"{setting}.path: {named(location)} does not exist", "give a Parquet file or folder")
            files = [base]
            if info.type == pyarrow.fs.FileType.Directory:
                inside = fs.get_file_info(pyarrow.fs.FileSelector(base, recursive=True))
                files = sorted(i.path for i in inside if i.is_file and _is_shard(i.path[len(base) :]))
                if not files:
                    raise ConfigError(f"{setting}.path: {named(location)} holds no .parquet files")
        except (*READING, ValueError) as error:
            reason = one_line(str(error), 200)
            raise ConfigError(f"{setting}.path: {named(location)} cannot be opened ({reason})") from error
        bare = re.split(r"[?#]", location, maxsplit=1)[0] if remote else location
        root = plain(bare if files != [base] else posixpath.dirname(bare))
        return cls(setting, location, fs, base, files, root)

    def check(self, frames: str) -> None:
        """Raises ConfigError unless every file has the column, with matrices in it."""
        for number in range(len(self.files)):
            columns = self._opened(number).schema_arrow
            if frames not in columns.names:
                self._lacks(number, f"no column {frames!r}", f"set {self.setting}.frames to one of them")
            if cells.layout(columns.field(frames)) is None:
                kind = one_line(str(columns.field(frames).type), 100)
                what = f"column {frames!r} of type {kind}, which holds no matrices of numbers"
                self._lacks(number, what, f"set {self.setting}.frames to a list of vectors")

    def key(self, asked: str) -> str:
        """The column that names the track, in every file."""
        names = [n for n in ("track_id", "path") if asked in ("auto", n)]
        column = next((n for n in names if n in self._opened(0).schema_arrow.names), None)
        for number in range(len(self.files)):
            columns = self._opened(number).schema_arrow
            if column is None or column not in columns.names:
                self._lacks(number, f"no column {' or '.join(names)}", "name the track of each row in one of these")
            kind = columns.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                self._lacks(number, f"column {column} of type {kind}", "it must be text")
        assert column is not None  # there is at least one file
        return column

    def hop_s(self, asked: float | str | None) -> float:
        """Seconds between two frames: said, or in a column, of which all values must be one."""
        if isinstance(asked, float | int):
            return self._positive(float(asked), "it")
        column, seen = asked or "hop_s", set[float]()
        hint = f"set {self.setting}.hop_s to seconds, or to the name of a column"
        for number in range(len(self.files)):
            opened = self._opened(number)
            if column not in opened.schema_arrow.names:
                self._lacks(number, f"no column {column!r}", hint)
            try:
                values = opened.read(columns=[column])[column].unique().drop_null().cast(pa.float64()).to_pylist()
            except READING as error:
                self._lacks(number, f"column {column!r} that is no number ({one_line(str(error), 100)})", hint)
            seen |= {round(v, 6) if math.isfinite(v) else v for v in values}  # float32 has no 0.96
        if len(seen) != 1:
            found = f"holds {min(seen):g} and {max(seen):g}" if seen else "is empty"
            hint = "make a feature of each hop" if seen else hint
            raise ConfigError(f"{self.setting}.hop_s: column {column!r} of {named(self.location)} {found}", hint)
        return self._positive(seen.pop(), f"column {column!r}")

    def n_dims(self, column: str) -> int:
        """The width of the first frame."""
        for number in range(len(self.files)):
            opened = self._opened(number)
            try:
                for batch in opened.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
                    for row in range(batch.num_rows):
                        try:
                            width: int = cells.matrix(batch.column(0), row, batch.schema.field(0)).shape[1]
                        except TrackError:
                            continue  # the row is reported when its track is asked for
                        if width > 0:
                            return width
            except READING as error:
                self._lacks(number, f"column {column!r} that cannot be read ({one_line(str(error), 200)})", "")
        raise ConfigError(f"{self.setting}.path: no row of {named(self.location)} has frames")

    def sha256(self) -> str:
        """Of the files' names under the folder, and their bytes."""
        found = []
        for path in self.files:
            sha = hashlib.sha256()
            try:
                with self.fs.open_input_stream(path, compression=None) as stream:
                    while data := stream.read(1 << 20):
                        sha.update(data)
            except OSError as error:
                raise self._unreadable(path, error) from error
            found.append([path[len(self.base) :], sha.hexdigest()])
        return digest(json.dumps(found).encode())

    def places(self, column: str) -> Places:
        """Every key of every file; paths are made `plain`."""
        found = Places({}, {})
        for number in range(len(self.files)):
            opened = self._opened(number)
            for group in range(opened.num_row_groups):
                try:
                    keys = opened.read_row_group(group, columns=[column])[column].to_pylist()
                except READING as error:
                    raise self._unreadable(self.files[number], error) from error
                for row, key in enumerate(keys):
                    if key:
                        key = plain(key) if column == "path" else key
                        at = found.second if key in found.first else found.first
                        at.setdefault(key, Place(number, group, row))
        return found

    def frames(
        self, number: int, group: int, column: str, n_dims: int, wanted: Mapping[int, list[str]]
    ) -> Iterator[tuple[str, np.ndarray | TrackError]]:
        """The matrices of some rows of a row group. wanted: row → the tracks that it is of."""
        left, start = dict(wanted), 0
        try:
            batches = self._opened(number).iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=[column])
            for batch in batches:
                for row in range(start, start + batch.num_rows):
                    ids = left.pop(row, ())
                    if ids:
                        answer: np.ndarray | TrackError
                        try:
                            answer = cells.frames(batch.column(0), row - start, batch.schema.field(0), n_dims)
                        except TrackError as error:
                            place = self.shown(Place(number, group, row))
                            answer = TrackError(error.reason, f"{place}: {error.message}")
                        yield from ((track_id, answer) for track_id in ids)
                start += batch.num_rows
        except READING as error:
            what = f"{self._name(number)}, row group {group} cannot be read ({one_line(str(error), 200)})"
            for ids in left.values():
                yield from ((track_id, TrackError("unreadable", what, transient=True)) for track_id in ids)

    def shown(self, place: Place) -> str:
        """A row, for messages: counted from 1, in the whole file."""
        metadata = self._opened(place.file).metadata
        before = sum(metadata.row_group(g).num_rows for g in range(place.group))
        return f"{self._name(place.file)}, row {before + place.row + 1}"

    def _opened(self, number: int) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.fs.open_input_file(self.files[number]))
        except (*READING, ValueError) as error:  # Ray's, on a tensor's broken type, where Ray Data is loaded
            raise self._unreadable(self.files[number], error) from error

    def _unreadable(self, path: str, error: Exception) -> ConfigError:
        reason = one_line(str(error), 200)
        return ConfigError(f"{self.setting}.path: {one_line(path, 300)} cannot be read as Parquet ({reason})")

    def _name(self, number: int) -> str:
        return one_line(self.files[number], 300)

    def _lacks(self, number: int, what: str, hint: str) -> NoReturn:
        columns = one_line(", ".join(self._opened(number).schema_arrow.names), 200)
        raise ConfigError(f"{self.setting}.path: {self._name(number)} has {what} (its columns: {columns})", hint)

    def _positive(self, hop_s: float, what: str) -> float:
        if not 0 < hop_s < math.inf:
            raise ConfigError(f"{self.setting}.hop_s: {what} says {hop_s:g}", "it must be above 0")
        return hop_s


def _is_shard(relative: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.split("/"))
    return not hidden and relative.lower().endswith(".parquet")
