"""The columns of every table, with their units and ranges, and the layout of matrices in a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.config_checks import is_dimension

DIMENSIONS = ("valence", "arousal", "dominance")
"""The dimensions of a catalog that names no others (``collect.dimensions``), in the order in which arrays hold them."""


def _field(name: str, kind: pa.DataType, unit: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit})


def _each(
    dimensions: Sequence[str], prefix: str = "", unit: str = "0..1", nullable: bool = False, suffix: str = ""
) -> list[pa.Field]:
    return [_field(f"{prefix}{d}{suffix}", pa.float64(), unit, nullable) for d in dimensions]


TAG = pa.struct([pa.field("name", pa.string()), pa.field("weight", pa.float64())])
EVIDENCE = pa.struct(
    [pa.field("tag", pa.string()), pa.field("term", pa.string()), pa.field("weight", pa.float64())]
    + [pa.field(d, pa.float64()) for d in DIMENSIONS]
)
ATTEMPT = pa.struct([pa.field(name, pa.string()) for name in ("provider", "reason", "message")])
RATING = pa.struct([pa.field("dimension", pa.string()), pa.field("value", pa.float64()), pa.field("se", pa.float64())])
"""A rating of a whole track: value in 0..1, and its standard error on that scale, null where unknown."""
CURVE = pa.struct(
    [
        pa.field("dimension", pa.string()),
        pa.field("time_s", pa.list_(pa.float32())),
        pa.field("value", pa.list_(pa.float32())),
    ]
)
"""A rating over time: points in ascending order of time, in s from the start of the audio; values in 0..1."""

SCHEMAS: dict[str, pa.Schema] = {
    "tracks": pa.schema(
        [
            _field("track_id", pa.string(), "the source's own id, or a hash of artist, title, album, or of the file"),
            _field("artist", pa.string(), "as the source spells it; may be empty"),
            _field("title", pa.string(), "as the source spells it"),
            _field("album", pa.string(), "as the source spells it", True),
            _field("composer", pa.string(), "as the source spells it", True),
            _field("mbid", pa.string(), "MusicBrainz recording id", True),
            _field("spotify_id", pa.string(), "Spotify track id", True),
            _field("duration_s", pa.float64(), "s, as the source says; null where it does not", True),
            _field("uri", pa.string(), "path, URL or demo cue of the audio, if the source has it", True),
            _field("tags", pa.list_(TAG), "weight > 0, relative"),
            _field("ratings", pa.list_(RATING), "labels of the source itself, rescaled to 0..1", True),
            _field("curves", pa.list_(CURVE), "labels over time of the source itself, rescaled to 0..1", True),
            _field("dataset", pa.string(), "the data set that it belongs to, as the source says", True),
            _field("split", pa.string(), "train | valid | test, as the source says", True),
            _field("fold", pa.string(), "its fold in a cross-validation, as the source says", True),
            _field("size", pa.int64(), "bytes of the file, of a source that is a folder", True),
            _field("mtime_ns", pa.int64(), "ns since 1970: last change of that file", True),
            _field("source", pa.string(), "lastfm | manifest | folder | demo"),
            _field("fetched_at", pa.timestamp("ms", "UTC"), "UTC"),
        ]
    ),
    "merged": pa.schema(
        [
            _field("track_id", pa.string(), "the track that was kept, as in tracks"),
            _field("artist", pa.string(), "as the source spells it"),
            _field("title", pa.string(), "as the source spells it"),
            _field("mbid", pa.string(), "MusicBrainz recording id", True),
            _field("rule", pa.string(), "why it is the same: spelling | remaster | film | guest, or several with +"),
        ]
    ),
    "audio": pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            _field("uri", pa.string(), "path of the audio file"),
            _field("provider", pa.string(), "file | folder | http | savify | demo, or the scheme of an object's URI"),
            _field("sha256", pa.string(), "of the file's bytes"),
            _field("duration_s", pa.float64(), "s"),
            _field("sample_rate", pa.int32(), "Hz"),
            _field("channels", pa.int32(), "count"),
            _field("size", pa.int64(), "bytes of the file, if it is on a disk", True),
            _field("mtime_ns", pa.int64(), "ns since 1970: last change of the file, if it is on a disk", True),
            _field("request", pa.string(), "hash of what of the track it was found by", True),
            _field("tried", pa.list_(ATTEMPT), "the providers that failed before this one, and why"),
            _field("spotify_id", pa.string(), "the Spotify track that was chosen; null where none was asked for", True),
            _field("decoded_share", pa.float64(), "of what the file announces, 0..1; null where it does not say", True),
        ]
    ),
    "failures": pa.schema(
        [
            _field("stage", pa.string(), "the stage, and after a colon the feature if only that one failed"),
            _field("track_id", pa.string(), "as in tracks, or a hash of the row number where it has none"),
            _field("reason", pa.string(), "short code"),
            _field("message", pa.string(), "what happened, naming the file, row or address"),
            _field("transient", pa.bool_(), "true: the next run tries again"),
            _field("attempts", pa.int32(), "tries so far"),
            _field("at", pa.timestamp("ms", "UTC"), "UTC"),
        ]
    ),
    "costs": pa.schema(
        [
            _field("stage", pa.string(), "the stage that ran"),
            _field("at", pa.timestamp("ms", "UTC"), "UTC, its end"),
            _field("seconds", pa.float64(), "s on the clock"),
            _field("cpu_s", pa.float64(), "s of CPU time, of all processes on this machine; null on a cluster", True),
            _field("made", pa.int64(), "rows or models that were made, changed or removed"),
            _field("failed", pa.int64(), "failures of the stage that are left"),
            _field("place", pa.string(), "this machine | cluster"),
            _field("cpus", pa.int32(), "CPUs of the machine that the command was typed on"),
        ]
    ),
}


def labels_schema(dimensions: Sequence[str] = DIMENSIONS) -> pa.Schema:
    """Schema of ``labels``. A dimension that a track has no label of is null."""
    return pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            *_each(dimensions, nullable=True),
            _field("evidence", pa.list_(EVIDENCE), "the terms that the label is the weighted mean of; 0..1"),
            _field("coverage", pa.float64(), "matched tag weight / tag weight, 0..1; null for given labels", True),
            _field("n_matched", pa.int32(), "terms; 0 for given labels"),
            *_each(dimensions, "se_", "standard error of the label, 0..1; null where it is unknown", True),
            _field("curves", pa.list_(CURVE), "labels over time, 0..1", True),
            _field("lexicon", pa.string(), "name and content hash of the lexicon, or 'manifest'"),
        ]
    )


MEASURES = [
    _field("tempo", pa.float64(), "beats per minute; null if unknown", True),
    _field("tempo_confidence", pa.float64(), "0..1: expected share of tempi within 4 %; null if unknown", True),
    _field("key", pa.string(), "tonic: C, C#, D, ... B; null if unknown", True),
    _field("mode", pa.string(), "major | minor; null if unknown", True),
    _field("key_confidence", pa.float64(), "0..1: how clear key and mode are; null if unknown", True),
    _field("loudness", pa.float64(), "LUFS, integrated (EBU R 128); null if unknown", True),
    _field("true_peak", pa.float64(), "dBTP, of the loudest channel (ITU-R BS.1770); null if unknown", True),
]
"""Columns of ``scores`` that are measured, not predicted."""


def scores_schema(dimensions: Sequence[str] = DIMENSIONS) -> pa.Schema:
    """Schema of ``scores`` by a model of these dimensions."""
    return pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks, or a hash of the file's address"),
            _field("artist", pa.string(), "as the source spells it; may be empty"),
            _field("title", pa.string(), "as the source spells it"),
            _field("album", pa.string(), "as the source spells it", True),
            _field("uri", pa.string(), "path of the audio file"),
            _field("duration_s", pa.float64(), "s, of what was scored"),
            _field("size", pa.int64(), "bytes of the file that was scored, if it is on a disk", True),
            _field("mtime_ms", pa.int64(), "ms since 1970: its last change", True),
            _field("sha256", pa.string(), "of its bytes", True),
            _field("decoded_share", pa.float64(), "of what the file announces, 0..1; null where it does not say", True),
            *_each(dimensions),
            *_each(dimensions, "lower_", "lower end of the 90 % prediction interval, 0..1"),
            *_each(dimensions, "upper_", "upper end of the 90 % prediction interval, 0..1"),
            _field("in_distribution", pa.bool_(), "whether it is like the training tracks; null if unknown", True),
            _field("novelty", pa.float64(), "how unlike it is: above 1 is out of distribution; null if unknown", True),
            *MEASURES,
            _field(
                "curve", pa.list_(pa.list_(pa.float32(), len(dimensions))), "the dimensions at (i + 1/2) hops; 0..1"
            ),
            _field("curve_hop_s", pa.float64(), "s between two points of the curve"),
            _field("sound", pa.list_(pa.float32()), "what it sounds like: neighbours are alike; null if unknown", True),
            _field("waveform", pa.list_(pa.uint8()), "highest |sample| in equal stretches, 255 is full scale", True),
            _field("model", pa.string(), "name and fingerprint of the model"),
        ]
    )


SCHEMAS |= {"labels": labels_schema(), "scores": scores_schema()}
OF_DIMENSIONS = {"labels": ("se_", labels_schema), "scores": ("lower_", scores_schema)}
"""Tables whose columns depend on the dimensions: the prefix of a column that each dimension has, and the schema."""


def dimensions_of(schema: pa.Schema, table: str) -> tuple[str, ...]:
    """The dimensions of a table of `OF_DIMENSIONS` that was stored with this schema, in their order."""
    prefix, _ = OF_DIMENSIONS[table]
    found = [name.removeprefix(prefix) for name in schema.names if name.startswith(prefix)]
    return tuple(name for name in found if name in schema.names and is_dimension(name))


def standing_schema(dimensions: Sequence[str] = DIMENSIONS) -> pa.Schema:
    """Further columns of ``scores``, where these are one table: see `mer_ray.scoring.standing`."""
    unit = "word for valence and arousal relative to the catalog; null in a small one"
    return pa.schema(
        [
            *_each(dimensions, unit="percentile rank in the catalog, 0..100", nullable=True, suffix="_percentile"),
            *([_field("mood", pa.string(), unit, True)] if {"valence", "arousal"} <= set(dimensions) else []),
        ]
    )


def catalog_scores_schema(dimensions: Sequence[str] = DIMENSIONS) -> pa.Schema:
    """``scores`` of a whole catalog in one file: with `standing_schema` after the dimensions."""
    scores = scores_schema(dimensions)
    at = scores.get_field_index(dimensions[-1]) + 1
    return pa.schema([*list(scores)[:at], *standing_schema(dimensions), *list(scores)[at:]])


LOGS = ("failures", "merged", "costs")
"""Tables whose rows are not one of each track."""


def features_table(name: str) -> str:
    """The table of one feature's frames."""
    return f"features/{name}"


def features_schema(n_dims: int) -> pa.Schema:
    """Schema of ``features/NAME``: one row a track, ``frames`` of shape (n_frames, n_dims) in float32."""
    return pa.schema(
        [
            _field("track_id", pa.string(), "as in tracks"),
            _field("frames", pa.list_(pa.list_(pa.float32(), n_dims)), "n_frames x n_dims, in the feature's own unit"),
            _field("hop_s", pa.float64(), "s between the starts of two frames"),
            _field("fingerprint", pa.string(), "of the extractor, its parameters and weights"),
        ]
    )


def ragged_column(arrays: Sequence[np.ndarray], n_dims: int) -> pa.Array:
    """A column of matrices of shapes (n_i, n_dims) as ``list<fixed_size_list<float32>>``, made without a loop."""
    lengths = np.array([a.shape[0] for a in arrays], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = np.concatenate(arrays, axis=0) if len(arrays) else np.zeros((0, n_dims))
    values = pa.array(np.ascontiguousarray(flat, dtype=np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.FixedSizeListArray.from_arrays(values, n_dims))


def ragged_arrays(column: pa.ChunkedArray | pa.Array) -> list[np.ndarray]:
    """The inverse of `ragged_column`: a list of float32 matrices, views where Arrow allows."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    out: list[np.ndarray] = []
    for chunk in chunks:
        inner = chunk.flatten()
        n_dims = chunk.type.value_type.list_size
        flat = inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, n_dims)
        lengths = pc.list_value_length(chunk).to_numpy(zero_copy_only=False).astype(np.int64)
        out.extend(np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else [])
    return out
