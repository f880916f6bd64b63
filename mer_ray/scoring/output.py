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

from mer_ray.audio import objects
from mer_ray.audio.location import to_path
from mer_ray.errors import InputError
from mer_ray.identity import one_line
from mer_ray.ids import Ids
from mer_ray.scoring import rollups, table
from mer_ray.tables import DIMENSIONS, SCHEMAS, Workspace

FORMATS = (".parquet", ".csv")
SORTED_ROWS = 200_000
"""Up to so many rows, a file is ordered by address and has roll-ups beside it: both need all rows at once."""
NESTED = ("curve", "sound", "waveform")
"""What CSV cannot hold."""


class Output:
    """The place for one model's scores.

    A file is worked on in ``FILE.parts``, a folder is itself the workspace: scores/, failures/, rollups.csv.
    """

    def __init__(self, target: str) -> None:
        """Raises InputError where the place makes no sense."""
        if objects.scheme(target) not in ("", "file"):
            raise InputError(f"--out {objects.shown(target)} is not on this machine", "give a local file or folder")
        self.place = to_path(target).expanduser()
        suffix = self.place.suffix.lower()
        if (suffix or self.place.is_file()) and suffix not in FORMATS and not self.place.is_dir():
            raise InputError(
                f"--out {self.place} must end in {' or '.join(FORMATS)}, or be a folder", "a folder has no suffix"
            )
        self.file: Path | None = None if self.place.is_dir() or not suffix else self.place
        if not self.place.absolute().parent.is_dir():
            raise InputError(f"folder {self.place.parent} for --out does not exist", "make it first")
        where = self.place.absolute() if self.file is None else f"{self.place.absolute()}.parts"
        self.workspace = Workspace(str(where))
        self.model = self.note = ""
        self._before: pa.Table | None = None

    def open(self, model: str) -> Workspace:
        """The workspace to work in. Raises InputError where a folder has another model's scores, or a file is none."""
        self.model, work = model, self.workspace
        others = work.distinct("scores", "model") - {self.model}
        if others and self.file is None:
            raise InputError(
                f"--out {self.place} holds scores by {one_line(', '.join(sorted(others)), 200)}, and the model is now "
                f"{self.model}",
                "choose another folder, or remove this one",
            )
        if self.file is not None and self.file.exists():
            rows = table.read(self.file)
            mine = rows.filter(pc.equal(rows["model"], self.model))
            if len(mine):
                self._before = mine
            elif len(rows):
                old = ", ".join(sorted(map(str, set(rows["model"].to_pylist()))))
                self.note = f"{self.place} held {len(rows):,} scores by {one_line(old, 200)}: these take their place"
        if others:
            work.remove()  # what was left of a run that was killed
        work.sweep()
        work.claim("score", "scores", {"model": self.model}, restart=True)
        return work

    def done(self) -> Ids:
        """The ids that this model has scored."""
        found = self.workspace.ids("scores")
        if self._before is not None:
            found.add(self._before["track_id"])
        return found

    def abandon(self) -> None:
        """Leave no working folder behind if there is nothing in it to go on from."""
        if self.file is not None and not self.workspace.has("scores"):
            self.workspace.remove()

    def finish(self, failed: list[dict[str, Any]], scored: bool) -> Path:
        """Write the file (if anything is scored), the roll-ups and the failures beside it; where the failures are."""
        stem, suffix = self.place.stem, self.place.suffix
        if self.file is None:
            self._roll(self.place / "rollups.csv")
            return self.place / "failures"
        beside = self.file.with_name(f"{stem}.failures{suffix}")
        if failed:
            self._write(iter([pa.Table.from_pylist(failed, schema=SCHEMAS["failures"])]), SCHEMAS["failures"], beside)
        else:
            beside.unlink(missing_ok=True)
        if scored:
            self._write(self._pieces(), SCHEMAS["scores"], self.file)
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
        self._write(iter([rolled]), rollups.SCHEMA, place)

    def _pieces(self) -> Iterator[pa.Table]:
        """All rows: those from before, and the new ones; no id twice."""
        new = self.workspace
        n = len(new.read("scores", ["track_id"])) + (0 if self._before is None else len(self._before))
        before = self._before
        if before is not None and new.has("scores"):
            before = before.filter(pa.array(~new.ids("scores").mask(before["track_id"])))
        if n <= SORTED_ROWS:
            parts = [new.read("scores")] + ([before] if before is not None else [])
            yield pa.concat_tables(parts).sort_by([("uri", "ascending"), ("track_id", "ascending")])
            return
        if before is not None:
            yield before
        yield from new.batches("scores", SCHEMAS["scores"].names, 5_000)

    def _write(self, pieces: Iterator[pa.Table], schema: pa.Schema, target: Path) -> None:
        """One file, whole or not at all, piece by piece."""
        # In the workspace, where nobody trips over what a killed process left.
        temporary = Path(self.workspace.path(".tmp", uuid.uuid4().hex))
        flat = target.suffix.lower() == ".csv"
        schema = pa.schema([f for f in schema if not (flat and f.name in NESTED)])
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
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
