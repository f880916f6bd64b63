"""``tracks`` → ``audio``: get every track's audio file and probe it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileType

from mer_ray.audio import audio_changes, providers
from mer_ray.audio.decode import Probe
from mer_ray.audio.isolated import Decoder
from mer_ray.audio.providers.fetch import AudioFile, Keep, fetch
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError
from mer_ray.io import changes
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.rate_limit import Limiter, LocalLimiter
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.track import Track
from mer_ray.stages import blocks, counters, pool, session
from mer_ray.stages.cluster_limit import ClusterLimiter

SMALL_TRACKS = 64
"""Up to so many are got in this process, with `THREADS` threads: sooner than Ray's workers would start."""
BATCH = 16  # tracks of a commit, which is what a killed worker loses
THREADS = 8  # of a worker
CPUS = 0.5  # of a worker, which waits for the network for the most part
LEASE_S = 60.0  # by which a slot at a host outlives the longest download
COLUMNS = ["track_id", "artist", "title", "album", "spotify_id", "duration_s", "uri"]


def check(config: Config) -> None:
    """Raises ConfigError or InputError where a provider lacks what it needs."""
    providers.check(config.acquire.providers, config.acquire)


def run(config: Config, workspace: Workspace) -> Summary:
    """Get the audio of the tracks that have none, and look again at what has changed."""
    started = time.monotonic()
    settings = config.acquire
    workspace.settle("audio")  # complete the replacement of rows that a killed run began
    done, failed = workspace.ids("audio"), workspace.failed("acquire", config.again)
    for name in set(workspace.names("features")) - changes.precomputed(workspace).keys():
        workspace.settle(features_table(name), done)  # a killed run may have renamed their tracks
    known, again = audio_changes.Known(workspace), audio_changes.Again(workspace)
    summary = Summary("acquire", unit="audio files", done_before=len(done))

    def lacking(tracks: pa.Table) -> pa.Table:
        todo, attempts = failed.todo(tracks["track_id"], done, config.retry_failed)
        differs = known.differ(tracks)
        rows = tracks.append_column("attempts", pa.array(attempts, pa.int32()))
        return rows.append_column("again", pa.array(differs)).filter(pa.array(todo | differs))

    n_tracks = n_todo = 0
    for tracks in workspace.batches("tracks", COLUMNS):
        n_tracks += len(tracks)
        n_todo += len(lacking(tracks))
    if not n_tracks:
        workspace.require("tracks", "collect", ["track_id"])
    if n_todo:
        workers = pool.workers(config.address, settings.workers, n_todo <= SMALL_TRACKS, cpus=CPUS)
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
        size = BATCH if workers.local else blocks.balanced(n_todo, BATCH, session.n_cpus())

        def batches() -> Iterator[pa.Table]:
            for rows in blocks.windows(map(lacking, workspace.batches("tracks", COLUMNS))):
                yield from blocks.split(rows, size)

        with progress("acquire", n_todo) as ticker:
            for (block,) in workers.map(batches(), _Acquire, arguments):
                ticker.advance(block["made"] + len(block["reasons"]))
                again.add(json.loads(block["again"]), block["gone"])
                summary.made += block["new"]
                counters.count("acquire", block["made"], block["seconds"], block["reasons"])
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


_TEXTS = pa.list_(pa.string())
_DONE = pa.schema(
    {
        "made": pa.int64(),
        "new": pa.int64(),
        "seconds": pa.float64(),
        "reasons": _TEXTS,
        "again": pa.string(),
        "gone": _TEXTS,
    }
)
"""What a worker returns for a block. made: tracks with audio; new: how many of them had none. reasons: of failures.
again: rows of ``audio`` for tracks that had some, as JSON. gone: ids of tracks that no longer have any."""


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

    def __call__(self, batch: pa.Table) -> pa.Table:
        with ThreadPoolExecutor(THREADS) as threads:
            results = list(threads.map(self.get, batch.to_pylist()))
        failed = [r for r in results if "stage" in r]
        made = [r for r in results if "stage" not in r]
        there = {r["track_id"] for r in batch.to_pylist() if r["again"]}  # the driver replaces their rows
        new = [r for r in made if r["track_id"] not in there]
        self.workspace.append_rows("failures", failed)
        self.workspace.append_rows("audio", new)
        done = {
            "made": len(made),
            "new": len(new),
            "seconds": float(sum(r["duration_s"] for r in made)),
            "reasons": [r["reason"] for r in failed],
            "again": json.dumps([r for r in made if r["track_id"] in there]),
            "gone": [r["track_id"] for r in failed if r["track_id"] in there and not r["transient"]],
        }
        return pa.Table.from_pylist([done], _DONE)

    def close(self) -> None:
        """End the decoder's process."""
        self.decoder.close()

    @staticmethod
    def worker_died(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """See `pool.Worker`."""
        named = f"{one_line(row['artist'])} - {one_line(row['title'])}: {message}"
        failed = failure("acquire", row["track_id"], "worker_died", named, attempts=row["attempts"] + 1)
        arguments["workspace"].append_rows("failures", [failed])
        gone = [row["track_id"]] if row["again"] else []
        return [{"made": 0, "new": 0, "seconds": 0.0, "reasons": ["worker_died"], "again": "[]", "gone": gone}]

    def check(self, path: Path) -> Probe:
        """Whether a file will decode. Raises TrackError."""
        with self.decoding:  # the threads share one process that decodes
            return self.decoder.check(path)


def _one(
    row: dict[str, Any], sources: list[providers.Provider], keep: Keep, limits: providers.Limits
) -> dict[str, Any]:
    """A row of ``audio``, or of ``failures``."""
    known: dict[str, Any] = {key: row.get(key) for key in COLUMNS if key != "track_id"}
    track = Track(**known, key=row["track_id"])
    try:
        fetched = fetch(track, sources, keep, limits)
    except TrackError as error:
        return failure("acquire", track.id, error.reason, error.message, error.transient, row["attempts"] + 1)
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
    }


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
