"""Parquet tables as folders of shards, which are written atomically, read in pieces, and rewritten without a gap.

The name of a shard is a hash of its batch, so that a batch that is written again replaces itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from mer_ray.errors import WorkspaceError
from mer_ray.io.buckets import read_again, read_batches, unreachable
from mer_ray.io.identity import digest, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import LOGS, OF_DIMENSIONS, SCHEMAS, dimensions_of, features_schema, features_table
from mer_ray.io.store import Store


def shard_file(shard: str) -> str:
    """The name of the file that holds a shard."""
    return f"part-{digest(shard.encode())[:24]}.parquet"


LISTED_AGAIN = 3
"""How often a table is listed again because a shard of it was merged or replaced meanwhile."""


class Tables(Store):
    """A folder of tables, at a local path or in an object store (s3://, gs://)."""

    def append(self, table: str, rows: pa.Table, shard: str) -> str:
        """Add rows as one shard. ``shard`` names the batch: the same batch written twice is stored once.

        Returns the file's name.
        """
        name = shard_file(shard)
        # A dictionary of frames, whose numbers hardly repeat, takes eight times as long, and gigabytes for ten hours.
        self.write_table(rows, table, name, use_dictionary=not table.startswith(features_table("")))
        return name

    def write_table(self, rows: pa.Table, *parts: str, **options: Any) -> None:
        """Write a Parquet file atomically. options: of `pq.write_table`."""
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd", **options)
        self.write_bytes(sink.getvalue().to_pybytes(), *parts)

    def committed(self, table: str, shard: str) -> Ids:
        """The track_ids that `append` has written under this name."""
        name, found = shard_file(shard), Ids()
        if self.exists(table, name):
            path = self.path(table, name)
            try:
                rows = read_again(lambda: ds.dataset([path], None, "parquet", self.fs).to_table(["track_id"]))
            except (pa.ArrowException, OSError) as error:
                raise self._unreadable(table, [path], error) from error
            found.add(rows["track_id"])
        return found

    def merge(self, table: str, names: Sequence[str]) -> str:
        """Write these shards as one, then delete them. Returns its name, empty if they are left as they are.

        A kill leaves duplicated rows, which readers count once. What is gone (a `drop`) is not missed.
        """
        there = set(self.names(table))
        names = [name for name in names if name in there]
        if not names:
            return ""
        paths = [self.path(table, name) for name in names]
        try:
            rows = read_again(lambda: ds.dataset(paths, self._schema(table, paths), "parquet", self.fs).to_table())
        except FileNotFoundError:  # another process rewrites the table: they stay as they are
            return ""
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error
        merged = self.append(table, rows, "\n".join(names))
        for name in names:
            self.delete(table, name)
        return merged

    def schema(self, table: str) -> pa.Schema | None:
        """The table's schema, for the dimensions that it was stored with; None for features."""
        if table not in OF_DIMENSIONS:
            return SCHEMAS.get(table)
        return self._schema(table, [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")])

    def dimensions(self, table: str) -> tuple[str, ...]:
        """The dimensions of ``labels`` or ``scores``, in the order in which arrays hold them."""
        schema = self.schema(table)
        return () if schema is None else dimensions_of(schema, table)

    def _schema(self, table: str, paths: Sequence[str]) -> pa.Schema | None:
        if table not in OF_DIMENSIONS or not paths:
            return SCHEMAS.get(table)
        # A shard may be merged or replaced meanwhile; all shards have the same dimensions.
        stored = ds.dataset(paths[:1], None, "parquet", self.fs).schema
        return OF_DIMENSIONS[table][1](dimensions_of(stored, table))

    def append_rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add rows (dicts) to a table of `SCHEMAS`, the shard named by their ids. Returns the files' names."""
        if not rows:
            return []
        shard = "\n".join(f"{r.get('stage', '')} {r['track_id']} {r.get('at', '')} {r.get('title', '')}" for r in rows)
        return [self.append(table, pa.Table.from_pylist(list(rows), schema=self.schema(table)), shard)]

    def replace(self, table: str, shards: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        """Replace a whole table by shards of rows.

        The new shards are written before the old ones are deleted, so that readers, also after a kill, find every row.
        """
        new = {name for rows in shards for name in self.append_rows(table, rows)}
        for name in self.names(table):
            if name.endswith(".parquet") and name not in new:
                self.delete(table, name)

    def drop(self, table: str, ids: Collection[str], where: pc.Expression | None = None) -> int:
        """Delete the rows of these tracks, with ``where`` only those for which it holds. Returns their number."""
        wanted = pc.field("track_id").isin(pa.array(list(ids), pa.string()))
        wanted = wanted if where is None else wanted & where
        return self._rewrite(table, wanted, lambda rows: rows.filter(~wanted)) if ids else 0

    def exchange(self, table: str, ids: Collection[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rows of these tracks. Tracks in ``ids`` without a new row lose theirs.

        New rows are written before old ones are deleted, so that a kill loses none.
        """
        schema: pa.Schema = self.schema(table)
        new, wanted = pa.Table.from_pylist(list(rows), schema), pc.field("track_id").isin(list(ids))
        put = Ids()

        def exchanged(old: pa.Table) -> pa.Table:
            own = new.filter(pc.is_in(new["track_id"], old["track_id"].combine_chunks()))
            own = own.filter(pa.array(put.add(own["track_id"])))
            left = old.filter(~wanted)
            return pa.concat_tables([left, own], promote_options="default").select(schema.names)

        if ids:
            self._rewrite(table, wanted, exchanged, uuid.uuid4().hex)
            self.append_rows(table, [r for r in rows if not put.mask([r["track_id"]])[0]])

    def rename(self, table: str, ids: Mapping[str, str]) -> int:
        """Change the id of tracks' rows. Returns their number."""
        old, new = pa.array(list(ids), pa.string()), pa.array(list(ids.values()), pa.string())

        def renamed(rows: pa.Table) -> pa.Table:
            at = rows.schema.get_field_index("track_id")
            own = rows["track_id"]
            return rows.set_column(at, rows.field(at), pc.coalesce(new.take(pc.index_in(own, old)), own))

        return self._rewrite(table, pc.field("track_id").isin(old), renamed) if ids else 0

    def settle(self, table: str, there: Ids | None = None) -> set[str]:
        """Delete duplicated rows and, with ``there``, rows whose id is not in it. Returns these ids."""
        seen, twice, orphans = Ids(), set[str](), set[str]()
        for batch in self._scan(table, ["track_id"]):
            ids = batch["track_id"]
            twice.update(ids.filter(pa.array(~seen.add(ids))).to_pylist())
            if there is not None:
                orphans.update(ids.filter(pa.array(~there.mask(ids))).to_pylist())
        first = Ids()

        def once(rows: pa.Table) -> pa.Table:
            doubled = pc.is_in(rows["track_id"], pa.array(list(twice), pa.string())).to_numpy()
            return rows.filter(pa.array(~doubled | first.add(rows["track_id"])))

        if twice:
            wanted = pc.field("track_id").isin(pa.array(list(twice), pa.string()))
            self._rewrite(table, wanted, once, uuid.uuid4().hex)
        self.drop(table, orphans)
        return orphans

    def _rewrite(
        self, table: str, wanted: pc.Expression, change: Callable[[pa.Table], pa.Table], salt: str = ""
    ) -> int:
        """Change the shards that have rows for which ``wanted`` holds. Returns the number of these rows.

        A new shard is written before the old one is deleted: a kill leaves duplicated rows, which readers count once,
        and the next call changes the rest. salt: a new one for each call if a shard's change depends on the shards
        before it, so that the output of a killed call is not overwritten.
        """
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        if not paths:
            return 0
        try:
            rows_of = ds.dataset(paths, self._schema(table, paths), "parquet", self.fs)
            found = read_again(lambda: rows_of.to_table(["__filename"], wanted))
            for path in found["__filename"].unique().to_pylist():
                name = path.rpartition("/")[2]
                rows = change(read_again(partial(pq.read_table, path, filesystem=self.fs, partitioning=None)))
                if len(rows):
                    self.append(table, rows, "\n".join([salt + name, *rows["track_id"].to_pylist()]))
                self.delete(table, name)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error
        return len(found)

    def has(self, table: str) -> bool:
        """Whether the table has any shard."""
        return any(name.endswith(".parquet") for name in self.names(table))

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole table (empty, with its schema, if there is none). A track_id is unique, except in `LOGS`.

        Two processes that worked on the same ids can each have committed them, in shards of different names; their rows
        are equal, and the first one counts.
        """
        try:
            return self._read(table, columns)
        except FileNotFoundError:  # merged or replaced meanwhile
            return self._read(table, columns)

    def _read(self, table: str, columns: Sequence[str] | None) -> pa.Table:
        if not self.has(table):
            empty: pa.Table = SCHEMAS.get(table, features_schema(1)).empty_table()
            return empty.select(list(columns)) if columns else empty
        wanted = None if columns is None else list(dict.fromkeys([*columns, "track_id"]))
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        try:
            # With the schema, a column that an older version did not write is read as nulls.
            stored = ds.dataset(paths, self._schema(table, paths), "parquet", self.fs)
            rows = read_again(lambda: stored.to_table(columns=wanted))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error
        if table not in LOGS:
            ids = rows["track_id"].to_numpy(zero_copy_only=False)
            _, first = np.unique(ids, return_index=True)
            if len(first) < len(ids):
                rows = rows.take(np.sort(first))
        return rows if columns is None else rows.select(list(columns))

    def batches(self, table: str, columns: Sequence[str], rows: int = 50_000) -> Iterator[pa.Table]:
        """The rows of `read`, in its order, in pieces of ``rows`` to twice as many rows (the last one: fewer).

        Of the whole table, only the ids stay in memory, 8 bytes each.
        """
        wanted = list(dict.fromkeys([*columns, "track_id"]))
        seen, buffered = Ids(), 0
        piece: list[pa.RecordBatch] = []
        for batch in self._scan(table, wanted, rows):
            if table not in LOGS and not (new := seen.add(batch["track_id"])).all():
                batch = batch.filter(pa.array(new))
            piece.append(batch)
            buffered += len(batch)
            if buffered >= rows:
                yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))
                piece, buffered = [], 0
        if buffered:
            yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))

    def _scan(
        self, table: str, columns: Sequence[str], rows: int = 50_000, filter: pc.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The shards' rows, with duplicates and in their order, in batches of at most ``rows``.

        If shards are merged or replaced meanwhile, all rows come again.
        """
        for attempt in range(LISTED_AGAIN, -1, -1):
            try:
                yield from self._scan_once(table, columns, rows, filter)
                return
            except FileNotFoundError as error:
                if not attempt:
                    raise self._unreadable(table, [], error) from error

    def _scan_once(
        self, table: str, columns: Sequence[str], rows: int, filter: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        if not paths:
            return
        options = {"batch_size": rows, "batch_readahead": 2, "fragment_readahead": 2}
        try:
            shards = ds.dataset(paths, self._schema(table, paths), "parquet", self.fs)
            yield from read_batches(lambda: shards.to_batches(columns=list(columns), filter=filter, **options))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error

    def _unreadable(self, table: str, paths: Sequence[str], error: Exception) -> WorkspaceError:
        if not self.is_local and not isinstance(error, pa.ArrowInvalid):
            return unreachable(self.uri, error)
        return WorkspaceError(
            f"table {table} in {self.uri} cannot be read ({one_line(str(error), 200)})",
            f"remove {next(filter(self._is_damaged, paths), 'the damaged shard')} and run its stage again",
        )

    def _is_damaged(self, path: str) -> bool:
        try:
            pq.read_table(path, filesystem=self.fs)
        except (pa.ArrowException, OSError):
            return True
        return False

    def require(self, table: str, stage: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table that must have rows. Raises WorkspaceError with the stage that makes it."""
        rows = self.read(table, columns)
        if rows.num_rows == 0:
            raise WorkspaceError(f"workspace {self.uri} has no {table}", f"run `mer-ray {stage}` on it first")
        return rows

    def ids(self, table: str) -> Ids:
        """The track_ids that a table has, 8 bytes each."""
        found = Ids()
        for batch in self._scan(table, ["track_id"]):
            found.add(batch["track_id"])
        return found

    def find(self, table: str, ids: Any, columns: Sequence[str]) -> pa.Table:
        """The rows of these tracks (a list or a column of ids) that the table has."""
        schema = pa.schema([(self.schema(table) or features_schema(1)).field(c) for c in columns])
        wanted = pc.field("track_id").isin(
            pa.array(ids, pa.string()) if isinstance(ids, list) else ids.combine_chunks()
        )
        return pa.Table.from_batches(list(self._scan(table, columns, filter=wanted)) if len(ids) else [], schema)

    def distinct(self, table: str, column: str) -> set[str]:
        """The distinct values of a text column."""
        values: set[str] = set()
        for batch in self._scan(table, [column]):
            values.update(batch[column].unique().to_pylist())
        return values
