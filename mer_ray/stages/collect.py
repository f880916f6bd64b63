"""Source → ``tracks``, also when the source has changed."""

from __future__ import annotations

import shlex
import time
from functools import partial
from itertools import islice
from typing import Any

from mer_ray.config import Config
from mer_ray.config_collect import CollectConfig
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError, WorkspaceError
from mer_ray.io import changes, lock
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.sources import differences, source
from mer_ray.sources.listing import Listing
from mer_ray.stages import counters, workspace_source


def check(config: Config) -> None:
    """Raises ConfigError or InputError if the source cannot be used."""
    if config.collect.source != "lastfm":
        source.load(config.collect.source)(config.collect).check()
    elif not config.collect.offline:
        from mer_ray.sources import lastfm

        lastfm.key()


@lock.alone("collect")
def run(config: Config, workspace: Workspace) -> Summary:
    """Make ``tracks`` equal to the source, and delete the rows derived from tracks that have changed or are gone."""
    started = time.monotonic()
    config = workspace_source.adopt(config, workspace)
    if config.collect.source == "lastfm":
        from mer_ray.stages import collect_lastfm

        summary = collect_lastfm.run(config, workspace)
    else:
        summary = _from_source(config.collect, workspace)
    summary.failed = workspace.n_failed("collect")
    summary.seconds = time.monotonic() - started
    if not workspace.has("tracks"):
        raise InputError(
            f"no track was collected; {summary.failed} failed",
            f"see `mer-ray status --workspace {shlex.quote(workspace.uri)}`",
        )
    return summary


def _from_source(settings: CollectConfig, workspace: Workspace) -> Summary:
    origin = source.load(settings.source)(settings)
    identity = {"source": settings.source, **origin.identity()}
    before = workspace.failed("collect")
    attempts = dict(zip(before.ids.to_pylist(), before.attempts.tolist(), strict=True))
    workspace.claim("collect", "tracks", identity)
    errors: list[tuple[str, TrackError]] = []
    with Listing(settings.source, now(), by_content=origin.by_content) as listing:
        with progress("collect", settings.limit) as ticker:
            for found in islice(origin.tracks(partial(workspace.batches, "tracks")), settings.limit):
                ticker.advance()
                if isinstance(found, tuple):
                    errors.append((found[0].key or found[0].id, found[1]))
                else:
                    listing.add(found)
        errors += listing.close()
        failures = [
            failure("collect", i, error.reason, error.message, error.transient, attempts.get(i, 0) + 1)
            for i, error in errors
        ]
        followed = _compare(workspace, listing, settings.keep_gone or origin.incomplete, failures)
        workspace_source.remember(settings, workspace)
        # Every run reads all rows of the source again, so only its own failures count.
        workspace.claim("collect", "tracks", identity, restart=True)
        workspace.append_rows("failures", [{**f, "at": now()} for f in failures])
        changes.void(workspace, followed)
        changes.store(workspace, followed, listing.rows)
    counters.count("collect", followed.new, failed=[f["reason"] for f in failures])
    summary = Summary("collect", done_before=followed.unchanged, made=followed.new)
    summary.changed, summary.gone = len(followed.changed), len(followed.gone)
    summary.notes += [*filter(None, [str(followed)]), *origin.notes()]
    return summary


def _compare(
    workspace: Workspace, listing: Listing, keep_gone: bool, failures: list[dict[str, Any]]
) -> changes.Changes:
    """How the listing differs. Raises WorkspaceError where it has none of the stored tracks."""
    found = differences.compare(workspace, listing.rows)
    if keep_gone:
        found.unchanged += len(found.gone)
        found.gone = set()
    if found.gone and not found.unchanged:
        failed = f"; {len(failures):,} rows failed, the first: {failures[0]['message']}" if failures else ""
        raise WorkspaceError(
            f"none of the {len(found.gone):,} tracks of workspace {workspace.uri} is in this source{failed}",
            "choose another --workspace for it; with --keep-gone, the tracks of both stay here",
        )
    return found
