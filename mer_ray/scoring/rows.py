"""Predictions → rows of ``scores``, as Arrow columns and without a Python object for each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, ragged_column
from mer_ray.scoring.predictor import Prediction
from mer_ray.scoring.waveform import drawn


def scores_table(
    tracks: Sequence[Mapping[str, Any]],
    predictions: Sequence[Prediction],
    durations: Sequence[float],
    model: str,
    waveforms: Sequence[np.ndarray | None] | None = None,
) -> pa.Table:
    """A table of `SCHEMAS` ["scores"].

    tracks: track_id, artist, title, album, uri, size, mtime_ms, sha256 and decoded_share of each; only track_id has to
    be there. durations: s.
    waveforms: frames (n, 2) of `mer_ray.scoring.waveform.Waveform`.
    """
    drawn_ones = [None if w is None else drawn(w) for w in waveforms or [None] * len(tracks)]
    columns: dict[str, Any] = {
        "track_id": pa.array([t["track_id"] for t in tracks], pa.string()),
        **{name: pa.array([one_line(t.get(name) or "") for t in tracks], pa.string()) for name in ("artist", "title")},
        "album": pa.array([one_line(t["album"]) if t.get("album") else None for t in tracks], pa.string()),
        "uri": pa.array([t.get("uri") or "" for t in tracks], pa.string()),
        "duration_s": pa.array(durations, pa.float64()),
        **{name: pa.array([t.get(name) for t in tracks], pa.int64()) for name in ("size", "mtime_ms")},
        "sha256": pa.array([t.get("sha256") for t in tracks], pa.string()),
        "decoded_share": pa.array([t.get("decoded_share") for t in tracks], pa.float64()),
        "in_distribution": pa.array([p.in_distribution for p in predictions], pa.bool_()),
        "novelty": pa.array([p.novelty for p in predictions], pa.float64()),
        "curve": ragged_column([np.asarray(p.curve, np.float32) for p in predictions], len(DIMENSIONS)),
        "curve_hop_s": pa.array([p.hop_s for p in predictions], pa.float64()),
        "sound": _lists([np.asarray(p.sound, np.float32) for p in predictions], pa.float32()),
        "waveform": _lists(drawn_ones, pa.uint8()),
        "model": pa.array([model] * len(tracks), pa.string()),
    }
    for prefix, name in (("", "vad"), ("lower_", "lower"), ("upper_", "upper")):
        values = np.array([getattr(p, name) for p in predictions], float).reshape(-1, len(DIMENSIONS))
        columns |= {f"{prefix}{d}": pa.array(values[:, i]) for i, d in enumerate(DIMENSIONS)}
    schema = SCHEMAS["scores"]
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _lists(arrays: Sequence[np.ndarray | None], kind: pa.DataType) -> pa.Array:
    """Vectors of any length, or nulls, as a list column."""
    missing = np.array([a is None for a in arrays], bool)
    lengths = [0 if a is None else len(a) for a in arrays]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    there = [a for a in arrays if a is not None]
    values = pa.array(np.concatenate(there) if there else np.zeros(0), kind)
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(missing))
