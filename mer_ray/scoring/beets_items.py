"""The items of a beets library: their values, and the tags of their files. The work of the plugin `beetsplug.mer_ray`.

Only that plugin imports this module, where there is beets.

Percentiles and moods compare an item with all items of the library that the same model has scored; they are computed
anew after every run. What a file was when it was scored stands in ``mer_ray_file`` (size and time of its last change)
and ``mer_ray_audio`` (a hash of its audio without its tags): other tags alone are no reason to score it again.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path
from typing import Any

import pyarrow as pa
from beets.library import Item, Library

from mer_ray.audio.packets import packets_digest
from mer_ray.config_checks import is_dimension
from mer_ray.errors import InputError, TrackError
from mer_ray.io.address import is_local, to_path, to_uri
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import files, predictor, standing
from mer_ray.scoring.catalog import state
from mer_ray.scoring.file_changes import has_same_audio
from mer_ray.scoring.scores_table import NESTED, read
from mer_ray.scoring.tagging import command as tagging
from mer_ray.scoring.tagging import fields
from mer_ray.scoring.tagging.log import Log, made_of

MODEL, FILE, AUDIO = "mer_ray_model", "mer_ray_file", "mer_ray_audio"
MEASURED = ("tempo", "key", "loudness", "true_peak")
SHORTEST_S = 1.0

Row = dict[str, Any]


@dataclass
class Work:
    """One run.

    Attributes:
        library: It changes at once, item by item.
        dimensions: Those that are fields of the library.
        log: The plugin's, with fields as in str.format: a line for each item, and for each that fails.
        pretend: Change nothing, and fill ``shown``.
        counts: What became of the items.
        shown: What a real run would do.
        to_write: Ids of the items that were asked for, and of others that have another mood than before.
    """

    library: Library
    dimensions: Sequence[str]
    log: Logger
    pretend: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    to_write: set[int] = field(default_factory=set)

    def score(self, items: Sequence[Item], model: str, force: bool = False, allow_partial: bool = False) -> None:
        """Score the items that have no values, or other audio than when they were scored; with ``force``, all.

        Raises MerRayError.
        """
        loaded = predictor.load(model)
        self._check(loaded.dimensions)
        todo = dict[str, list[Item]]()  # a library may have a file twice
        for item in self._there(items):
            why = "asked" if force else self._need(item)
            if why is None:
                self._same(item)
                self.counts["other"] += item.get(MODEL) != loaded.name
            elif self.pretend:
                self.counts["done"] += 1
                self.shown.append(f"{_named(item)} ({why})")
            else:
                todo.setdefault(to_uri(Path(_path(item)).absolute()), []).append(item)
        for found in files.scored(map(to_path, todo), loaded, SHORTEST_S, allow_partial):
            if isinstance(found, pa.Table):
                (row,) = _rows(found)
                audio = _audio(todo[row["uri"]][0])
                for item in todo[row["uri"]]:
                    self._apply(item, row, loaded.dimensions, audio)
                    self._done(item, row, loaded.dimensions)
            else:
                error, of_file = found["error"], todo[found["uri"]]
                message = error.message.replace("--allow-partial", "allow_partial: yes")
                self._failed(f"{message} ({error.reason})", len(of_file))
                for item in of_file:
                    if self._need(item) == "changed":  # its values are those of another audio
                        self._clear(item, {"mood", AUDIO})
                        item.store()
                        self.counts["cleared"] += 1

    def take(self, items: Sequence[Item], scores: str, force: bool = False) -> None:
        """Take values from a file of scores, for the items whose files it names; no audio is read.

        A file that has changed since it was scored fails, unless ``force``. Raises InputError.
        """
        table = read(scores, without=NESTED)
        dimensions = dimensions_of(table.schema, "scores")
        self._check(dimensions)
        made = made_of(scores)  # by `mer-ray tag`
        rows = dict[str, Row]()
        for row in _rows(table):
            if row["uri"] and is_local(row["uri"]):
                rows.setdefault(_real(row["uri"]), row)
        for item in self._there(items):
            row = rows.get(_real(_path(item)), {})
            if not row:
                self.counts["unknown"] += 1
                continue
            now = _version(state(to_uri(_path(item))))
            if not (force or row["size"] is None or _version(row) == now or has_same_audio(row, made)):
                self._failed(f"{_named(item)} has changed since it was scored")
                continue
            self.counts["unversioned"] += row["size"] is None
            self.counts["unmeasured"] += row["true_peak"] is None
            before = dict(item)
            self._apply(item, row, dimensions, item.get(AUDIO, "") if item.get(FILE) == now else "")
            item[FILE] = now
            if dict(item) == before:
                self._same(item)
            elif self.pretend:
                self.counts["done"] += 1
                self.shown.append(f"{_named(item)}: {_values(row, dimensions)}")
            else:
                self._done(item, row, dimensions)

    def compare(self) -> None:
        """Compute percentiles and moods of all items, each among those of its model."""
        groups = defaultdict[tuple[str, ...], list[Item]](list)
        for item in self.library.items():
            if item.get(MODEL):
                groups[item[MODEL], *self._known(item)].append(item)
        with self.library.transaction():
            for (_, *dimensions), items in groups.items():
                if not dimensions:
                    continue
                table = pa.table({d: pa.array([item[d] for item in items]) for d in dimensions})
                ranked = standing.Catalog([table], dimensions).added(table).drop_columns(dimensions)
                for item, row in zip(items, ranked.to_pylist(), strict=True):
                    mood = row.pop("mood", None)
                    values = {name: round(value, 1) for name, value in row.items()} | ({"mood": mood} if mood else {})
                    if {name: item.get(name) for name in (*values, "mood")} == {"mood": None} | values:
                        continue
                    if item.get("mood") != mood:
                        self.to_write.add(item.id)
                        _drop(item, "mood")
                    item.update(values)
                    item.store()

    def write(self, log: Path, replace_mood: bool = False) -> None:
        """Write the values of ``to_write`` into their files' tags, as `mer-ray tag` does; ``log`` undoes it.

        Raises MerRayError.
        """
        fields.require()
        items = [item for item in map(self.library.get_item, sorted(self.to_write)) if item is not None]
        if not items:
            return
        tally = tagging.Tally()
        with Log(log) as opened:
            for item in items:
                self._need(item)  # other tags may have been written since
                size, _, mtime = item.get(FILE, "").partition("-")
                row = {"uri": to_uri(_path(item)), "model": item[MODEL], "mood": item.get("mood")}
                row |= {"size": int(size or -1), "mtime_ms": int(mtime or -1), "sha256": None}
                dimensions = self._known(item)
                row |= {d: item[d] for d in dimensions}
                for _ in tagging.tag_rows([row], dimensions, opened, tally, replace_mood=replace_mood):
                    pass
                if tally.counts["changed"] > self.counts["written"]:
                    self.counts["written"] += 1
                    item[FILE], item.mtime = _version(state(row["uri"])), item.current_mtime()
                    item.store()
        self.counts["failed"] += tally.counts["failed"]
        self.counts["kept"] += tally.counts["kept"]

    def _there(self, items: Sequence[Item]) -> Iterator[Item]:
        """The items that have their file; the others are counted."""
        for item in items:
            if _version(state(to_uri(_path(item)))):
                yield item
            else:
                self.counts["gone"] += 1

    def _need(self, item: Item) -> str | None:
        """Why an item has to be scored; None if its values are those of its file."""
        if not item.get(FILE) or not item.get(MODEL):
            return "new"
        now = _version(state(to_uri(_path(item))))
        if now == item[FILE]:
            return None
        if item.get(AUDIO, "") != (_audio(item) or None):
            return "changed"
        if not self.pretend:
            item[FILE] = now
            item.store()
        return None

    def _apply(self, item: Item, row: Row, dimensions: Sequence[str], audio: str) -> None:
        self._clear(item, kept={f"{d}_percentile" for d in dimensions})
        values = {d: round(row[d], 6) for d in dimensions} | {name: row[name] for name in MEASURED}
        values["key"] = f"{row['key']} {row['mode']}" if row["key"] and row["mode"] else row["key"]
        values |= {MODEL: row["model"] or "unknown", FILE: _version(row)}
        item.update({name: value for name, value in values.items() if value is not None})
        item[AUDIO] = audio

    def _clear(self, item: Item, also: Set[str] = frozenset(), kept: Set[str] = frozenset()) -> None:
        ranks = {f"{d}_percentile" for d in self.dimensions}
        for name in ({*self.dimensions, *MEASURED, MODEL, FILE} | ranks | also) - kept:
            _drop(item, name)

    def _done(self, item: Item, row: Row, dimensions: Sequence[str]) -> None:
        item.store()
        self.to_write.add(item.id)
        self.counts["done"] += 1
        self.log.info("{}: {}", _named(item), _values(row, dimensions))

    def _same(self, item: Item) -> None:
        self.to_write.add(item.id)
        self.counts["same"] += 1

    def _failed(self, message: str, n: int = 1) -> None:
        self.counts["failed"] += n
        self.log.warning("{}", one_line(message))

    def _known(self, item: Item) -> list[str]:
        return [d for d in self.dimensions if isinstance(item.get(d), float)]

    def _check(self, dimensions: Sequence[str]) -> None:
        """Raises InputError where the dimensions of a model cannot be fields of items."""
        for name in dimensions:
            if name in Item._fields or name in (*MEASURED, "mood") or not is_dimension(name):
                raise InputError(
                    f"a dimension named {one_line(name, 40)}", "it cannot be a field: beets has one so named"
                )
        if missing := [name for name in dimensions if name not in self.dimensions]:
            raise InputError(
                f"the model's dimensions are {', '.join(dimensions)}",
                "in beets' settings, under mer_ray, write "
                f"dimensions: {' '.join(dict.fromkeys([*self.dimensions, *missing]))}",
            )


def _rows(table: pa.Table) -> Iterator[Row]:
    for piece in table.drop_columns([n for n in NESTED if n in table.column_names]).to_batches(10_000):
        yield from piece.to_pylist()


def _drop(item: Item, name: str) -> None:
    with suppress(KeyError):
        del item[name]


def _path(item: Item) -> str:
    return os.fsdecode(item.path)


def _named(item: Item) -> str:
    """An item for messages, on one line."""
    return one_line(_path(item), 300)


def _real(path: str) -> str:
    """A path with its links followed, so that two names of one file are equal."""
    return os.path.realpath(to_path(path).expanduser())


def _version(found: Row) -> str:
    return "" if found["size"] is None else f"{found['size']}-{found['mtime_ms']}"


def _audio(item: Item) -> str:
    """The hash of an item's audio; empty if it cannot be read."""
    try:
        return packets_digest(Path(_path(item)))
    except (OSError, TrackError):
        return ""


def _values(row: Row, dimensions: Sequence[str]) -> str:
    return ", ".join(f"{d} {row[d]:.3f}" for d in dimensions)
