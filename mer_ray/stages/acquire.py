"""``tracks`` → ``audio``: get every track's audio file and probe it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileType

from mer_ray.audio import providers
from mer_ray.audio.decode import Probe
from mer_ray.audio.isolated import Decoder
from mer_ray.audio.providers.fetch import AudioFile, Keep, fetch
from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import InputError, TrackError
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.rate_limit import Limiter, LocalLimiter
from mer_ray.io.schemas import SCHEMAS, features_table
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.track import Track
from mer_ray.stages import audio_changes, changes, plan, runner, task
from mer_ray.stages.cluster_limit import ClusterLimiter
from mer_ray.stages.task import Done

SMALL_TRACKS = 64
"""Up to so many are got in this process, with `THREADS` threads: sooner than Ray's workers would start."""
SIZES = plan.Sizes(smallest=8, part=32, largest=128)  # in tracks
THREADS = 8  # of a worker
CPUS = 0.5  # of a worker, which waits for the network for the most part
MEMORY = 2**29
"""Bytes of a worker, with its decoder."""
LEASE_S = 60.0  # by which a slot at a host outlives the longest download
COLUMNS = ["track_id", "artist", "title", "album", "spotify_id", "duration_s", "uri"]


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

    n_tracks = 0

    def lacking() -> Iterator[pa.Table]:
        nonlocal n_tracks
        for tracks in workspace.batches("tracks", COLUMNS):
            n_tracks += len(tracks)
            todo, attempts = failed.todo(tracks["track_id"], done, config.retry_failed)
            differs = known.differ(tracks)
            rows = tracks.append_column("attempts", pa.array(attempts, pa.int32()))
            rows = rows.append_column("again", pa.array(differs)).filter(pa.array(todo | differs))
            rows = rows.append_column("host", _hosts(rows["uri"]))
            yield rows.append_column("planned", pa.array(np.ones(len(rows))))

    with plan.Work(lacking(), plan.BY_HOST) as work:
        if not n_tracks:
            workspace.require("tracks", "collect", ["track_id"])
        if work.rows:
            _get(config, workspace, work, again, summary)
    if work.rows:
        again.flush()
        summary.changed, summary.gone = again.replaced, again.gone
        summary.done_before -= again.gone
        summary.notes += again.notes()
    summary.failed = workspace.n_failed("acquire")
    summary.seconds = time.monotonic() - started
    if not workspace.has("audio"):
        raise InputError(
            f"no audio for any of {n_tracks:,} tracks", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


_OUTPUT = SCHEMAS["audio"].append(pa.field("again", pa.bool_()))


def _hosts(uris: pa.ChunkedArray) -> pa.Array:
    """The host of each address; null for what has none."""
    return pc.struct_field(pc.extract_regex(uris.combine_chunks(), r"^(?i:https?)://(?P<host>[^/?#]*)"), "host")


def _get(config: Config, workspace: Workspace, work: plan.Work, again: audio_changes.Again, summary: Summary) -> None:
    """Get the audio, on Ray or, for few tracks, in this process. The driver writes the rows."""
    settings = config.acquire
    workers = runner.workers(config.address, settings.workers, work.rows <= SMALL_TRACKS)
    limiter: Limiter = LocalLimiter(settings.per_host)
    if not workers.local:
        limiter = ClusterLimiter(settings.per_host, settings.timeout_s + LEASE_S)
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

    stage = task.Stage("acquire", workspace, _Acquire, arguments, SIZES, CPUS, memory=MEMORY)
    with runner.Buffer(workspace, "audio") as audio:
        totals = runner.run(stage, work, workers, take)
    summary.notes += totals.notes()
    summary.lost = totals.too_many(config.max_lost)


class _Acquire:
    """A worker: gets and checks blocks of tracks, and commits their rows."""

    def __init__(
        self,
        workspace: Workspace,
        sources: list[providers.Provider],
        limiter: Limiter,
        timeout_s: float,
        max_mb: float,
        allow_partial: bool = False,
    ) -> None:
        self.workspace = workspace
        self.decoder, self.decoding = Decoder(allow_partial=allow_partial), Lock()
        keep = partial(_keep, workspace, self.check)
        limits = providers.Limits(timeout_s, max_mb, limiter.slot)
        self.get = partial(_one, sources=sources, keep=keep, limits=limits)

    def __call__(self, rows: pa.Table) -> Done:
        with ThreadPoolExecutor(THREADS) as threads:
            results = list(threads.map(self.get, rows.to_pylist()))
        made = [r for r in results if "stage" not in r]
        return Done(
            made=len(made),
            failed=[r for r in results if "stage" in r],
            seconds=float(sum(r["duration_s"] for r in made)),
            output=pa.Table.from_pylist(made, _OUTPUT),
        )

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """See `task.Worker`."""
        named = f"{one_line(row['artist'])} - {one_line(row['title'])}: {message}"
        return _failure(row, TrackError("worker_died", named))

    def check(self, path: Path) -> Probe:
        """Whether a file will decode. Raises TrackError."""
        with self.decoding:  # the threads share one process that decodes
            return self.decoder.check(path)


def _one(
    row: dict[str, Any], sources: list[providers.Provider], keep: Keep, limits: providers.Limits
) -> dict[str, Any]:
    """A row of ``audio``, or of ``failures``; with ``again``, whether the track had audio before."""
    known: dict[str, Any] = {key: row.get(key) for key in COLUMNS if key != "track_id"}
    track = Track(**known, key=row["track_id"])
    try:
        fetched = fetch(track, sources, keep, limits)
    except TrackError as error:
        return _failure(row, error)
    probe = fetched.file.probe
    size, mtime_ns = audio_changes.state(fetched.file.uri)
    return {
        "track_id": track.id,
        "uri": fetched.file.uri,
        "provider": fetched.provider,
        "sha256": fetched.file.sha256,
        "duration_s": probe.duration_s,
        "sample_rate": probe.sample_rate,
        "channels": probe.channels,
        "size": size,
        "mtime_ns": mtime_ns,
        "request": audio_changes.request(row, providers.searches(fetched.provider)),
        "tried": [
            {"provider": t.provider, "reason": t.error.reason, "message": one_line(t.error.message)}
            for t in fetched.failed
        ],
        "spotify_id": fetched.spotify_id,
        "decoded_share": probe.decoded_share,
        "again": row["again"],
    }


def _failure(row: dict[str, Any], error: TrackError) -> dict[str, Any]:
    attempts = row["attempts"] + 1
    failed = failure("acquire", row["track_id"], error.reason, error.message, error.transient, attempts)
    return failed | {"again": row["again"]}


def _keep(workspace: Workspace, check: Callable[[Path], Probe], path: Path, uri: str | None) -> AudioFile:
    """Check a file; a temporary one moves into the workspace, named by the hash of its bytes."""
    probe = check(path)
    sha256 = file_digest(path)
    if uri is not None:
        return AudioFile(uri, sha256, probe)
    parts = ("media", sha256[:2], f"{sha256}{probe.suffix}")
    there = workspace.fs.get_file_info(workspace.path(*parts))
    if there.type != FileType.File or there.size != path.stat().st_size:
        workspace.write_file(path, *parts)
    return AudioFile(workspace.at(*parts), sha256, probe)
