"""``mer-ray duplicates``: groups of a catalog's tracks that are the same file or the same recording.

Nothing is deleted: the groups are listed or written, with a suggestion of what to keep.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.markup import escape

from mer_ray.errors import InputError
from mer_ray.io import cells
from mer_ray.io.address import is_local, located, to_path
from mer_ray.io.identity import one_line
from mer_ray.io.replace import replacing
from mer_ray.scoring.playlist import json_lines
from mer_ray.scoring.same_recording import comparable, same_recordings
from mer_ray.scoring.scores_table import check_spares, clock, name, read

SUFFIXES = (".csv", ".parquet", ".jsonl")
IDENTICAL, SAME = "identical file", "same recording"
LOSSLESS = (".flac", ".wav", ".aiff", ".aif", ".wv", ".ape", ".tta", ".w64", ".caf", ".au")
SCHEMA = pa.schema(
    [
        ("group", pa.int64()),
        ("track_id", pa.string()),
        ("kind", pa.string()),
        ("distance", pa.float64()),
        ("keep", pa.bool_()),
        ("artist", pa.string()),
        ("title", pa.string()),
        ("duration_s", pa.float64()),
        ("size", pa.int64()),
        ("uri", pa.string()),
    ]
)
"""A row for each track of a group. kind: whether another file of the group has the same bytes. distance: to the nearest
other of the group, 0..1. keep: true for one of the group, see `best`."""
_SHOWN = 20  # groups on a terminal


def groups(table: pa.Table) -> pa.Table:
    """The groups of two tracks or more, as rows of `SCHEMA`, in the order of their first tracks. table: scores."""
    n, parent = table.num_rows, np.arange(table.num_rows)
    distance, identical = np.full(n, np.inf), np.zeros(n, bool)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    def join(a: int, b: int, far: float) -> None:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
        distance[[a, b]] = np.minimum(distance[[a, b]], far)

    seen: dict[str, int] = {}
    for i, digest in enumerate(table["sha256"].to_pylist()):
        if digest and (first := seen.setdefault(digest, i)) != i:
            join(first, i, 0.0)
            identical[[first, i]] = True
    for pair in same_recordings(table):
        join(*pair)
    members: dict[int, list[int]] = {}
    for i in np.flatnonzero(np.isfinite(distance)).tolist():
        members.setdefault(root(i), []).append(i)
    rows = []
    columns = ["track_id", "artist", "title", "duration_s", "size", "uri", "decoded_share"]
    for number, of_group in enumerate(members.values(), 1):
        tracks = table.select(columns).take(pa.array(of_group)).to_pylist()
        kept = best(tracks)
        for j, (i, track) in enumerate(zip(of_group, tracks, strict=True)):
            kind = IDENTICAL if identical[i] else SAME
            rows.append({**track, "group": number, "kind": kind, "distance": float(distance[i]), "keep": j == kept})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def best(tracks: Sequence[dict[str, Any]]) -> int:
    """Which to keep, by what is known without listening: the position of one.

    Undamaged before damaged, then longer by a second or more, then of a lossless format by its name, then larger, then
    the first. An MP3 that was stored as FLAC passes for lossless.
    """
    longest = max((t["duration_s"] or 0.0) for t in tracks)

    def rank(track: dict[str, Any]) -> tuple[bool, bool, bool, int]:
        whole = track["decoded_share"] is None or track["decoded_share"] > 0.99
        path = to_path(track["uri"]) if is_local(track["uri"] or "") else PurePosixPath(track["uri"])
        is_long = (track["duration_s"] or 0.0) > longest - 1
        return whole, is_long, path.suffix.lower() in LOSSLESS, track["size"] or 0

    return max(range(len(tracks)), key=lambda j: (rank(tracks[j]), -j))


def run(scores: str, output: str | None = None) -> list[str]:
    """List the groups, or write them. Returns lines for the user."""
    from mer_ray.console import out

    target = None if output is None else Path(output).expanduser()
    if target is not None and target.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {one_line(str(output))} must end in .csv, .parquet or .jsonl")
    if target is not None and not target.parent.is_dir():
        raise InputError(f"folder {one_line(str(target.parent))} for --out does not exist", "make it first")
    if target is not None:
        check_spares(target, "--out")
    table = read(scores)
    found = groups(table)
    n = len(found["group"].unique())
    more = found.num_rows - n
    lines = [f"{more:,} of {table.num_rows:,} tracks repeat another one, in {n:,} group{'s' * (n != 1)}"]
    lines += _unknown(table)
    if target is not None:
        with replacing(target) as written:
            written.write(_encoded(found, target.suffix.lower()))
        return [f"{one_line(str(target))}: {lines[0]}", *lines[1:]]
    for number, tracks in enumerate(_by_group(found)[:_SHOWN], 1):
        out.print(f"[bold]{number}[/bold]")
        for track in tracks:
            mark = "keep?" if track["keep"] else ""
            said = f"{track['kind']}, {track['distance']:.2f}" if track["kind"] == SAME else track["kind"]
            said = f"  {mark:5} {said:20} {clock(track['duration_s']):>6}  "
            file = escape(located(track["uri"]))
            out.print(f"{said}{escape(name(track['artist'], track['title']))}  [dim]{file}[/dim]")
    if n > _SHOWN:
        lines.append(f"these are the first {_SHOWN} groups: --out FILE.csv writes all")
    return lines


def _by_group(found: pa.Table) -> list[list[dict[str, Any]]]:
    out: dict[int, list[dict[str, Any]]] = {}
    for row in found.to_pylist():
        out.setdefault(row["group"], []).append(row)
    return list(out.values())


def _unknown(table: pa.Table) -> list[str]:
    """What could not be compared."""
    by_sound, by_bytes = comparable(table), table["sha256"].is_valid().to_numpy()
    only_bytes, nothing = int((by_bytes & ~by_sound).sum()), int((~by_bytes & ~by_sound).sum())
    models = len(table["model"].unique())
    lines = []
    if only_bytes:
        lines.append(
            f"of {only_bytes:,} tracks only the bytes are compared: SCORES have no sound of them (a sheet has none), "
            "or they are too short or too even"
        )
    if nothing:
        lines.append(
            f"{nothing:,} tracks are compared with nothing: SCORES have neither sound and outline nor a hash of their "
            "bytes, as of those that were scored from features"
        )
    if models > 1:
        lines.append(f"{models} models are in SCORES: tracks of different ones are compared by their bytes only")
    return lines


def _encoded(found: pa.Table, suffix: str) -> bytes:
    if suffix == ".jsonl":
        return json_lines(found, range(found.num_rows)).encode()
    sink = io.BytesIO()
    if suffix == ".parquet":
        pq.write_table(found, sink)
        return sink.getvalue()
    pacsv.write_csv(cells.guarded(found), sink)
    return cells.encoded(sink.getvalue().decode())
