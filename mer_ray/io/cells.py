"""Text in the cells of a CSV file, guarded so that no spreadsheet runs it as a formula; `unguard` restores it exactly.

After OWASP's page on CSV injection: an apostrophe is put before text that begins like a formula, also after blanks and
quotes, in full-width forms, or after a semicolon, tab or line break, at which some spreadsheets begin a new cell. Text
that looks guarded gets another apostrophe, so that `unguard` is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

BOM = b"\xef\xbb\xbf"
"""Marks a CSV file as UTF-8 for Excel."""
DECIMALS = 6
"""Of numbers in CSV files; the accuracy of scores is some hundredths."""

_SIGN = "=+\\-@＝＋－＠﹦﹢﹣﹫"
_BLANK = r"\s'\"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff"
# As in explorer.js. Both match positions (lookahead), not characters.
_FIRST, _LATER = rf"(?=[{_BLANK}]*[\t\r\n{_SIGN}])", rf"(?=[{_BLANK}]*[{_SIGN}])"
_TO_GUARD = re.compile(rf"\A{_FIRST}|(?<=[;\t\r\n]){_LATER}")
_GUARDED = re.compile(rf"\A'{_FIRST}|(?<=[;\t\r\n])'{_LATER}")


def guard(text: str) -> str:
    """The text as a cell of a CSV file."""
    return _TO_GUARD.sub("'", text)


def unguard(cell: str) -> str:
    """The inverse of `guard`."""
    return _GUARDED.sub("", cell)


def encoded(text: str) -> bytes:
    """A CSV file's bytes; with the mark for Excel if it is not ASCII."""
    return (b"" if text.isascii() else BOM) + text.encode()


def guarded(table: pa.Table) -> pa.Table:
    """The table for CSV: text guarded, numbers rounded to `DECIMALS`."""
    return _texts(rounded(table), guard)


def unguarded(table: pa.Table) -> pa.Table:
    """The inverse of `guarded`, except for the rounding."""
    return _texts(table, unguard)


def rounded(table: pa.Table) -> pa.Table:
    """The table with its numbers rounded to `DECIMALS`."""
    return _each(table, pa.types.is_floating, lambda column: pc.round(column, DECIMALS))


def _texts(table: pa.Table, change: Callable[[str], str]) -> pa.Table:
    def changed(column: pa.ChunkedArray) -> pa.Array:
        return pa.array([None if text is None else change(text) for text in column.to_pylist()], pa.string())

    return _each(table, pa.types.is_string, changed)


def _each(table: pa.Table, kind: Callable[[pa.DataType], bool], change: Callable[[pa.ChunkedArray], Any]) -> pa.Table:
    for i, field in enumerate(table.schema):
        if kind(field.type):
            table = table.set_column(i, field, change(table[i]))
    return table
