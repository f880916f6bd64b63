"""Reads a manifest as columns and rows, from delimited text, JSON, or Parquet.

Rows are counted from 1, the first one below the header (in a spreadsheet, row 1 is in line 2). In delimited text
blank rows count; in JSON lines they do not.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.errors import InputError, TrackError
from mer_ray.io import delimited
from mer_ray.io.cells import unguard
from mer_ray.io.identity import one_line

TEXT = (".csv", ".tsv", ".tab", ".txt")
JSON = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*TEXT, *JSON, ".parquet")
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers", ".xlsm")
"""Of spreadsheets, which are refused with what to do."""
_MAX_COLUMNS = 10_000

Row = Sequence[Any] | TrackError
"""The cells, in the order of the columns, fewer where the row ends early; or the error of a bad row."""


@dataclass(frozen=True)
class Table:
    """names: of the columns. rows: called for the rows from the start. notes: guesses about the format."""

    names: list[str]
    rows: Callable[[], Iterator[tuple[int, Row]]]
    notes: tuple[str, ...] = ()


def open_table(file: Path, n_known: Callable[[Sequence[str]], int], what: str = "manifest") -> Table:
    """Open a manifest. n_known: counts known names, to recognise the delimiter. what: its name. Raises InputError."""
    kind, called = file.suffix.lower(), f"{what} {file}"
    if not file.is_file():
        raise InputError(f"{called} does not exist", "give the path of a CSV, JSON or Parquet file")
    try:
        if kind in TEXT:
            table = _text(file, n_known, called)
        elif kind in JSON:
            table = _json(file, n_known, called)
        elif kind == ".parquet":
            table = _parquet(file, n_known)
        else:
            more = "; save the workbook as CSV (UTF-8)" if kind in WORKBOOKS else ""
            raise InputError(f"{called} is of an unknown kind", f"its name must end in {', '.join(SUFFIXES)}{more}")
    except (UnicodeError, csv.Error, pa.ArrowException, OSError, RecursionError) as error:
        raise _unreadable(called, error) from error
    return Table(table.names, lambda: _guarded(called, table.rows), table.notes)


def _guarded(called: str, rows: Callable[[], Iterator[tuple[int, Row]]]) -> Iterator[tuple[int, Row]]:
    try:
        yield from rows()
    except (UnicodeError, csv.Error, pa.ArrowException, OSError) as error:
        raise _unreadable(called, error) from error


def _unreadable(called: str, error: Exception) -> InputError:
    return InputError(f"{called} cannot be read ({one_line(str(error), 200)})")


# delimited text ------------------------------------------------------------------------------------------------------


def _text(file: Path, n_known: Callable[[Sequence[str]], int], called: str) -> Table:
    how = delimited.encoding(file)
    named, source = delimited.after_sep(delimited.lines(file, how))
    first = next(source, "")
    order = delimited.DELIMITERS if file.suffix.lower() == ".csv" else "\t;,|"
    mark = named or delimited.delimiter(first, n_known, order)

    def cells() -> Iterator[list[str] | str]:
        return delimited.records(delimited.after_sep(delimited.lines(file, how))[1], mark)

    names, *first_rows = [*islice(cells(), 4)] or [[]]
    if isinstance(names, str):
        raise InputError(f"{called}: its header {names}")
    while names and not names[-1].strip():
        names.pop()
    header = [""] * _row_names(names, first_rows) + [name.strip() for name in names]

    is_scores = {"track_id", "lower_valence", "upper_valence"} <= set(header)
    is_guarded = is_scores or header[:2] == ["dataset", "track_id"]  # or of `mer-ray dataset`

    def rows() -> Iterator[tuple[int, Row]]:
        for number, found in enumerate(islice(cells(), 1, None), start=1):
            if isinstance(found, str):
                yield number, TrackError("bad_row", found)
            elif any(cell.strip() for cell in found):
                yield number, _row([*map(unguard, found)] if is_guarded else found, len(header), how.dirty)

    return Table(header, rows, (how.note,) if how.note else ())


def _row_names(names: Sequence[str], rows: Sequence[Sequence[str] | str]) -> int:
    """1 for R's write.table, which puts row numbers without a header before the columns; else 0."""
    numbered = [row for row in rows if len(row) == len(names) + 1 and not isinstance(row, str)]
    are_all = len(numbered) == len(rows) >= 2
    return int(are_all and [row[0] for row in numbered] == [str(i + 1) for i in range(len(rows))])


def _row(cells: list[str], n: int, is_dirty: bool) -> Row:
    while len(cells) > n and not cells[-1].strip():
        cells.pop()
    if len(cells) > n:
        shown = one_line(" | ".join(cells), 120)
        more = "quote a cell that holds the separator"
        return TrackError("bad_row", f"has {len(cells)} cells where the header has {n}: {more} ({shown})")
    if is_dirty:
        text = "".join(cells)
        if "\0" in text:
            return TrackError("bad_row", "holds a NUL character")
        if any("\udc80" <= c <= "\udcff" for c in text):
            return TrackError("bad_row", f"holds bytes that are not UTF-8: {one_line(' | '.join(cells), 120)}")
    return cells


# JSON ----------------------------------------------------------------------------------------------------------------


def _json(file: Path, n_known: Callable[[Sequence[str]], int], called: str) -> Table:
    how = delimited.encoding(file)
    notes = (how.note,) if how.note else ()
    texts = list(islice((t for t in delimited.lines(file, how) if t.strip()), 2))
    if not texts:
        return Table([], lambda: iter(()), notes)
    is_lines = file.suffix.lower() != ".json" or (len(texts) == 2 and isinstance(_loaded(texts[0]), dict))
    if texts[0].lstrip().startswith("[") or not is_lines:
        try:
            items = list(_items(json.loads("".join(delimited.lines(file, how)), object_pairs_hook=_once), n_known))
        except (ValueError, RecursionError) as error:
            if file.suffix.lower() == ".json":
                raise InputError(f"{called} is not JSON ({one_line(str(error), 120)})") from error
        else:
            names = _union(called, iter(items))
            return Table(names, lambda: ((n, _aligned(item, names)) for n, item in enumerate(items, 1)), notes)

    def each() -> Iterator[Any]:
        return (_loaded(text) for text in delimited.lines(file, how) if text.strip())

    names = _union(called, each())
    return Table(names, lambda: ((n, _aligned(item, names)) for n, item in enumerate(each(), 1)), notes)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return TrackError("bad_row", f"is not JSON ({one_line(str(error), 120)})")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key stands twice in {{{one_line(', '.join(k for k, _ in pairs), 80)}}}")
    return found


def _union(called: str, items: Iterator[Any]) -> list[str]:
    names: dict[str, None] = {}
    for item in items:
        if isinstance(item, dict):
            names |= dict.fromkeys(item)
            if len(names) > _MAX_COLUMNS:
                raise InputError(f"{called} has over {_MAX_COLUMNS:,} columns", "give one object a track")
    return list(names)


def _aligned(item: Any, names: Sequence[str]) -> Row:
    if isinstance(item, TrackError):
        return item
    if not isinstance(item, dict):
        return TrackError("bad_row", 'must be an object, as in {"path": ...}')
    return [item.get(name) for name in names]


def _items(whole: Any, n_known: Callable[[Sequence[str]], int]) -> Iterator[Any]:
    """The rows in a JSON document: an array of objects, a layout of pandas, or tracks by their ids."""
    if isinstance(whole, list):
        yield from whole
        return
    if not isinstance(whole, dict):
        raise ValueError("an array of objects is wanted")
    columns, data = whole.get("columns"), whole.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # orient="split"
        yield from (dict(zip(map(str, columns), row, strict=True)) for row in data)
        return
    values = list(whole.values())
    lists = [v for v in values if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
    if n_known(list(whole)) and values and all(isinstance(v, dict | list) for v in values):
        keys = [list(v) if isinstance(v, dict) else list(range(len(v))) for v in values]
        if all(k == keys[0] for k in keys) and not (len(values) == 1 and lists):  # columns
            yield from (dict(zip(whole, row, strict=True)) for row in zip(*map(_values, values), strict=True))
            return
    if len(lists) == 1:  # {"tracks": [...]}
        yield from lists[0]
    elif values and all(isinstance(v, dict) for v in values):  # by id, or by number
        if [*whole] == [str(i) for i in range(len(whole))]:
            yield from values
        else:
            yield from (
                row if any(k in row for k in ("track_id", "id")) else {"track_id": k} | row for k, row in whole.items()
            )
    elif n_known(list(whole)):
        yield whole
    else:
        raise ValueError("an array of objects is wanted")


def _values(column: Mapping[str, Any] | list[Any]) -> list[Any]:
    return list(column.values()) if isinstance(column, Mapping) else column


# Parquet -------------------------------------------------------------------------------------------------------------


def _parquet(file: Path, n_known: Callable[[Sequence[str]], int]) -> Table:
    with pq.ParquetFile(file) as parquet:
        names = [str(name) for name in parquet.schema_arrow.names]
    # Unknown columns are not read, as they may contain audio. pyarrow takes a name with a dot for a path in a struct.
    is_plain = len(set(names)) == len(names) and not any("." in name for name in names)
    used = [i for i, name in enumerate(names) if n_known([name])] if is_plain else list(range(len(names)))

    def rows() -> Iterator[tuple[int, Row]]:
        number = 0
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=4_096, columns=[names[i] for i in used] if is_plain else None):
                columns: list[list[Any]] = [[None] * len(batch)] * len(names)
                for i, column in zip(used, batch.columns, strict=True):
                    columns[i] = column.to_pylist()
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, cells

    return Table(names, rows)
