"""Cached responses of Last.fm → rows of ``tracks``, ``merged`` and ``failures``, and remarks on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from mer_ray.errors import TrackError
from mer_ray.io.identity import normalise
from mer_ray.io.tables import failure
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources import lastfm_xml
from mer_ray.sources.lastfm import details_request, tags_request, track_error
from mer_ray.sources.lastfm_harvest import Failures, page_id
from mer_ray.sources.lastfm_listing import Listing, PageAt, Wanted, content
from mer_ray.sources.listing import row
from mer_ray.sources.response_cache import ResponseCache

STORAGE_MB, NEAR = 100, 0.8
"""The megabytes that Last.fm's terms let one store, and the share of them from which a note warns."""

Rows = Mapping[str, Mapping[str, Any]]
"""Rows of ``failures`` by their ids."""


def read(
    listed: Listing, wanted: Wanted, cache: ResponseCache, failed: Mapping[str, TrackError]
) -> tuple[list[dict[str, Any]], dict[str, TrackError]]:
    """Rows of ``tracks``, and the errors of the other tracks by id. failed: see `tracks`."""
    rows, errors, seen = list[dict[str, Any]](), dict[str, TrackError](), set[str]()
    for found, at in tracks(listed, wanted, cache, failed):
        track, error = found if isinstance(found, tuple) else (found, None)
        if error is None:
            rows.append(row(track, "lastfm", at))
        elif track.id not in seen:
            errors[track.id] = error
        seen.add(track.id)
    return rows, errors


def merged(listed: Listing) -> list[dict[str, Any]]:
    """Rows of ``merged``: the other names of the listing's tracks."""
    rows = []
    for variant in listed.variants:
        shown = row(variant.track, "lastfm", None)
        names = {name: shown[name] for name in ("artist", "title", "mbid")}
        rows.append({"track_id": variant.merged_into, **names, "rule": variant.rule})
    return rows


def tracks(
    listed: Listing, wanted: Wanted, cache: ResponseCache, failed: Mapping[str, TrackError]
) -> Iterator[tuple[SourceResult, datetime | None]]:
    """Each track of the listing with its tags, or its error; and the time of the response.

    failed: errors of requests without a response, by track id.
    """
    for track in listed.tracks:
        if not (track.artist and track.title):
            yield (track, TrackError("malformed", "Last.fm lists this track without its artist or title")), None
            continue
        tags = content(cache, tags_request(track))
        if tags is None:
            absent = TrackError("not_asked", f"{track.artist} – {track.title}: Last.fm has not been asked for it", True)
            yield (track, failed.get(track.id, absent)), None
        elif tags.refused is not None:
            code, text = tags.refused
            yield (track, track_error(track, code, f"error {code}: {text}")), tags.at
        else:
            yield _filtered(_detailed(track, wanted, cache), tags.value, wanted), tags.at


def _detailed(track: Track, wanted: Wanted, cache: ResponseCache) -> Track:
    found = content(cache, details_request(track)) if wanted.details else None
    if found is None or found.refused:
        return track
    details: lastfm_xml.Details = found.value
    # Last.fm identifies a track by artist and title alone.
    return replace(
        track,
        key=track.id,
        album=details.album,
        mbid=track.mbid or details.mbid,
        duration_s=details.duration_s or track.duration_s,
    )


def _filtered(track: Track, tags: lastfm_xml.Tags, wanted: Wanted) -> SourceResult:
    if wanted.min_seed_weight > 0:
        weights = {normalise(name): weight for name, weight in tags}
        seeds = [weights.get(normalise(tag), 0.0) for tag in wanted.tags]
        weight = max(seeds) if wanted.combine == "union" else min(seeds)
        if weight < wanted.min_seed_weight:
            message = f"{track.artist} – {track.title}: the wanted tag weighs {weight:g}, under collect.min_seed_weight"
            return track, TrackError("off_topic", message)
    return replace(track, tags=tuple((n, w) for n, w in tags if w >= wanted.min_tag_weight))


def missing_pages(listed: Listing, failures: Failures, before: Rows) -> dict[PageAt, TrackError]:
    """The pages that failed, without those at the listing's end that were never requested.

    before: earlier failures, with the reasons for pages that were not requested in this run.
    """
    found: dict[PageAt, TrackError] = {}
    for at in sorted([*listed.missing, *listed.absent]):
        error = failures.pages.get(at)
        known = before.get(page_id(at))
        if error is None and known is not None and page_id(at) not in failures.requested:
            error = TrackError(known["reason"], known["message"], known["transient"])
        error = error or listed.missing.get(at)
        if error is not None:
            found[at] = error
    return found


def failure_rows(errors: Mapping[str, TrackError], failures: Failures, before: Rows) -> list[dict[str, Any]]:
    """Rows of ``failures``. errors: by the id of a track or page. before: earlier failures."""
    rows = []
    for id, error in errors.items():
        attempts = before[id]["attempts"] if id in before else 0
        attempts = attempts + 1 if id in failures.requested else max(attempts, 1)
        rows.append(failure("collect", id, error.reason, error.message, error.transient, attempts))
    return rows


def notes(listed: Listing, pages: Collection[PageAt], cache: ResponseCache, uri: str) -> list[str]:
    """Remarks for the summary. pages: those that are missing. uri: of the cache."""
    size_mb = cache.size_bytes() / 1e6
    notes = [f"{len(cache):,} answers of Last.fm kept in {uri} ({size_mb:.1f} MB)"]
    if size_mb > NEAR * STORAGE_MB:
        notes.append(too_much(size_mb))
    if listed.variants:
        notes.append(f"{len(listed.variants):,} other names of these tracks merged: see the table merged")
    if pages:
        some = ", ".join(f"page {at.number} of {at.tag!r}" for at in islice(pages, 5))
        more = f" and {len(pages) - 5:,} more" if len(pages) > 5 else ""
        notes.append(f"out of reach, with their tracks: {some}{more}; run again later")
    if never := [at for at in listed.absent if at not in pages]:
        at = never[0]
        notes.append(f"the listing ends where the answers do: page {at.number} of {at.tag!r} was never asked for")
    return notes


def too_much(size_mb: float) -> str:
    """A warning that Last.fm's terms do not let one store so much."""
    return (
        f"{size_mb:.0f} MB of Last.fm's data are stored; its terms allow {STORAGE_MB} MB: "
        "ask Last.fm for more before you go on"
    )
