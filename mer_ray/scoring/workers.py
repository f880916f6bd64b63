"""The workers of `stages.score`: one scores audio files, the other row groups of frames. Both commit what they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.errors import TrackError
from mer_ray.features.joined import Frames, parts
from mer_ray.io.ids import Ids
from mer_ray.io.shards import shard_file
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.worker import Done
from mer_ray.scoring import files, frames, predictor, rows
from mer_ray.scoring.other_parts import OtherParts


class ScoreFiles:
    """Scores audio files."""

    def __init__(
        self,
        workspace: Workspace,
        model: str,
        min_duration_s: float,
        keep_features: bool,
        allow_partial: bool = False,
    ) -> None:
        from mer_ray.audio.isolated import Decoder

        self.workspace, self.predictor, self.min_duration_s = workspace, predictor.load(model), min_duration_s
        self.predictor.extractors()  # a model that cannot read audio raises now
        self.keep_features = keep_features
        self.decoder = Decoder(allow_partial=allow_partial)

    def __call__(self, rows: pa.Table, final: bool = True) -> Done:
        from mer_ray.features.extraction import commit, committed

        own = parts(self.predictor.model.feature)
        planned = rows["track_id"].to_pylist()
        shard = "\n".join([self.predictor.name, *planned])
        there = self.workspace.committed("scores", shard)
        if there and self.keep_features:
            for part in own:
                there = Ids(there & committed(self.workspace, part, planned))
        tracks = [t for t in rows.to_pylist() if t["track_id"] not in there]
        if there and tracks:
            shard = "\n".join([self.predictor.name, *(t["track_id"] for t in tracks)])
        made = files.score(self.predictor, tracks, self.min_duration_s, self.decoder.stream)
        if len(made.scores):
            for part in own if self.keep_features else ():
                commit(self.workspace, part, made.frames[part.name], [t["track_id"] for t in tracks])
            self.workspace.append("scores", made.scores, shard)
        failed = [_failure(i, error) for i, error in made.errors.items()]
        return Done(len(made.scores) + len(there), failed, made.seconds)

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """See `io.worker.Worker`."""
        return _failure(row["track_id"], files.named(TrackError("worker_died", message), row["uri"]))


def _failure(track_id: str, error: TrackError) -> dict[str, Any]:
    return failure("score", track_id, error.reason, error.message, error.transient)


class ScoreFrames:
    """Scores row groups of frames, and commits them a thousand rows at a time."""

    def __init__(self, workspace: Workspace, known: Workspace | None, model: str, stage: str) -> None:
        """known: the workspace with the tracks' names. stage: of the row groups in ``failures``."""
        self.workspace, self.known, self.stage = workspace, known, stage
        self.predictor = predictor.load(model)
        self.names = None if known is None else _Names(known)
        feature = self.predictor.model.feature
        self.others = OtherParts(known, feature) if known is not None and len(parts(feature)) > 1 else None
        # Some tracks of a table may have been replaced: the others' scores are still valid.
        self.done = Ids() if known is None else workspace.ids("scores")

    def __call__(self, rows: pa.Table, final: bool = True) -> Done:
        done = Done(0)
        written = set(self.workspace.names("scores"))
        for unit in rows.to_pylist():
            try:
                for n, failed in self._score(unit, written):
                    done.made += n
                    done.failed += failed
            except TrackError as error:
                done.failed.append(frames.unit_failure(self.stage, unit, error))
        return done

    def close(self) -> None:
        """Nothing is to end."""

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """See `io.worker.Worker`."""
        error = TrackError("worker_died", f"{frames.unit_name(row)}: {message}")
        return frames.unit_failure(row["stage"], row, error)

    def _score(self, unit: dict[str, Any], written: set[str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(rows made, rows of ``failures``) of each missing piece. Raises TrackError where one cannot be read; those
        before it are committed."""
        spec = self.predictor.model.feature
        table = frames.Frames(unit, self.known.fs if self.known is not None else None, parts(spec)[0])
        for shard, piece in table.pieces():
            if shard_file(shard) in written:
                continue
            tracks, first, failed = table.read(piece)
            arrays: list[Frames] = list(first)
            if self.others is not None:
                tracks, arrays, more = self.others.beside(tracks, first)
                failed += more
            failed = [{**f, "at": unit["at"]} for f in failed]  # by the driver's clock
            self.workspace.append_rows("failures", failed)  # before its shard, which is not read again
            new = [i for i, t in enumerate(tracks) if t["track_id"] not in self.done]
            tracks, arrays = [tracks[i] for i in new], [arrays[i] for i in new]
            if self.names is not None:
                tracks = self.names.of([t["track_id"] for t in tracks])
            scored = [
                rows.Scored(track, prediction, len(array) * spec.hop_s, self.predictor.name)
                for track, array, prediction in zip(tracks, arrays, self.predictor.predict_frames(arrays), strict=True)
            ]
            self.workspace.append("scores", rows.table(scored, self.predictor.dimensions), shard)
            yield len(scored), failed


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
