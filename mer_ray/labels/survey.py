"""Counts the source's own labels in the table ``tracks``, complete and partial, and collects its names."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.labels import columns, exclusions


@dataclass
class Survey:
    """Counts over ``tracks``, batch by batch.

    Attributes:
        names: Of artists, albums and titles, which the recipe ``careful`` ignores; None: not collected.
        tracks: Number of tracks.
        whole: How many have a label of the source.
        partial: How many have a partial one, such as valence and arousal without dominance.
        missing: The dimensions that partial ones lack.
    """

    names: exclusions.Names | None = None
    tracks: int = 0
    whole: int = 0
    partial: int = 0
    missing: set[str] = field(default_factory=set)

    @property
    def columns(self) -> list[str]:
        """The columns of ``tracks`` that `add` needs."""
        return ["track_id", "given", *([] if self.names is None else ["artist", "album", "title"])]

    def add(self, tracks: pa.Table) -> None:
        """Count a batch."""
        self.tracks += len(tracks)
        is_whole, is_part = columns.completeness(tracks["given"])
        self.whole += int(is_whole.sum())
        self.partial += int(is_part.sum())
        if is_part.any():
            part = tracks["given"].filter(pa.array(is_part))
            self.missing |= {d for d in DIMENSIONS if pc.struct_field(part, d).null_count}
        if self.names is not None:
            artists, albums = (tracks[c].unique().to_pylist() for c in ("artist", "album"))
            self.names.add(artists, albums, tracks["title"].to_pylist())

    @property
    def is_whole(self) -> bool:
        """Whether every track has a label of the source."""
        return self.whole == self.tracks

    def lacking(self) -> str:
        """The numbers of tracks without a label and with a partial one, in words."""
        none = self.tracks - self.whole - self.partial
        parts = [f"{none:,} tracks bring no label"] if none or not self.partial else []
        if self.partial:
            lacking = " or ".join(d for d in DIMENSIONS if d in self.missing)
            parts.append(
                f"{self.partial:,} tracks bring a part of a label, without {lacking} (training needs all three)"
            )
        return " and ".join(parts)

    def remark(self, from_tags: bool, source: str) -> str:
        """What happens to tracks without a complete label, in words. source: the setting ``label.source``."""
        if from_tags:
            return f"{self.lacking()}: theirs are made from tags and lexicon, as label.source={source} says"
        ways = "" if source == "manifest" else ", or set label.lexicon and they are made from tags"
        return (
            f"{self.lacking()}: they are failures, since label.source={source} takes what the manifest brings{ways};"
            " with label.source=tags all labels are made from tags and a lexicon"
        )
