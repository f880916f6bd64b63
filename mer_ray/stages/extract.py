"""``audio`` → ``features/NAME``: decode once, compute every feature that is missing, commit a shard per block.

Precomputed frames come from their table instead, and need no audio.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray import features
from mer_ray.audio.excerpt import Excerpt
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError, WorkspaceError
from mer_ray.features import FeatureSpec
from mer_ray.io import address
from mer_ray.io.failures import Failed
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import features_schema, features_table, ragged_column
from mer_ray.io.tables import COMPUTED, Workspace, failure
from mer_ray.stages import blocks, counters, pool, session, workspace_source

SMALL_S = 600.0
"""Up to so many seconds of audio are done in this process: sooner than Ray's workers would start."""
SMALLEST_S = 180.0
"""Smaller blocks would spend most of their time on writing shards and on half-filled batches."""
PRECOMPUTED_TRACKS = 64  # of a shard


def check(config: Config) -> dict[str, FeatureSpec]:
    """The features with their exact settings. Raises ConfigError or ServiceError where weights are not available."""
    settings = config.extract
    excerpt = Excerpt(**settings.excerpt.model_dump()).to_json() if settings.excerpt else None
    specs = {}
    for name in settings.features:
        family, params = settings.params(name)
        spec = features.resolve(name, params, config.is_demo, family)
        specs[name] = replace(spec, excerpt=excerpt) if needs_audio(spec) else spec
    return specs


def needs_audio(spec: FeatureSpec) -> bool:
    """Whether its frames are computed; the others are precomputed."""
    return spec.sample_rate_hz > 0


def run(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec] | None = None) -> Summary:
    """Compute the features that tracks lack. specs: of `check`, if it was called already."""
    started = time.monotonic()
    is_demo, config = config.is_demo, workspace_source.adopt(config, workspace)
    settings = config.extract
    # If the workspace's source is another one than that of the settings (the demo, say), they do not apply.
    specs = specs if specs and config.is_demo == is_demo else check(config)
    summary = Summary("extract", unit="feature rows")
    # No table depends on these settings alone, but failures are retried when they change.
    excerpt = settings.excerpt and settings.excerpt.model_dump()
    workspace.claim("extract", "features", {"min_duration_s": settings.min_duration_s, "excerpt": excerpt})
    for spec in (spec for spec in specs.values() if not needs_audio(spec)):
        _copy(config, workspace, spec, workspace.require("tracks", "collect", ["track_id", "uri"]), summary)
    computed = [spec for spec in specs.values() if needs_audio(spec)]
    if computed:
        workspace.write_json({"features": [spec.name for spec in computed]}, "settings", COMPUTED)
        _compute(config, workspace, _Plan(config, workspace, computed, summary), summary)
    summary.failed = workspace.n_failed("extract")
    summary.seconds = time.monotonic() - started
    if not any(workspace.has(features_table(name)) for name in specs):
        raise InputError(
            f"no features for any track; {summary.failed:,} failed", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


class _Plan:
    """Which tracks lack which features. Of the whole catalog, the ids that are done and the failures are in memory."""

    def __init__(self, config: Config, workspace: Workspace, specs: list[FeatureSpec], summary: Summary) -> None:
        self.specs, self._workspace, self._retry = specs, workspace, config.retry_failed
        self._longest_s = config.extract.excerpt.seconds if config.extract.excerpt else np.inf
        self._own = [_so_far(workspace, spec, summary) for spec in specs]
        self._undecoded = workspace.failed("extract", config.again)
        self.tracks, self.seconds = 0, 0.0
        n_audio = 0
        for audio in workspace.batches("audio", ["track_id", "duration_s"]):
            rows = self._lacking(audio)
            n_audio += len(audio)
            self.tracks += len(rows)
            self.seconds += float(np.sum(rows["planned_s"].to_numpy()))
        if not n_audio:
            workspace.require("audio", "acquire", ["track_id"])

    def windows(self) -> Iterator[pa.Table]:
        """The rows of ``audio`` that lack a feature, with columns ``wanted``, ``attempts`` and ``planned_s``."""
        audio = self._workspace.batches("audio", ["track_id", "uri", "duration_s"])
        return blocks.windows(map(self._lacking, audio))

    def _lacking(self, audio: pa.Table) -> pa.Table:
        ids = audio["track_id"]
        # What could not be decoded for one feature cannot be for another.
        final, attempts = self._undecoded.look_up(ids)
        lacks = np.zeros((len(audio), len(self.specs)), bool)
        for column, (done, failed) in enumerate(self._own):
            lacks[:, column], tries = failed.todo(ids, done, self._retry)
            attempts = np.maximum(attempts, tries)
        if not self._retry:
            lacks[final] = False
        some = np.flatnonzero(lacks.any(1))
        wanted = [[spec.name for spec, lack in zip(self.specs, row, strict=True) if lack] for row in lacks[some]]
        rows = audio.take(pa.array(some))
        rows = rows.append_column("wanted", pa.array(wanted, pa.list_(pa.string())))
        rows = rows.append_column("attempts", pa.array(attempts[some], pa.int32()))
        return rows.append_column("planned_s", pa.array(np.clip(rows["duration_s"].to_numpy(), 1e-3, self._longest_s)))


def _so_far(workspace: Workspace, spec: FeatureSpec, summary: Summary) -> tuple[Ids, Failed]:
    """The tracks that have a feature, and those that failed. Raises WorkspaceError where its settings differ."""
    table, stage = features_table(spec.name), f"extract:{spec.name}"
    workspace.claim(stage, table, spec.identity)
    done = workspace.ids(table)
    summary.done_before += len(done)
    if spec.note:
        summary.notes.append(spec.note)
    return done, workspace.failed(stage)


def _compute(config: Config, workspace: Workspace, plan: _Plan, summary: Summary) -> None:
    """Compute the missing features, on Ray or, for little audio, in this process."""
    if not plan.tracks:
        return
    settings = config.extract
    arguments = {
        "workspace": workspace,
        "specs": [s.to_json() for s in plan.specs],
        "min_duration_s": settings.min_duration_s,
        "allow_partial": config.allow_partial,
        "gpus": settings.gpus_per_worker,
    }
    began = time.time()
    # One track cannot be split, however long it is.
    small = plan.seconds <= SMALL_S or plan.tracks == 1
    workers = pool.workers(config.address, settings.workers, small, settings.gpus_per_worker)

    def batches() -> Iterator[pa.Table]:
        for rows in plan.windows():
            seconds = rows["planned_s"].to_pylist()
            yield from blocks.by_duration(rows, seconds, workers.n, SMALLEST_S, 60 * settings.batch_minutes)

    done_s, ready = 0.0, began
    hours = plan.seconds / 3600
    with progress("extract", plan.tracks, work=plan.seconds) as ticker:
        for (block,) in workers.map(batches(), _Extract, arguments):
            ready = block["ready"] if not done_s else min(ready, block["ready"])
            summary.made += block["made"]
            done_s += block["seconds"]
            speed = done_s / max(1e-3, time.time() - ready)
            note = f"{done_s / 3600:.2f} of {hours:.2f} h of audio, {speed:.0f}x real time"
            ticker.advance(block["tracks"], note, block["planned_s"])
            counters.count("extract", block["done"], block["seconds"], block["reasons"])
    took = time.time() - ready
    summary.notes.append(
        f"{done_s / 3600:.2f} h of audio in {took:.1f} s ({done_s / max(1e-3, took):.0f}x real time), "
        f"{max(0.0, ready - began):.1f} s after the start"
    )


def _copy(config: Config, workspace: Workspace, spec: FeatureSpec, tracks: pa.Table, summary: Summary) -> None:
    """Copy precomputed frames for the tracks that lack them."""
    from mer_ray.features import precomputed

    uris = dict(zip(tracks["track_id"].to_pylist(), tracks["uri"].to_pylist(), strict=True))
    for row in workspace.read("audio", ["track_id", "uri"]).to_pylist():  # where the source has no path
        uris[row["track_id"]] = uris.get(row["track_id"]) or row["uri"]
    done, failed = _so_far(workspace, spec, summary)
    wanted, tries = failed.todo(pa.array(list(uris)), done, config.retry_failed)
    attempts = dict(zip(uris, tries.tolist(), strict=True))
    lacking = [i for i, wants in zip(uris, wanted, strict=True) if wants]
    found = precomputed.rows(spec, {i: uris[i] for i in lacking})
    with progress(f"copy {spec.name}", len(lacking)) as ticker:
        while chunk := list(islice(found, PRECOMPUTED_TRACKS)):
            frames = {i: f for i, f in chunk if not isinstance(f, TrackError)}
            errors = {(spec.name, i): e for i, e in chunk if isinstance(e, TrackError)}
            _report(workspace, errors, uris, attempts)
            if frames:
                commit(workspace, spec, frames)
            summary.made += len(frames)
            ticker.advance(len(chunk))
            counters.count("extract", len(frames), failed=[e.reason for e in errors.values()])


class _Extract:
    """A worker: loads its features once, then turns blocks of files into shards."""

    def __init__(
        self,
        workspace: Workspace,
        specs: list[dict[str, Any]],
        min_duration_s: float,
        gpus: float,
        allow_partial: bool = False,
    ) -> None:
        from mer_ray.audio.isolated import Decoder

        session.prepare_worker(gpus)
        session.check_gpu(gpus)
        self.workspace = workspace
        self.min_duration_s = min_duration_s
        self.extractors = {s["name"]: features.load(FeatureSpec.from_json(s)) for s in specs}
        self.decoder = Decoder(allow_partial=allow_partial)
        self.ready = time.time()

    def __call__(self, batch: pa.Table) -> pa.Table:
        from mer_ray.features.batch import extract

        rows = batch.to_pylist()
        files = [(r["track_id"], r["uri"], r["wanted"]) for r in rows]
        try:
            result = extract(files, self.extractors, self.min_duration_s, self.decoder.stream)
        except OSError as error:  # not the file's fault: long tracks are buffered in temporary files
            why = error.strerror or type(error).__name__
            hint = "free some space there, or set TMPDIR to another folder"
            raise WorkspaceError(f"cannot work in {tempfile.gettempdir()}: {why}", hint) from error
        uris = {r["track_id"]: r["uri"] for r in rows}
        _report(self.workspace, result.errors, uris, {r["track_id"]: r["attempts"] for r in rows})
        for name, frames in result.frames.items():
            if frames:
                commit(self.workspace, self.extractors[name].spec, frames)
        done = {
            "tracks": len(rows),
            "done": len(set().union(*result.frames.values())),  # tracks with at least one new feature
            "made": sum(len(frames) for frames in result.frames.values()),
            "reasons": [error.reason for error in result.errors.values()],
            "seconds": result.seconds,
            "planned_s": float(sum(r["planned_s"] for r in rows)),
            "ready": self.ready,
        }
        return pa.Table.from_pylist([done])

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def worker_died(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """See `pool.Worker`."""
        i, error = row["track_id"], TrackError("worker_died", message)
        _report(arguments["workspace"], {("", i): error}, {i: row["uri"]}, {i: row["attempts"]})
        nothing = {"tracks": 1, "done": 0, "made": 0, "reasons": ["worker_died"], "seconds": 0.0}
        return [{**nothing, "planned_s": row["planned_s"], "ready": time.time()}]


def _report(
    workspace: Workspace,
    errors: Mapping[tuple[str, str], TrackError],
    uris: Mapping[str, str | None],
    attempts: Mapping[str, int],
) -> None:
    """Rows of ``failures``. errors: (feature or "" for all, track id) → what went wrong."""
    rows = [
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
    workspace.append_rows("failures", rows)


def commit(workspace: Workspace, spec: FeatureSpec, frames: Mapping[str, np.ndarray]) -> None:
    """Write one shard of ``features/NAME``: track id → (n_frames, F)."""
    ids = sorted(frames)
    columns = [
        pa.array(ids),
        ragged_column([frames[i] for i in ids], spec.n_dims),
        pa.array([spec.hop_s] * len(ids)),
        pa.array([spec.fingerprint] * len(ids)),
    ]
    schema = features_schema(spec.n_dims)
    table = pa.Table.from_arrays(columns, schema=schema)
    workspace.append(features_table(spec.name), table, "\n".join([spec.fingerprint, *ids]))


def _named(message: str, uri: str) -> str:
    """The message with the file's location, without secrets."""
    location = address.shown(uri) if address.is_object(uri) else uri
    return message if location in message else f"{location}: {message}"
