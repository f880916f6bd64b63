"""Measured columns for a terminal that has room for them, and a word on rows that lack them or another one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import MEASURES

HEADS = ("BPM", "Key", "LUFS")
COLUMNS = ("tempo", "key", "mode", "loudness")
ROOM = 24
"""Characters that they take."""
_TEXT = re.compile(r"'(?:[^']|'')*'")


def among(table: pa.Table) -> bool:
    """Whether any track has one of them."""
    there = [name for name in COLUMNS if name in table.column_names]
    return any(table[name].null_count < table.num_rows for name in there)


def cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Tempo, key and loudness of a row of ``scores``: 120, D minor, -14.2; unknown ones are empty."""
    tempo, key, mode, loudness = (row.get(name) for name in COLUMNS)
    return (
        "" if tempo is None else f"{tempo:.0f}",
        "" if key is None else f"{key} {mode}",
        "" if loudness is None else f"{loudness:.1f}",
    )


def without(pieces: Iterable[pa.Table]) -> str:
    """A line about tracks whose audio was not measured; empty if there are none.

    pieces: with true_peak, which every measured file has.
    """
    n = total = 0
    for piece in pieces:
        n, total = n + piece["true_peak"].null_count, total + len(piece)
    if not n:
        return ""
    which = "none" if n == total else f"{n:,} not"
    return (
        f"of {total:,} tracks, {which} measured (tempo, key, loudness), as they were scored from features or by an "
        "earlier version: to measure them, score their audio files into another --out"
    )


def unknown(table: pa.Table, *expressions: str | None) -> list[str]:
    """Lines about columns that a condition or an order names, but rows of a whole catalog do not have.

    A measure that any row lacks, and any other column that all rows lack: such rows fulfil no comparison, and come
    last in an order, which would pass for an answer.
    """
    text = " ".join(_TEXT.sub(" ", e) for e in expressions if e)
    measures, lacking = {m.name for m in MEASURES}, dict[str, int]()
    for name in table.column_names:
        if re.search(rf"\b{name}\b", text, re.IGNORECASE):
            n = _n_unknown(table[name])
            if n == table.num_rows or (n and name in measures):
                lacking[name] = n
    if not lacking or not table.num_rows:
        return []
    whole = table.num_rows
    parts = [f"{name} is unknown for {'all' if n == whole else f'{n:,} of'} {whole:,}" for name, n in lacking.items()]
    line = f"{', '.join(parts)} tracks"
    return [line, *filter(None, [without([table]) if measures & lacking.keys() else ""])]


def _n_unknown(column: pa.ChunkedArray) -> int:
    """How many are null, not finite, or empty."""
    if pa.types.is_floating(column.type):
        return int(len(column) - np.isfinite(column.to_numpy().astype(float)).sum())
    empty = pc.sum(pc.equal(column, "")).as_py() if pa.types.is_string(column.type) else 0
    return int(column.null_count + (empty or 0))
