"""Tables → arrays: the labelled tracks that have a feature."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from mer_ray.errors import WorkspaceError
from mer_ray.features import FeatureSpec
from mer_ray.identity import digest, normalise
from mer_ray.tables import DIMENSIONS, Workspace, features_table, ragged_arrays


@dataclass(frozen=True)
class Dataset:
    """Tracks in the order of their ids: frames (n_i, F) float32, labels (N, 3) in 0..1, and groups for the folds."""

    ids: list[str]
    artists: list[str]
    titles: list[str]
    groups: list[str]
    labels: np.ndarray
    frames: list[np.ndarray]

    def fingerprint(self, feature: FeatureSpec) -> str:
        """16 hexadecimal digits of what a network learns from: which tracks, labels, groups and feature."""
        content = [feature.fingerprint, self.ids, self.groups, self.labels.round(9).tolist()]
        return digest(json.dumps(content).encode())[:16]


def load(workspace: Workspace, feature: FeatureSpec) -> Dataset:
    """The labelled tracks that have ``feature``; their artists are the groups, and a track without one is its own.

    Raises WorkspaceError where the frames are not of this very feature.
    """
    labels = workspace.require("labels", "label", ["track_id", *DIMENSIONS]).sort_by("track_id")
    described = workspace.require("tracks", "collect", ["track_id", "artist", "title"]).to_pylist()
    names = {r["track_id"]: (r["artist"], r["title"]) for r in described}
    table = features_table(feature.name)
    rows = workspace.require(table, "extract", ["track_id", "frames", "fingerprint"])
    if set(rows["fingerprint"].to_pylist()) != {feature.fingerprint}:
        raise WorkspaceError(
            f"{workspace.path(table)} was extracted with other settings or weights than extract.{feature.name} has now",
            "choose another --workspace, or remove that folder and run `mer-ray extract`",
        )
    frames = dict(zip(rows["track_id"].to_pylist(), ragged_arrays(rows["frames"]), strict=True))

    ids = labels["track_id"].to_pylist()
    keep = [index for index, i in enumerate(ids) if i in frames and i in names]
    values = np.stack([labels[d].to_numpy() for d in DIMENSIONS], axis=1)
    kept = [ids[index] for index in keep]
    return Dataset(
        ids=kept,
        artists=[names[i][0] for i in kept],
        titles=[names[i][1] for i in kept],
        groups=[normalise(names[i][0]) or i for i in kept],
        labels=values[keep],
        frames=[frames[i] for i in kept],
    )
