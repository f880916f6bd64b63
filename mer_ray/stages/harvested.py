"""The tables of a harvest: ``tracks``, ``merged`` and its failures, from the answers that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from mer_ray.errors import TrackError
from mer_ray.io.identity import digest
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace, failure
from mer_ray.sources import harvest
from mer_ray.sources.answers import Answers
from mer_ray.sources.harvest import Listing, PageAt, Wanted
from mer_ray.sources.listing import row
from mer_ray.stages import changes, counters

SHARD_ROWS = 5_000

Rows = Mapping[str, Mapping[str, Any]]
"""Rows of ``failures`` by their ids."""


@dataclass
class Lost:
    """What has no answer, and why: tracks by their ids, and pages. asked: the ids of both that were asked for."""

    tracks: dict[str, TrackError] = field(default_factory=dict)
    pages: dict[PageAt, TrackError] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)


def page_id(at: PageAt) -> str:
    """The id of a page's row in ``failures``."""
    return digest(f"page {at.number} of {at.tag}".encode())[:16]


def missing_pages(listed: Listing, lost: Lost, before: Rows) -> dict[PageAt, TrackError]:
    """The pages that are out of reach, without those at the listing's end that were never asked for.

    before: the failures so far, which say why a page is missing that was not asked for now.
    """
    found: dict[PageAt, TrackError] = {}
    for at in sorted([*listed.lost, *listed.absent]):
        error = lost.pages.get(at)
        known = before.get(page_id(at))
        if error is None and known is not None and page_id(at) not in lost.asked:
            error = TrackError(known["reason"], known["message"], known["transient"])
        error = error or listed.lost.get(at)
        if error is not None:
            found[at] = error
    return found


def make(
    workspace: Workspace,
    identity: Mapping[str, Any],
    listed: Listing,
    wanted: Wanted,
    answers: Answers,
    lost: Lost,
    pages: Mapping[PageAt, TrackError],
    before: Rows,
    keep_gone: bool = False,
) -> str:
    """Write the tables anew, and the failures; what changed, in a line.

    before: the failures so far. pages: see `missing_pages`; what was made from the tracks on them stays. keep_gone:
    tracks that are listed no more stay.
    """
    workspace.claim("collect", "tracks", identity, restart=True)
    failures: list[dict[str, Any]] = []
    seen: set[str] = set()

    def lose(id: str, error: TrackError) -> None:
        times = before[id]["attempts"] if id in before else 0
        times = times + 1 if id in lost.asked else max(times, 1)
        failures.append(failure("collect", id, error.reason, error.message, error.transient, times))

    def rows() -> Iterator[dict[str, Any]]:
        for found, at in harvest.found(listed, wanted, answers, lost.tracks):
            track, error = found if isinstance(found, tuple) else (found, None)
            if error is None:
                yield row(track, "lastfm", at)
            elif track.id not in seen:
                lose(track.id, error)
            seen.add(track.id)

    shards = list(_shards(rows()))
    followed = changes.compare(workspace, lambda: (pa.Table.from_pylist(s, SCHEMAS["tracks"]) for s in shards))
    if followed.gone and keep_gone:
        shards.append(workspace.find("tracks", sorted(followed.gone), SCHEMAS["tracks"].names).to_pylist())
    # What Last.fm does not answer now, it may answer in the next run.
    later = {f["track_id"] for f in failures if f["transient"]}
    followed.gone = set() if pages or keep_gone else followed.gone - later
    changes.void(workspace, followed)
    workspace.replace("tracks", shards)
    changes.tidy(workspace)
    workspace.replace("merged", _shards(_variants(listed)))
    for at, error in pages.items():
        lose(page_id(at), error)
    workspace.append_rows("failures", failures)
    counters.count("collect", lost=[f["reason"] for f in failures])
    return str(followed)


def keep(workspace: Workspace, lost: Lost, before: Rows) -> None:
    """Write the failures of tracks of a harvest that is broken off; the tables stay as they are."""
    tries = {id: row["attempts"] for id, row in before.items()}
    rows = [
        failure("collect", id, error.reason, error.message, error.transient, tries.get(id, 0) + 1)
        for id, error in lost.tracks.items()
    ]
    workspace.append_rows("failures", rows)


def _variants(listed: Listing) -> Iterator[dict[str, Any]]:
    for variant in listed.variants:
        shown = row(variant.track, "lastfm", None)
        yield {"track_id": variant.kept, **{k: shown[k] for k in ("artist", "title", "mbid")}, "rule": variant.rule}


def _shards(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while shard := list(islice(rows, SHARD_ROWS)):
        yield shard
