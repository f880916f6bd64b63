"""Which labelled tracks belong together, for all features of a workspace alike: ``splits/``."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.features import FeatureSpec
from mer_ray.identity import digest
from mer_ray.tables import Workspace
from mer_ray.training import data
from mer_ray.training.duplicates import Duplicate, near_duplicates
from mer_ray.training.groups import grouping

FOLDER = "splits"
MAX_COMPARED = 20_000
"""Near-duplicates are looked for among so many tracks at the most: every pair is compared."""


@dataclass(frozen=True)
class Groups:
    """of: track id → group. duplicates: pairs of ids and their similarity. about: sentences for people."""

    of: dict[str, str]
    duplicates: list[tuple[str, str, float]]
    about: list[str]

    def within(self, ids: Sequence[str]) -> list[Duplicate]:
        """The duplicates among these tracks, by their places."""
        place = {i: k for k, i in enumerate(ids)}
        found = [(place[a], place[b], s) for a, b, s in self.duplicates if a in place and b in place]
        return sorted(Duplicate(min(a, b), max(a, b), s) for a, b, s in found)


def make(workspace: Workspace, specs: Sequence[FeatureSpec]) -> Groups:
    """Groups of the labelled tracks by artist, composer, album and near-duplicate; kept until their tracks change.

    Duplicates are looked for in the frames of the finest feature, where it has at most `MAX_COMPARED` tracks.
    """
    finest = min(specs, key=lambda spec: spec.hop_s)
    dataset = data.load(workspace, finest)
    content = [finest.fingerprint, dataset.ids, dataset.artists, dataset.albums, dataset.composers]
    key = digest(json.dumps(content).encode())[:16]
    kept = workspace.read_json(FOLDER, "splits.json")
    if kept is not None and kept.get("key") == key:
        return read(workspace)
    pairs, about = [], []
    if len(dataset.ids) <= MAX_COMPARED:
        pairs = near_duplicates(dataset.frames, finest.hop_s)
        about.append(f"{len(pairs):,} near-duplicates in {len(dataset.ids):,} tracks, by their {finest.name}")
    else:
        about.append(f"near-duplicates were not looked for: {len(dataset.ids):,} tracks, more than {MAX_COMPARED:,}")
    found = grouping(dataset.ids, dataset.artists, dataset.albums, dataset.composers, pairs)
    about.append(found.sentence())
    table = pa.table({"track_id": dataset.ids, "group": found.groups})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    workspace.write_bytes(sink.getvalue(), FOLDER, "groups.parquet")
    named = [[dataset.ids[a], dataset.ids[b], s] for a, b, s in pairs]
    workspace.write_json({"key": key, "duplicates": named, "about": about}, FOLDER, "splits.json")
    return read(workspace)


def read(workspace: Workspace) -> Groups:
    """What `make` has left."""
    described = workspace.read_json(FOLDER, "splits.json")
    rows = pq.read_table(io.BytesIO(workspace.read_bytes(FOLDER, "groups.parquet")))
    of = dict(zip(rows["track_id"].to_pylist(), rows["group"].to_pylist(), strict=True))
    return Groups(of, [(a, b, s) for a, b, s in described["duplicates"]], described["about"])
