"""The worker of `stages.acquire`: tracks → rows of ``audio``."""

from __future__ import annotations

from collections.abc import Callable
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
from mer_ray.errors import TrackError
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.rate_limit import Limiter
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace, failure
from mer_ray.io.track import Track
from mer_ray.io.worker import Done

THREADS = 8
COLUMNS = ["track_id", "artist", "title", "album", "spotify_id", "duration_s", "uri"]
_OUTPUT = SCHEMAS["audio"].append(pa.field("again", pa.bool_()))


class Acquisition:
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
        checked = partial(keep, workspace, self.check)
        limits = providers.Limits(timeout_s, max_mb, limiter.slot)
        self.get = partial(row, sources=sources, keep=checked, limits=limits)

    def __call__(self, rows: pa.Table, final: bool = True) -> Done:
        with ThreadPoolExecutor(THREADS) as threads:
            results = list(threads.map(partial(self.get, final=final), rows.to_pylist()))
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
        """See `io.worker.Worker`."""
        named = f"{one_line(row['artist'])} - {one_line(row['title'])}: {message}"
        return _failure(row, TrackError("worker_died", named))

    def check(self, path: Path) -> Probe:
        """Whether a file will decode. Raises TrackError."""
        with self.decoding:  # the threads share one process that decodes
            return self.decoder.check(path)


def row(
    asked: dict[str, Any], sources: list[providers.Provider], keep: Keep, limits: providers.Limits, final: bool = True
) -> dict[str, Any]:
    """A row of ``audio``, or of ``failures``; with ``again``, whether the track had audio before."""
    known: dict[str, Any] = {key: asked.get(key) for key in COLUMNS if key != "track_id"}
    track = Track(**known, key=asked["track_id"])
    try:
        fetched = fetch(track, sources, keep, limits, final)
    except TrackError as error:
        return _failure(asked, error)
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
        "request": audio_changes.request(asked, providers.searches(fetched.provider)),
        "tried": [
            {"provider": t.provider, "reason": t.error.reason, "message": one_line(t.error.message)}
            for t in fetched.failed
        ],
        "spotify_id": fetched.spotify_id,
        "decoded_share": probe.decoded_share,
        "again": asked["again"],
    }


def _failure(row: dict[str, Any], error: TrackError) -> dict[str, Any]:
    attempts = row["attempts"] + 1
    failed = failure("acquire", row["track_id"], error.reason, error.message, error.transient, attempts)
    return failed | {"again": row["again"]}


def keep(workspace: Workspace, check: Callable[[Path], Probe], path: Path, uri: str | None) -> AudioFile:
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
