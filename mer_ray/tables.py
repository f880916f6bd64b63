"""The contract between the stages: Parquet tables in a workspace.

A table is a folder of Parquet shards. A shard appears whole or not at all, and its name follows from what is in it, so
a batch that is written again replaces itself. A stage asks which ids a table has, works on the rest, and appends.
"""

from __future__ import annotations

import json
import os
import posixpath
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from mer_ray.errors import WorkspaceError
from mer_ray.identity import digest, one_line

DIMENSIONS = ("valence", "arousal", "dominance")
"""The three targets, in the order in which arrays hold them; each in 0..1."""


def _field(name: str, kind: pa.DataType, unit: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit})


def _vad(prefix: str = "", unit: str = "0..1", nullable: bool = False) -> list[pa.Field]:
    return [_field(f"{prefix}{d}", pa.float64(), unit, nullable) for d in DIMENSIONS]


TAG = pa.struct([pa.field("name", pa.string()), pa.field("weight", pa.float64())])
EVIDENCE = pa.struct(
    [pa.field("tag", pa.string()), pa.field("term", pa.string()), pa.field("weight", pa.float64())]
    + [pa.field(d, pa.float64()) for d in DIMENSIONS]
)
TRIED = pa.struct([pa.field(name, pa.string()) for name in ("provider", "reason", "message")])
GIVEN = pa.struct([pa.field(d, pa.float64()) for d in DIMENSIONS])

SCHEMAS: dict[str, pa.Schema] = {
    "tracks": pa.schema(
        [
            _field("track_id", pa.string(), "hash of the normalised artist and title, or of the file's content"),
            _field("artist", pa.string(), "as the source spells it; may be empty"),
            _field("title", pa.string(), "as the source spells it"),
            _field("album", pa.string(), "as the source spells it", True),
            _field("composer", pa.string(), "as the source spells it", True),
            _field("mbid", pa.string(), "MusicBrainz recording id", True),
            _field("spotify_id", pa.string(), "Spotify track id", True),
            _field("duration_s", pa.float64(), "s, as the source says; null where it does not", True),
            _field("uri", pa.string(), "path, URL or demo cue of the audio, where the source knows it", True),
            _field("tags", pa.list_(TAG), "weight > 0, relative"),
            _field("given", GIVEN, "label that the source brings, rescaled to 0..1", True),
            _field("source", pa.string(), "lastfm | manifest | folder | demo"),
            _field("fetched_at", pa.timestamp("ms", "UTC"), "UTC"),
        ]
    ),
    "merged": pa.schema(
        [
            _field("track_id", pa.string(), "the track that was kept, as in tracks"),
            _field("artist", pa.string(), "as the source spells it"),
            _field("title", pa.string(), "as the source spells it"),
            _field("mbid", pa.string(), "MusicBrainz recording id", True),
            _field("rule", pa.string(), "why it is the same: spelling | remaster | film | guest, or several with +"),
        ]
    ),
    "labels": pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            *_vad(),
            _field("evidence", pa.list_(EVIDENCE), "the terms that the label is the weighted mean of; 0..1"),
            _field("coverage", pa.float64(), "matched tag weight / tag weight, 0..1; null for given labels", True),
            _field("n_matched", pa.int32(), "terms; 0 for given labels"),
            *_vad("se_", "standard error of the weighted mean, 0..1; null where one term tells nothing of it", True),
            _field("lexicon", pa.string(), "name and content hash of the lexicon, or 'manifest'"),
        ]
    ),
    "audio": pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            _field("uri", pa.string(), "path of the audio file"),
            _field("provider", pa.string(), "file | folder | http | savify | demo, or the scheme of an object's URI"),
            _field("sha256", pa.string(), "of the file's bytes"),
            _field("duration_s", pa.float64(), "s"),
            _field("sample_rate", pa.int32(), "Hz"),
            _field("channels", pa.int32(), "count"),
            _field("tried", pa.list_(TRIED), "the providers that failed before this one, and why"),
            _field("spotify_id", pa.string(), "the Spotify track that was chosen; null where none was asked for", True),
        ]
    ),
    "scores": pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks, or a hash of the file's address"),
            _field("artist", pa.string(), "as the source spells it; may be empty"),
            _field("title", pa.string(), "as the source spells it"),
            _field("album", pa.string(), "as the source spells it", True),
            _field("uri", pa.string(), "path of the audio file"),
            _field("duration_s", pa.float64(), "s, of what was scored"),
            *_vad(),
            *_vad("lower_", "lower end of the 90 % prediction interval, 0..1"),
            *_vad("upper_", "upper end of the 90 % prediction interval, 0..1"),
            _field("in_distribution", pa.bool_(), "whether it is like the training tracks; null if unknown", True),
            _field("novelty", pa.float64(), "how unlike it is: above 1 is out of distribution; null if unknown", True),
            _field("curve", pa.list_(pa.list_(pa.float32(), 3)), "V, A, D around i + 1/2 hops from the start; 0..1"),
            _field("curve_hop_s", pa.float64(), "s between two points of the curve"),
            _field("sound", pa.list_(pa.float32()), "what it sounds like: neighbours are alike; null if unknown", True),
            _field("waveform", pa.list_(pa.uint8()), "highest |sample| in equal stretches, 255 is full scale", True),
            _field("model", pa.string(), "name and fingerprint of the model"),
        ]
    ),
    "failures": pa.schema(
        [
            _field("stage", pa.string(), "the stage, and after a colon the feature if only that one failed"),
            _field("track_id", pa.string(), "as in tracks, or a hash of the row's place where it has none"),
            _field("reason", pa.string(), "short code"),
            _field("message", pa.string(), "what happened, naming the file, row or address"),
            _field("transient", pa.bool_(), "true: the next run tries again"),
            _field("attempts", pa.int32(), "tries so far"),
            _field("at", pa.timestamp("ms", "UTC"), "UTC"),
        ]
    ),
}

LOGS = ("failures", "merged")
"""Tables that can have several rows of one track."""


def features_table(name: str) -> str:
    """The table of one feature's frames."""
    return f"features/{name}"


def features_schema(n_dims: int) -> pa.Schema:
    """Schema of ``features/NAME``: one row a track, ``frames`` of shape (n_frames, n_dims) in float32."""
    return pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            _field("frames", pa.list_(pa.list_(pa.float32(), n_dims)), "n_frames x n_dims, in the feature's own unit"),
            _field("hop_s", pa.float64(), "s between the starts of two frames"),
            _field("fingerprint", pa.string(), "of the extractor, its parameters and weights"),
        ]
    )


def ragged_column(arrays: Sequence[np.ndarray], n_dims: int) -> pa.Array:
    """A column of matrices of shapes (n_i, n_dims) as ``list<fixed_size_list<float32>>``, made without a loop."""
    lengths = np.array([a.shape[0] for a in arrays], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.concatenate(arrays, axis=0) if len(arrays) else np.zeros((0, n_dims))
    values = pa.array(np.ascontiguousarray(flat, dtype=np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.FixedSizeListArray.from_arrays(values, n_dims))


def ragged_arrays(column: pa.ChunkedArray | pa.Array) -> list[np.ndarray]:
    """The inverse of `ragged_column`: a list of float32 matrices, views where Arrow allows."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    out: list[np.ndarray] = []
    for chunk in chunks:
        inner = chunk.flatten()
        n_dims = chunk.type.value_type.list_size
        flat = inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_dims)
        lengths = pc.list_value_length(chunk).to_numpy(zero_copy_only=False).astype(np.int64)
        out.extend(np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else [])
    return out


def now() -> datetime:
    """The present, in UTC, to the millisecond."""
    moment = datetime.now(UTC)
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


class Workspace:
    """A folder of tables, at a local path or at any URI that pyarrow can open (s3://, gs://, file://).

    Cheap to make and to send to another process: it holds only its URI and an open filesystem handle.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        text = os.fspath(uri)
        self.is_local = "://" not in text or text.startswith("file://")
        try:
            if "://" in text:
                self.fs, self.root = pyarrow.fs.FileSystem.from_uri(text)
            else:
                self.fs, self.root = pyarrow.fs.LocalFileSystem(), str(Path(text).expanduser().resolve())
        except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
            raise WorkspaceError(f"cannot open workspace {one_line(text)}: {one_line(str(error))}") from error
        if self.is_local and Path(self.root).is_file():
            raise WorkspaceError(f"workspace {self.root} is a file", "give a folder, or one that is to be made")
        self.uri = self.root if self.is_local else text

    def __reduce__(self) -> tuple[type[Workspace], tuple[str]]:
        return type(self), (self.uri,)

    def path(self, *parts: str) -> str:
        """A path inside the workspace, for ``self.fs``."""
        return posixpath.join(self.root, *parts)

    # files ---------------------------------------------------------------------------------------------------------

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder at that place."""
        return bool(self.fs.get_file_info(self.path(*parts)).type != pyarrow.fs.FileType.NotFound)

    def names(self, *parts: str) -> list[str]:
        """The base names in a folder, sorted; empty if there is none. Hidden and temporary names are left out."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = (info.base_name for info in self.fs.get_file_info(selector))
        return sorted(n for n in names if not n.startswith((".", "_")))

    def read_bytes(self, *parts: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""
        # As it is: by default, pyarrow unpacks and packs by the ending of the name.
        with self.fs.open_input_stream(self.path(*parts), compression=None) as stream:
            return bytes(stream.read())

    def write_bytes(self, data: bytes, *parts: str) -> None:
        """Write a file so that a reader meets the old one or the whole new one, never a part."""
        target = self.path(*parts)
        if not self.is_local:  # object stores show an object only once it is complete
            try:
                with self.fs.open_output_stream(target, compression=None) as stream:
                    stream.write(data)
            except OSError as error:
                raise _unwritable(target, error) from error
            return
        temporary = Path(self.path(".tmp", uuid.uuid4().hex))
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _unwritable(target, error) from error

    def read_json(self, *parts: str) -> Any:
        """A JSON file's value, or None if there is no such file."""
        if not self.exists(*parts):
            return None
        try:
            return json.loads(self.read_bytes(*parts))
        except ValueError as error:
            raise WorkspaceError(
                f"{self.path(*parts)} is not JSON ({error})", "remove it and run the stage again"
            ) from error

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n", *parts)

    def sweep(self, older_than_s: float = 86_400.0) -> None:
        """Remove temporary files that killed processes left behind."""
        folder = Path(self.path(".tmp"))
        if self.is_local and folder.is_dir():
            for file in folder.iterdir():
                with suppress(FileNotFoundError):  # another process sweeps, or has just finished its file
                    if time.time() - file.stat().st_mtime > older_than_s:
                        file.unlink()

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
                self.fs.delete_file(self.path(table, name))

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
            rows = ds.dataset(paths, SCHEMAS.get(table), "parquet", self.fs).to_table(columns=wanted)
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

        Of the whole table, only its ids are held in memory.
        """
        wanted = list(dict.fromkeys([*columns, "track_id"]))
        paths = [self.path(table, n) for n in self.names(table) if n.endswith(".parquet")]
        seen: set[str] = set()
        piece: list[pa.RecordBatch] = []
        try:
            found = ds.dataset(paths, SCHEMAS.get(table), "parquet", self.fs).to_batches(
                columns=wanted, batch_size=rows, batch_readahead=2, fragment_readahead=2
            )
            for batch in found if paths else ():
                ids = batch["track_id"].to_pylist() if table not in LOGS else []
                if seen.isdisjoint(ids) and len(set(ids)) == len(ids):
                    seen.update(ids)
                else:
                    batch = batch.filter(pa.array(_first_seen(ids, seen), pa.bool_()))
                piece.append(batch)
                if sum(len(b) for b in piece) >= rows:
                    yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))
                    piece = []
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(table, paths, error) from error
        if piece:
            yield pa.Table.from_batches(piece).combine_chunks().select(list(columns))

    def _unreadable(self, table: str, paths: Sequence[str], error: Exception) -> WorkspaceError:
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

    def discard(self, table: str) -> None:
        """Remove a table's shards."""
        if self.exists(table):
            self.fs.delete_dir(self.path(table))

    def remove(self) -> None:
        """Remove the workspace and all that is in it."""
        self.fs.delete_dir(self.root)

    def ids(self, table: str) -> set[str]:
        """The track_ids that a table has."""
        return set(self.read(table, ["track_id"])["track_id"].to_pylist())

    # failures ------------------------------------------------------------------------------------------------------

    def failures(self, stage: str | None = None) -> list[dict[str, Any]]:
        """What is lost now: the last failure per stage and track, without those that a later try mended.

        stage: ``extract`` means all its features, ``extract:mfcc`` that one. Failures under settings that a stage has
        since given up do not count.
        """
        latest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sorted(self.read("failures").to_pylist(), key=lambda r: r["at"]):
            if stage is None or stage in (row["stage"], row["stage"].split(":")[0]):
                latest[row["stage"], row["track_id"]] = row
        made: dict[str, set[str]] = {}
        since: dict[str, datetime] = {}
        for name in {stage for stage, _ in latest}:
            made[name] = _made_by(self, name)
            recorded = self.read_json("settings", _settings_file(name)) or {}
            since[name] = datetime.fromisoformat(recorded.get("since", "1970-01-01T00:00:00+00:00"))
        return [r for (name, i), r in latest.items() if i not in made[name] and r["at"] >= since[name]]

    def pending(
        self, stage: str, ids: Iterable[str], done: set[str], retry_failed: bool = False
    ) -> tuple[list[str], dict[str, int]]:
        """Which of ``ids`` are still to do, in their order, and the tries that the failed ones among them had.

        Not to do: what is done, and what failed for good, unless ``retry_failed``. Failures that may pass (time-outs)
        are always tried again.
        """
        lost = {r["track_id"]: r for r in self.failures() if r["stage"] == stage}
        todo = [i for i in ids if i not in done and (retry_failed or i not in lost or lost[i]["transient"])]
        return todo, {i: lost[i]["attempts"] for i in todo if i in lost}

    # settings ------------------------------------------------------------------------------------------------------

    def claim(self, stage: str, table: str, settings: Mapping[str, Any], restart: bool = False) -> None:
        """Record the settings that a table is made with; refuse to go on with others.

        Failures from before the record do not count any more; ``restart`` makes it anew, for a stage that meets all of
        its failures again. Raises WorkspaceError naming each setting that differs, with both values.
        """
        settings = json.loads(json.dumps(settings, default=str))
        recorded = (self.read_json("settings", _settings_file(stage)) or {}).get("settings")
        if recorded is not None and recorded != settings and self.has(table):
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


def _first_seen(ids: Sequence[str], seen: set[str]) -> list[bool]:
    """Which of the ids are new; they go into ``seen``."""
    out = []
    for i in ids:
        before = len(seen)
        seen.add(i)
        out.append(len(seen) > before)
    return out


def _unwritable(place: str, error: OSError) -> WorkspaceError:
    said = error.strerror or one_line(str(error), 200)
    return WorkspaceError(
        f"cannot write {place}: {said}", "free some space or choose another --workspace, then run again"
    )


def _settings_file(stage: str) -> str:
    return f"{stage.replace(':', '-')}.json"


def _made_by(workspace: Workspace, stage: str) -> set[str]:
    """The ids that a stage (``extract:mfcc``, ``label``, ...) has made."""
    name, _, feature = stage.partition(":")
    tables = {"label": ["labels"], "acquire": ["audio"], "score": ["scores"]}.get(name, [])
    if name == "extract":
        # A file that could not be decoded is mended once every feature that was ever asked for has it.
        asked = [n[len("extract-") : -len(".json")] for n in workspace.names("settings") if n.startswith("extract-")]
        tables = [features_table(f) for f in ([feature] if feature else asked or workspace.names("features"))]
    return set.intersection(*(workspace.ids(t) for t in tables)) if tables else set()
