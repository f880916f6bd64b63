"""Source → ``tracks``, also when the source has changed."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import Any

from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, TrackError, WorkspaceError
from mer_ray.io import lock
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.sources import source
from mer_ray.sources.listing import Listing
from mer_ray.stages import changes, counters, workspace_source


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
    config = workspace_source.adopt(config, workspace)
    settings = config.collect
    if settings.source == "lastfm":
        from mer_ray.stages import collect_lastfm

        return collect_lastfm.run(config, workspace)
    started = time.monotonic()
    origin = source.load(settings.source)(settings)
    identity = {"source": settings.source, **origin.identity()}
    before = workspace.failed("collect")
    attempts = dict(zip(before.ids.to_pylist(), before.attempts.tolist(), strict=True))
    workspace.claim("collect", "tracks", identity)
    errors: list[tuple[str, TrackError]] = []
    with Listing(settings.source, now(), by_content=origin.by_content) as listing:
        with progress("collect", settings.limit) as ticker:
            for differences in islice(origin.tracks(partial(workspace.batches, "tracks")), settings.limit):
                ticker.advance()
                if isinstance(differences, tuple):
                    errors.append((differences[0].id, differences[1]))
                else:
                    listing.add(differences)
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
    summary.failed = workspace.n_failed("collect")
    summary.seconds = time.monotonic() - started
    if not workspace.has("tracks"):
        raise InputError(
            f"no track was collected; {summary.failed} failed", f"see `mer-ray status --workspace {workspace.uri}`"
        )
    return summary


def _compare(
    workspace: Workspace, listing: Listing, keep_gone: bool, failures: list[dict[str, Any]]
) -> changes.Changes:
    """How the listing differs. Raises WorkspaceError where it has none of the stored tracks."""
    differences = changes.compare(workspace, listing.rows)
    if keep_gone:
        differences.unchanged += len(differences.gone)
        differences.gone = set()
    if differences.gone and not differences.unchanged:
        failed = f"; {len(failures):,} rows failed, the first: {failures[0]['message']}" if failures else ""
        raise WorkspaceError(
            f"none of the {len(differences.gone):,} tracks of workspace {workspace.uri} is in this source{failed}",
            "choose another --workspace for it; with --keep-gone, the tracks of both stay here",
        )
    return differences
