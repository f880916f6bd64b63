"""A condition and a catalog's scores → a playlist that any player opens: extended M3U in UTF-8 (``.m3u8``).

``#EXTINF:SECONDS,ARTIST - TITLE`` as in RFC 8216, section 4.3.2.1, with whole seconds, and Winamp's -1 for an unknown
length.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.address import is_local, to_path
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of, standing_schema
from mer_ray.io.tables import Workspace
from mer_ray.scoring import standing
from mer_ray.scoring.scores_table import NESTED, listing, read
from mer_ray.scoring.sql import mask, order

_LIKE_URI = re.compile(r"[#?%]|^[^/]*:")  # for players that read each line as a URI, such as VLC
_SHOWN = 50  # rows that are listed on a terminal without a limit
_UNREPRESENTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not UTF-8, separators of lines


def sure(expression: str, table: pa.Table) -> np.ndarray:
    """Rows for which the condition holds everywhere in their 90 % intervals: (N,) bool.

    It is evaluated at the corners of the box that the intervals of the dimensions in it span. If it holds at all of
    them, it holds in the whole box for linear inequalities joined by ``and``; with ``or``, ``not`` or products, the
    inside may differ. Percentiles and mood at a corner are those of a track with these values among the catalog's
    predictions.
    """
    text, dimensions = expression.casefold(), dimensions_of(table.schema, "scores")
    holds, catalog = np.ones(table.num_rows, bool), standing.Catalog([table], dimensions)
    is_relative = any(name in text for name in standing_schema(dimensions).names)
    named = [d for d in dimensions if d in text or ("mood" in text and d in ("valence", "arousal"))]
    for ends in itertools.product(("lower", "upper"), repeat=len(named)):
        corner = table
        for end, d in zip(ends, named, strict=True):
            corner = corner.set_column(corner.column_names.index(d), d, table[f"{end}_{d}"])
        holds &= mask(expression, catalog.added(corner) if is_relative else corner)
    return holds


def choose(table: pa.Table, where: str | None = None, sort: str | None = None, certain: bool = False) -> np.ndarray:
    """The numbers of the rows that fulfil the condition, (n,), in the table's order or by `sql.order`.

    table: a whole catalog, with the columns that the condition names. certain: only rows for which it is `sure`.
    """
    holds = np.ones(table.num_rows, bool) if where is None else (sure if certain else mask)(where, table)
    rows = np.arange(table.num_rows) if sort is None else order(sort, table)
    return rows[holds[rows]]


def m3u8(table: pa.Table, rows: Iterable[int], folder: Path, absolute: bool = False) -> str:
    """The playlist's text. Local files are named relative to its folder, unless ``absolute``; rows need a ``uri``."""
    lines = ["#EXTM3U"]
    chosen = table.select(["artist", "title", "uri", "duration_s"]).take(pa.array(list(rows), pa.int64()))
    for row in chosen.to_pylist():
        seconds = row["duration_s"]
        length = round(seconds) if seconds is not None and math.isfinite(seconds) and seconds >= 0 else -1
        title = " - ".join(part for part in (row["artist"], row["title"]) if part)
        lines += [f"#EXTINF:{length},{one_line(title)}", entry(row["uri"], folder, absolute)]
    return "\n".join(lines) + "\n"


def entry(uri: str, folder: Path, absolute: bool = False) -> str:
    """One address as a playlist's line: a path where it is one of this machine, else the URI as it is.

    A relative ``uri`` starts at the current folder. A path that M3U cannot represent (line breaks, bytes that are not
    UTF-8), or that VLC would read as a URI, becomes a ``file:`` URI.
    """
    if not is_local(uri):
        return "".join(quote(c, errors="replace") if unicodedata.category(c) in _UNREPRESENTABLE else c for c in uri)
    path = to_path(uri).expanduser().absolute()
    text = str(path) if absolute else os.path.relpath(path, folder.resolve())
    unsayable = text != text.strip() or any(unicodedata.category(c) in _UNREPRESENTABLE for c in text)
    return path.as_uri() if unsayable or _LIKE_URI.search(text) else text


def run(
    scores: str,
    where: str | None = None,
    output: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    certain: bool = False,
    absolute: bool = False,
) -> list[str]:
    """Write the playlist, or print it where there is no ``output``. Returns lines for the user."""
    from mer_ray.console import out

    target = None if output is None else Path(output).expanduser()
    if target is not None and target.suffix.lower() != ".m3u8":
        raise InputError(
            f"--out {one_line(str(target))} must end in .m3u8", "that ending tells players that it is UTF-8"
        )
    if target is not None and not target.parent.is_dir():
        raise InputError(f"folder {one_line(str(target.parent))} for --out does not exist", "make it first")
    table = standing.added(read(scores, without=NESTED))
    rows = choose(table, where, sort, certain)
    if len(rows) == 0:
        return [
            _nothing(table, where, certain) + ("" if target is None else f"; {one_line(str(target))} is not written")
        ]
    if target is None:
        shown = rows[: limit or _SHOWN]
        out.print(listing(table, shown))
        if len(shown) == len(rows):
            return [f"{len(rows):,} of {table.num_rows:,} tracks"]
        more = "" if limit else " (-n shows more)"
        return [f"the first {len(shown):,} of {len(rows):,} that match, of {table.num_rows:,} tracks{more}"]
    uris = table["uri"].take(pa.array(rows)).to_pylist()
    addressed = rows[[bool(uri) for uri in uris]]
    left_out = len(rows) - len(addressed)
    if len(addressed) == 0:
        return [
            f"{len(rows):,} tracks match, and the table has no file for any; {one_line(str(target))} is not written"
        ]
    addressed = addressed[:limit]
    text = m3u8(table, addressed, target.parent, absolute)
    _write(text, target)
    seconds = np.nansum(table["duration_s"].take(pa.array(addressed)).to_numpy(zero_copy_only=False))
    summary = f"{one_line(str(target))}: {len(addressed):,} of {table.num_rows:,} tracks, {duration(float(seconds))}"
    return [summary, *([f"left out, as the table has no file for them: {left_out:,}"] if left_out else [])]


def _write(text: str, target: Path) -> None:
    """Write the file atomically, without leaving a temporary folder beside the music."""
    temporary = target.parent / ".tmp"
    is_new = not temporary.exists()
    Workspace(target.parent).write_bytes(text.encode(), target.name)
    if is_new:
        with suppress(OSError):  # another process is writing there
            temporary.rmdir()


def duration(seconds: float) -> str:
    """A length in words: 45 s, 12 min, 3 h 20 min, 1,200 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _nothing(table: pa.Table, where: str | None, certain: bool) -> str:
    if where is None:
        return "the table has no tracks"
    nothing = f"no track of {table.num_rows:,} fulfils {one_line(where, 200)}"
    if "mood" in where.casefold() and "mood" in table.column_names:
        few = f", in a catalog of {standing.FEWEST} tracks or more"
        return f"{nothing}; moods are {', '.join(standing.WORDS)}{few if table.num_rows < standing.FEWEST else ''}"
    loose = len(choose(table, where)) if certain else 0
    return f"{nothing} for sure ({loose:,} do by their predictions, without --sure)" if certain else nothing
