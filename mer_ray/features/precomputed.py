"""Precomputed frames of any origin, in Parquet: one row for each track.

    extract:
      features: [yamnet]
      precomputed:
        yamnet: {path: yamnet.parquet}

The table, a Parquet file or a folder of them, has these columns:

| column | holds |
| --- | --- |
| track_id, or path | text: the track's id, or the path or URI of its audio (relative: from the table's folder) |
| frames | a list of vectors, ``list<list<number>>`` (or large or fixed-size lists): n frames of F numbers |
| hop_s | seconds between the starts of two frames, the same in every row; or the setting ``hop_s`` |
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.errors import ConfigError, ModelError, TrackError
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.io.address import has_credentials, is_local, scheme, shown, to_path
from mer_ray.io.buckets import open_store
from mer_ray.io.identity import digest, one_line

LAYOUT = "the columns are track_id or path (text), frames (a list of vectors for each row) and hop_s (seconds)"
BATCH_ROWS = 64
READING = (pa.ArrowException, OSError)  # raised by pyarrow for unreadable files


class Params(BaseModel):
    """Settings under ``extract.precomputed.NAME``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    path: str = Field(min_length=1)
    """A Parquet file, a folder of them, or a URI of either."""
    hop_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Seconds between the starts of two frames; `null` reads the column `hop_s`."""


def resolve(name: str, params: Params) -> FeatureSpec:
    """Settings → spec. Reads every byte once, for its hash.

    Raises:
        ConfigError: The table cannot be read, has another layout, no frames, or several hops.
    """
    table = _Table.open(f"extract.precomputed.{name}", params.path)
    return FeatureSpec(
        name=name,
        version=1,
        sample_rate_hz=0,
        hop_s=params.hop_s or table.hop_s(),
        n_dims=table.n_dims(),
        params={"key": table.key, "frames": "frames"},  # the column had a setting; older tables' fingerprints have it
        weights={"kind": "frames", "location": table.location, "sha256": table.sha256()},
        note=f"{name}: precomputed frames, from {_named(table.location)}",
        family="precomputed",
    )


def load(spec: FeatureSpec) -> Extractor:
    """Raises ModelError, as precomputed frames cannot be extracted from audio."""
    raise ModelError(
        f"the frames of {spec.name} are precomputed, and cannot be computed from audio",
        f"add the tracks to {_named((spec.weights or {})['location'])}, or use a feature that is computed",
    )


def rows(spec: FeatureSpec, tracks: Mapping[str, str | None]) -> Iterator[tuple[str, np.ndarray | TrackError]]:
    """The frames of tracks, each once, row group by row group.

    Args:
        spec: Of `resolve`.
        tracks: track_id → path or URI of the audio, None if it has none.

    Yields:
        track_id and (n_frames, F) float32, or a TrackError: ``no_frames`` (no row), ``duplicate`` (two rows),
        ``empty``, ``bad_frames`` (not n x F), ``not_finite``, ``unreadable``.

    Raises:
        ConfigError: The table is missing, or its layout has changed.
    """
    table = _Table.open(f"extract.precomputed.{spec.name}", (spec.weights or {})["location"])
    keys: dict[str, list[str]] = {}
    for track_id, uri in tracks.items():
        key = track_id if table.key == "track_id" else _address(uri, str(Path.cwd())) if uri else ""
        keys.setdefault(key, []).append(track_id)
    found = table.find(keys)
    groups: dict[tuple[int, int], dict[int, list[str]]] = {}
    for key, ids in keys.items():
        match found.get(key, []):
            case []:
                for track_id in ids:
                    of = f"{one_line(track_id)} ({_named(tracks[track_id] or 'no path')})"
                    yield track_id, TrackError("no_frames", f"{_named(table.location)} has no row for {of}")
            case [row]:
                groups.setdefault((row.file, row.group), {})[row.row] = ids
            case [first, second, *_]:
                what = f"{table.shown(first)} and {table.shown(second)} are both {one_line(key)}"
                yield from ((track_id, TrackError("duplicate", what)) for track_id in ids)
    for (file, group), wanted in sorted(groups.items()):
        yield from table.frames(file, group, wanted, spec.n_dims)


class _Row(NamedTuple):
    """The position of a row: indices of its file, of its row group, and in the row group."""

    file: int
    group: int
    row: int


@dataclass(frozen=True)
class _Table:
    """Parquet files of the layout above. setting: its name in messages. root: the folder that paths are relative to."""

    setting: str
    location: str
    fs: pyarrow.fs.FileSystem
    base: str
    files: list[str]
    root: str

    @classmethod
    def open(cls, setting: str, path: str) -> _Table:
        """Raises ConfigError where there is no table, or its layout is wrong."""
        remote = not is_local(path)
        location = path if remote else str(to_path(path).expanduser().absolute())
        if has_credentials(path):
            raise ConfigError(f"{setting}.path holds a password", "give keys through the environment")
        try:
            fs, base = open_store(location) if remote else (pyarrow.fs.LocalFileSystem(), location)
            kind = fs.get_file_info(base).type
            files = [base]
            if kind == pyarrow.fs.FileType.Directory:
                inside = fs.get_file_info(pyarrow.fs.FileSelector(base, recursive=True))
                files = sorted(i.path for i in inside if i.is_file and _is_shard(i.path[len(base) :]))
        except (*READING, ValueError, ImportError) as error:
            reason = one_line(str(error), 200)
            raise ConfigError(f"{setting}.path: {_named(location)} cannot be opened ({reason})") from error
        if kind == pyarrow.fs.FileType.NotFound:
            raise ConfigError(f"{setting}.path: {_named(location)} does not exist", "give a Parquet file or folder")
        if not files:
            raise ConfigError(f"{setting}.path: {_named(location)} holds no .parquet files")
        bare = re.split(r"[?#]", location, maxsplit=1)[0] if remote else location
        root = bare if files != [base] else posixpath.dirname(bare)
        table = cls(setting, location, fs, base, files, root)
        table._check_layout()
        return table

    @cached_property
    def key(self) -> str:
        """The column that names the track."""
        return "track_id" if "track_id" in self._opened(0).schema_arrow.names else "path"

    def _check_layout(self) -> None:
        for number in range(len(self.files)):
            columns = self._opened(number).schema_arrow
            for name in (self.key, "frames"):
                if name not in columns.names:
                    self._misses(number, f"no column {'track_id or path' if name == 'path' else name}")
            text, frames = columns.field(self.key).type, columns.field("frames").type
            text = text.value_type if pa.types.is_dictionary(text) else text
            if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)):
                self._misses(number, f"a column {self.key} of type {text}")
            if not (_is_list(frames) and _is_list(frames.value_type) and _is_number(frames.value_type.value_type)):
                self._misses(number, f"a column frames of type {one_line(str(frames), 100)}")

    def hop_s(self) -> float:
        """The one value of the column ``hop_s``."""
        values = set[float]()
        for number in range(len(self.files)):
            opened = self._opened(number)
            if "hop_s" not in opened.schema_arrow.names:
                self._misses(number, "no column hop_s")
            try:
                column = opened.read(columns=["hop_s"])["hop_s"].unique().drop_null().cast(pa.float64())
            except READING as error:
                self._misses(number, f"a column hop_s that holds no numbers ({one_line(str(error), 100)})")
            values |= {round(v, 6) for v in column.to_pylist()}  # float32 rounds 0.96
        if len(values) != 1 or not 0 < min(values) < math.inf:
            what = " and ".join(f"{v:g}" for v in sorted(values)[:2]) or "nothing"
            raise ConfigError(
                f"{self.setting}.path: the column hop_s of {_named(self.location)} holds {what}",
                f"it must be one number above 0 (make a feature of each hop), or set {self.setting}.hop_s",
            )
        return values.pop()

    def n_dims(self) -> int:
        """F, the width of the first frame."""
        for number in range(len(self.files)):
            try:
                for batch in self._opened(number).iter_batches(batch_size=BATCH_ROWS, columns=["frames"]):
                    vectors = batch.column(0).flatten()
                    widths = pc.list_value_length(vectors.drop_null())
                    if len(widths) and widths[0].as_py():
                        return int(widths[0].as_py())
            except READING as error:
                self._misses(number, f"a column frames that cannot be read ({one_line(str(error), 200)})")
        raise ConfigError(f"{self.setting}.path: no row of {_named(self.location)} has frames", LAYOUT)

    def sha256(self) -> str:
        """Of the files' relative names and bytes."""
        hashes = []
        for path in self.files:
            sha = hashlib.sha256()
            try:
                with self.fs.open_input_stream(path, compression=None) as stream:
                    while data := stream.read(1 << 20):
                        sha.update(data)
            except OSError as error:
                raise self._unreadable(path, error) from error
            hashes.append([path[len(self.base) :], sha.hexdigest()])
        return digest(json.dumps(hashes).encode())

    def find(self, wanted: Mapping[str, object]) -> dict[str, list[_Row]]:
        """The rows of the wanted keys: ids, or addresses normalised by `_address`."""
        found: dict[str, list[_Row]] = {}
        for number in range(len(self.files)):
            opened = self._opened(number)
            for group in range(opened.num_row_groups):
                try:
                    keys = opened.read_row_group(group, columns=[self.key])[self.key].to_pylist()
                except READING as error:
                    raise self._unreadable(self.files[number], error) from error
                for row, text in enumerate(keys):
                    key = _address(text, self.root) if text and self.key == "path" else text
                    if key and key in wanted:
                        found.setdefault(key, []).append(_Row(number, group, row))
        return found

    def frames(
        self, number: int, group: int, wanted: Mapping[int, list[str]], n_dims: int
    ) -> Iterator[tuple[str, np.ndarray | TrackError]]:
        """The matrices of some rows of a row group. wanted: row → its tracks."""
        left, start = dict(wanted), 0
        try:
            for batch in self._opened(number).iter_batches(BATCH_ROWS, row_groups=[group], columns=["frames"]):
                for row in sorted(left.keys() & range(start, start + batch.num_rows)):
                    try:
                        matrix: np.ndarray | TrackError = _matrix(batch.column(0).slice(row - start, 1), n_dims)
                    except TrackError as error:
                        where = self.shown(_Row(number, group, row))
                        matrix = TrackError(error.reason, f"{where}: {error.message}")
                    yield from ((track_id, matrix) for track_id in left.pop(row))
                start += batch.num_rows
        except READING as error:
            what = f"{_named(self.files[number])}, row group {group} cannot be read ({one_line(str(error), 200)})"
            for ids in left.values():
                yield from ((track_id, TrackError("unreadable", what, transient=True)) for track_id in ids)

    def shown(self, row: _Row) -> str:
        """A row's name in messages: its number in the file, from 1."""
        metadata = self._opened(row.file).metadata
        before = sum(metadata.row_group(g).num_rows for g in range(row.group))
        return f"{_named(self.files[row.file])}, row {before + row.row + 1}"

    def _opened(self, number: int) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.fs.open_input_file(self.files[number]))
        except (*READING, ValueError) as error:
            raise self._unreadable(self.files[number], error) from error

    def _unreadable(self, path: str, error: Exception) -> ConfigError:
        reason = one_line(str(error), 200)
        return ConfigError(f"{self.setting}.path: {_named(path)} cannot be read as Parquet ({reason})")

    def _misses(self, number: int, what: str) -> NoReturn:
        columns = one_line(", ".join(self._opened(number).schema_arrow.names), 200)
        raise ConfigError(
            f"{self.setting}.path: {_named(self.files[number])} has {what} (its columns: {columns})", LAYOUT
        )


def _matrix(cell: pa.Array, n_dims: int) -> np.ndarray:
    """An array of one cell → (n, F) float32. Raises TrackError: empty, bad_frames, not_finite."""
    vectors = cell.flatten()
    if not len(vectors):
        raise TrackError("empty", "no frames")
    widths = pc.unique(pc.list_value_length(vectors)).to_pylist()
    if widths != [n_dims]:
        found = " and ".join(str(w) for w in widths[:2])
        raise TrackError("bad_frames", f"vectors of {found} numbers; the first row's have {n_dims}")
    with np.errstate(over="ignore"):  # too large numbers become infinite, and are reported as not finite
        values = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False)).astype(np.float32)
    if not np.isfinite(values).all():
        raise TrackError("not_finite", "NaN, null or infinite numbers")
    return values.reshape(-1, n_dims)


def _address(path: str, root: str) -> str:
    """A path or URI normalised: absolute, from ``root``; no ``.``, ``..`` or double slashes; composed Unicode."""
    if path.startswith("file://"):
        path = os.fspath(to_path(path))
    if not scheme(path):
        path = posixpath.join(root, path)
    start, mark, rest = path.rpartition("://") if scheme(path) else ("", "", path)
    return unicodedata.normalize("NFC", start + mark + posixpath.normpath(rest).replace("//", "/"))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_shard(relative: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in Path(relative).parts)
    return not hidden and relative.lower().endswith(".parquet")


def _named(path: str) -> str:
    """A path or URI for messages, without secrets."""
    return shown(path) if scheme(path) else one_line(path, 300)
