"""Scored tracks → rows of ``scores``. A column is a line in `COLUMNS`, and a field of `SCHEMAS` ["scores"].

What compares a track with its whole catalog is added later, by `standing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io.address import has_credentials, shown
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, ragged_column
from mer_ray.scoring.predictor import Prediction
from mer_ray.scoring.waveform import outline


@dataclass(frozen=True)
class Scored:
    """One track with everything that its row is made of.

    Attributes:
        track: track_id, and optionally other columns of `COLUMNS`.
        duration_s: In seconds.
        model: Its id.
        waveform: Frames (n, 2) of `mer_ray.scoring.waveform.Waveform`, if it was scored from audio.
    """

    track: Mapping[str, Any]
    prediction: Prediction
    duration_s: float
    model: str
    waveform: np.ndarray | None = None


def _text(name: str) -> Callable[[Scored], str]:
    return lambda s: one_line(s.track.get(name) or "")


def _public(uri: str) -> str:
    return shown(uri) if has_credentials(uri) else uri  # a workspace's tracks may have such addresses


def _known(name: str) -> Callable[[Scored], Any]:
    return lambda s: s.track.get(name)


def _predicted(values: str, i: int) -> Callable[[Scored], float]:
    return lambda s: float(getattr(s.prediction, values)[i])


COLUMNS: dict[str, Callable[[Scored], Any]] = {
    "track_id": _known("track_id"),
    "artist": _text("artist"),
    "title": _text("title"),
    "album": lambda s: _text("album")(s) or None,
    "uri": lambda s: _public(s.track.get("uri") or ""),
    "duration_s": lambda s: s.duration_s,
    **{name: _known(name) for name in ("size", "mtime_ms", "sha256", "decoded_share")},
    **{d: _predicted("vad", i) for i, d in enumerate(DIMENSIONS)},
    **{f"{end}_{d}": _predicted(end, i) for end in ("lower", "upper") for i, d in enumerate(DIMENSIONS)},
    "in_distribution": lambda s: s.prediction.in_distribution,
    "novelty": lambda s: s.prediction.novelty,
    "curve": lambda s: np.asarray(s.prediction.curve, np.float32),
    "curve_hop_s": lambda s: s.prediction.hop_s,
    "sound": lambda s: np.asarray(s.prediction.sound, np.float32),
    "waveform": lambda s: None if s.waveform is None else outline(s.waveform),
    "model": lambda s: s.model,
}
"""The function that gives each column's value of a track: None, a number or text, or an array for a list."""


def table(scored: Sequence[Scored]) -> pa.Table:
    """A table of `SCHEMAS` ["scores"], a row for each."""
    schema = SCHEMAS["scores"]
    columns = [_column([COLUMNS[field.name](s) for s in scored], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
        return ragged_column(values, kind.value_type.list_size)
    return pa.array(values, kind)
