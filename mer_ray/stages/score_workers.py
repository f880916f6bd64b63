"""The workers of `stages.score`: one scores audio files, the other row groups of frames. Both commit what they make.

A worker returns one row for a batch: rows (done), made, seconds and planned_s (of audio), failed (reasons of failures).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.errors import TrackError
from mer_ray.io.ids import Ids
from mer_ray.io.tables import Workspace, failure
from mer_ray.scoring import files, frames, predictor, rows
from mer_ray.stages import session


def _result(rows: int, made: int, reasons: list[str], seconds: float = 0.0, planned_s: float = 0.0) -> dict[str, Any]:
    return {"rows": rows, "made": made, "failed": reasons, "seconds": seconds, "planned_s": planned_s}


class ScoreFiles:
    """Scores audio files."""

    def __init__(
        self,
        workspace: Workspace,
        model: str,
        gpus: float,
        min_duration_s: float,
        keep_features: bool,
        allow_partial: bool = False,
    ) -> None:
        from mer_ray.audio.isolated import Decoder

        session.prepare_worker(gpus)
        session.check_gpu(gpus)
        self.workspace, self.predictor, self.min_duration_s = workspace, predictor.load(model), min_duration_s
        self.predictor.extractors()  # a model that cannot read audio raises now
        self.keep_features = keep_features
        self.decoder = Decoder(allow_partial=allow_partial)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from mer_ray.stages.extract import commit

        tracks = batch.to_pylist()
        made = files.score(self.predictor, tracks, self.min_duration_s, self.decoder.stream)
        self.workspace.append_rows("failures", [_failure(i, error) for i, error in made.errors.items()])
        if len(made.scores):
            if self.keep_features:
                commit(self.workspace, self.predictor.model.feature, made.frames)
            shard = "\n".join([self.predictor.name, *made.scores["track_id"].to_pylist()])
            self.workspace.append("scores", made.scores, shard)
        planned_s = float(sum(t["planned_s"] for t in tracks))
        reasons = [error.reason for error in made.errors.values()]
        result = _result(len(made.scores) + len(reasons), len(made.scores), reasons, made.seconds, planned_s)
        return pa.Table.from_pylist([result])

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def worker_died(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """See `pool.Worker`."""
        error = files.named(TrackError("worker_died", message), row["uri"])
        arguments["workspace"].append_rows("failures", [_failure(row["track_id"], error)])
        return [_result(1, 0, [error.reason], planned_s=row["planned_s"])]


def _failure(track_id: str, error: TrackError) -> dict[str, Any]:
    return failure("score", track_id, error.reason, error.message, error.transient)


class ScoreFrames:
    """Scores row groups of frames, and commits them a thousand rows at a time."""

    def __init__(self, workspace: Workspace, known: Workspace | None, model: str, gpus: float, stage: str) -> None:
        """known: the workspace with the tracks' names. stage: of the row groups in ``failures``."""
        session.prepare_worker(gpus)
        session.check_gpu(gpus)
        self.workspace, self.known, self.stage = workspace, known, stage
        self.predictor = predictor.load(model)
        self.names = None if known is None else _Names(known)
        # Some tracks of a table may have been replaced: the others' scores are still valid.
        self.done = Ids() if known is None else workspace.ids("scores")

    def __call__(self, batch: pa.Table) -> pa.Table:
        n_rows, made, reasons = 0, 0, list[str]()
        written = set(self.workspace.names("scores"))
        for unit in batch.to_pylist():
            n_rows += unit["rows"]
            try:
                for n, failed in self._score(unit, written):
                    made += n
                    reasons += failed
            except TrackError as error:
                self.workspace.append_rows("failures", [frames.unit_failure(self.stage, unit, error)])
                reasons.append(error.reason)
        return pa.Table.from_pylist([_result(n_rows, made, reasons)])

    def close(self) -> None:
        """Nothing is to end."""

    @staticmethod
    def worker_died(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """See `pool.Worker`."""
        error = TrackError("worker_died", f"{frames.unit_name(row)}: {message}")
        failed = frames.unit_failure(arguments["stage"], row, error)
        arguments["workspace"].append_rows("failures", [failed])
        return [_result(row["rows"], 0, [error.reason])]

    def _score(self, unit: dict[str, Any], written: set[str]) -> Iterator[tuple[int, list[str]]]:
        """(rows made, reasons of failures) of each missing piece. Raises TrackError where one cannot be read; those
        before it are committed."""
        spec = self.predictor.model.feature
        table = frames.Frames(unit, self.known.fs if self.known is not None else None, spec)
        for shard, piece in table.pieces():
            if frames.shard_file(shard) in written:
                continue
            tracks, arrays, failed = table.read(piece)
            self.workspace.append_rows("failures", failed)
            new = [i for i, t in enumerate(tracks) if t["track_id"] not in self.done]
            tracks, arrays = [tracks[i] for i in new], [arrays[i] for i in new]
            if self.names is not None:
                tracks = self.names.of([t["track_id"] for t in tracks])
            scored = [
                rows.Scored(track, prediction, len(array) * spec.hop_s, self.predictor.name)
                for track, array, prediction in zip(tracks, arrays, self.predictor.predict_frames(arrays), strict=True)
            ]
            self.workspace.append("scores", rows.table(scored), shard)
            yield len(scored), [r["reason"] for r in failed]


class _Names:
    """Artist, title, album and URI by track_id, in Arrow: a million tracks take 150 MB."""

    def __init__(self, workspace: Workspace) -> None:
        tracks = workspace.read("tracks", ["track_id", "artist", "title", "album"])
        audio = workspace.read("audio", ["track_id", "uri", "decoded_share"])
        self.table = tracks.join(audio, "track_id").sort_by("track_id")
        self.ids = self.table["track_id"].to_numpy(zero_copy_only=False)

    def of(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The known fields of each, at least its id."""
        if not len(self.ids):
            return [{"track_id": i} for i in ids]
        positions = np.minimum(np.searchsorted(self.ids, np.array(ids, object)), len(self.ids) - 1)
        found = self.table.take(pa.array(positions)).to_pylist()
        return [row if row["track_id"] == i else {"track_id": i} for i, row in zip(ids, found, strict=True)]
