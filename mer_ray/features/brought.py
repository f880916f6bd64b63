"""Frames that the user brings: made elsewhere, with anything, and kept in Parquet, a row a track.

    extract:
      features: [yamnet]
      brought:
        yamnet: {path: yamnet.parquet}

The rows name their track by ``track_id`` or by ``path``. A cell of the column of frames is a matrix: a list of vectors
(``list``, ``large_list`` and ``fixed_size_list`` in any combination), a tensor as Arrow or Ray Data write it, or a
single vector, which counts as one frame. Its numbers may be floats or integers of any size, and become float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.errors import ModelError, TrackError
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.brought_paths import match, named
from mer_ray.io.identity import one_line


class Params(BaseModel):
    """Settings under ``extract.brought.NAME``.

    path: a Parquet file, a folder of them, or a URI that pyarrow can open. key: the column that names the track;
    ``auto`` is track_id where there is one, else path. frames: the column of the matrices. hop_s: seconds between the
    starts of two frames, or the column that says so; null is the column ``hop_s``.
    """

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1)
    key: Literal["auto", "track_id", "path"] = "auto"
    frames: str = Field("frames", min_length=1)
    hop_s: float | str | None = None


def resolve(name: str, params: Params) -> FeatureSpec:
    """Settings → spec. Reads every byte once, for its hash.

    Raises ConfigError naming ``extract.brought.NAME`` and the file where there are no such columns, no frames, or
    several hops.
    """
    from mer_ray.features.brought_files import Source

    source = Source.open(f"extract.brought.{name}", params.path)
    source.check(params.frames)
    key = source.key(params.key)
    return FeatureSpec(
        name=name,
        version=1,
        sample_rate_hz=0,
        hop_s=source.hop_s(params.hop_s),
        n_dims=source.n_dims(params.frames),
        params={"key": key, "frames": params.frames},
        weights={"kind": "frames", "location": source.location, "sha256": source.sha256()},
        note=f"{name}: frames that were brought along, from {named(source.location)}",
        family="brought",
    )


def load(spec: FeatureSpec) -> Extractor:
    """Raises ModelError: there is nothing that could be applied to audio."""
    raise ModelError(
        f"the frames of {spec.name} were brought along, and cannot be computed from audio",
        f"add the tracks to {named((spec.weights or {})['location'])}, or use a feature that is computed",
    )


def rows(
    spec: FeatureSpec, tracks: Mapping[str, str | None], wanted: Collection[str] | None = None
) -> Iterator[tuple[str, np.ndarray | TrackError]]:
    """The frames of the wanted tracks, each once, row group by row group.

    tracks: track_id → where its audio is (a path or URI), None if it has none. wanted: those to answer, None for all;
    give all tracks all the same, since what a short path means follows from which others there are.
    Yields track_id and (n_frames, F) float32, or a TrackError: ``not_brought``, ``ambiguous`` (paths that fit several),
    ``duplicate`` (two rows of it), ``empty``, ``bad_frames`` (not n x F), ``not_finite``, ``unreadable``.
    Raises ConfigError if the files are gone, or have lost their columns.
    """
    from mer_ray.features.brought_files import Source

    source = Source.open(f"extract.brought.{spec.name}", (spec.weights or {})["location"])
    column = spec.params["frames"]
    source.check(column)
    table = source.places(source.key(spec.params["key"]))
    if spec.params["key"] == "track_id":
        found: dict[str, str | TrackError] = {i: i for i in tracks if i in table.first}
    else:
        found = match({i: u for i, u in tracks.items() if u}, table.first, source.root)
    todo: dict[tuple[int, int], dict[int, list[str]]] = {}
    for track_id in tracks if wanted is None else wanted:
        key = found.get(track_id)
        if isinstance(key, TrackError):
            yield track_id, key
        elif key is None:
            what = (
                f"{named(source.location)} has no row for {one_line(track_id)} ({named(tracks[track_id] or 'no path')})"
            )
            yield track_id, TrackError("not_brought", what)
        elif key in table.second:
            places = " and ".join(source.shown(p) for p in (table.first[key], table.second[key]))
            yield track_id, TrackError("duplicate", f"{places} are both {one_line(key)}")
        else:
            place = table.first[key]
            todo.setdefault((place.file, place.group), {}).setdefault(place.row, []).append(track_id)
    for (file, group), of_rows in sorted(todo.items()):
        yield from source.frames(file, group, column, spec.n_dims, of_rows)
