"""``audio`` → ``features/NAME``: decode once, compute every feature that is missing, commit a shard per part.

Precomputed frames come from their table instead, and need no audio.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa

from mer_ray import features
from mer_ray.audio.excerpt import Excerpt
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError
from mer_ray.features import FeatureSpec
from mer_ray.io import plan
from mer_ray.io.failures import Failed
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import COMPUTED, Workspace
from mer_ray.stages import counters, runner, session, task, workspace_source
from mer_ray.stages.totals import lost

SMALL_S = 600.0
"""Up to so many seconds of audio are done in this process: sooner than Ray's workers would start."""
SMALLEST_S = 180.0
"""Smaller blocks would spend most of their time on writing shards and on half-filled batches."""
LARGEST = 4
"""Commits of a block at most."""
MEMORY, NETWORK_MEMORY = 600 * 10**6, 1_200 * 10**6
"""Bytes of a worker, with its decoder; and of one that runs a network (docs/scaling.md)."""
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
        _compute(config, workspace, computed, summary)
    summary.failed = (reasons := workspace.reasons("extract")).total()
    summary.lost = lost(reasons, (summary.done_before + summary.made) // len(specs), config.max_lost)
    summary.seconds = time.monotonic() - started
    if not any(workspace.has(features_table(name)) for name in specs):
        raise InputError(
            f"no features for any track; {summary.failed:,} failed",
            f"see `mer-ray status --workspace {shlex.quote(workspace.uri)}`",
        )
    return summary


def lacking(config: Config, workspace: Workspace, specs: list[FeatureSpec], summary: Summary) -> Iterator[pa.Table]:
    """The rows of ``audio`` that lack a feature, with columns ``wanted``, ``attempts`` and ``planned`` (s)."""
    longest_s = config.extract.excerpt.seconds if config.extract.excerpt else np.inf
    own = [_so_far(workspace, spec, summary) for spec in specs]
    undecoded = workspace.failed("extract", config.again)
    there = False
    for audio in workspace.batches("audio", ["track_id", "uri", "duration_s"], plan.ROWS):
        there = True
        ids = audio["track_id"]
        # What could not be decoded for one feature cannot be for another.
        final, attempts = undecoded.look_up(ids)
        lacks = np.zeros((len(audio), len(specs)), bool)
        for column, (done, failed) in enumerate(own):
            lacks[:, column], tries = failed.todo(ids, done, config.retry_failed)
            attempts = np.maximum(attempts, tries)
        if not config.retry_failed:
            lacks[final] = False
        some = np.flatnonzero(lacks.any(1))
        kinds, kind = np.unique(lacks[some], axis=0, return_inverse=True)
        wanted = pa.array([[s.name for s, lack in zip(specs, k, strict=True) if lack] for k in kinds], _NAMES)
        rows = audio.take(pa.array(some))
        planned = np.clip(rows["duration_s"].to_numpy(), 1e-3, longest_s)
        yield (
            rows.append_column("wanted", wanted.take(pa.array(kind.ravel())))
            .append_column("attempts", pa.array(attempts[some], pa.int32()))
            .append_column("planned", pa.array(planned, pa.float64()))
        )
    if not there:
        workspace.require("audio", "acquire", ["track_id"])


_NAMES = pa.list_(pa.string())


def _so_far(workspace: Workspace, spec: FeatureSpec, summary: Summary) -> tuple[Ids, Failed]:
    """The tracks that have a feature, and those that failed. Raises WorkspaceError where its settings differ."""
    table, stage = features_table(spec.name), f"extract:{spec.name}"
    workspace.claim(stage, table, spec.identity)
    done = workspace.ids(table)
    summary.done_before += len(done)
    if spec.note:
        summary.notes.append(spec.note)
    return done, workspace.failed(stage)


def _compute(config: Config, workspace: Workspace, specs: list[FeatureSpec], summary: Summary) -> None:
    """Compute the missing features, on Ray or, for little audio, in this process."""
    settings = config.extract
    part = 60 * settings.batch_minutes
    from mer_ray.features.extraction import Extraction

    stage = task.Stage(
        "extract",
        workspace,
        Extraction,
        {
            "workspace": workspace,
            "specs": [s.to_json() for s in specs],
            "min_duration_s": settings.min_duration_s,
            "allow_partial": config.allow_partial,
        },
        plan.Sizes(SMALLEST_S, part, LARGEST * part),
        gpus=settings.gpus_per_worker,
        memory=NETWORK_MEMORY if any(s.name == "vggish" or s.family == "hub" for s in specs) else MEMORY,
    )
    with plan.Work(lacking(config, workspace, specs, summary)) as work:
        if not work.rows:
            return
        # One track cannot be split, however long it is.
        small = work.planned <= session.small(SMALL_S) or work.rows == 1
        workers = runner.workers(config.address, settings.workers, small, settings.gpus_per_worker)
        totals = runner.run(stage, work, workers)
    summary.made += totals.made
    summary.notes += totals.notes()


def _copy(config: Config, workspace: Workspace, spec: FeatureSpec, tracks: pa.Table, summary: Summary) -> None:
    """Copy precomputed frames for the tracks that lack them."""
    from mer_ray.features import precomputed
    from mer_ray.features.extraction import commit, failures

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
            workspace.append_rows("failures", failures(errors, uris, attempts))
            if frames:
                commit(workspace, spec, frames)
            summary.made += len(frames)
            ticker.advance(len(chunk))
            counters.count("extract", len(frames), failed=[e.reason for e in errors.values()])
