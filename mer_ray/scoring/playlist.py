"""A condition and a catalog's scores → a playlist that any player opens: extended M3U in UTF-8 (``.m3u8``).

``#EXTINF:SECONDS,ARTIST - TITLE`` as in RFC 8216, section 4.3.2.1, with whole seconds, and Winamp's -1 for an unknown
length. ``.m3u`` is the same for readers that decode no URI: MPD, Jellyfin, MiniDLNA, Kodi. Also the scores of the
chosen tracks as JSON lines (``.jsonl``), and rules for Navidrome (``.nsp``), see `navidrome`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io import cells
from mer_ray.io.address import is_local, to_path
from mer_ray.io.identity import one_line
from mer_ray.io.replace import replacing
from mer_ray.io.schemas import dimensions_of, standing_schema
from mer_ray.scoring import arc, cues, navidrome, standing
from mer_ray.scoring.measures import display
from mer_ray.scoring.scores_table import NESTED, listing, read
from mer_ray.scoring.sql import mask, order

SUFFIXES = (".m3u8", ".m3u", ".jsonl", ".nsp")
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


def m3u8(table: pa.Table, rows: Iterable[int], folder: Path, absolute: bool = False, plain: bool = False) -> str:
    """The playlist's text. Local files are named relative to its folder, unless ``absolute``; rows need a ``uri``.

    plain: names as they are, see `plain_entry`; rows need names that it can represent.
    """
    lines = ["#EXTM3U"]
    chosen = table.select(["artist", "title", "uri", "duration_s"]).take(pa.array(list(rows), pa.int64()))
    for row in chosen.to_pylist():
        seconds = row["duration_s"]
        length = round(seconds) if seconds is not None and math.isfinite(seconds) and seconds >= 0 else -1
        title = " - ".join(part for part in (row["artist"], row["title"]) if part)
        lines += [
            f"#EXTINF:{length},{one_line(title)}",
            (plain_entry if plain else entry)(row["uri"], folder, absolute),
        ]
    return "\n".join(lines) + "\n"


def entry(uri: str, folder: Path, absolute: bool = False) -> str:
    """One address as a playlist's line: a path where it is one of this machine, else the URI as it is.

    A relative ``uri`` starts at the current folder. A path that M3U cannot represent (line breaks, bytes that are not
    UTF-8), or that VLC would read as a URI, becomes a ``file:`` URI.
    """
    if not is_local(uri):
        return "".join(quote(c, errors="replace") if unicodedata.category(c) in _UNREPRESENTABLE else c for c in uri)
    path = to_path(uri).expanduser().absolute()
    text = str(path) if absolute else _relative(path, folder)
    unsayable = text != text.strip() or any(unicodedata.category(c) in _UNREPRESENTABLE for c in text)
    return path.as_uri() if unsayable or _LIKE_URI.search(text) else text


def plain_entry(uri: str, folder: Path, absolute: bool = False) -> str:
    """One address without escapes: percent signs, ``?`` and colons as they are; empty where a line cannot hold it."""
    if not is_local(uri):
        return entry(uri, folder, absolute)
    path = to_path(uri).expanduser().absolute()
    text = str(path) if absolute else _relative(path, folder)
    if (
        text != text.strip()
        or path.name != path.name.strip()
        or any(c in "\r\n" or unicodedata.category(c) == "Cs" for c in text)
    ):
        return ""
    return f"./{text}" if text.startswith("#") else text


def _relative(path: Path, folder: Path) -> str:
    """From the playlist's folder to a file: within it where that is possible, by any name of both.

    A playlist in a folder that is a link can then be moved with it, and servers refuse what leads out of it. Else from
    where the folder really is, as ".." goes up there.
    """
    real = folder.resolve()
    named = real if os.pardir in folder.parts else folder.absolute()
    ways = [(path, named), (path, real), (path.parent.resolve() / path.name, real)]
    found = [os.path.relpath(file, start) for file, start in ways]
    return next((way for way in found if way.split(os.sep, 1)[0] != os.pardir), found[1])


def json_lines(table: pa.Table, rows: Iterable[int]) -> str:
    """A JSON object a line for each row: its columns, except lists; numbers that are not finite are null."""
    flat = table.select([f.name for f in table.schema if not pa.types.is_nested(f.type)])
    lines = []
    for row in cells.rounded(flat.take(pa.array(list(rows), pa.int64()))).to_pylist():
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        lines.append(json.dumps(finite, ensure_ascii=False, allow_nan=False))
    return "".join(f"{line}\n" for line in lines)


def run(
    scores: str,
    where: str | None = None,
    output: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    certain: bool = False,
    absolute: bool = False,
    moods: str | None = None,
    start: str | None = None,
    end: str | None = None,
    cue_file: str | None = None,
    cue_seconds: float = cues.SECONDS,
    cue_rate: str = cues.RATE,
) -> list[str]:
    """Write the playlist, or print it where there is no ``output``. Returns lines for the user.

    moods, start, end: of `arc.choose`. cue_file: where `cues` go.
    """
    from mer_ray.console import out

    target = None if output is None else _target(output)
    marks = None if cue_file is None else Path(cue_file).expanduser()
    if marks is not None:
        cues.check(marks)
    is_arc = not moods is start is end is None
    if is_arc and sort is not None:
        raise InputError("--sort and an arc are two orders", "give one of them")
    table = standing.added(read(scores, without=NESTED))
    if target is not None and target.suffix.lower() == ".nsp":
        if is_arc or certain or marks:
            raise InputError("a .nsp file holds rules, and no list", "leave out --arc, --from, --to, --sure and --cues")
        matching = len(choose(navidrome.as_tagged(table), where, sort))
        _write(navidrome.smart_playlist(table, target.stem, where, sort, limit), target)
        said = f"{one_line(str(target))}: rules, which {matching:,} of {table.num_rows:,} tracks fulfil once tagged"
        return [said, *display.unknown(table, where, sort)]
    rows = choose(table, where, sort, certain)
    unknown = display.unknown(table, where, sort)
    if len(rows) == 0:
        unwritten = "".join(f"; {one_line(str(file))} is not written" for file in (target, marks) if file is not None)
        return [_nothing(table, where, certain) + unwritten, *unknown]
    matching, left_out, remarks = len(rows), 0, unknown
    for_player = target is not None and target.suffix.lower() in (".m3u8", ".m3u")
    plain = target is not None and target.suffix.lower() == ".m3u"
    if for_player:
        rows = _with_file(table, rows, plain)
        left_out = matching - len(rows)
        if len(rows) == 0:
            return [
                f"{matching:,} tracks match, and the table has no file for any; {one_line(str(target))} is not written"
            ]
    if is_arc:
        rows, remark = arc.choose(table, rows, moods, start, end, limit or arc.TRACKS)
        if for_player and len(_with_file(table, rows, plain)) < len(rows):
            raise InputError("the table has no file for --from or --to", "give another track")
        remarks.append(remark)
    chosen = rows[:limit]
    # Before anything is written, so that an error leaves nothing behind.
    files: dict[str, bytes] = {}
    without = 0
    if marks is not None:
        files, without = cues.make(scores, table.take(pa.array(chosen)), marks, cue_seconds, cue_rate)
    if target is None:
        shown = chosen if limit or is_arc else chosen[:_SHOWN]
        out.print(listing(table, shown, width=out.width))
        count = f"{len(rows):,} of {table.num_rows:,} tracks"
        if len(shown) < len(rows):
            more = "" if limit else " (-n shows more)"
            count = f"the first {len(shown):,} of {len(rows):,} that match, of {table.num_rows:,} tracks{more}"
        remarks.insert(0, count)
    else:
        listed = m3u8(table, chosen, target.parent, absolute, plain) if for_player else json_lines(table, chosen)
        _write(listed, target)
        seconds = np.nansum(table["duration_s"].take(pa.array(chosen)).to_numpy(zero_copy_only=False))
        length = duration(float(seconds))
        remarks.insert(0, f"{one_line(str(target))}: {len(chosen):,} of {table.num_rows:,} tracks, {length}")
    if for_player and (gone := _n_gone(table, chosen)):
        remarks.append(f"not on this machine, or gone since they were scored: {gone:,} of these files")
    if left_out:
        why = ", or one whose name no line can hold" if plain else ""
        remarks.append(f"left out, as the table has no file for them{why}: {left_out:,}")
    if marks is not None:
        remarks.append(_write_cues(files, marks) + (f"; without a curve: {without:,}" if without else ""))
    return remarks


def _write_cues(files: dict[str, bytes], target: Path) -> str:
    for name, content in files.items():
        file = target.parent / name
        file.parent.mkdir(exist_ok=True)
        _write(content, file)
    if target.suffix.lower() == ".txt":
        return f"{one_line(str(target.with_suffix('')))}: passages as labels, a file for each of {len(files):,} tracks"
    return f"{one_line(str(target))}: calm and tense passages"


def _with_file(table: pa.Table, rows: np.ndarray, plain: bool = False) -> np.ndarray:
    uris = table["uri"].take(pa.array(rows)).to_pylist()
    return rows[[bool(uri and (not plain or plain_entry(uri, Path("/"), absolute=True))) for uri in uris]]


def _n_gone(table: pa.Table, rows: np.ndarray) -> int:
    uris = table["uri"].take(pa.array(rows)).to_pylist()
    return sum(is_local(uri) and not os.path.exists(to_path(uri).expanduser()) for uri in uris)  # noqa: PTH110


def _target(output: str) -> Path:
    target = Path(output).expanduser()
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"--out {one_line(output)} must end in .m3u8, .m3u, .jsonl or .nsp",
            ".m3u8 is for players, .m3u for servers, .jsonl for programs, .nsp for Navidrome",
        )
    if not target.parent.is_dir():
        raise InputError(f"folder {one_line(str(target.parent))} for --out does not exist", "make it first")
    return target


def _write(content: str | bytes, target: Path) -> None:
    """Write the file atomically."""
    with replacing(target) as file:
        file.write(content if isinstance(content, bytes) else content.encode())


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
    if "mood" in where.casefold() and "mood" in table.column_names and table.num_rows < standing.FEWEST:
        return f"{nothing}; there are moods in a catalog of {standing.FEWEST} tracks or more"
    loose = len(choose(table, where)) if certain else 0
    return f"{nothing} for sure ({loose:,} do by their predictions, without --sure)" if certain else nothing
