"""The contract between the stages: Parquet tables in a workspace.

A table is a folder of Parquet shards. A shard appears whole or not at all, and its name follows from what is in it, so
a batch that is written again replaces itself. A stage asks which ids a table has, works on the rest, and appends.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
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
from mer_ray.io.failures import Lost, latest
from mer_ray.io.identity import digest, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import LOGS, SCHEMAS, features_schema, features_table
from mer_ray.io.store import Storage

COMPUTED = "features.json"
"""In ``settings``: the features that were last computed from audio."""


_behind = timedelta()


def keep_up(at: datetime) -> None:
    """Sets `now` right in a process whose clock is behind that of another one, which said just now that it is ``at``.

    Failures count from a moment of the driver's clock on. One that is ahead does no harm.
    """
    global _behind
    _behind = max(timedelta(), at - datetime.now(UTC))


def now() -> datetime:
    """The present, in UTC, to the millisecond."""
    moment = datetime.now(UTC) + _behind
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def failure(
    stage: str, track_id: str, reason: str, message: str, transient: bool = False, attempts: int = 1
) -> dict[str, Any]:
    """A row of ``failures``; the message is made fit for one line."""
    return {
        "stage": stage,
        "track_id": track_id,
        "reason": reason,
        "message": one_line(message),
        "transient": transient,
        "attempts": attempts,
        "at": now(),
    }


class Workspace(Storage):
    """A folder of tables, at a local path or in an object store (s3://, gs://)."""

    # tables --------------------------------------------------------------------------------------------------------

    def append(self, table: str, rows: pa.Table, shard: str) -> str:
        """Add rows as one shard. ``shard`` names the batch: the same batch written twice is there once.

        Answers the file's name.
        """
        sink = pa.BufferOutputStream()
        # Frames hardly repeat a number: to look for repeats takes eight times as long, and gigabytes for ten hours.
        repeats = not table.startswith(features_table(""))
        pq.write_table(rows, sink, compression="zstd", use_dictionary=repeats)
        name = f"part-{digest(shard.encode())[:24]}.parquet"
        self.write_bytes(sink.getvalue().to_pybytes(), table, name)
        return name

    def append_rows(self, table: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add rows (dicts) to a table of `SCHEMAS`, the shard named by their ids. Answers the files' names."""
        if not rows:
            return []
        shard = "\n".join(f"{r.get('stage', '')} {r['track_id']} {r.get('at', '')} {r.get('title', '')}" for r in rows)
        return [self.append(table, pa.Table.from_pylist(list(rows), schema=SCHEMAS[table]), shard)]

    def replace(self, table: str, shards: Iterable[Sequence[Mapping[str, Any]]]) -> None:
        """Make a table anew from shards of rows, for one that follows from something else as a whole.

        The new shards come before the old ones go: a reader in between, or after a kill, finds every row.
        """
        new = {name for rows in shards for name in self.append_rows(table, rows)}
        for name in self.names(table):
            if name.endswith(".parquet") and name not in new:
                self.delete(table, name)

    def drop(self, table: str, ids: Collection[str], where: pc.Expression | None = None) -> int:
        """Take rows out: of these tracks and, with ``where``, only those for which it holds. How many they were."""
        wanted = pc.field("track_id").isin(pa.array(list(ids), pa.string()))
        wanted = wanted if where is None else wanted & where
        return self._rewrite(table, wanted, lambda rows: rows.filter(~wanted)) if ids else 0

    def exchange(self, table: str, ids: Collection[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows in the places of those of these tracks. Of tracks in ``ids`` without a new row, the old one goes.

        At no moment are both gone, so that what a new row is compared with outlives a kill.
        """
        new, wanted = pa.Table.from_pylist(list(rows), SCHEMAS[table]), pc.field("track_id").isin(list(ids))
        put = Ids()

        def exchanged(old: pa.Table) -> pa.Table:
            own = new.filter(pc.is_in(new["track_id"], old["track_id"].combine_chunks()))
            own = own.filter(pa.array(put.add(own["track_id"])))
            left = old.filter(~wanted)
            return pa.concat_tables([left, own], promote_options="default").select(SCHEMAS[table].names)

        if ids:
            self._rewrite(table, wanted, exchanged, uuid.uuid4().hex)
            self.append_rows(table, [r for r in rows if not put.mask([r["track_id"]])[0]])

    def rename(self, table: str, ids: Mapping[str, str]) -> int:
        """Give the rows of tracks another id. How many they were."""
        old, new = pa.array(list(ids), pa.string()), pa.array(list(ids.values()), pa.string())

        def renamed(rows: pa.Table) -> pa.Table:
            at = rows.schema.get_field_index("track_id")
            own = rows["track_id"]
            return rows.set_column(at, rows.field(at), pc.coalesce(new.take(pc.index_in(own, old)), own))

        return self._rewrite(table, pc.field("track_id").isin(old), renamed) if ids else 0

    def settle(self, table: str, there: Ids | None = None) -> set[str]:
        """Take out rows whose id comes again and, with ``there``, those of ids that are not in it: these ids."""
        seen, twice, strays = Ids(), set[str](), set[str]()
        for batch in self._scan(table, ["track_id"]):
            ids = batch["track_id"]
            twice.update(ids.filter(pa.array(~seen.add(ids))).to_pylist())
            if there is not None:
                strays.update(ids.filter(pa.array(~there.mask(ids))).to_pylist())
        first = Ids()

        def once(rows: pa.Table) -> pa.Table:
            doubled = pc.is_in(rows["track_id"], pa.array(list(twice), pa.string())).to_numpy()
            return rows.filter(pa.array(~doubled | first.add(rows["track_id"])))

        if twice:
            wanted = pc.field("track_id").isin(pa.array(list(twice), pa.string()))
            self._rewrite(table, wanted, once, uuid.uuid4().hex)
        self.drop(table, strays)
        return strays

    def _rewrite(
        self, table: str, wanted: pc.Expression, change: Callable[[pa.Table], pa.Table], salt: str = ""
    ) -> int:
        """Change the shards that have rows for which ``wanted`` holds. How many rows those are.

        A shard is written anew before the old one goes: a kill in between leaves rows twice, which readers count once,
        and the next call changes what is left. salt: a new one for each call where a shard's change hangs on the shards
        before it: what a killed call has written must then not be written over.
        """
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        if not paths:
            return 0
        try:
            rows_of = ds.dataset(paths, SCHEMAS.get(table), "parquet", self.fs)
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
        """The whole table (empty, with its schema, if there is none). No track_id twice, but in `LOGS`.

        Two processes that worked on the same ids at once can each have committed them, in shards of different names;
        their rows are equal, and the first one counts.
        """
        if not self.has(table):
            empty: pa.Table = SCHEMAS.get(table, features_schema(1)).empty_table()
            return empty.select(list(columns)) if columns else empty
        wanted = None if columns is None else list(dict.fromkeys([*columns, "track_id"]))
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        try:
            # With the schema given, a column that an older version did not write reads as nulls.
            stored = ds.dataset(paths, SCHEMAS.get(table), "parquet", self.fs)
            rows = read_again(lambda: stored.to_table(columns=wanted))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error
        if table not in LOGS:
            ids = rows["track_id"].to_numpy(zero_copy_only=False)
            _, first = np.unique(ids, return_index=True)
            if len(first) < len(ids):
                rows = rows.take(np.sort(first))
        return rows if columns is None else rows.select(list(columns))

    def batches(self, table: str, columns: Sequence[str], rows: int = 50_000) -> Iterator[pa.Table]:
        """What `read` gives, in its order and in pieces of ``rows`` to twice as many rows (the last one: fewer).

        Of the whole table, only its ids are held in memory, 8 bytes each.
        """
        wanted = list(dict.fromkeys([*columns, "track_id"]))
        seen, held = Ids(), 0
        piece: list[pa.RecordBatch] = []
        for batch in self._scan(table, wanted, rows):
            if table not in LOGS and not (new := seen.add(batch["track_id"])).all():
                batch = batch.filter(pa.array(new))
            piece.append(batch)
            held += len(batch)
            if held >= rows:
                yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))
                piece, held = [], 0
        if held:
            yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))

    def _scan(
        self, table: str, columns: Sequence[str], rows: int = 50_000, filter: pc.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The shards' rows, as they are and in their order, in batches of at most ``rows``."""
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        if not paths:
            return
        options = {"batch_size": rows, "batch_readahead": 2, "fragment_readahead": 2}
        try:
            shards = ds.dataset(paths, SCHEMAS.get(table), "parquet", self.fs)
            yield from read_batches(lambda: shards.to_batches(columns=list(columns), filter=filter, **options))
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
        """Read a table that must have rows. Raises WorkspaceError naming the stage that makes it."""
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
        """The rows of these tracks (a list or a column of ids), as far as the table has them."""
        schema = pa.schema([SCHEMAS.get(table, features_schema(1)).field(c) for c in columns])
        wanted = pc.field("track_id").isin(
            pa.array(ids, pa.string()) if isinstance(ids, list) else ids.combine_chunks()
        )
        return pa.Table.from_batches(list(self._scan(table, columns, filter=wanted)) if len(ids) else [], schema)

    def distinct(self, table: str, column: str) -> set[str]:
        """The different values of a column of texts."""
        values: set[str] = set()
        for batch in self._scan(table, [column]):
            values.update(batch[column].unique().to_pylist())
        return values

    # failures ------------------------------------------------------------------------------------------------------

    def failures(self, stage: str | None = None) -> list[dict[str, Any]]:
        """What is lost now: the last failure per stage and track, without those that a later try mended.

        stage: ``extract`` means all its features, ``extract:mfcc`` that one. Failures under settings that a stage has
        since given up do not count.
        """
        rows = self._lost(self._stages(stage), SCHEMAS["failures"].names).sort_by("at")
        return list(rows.to_pylist())

    def reasons(self, stage: str) -> Counter[str]:
        """How many rows `failures` has for each reason."""
        rows = self._lost(self._stages(stage), ["stage", "track_id", "at", "reason"])
        return Counter({str(r["values"]): int(r["counts"]) for r in rows["reason"].value_counts().to_pylist()})

    def n_lost(self, stage: str) -> int:
        """How many rows `failures` has."""
        return self.reasons(stage).total()

    def lost(self, stage: str, again: Sequence[str] = ()) -> Lost:
        """The failures of exactly this stage (``extract``, ``extract:mfcc``), without their messages.

        again: reasons that need not be for good any more.
        """
        rows = self._lost([stage], ["stage", "track_id", "at", "transient", "attempts", "reason"]).combine_chunks()
        ids = rows["track_id"].chunk(0) if len(rows) else pa.array([], pa.string())
        may_pass = pc.or_(rows["transient"], pc.is_in(rows["reason"], pa.array(again, pa.string())))
        return Lost(ids, may_pass.to_numpy(), rows["attempts"].to_numpy())

    def _stages(self, stage: str | None) -> list[str]:
        """The names under which the stage has failures."""
        names = self.distinct("failures", "stage")
        return sorted(n for n in names if stage is None or stage in (n, n.split(":")[0]))

    def _lost(self, stages: Sequence[str], columns: Sequence[str]) -> pa.Table:
        schema = pa.schema([SCHEMAS["failures"].field(c) for c in columns])
        wanted = pc.field("stage").isin(list(stages))
        pieces = list(self._scan("failures", columns, filter=wanted)) if stages else []
        rows = latest(pa.Table.from_batches(pieces, schema))
        kept = []
        for stage in stages:
            recorded = self.read_json("settings", _settings_file(stage)) or {}
            since = datetime.fromisoformat(recorded.get("since", "1970-01-01T00:00:00+00:00"))
            own = rows.filter((pc.field("stage") == stage) & (pc.field("at") >= pa.scalar(since, rows["at"].type)))
            if stage == "train":
                kept.append(self._untrained(own))
                continue
            mended = own["track_id"] if (tables := _made_by(self, stage)) else own["track_id"][:0]
            for table in tables:
                there = self.find(table, mended, ["track_id"])["track_id"]
                if stage == "extract":  # the file was decoded then, but not fit for this feature
                    there = pa.chunked_array([*there.chunks, *self._lost_since(own, table).chunks], pa.string())
                mended = mended.filter(pc.is_in(mended, there))
            kept.append(own.filter(pc.invert(pc.is_in(own["track_id"], mended))))
        return pa.concat_tables(kept) if kept else schema.empty_table()

    def _lost_since(self, undecoded: pa.Table, table: str) -> pa.ChunkedArray:
        """The tracks of these rows of ``failures`` that have a later one for that feature alone."""
        stage = pc.field("stage") == f"extract:{table.removeprefix('features/')}"
        wanted = stage & pc.field("track_id").isin(undecoded["track_id"].combine_chunks())
        schema = pa.schema([SCHEMAS["failures"].field(c) for c in ("stage", "track_id", "at")])
        rows = latest(pa.Table.from_batches(list(self._scan("failures", schema.names, filter=wanted)), schema))
        both = rows.join(undecoded.select(["track_id", "at"]), "track_id", right_suffix="_before", join_type="inner")
        return both.filter(pc.field("at") > pc.field("at_before"))["track_id"]

    def _untrained(self, rows: pa.Table) -> pa.Table:
        """Failures of trials whose model (or baselines) has not been written since."""

        def since(name: str, at: datetime) -> bool:
            feature = name.removeprefix("baselines-")
            made = ("runs", name, "model.json") if feature == name else ("baselines", f"{feature}.json")
            written = self._asked(lambda: self.fs.get_file_info(self.path(*made))).mtime
            return written is None or written < at

        trials = zip(rows["track_id"].to_pylist(), rows["at"].to_pylist(), strict=True)
        return rows.filter(pa.array([since(name, at) for name, at in trials], pa.bool_()))

    # settings ------------------------------------------------------------------------------------------------------

    def claim(
        self, stage: str, table: str, settings: Mapping[str, Any], restart: bool = False, binding: bool = True
    ) -> None:
        """Record the settings that a table is made with; refuse to go on with others.

        Failures from before the record do not count any more; ``restart`` makes it anew, for a stage that meets all of
        its failures again. binding: False where none of the rows that are there follows from what differs.
        Raises WorkspaceError naming each setting that differs, with both values.
        """
        settings = json.loads(json.dumps(settings, default=str))
        recorded = (self.read_json("settings", _settings_file(stage)) or {}).get("settings")
        if binding and recorded is not None and recorded != settings and self.has(table):
            changes = [
                f"{stage}.{key} was {recorded.get(key)!r}, now {settings.get(key)!r}"
                for key in sorted({*recorded, *settings})
                if recorded.get(key) != settings.get(key)
            ]
            raise WorkspaceError(
                f"workspace {self.uri} was made with other settings ({'; '.join(changes)})",
                f"choose another --workspace, or remove {self.path(table)} and the tables made from it",
            )
        if recorded != settings or restart:
            self.write_json({"settings": settings, "since": now().isoformat()}, "settings", _settings_file(stage))


def _settings_file(stage: str) -> str:
    return f"{stage.replace(':', '-')}.json"


def _made_by(workspace: Workspace, stage: str) -> list[str]:
    """The tables that a stage (``extract:mfcc``, ``label``, ...) makes: a track that they all have is not lost."""
    name, _, feature = stage.partition(":")
    if name == "extract":
        # A file that could not be decoded is mended once every feature that was last asked for has it.
        claimed = [n[len("extract-") : -len(".json")] for n in workspace.names("settings") if n.startswith("extract-")]
        last = (workspace.read_json("settings", COMPUTED) or {}).get("features")
        asked = last or claimed or workspace.names("features")
        return [features_table(f) for f in ([feature] if feature else asked)]
    return {"label": ["labels"], "acquire": ["audio"], "score": ["scores"]}.get(name, [])
