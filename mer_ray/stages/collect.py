"""Source → ``tracks``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import ConfigError, InputError
from mer_ray.identity import digest, one_line
from mer_ray.ids import Ids
from mer_ray.schemas import DIMENSIONS
from mer_ray.sources import Found, Track
from mer_ray.stages import metrics
from mer_ray.tables import Workspace, failure, now

SHARD_ROWS = 500


def check(config: Config) -> None:
    """Raises ConfigError or InputError if the source cannot be used."""
    settings = config.collect
    if settings.source == "lastfm":
        from mer_ray.sources import lastfm

        if not settings.offline:
            lastfm.key()
    elif settings.source == "manifest":
        from mer_ray.sources import manifest

        if not settings.manifest:
            raise ConfigError("collect.manifest is not set", "give the path of a CSV, JSON or Parquet file")
        manifest.check(settings.manifest, settings.scale)
    elif settings.source == "folder":
        from mer_ray.sources import folder

        if not settings.folder:
            raise ConfigError("collect.folder is not set", "give the path of a folder with audio files")
        folder.files(settings.folder)


def run(config: Config, workspace: Workspace) -> Summary:
    """Add the tracks of the source that the workspace does not have."""
    settings = config.collect
    if settings.source == "lastfm":
        from mer_ray.stages import harvest

        return harvest.run(config, workspace)
    started = time.monotonic()
    identity: dict[str, Any] = {"source": settings.source}
    if settings.source == "demo":
        identity |= settings.demo.model_dump()
    elif settings.source == "manifest":
        identity |= {"scale": settings.scale}
    before = workspace.lost("collect")
    tries = dict(zip(before.ids.to_pylist(), before.attempts.tolist(), strict=True))
    # Every run meets all the rows of its source again, so only the failures of this run count.
    workspace.claim("collect", "tracks", identity, restart=True)

    known = workspace.ids("tracks")
    summary = Summary("collect", done_before=len(known))
    seen = Ids()
    held: list[Track] = []
    failures: list[dict[str, Any]] = []

    def lose(track_id: str, reason: str, message: str, transient: bool = False) -> None:
        failures.append(failure("collect", track_id, reason, message, transient, tries.get(track_id, 0) + 1))

    def flush() -> None:
        # Taken first: what could not be written is left to the next run, and not met again by the last flush.
        tracks = held[:]
        held.clear()
        ids = [track.id for track in tracks]
        first = seen.add(ids)
        fresh = first & ~known.mask(ids)
        workspace.append_rows("tracks", [row(tracks[i], settings.source, now()) for i in np.flatnonzero(fresh)])
        again = [tracks[i] for i in np.flatnonzero(~first)]
        kept = _places(workspace, {track.id for track in again})
        for track in again:
            said = f"{_place(track)} is the same artist and title as {kept[track.id]}, which was kept"
            lose(digest(f"{track.uri} {track.id}".encode())[:16], "duplicate", said)
        lost = failures[:]
        failures.clear()
        workspace.append_rows("failures", lost)
        made = int(fresh.sum())
        summary.made += made
        metrics.count("collect", made, lost=[f["reason"] for f in lost])

    with progress("collect", settings.limit) as ticker:
        try:
            for found in islice(_source(config), settings.limit):
                ticker.advance()
                track, error = found if isinstance(found, tuple) else (found, None)
                if error is not None:
                    lose(track.id, error.reason, error.message, error.transient)
                else:
                    held.append(track)
                if len(held) + len(failures) >= SHARD_ROWS:
                    flush()
        finally:
            flush()  # what was asked for is kept, also when the source breaks off
    summary.failed = workspace.n_lost("collect")
    summary.notes += _remarks(config)
    summary.seconds = time.monotonic() - started
    if not workspace.has("tracks"):
        raise InputError(
            f"no track was collected; {summary.failed} failed", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


def _source(config: Config) -> Iterator[Found]:
    settings = config.collect
    if settings.source == "manifest":
        from mer_ray.sources import manifest

        return manifest.tracks(settings.manifest or "", settings.scale)
    if settings.source == "folder":
        from mer_ray.sources import folder

        return folder.tracks(settings.folder or "")
    from mer_ray.sources import demo

    return demo.tracks(settings.demo.cues, settings.demo.seconds, settings.demo.seed)


def _remarks(config: Config) -> list[str]:
    """What the source's table was understood to say."""
    if config.collect.source != "manifest":
        return []
    from mer_ray.sources import manifest

    return manifest.understood(config.collect.manifest or "", config.collect.scale)


def _places(workspace: Workspace, ids: Set[str]) -> dict[str, str]:
    """Where the tracks that are kept come from."""
    rows = workspace.find("tracks", sorted(ids), ["track_id", "artist", "title", "uri"]).to_pylist()
    return {r["track_id"]: one_line(r["uri"] or f"{r['artist']} – {r['title']}", 200) for r in rows}


def _place(track: Track) -> str:
    return one_line(track.uri or f"{track.artist} – {track.title}", 200)


def row(track: Track, source: str, at: datetime | None) -> dict[str, Any]:
    """A row of ``tracks``. at: when the source said so."""
    return {
        "track_id": track.id,
        "artist": one_line(track.artist),
        "title": one_line(track.title),
        "album": track.album,
        "composer": track.composer,
        "mbid": track.mbid,
        "spotify_id": track.spotify_id,
        "duration_s": track.duration_s,
        "uri": track.uri,
        "tags": [{"name": one_line(n), "weight": w} for n, w in track.tags],
        "given": dict(zip(DIMENSIONS, track.given, strict=True)) if track.given else None,
        "source": source,
        "fetched_at": at,
    }
