"""``tracks`` → ``audio``: every track's file, on a disk and probed."""

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

from mer_ray.audio import providers
from mer_ray.audio.decode import Probe
from mer_ray.audio.isolated import Decoder
from mer_ray.audio.providers.fetch import AudioFile, Keep, fetch
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.rate_limit import Limiter
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.track import Track
from mer_ray.stages import audio_changes, blocks, changes, counters, session, shared_limits

FEW_TRACKS = 64
"""Up to so many are got in this process, with `THREADS` threads, before Ray's workers would have started."""
BATCH = 16  # tracks of a commit, which is what a killed worker loses
THREADS = 8  # of a worker
CPUS = 0.5  # of a worker, which waits for the network for the most part
LEASE_S = 60.0  # that a place at a host outlives the longest download
COLUMNS = ["track_id", "artist", "title", "album", "spotify_id", "duration_s", "uri"]


def check(config: Config) -> None:
    """Raises ConfigError or InputError where a provider lacks what it needs."""
    providers.check(config.acquire.providers, config.acquire)


def run(config: Config, workspace: Workspace) -> Summary:
    """Get the audio of the tracks that have none, and look again at what has changed."""
    started = time.monotonic()
    settings = config.acquire
    workspace.settle("audio")  # where a run was killed that put rows in the places of others
    done, lost = workspace.ids("audio"), workspace.lost("acquire", config.again)
    for name in set(workspace.names("features")) - changes.brought(workspace).keys():
        workspace.settle(features_table(name), done)  # or one that renamed tracks: of which bytes these are, none knows
    known, again = audio_changes.Known(workspace), audio_changes.Again(workspace)
    summary = Summary("acquire", unit="audio files", done_before=len(done))

    def lacking(tracks: pa.Table) -> pa.Table:
        todo, attempts = lost.todo(tracks["track_id"], done, config.retry_failed)
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
        here = n_todo <= FEW_TRACKS and session.few(config.address)
        if not here:
            session.connect(config.address)
        sources = providers.load(settings.providers, settings)
        summary.notes += [note for source in sources for note in source.notes]
        lease_s = settings.timeout_s + LEASE_S
        arguments = {
            "workspace": workspace,
            "sources": sources,
            "allow_partial": config.allow_partial,
            "limiter": shared_limits.shared("acquire", settings.per_host, lease_s=lease_s, local=here),
            "timeout_s": settings.timeout_s,
            "max_mb": settings.max_mb,
        }
        size = BATCH if here else blocks.balanced(n_todo, BATCH, session.n_cpus())

        def batches() -> Iterator[pa.Table]:
            for rows in blocks.windows(map(lacking, workspace.batches("tracks", COLUMNS))):
                yield from blocks.split(rows, size)

        if here:
            answers = session.map_here(batches(), _Acquire, arguments)
        else:
            answers = session.map_blocks(batches(), _Acquire, arguments, settings.workers, cpus=CPUS)
        with progress("acquire", n_todo) as ticker:
            for answered in answers:
                ticker.advance(sum(a["made"] + a["failed"] for a in answered))
                for a in answered:
                    again.add(json.loads(a["again"]), a["gone"])
                    summary.made += a["new"]
                    counters.count("acquire", a["made"], a["seconds"], a["lost"])
        again.flush()
        summary.changed, summary.gone = again.replaced, again.lost
        summary.done_before -= again.lost
        summary.notes += again.notes()
    summary.failed = workspace.n_lost("acquire")
    summary.seconds = time.monotonic() - started
    if not workspace.has("audio"):
        raise InputError(
            f"no audio for any of {n_tracks:,} tracks", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


_ANSWER = pa.schema(
    [(n, pa.int64()) for n in ("made", "new", "failed")]
    + [("seconds", pa.float64()), ("lost", pa.list_(pa.string())), ("again", pa.string())]
    + [("gone", pa.list_(pa.string()))]
)


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
        lost = [r for r in results if "stage" in r]
        made = [r for r in results if "stage" not in r]
        there = {r["track_id"] for r in batch.to_pylist() if r["again"]}  # the driver puts these in their places
        new = [r for r in made if r["track_id"] not in there]
        self.workspace.append_rows("failures", lost)
        self.workspace.append_rows("audio", new)
        answer = {
            "made": len(made),
            "new": len(new),
            "failed": len(lost),
            "seconds": float(sum(r["duration_s"] for r in made)),
            "lost": [r["reason"] for r in lost],
            "again": json.dumps([r for r in made if r["track_id"] in there]),
            "gone": [r["track_id"] for r in lost if r["track_id"] in there and not r["transient"]],
        }
        return pa.Table.from_pylist([answer], _ANSWER)

    @staticmethod
    def lost(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """A track on which workers die, however often it is tried: see `pool.Pool`."""
        told = f"{one_line(row['artist'])} - {one_line(row['title'])}: {message}"
        lost = failure("acquire", row["track_id"], "worker_died", told, attempts=row["attempts"] + 1)
        arguments["workspace"].append_rows("failures", [lost])
        gone = [row["track_id"]] if row["again"] else []
        answer = {"made": 0, "new": 0, "failed": 1, "seconds": 0.0, "lost": ["worker_died"]}
        return [{**answer, "again": "[]", "gone": gone}]

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
    """Check a file; one that has no place of its own goes into the workspace, under the hash of its bytes."""
    probe = check(path)
    sha256 = file_digest(path)
    if uri is not None:
        return AudioFile(uri, sha256, probe)
    parts = ("media", sha256[:2], f"{sha256}{probe.suffix}")
    there = workspace.fs.get_file_info(workspace.path(*parts))
    if there.type != FileType.File or there.size != path.stat().st_size:
        workspace.write_file(path, *parts)
    return AudioFile(workspace.at(*parts), sha256, probe)
