"""The worker of `stages.extract`: audio files → shards of ``features/NAME``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray import features
from mer_ray.audio.isolated import Decoder
from mer_ray.errors import TrackError
from mer_ray.features import FeatureSpec
from mer_ray.features.batch import extract
from mer_ray.io import address
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import features_schema, features_table, ragged_column
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.worker import Done


class Extraction:
    """A worker (`io.worker.Worker`): loads its features once, then turns files into shards of ``features/NAME``."""

    def __init__(
        self,
        workspace: Workspace,
        specs: list[dict[str, Any]],
        min_duration_s: float,
        allow_partial: bool = False,
    ) -> None:
        self.workspace = workspace
        self.min_duration_s = min_duration_s
        self.extractors = {s["name"]: features.load(FeatureSpec.from_json(s)) for s in specs}
        self.decoder = Decoder(allow_partial=allow_partial)

    def __call__(self, rows: pa.Table, final: bool = True) -> Done:
        files = {r["track_id"]: r for r in rows.to_pylist()}
        there = {name: self._committed(name, files) for name in self.extractors}
        made = {i for ids in there.values() for i in ids}
        todo = [(i, f["uri"], [n for n in f["wanted"] if i not in there[n]]) for i, f in files.items()]
        result = extract([t for t in todo if t[2]], self.extractors, self.min_duration_s, self.decoder.stream)
        for name, frames in result.frames.items():
            if frames:
                planned = [i for i, _, wanted in todo if name in wanted]
                commit(self.workspace, self.extractors[name].spec, frames, planned)
                made |= frames.keys()
        return Done(
            made=sum(map(len, result.frames.values())) + sum(map(len, there.values())),
            failed=failures(result.errors, {i: f["uri"] for i, f in files.items()}, _attempts(files.values())),
            seconds=result.seconds,
            tracks=len(made),
        )

    def _committed(self, name: str, files: Mapping[str, Mapping[str, Any]]) -> Ids:
        """Which rows of this part have been committed, by a worker that then died."""
        planned = [i for i, file in files.items() if name in file["wanted"]]
        return committed(self.workspace, self.extractors[name].spec, planned)

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """See `io.worker.Worker`."""
        i = row["track_id"]
        return failures({("", i): TrackError("worker_died", message)}, {i: row["uri"]}, _attempts([row]))[0]


def _attempts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {row["track_id"]: row["attempts"] for row in rows}


def failures(
    errors: Mapping[tuple[str, str], TrackError], uris: Mapping[str, str | None], attempts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Rows of ``failures``. errors: (feature or "" for all, track id) → what went wrong."""
    return [
        failure(
            f"extract:{name}" if name else "extract",
            i,
            error.reason,
            _named(error.message, uris[i] or ""),
            error.transient,
            attempts.get(i, 0) + 1,
        )
        for (name, i), error in errors.items()
    ]


def commit(
    workspace: Workspace, spec: FeatureSpec, frames: Mapping[str, np.ndarray], planned: Iterable[str] = ()
) -> None:
    """Write one shard of ``features/NAME``: track id → (n_frames, F). planned: ids that it is named by, if others."""
    ids = sorted(frames)
    columns = [
        pa.array(ids),
        ragged_column([frames[i] for i in ids], spec.n_dims),
        pa.array([spec.hop_s] * len(ids)),
        pa.array([spec.fingerprint] * len(ids)),
    ]
    schema = features_schema(spec.n_dims)
    table = pa.Table.from_arrays(columns, schema=schema)
    workspace.append(features_table(spec.name), table, _shard(spec, planned or ids))


def committed(workspace: Workspace, spec: FeatureSpec, planned: Iterable[str]) -> Ids:
    """The ids in the shard that `commit` named by these."""
    return workspace.committed(features_table(spec.name), _shard(spec, planned))


def _shard(spec: FeatureSpec, ids: Iterable[str]) -> str:
    return "\n".join([spec.fingerprint, *sorted(ids)])


def _named(message: str, uri: str) -> str:
    """The message with the file's location, without secrets."""
    location = address.shown(uri) if address.is_object(uri) else uri
    return message if location in message else f"{location}: {message}"
