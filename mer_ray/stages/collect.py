"""Source → ``tracks``, which follows what has changed there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mer_ray.audio.walk import BROKEN, UNREADABLE, Skipped
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import ConfigError, InputError, WorkspaceError
from mer_ray.io import lock
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.io.track import Found
from mer_ray.sources.listing import Listing
from mer_ray.stages import changes, counters, workspace_source


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


@lock.alone("collect")
def run(config: Config, workspace: Workspace) -> Summary:
    """Make ``tracks`` what the source has now; what followed from what has changed or is gone there is void."""
    config = workspace_source.adopt(config, workspace)
    settings = config.collect
    if settings.source == "lastfm":
        from mer_ray.stages import collect_lastfm

        return collect_lastfm.run(config, workspace)
    started = time.monotonic()
    identity: dict[str, Any] = {"source": settings.source}
    if settings.source == "demo":
        identity |= settings.demo.model_dump()
    elif settings.source == "manifest":
        identity |= {"scale": settings.scale}
    before = workspace.lost("collect")
    tries = dict(zip(before.ids.to_pylist(), before.attempts.tolist(), strict=True))
    workspace.claim("collect", "tracks", identity)
    skipped, failures = Skipped(), list[dict[str, Any]]()

    def lose(track_id: str, reason: str, message: str, transient: bool = False) -> None:
        failures.append(failure("collect", track_id, reason, message, transient, tries.get(track_id, 0) + 1))

    with Listing(settings.source, now(), by_content=settings.source == "folder") as listing:
        with progress("collect", settings.limit) as ticker:
            for found in islice(_source(config, workspace, skipped), settings.limit):
                ticker.advance()
                track, error = found if isinstance(found, tuple) else (found, None)
                if error is None:
                    listing.add(track)
                else:
                    lose(track.id, error.reason, error.message, error.transient)
        for track_id, error in listing.close():
            lose(track_id, error.reason, error.message)
        # What lies in a folder that cannot be read now, or on a disk that is not mounted, is not gone.
        keep_gone = settings.keep_gone or bool(skipped.counts[UNREADABLE] or skipped.counts[BROKEN])
        followed = _compare(workspace, listing, keep_gone, failures)
        workspace_source.remember(settings, workspace)
        # Every run meets all the rows of its source again, so only the failures of this run count.
        workspace.claim("collect", "tracks", identity, restart=True)
        workspace.append_rows("failures", [{**f, "at": now()} for f in failures])
        changes.void(workspace, followed)
        changes.store(workspace, followed, listing.rows)
    counters.count("collect", followed.new, lost=[f["reason"] for f in failures])
    summary = Summary("collect", done_before=followed.kept, made=followed.new)
    summary.changed, summary.gone = len(followed.changed), len(followed.gone)
    if line := str(followed):
        summary.notes.append(line)
    if skipped:
        summary.notes.append(str(skipped))
    summary.failed = workspace.n_lost("collect")
    summary.notes += _remarks(config)
    summary.seconds = time.monotonic() - started
    if not workspace.has("tracks"):
        raise InputError(
            f"no track was collected; {summary.failed} failed", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


def _compare(
    workspace: Workspace, listing: Listing, keep_gone: bool, failures: list[dict[str, Any]]
) -> changes.Changes:
    """How the listing differs. Raises WorkspaceError where it has none of the tracks that are there."""
    found = changes.compare(workspace, listing.rows)
    if keep_gone:
        found.kept += len(found.gone)
        found.gone = set()
    if found.gone and not found.kept:
        failed = f"; {len(failures):,} rows failed, the first: {failures[0]['message']}" if failures else ""
        raise WorkspaceError(
            f"none of the {len(found.gone):,} tracks of workspace {workspace.uri} is in this source{failed}",
            "choose another --workspace for it; with --keep-gone, the tracks of both stay here",
        )
    return found


def _source(config: Config, workspace: Workspace, skipped: Skipped) -> Iterator[Found]:
    settings = config.collect
    if settings.source == "manifest":
        from mer_ray.sources import manifest

        return manifest.tracks(settings.manifest or "", settings.scale)
    if settings.source == "folder":
        from mer_ray.sources import folder

        return folder.tracks(
            settings.folder or "", skipped, folder.Known(workspace.batches("tracks", folder.Known.COLUMNS))
        )
    from mer_ray.sources import demo

    return demo.tracks(settings.demo.cues, settings.demo.seconds, settings.demo.seed)


def _remarks(config: Config) -> list[str]:
    """What the source's table was understood to say."""
    if config.collect.source != "manifest":
        return []
    from mer_ray.sources import manifest

    return manifest.understood(config.collect.manifest or "", config.collect.scale)
