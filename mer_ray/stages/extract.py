"""``audio`` → ``features/NAME``: decode once, compute every feature that is missing, commit a shard per batch."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from mer_ray import features
from mer_ray.audio import objects
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError
from mer_ray.features import FeatureSpec
from mer_ray.stages import session
from mer_ray.tables import Workspace, failure, features_schema, features_table, ragged_column


def check(config: Config) -> dict[str, FeatureSpec]:
    """The features, exactly. Raises ConfigError or ServiceError where weights cannot be had."""
    settings = config.extract
    return {name: features.resolve(name, getattr(settings, name), config.is_demo) for name in settings.features}


def run(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec] | None = None) -> Summary:
    """Compute the features that tracks lack. ``specs`` as `check` answered them, if it was asked already."""
    started = time.monotonic()
    settings = config.extract
    specs = specs or check(config)
    audio = workspace.require("audio", "acquire", ["track_id", "uri", "duration_s"])
    ids = audio["track_id"].to_pylist()
    wanted: dict[str, list[str]] = {i: [] for i in ids}
    attempts: dict[str, int] = {}
    summary = Summary("extract", unit="feature rows")
    # Nothing is made with it, but what it made fail is tried again when it changes.
    workspace.claim("extract", "features", {"min_duration_s": settings.min_duration_s})
    for name, spec in specs.items():
        table, stage = features_table(name), f"extract:{name}"
        workspace.claim(stage, table, spec.identity)
        done = workspace.ids(table)
        summary.done_before += len(done)
        todo, tries = workspace.pending(stage, ids, done, config.retry_failed)
        decodable, more_tries = workspace.pending("extract", todo, set(), config.retry_failed)
        attempts |= tries | more_tries
        for i in decodable:
            wanted[i].append(name)
        if spec.note:
            summary.notes.append(spec.note)

    rows = audio.append_column("wanted", pa.array([wanted[i] for i in ids], pa.list_(pa.string())))
    rows = rows.append_column("attempts", pa.array([attempts.get(i, 0) for i in ids], pa.int32()))
    rows = rows.filter(pa.compute.greater(pa.compute.list_value_length(rows["wanted"]), 0))
    if len(rows):
        session.connect(config.address)
        size = session.balanced(len(rows), settings.batch_tracks, session.n_cpus())
        arguments = {
            "workspace": workspace,
            "specs": [s.to_json() for s in specs.values()],
            "min_duration_s": settings.min_duration_s,
            "gpus": settings.gpus_per_worker,
        }
        hours, began = 0.0, time.monotonic()
        blocks = session.split(rows, size)
        with progress("extract", len(rows)) as ticker:
            for answered in session.map_blocks(blocks, _Extract, arguments, settings.workers, settings.gpus_per_worker):
                for a in answered:
                    summary.made += a["made"]
                    hours += a["seconds"] / 3600
                    speed = 3600 * hours / (time.monotonic() - began)
                    ticker.advance(a["tracks"], f"{hours:.2f} h of audio, {speed:.0f}x real time")
        summary.notes.append(f"{hours:.2f} h of audio in {time.monotonic() - began:.0f} s")
    summary.failed = len(workspace.failures("extract"))
    summary.seconds = time.monotonic() - started
    if not any(workspace.has(features_table(name)) for name in specs):
        raise InputError(
            f"no features for any of {len(ids):,} tracks", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


class _Extract:
    """A worker: loads its features once, then turns blocks of files into shards."""

    def __init__(self, workspace: Workspace, specs: list[dict[str, Any]], min_duration_s: float, gpus: float) -> None:
        session.prepare_worker(gpus)
        self.workspace = workspace
        self.min_duration_s = min_duration_s
        self.extractors = {s["name"]: features.load(FeatureSpec.from_json(s)) for s in specs}

    def __call__(self, batch: pa.Table) -> pa.Table:
        from mer_ray.features.batch import extract

        rows = batch.to_pylist()
        tries = {r["track_id"]: r["attempts"] + 1 for r in rows}
        uris = {r["track_id"]: r["uri"] for r in rows}
        result = extract([(r["track_id"], r["uri"], r["wanted"]) for r in rows], self.extractors, self.min_duration_s)
        self.workspace.append_rows(
            "failures",
            [
                failure(
                    f"extract:{name}" if name else "extract",
                    i,
                    e.reason,
                    _named(e.message, uris[i]),
                    e.transient,
                    tries[i],
                )
                for (name, i), e in result.errors.items()
            ],
        )
        made = 0
        for name, frames in result.frames.items():
            if frames:
                commit(self.workspace, self.extractors[name].spec, frames)
                made += len(frames)
        return pa.table({"tracks": [len(rows)], "made": [made], "seconds": [result.seconds]})


def commit(workspace: Workspace, spec: FeatureSpec, frames: dict[str, Any]) -> None:
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
    """With the file that it is about; of an object's address, what may be shown of it."""
    place = objects.shown(uri) if objects.is_object(uri) else uri
    return message if place in message else f"{place}: {message}"
