"""The table ``scores``, wherever it is (a Parquet or CSV file, a folder of shards, a workspace), and one row of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds

from mer_ray.audio.location import to_path
from mer_ray.errors import InputError
from mer_ray.identity import normalise, one_line
from mer_ray.tables import DIMENSIONS, SCHEMAS, Workspace

if TYPE_CHECKING:
    from rich.table import Table as RichTable

SCHEMA = SCHEMAS["scores"]
REQUIRED = ("track_id", *DIMENSIONS, *(f"{end}_{d}" for end in ("lower", "upper") for d in DIMENSIONS))
"""Without these columns a file is not one of scores."""

_MAKE = "give what `mer-ray score CATALOG --out FILE` wrote, a folder of its shards, or a workspace"
_LISTED = 5


def read(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a scores file (.parquet, .csv), of a folder of Parquet shards, or of a workspace's own scores.

    The columns of ``SCHEMAS["scores"]``, or those named. What an older version or a CSV file does not have is null
    (text: empty). No track_id comes twice: the first row counts. Raises InputError, naming the file, the row, and what
    to do.
    """
    text = os.fspath(path)
    wanted = list(SCHEMA.names if columns is None else columns)
    place = to_path(text).expanduser()
    if "://" in text and not text.startswith("file://"):
        rows = _workspace(text)
    elif place.is_dir():
        shards = sorted(str(f) for f in place.glob("*.parquet") if not f.name.startswith((".", "_")))
        rows = _parquet(text, shards) if shards else _workspace(text)
    elif not place.is_file():
        raise InputError(f"scores {one_line(text)} do not exist", _MAKE)
    elif place.suffix.lower() == ".parquet":
        rows = _parquet(text, [str(place)])
    elif place.suffix.lower() == ".csv":
        rows = _csv(text, place)
    else:
        raise InputError(f"{one_line(text)} is neither .parquet nor .csv", _MAKE)
    return _checked(text, _read(text, rows, list(dict.fromkeys([*wanted, *REQUIRED])))).select(wanted)


def find(table: pa.Table, query: str) -> int:
    """The row that is meant by a track_id, a path or URI of its audio, or text found in "artist – title".

    In text, spelling counts as little as in `identity.normalise`, and a whole name or title goes before a part. Raises
    InputError, listing some, where several are meant, or none.
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
    if len(rows) == 1 and query.strip():
        return rows[0]
    listed = "; ".join(f"{one_line(name(artists[i], titles[i]), 80)} ({one_line(ids[i], 40)})" for i in rows[:_LISTED])
    if not rows:
        raise InputError(
            f"no track is or contains {one_line(query, 100)!r}",
            "give a track_id, the path of its audio, or a part of its artist and title",
        )
    more = f"; and {len(rows) - _LISTED:,} more" if len(rows) > _LISTED else ""
    raise InputError(
        f"{len(rows):,} tracks are or contain {one_line(query, 100)!r}", f"give the id of one: {listed}{more}"
    )


def name(artist: str | None, title: str | None) -> str:
    """ "artist – title" for people, on one line; the title alone where there is no artist."""
    return one_line(" – ".join(part for part in (artist, title) if part))


def _same_file(uri: str, query: str) -> bool:
    if any("://" in u and not u.startswith("file://") for u in (uri, query)):
        return False
    one, other = to_path(uri), to_path(query)
    return one.name == other.name and one.resolve() == other.resolve()  # most differ in their names: no disk is asked


def _parquet(text: str, files: list[str]) -> ds.Dataset:
    """The files as one dataset of the schema. An older file lacks columns: with the schema given, they are nulls."""
    for file in files:
        try:
            found = ds.dataset(file, format="parquet").schema.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{one_line(file)} cannot be read ({one_line(str(error), 200)})", _MAKE) from error
        _require(file, found)
    return ds.dataset(files, SCHEMA, format="parquet")


def _workspace(text: str) -> ds.Dataset:
    workspace = Workspace(text)
    if not workspace.has("scores"):
        raise InputError(
            f"{one_line(text)} holds no scores",
            f"run `mer-ray score` in this workspace, or {_MAKE}" if workspace.exists("settings") else _MAKE,
        )
    shards = [workspace.path("scores", n) for n in workspace.names("scores") if n.endswith(".parquet")]
    return ds.dataset(shards, SCHEMA, format="parquet", filesystem=workspace.fs)


def _csv(text: str, place: Path) -> pa.Table:
    """A CSV file has no lists; an empty cell is null."""
    types = {f.name: f.type for f in SCHEMA if not pa.types.is_nested(f.type)}
    try:
        rows = pacsv.read_csv(
            place,
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{one_line(text)} cannot be read ({one_line(str(error), 200)})", _MAKE) from error
    _require(text, rows.column_names)
    have = [c for c in types if c in rows.column_names]
    none = {f.name: pa.nulls(len(rows), f.type) for f in SCHEMA if f.name not in have}
    return pa.table({n: none[n] if n in none else rows[n] for n in SCHEMA.names}, schema=SCHEMA)


def _require(file: str, found: Sequence[str]) -> None:
    missing = [c for c in REQUIRED if c not in found]
    if missing:
        raise InputError(f"{one_line(file)} is no file of scores: it has no column {', '.join(missing)}", _MAKE)


def _read(text: str, rows: ds.Dataset | pa.Table, columns: list[str]) -> pa.Table:
    try:
        table = rows.select(columns) if isinstance(rows, pa.Table) else rows.to_table(columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{one_line(text)} cannot be read ({one_line(str(error), 200)})", _MAKE) from error
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and not SCHEMA.field(field.name).nullable and table[i].null_count:
            table = table.set_column(i, field, pc.fill_null(table[i], ""))
    ids = table["track_id"].to_numpy(zero_copy_only=False)
    _, first = np.unique(ids, return_index=True)
    return table if len(first) == len(table) else table.take(np.sort(first))


def _checked(text: str, table: pa.Table) -> pa.Table:
    for column in REQUIRED[1:]:
        values = table[column].to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~((values >= -1e-6) & (values <= 1 + 1e-6)))
        if len(bad):
            track = one_line(table["track_id"][int(bad[0])].as_py(), 40)
            raise InputError(
                f"{one_line(text)}: {column} of track {track} is {values[bad[0]]:g}",
                "it must be a number from 0 to 1: score that track again, or remove its row",
            )
    return table


def clock(seconds: float | None) -> str:
    """Minutes and seconds as players show them, 3:07 or 1:02:03; empty where they are not known."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def listing(table: pa.Table, rows: Sequence[int] | np.ndarray, distances: np.ndarray | None = None) -> RichTable:
    """The rows for a terminal: rank, artist – title, V, A, D, how far they are (if that is given), length, and file."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    out.add_column("#", justify="right")
    out.add_column("Artist – title", ratio=3, min_width=20)
    for letter in (*"VAD", *(["Distance"] if distances is not None else []), "Time"):
        out.add_column(letter, justify="right", no_wrap=True)
    out.add_column("File", ratio=2, overflow="fold", style="dim")
    columns = ["artist", "title", *DIMENSIONS, "duration_s", "uri"]
    for rank, row in enumerate(table.select(columns).take(pa.array(rows, pa.int64())).to_pylist()):
        out.add_row(
            str(rank + 1),
            escape(name(row["artist"], row["title"])),
            *(f"{row[d]:.2f}" for d in DIMENSIONS),
            *([f"{distances[rank]:.2f}"] if distances is not None else []),
            clock(row["duration_s"]),
            escape(one_line(row["uri"])),
        )
    return out
