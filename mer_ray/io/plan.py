"""The plan of a stage: its rows, sorted once over the whole catalog and cut into blocks for workers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.io import scratch
from mer_ray.io.buckets import read_again
from mer_ray.io.store import MARKER, TEMPORARY, Store

LONGEST_FIRST = "SELECT * FROM work ORDER BY planned DESC, track_id"
BY_TURN = "SELECT * FROM work ORDER BY turn, track_id"
ROWS = 10_000
PACKED_BYTES = 1 << 20
_CONFIG: dict[str, Any] = {"threads": 1, "memory_limit": "64MB", "enable_external_access": False}


SHARES = 4
"""A worker's share of what is left is cut into so many blocks, so that all workers end at about the same time."""
LEAST = 0.01
"""No block is smaller than this part of a worker's share of all work: ending evenly is not worth more blocks."""


@dataclass(frozen=True)
class Sizes:
    """How much planned work is handed out together, in the unit of the column ``planned``.

    Attributes:
        smallest: Of a block; smaller ones would cost more than they balance.
        part: After so much, a worker commits a shard: this is what its death can cost.
        largest: Of a block; a longer row is a block of its own.
    """

    smallest: float
    part: float
    largest: float


class Work:
    """The rows that a stage has to work on, sorted. On disk (DuckDB): memory does not grow with their number.

    Attributes:
        rows: How many.
        planned: The sum of their column ``planned``.
    """

    def __init__(self, pieces: Iterable[pa.Table], order: str = LONGEST_FIRST) -> None:
        """pieces: tables of one schema, with the columns ``track_id`` and ``planned`` (> 0); for `BY_TURN` ``turn``."""
        import duckdb

        self.rows, self.planned, self._order = 0, 0.0, order
        self._schema = pa.schema([])
        with ExitStack() as stack:
            folder = stack.enter_context(scratch.folder())
            self._database = stack.enter_context(duckdb.connect(f"{folder}/plan.duckdb", config=_CONFIG))
            self._add(pieces)
            self._resources = stack.pop_all()

    def _add(self, pieces: Iterable[pa.Table]) -> None:
        for piece in filter(len, pieces):
            self._database.register("piece", piece)
            if not self.rows:
                self._schema = piece.schema
                self._database.execute("CREATE TABLE work AS SELECT * FROM piece LIMIT 0")
            self._database.execute("INSERT INTO work SELECT * FROM piece")
            self._database.unregister("piece")
            pa.default_memory_pool().release_unused()  # Arrow keeps what a piece took, and the next one asks for more
            self.rows += len(piece)
            self.planned += float(np.sum(piece["planned"].to_numpy()))

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def blocks(self, workers: int, sizes: Sizes) -> Iterator[pa.Table]:
        """The rows in order, in blocks that shrink with what is left, so that all workers end at about the same time.

        Guided self-scheduling (Polychronopoulos & Kuck 1987), between ``sizes.smallest`` and ``sizes.largest``.
        """
        if not self.rows:
            return
        smallest = min(sizes.largest, max(sizes.smallest, LEAST * self.planned / workers))
        left = self.planned
        rows = self._schema.empty_table()
        batches = iter(self._database.sql(self._order).to_arrow_reader(ROWS))
        while True:
            target = min(sizes.largest, max(smallest, left / (SHARES * workers)))
            while (end := _end(rows, target)) == len(rows) and (batch := next(batches, None)) is not None:
                rows = pa.concat_tables([rows, pa.Table.from_batches([batch]).cast(self._schema)])
            if not len(rows):
                return
            block = rows.slice(0, end).combine_chunks()
            left -= float(np.sum(block["planned"].to_numpy()))
            rows = rows.slice(end)
            yield block


def _end(rows: pa.Table, target: float) -> int:
    """How many rows, at least one of them, come nearest to so much planned work."""
    planned = rows["planned"].to_numpy()
    middles = np.cumsum(planned) - planned / 2
    return min(len(rows), max(1, int(np.searchsorted(middles, target, side="right"))))


class Turns:
    """Counts rows by a key, so that rows of different keys can take turns: see `BY_TURN`."""

    def __init__(self) -> None:
        self._next: dict[Any, int] = {}

    def of(self, keys: pa.ChunkedArray | pa.Array) -> pa.Array:
        """How many rows with the same key came before each row, int64."""
        turns = np.zeros(len(keys), np.int64)
        for at, key in enumerate(keys.to_pylist()):
            turns[at] = self._next[key] = self._next.get(key, -1) + 1
        return pa.array(turns)


def parts(block: pa.Table, part: float) -> list[pa.Table]:
    """A block's rows in the pieces that a worker commits, none of them empty: the same ones each time."""
    pieces = []
    while len(block):
        end = _end(block, part)
        pieces.append(block.slice(0, end).combine_chunks())
        block = block.slice(end)
    return pieces


class PlanFile:
    """Blocks in a Parquet file of the workspace, a row each, which Ray's workers read; and what of them is done.

    Attributes:
        rows: Of each block.
    """

    def __init__(self, store: Store, blocks: Iterable[pa.Table], key: str = "") -> None:
        """key: a part of its name."""
        self._store, self._name = store, f"{MARKER}-{key}-plan-{uuid.uuid4().hex}.parquet"
        self.path = store.path(TEMPORARY, self._name)
        self._done: dict[int, int] = {}
        self._parts: dict[int, set[int]] = {}
        self.rows: list[int] = []
        if store.is_local:
            store.fs.create_dir(store.path(TEMPORARY), recursive=True)
        with store.fs.open_output_stream(self.path, compression=None) as sink, pq.ParquetWriter(sink, _PACKED) as file:
            packed: list[bytes] = []
            for block in blocks:
                packed.append(pack(block))
                self.rows.append(len(block))
                if sum(map(len, packed)) >= PACKED_BYTES:
                    self._write(file, packed)
                    packed = []
            if packed:
                self._write(file, packed)

    def _write(self, file: pq.ParquetWriter, packed: list[bytes]) -> None:
        first = len(self.rows) - len(packed)
        file.write_table(pa.table([range(first, len(self.rows)), packed], _PACKED))

    def received(self, number: int, part: int, rows: int) -> bool:
        """Record that a part of a block is done. Returns whether it is the first time."""
        known = self._parts.setdefault(number, set())
        if (number in self._done and self._done[number] >= self.rows[number]) or part in known:
            return False
        known.add(part)
        self._done[number] = self._done.get(number, 0) + rows
        if self._done[number] >= self.rows[number]:
            del self._parts[number]
        return True

    def unfinished(self, part: float) -> Iterator[tuple[int, pa.Table]]:
        """The rows that are not done, with the number of their block. part: as in `parts`."""
        if sum(self._done.values()) == sum(self.rows):
            return
        for number, packed in read(self._store, self.path):
            if self._done.get(number, 0) < self.rows[number]:
                known = self._parts.get(number, set())
                left = [p for i, p in enumerate(parts(unpack(packed), part)) if i not in known]
                yield number, pa.concat_tables(left).combine_chunks()

    def delete(self) -> None:
        """Remove the file."""
        self._store.delete(TEMPORARY, self._name)


_PACKED = pa.schema({"number": pa.int64(), "block": pa.binary()})


def read(store: Store, path: str) -> Iterator[tuple[int, bytes]]:
    """(number, packed rows) of each block in a plan's file, in order."""
    with closing(pq.ParquetFile(path, filesystem=store.fs)) as file:
        for group in range(file.num_row_groups):
            table = read_again(partial(file.read_row_group, group))
            yield from zip(table["number"].to_pylist(), table["block"].to_pylist(), strict=True)


def pack(table: pa.Table) -> bytes:
    """A table as bytes (Arrow's stream format)."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: bytes) -> pa.Table:
    """The table that `pack` was given."""
    return pa.ipc.open_stream(packed).read_all()
