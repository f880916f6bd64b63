"""Scored tracks → rows of ``scores``. A column is a line in `COLUMNS`, and a field of `io.schemas.scores_schema`.

What compares a track with its whole catalog is added later, by `standing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io.address import has_credentials, shown
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import MEASURES, ragged_column, scores_schema
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
        measured: Values of `mer_ray.io.schemas.MEASURES`, where known.
    """

    track: Mapping[str, Any]
    prediction: Prediction
    duration_s: float
    model: str
    waveform: np.ndarray | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)


def _text(name: str) -> Callable[[Scored], str]:
    return lambda s: one_line(s.track.get(name) or "")


def _public(uri: str) -> str:
    return shown(uri) if has_credentials(uri) else uri  # a workspace's tracks may have such addresses


def _known(name: str) -> Callable[[Scored], Any]:
    return lambda s: s.track.get(name)


def _measured(name: str) -> Callable[[Scored], Any]:
    return lambda s: s.measured.get(name)


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
    "in_distribution": lambda s: s.prediction.in_distribution,
    "novelty": lambda s: s.prediction.novelty,
    **{measure.name: _measured(measure.name) for measure in MEASURES},
    "curve": lambda s: np.asarray(s.prediction.curve, np.float32),
    "curve_hop_s": lambda s: s.prediction.hop_s,
    "sound": lambda s: np.asarray(s.prediction.sound, np.float32),
    "waveform": lambda s: None if s.waveform is None else outline(s.waveform),
    "model": lambda s: s.model,
}
"""The function that gives each column's value of a track: None, a number or text, or an array for a list. Those of
the dimensions are beside them: `_of_dimensions`."""


def _of_dimensions(dimensions: Sequence[str]) -> dict[str, Callable[[Scored], Any]]:
    prefixes = {"": "value", "lower_": "lower", "upper_": "upper"}
    return {f"{p}{d}": _predicted(values, i) for p, values in prefixes.items() for i, d in enumerate(dimensions)}


def table(scored: Sequence[Scored], dimensions: Sequence[str]) -> pa.Table:
    """A table of `scores_schema`, a row for each. dimensions: those of the model."""
    schema, of_columns = scores_schema(dimensions), COLUMNS | _of_dimensions(dimensions)
    columns = [_column([of_columns[field.name](s) for s in scored], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
        return ragged_column(values, kind.value_type.list_size)
    return pa.array(values, kind)
