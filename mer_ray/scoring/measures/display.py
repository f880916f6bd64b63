"""Measured columns for a terminal that has room for them, and a word on rows that lack them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import MEASURES

HEADS = ("BPM", "Key", "LUFS")
COLUMNS = ("tempo", "key", "mode", "loudness")
ROOM = 24
"""Characters that they take."""


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
    """A line about files that were scored before there were these columns; empty if there are none.

    pieces: sha256 and true_peak, which every file that is scored has.
    """
    n = sum(pc.sum(pc.and_(pc.is_valid(p["sha256"]), pc.is_null(p["true_peak"]))).as_py() or 0 for p in pieces)
    again = "to measure them too, score into another --out"
    return f"{n:,} tracks were scored before tempo, key and loudness were measured: {again}" if n else ""


def unknown(table: pa.Table, *expressions: str | None) -> str:
    """A line about rows of a whole catalog that cannot fulfil a condition, or be put in an order, by what is measured.

    They were scored by an earlier version, or from a table of frames. Empty if there are none, or nothing is named.
    """
    text = " ".join(e for e in expressions if e)
    named = [m.name for m in MEASURES if re.search(rf"\b{m.name}\b", text, re.IGNORECASE)]
    n = table["true_peak"].null_count
    if not named or not n:
        return ""
    which = "none" if n == table.num_rows else f"{n:,} not"
    return (
        f"of {table.num_rows:,} tracks, {which} measured: {', '.join(named)} unknown there; "
        "to measure files that an earlier version scored, score them into another --out"
    )
