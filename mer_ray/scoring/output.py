"""Output of a catalog's scores: one file, replaced atomically, or a growing folder of shards."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mer_ray.errors import InputError, MerRayError, WorkspaceError, hint
from mer_ray.io import address, cells, scratch
from mer_ray.io.address import parted, to_path
from mer_ray.io.identity import one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, catalog_scores_schema, features_table, scores_schema
from mer_ray.io.store import TEMPORARY, Store, check_lasting
from mer_ray.io.tables import Workspace
from mer_ray.scoring import file_changes, other_models, rollups, scores_table, sheet, standing
from mer_ray.scoring.catalog import Catalog
from mer_ray.scoring.tagging import log

FORMATS = scores_table.SUFFIXES
PIECE_ROWS = 5_000
"""Rows of a larger file, with their curves, that are in memory together."""
SORTED_ROWS = 200_000
"""Up to so many rows, a file is sorted by URI and gets roll-ups: both need all rows in memory."""
_T = TypeVar("_T")
Stamp = tuple[int | None, int | None]
"""See `Store.stamp`."""


class _State(NamedTuple):
    """The file's stamp, and the shards beside it."""

    stamp: Stamp
    shards: list[str]


class Output:
    """The file or folder of one model's scores, on this machine or in an object store.

    A file has its working folder ``FILE.parts`` beside it; a folder is itself the workspace: scores/, failures/,
    rollups.csv.

    Several commands may score into one file at the same time, for instance a job that is submitted twice. Each merges
    its shards with the file's present rows, and repeats that if the file changes before it is replaced. A change after
    the last check is overwritten: impossible among commands of one machine, but possible during a rename in a network
    folder or an upload to an object store.
    """

    def __init__(self, target: str) -> None:
        """Raises InputError where the target makes no sense, or a store refuses."""
        if address.has_credentials(target):
            raise InputError(f"--out {address.shown(target)} {address.EXPOSED}", address.INSTEAD)
        remote = not address.is_local(target)
        if remote:
            folder, self.name = parted(target)
            self.shown = address.shown(target)
        else:
            path = to_path(target).expanduser()
            folder, self.name, self.shown = str(path.absolute().parent), path.absolute().name, str(path)
            check_lasting(str(path.absolute()), "--out")
            if not path.absolute().parent.is_dir():
                raise InputError(f"folder {path.parent} for --out does not exist", "make it first")
        try:
            self.beside = Store(folder)
            there = not self.name or self.beside.is_folder(self.name)
            is_file = not there and self.beside.exists(self.name)
            suffix = PurePosixPath(self.name).suffix.lower()
            if (suffix or is_file) and suffix not in FORMATS and not there:
                raise InputError(
                    f"--out {self.shown} must end in {' or '.join(FORMATS)}, or be a folder",
                    "a folder has no suffix",
                )
            self.is_file = bool(suffix) and not there
            working = [f"{self.name}.parts"] if self.is_file else [self.name] if self.name else []
            self.workspace = Workspace(self.beside.at(*working))
        except WorkspaceError as error:
            raise InputError(f"--out: {error.message}", error.hint) from error
        self.uri = self.beside.at(self.name) if self.name else self.beside.uri
        self.model = self.note = ""
        self.dimensions: tuple[str, ...] = DIMENSIONS
        name = PurePosixPath(self.name)
        beside = ".csv" if name.suffix.lower() == sheet.SUFFIX else name.suffix
        self._failures, self._rollups = f"{name.stem}.failures{beside}", f"{name.stem}.rollups.csv"
        self._failed_then: Stamp = (None, None)
        self._void = Ids()

    def open(
        self,
        model: str,
        dimensions: tuple[str, ...] = DIMENSIONS,
        catalog: Catalog | None = None,
        keep_gone: bool = False,
    ) -> Workspace:
        """The workspace to work in, without what a killed run of another model has left there.

        Args:
            model: Its id; ``dimensions``: what it predicts.
            catalog: What it will score; without one, other models' scores are not looked at for what would be lost.
            keep_gone: Whether scores of files that are gone stay.

        Raises InputError where a file is none, or another model's scores would be lost: see `other_models`.
        """
        self.model, self.dimensions, work = model, dimensions, self.workspace
        others = work.distinct("scores", "model") - {model}
        if not self.is_file:
            other_models.refuse(others, self.shown, model)
        else:
            other_models.beside(self.beside, self.name, model)
            self._failed_then = self.beside.stamp(self._failures)
            if self.beside.exists(self.name):
                self.note = other_models.in_file(self.uri, self.shown, model, catalog, keep_gone)
            if others:
                other_models.in_parts(work, others, f"{self.shown}.parts", model, catalog, keep_gone)
        work.sweep()
        work.claim("score", "scores", {"model": self.model}, restart=True)
        return work

    def done(self) -> Ids:
        """The ids that this model has scored."""
        return self._settled(lambda _: self._ids()) if self.is_file else self.workspace.ids("scores")

    def follow(self, catalog: Catalog, keep_gone: bool = False) -> file_changes.Void:
        """Delete the scores of files that have changed or are gone."""
        there = self.workspace.batches("scores", file_changes.COLUMNS)
        scores = chain(there, self._mine(file_changes.COLUMNS)) if self.is_file else there
        void = file_changes.find(scores, catalog.windows(PIECE_ROWS), catalog.folders, keep_gone, log.made_of(self.uri))
        if void.ids:
            self._void = void.ids
            for name in self.workspace.names("features"):
                self.workspace.drop(features_table(name), void.ids)
            self.workspace.drop("scores", void.ids)
        return void

    def check_room(self, n: int) -> None:
        """Raises InputError where the file cannot hold n rows."""
        if self.name.lower().endswith(sheet.SUFFIX):
            sheet.check_room(n, self.shown)

    def abandon(self) -> None:
        """Remove the working folder if it has nothing to resume from."""
        if self.is_file:
            self._clear([])

    def finish(self, failed: list[dict[str, Any]], n: int) -> str:
        """Write the file (if anything is scored), the roll-ups and the failures beside it.

        n: number of scores, including earlier commands'. Returns the location of the failures. Raises InputError where
        something cannot be written.
        """
        if not self.is_file:
            if n:
                self._roll(self.workspace, "rollups.csv", n)
            return self._sibling("failures")
        failed = failed + self._failed_in_other_commands(failed)
        if failed:
            rows = pa.Table.from_pylist(failed, schema=SCHEMAS["failures"])
            self._write(iter([rows]), SCHEMAS["failures"], self.beside, self._failures)
        else:
            self.beside.delete(self._failures)
        merged: list[str] = []
        if self._void and not n:
            self.beside.delete(self.name)
        if n:
            merged = self._settled(self._merge)
            self._roll(self.beside, self._rollups, scores_table.count(self.uri))
        self._clear(merged)
        return self._sibling(self._failures)

    def _settled(self, work: Callable[[_State], _T]) -> _T:
        """The result of ``work``, repeated if it failed because another command finished at the same time."""
        while True:
            was = _State(self.beside.stamp(self.name), self.workspace.names("scores"))
            try:
                return work(was)
            except MerRayError:
                here = set(self.workspace.names("scores"))
                if self.beside.stamp(self.name) == was.stamp and here.issuperset(was.shards):
                    raise

    def _ids(self) -> Ids:
        ids = self.workspace.ids("scores")  # before the file: another command may move shards from here into it
        for piece in self._mine(["track_id"]):
            ids.add(piece["track_id"])
        return ids

    def _mine(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """This model's rows of the present file, if there is one, piece by piece."""
        if self.beside.exists(self.name):
            for piece in scores_table.pieces(self.uri, [*{*columns, "track_id", "model"}], self.dimensions):
                own = piece.filter(pc.equal(piece["model"], self.model))
                yield own.filter(pa.array(~self._void.mask(own["track_id"]))).select(columns)

    def _merge(self, was: _State) -> list[str]:
        """Merge the present shards into the file; returns their names. Shards that appear meanwhile stay."""
        if was.shards or self._void:
            n, rows = len(self._ids()), self._rows()
            self.check_room(n)
            if n <= SORTED_ROWS:
                whole = standing.added(pa.concat_tables([scores_schema(self.dimensions).empty_table(), *rows]))
                rows = iter([whole.sort_by([("uri", "ascending"), ("track_id", "ascending")])])
            else:
                catalog = standing.Catalog(self._distinct(["track_id", *self.dimensions]), self.dimensions)
                rows = map(catalog.added, rows)
            self._write(rows, catalog_scores_schema(self.dimensions), self.beside, self.name, was.stamp)
        return was.shards

    def _rows(self) -> Iterator[pa.Table]:
        """All rows without duplicates, the new ones first."""
        return self._distinct(scores_schema(self.dimensions).names)

    def _distinct(self, names: list[str]) -> Iterator[pa.Table]:
        seen = Ids()
        for piece in chain(self.workspace.batches("scores", names, PIECE_ROWS), self._mine(names)):
            new = seen.add(piece["track_id"])
            yield piece if new.all() else piece.filter(pa.array(new))

    def _failed_in_other_commands(self, failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Failures that another command has written since this one began, of tracks without a score."""
        if self.beside.stamp(self._failures) in (self._failed_then, (None, None)):
            return []
        path, kind = self.beside.path(self._failures), PurePosixPath(self._failures).suffix.lower().lstrip(".")
        try:
            rows = ds.dataset(path, SCHEMAS["failures"], kind, self.beside.fs).to_table()
            rows = cells.unguarded(rows) if kind == "csv" else rows
        except (pa.ArrowException, OSError) as error:
            message = f"{self._sibling(self._failures)} cannot be read ({one_line(str(error), 200)})"
            raise InputError(message, "remove it, and run the command again") from error
        known = {(f["stage"], f["track_id"]) for f in failed}
        others = rows.filter(pa.array(~self.done().mask(rows["track_id"]))).to_pylist()
        return [f for f in others if (f["stage"], f["track_id"]) not in known]

    def _clear(self, merged: Iterable[str]) -> None:
        """Remove these shards, and the working folder if it is then empty."""
        work = self.workspace
        for name in merged:
            work.delete("scores", name)
        if work.in_use():  # by another command, which cleans up in the end
            return
        if not work.is_local:
            if not work.has("scores"):
                work.remove()
            return
        with suppress(OSError):
            Path(work.path("scores")).rmdir()  # fails if another command has added shards
        if not work.has("scores"):
            for name in (TEMPORARY, "settings", "failures"):
                shutil.rmtree(work.path(name), ignore_errors=True)
            with suppress(OSError):
                Path(work.root).rmdir()

    def _sibling(self, name: str) -> str:
        """A path in the folder, or next to the file, for messages."""
        start = self.shown.rpartition("/")[0] if self.is_file else self.shown.rstrip("/")
        return f"{start}/{name}" if start or self.shown.startswith("/") else name

    def _roll(self, folder: Store, name: str, n: int) -> None:
        """n: rows, all of which are read into memory."""
        if n > SORTED_ROWS:
            folder.delete(name)  # written when there were fewer rows
            return
        columns = ["artist", "album", "uri", "duration_s", *self.dimensions, "in_distribution"]
        scores = cells.rounded(scores_table.read(self.uri, columns))  # equal for all kinds of files
        self._write(iter([rollups.rollups(scores, self.dimensions)]), rollups.schema(self.dimensions), folder, name)

    def _write(
        self,
        pieces: Iterator[pa.Table],
        schema: pa.Schema,
        folder: Store,
        name: str,
        was: Stamp | None = None,
    ) -> None:
        """Write one file atomically, piece by piece. was: the old file is replaced only if it has this stamp."""
        kind = PurePosixPath(name).suffix.lower()
        schema = pa.schema([f for f in schema if kind == FORMATS[0] or f.name not in scores_table.NESTED])
        try:
            with self._temporary() as temporary:
                with temporary.open("wb") as sink:
                    with _writer(kind, sink, schema) as writer:
                        for piece in pieces:
                            writer.write_table(piece.select(schema.names), PIECE_ROWS)
                    sink.flush()
                    os.fsync(sink.fileno())  # its shards are removed next
                with _alone(folder):
                    if was is not None and folder.stamp(name) != was:
                        raise InputError(f"{self._sibling(name)} has changed meanwhile", "run the command again")
                    if folder.is_local:
                        temporary.replace(folder.path(name))
                    else:
                        folder.write_file(temporary, name)
        except OSError as error:
            raise InputError(f"cannot write {self._sibling(name)}: {error.strerror}", hint(error)) from error

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A temporary local file."""
        if not self.workspace.is_local:  # an object is uploaded from a complete file
            with scratch.folder() as folder:
                yield folder / "whole"
            return
        # In the workspace, so that files of killed processes are not in the user's folder.
        file = Path(self.workspace.path(TEMPORARY, uuid.uuid4().hex))
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)


def _writer(kind: str, sink: Any, schema: pa.Schema) -> Any:
    if kind == FORMATS[0]:
        return pq.ParquetWriter(sink, schema, compression="zstd")
    return sheet.Writer(sink, schema) if kind == sheet.SUFFIX else _Csv(sink, schema)


class _Csv(pacsv.CSVWriter):  # type: ignore[misc]
    """For spreadsheets: see `cells`."""

    def __init__(self, sink: Any, schema: pa.Schema) -> None:
        sink.write(cells.BOM)
        super().__init__(sink, schema)

    def write_table(self, table: pa.Table, max_chunksize: int | None = None) -> None:
        super().write_table(cells.guarded(table), max_chunksize)


@contextmanager
def _alone(folder: Store) -> Iterator[None]:
    """A lock against other commands of this machine. The system releases it when the process ends."""
    with ExitStack() as stack:
        if folder.is_local:
            with suppress(OSError):  # network folders may not support locks
                handle = os.open(folder.root, os.O_RDONLY)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
