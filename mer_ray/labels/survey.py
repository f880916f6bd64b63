"""Counts the source's own labels in the table ``tracks``, by dimension, and collects its names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mer_ray.errors import WorkspaceError
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.labels import columns, exclusions, lexicon


@dataclass
class Survey:
    """Counts over ``tracks``, batch by batch.

    Attributes:
        names: Of artists, albums and titles, which the recipe ``careful`` ignores; None: not collected.
        dimensions: Of the labels.
        tracks: Number of tracks.
        labelled: How many have a label of the source, of any dimension.
        lacking: How many of these lack which of valence, arousal and dominance, which tags could give.
    """

    names: exclusions.Names | None = None
    dimensions: tuple[str, ...] = DIMENSIONS
    tracks: int = 0
    labelled: int = 0
    lacking: Counter[str] = field(default_factory=Counter)

    @property
    def columns(self) -> list[str]:
        """The columns of ``tracks`` that `add` needs."""
        return ["track_id", "ratings", *([] if self.names is None else ["artist", "album", "title"])]

    def add(self, tracks: pa.Table) -> None:
        """Count a batch."""
        self.tracks += len(tracks)
        known = ~np.isnan(columns.ratings(tracks["ratings"], self.dimensions)[0])
        labelled = known.any(axis=1)
        self.labelled += int(labelled.sum())
        absent = (~known[labelled]).sum(axis=0)
        self.lacking.update({d: int(n) for d, n in zip(self.dimensions, absent, strict=True) if n and d in DIMENSIONS})
        if self.names is not None:
            artists, albums = (tracks[c].unique().to_pylist() for c in ("artist", "album"))
            self.names.add(artists, albums, tracks["title"].to_pylist())

    @property
    def is_whole(self) -> bool:
        """Whether every track has a label of the source."""
        return self.labelled == self.tracks

    def without(self) -> str:
        """The number of tracks without a label, in words."""
        n = self.tracks - self.labelled
        return f"{n:,} tracks bring no label" if n != 1 else "1 track brings no label"

    def remedy(self) -> str:
        """What to do where no track has a label: only valence, arousal and dominance can come from tags."""
        columns = f"name columns of the manifest {', '.join(self.dimensions)}, or set collect.dimensions to yours"
        return f"{columns}; or {lexicon.WHERE_TO_GET}" if {*self.dimensions} & {*DIMENSIONS} else columns

    def remarks(self, from_tags: bool, has_lexicon: bool, source: str) -> list[str]:
        """What happens to tracks without a label, or without one of a dimension. source: ``label.source``."""
        lines = []
        if self.is_whole:
            pass
        elif from_tags:
            lines.append(f"{self.without()}: theirs are made from tags and lexicon, as label.source={source} says")
        else:
            ways = "" if source == "manifest" else ", or set label.lexicon and they are made from tags"
            lines.append(
                f"{self.without()}: they are failures, since label.source={source} takes what the manifest brings{ways}"
                "; with label.source=tags all labels are made from tags and a lexicon"
            )
        if has_lexicon and self.lacking:
            counts = ", ".join(f"{d} {n:,}" for d, n in self.lacking.items())
            lines.append(
                f"labels of the manifest lack dimensions ({counts}): these stay empty, and are not taken from tags"
            )
        return lines


def survey(workspace: Workspace, dimensions: Sequence[str], with_names: bool) -> Survey:
    """The counts over a workspace's tracks.

    Raises:
        WorkspaceError: It has no tracks, or was collected or labelled with other dimensions.
    """
    found = Survey(exclusions.Names() if with_names else None, tuple(dimensions))
    collected = (workspace.read_json("settings", "collect.json") or {}).get("settings") or {}
    made = tuple(collected.get("dimensions", DIMENSIONS)) if collected.get("source") == "manifest" else found.dimensions
    stored = workspace.dimensions("labels") if workspace.has("labels") else made
    if other := next((d for d in (made, stored) if d != found.dimensions), None):
        raise WorkspaceError(
            f"workspace {workspace.uri} has labels of {', '.join(other)}, and these settings say "
            f"{', '.join(found.dimensions)}",
            f"set collect.dimensions={','.join(other)}, or choose another --workspace",
        )
    for tracks in workspace.batches("tracks", found.columns):
        found.add(tracks)
    if not found.tracks:
        workspace.require("tracks", "collect", ["track_id"])
    return found
