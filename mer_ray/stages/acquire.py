"""``tracks`` → ``audio``: get every track's audio file and probe it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.audio import audio_changes, providers
from mer_ray.audio.acquisition import COLUMNS, Acquisition
from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import InputError
from mer_ray.io import changes, plan
from mer_ray.io.buffer import Buffer
from mer_ray.io.rate_limit import Limiter, LocalLimiter
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace
from mer_ray.io.worker import Done
from mer_ray.stages import runner, session, task
from mer_ray.stages.cluster_limit import ClusterLimiter
from mer_ray.stages.totals import lost

SMALL_TRACKS = 64
"""Up to so many are got in this process, with `THREADS` threads: sooner than Ray's workers would start."""
SIZES = plan.Sizes(smallest=8, part=32, largest=128)  # in tracks
CPUS = 0.5  # of a worker, which waits for the network for the most part
MEMORY = 600 * 10**6
"""Bytes of a worker, with its decoder (docs/scaling.md)."""


def check(config: Config) -> None:
    """Raises ConfigError or InputError where a provider lacks what it needs."""
    providers.check(config.acquire.providers, config.acquire)


def run(config: Config, workspace: Workspace) -> Summary:
    """Get the audio of the tracks that have none, and look again at what has changed."""
    started = time.monotonic()
    workspace.settle("audio")  # complete the replacement of rows that a killed run began
    done, failed = workspace.ids("audio"), workspace.failed("acquire", config.again)
    for name in set(workspace.names("features")) - changes.precomputed(workspace).keys():
        workspace.settle(features_table(name), done)  # a killed run may have renamed their tracks
    known, again = audio_changes.Known(workspace), audio_changes.Again(workspace)
    summary = Summary("acquire", unit="audio files", done_before=len(done))

    n_tracks, turns = 0, plan.Turns()

    def lacking() -> Iterator[pa.Table]:
        nonlocal n_tracks
        for tracks in workspace.batches("tracks", COLUMNS):
            n_tracks += len(tracks)
            todo, attempts = failed.todo(tracks["track_id"], done, config.retry_failed)
            differs = known.differ(tracks)
            rows = tracks.append_column("attempts", pa.array(attempts, pa.int32()))
            rows = rows.append_column("again", pa.array(differs)).filter(pa.array(todo | differs))
            # Rows of one host side by side would wait for each other's downloads.
            rows = rows.append_column("turn", turns.of(_hosts(rows["uri"])))
            yield rows.append_column("planned", pa.array(np.ones(len(rows))))

    with plan.Work(lacking(), plan.BY_TURN) as work:
        if not n_tracks:
            workspace.require("tracks", "collect", ["track_id"])
        if work.rows:
            _get(config, workspace, work, again, summary)
    if work.rows:
        again.flush()
        summary.changed, summary.gone = again.replaced, again.gone
        summary.done_before -= again.gone
        summary.notes += again.notes()
    summary.failed = (reasons := workspace.reasons("acquire")).total()
    summary.lost = lost(reasons, summary.done_before + summary.made, config.max_lost)
    summary.seconds = time.monotonic() - started
    if not workspace.has("audio"):
        raise InputError(
            f"no audio for any of {n_tracks:,} tracks", f"see `mer-ray status --workspace {shlex.quote(workspace.uri)}`"
        )
    return summary


def _hosts(uris: pa.ChunkedArray) -> pa.Array:
    """The host of each address; null for what has none."""
    return pc.struct_field(pc.extract_regex(uris.combine_chunks(), r"^(?i:https?)://(?P<host>[^/?#]*)"), "host")


def _get(config: Config, workspace: Workspace, work: plan.Work, again: audio_changes.Again, summary: Summary) -> None:
    """Get the audio, on Ray or, for few tracks, in this process. The driver writes the rows."""
    settings = config.acquire
    workers = runner.workers(config.address, settings.workers, work.rows <= SMALL_TRACKS or not session.has_ray())
    limiter: Limiter = LocalLimiter(settings.per_host)
    if not workers.local:
        limiter = ClusterLimiter(settings.per_host)
    sources = providers.load(settings.providers, settings)
    summary.notes += [note for source in sources for note in source.notes]
    arguments = {
        "workspace": workspace,
        "sources": sources,
        "allow_partial": config.allow_partial,
        "limiter": limiter,
        "timeout_s": settings.timeout_s,
        "max_mb": settings.max_mb,
    }

    def take(done: Done) -> None:
        rows = done.output.to_pylist() if done.output is not None else []
        had = [row.pop("again") for row in rows]
        new = [row for row, has in zip(rows, had, strict=True) if not has]
        audio.add(new)
        summary.made += len(new)
        gone = [f["track_id"] for f in done.failed if f["again"] and not f["transient"]]
        again.add([row for row, has in zip(rows, had, strict=True) if has], gone)

    stage = task.Stage("acquire", workspace, Acquisition, arguments, SIZES, CPUS, memory=MEMORY)
    with Buffer(workspace, "audio") as audio:
        totals = runner.run(stage, work, workers, take)
    summary.notes += totals.notes()
