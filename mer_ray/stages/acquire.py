"""``tracks`` → ``audio``: every track's file, on a disk and probed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mer_ray.audio.decode import probe
from mer_ray.audio.location import local_copy
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError
from mer_ray.identity import file_digest
from mer_ray.sources import Track
from mer_ray.sources.fetch import fetch
from mer_ray.stages import session
from mer_ray.tables import Workspace, failure

BATCH = 16
THREADS = 4  # of a worker, waiting for the network
COLUMNS = ["track_id", "artist", "title", "spotify_id", "uri"]


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
        session.connect(config.address)
        rows = tracks.filter(pa.compute.is_in(tracks["track_id"], pa.array(todo)))
        rows = rows.append_column(
            "attempts", pa.array([attempts.get(i, 0) for i in rows["track_id"].to_pylist()], pa.int32())
        )
        size = session.balanced(len(rows), BATCH, session.n_cpus())
        arguments = {
            "workspace": workspace,
            "providers": list(settings.providers),
            "folder": _index(settings.folder),
            "timeout_s": settings.timeout_s,
            "max_mb": settings.max_mb,
        }
        with progress("acquire", len(rows)) as ticker:
            for answered in session.map_blocks(session.split(rows, size), _acquire, arguments, settings.workers):
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
    """Track id → path, for a folder of audio whose files name their artist and title."""
    if path is None:
        return {}
    from mer_ray.sources import folder

    found = (t for t in folder.tracks(path) if isinstance(t, Track))
    return {t.id: t.uri for t in found if t.uri}


def _acquire(
    batch: pa.Table, workspace: Workspace, providers: list[str], folder: dict[str, str], timeout_s: float, max_mb: float
) -> pa.Table:
    """Fetch and probe a block of tracks, and commit their rows."""
    get = partial(_one, workspace, providers, folder, timeout_s, max_mb)
    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(get, batch.to_pylist()))
    lost = [r for r in results if "stage" in r]
    made = [r for r in results if "stage" not in r]
    workspace.append_rows("failures", lost)
    workspace.append_rows("audio", made)
    return pa.table({"made": [len(made)], "failed": [len(lost)]})


def _one(
    workspace: Workspace,
    providers: list[str],
    folder: dict[str, str],
    timeout_s: float,
    max_mb: float,
    row: dict[str, Any],
) -> dict[str, Any]:
    track = Track(row["artist"], row["title"], spotify_id=row["spotify_id"], uri=row["uri"], key=row["track_id"])
    try:
        fetched = fetch(track, providers, folder, partial(_keep, workspace, track.id), timeout_s, max_mb)
        with local_copy(fetched.uri) as path:
            probed = probe(path)
            sha256 = file_digest(path)
    except TrackError as error:
        return failure("acquire", track.id, error.reason, error.message, error.transient, row["attempts"] + 1)
    return {
        "track_id": track.id,
        "uri": fetched.uri,
        "provider": fetched.provider,
        "sha256": sha256,
        "duration_s": probed.duration_s,
        "sample_rate": probed.sample_rate,
        "channels": probed.channels,
        "tried": [],
    }


def _keep(workspace: Workspace, track_id: str, path: Path) -> str:
    """Take a fetched file into the workspace, under its track's id, and answer its URI."""
    probe(path)  # what is no audio is not kept
    parts = ("media", track_id[:2], f"{track_id}{path.suffix}")
    workspace.write_bytes(path.read_bytes(), *parts)
    return workspace.path(*parts) if workspace.is_local else f"{workspace.uri.rstrip('/')}/{'/'.join(parts)}"
