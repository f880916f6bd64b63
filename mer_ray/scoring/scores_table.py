"""Reads the table ``scores`` from one file, a folder of shards or a workspace, and finds a row of it."""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs

from mer_ray.config_checks import is_dimension
from mer_ray.errors import InputError
from mer_ray.io.address import EXPOSED, INSTEAD, has_credentials, is_local, located, parted, shown, to_path
from mer_ray.io.buckets import read_batches
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import DIMENSIONS, dimensions_of, scores_schema
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace
from mer_ray.scoring import sheet
from mer_ray.scoring.measures import display
from mer_ray.scoring.scores_text import Text, say_once

if TYPE_CHECKING:
    from rich.table import Table as RichTable

ENDS = ("", "lower_", "upper_")
"""Prefixes of the three columns of a dimension: the value, and the ends of its interval."""
NESTED = ("curve", "sound", "waveform")
"""Columns that a sheet cannot hold."""
SUFFIXES = (".parquet", ".csv", sheet.SUFFIX)
WIDE = 110
"""Characters of a terminal in which a listing has room for tempo, key and loudness."""
_MAKE = "give what `mer-ray score CATALOG --out FILE` wrote, a folder of its shards, or a workspace"
_LISTED = 5
_ROWS = 5_000


def read(path: str | os.PathLike[str], columns: Sequence[str] | None = None, without: Sequence[str] = ()) -> pa.Table:
    """All rows of a scores file (.parquet, .csv, .xlsx), of a folder of Parquet shards, or of a workspace's own scores.

    Any of them, except a folder of bare shards, may be in an object store.

    columns: names; by default all of `scores_schema` for the dimensions that the scores have, but those in ``without``.
    Columns that an older version or a sheet lacks are null (text: empty). Of rows with the same track_id, the first
    counts. Raises InputError, naming file, row and remedy.
    """
    rows = _open(os.fspath(path))
    schema = scores_schema(_dimensions(rows))
    wanted = [n for n in schema.names if n not in without] if columns is None else list(columns)
    empty = pa.schema([schema.field(n) for n in wanted]).empty_table()
    return pa.concat_tables([empty, *_pieces(os.fspath(path), rows, wanted)])


def pieces(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, dimensions: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """The rows of `read`, in its order and in pieces of some thousand rows; some of them may be empty.

    Of all rows, only the ids stay in memory, 8 bytes each.

    dimensions: if given, and the scores are of others, there are none.
    """
    rows = _open(os.fspath(path))
    if dimensions and set(dimensions) != set(_dimensions(rows)):
        return
    wanted = scores_schema(_dimensions(rows)).names if columns is None else columns
    yield from _pieces(os.fspath(path), rows, list(wanted))


def _pieces(text: str, rows: ds.Dataset | Text, wanted: list[str]) -> Iterator[pa.Table]:
    seen, schema = Ids(), scores_schema(_dimensions(rows))
    columns = list(dict.fromkeys([*wanted, "track_id", *(end + d for d in _dimensions(rows) for end in ENDS)]))
    stored = [c for c in columns if c in rows.schema.names]
    repeated = 0
    with _reading(_label(text)):
        for file in rows.get_fragments():
            for batch in read_batches(partial(_batches, file, rows.schema, stored)):
                table = _cleaned(pa.Table.from_batches([batch]), schema, columns)
                new = seen.add(table["track_id"])
                repeated += len(new) - int(new.sum())
                yield _checked(text, table if new.all() else table.filter(pa.array(new))).select(wanted)
    shards = isinstance(rows, ds.FileSystemDataset) and len(rows.files) > 1  # these may overlap
    if repeated and not shards:
        rows_have = "1 row has" if repeated == 1 else f"{repeated:,} rows have"
        say_once(f"{_label(text)}: {rows_have} the track_id of a row above, which is the one that counts")


def count(path: str | os.PathLike[str]) -> int:
    """The number of rows, duplicates included: of Parquet files, only the footers are read."""
    text = os.fspath(path)
    rows = _open(text)
    with _reading(_label(text)):
        return int(rows.count_rows())


def check_spares(target: Path, option: str) -> None:
    """Raises InputError where a file of scores, which may have taken hours to make, would be written over."""
    try:
        _open(str(target))
    except InputError:
        return
    raise InputError(f"{option} {one_line(str(target))} holds scores, which would be lost", "give another name")


def find(table: pa.Table, query: str) -> int:
    """The row of a track_id, of a path or URI of its audio, or of a part of "artist – title", or else of a file name.

    Text is compared after `identity.normalise`, and a whole name or title goes before a part. Raises InputError where
    no row or several match, listing some.
    """
    ids, uris = table["track_id"].to_pylist(), table["uri"].to_pylist()
    if query in ids:
        return int(ids.index(query))
    rows = [i for i, uri in enumerate(uris) if uri and (uri == query or _same_file(uri, query))]
    artists, titles = table["artist"].to_pylist(), table["title"].to_pylist()
    if not rows:
        text = normalise(query)
        spelled = [normalise(f"{a} – {t}" if a else t) for a, t in zip(artists, titles, strict=True)]
        parts = [i for i, s in enumerate(spelled) if text in s]
        rows = [i for i in parts if text in (spelled[i], normalise(titles[i]))] or parts
        rows = rows or [i for i, uri in enumerate(uris) if text in normalise(to_path(uri or "").name)]
    if len(rows) == 1 and query.strip():
        return rows[0]
    places = [", ".join(filter(None, (one_line(ids[i], 40), located(uris[i] or "")))) for i in rows[:_LISTED]]
    listed = "; ".join(f"{one_line(name(artists[i], titles[i]), 80)} ({p})" for i, p in zip(rows, places, strict=False))
    if not rows:
        raise InputError(
            f"no track is or contains {one_line(query, 100)!r}",
            "give a track_id, the path of its audio, or a part of its artist and title or of its file's name",
        )
    more = f"; and {len(rows) - _LISTED:,} more" if len(rows) > _LISTED else ""
    raise InputError(
        f"{len(rows):,} tracks are or contain {one_line(query, 100)!r}", f"give the id or file of one: {listed}{more}"
    )


def name(artist: str | None, title: str | None) -> str:
    """ "artist – title" on one line; the title alone where there is no artist."""
    return one_line(" – ".join(part for part in (artist, title) if part))


def _same_file(uri: str, query: str) -> bool:
    if not (is_local(uri) and is_local(query)):
        return False
    one, other = to_path(uri), to_path(query)
    return one.name == other.name and one.resolve() == other.resolve()  # most names differ, which needs no disk access


def _open(text: str) -> ds.Dataset | Text:
    """The rows, not yet read. Columns that an older file lacks are nulls."""
    if has_credentials(text):
        raise InputError(f"{shown(text)} {EXPOSED}", INSTEAD)
    path = to_path(text).expanduser()
    if not is_local(text):
        return _remote(text)
    if path.is_dir():
        shards = sorted(str(f) for f in path.glob("*.parquet") if not f.name.startswith((".", "_")))
        return _files(shards) if shards else _workspace(text)
    if not path.is_file():
        raise InputError(f"scores {one_line(text)} do not exist", _MAKE)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{one_line(text)} is neither .parquet nor .csv nor .xlsx", _MAKE)
    return _files([str(path)])


def _files(files: list[str], store: Store | None = None, label: str = "") -> ds.Dataset | Text:
    """Parquet files, or a CSV or Excel file. label: its name in messages."""
    kind, fs = PurePosixPath(files[0]).suffix.lower(), store.fs if store else None
    if kind == sheet.SUFFIX:
        return _book(files[0], fs or pa.fs.LocalFileSystem(), label or one_line(files[0]))
    if kind == ".csv":
        name = label or one_line(files[0])
        with _reading(name):
            return Text(files[0], fs or pa.fs.LocalFileSystem(), name, lambda names: _flat(_named(names, name)))
    found: dict[tuple[str, ...], str] = {}
    for file in files:
        with _reading(label or one_line(file)):
            names = ds.dataset(file, format="parquet", filesystem=fs).schema.names
        found.setdefault(_named(names, label or one_line(file)), file)
    if len(found) > 1:
        (own, first), (others, second), *_ = found.items()
        raise InputError(
            f"{one_line(first)} has scores of {', '.join(own)}, and {one_line(second)} of {', '.join(others)}",
            "put the scores of each model into a folder of its own",
        )
    [dimensions] = found
    return ds.dataset(files, scores_schema(dimensions), format="parquet", filesystem=fs)


def _book(file: str, fs: pa.fs.FileSystem, label: str) -> ds.Dataset:
    with _reading(label), fs.open_input_file(file) as opened:
        rows = sheet.read(io.BytesIO(opened.read()), lambda names: _flat(_named(names, label)), label)
    return ds.dataset(rows)


def _flat(dimensions: Sequence[str]) -> pa.Schema:
    return pa.schema([f for f in scores_schema(dimensions) if f.name not in NESTED])


def _dimensions(rows: ds.Dataset | Text) -> tuple[str, ...]:
    return dimensions_of(rows.schema, "scores")


def _named(columns: Sequence[str], label: str) -> tuple[str, ...]:
    """The dimensions of scores with these columns. Raises InputError where a column that scores need is missing."""
    names = set(columns)
    possible = [c.removeprefix(end) for c in columns for end in ENDS if c.startswith(end)]
    # Two columns of three are a dimension without the third, not a column that somebody has added.
    dimensions = [d for d, n in Counter(possible).items() if n > 1 and is_dimension(d)]
    needed = ["track_id", *(end + d for end in ENDS for d in dimensions or DIMENSIONS)]
    if missing := [c for c in needed if c not in names]:
        raise InputError(f"{label} is no file of scores: it has no column {', '.join(missing)}", _MAKE)
    return tuple(dimensions)


def _label(text: str) -> str:
    """A path or URI for messages, without secrets."""
    return one_line(text) if is_local(text) else shown(text)


@contextmanager
def _reading(label: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{label} cannot be read ({one_line(str(error), 200)})", _MAKE) from error


def _remote(text: str) -> ds.Dataset | Text:
    folder, name = parted(text)
    store = Store(folder)
    if PurePosixPath(name).suffix.lower() not in SUFFIXES or store.is_folder(name):
        return _workspace(text)
    if not store.exists(name):
        raise InputError(f"scores {_label(text)} do not exist", _MAKE)
    return _files([store.path(name)], store, _label(text))


def _workspace(text: str) -> ds.Dataset:
    workspace = Workspace(text)
    if not workspace.has("scores"):
        raise InputError(
            f"{_label(text)} holds no scores",
            f"run `mer-ray score` in this workspace, or {_MAKE}" if workspace.exists("settings") else _MAKE,
        )
    shards = [workspace.path("scores", n) for n in workspace.names("scores") if n.endswith(".parquet")]
    with _reading(_label(text)):
        names = ds.dataset(shards[:1], format="parquet", filesystem=workspace.fs).schema.names
    return ds.dataset(shards, scores_schema(_named(names, _label(text))), format="parquet", filesystem=workspace.fs)


def _batches(file: ds.Fragment | Text, schema: pa.Schema, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read one row group at a time: for a whole file, pyarrow would read ahead into memory."""
    if isinstance(file, ds.ParquetFileFragment):
        for group in file.split_by_row_group():
            yield from group.to_batches(schema, columns, batch_size=_ROWS, batch_readahead=1)
        return
    if isinstance(file, Text):
        yield from file.batches(columns)
        return
    yield from file.to_batches(schema, columns, batch_size=_ROWS)  # of a workbook, which is in memory


def _cleaned(table: pa.Table, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """These columns with the types of the schema; those that the table lacks are null."""
    made = {}
    for name in columns:
        field = schema.field(name)
        column = table[name] if name in table.column_names else pa.nulls(len(table), field.type)
        made[name] = column if field.nullable or not pa.types.is_string(field.type) else pc.fill_null(column, "")
    return pa.table(made, schema=pa.schema([schema.field(n) for n in made]))


def _checked(text: str, table: pa.Table) -> pa.Table:
    for column in [end + d for end in ENDS for d in dimensions_of(table.schema, "scores")]:
        values = table[column].to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~((values >= -1e-6) & (values <= 1 + 1e-6)))
        if len(bad):
            track = one_line(table["track_id"][int(bad[0])].as_py(), 40)
            raise InputError(
                f"{_label(text)}: {column} of track {track} is {values[bad[0]]:g}",
                "it must be a number from 0 to 1: score that track again, or remove its row",
            )
    return table


def clock(seconds: float | None) -> str:
    """Minutes and seconds as in players, 3:07 or 1:02:03; empty if unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def heading(dimension: str) -> str:
    """``joyful_activation`` → Joyful activation."""
    return dimension.replace("_", " ").capitalize()


def short_headings(dimensions: Sequence[str]) -> list[str]:
    """V, A and D; whole names, where there is another dimension."""
    known = set(dimensions) <= set(DIMENSIONS)
    return [d[0].upper() if known else heading(d) for d in dimensions]


def listing(
    table: pa.Table, rows: Sequence[int] | np.ndarray, distances: np.ndarray | None = None, width: int = 0
) -> RichTable:
    """The rows for a terminal: rank, artist – title, the dimensions, mood or distances (if any), length, and file.

    width: of the terminal, in characters; tempo, key and loudness are shown where there is room for them.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    out.add_column("#", justify="right")
    out.add_column("Artist – title", ratio=3, min_width=20)
    has_mood = "mood" in table.column_names and table["mood"].null_count < table.num_rows
    further = [name for name, there in (("Distance", distances is not None), ("Mood", has_mood)) if there]
    dimensions = dimensions_of(table.schema, "scores")
    measured = display.COLUMNS if width >= WIDE and display.among(table) else ()
    for head in (*short_headings(dimensions), *further, *(display.HEADS if measured else ()), "Time"):
        out.add_column(head, justify="right", no_wrap=True)
    out.add_column("File", ratio=2, overflow="fold", style="dim")
    columns = ["artist", "title", *dimensions, *(["mood"] if has_mood else []), *measured, "duration_s", "uri"]
    for rank, row in enumerate(table.select(columns).take(pa.array(rows, pa.int64())).to_pylist()):
        out.add_row(
            str(rank + 1),
            escape(name(row["artist"], row["title"])),
            *(f"{row[d]:.2f}" for d in dimensions),
            *([f"{distances[rank]:.2f}"] if distances is not None else []),
            *([row["mood"] or ""] if has_mood else []),
            *(display.cells(row) if measured else ()),
            clock(row["duration_s"]),
            escape(located(row["uri"])),
        )
    return out
