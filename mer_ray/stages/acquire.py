"""``tracks`` → ``audio``: every track's file, on a disk and probed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileType

from mer_ray.audio.decode import Probe
from mer_ray.audio.isolated import Decoder
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError
from mer_ray.identity import file_digest, one_line
from mer_ray.sources import Track
from mer_ray.sources import fetch as sources
from mer_ray.sources.http import replacing
from mer_ray.sources.limits import Limiter
from mer_ray.stages import blocks, limits, session
from mer_ray.tables import Workspace, failure

FEW_TRACKS = 64
"""Up to so many are got in this process, with `THREADS` threads, before Ray's workers would have started."""
BATCH = 16  # tracks of a commit, which is what a killed worker loses
THREADS = 8  # of a worker
CPUS = 0.5  # of a worker, which waits for the network for the most part
LEASE_S = 60.0  # that a place at a host outlives the longest download
COLUMNS = ["track_id", "artist", "title", "spotify_id", "duration_s", "uri"]


def check(config: Config) -> None:
    """Raises ConfigError or InputError where a provider lacks what it needs."""
    if "savify" in config.acquire.providers:
        from mer_ray.sources import savify

        savify.check()
    if config.acquire.folder is not None:
        from mer_ray.sources import folder

        folder.files(config.acquire.folder)


def run(config: Config, workspace: Workspace) -> Summary:
    """Get the audio of the tracks that have none."""
    started = time.monotonic()
    settings = config.acquire
    tracks = workspace.require("tracks", "collect", COLUMNS)
    done = workspace.ids("audio")
    todo, attempts = workspace.pending("acquire", tracks["track_id"].to_pylist(), done, config.retry_failed)
    summary = Summary("acquire", unit="audio files", done_before=len(done))
    if todo:
        rows = tracks.filter(pa.compute.is_in(tracks["track_id"], pa.array(todo)))
        rows = rows.append_column(
            "attempts", pa.array([attempts.get(i, 0) for i in rows["track_id"].to_pylist()], pa.int32())
        )
        here = len(rows) <= FEW_TRACKS and session.few(config.address)
        if not here:
            session.connect(config.address)
        lease_s = settings.timeout_s + LEASE_S
        arguments = {
            "workspace": workspace,
            "providers": list(settings.providers),
            "folder": _index(settings.folder),
            "limiter": limits.shared("acquire", settings.per_host, lease_s=lease_s, local=here),
            "bounds": {
                "timeout_s": settings.timeout_s,
                "max_mb": settings.max_mb,
                "duration_tolerance": settings.duration_tolerance,
                "min_similarity": settings.min_similarity,
            },
        }
        with progress("acquire", len(rows)) as ticker:
            if here:
                answers = session.map_here(blocks.split(rows, BATCH), _Acquire, arguments)
            else:
                size = blocks.balanced(len(rows), BATCH, session.n_cpus())
                batches = blocks.split(rows, size)
                answers = session.map_blocks(batches, _Acquire, arguments, settings.workers, cpus=CPUS)
            for answered in answers:
                summary.made += sum(a["made"] for a in answered)
                ticker.advance(sum(a["made"] + a["failed"] for a in answered))
    summary.failed = len(workspace.failures("acquire"))
    summary.seconds = time.monotonic() - started
    if not workspace.has("audio"):
        raise InputError(
            f"no audio for any of {len(tracks):,} tracks", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


def _index(path: str | None) -> dict[str, str]:
    """Where the tracks of a folder of audio are whose files name their artist and title."""
    if path is None:
        return {}
    from mer_ray.sources import folder

    return sources.index(t for t in folder.tracks(path) if isinstance(t, Track))


class _Acquire:
    """A worker: gets and checks blocks of tracks, and commits their rows."""

    def __init__(
        self,
        workspace: Workspace,
        providers: list[str],
        folder: dict[str, str],
        limiter: Limiter,
        bounds: dict[str, float],
    ) -> None:
        self.workspace = workspace
        self.decoder, self.decoding = Decoder(), Lock()
        keep = partial(_keep, workspace, self.check)
        limits = sources.Limits(slot=limiter.slot, **bounds)
        self.get = partial(_one, providers=providers, folder=folder, keep=keep, limits=limits)

    def __call__(self, batch: pa.Table) -> pa.Table:
        with ThreadPoolExecutor(THREADS) as threads:
            results = list(threads.map(self.get, batch.to_pylist()))
        lost = [r for r in results if "stage" in r]
        made = [r for r in results if "stage" not in r]
        self.workspace.append_rows("failures", lost)
        self.workspace.append_rows("audio", made)
        return pa.table({"made": [len(made)], "failed": [len(lost)]})

    def check(self, path: Path) -> Probe:
        """Whether a file will decode. Raises TrackError."""
        with self.decoding:  # the threads share one process that decodes
            return self.decoder.check(path)


def _one(
    row: dict[str, Any], providers: list[str], folder: Mapping[str, str], keep: sources.Keep, limits: sources.Limits
) -> dict[str, Any]:
    """A row of ``audio``, or of ``failures``."""
    known = {key: row[key] for key in ("artist", "title", "spotify_id", "duration_s", "uri")}
    track = Track(**known, key=row["track_id"])
    try:
        fetched = sources.fetch(track, providers, folder, keep, limits)
    except TrackError as error:
        return failure("acquire", track.id, error.reason, error.message, error.transient, row["attempts"] + 1)
    probe = fetched.held.probe
    return {
        "track_id": track.id,
        "uri": fetched.held.uri,
        "provider": fetched.provider,
        "sha256": fetched.held.sha256,
        "duration_s": probe.duration_s,
        "sample_rate": probe.sample_rate,
        "channels": probe.channels,
        "tried": [
            {"provider": t.provider, "reason": t.error.reason, "message": one_line(t.error.message)}
            for t in fetched.tried
        ],
        "spotify_id": fetched.spotify_id,
    }


def _keep(workspace: Workspace, check: Callable[[Path], Probe], path: Path, uri: str | None) -> sources.Held:
    """Check a file; one that has no place of its own goes into the workspace, under the hash of its bytes."""
    probe = check(path)
    sha256 = file_digest(path)
    if uri is not None:
        return sources.Held(uri, sha256, probe)
    parts = ("media", sha256[:2], f"{sha256}{probe.suffix}")
    target = workspace.path(*parts)
    there = workspace.fs.get_file_info(target)
    if there.type != FileType.File or there.size != path.stat().st_size:
        _copy(workspace, path, target)
    if workspace.is_local:
        return sources.Held(target, sha256, probe)
    base, mark, query = workspace.uri.partition("?")
    return sources.Held(f"{base.rstrip('/')}/{'/'.join(parts)}{mark}{query}", sha256, probe)


def _copy(workspace: Workspace, path: Path, target: str) -> None:
    with path.open("rb") as source:
        if workspace.is_local:
            with replacing(Path(target), Path(workspace.path(".tmp"))) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        else:  # object stores show an object only once it is complete
            with workspace.fs.open_output_stream(target) as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
