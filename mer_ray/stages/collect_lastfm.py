"""Last.fm → ``tracks`` and ``merged``: request what is not cached, then make the tables from the cached responses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from mer_ray.config import Config
from mer_ray.config_collect import CollectConfig
from mer_ray.console import Summary, err, progress
from mer_ray.errors import InputError, MerRayError, ServiceError
from mer_ray.io import changes
from mer_ray.io.rate_limit import LocalLimiter, per_second
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace
from mer_ray.sources import differences, lastfm, lastfm_harvest, lastfm_tables
from mer_ray.sources.lastfm_harvest import Failures, Harvest, Job, page_id
from mer_ray.sources.lastfm_listing import Listing, Wanted, listing
from mer_ray.sources.response_cache import ResponseCache
from mer_ray.stages import counters, workspace_source

MAX_THREADS = 64
"""Requests in flight, if the rate allows."""
CHECK_SIZE_EVERY = 500
SHARD_ROWS = 5_000
MADE = ("settings", "harvest.json")


def run(config: Config, workspace: Workspace) -> Summary:
    """Request what is not cached yet, and rewrite the tables if that changed anything."""
    settings = config.collect
    own = settings.combine, settings.limit, settings.min_tag_weight, settings.min_seed_weight, settings.details
    wanted = Wanted(tuple(settings.tags), *own)
    workspace.claim("collect", "tracks", _identity(settings))
    workspace_source.remember(settings, workspace)
    before = workspace.ids("tracks")
    summary = Summary("collect")
    if settings.workers is not None:
        summary.notes.append("collect.workers has no effect: one process reaches the rate that Last.fm allows")
    uri = settings.cache if settings.cache is not None else workspace.at("cache", "lastfm")
    failed_before = {f["track_id"]: f for f in workspace.failures("collect")}
    with ResponseCache(uri) as cache:
        harvest = None if settings.offline else _harvest(settings, cache)
        failures = harvest.failures if harvest is not None else Failures()
        listed = listing(wanted, cache, harvest.fetch_pages if harvest is not None else None)
        if harvest is not None:
            jobs = list(lastfm_harvest.open_requests(listed, wanted, cache, config.retry_failed))
            try:
                _fetch(harvest, jobs, failed_before, cache)
            except ServiceError:
                workspace.append_rows("failures", lastfm_tables.failure_rows(failures.tracks, failures, failed_before))
                raise
            cache.reload()
        if not listed.tracks:  # leave the present tables
            raise _nothing(settings, failures, uri)
        pages = lastfm_tables.missing_pages(listed, failures, failed_before)
        asked = asdict(wanted) | {"tags": list(wanted.tags)}
        made = {"answers": len(cache), "bytes": cache.size_bytes(), "wanted": asked}
        if failures.requested or pages or not workspace.has("tracks") or workspace.read_json(*MADE) != made:
            workspace.write_json(None, *MADE)  # if this run is killed, the next one rewrites the tables
            workspace.claim("collect", "tracks", _identity(settings), restart=True)
            rows, errors = lastfm_tables.read(listed, wanted, cache, failures.tracks)
            # The next run may succeed with these.
            later = {id for id, error in errors.items() if error.transient}
            followed = _replace_tables(workspace, rows, listed, later, settings.keep_gone, bool(pages))
            errors |= {page_id(at): error for at, error in pages.items()}
            failed = lastfm_tables.failure_rows(errors, failures, failed_before)
            workspace.append_rows("failures", failed)
            counters.count("collect", failed=[f["reason"] for f in failed])
            summary.notes += filter(None, [str(followed)])
            if not failures.tracks and not pages:
                workspace.write_json(made, *MADE)
        summary.notes += lastfm_tables.notes(listed, pages, cache, uri)
    after = workspace.ids("tracks")
    summary.made, summary.done_before = len(after - before), len(after & before)
    counters.count("collect", summary.made)
    return summary


def _identity(settings: CollectConfig) -> dict[str, Any]:
    names = ("combine", "api_url", "min_tag_weight", "min_seed_weight", "details")
    return {"source": "lastfm", "tag": settings.tags, **{name: getattr(settings, name) for name in names}}


def _harvest(settings: CollectConfig, cache: ResponseCache) -> Harvest:
    limiter = LocalLimiter(**per_second(settings.requests_per_s))
    # Twice as many as the rate, since some responses take a second.
    n_threads = min(MAX_THREADS, max(4, round(2 * settings.requests_per_s)))
    key = lastfm.key()
    return Harvest(lambda: lastfm.Client(settings.api_url, limiter.slot, settings.timeout_s, key), cache, n_threads)


def _fetch(harvest: Harvest, jobs: list[Job], failed_before: lastfm_tables.Rows, cache: ResponseCache) -> None:
    """Make the requests about tracks, with progress. Raises as `Harvest.fetch_tracks`."""
    if not jobs:
        return
    known = {id for id, f in failed_before.items() if f["reason"] == "lastfm_error"}
    warned = False
    with progress("collect", len(jobs)) as ticker, closing(harvest.fetch_tracks(jobs, known)) as results:
        for done, succeeded in enumerate(results, start=1):
            n_failed = len(harvest.failures.tracks)
            ticker.advance(note=f"{n_failed:,} failed" if n_failed else "")
            counters.count("harvest", int(succeeded))
            if not warned and done % CHECK_SIZE_EVERY == 0:
                size_mb = cache.size_bytes() / 1e6
                if warned := size_mb > lastfm_tables.NEAR * lastfm_tables.STORAGE_MB:
                    err.print(lastfm_tables.too_much(size_mb))


def _nothing(settings: CollectConfig, failures: Failures, cache_uri: str) -> MerRayError:
    if failures.pages:
        return ServiceError(min(failures.pages.items())[1].message, "run again later; what was collected is kept")
    hint = "check collect.cache, collect.tag and collect.combine"
    what = f"{cache_uri} holds no answers to this" if settings.offline else "no track was collected, none is listed"
    return InputError(what, hint)


def _replace_tables(
    workspace: Workspace, rows: list[dict[str, Any]], listed: Listing, later: set[str], keep_gone: bool, gaps: bool
) -> changes.Changes:
    """Rewrite ``tracks`` and ``merged``.

    Args:
        workspace: Of the tables.
        rows: Of ``tracks``.
        listed: The listing, with the other names of tracks.
        later: Ids of tracks that the next run may get: rows derived from them stay.
        keep_gone: Whether tracks that are no longer listed stay.
        gaps: Whether pages are missing: rows derived from the tracks on them stay.
    """
    shards = list(_shards(rows))
    followed = differences.compare(workspace, lambda: (pa.Table.from_pylist(s, SCHEMAS["tracks"]) for s in shards))
    if followed.gone and keep_gone:
        shards.append(workspace.find("tracks", sorted(followed.gone), SCHEMAS["tracks"].names).to_pylist())
    followed.gone = set() if gaps or keep_gone else followed.gone - later
    changes.void(workspace, followed)
    workspace.replace("tracks", shards)
    changes.tidy(workspace)
    workspace.replace("merged", _shards(lastfm_tables.merged(listed)))
    return followed


def _shards(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    return (rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS))
