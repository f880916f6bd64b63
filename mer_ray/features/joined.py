"""Several features that a model reads together: their spec, and a track of their frames.

A joined feature has no table of its own: its parts are extracted, stored and fingerprinted as they are alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.errors import ConfigError
from mer_ray.features import JOINED, FeatureSpec

SIGN = "+"
"""Between the names of the parts, in the name of a joined feature."""


def join(specs: Sequence[FeatureSpec]) -> FeatureSpec:
    """One spec for several features, in their order; of a single one, its own.

    Its sample rate is the first part's, for what else is read from the audio; 0 where a part is precomputed. Raises
    ConfigError where the parts use different excerpts of a track.
    """
    if len(specs) == 1:
        return specs[0]
    name, rates = SIGN.join(spec.name for spec in specs), [spec.sample_rate_hz for spec in specs]
    if any(spec.excerpt != specs[0].excerpt for spec in specs):
        raise ConfigError(
            f"train.inputs: the features of {name} are of different excerpts of a track",
            "precomputed frames are of whole tracks: leave extract.excerpt out, or join other features",
        )
    return FeatureSpec(
        name=name,
        version=1,
        sample_rate_hz=rates[0] if all(rates) else 0,
        hop_s=min(spec.hop_s for spec in specs),
        n_dims=sum(spec.n_dims for spec in specs),
        params={"parts": [spec.to_json() for spec in specs]},
        note="; ".join(dict.fromkeys(spec.note for spec in specs if spec.note)),
        family=JOINED,
        excerpt=specs[0].excerpt,
    )


def parts(spec: FeatureSpec) -> list[FeatureSpec]:
    """The features that have tables: the parts of a joined one, else itself."""
    return [FeatureSpec.from_json(part) for part in spec.params["parts"]] if spec.family == JOINED else [spec]


def part_names(name: str) -> list[str]:
    """The names of the parts, from the name of a feature."""
    return name.split(SIGN)


def part_hops(spec: FeatureSpec) -> tuple[float, ...]:
    """Seconds between the frames of each part."""
    return tuple(part.hop_s for part in parts(spec))


@dataclass(frozen=True, eq=False)
class Joined:
    """One track's frames of several features. It can be read like a matrix (n, F) of frames that are aligned in time.

    The rows are the frames of the finest part (the first with the smallest hop). Beside its frame i stands, of each
    other part, the frame j whose hop [j, j + 1) hop_s holds the middle of frame i; after a part's last frame, that one
    is repeated. Only the rows that are asked for are made; the parts are not copied.

    Attributes:
        parts: (n_i, F_i) float32 each, F the sum of F_i.
        hops: Seconds between the frames of each part.
    """

    parts: tuple[np.ndarray, ...]
    hops: tuple[float, ...]

    @property
    def hop_s(self) -> float:
        """Of the finest part."""
        return min(self.hops)

    def __len__(self) -> int:
        return len(self.parts[self.hops.index(self.hop_s)])

    @property
    def shape(self) -> tuple[int, int]:
        """(n, F)."""
        return len(self), sum(part.shape[1] for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Of what is stored."""
        return sum(part.nbytes for part in self.parts)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Aligned frames (n, F) float32 of a slice or an array of indices."""
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        aligned = []
        for part, hop_s in zip(self.parts, self.hops, strict=True):
            beside = np.floor((index + 0.5) * (self.hop_s / hop_s)).astype(int)
            aligned.append(part[np.minimum(beside, len(part) - 1)])
        return np.concatenate(aligned, axis=1, dtype=np.float32)

    def span(self, first: int, last: int) -> Joined:
        """The time of the rows first to last (exclusive) of every part, rounded to its frames: at least one of each.

        What ends with the track ends with each part.
        """
        own = []
        for part, hop_s in zip(self.parts, self.hops, strict=True):
            a = min(round(first * self.hop_s / hop_s), len(part) - 1)
            b = len(part) if last >= len(self) else round(last * self.hop_s / hop_s)
            own.append(part[a : max(b, a + 1)])
        return Joined(tuple(own), self.hops)


Frames = np.ndarray | Joined
"""A track as models take it: frames (n, F) of one feature, or of several."""


def frames_of(spec: FeatureSpec, found: Mapping[str, np.ndarray]) -> Frames:
    """One track of a feature, from the frames (n_i, F_i) of its parts by their names; nothing is copied."""
    own = tuple(found[part.name] for part in parts(spec))
    return Joined(own, part_hops(spec)) if len(own) > 1 else own[0]


def parts_of(track: Frames) -> tuple[np.ndarray, ...]:
    """The matrices that a track consists of."""
    return track.parts if isinstance(track, Joined) else (track,)


def by_part(tracks: Sequence[Frames]) -> list[list[np.ndarray]]:
    """The matrices (n_i, F) of all tracks, part by part."""
    return [list(own) for own in zip(*map(parts_of, tracks), strict=True)]


def span(track: Frames, first: int, last: int) -> Frames:
    """The frames first to last (exclusive) of one feature; see `Joined.span` of several."""
    return track.span(first, last) if isinstance(track, Joined) else track[first:last]
