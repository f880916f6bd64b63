"""A preview of scores for a terminal: each track of a small file, the folders of a large one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mer_ray.io.address import located
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import rollups, scores_table, standing
from mer_ray.scoring.measures import display

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table as RichTable

MANY = 40
TOO_MANY = 200_000
WIDE, WIDE_EACH = 50, 20
"""Characters of a terminal in which intervals have room: so many, and so many more for each dimension."""


def tables(path: str | os.PathLike[str], width: int) -> Iterator[RichTable]:
    """The tracks of a scores file, or its folders (or else albums) where there are more than 40; nothing of a very
    large one.

    width: of the terminal, in characters; intervals are shown where there is room for them.
    """
    if scores_table.count(path) > TOO_MANY:
        return
    rows = scores_table.read(path, without=scores_table.NESTED)
    dimensions = dimensions_of(rows.schema, "scores")
    wide = width >= WIDE + WIDE_EACH * len(dimensions)
    if len(rows) <= MANY:
        measured = width >= WIDE + WIDE_EACH * len(dimensions) + display.ROOM and display.among(rows)
        yield _tracks(standing.added(rows), dimensions, wide, measured)
    else:
        rolled = rollups.rollups(rows, dimensions)
        kinds = set(rolled["kind"].to_pylist())
        if kinds:  # scores of frames may lack URI and album
            yield _rolled(rolled, dimensions, "folder" if "folder" in kinds else "album", wide)


def _empty(first: str) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    out.add_column(first, min_width=24, overflow="fold")
    return out


def _value(value: float, lower: float, upper: float, wide: bool) -> str:
    return f"{value:.2f} [dim]{lower:.2f}–{upper:.2f}[/dim]" if wide else f"{value:.2f}"


def _tracks(rows: pa.Table, dimensions: Sequence[str], wide: bool, measured: bool) -> RichTable:
    from rich.markup import escape

    out = _empty("Track")
    moods = ["Mood"] if "mood" in rows.column_names and rows["mood"].null_count < len(rows) else []
    for head in (*map(scores_table.heading, dimensions), *moods, *(display.HEADS if measured else ()), "Time", ""):
        out.add_column(head, justify="right", no_wrap=True)
    for row in rows.to_pylist():
        values = [_value(row[d], row[f"lower_{d}"], row[f"upper_{d}"], wide) for d in dimensions]
        named = scores_table.name(row["artist"], row["title"]) or located(row["uri"])
        unlike = "" if row["in_distribution"] in (True, None) else "unlike training"
        mood = [row["mood"]] if moods else []
        mood += display.cells(row) if measured else ()
        out.add_row(escape(named), *values, *mood, scores_table.clock(row["duration_s"]), unlike)
    relative = "; moods compare the tracks with each other" if moods else ""
    out.caption = "0 to 1" + (", with 90 % intervals" if wide else "") + relative
    return out


def _rolled(rolled: pa.Table, dimensions: Sequence[str], kind: str, wide: bool) -> RichTable:
    from rich.markup import escape

    out = _empty(kind.capitalize())
    for head in ("Tracks", *map(scores_table.heading, dimensions), "Time", "Like training"):
        out.add_column(head, justify="right", no_wrap=True)
    rows = [r for r in rolled.to_pylist() if r["kind"] == kind]
    for row in rows[:MANY]:
        values = [_value(row[f"mean_{d}"], row[f"p10_{d}"], row[f"p90_{d}"], wide) for d in dimensions]
        like = "" if row["in_distribution"] is None else f"{100 * row['in_distribution']:.0f} %"
        out.add_row(
            escape(located(row["name"]) if kind == "folder" else one_line(row["name"])),
            f"{row['n']:,}",
            *values,
            scores_table.clock(row["duration_s"]),
            like,
        )
    out.caption = ("mean, and where 8 of 10 tracks lie" if wide else "means of the tracks") + (
        f"; {len(rows) - MANY:,} more {kind}s in the file of roll-ups" if len(rows) > MANY else ""
    )
    return out
