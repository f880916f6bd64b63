"""Groups of the labelled tracks, the same for all features of a workspace: ``splits/``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.evaluation import protocol
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import parts
from mer_ray.io.identity import digest
from mer_ray.io.tables import Workspace
from mer_ray.training import data, given
from mer_ray.training.duplicates import Duplicate, near_duplicates
from mer_ray.training.groups import grouping

FOLDER = "splits"
MAX_COMPARED = 20_000
"""Tracks among which near-duplicates are searched at most: every pair is compared."""


@dataclass(frozen=True)
class Groups:
    """of: track id → group. duplicates: pairs of ids and their similarity. about: sentences for a report."""

    of: dict[str, str]
    duplicates: list[tuple[str, str, float]]
    about: list[str]

    def within(self, ids: Sequence[str]) -> list[Duplicate]:
        """The duplicates among these tracks, by their indices."""
        index = {i: k for k, i in enumerate(ids)}
        found = [(index[a], index[b], s) for a, b, s in self.duplicates if a in index and b in index]
        return sorted(Duplicate(min(a, b), max(a, b), s) for a, b, s in found)


def make(workspace: Workspace, specs: Sequence[FeatureSpec]) -> Groups:
    """Groups of the labelled tracks by artist, composer, album and near-duplicate; cached until their tracks change.

    Duplicates are searched in the frames of the finest feature, where it has at most `MAX_COMPARED` tracks.
    """
    finest = min((part for spec in specs for part in parts(spec)), key=lambda spec: spec.hop_s)
    key = _key(data.load(workspace, finest, with_frames=False), finest)
    if (workspace.read_json(FOLDER, "splits.json") or {}).get("key") == key:
        return read(workspace)
    dataset = data.load(workspace, finest)
    pairs, about = [], []
    if len(dataset.ids) <= MAX_COMPARED:
        pairs = near_duplicates(dataset.plain, finest.hop_s)
        about.append(f"{len(pairs):,} near-duplicates in {len(dataset.ids):,} tracks, by their {finest.name}")
    else:
        about.append(f"near-duplicates were not looked for: {len(dataset.ids):,} tracks, more than {MAX_COMPARED:,}")
    found = grouping(dataset.ids, dataset.artists, dataset.albums, dataset.composers, pairs)
    about.append(found.sentence())
    table = pa.table({"track_id": dataset.ids, "group": found.groups})
    workspace.write_table(table, FOLDER, "groups.parquet")
    named = [[dataset.ids[a], dataset.ids[b], s] for a, b, s in pairs]
    described = {"key": key, "finest": finest.to_json(), "duplicates": named, "about": about}
    workspace.write_json(described, FOLDER, "splits.json")
    return read(workspace)


def changed(workspace: Workspace, feature: FeatureSpec, details: Mapping[str, Any]) -> bool:
    """Whether the labelled tracks with that feature, their files, labels, groups or given split differ from a run's.

    details: of the run's ``model.json``. No frames are read. Raises as `data.load`.
    """
    described = workspace.read_json(FOLDER, "splits.json")
    if described is None:
        return True
    finest = FeatureSpec.from_json(described["finest"])
    if described["key"] != _key(data.load(workspace, finest, with_frames=False), finest):
        return True
    settings = details.get("settings", {})
    dataset = data.load(workspace, feature, read(workspace).of, with_frames=False)
    now = given.within(dataset, protocol.of(settings)).fingerprint(feature, settings)
    return now != str(details.get("data", ""))


def _key(dataset: data.Dataset, feature: FeatureSpec) -> str:
    """A hash of everything that decides the groups."""
    named = [dataset.artists, dataset.albums, dataset.composers]
    return digest(json.dumps([feature.fingerprint, dataset.ids, dataset.audio, *named]).encode())[:16]


def read(workspace: Workspace) -> Groups:
    """The result of the last `make`."""
    described = workspace.read_json(FOLDER, "splits.json")
    rows = pq.read_table(io.BytesIO(workspace.read_bytes(FOLDER, "groups.parquet")))
    of = dict(zip(rows["track_id"].to_pylist(), rows["group"].to_pylist(), strict=True))
    return Groups(of, [(a, b, s) for a, b, s in described["duplicates"]], described["about"])
