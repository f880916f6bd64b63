"""Where scores of a catalog go: one file that appears whole, or a folder of shards that grows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mer_ray.errors import InputError
from mer_ray.scoring import rollups, table
from mer_ray.tables import DIMENSIONS, SCHEMAS, Workspace

FORMATS = (".parquet", ".csv")
SORTED_ROWS = 200_000
"""Up to so many rows, a file is ordered by address and has roll-ups beside it: both need all rows at once."""
NESTED = ("curve", "sound", "waveform")
"""What CSV cannot hold."""


class Output:
    """The place for one model's scores.

    A file is worked on in ``FILE.parts``, a folder is itself the workspace: scores/, failures/, rollups.parquet.
    """

    def __init__(self, target: str, model: str) -> None:
        """Raises InputError where the place makes no sense."""
        self.model = model
        self.place = Path(target).expanduser()
        suffix = self.place.suffix.lower()
        if suffix and suffix not in FORMATS and not self.place.is_dir():
            raise InputError(
                f"--out {self.place} must end in {' or '.join(FORMATS)}, or be a folder", "a folder has no suffix"
            )
        self.file: Path | None = None if self.place.is_dir() or not suffix else self.place
        if not self.place.absolute().parent.is_dir():
            raise InputError(f"folder {self.place.parent} for --out does not exist", "make it first")
        where = self.place.absolute() if self.file is None else f"{self.place.absolute()}.parts"
        self.workspace = Workspace(str(where))
        self._before: pa.Table | None = None

    def open(self, settings: dict[str, Any]) -> Workspace:
        """The workspace to work in. Raises WorkspaceError where a folder has another model's scores."""
        self.workspace.claim("score", "scores", settings, restart=True)
        if self.file is not None and self.file.exists():
            rows = table.read(self.file)
            mine = rows.filter(pc.equal(rows["model"], self.model))
            if self.file.suffix.lower() != ".csv" and len(mine):
                self._before = mine
        return self.workspace

    def done(self) -> set[str]:
        """The ids that this model has scored."""
        before = set() if self._before is None else set(self._before["track_id"].to_pylist())
        return self.workspace.ids("scores") | before

    def finish(self, failed: list[dict[str, Any]]) -> Path:
        """Write the file, the roll-ups and the failures beside it; where the failures are."""
        stem, suffix = self.place.stem, self.place.suffix
        if self.file is None:
            self._roll(self.place / "rollups.csv")
            return self.place / "failures"
        beside = self.file.with_name(f"{stem}.failures{suffix}")
        if failed:
            _write(iter([pa.Table.from_pylist(failed, schema=SCHEMAS["failures"])]), SCHEMAS["failures"], beside)
        else:
            beside.unlink(missing_ok=True)
        if self.workspace.has("scores") or self._before is not None:
            _write(self._pieces(), SCHEMAS["scores"], self.file)
            self._roll(self.file.with_name(f"{stem}.rollups.csv"))
        self.workspace.remove()
        return beside

    def _roll(self, place: Path) -> None:
        if not self.place.exists() or (self.file is None and not self.workspace.has("scores")):
            return
        columns = ["artist", "album", "uri", "duration_s", *DIMENSIONS, "in_distribution"]
        rows = table.read(self.place, columns)
        if len(rows) > SORTED_ROWS:
            return
        rolled = rollups.rollups(rows)
        _write(iter([rolled]), rollups.SCHEMA, place)

    def _pieces(self) -> Iterator[pa.Table]:
        """All rows: those from before, and the new ones; no id twice."""
        new = self.workspace
        n = len(new.read("scores", ["track_id"])) + (0 if self._before is None else len(self._before))
        before = self._before
        if before is not None and new.has("scores"):
            before = before.filter(
                pa.compute.invert(
                    pa.compute.is_in(before["track_id"], pa.array(sorted(new.ids("scores")), pa.string()))
                )
            )
        if n <= SORTED_ROWS:
            parts = [new.read("scores")] + ([before] if before is not None else [])
            yield pa.concat_tables(parts).sort_by([("uri", "ascending"), ("track_id", "ascending")])
            return
        if before is not None:
            yield before
        yield from new.batches("scores", SCHEMAS["scores"].names, 5_000)


def _write(pieces: Iterator[pa.Table], schema: pa.Schema, target: Path) -> None:
    """One file, whole or not at all, piece by piece."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    flat = target.suffix.lower() == ".csv"
    schema = pa.schema([f for f in schema if not (flat and f.name in NESTED)])
    try:
        with temporary.open("wb") as sink, _writer(flat, sink, schema) as writer:
            for piece in pieces:
                writer.write_table(piece.select(schema.names))
        temporary.replace(target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror}", "free some space, or choose another --out"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _writer(flat: bool, sink: Any, schema: pa.Schema) -> Any:
    return pacsv.CSVWriter(sink, schema) if flat else pq.ParquetWriter(sink, schema, compression="zstd")
