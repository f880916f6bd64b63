"""Scores in delimited text (.csv), also as a spreadsheet or a script has saved them again.

A spreadsheet may change separator, encoding and decimal mark, and the words for true and false: such a file has the
same values. What it has made of a cell otherwise (a date, an id rounded to 1.2E+15) is refused, naming the cell.
"""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.fs

from mer_ray.console import problem
from mer_ray.errors import InputError
from mer_ray.io import cells, delimited
from mer_ray.io.buckets import read_again
from mer_ray.io.identity import one_line

BOOK = "or keep scores that you edit as .xlsx, whose cells stay text and numbers"
_TRUE = "true 1 1.0 wahr vrai verdadero vero verdadeiro waar prawda sant sand sann tosi pravda igaz doğru истина"
_FALSE = "false 0 0.0 falsch faux falso onwaar fałsz falskt falsk usann epätosi nepravda hamis yanliş ложь"
_TRUTHS = dict.fromkeys(_TRUE.split(), True) | dict.fromkeys(_FALSE.split(), False)
"""As the spreadsheets of Europe write them, and scripts."""
_SHARES = ("tempo_confidence", "key_confidence")
"""0..1, with three decimals as a rule: 0.942 becomes 942 where a point is taken for a separator of thousands."""
_ROUNDED = re.compile(r"-?\d(?:[.,]\d*)?E\+\d+")
_BUFFER = 1 << 20
_CELLS = {"null_values": [""], "strings_can_be_null": True, "quoted_strings_can_be_null": False}


class Text:
    """The rows of one file, not yet read; with the part of `pyarrow.dataset.Dataset` that `scores_table` uses.

    schema: of the columns that the file has, without lists.
    """

    def __init__(
        self, path: str, fs: pa.fs.FileSystem, label: str, schema_of: Callable[[Sequence[str]], pa.Schema]
    ) -> None:
        """schema_of: the schema of scores with these columns. Raises InputError, OSError."""
        self._path, self._fs, self._label = path, fs, label
        how = delimited.encoding(self)
        if how.errors != "strict":
            raise InputError(f"{label}: {how.note.partition(':')[0]}", "save it as UTF-8")
        self._encoding = "utf-8" if how.name == "utf-8-sig" else how.name  # pyarrow removes the mark
        counted = _Counted(delimited.lines(self, how))
        named, source = delimited.after_sep(counted)
        first = next(source, "")
        self._mark = named or delimited.delimiter(first, lambda names: len({"track_id", "valence", "uri"} & {*names}))
        self._skip = counted.n
        names = [name.strip() for name in next(csv.reader([first], delimiter=self._mark), [])]
        if len(names) == 1 and re.match(r"track_id\W", names[0]):
            hint = f"open the file that mer-ray wrote by the spreadsheet's import, separated by commas, {BOOK}"
            raise InputError(f"{label}: each of its rows stands in one cell", hint)
        self.schema = pa.schema([field for field in schema_of(names) if field.name in names])
        if twice := [name for name in self.schema.names if names.count(name) > 1]:
            raise InputError(f"{label} has the column {twice[0]} twice", "remove one of them")
        if how.note:
            say_once(f"{label}: {how.note}")
        self._names = [name if name in self.schema.names else f"\0{i}" for i, name in enumerate(names)]

    def __str__(self) -> str:
        return self._label

    def open(self, mode: str = "r", **how: Any) -> Any:
        """As `Path.open`."""
        opened = io.BufferedReader(_Raw(self._fs.open_input_file(self._path)), _BUFFER)
        return opened if "b" in mode else io.TextIOWrapper(opened, **how)

    def get_fragments(self) -> Iterator[Text]:
        """The file."""
        yield self

    def count_rows(self) -> int:
        """How many there are."""
        return sum(map(len, self.batches(["track_id"])))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows that are not blank, with the types of the schema. Raises InputError, pyarrow.ArrowException."""
        values, bad = _Values(self._label), list[str]()

        def on_bad(row: Any) -> str:
            if not row.text.strip(f' "{self._mark}'):
                return "skip"
            bad.append(
                f"a row has {row.actual_columns} cells where the header has {row.expected_columns}: "
                f"{one_line(row.text, 80)}"
            )
            return "error"

        how = pacsv.ReadOptions(column_names=self._names, skip_rows=self._skip, encoding=self._encoding)
        parse = pacsv.ParseOptions(delimiter=self._mark, newlines_in_values=True, invalid_row_handler=on_bad)
        names = list(dict.fromkeys([*columns, "track_id", *(n for n in _SHARES if n in self.schema.names)]))
        text = {"column_types": dict.fromkeys(names, pa.string()), "include_columns": names, **_CELLS}
        schema = pa.schema([self.schema.field(name) for name in names])
        try:
            with self._fs.open_input_stream(self._path) as opened:
                convert = pacsv.ConvertOptions(**text)
                for batch in pacsv.open_csv(opened, how, parse, convert):
                    table = values.typed(pa.Table.from_batches([batch]), schema)
                    check(table, self._label)
                    yield from table.select(columns).combine_chunks().to_batches()
        except pa.ArrowInvalid as error:
            raise (InputError(f"{self._label}: {bad[0]}", "mend that row, or remove it") if bad else error) from error


class _Raw(io.RawIOBase):
    """A file of a store as one of Python's; a garbled response is asked for again."""

    def __init__(self, opened: pa.NativeFile) -> None:
        self._opened, self._at = opened, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = read_again(lambda: self._opened.read_at(len(buffer), self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._opened.close()
        super().close()


class _Counted:
    """An iterator of lines that counts them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.n = lines, 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.n += 1
        return line


@functools.cache
def say_once(note: str) -> None:
    """A line for the user, who need not read it for each time that the file is read."""
    problem(note)


class _Values:
    """Cells of one file as values. All of its numbers have the same decimal mark."""

    def __init__(self, label: str) -> None:
        self._label, self._decimal = label, ""
        self._seen = ""

    def typed(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """The rows that are not blank, with the types of the schema."""
        blank = functools.reduce(pc.and_, [pc.or_kleene(pc.is_null(c), pc.equal(c, "")) for c in table.columns])
        table = table.filter(pc.invert(blank)) if pc.any(blank).as_py() else table
        ids = table["track_id"]
        made = []
        for field in schema:
            column = table[field.name]
            if pa.types.is_string(field.type):
                made.append(cells.unguarded(pa.table({field.name: column}))[field.name])
            elif pa.types.is_boolean(field.type):
                made.append(pa.array(self._each(column, field, ids, _truth), field.type))
            else:
                made.append(self._numbers(column, field, ids))
        return pa.table(made, schema=schema)

    def _numbers(self, column: pa.ChunkedArray, field: pa.Field, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        column = pc.utf8_trim_whitespace(column)
        missing = pc.is_in(pc.utf8_lower(column), pa.array(sorted(delimited.MISSING)))
        column = pc.if_else(missing, None, column)
        for mark in ".,":
            there = column.filter(pc.match_substring(column, mark))
            if len(there):
                cell = f"{field.name} {one_line(there[0].as_py(), 30)!r}"
                if self._decimal not in ("", mark):
                    raise InputError(
                        f"{self._label} has numbers with a point and with a comma ({self._seen}, {cell})",
                        "write all of them in one way, without separators of thousands; and mend what is a date now, "
                        f"{BOOK}",
                    )
                self._decimal, self._seen = mark, self._seen or cell
        column = pc.replace_substring(column, ",", ".") if self._decimal == "," else column
        try:
            return column.cast(field.type)
        except pa.ArrowInvalid:
            to = _whole if pa.types.is_integer(field.type) else delimited.number
            return pa.array(self._each(column, field, ids, to), field.type)

    def _each(
        self, column: pa.ChunkedArray, field: pa.Field, ids: pa.ChunkedArray, to: Callable[[str], Any]
    ) -> Iterator[Any]:
        for i, cell in enumerate(column.to_pylist()):
            try:
                yield None if cell is None or not cell.strip() else to(cell)
            except (ValueError, OverflowError) as error:
                track = one_line(ids[i].as_py(), 40)
                raise InputError(
                    f"{self._label}: {field.name} of track {track} is {one_line(cell, 40)!r}",
                    f"mend that cell, or score that track again, {BOOK}",
                ) from error


def check(table: pa.Table, label: str) -> None:
    """Raises InputError where an id is missing, or a cell is what a spreadsheet has made of an id or a number."""
    for track in table["track_id"].to_pylist():
        if not track:
            raise InputError(f"{label}: a row has no track_id", "give it one, or remove the row")
        if _ROUNDED.fullmatch(track):
            raise InputError(
                f"{label}: the track_id {one_line(track, 40)} is a number that a spreadsheet has rounded",
                f"import the file that mer-ray wrote with this column as text, {BOOK}",
            )
    for name in _SHARES:
        if name in table.column_names and (pc.max(table[name]).as_py() or 0) > 1 + 1e-6:
            raise InputError(
                f"{label}: {name} is {pc.max(table[name]).as_py():g}, and it is from 0 to 1: a spreadsheet has taken "
                "decimal points for separators of thousands, also elsewhere",
                f"import the file that mer-ray wrote as English (USA), {BOOK}",
            )


def _truth(cell: str) -> bool:
    truth = _TRUTHS.get(cell.strip().casefold())
    if truth is None:
        raise ValueError("neither true nor false")
    return truth


def _whole(cell: str) -> int | None:
    """A whole number; None where a spreadsheet has rounded it (1.79597E+12)."""
    value = delimited.number(cell)
    if "e" in cell.casefold():
        return None
    if not value.is_integer():
        raise ValueError(f"{cell!r} is no whole number")
    return int(value)
