"""The contract between the stages: tables, failures and recorded settings in a workspace.

A stage asks which ids a table has, works on the rest, and appends (`io.shards`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from mer_ray.errors import WorkspaceError
from mer_ray.io.failures import Failed, latest
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import SCHEMAS, features_table
from mer_ray.io.shards import Tables

COMPUTED = "features.json"
"""A file in ``settings``: the features that were last computed from audio."""


def now() -> datetime:
    """The present, in UTC, to the millisecond."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def failure(
    stage: str, track_id: str, reason: str, message: str, transient: bool = False, attempts: int = 1
) -> dict[str, Any]:
    """A row of ``failures``; the message is shortened to one line."""
    return {
        "stage": stage,
        "track_id": track_id,
        "reason": reason,
        "message": one_line(message),
        "transient": transient,
        "attempts": attempts,
        "at": now(),
    }


class Workspace(Tables):
    """The tables of a catalog, with what failed and the settings that each table was made with."""

    # failures ------------------------------------------------------------------------------------------------------

    def failures(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The unresolved failures: the last one per stage and track, without those that a later attempt resolved.

        stage: ``extract`` means all its features, ``extract:mfcc`` that one. Failures under earlier settings of the
        stage do not count.
        """
        rows = self._failed(self._stages(stage), SCHEMAS["failures"].names).sort_by("at")
        return list(rows.to_pylist())

    def reasons(self, stage: str) -> Counter[str]:
        """How many rows `failures` has for each reason."""
        rows = self._failed(self._stages(stage), ["stage", "track_id", "at", "reason"])
        return Counter({str(r["values"]): int(r["counts"]) for r in rows["reason"].value_counts().to_pylist()})

    def n_failed(self, stage: str) -> int:
        """How many rows `failures` has."""
        return self.reasons(stage).total()

    def failed(self, stage: str, again: Sequence[str] = ()) -> Failed:
        """The failures of exactly this stage (``extract``, ``extract:mfcc``), without their messages.

        again: reasons to treat as transient.
        """
        rows = self._failed([stage], ["stage", "track_id", "at", "transient", "attempts", "reason"]).combine_chunks()
        ids = rows["track_id"].chunk(0) if len(rows) else pa.array([], pa.string())
        may_pass = pc.or_(rows["transient"], pc.is_in(rows["reason"], pa.array(again, pa.string())))
        return Failed(ids, may_pass.to_numpy(), rows["attempts"].to_numpy())

    def _stages(self, stage: str | None) -> list[str]:
        """The names of the stage in ``failures``."""
        names = self.distinct("failures", "stage")
        return sorted(n for n in names if stage is None or stage in (n, n.split(":")[0]))

    def _failed(self, stages: Sequence[str], columns: Sequence[str]) -> pa.Table:
        schema = pa.schema([SCHEMAS["failures"].field(c) for c in columns])
        wanted = pc.field("stage").isin(list(stages))
        pieces = list(self._scan("failures", columns, filter=wanted)) if stages else []
        rows = latest(pa.Table.from_batches(pieces, schema))
        unresolved = []
        for stage in stages:
            recorded = self.read_json("settings", _settings_file(stage)) or {}
            since = datetime.fromisoformat(recorded.get("since", "1970-01-01T00:00:00+00:00"))
            own = rows.filter((pc.field("stage") == stage) & (pc.field("at") >= pa.scalar(since, rows["at"].type)))
            if stage == "train":
                unresolved.append(self._untrained(own))
                continue
            resolved = own["track_id"] if (tables := _made_by(self, stage)) else own["track_id"][:0]
            for table in tables:
                there = self.find(table, resolved, ["track_id"])["track_id"]
                if stage == "extract":  # a later failure of one feature alone: the file was decoded
                    there = pa.chunked_array([*there.chunks, *self._failed_since(own, table).chunks], pa.string())
                resolved = resolved.filter(pc.is_in(resolved, there))
            unresolved.append(own.filter(pc.invert(pc.is_in(own["track_id"], resolved))))
        return pa.concat_tables(unresolved) if unresolved else schema.empty_table()

    def _failed_since(self, undecoded: pa.Table, table: str) -> pa.ChunkedArray:
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
            written = self._ask(lambda: self.fs.get_file_info(self.path(*made))).mtime
            return written is None or written < at

        trials = zip(rows["track_id"].to_pylist(), rows["at"].to_pylist(), strict=True)
        return rows.filter(pa.array([since(name, at) for name, at in trials], pa.bool_()))

    # settings ------------------------------------------------------------------------------------------------------

    def claim(
        self, stage: str, table: str, settings: Mapping[str, Any], restart: bool = False, binding: bool = True
    ) -> None:
        """Record the settings of a table; refuse different ones.

        Args:
            stage: Whose failures before the record no longer count.
            table: Made with the settings.
            settings: JSON-able.
            restart: Record them again, for a stage that repeats all of its failures.
            binding: False accepts different settings, where none of the present rows depends on the difference.

        Raises:
            WorkspaceError: With each setting that differs, and both values.
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
    """The tables that a stage (``extract:mfcc``, ``label``, ...) makes: a track that they all have has not failed."""
    name, _, feature = stage.partition(":")
    if name == "extract":
        # The failure to decode a file is resolved once all features that were last requested have it.
        claimed = [n[len("extract-") : -len(".json")] for n in workspace.names("settings") if n.startswith("extract-")]
        last = (workspace.read_json("settings", COMPUTED) or {}).get("features")
        requested = last or claimed or workspace.names("features")
        return [features_table(f) for f in ([feature] if feature else requested)]
    return {"label": ["labels"], "acquire": ["audio"], "score": ["scores"]}.get(name, [])
