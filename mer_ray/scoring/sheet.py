"""An Excel workbook (.xlsx) of scores: one sheet, numbers as numbers, and text that is never a formula or a link.

Its text needs no guard (see `cells`). A guard is taken off all the same, since a guarded CSV file may have been saved
as a workbook; so text that looks guarded gets one here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook
from xlsxwriter import Workbook
from xlsxwriter.exceptions import XlsxWriterException

from mer_ray.errors import InputError
from mer_ray.io import cells
from mer_ray.io.identity import one_line
from mer_ray.scoring.scores_text import check

SUFFIX = ".xlsx"
MAX_ROWS = 1_048_576 - 1
"""Rows of a sheet, below its header."""
MAX_TEXT = 32_767
"""UTF-16 code units of a cell."""
_EXACT = 1e15
"""Spreadsheets keep 15 digits of a number."""
_WIDTH = {pa.string(): 28, pa.bool_(): 14}


def check_room(n: int, target: str) -> None:
    """Raises InputError for more rows than a sheet can have."""
    if n > MAX_ROWS:
        raise InputError(
            f"{n:,} tracks are too many for {target}: a sheet has {MAX_ROWS + 1:,} rows", "give a .csv or .parquet"
        )


class Writer:
    """Writes tables of one schema, one after the other, as a workbook; in constant memory, with a temporary file."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        plain = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
        folder = str(Path(sink.name).parent)
        self._book = Workbook(sink, {**plain, "constant_memory": True, "tmpdir": folder})
        self._sheet, bold = self._book.add_worksheet("scores"), self._book.add_format({"bold": True})
        self._row = 0
        for i, field in enumerate(schema):
            self._sheet.set_column(i, i, _WIDTH.get(field.type, 16))
            self._sheet.write_string(0, i, field.name, bold)
        self._sheet.freeze_panes(1, 0)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._book.close()
            except XlsxWriterException as error:
                raise error.args[0] if error.args and isinstance(error.args[0], OSError) else error from error

    def write_table(self, table: pa.Table, rows: int = 0) -> None:
        """Append the rows. rows: ignored, an argument of `pyarrow.csv.CSVWriter`."""
        for values in zip(*(column.to_pylist() for column in cells.rounded(table)), strict=True):
            self._row += 1
            for i, value in enumerate(values):
                if isinstance(value, str):
                    text = cells.guard(value) if cells.unguard(value) != value else value
                    self._sheet.write_string(self._row, i, _fitting(text))
                elif isinstance(value, bool):
                    self._sheet.write_boolean(self._row, i, value)
                elif value is not None and value == value:  # a sheet has no NaN
                    self._sheet.write_number(self._row, i, value)


def _fitting(text: str) -> str:
    """Text that fits a cell: not too long, and without the two characters that XML cannot represent."""
    text = text.translate({0xFFFE: "\ufffd", 0xFFFF: "\ufffd"})
    return text.encode("utf-16-le")[: 2 * MAX_TEXT].decode("utf-16-le", "ignore")


def read(source: IO[bytes], schema_of: Callable[[Sequence[str]], pa.Schema], label: str) -> pa.Table:
    """The first sheet's columns that the schema has, with its types. Raises InputError, OSError.

    schema_of: the schema of a sheet with these columns.
    """
    try:
        rows = CalamineWorkbook.from_filelike(source).get_sheet_by_index(0).iter_rows()
        names = [str(name) for name in next(rows, [])]
        columns = list(zip(*filter(_is_filled, rows), strict=True)) or [()] * len(names)
    except (CalamineError, IndexError) as error:
        raise InputError(
            f"{label} cannot be read ({error})", "give what `mer-ray score CATALOG --out FILE` wrote"
        ) from error
    index = {name: i for i, name in reversed(list(enumerate(names)))}
    fields = [field for field in schema_of(names) if field.name in index]
    made = []
    for field in fields:
        made.append(pa.array(_column(columns[index[field.name]], field, label), field.type))
    table = pa.table(made, schema=pa.schema(fields))
    check(table, label)
    return table


def _is_filled(row: Sequence[Any]) -> bool:
    return any(value != "" for value in row)


def _column(values: Sequence[Any], field: pa.Field, label: str) -> list[Any]:
    """Cells as values of the field's type. In edited sheets, a title such as 1999 may be a number."""
    to = _text if pa.types.is_string(field.type) else _truth if pa.types.is_boolean(field.type) else _number
    to = _id if field.name == "track_id" else to
    return [_cell(value, to, f"{label}: {field.name} in row {row}") for row, value in enumerate(values, 2)]


def _cell(value: Any, to: Callable[[Any], Any], label: str) -> Any:
    if value == "":
        return None
    try:
        return to(value)
    except (TypeError, ValueError) as error:
        shown = value.isoformat() if isinstance(value, date) else one_line(str(value), 40)
        raise InputError(f"{label} is {shown!r}", "mend that cell, or score that track again") from error


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else cells.unguard(str(value))


def _id(value: Any) -> str:
    """An id; not what a spreadsheet has made of it: a date, or a number of more digits than it keeps."""
    if isinstance(value, date) or (isinstance(value, float) and abs(value) >= _EXACT):
        raise ValueError("no id any more")
    return _text(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("no number")
    return float(value)


def _truth(value: Any) -> bool:
    truth = {"true": True, "false": False, "1": True, "0": False}.get(str(value).removesuffix(".0").lower())
    if truth is None:
        raise ValueError("neither true nor false")
    return truth
