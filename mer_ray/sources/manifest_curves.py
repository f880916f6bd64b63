"""Labels over time, in tables beside a manifest: delimited text, JSON or Parquet.

Two layouts, which the header tells apart:

- A row a point: the song's id (``track_id``, ``song_id``, ``musicId``, ...), its time (``time_s``, ``time``,
  ``frameTime``; in milliseconds where the name says so, as in ``time_ms``), and a column for each dimension, under the
  names of `vad_names` (PMEmo: Zhang et al. 2018, ICMR, 135-142).
- A row a song: its id, and a column for each time, as in ``sample_15000ms`` or ``15.5s``; the file's name is that of
  the dimension, as in ``arousal.csv`` (DEAM: Aljanaki et al. 2017, PLoS ONE 12(3), e0173392; emoMusic).

A cell without a number (empty, NA, nan) is no label: songs end at different times. What makes a song's curve doubtful
(times that repeat or go backwards, a song in two rows) costs that song; what makes a table doubtful is an InputError.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.errors import InputError, TrackError
from mer_ray.io.identity import one_line
from mer_ray.io.track import Curve
from mer_ray.io.vad_names import dimension, key
from mer_ray.sources import manifest_columns, manifest_labels
from mer_ray.sources.manifest_labels import Labels, Scale
from mer_ray.sources.manifest_table import Table, open_table

WANTED = (
    "give a row a point, with columns such as track_id, time_s, valence, arousal; or a row a song, with columns such as"
    " sample_15000ms, in a file that is named like its dimension, as in arousal.csv"
)
LONGEST_STEP_S = 60.0
"""A larger median step between points is taken for milliseconds that nothing calls so."""
LONGEST_SONG_S = 4 * 3_600.0
"""So is a later time."""
_SECONDS = ("time", "times", "frametime", "timesec", "timeseconds", "timestamp", "timestamps", "seconds", "sec", "t")
_MILLISECONDS = ("timems", "frametimems", "timemsec", "timemilliseconds", "timestampms", "milliseconds", "msec", "ms")
_AT = re.compile(r"(?P<what>[a-z]+[_\s]*)?(?P<time>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)", re.IGNORECASE)
_OF_FILES = re.compile(r"cont(?:inuous)?|dynamic|averaged|per[_\s-]?(?:second|song)", re.IGNORECASE)
"""Words in the names of files that say nothing of the dimension."""


_EMPTY = ("", None)


@dataclass
class Curves:
    """The labels over time of several tables, in 0..1.

    Attributes:
        of: Song's id → its curves.
        errors: Song's id → why its curves cannot be used.
        notes: Remarks for the user.
    """

    of: dict[str, tuple[Curve, ...]] = field(default_factory=dict)
    errors: dict[str, TrackError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def songs(self) -> set[str]:
        """The ids of all songs, usable or not."""
        return self.of.keys() | self.errors.keys()


def read(files: Sequence[str | Path], dimensions: Sequence[str], scale: Scale, setting: str) -> Curves:
    """The curves of all tables.

    Args:
        files: The tables.
        dimensions: Those to read.
        scale: The lowest and highest possible value, which become 0 and 1.
        setting: The name of the setting that declares the scale, for messages.

    Raises:
        InputError: With the file, and row where there is one: it cannot be read, has neither layout, holds values
            outside the scale, or times in another unit than its header says.
    """
    found, points = Curves(), _Points()
    for name in files:
        file = Path(name).expanduser()
        called = f"table of curves {file}"
        table = open_table(file, lambda names: _n_known(names, dimensions), "table of curves")
        labels = Labels(scale, tuple(dimensions), setting=setting)
        layout = _layout(called, file, table, dimensions)
        before = len(points.of)
        for n, row in table.rows():
            where = f"{file.name}, row {n}"
            if isinstance(row, TrackError):
                raise InputError(f"{called}: row {n} {row.message}")
            layout(_Reader(row, called, where, n, points, labels, found.errors))
        labels.check(called)
        counts = ", ".join(f"{d} {n:,}" for d, n in zip(dimensions, labels.n_values, strict=True) if n)
        if not counts and not found.errors:
            raise InputError(f"{called} holds no value", WANTED)
        low, high = scale
        new = len(points.of) - before
        said = f"labels over time on the scale {low:g}..{high:g}: {counts or 0} ({new:,} new songs)"
        found.notes += [f"{file.name}: {line}" for line in (said, *labels.doubts())]
    points.check_unit()
    for song, own in points.of.items():
        if song not in found.errors:
            found.of[song] = tuple(
                Curve(d, tuple(times), tuple(_rescaled(values, scale)))
                for d in dimensions
                if d in own
                for times, values in [own[d]]
            )
    return found


def rated(curves: Sequence[Curve]) -> dict[str, float]:
    """Dimension → the mean of its curve: the rating of a track that has no other."""
    return {curve.dimension: float(np.mean(curve.value)) for curve in curves}


def _rescaled(values: Sequence[float], scale: Scale) -> list[float]:
    low, high = scale
    return list(np.clip((np.asarray(values) - low) / (high - low), 0.0, 1.0).tolist())


@dataclass
class _Points:
    """Song's id → dimension → its times and values; and (song, dimension) → the table and row that it begins in."""

    of: dict[str, dict[str, tuple[array[float], array[float]]]] = field(default_factory=dict)
    begins: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def check_unit(self) -> None:
        """Raises InputError where the times can hardly be seconds."""
        for song, own in self.of.items():
            for name, (times, _) in own.items():
                steps = np.diff(np.asarray(times))
                problem = ""
                if len(steps) and np.median(steps) >= LONGEST_STEP_S:
                    problem = f"are {np.median(steps):g} s apart"
                elif times[-1] > LONGEST_SONG_S:
                    problem = f"reach to {times[-1]:g} s"
                if problem:
                    raise InputError(
                        f"{self.begins[song, name][1]}: the points of song {one_line(song, 60)} {problem}",
                        "if these times are milliseconds, name the column time_ms",
                    )


@dataclass
class _Reader:
    """One row of a table: adds its points, or the error of its song."""

    cells: Sequence[Any]
    table: str
    where: str
    n: int
    points: _Points
    labels: Labels
    errors: dict[str, TrackError]

    def cell(self, at: int) -> Any:
        return self.cells[at] if at < len(self.cells) else None

    def song(self, at: int) -> str:
        song = manifest_columns.identifier(self.cell(at))
        if song is None:
            raise InputError(f"{self.where}: it names no song", "give the id of the song that the labels belong to")
        return song

    def number(self, at: int, what: str) -> float | None:
        try:
            return manifest_labels.value(self.cell(at))
        except (TypeError, ValueError, OverflowError) as error:
            raise _bad(f"{what} is not a number: {one_line(repr(self.cell(at)), 40)}") from error

    def fail(self, song: str, error: TrackError) -> None:
        self.errors.setdefault(
            song, TrackError(error.reason, f"{self.where}: song {one_line(song, 60)}: {error.message}")
        )

    def add(self, song: str, index: int, time_s: float, value: float) -> None:
        """A point of dimension ``index``. Raises TrackError where it is not later than the one before it."""
        name, labels = self.labels.dimensions[index], self.labels
        labels.add_value(self.n, index, value)
        times, values = self.points.of.setdefault(song, {}).setdefault(name, (array("d"), array("d")))
        table, first = self.points.begins.setdefault((song, name), (self.table, self.where))
        if table != self.table:
            raise _bad(f"its {name} stands in {first} as well")
        if time_s < 0:
            raise _bad(f"the time {time_s:g} s is before the start")
        if times and time_s <= times[-1]:
            what = "stands twice" if time_s == times[-1] else f"comes after {times[-1]:g} s"
            raise _bad(f"the time {time_s:g} s of {name} {what} (the song begins in {first})")
        times.append(time_s)
        values.append(value)


def _bad(message: str) -> TrackError:
    return TrackError("bad_curve", message)


def _n_known(names: Sequence[str], dimensions: Sequence[str]) -> int:
    known = {*manifest_columns.IDS, *_SECONDS, *_MILLISECONDS}
    return sum(
        key(n) in known or _AT.fullmatch(n.strip()) is not None or dimension(n, dimensions) is not None for n in names
    )


def _layout(called: str, file: Path, table: Table, dimensions: Sequence[str]) -> Callable[[_Reader], None]:
    """How the rows of a table are read. Raises InputError where its header has neither layout."""
    keys = [key(name) for name in table.names]
    song = _only(called, "a song's id", [i for i, k in enumerate(keys) if k in manifest_columns.IDS], table.names)
    if song is None:
        raise _neither(called, table, "no column holds the songs' ids")
    times = [i for i, k in enumerate(keys) if k in (*_SECONDS, *_MILLISECONDS)]
    wide = {i: m for i, name in enumerate(table.names) if (m := _AT.fullmatch(name.strip()))}
    if (time := _only(called, "the time", times, table.names)) is None and wide:
        name = dimension(_OF_FILES.sub("", file.stem), dimensions)
        if name is None:
            raise InputError(
                f"{called}: its name is that of no dimension in collect.dimensions ({', '.join(dimensions)})", WANTED
            )
        if len(what := {(m["what"] or "").casefold().strip("_ ") for m in wide.values()}) > 1:
            both = " and ".join(sorted(f"{w}..." for w in what))
            raise InputError(f"{called}: its columns at times are of several kinds: {both}", "give a table of one kind")
        at = {i: float(m["time"]) / (1_000 if m["unit"].lower() == "ms" else 1) for i, m in wide.items()}
        if list(at.values()) != sorted(set(at.values())):
            raise InputError(f"{called}: the times in its header are not in ascending order")
        return lambda row: _of_song(row, song, at, list(dimensions).index(name))
    if time is None:
        raise _neither(called, table, "no column holds times")
    per_s = 1_000.0 if keys[time] in _MILLISECONDS else 1.0
    meant = [(i, d) for i, name in enumerate(table.names) if (d := dimension(name, dimensions)) is not None]
    if not meant:
        raise _neither(called, table, f"no column is of collect.dimensions ({', '.join(dimensions)})")
    columns = {}
    for index, d in enumerate(dimensions):
        if (chosen := _only(called, d, [i for i, m in meant if m == d], table.names)) is not None:
            columns[index] = chosen
    return lambda row: _of_point(row, song, time, per_s, columns)


def _only(called: str, what: str, found: Sequence[int], names: Sequence[str]) -> int | None:
    if len(found) > 1:
        both = " and ".join(one_line(names[i], 40) for i in found)
        raise InputError(f"{called}: {len(found)} columns could be {what}: {both}", "rename or remove all but one")
    return found[0] if found else None


def _neither(called: str, table: Table, why: str) -> InputError:
    names = ", ".join(table.names[:12]) + (", ..." if len(table.names) > 12 else "")
    return InputError(f"{called}: {why}; its columns are {one_line(names, 200) or 'none'}", WANTED)


def _of_point(row: _Reader, song_at: int, time_at: int, per_s: float, columns: dict[int, int]) -> None:
    song = row.song(song_at)
    try:
        time = row.number(time_at, "the time")
        if time is None:
            raise _bad("it has no time")
        for index, at in columns.items():
            value = row.number(at, row.labels.dimensions[index])
            if value is not None:
                row.add(song, index, time / per_s, value)
    except TrackError as error:
        row.fail(song, error)


def _of_song(row: _Reader, song_at: int, at: dict[int, float], index: int) -> None:
    song, name = row.song(song_at), row.labels.dimensions[index]
    try:
        if (before := row.points.begins.get((song, name))) is not None:
            raise _bad(f"its {name} stands in {before[1]} as well")
        cells, n = row.cells, len(row.cells)
        for i, time_s in at.items():
            if i >= n or cells[i] in _EMPTY:  # most cells, since the table is as wide as the longest song is long
                continue
            value = row.number(i, name)
            if value is not None:
                row.add(song, index, time_s, value)
    except TrackError as error:
        row.fail(song, error)
