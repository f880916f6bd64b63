"""Where each track stands in its catalog: percentiles of each dimension, and a mood word.

Both are relative: they compare a track with the others of its table, and change when tracks come or leave. So they are
computed whenever a table is written or read as a whole, and never stored in shards.

**Percentile**: 100 · (tracks below + half of those that are equal, itself included) / tracks, the percentile rank of
educational testing (Crocker and Algina 1986, Introduction to Classical and Modern Test Theory), and
``scipy.stats.percentileofscore(kind="mean")``. Its mean is 50, equal values have equal percentiles, and a single track
is at 50. Every track counts, also one that is out of distribution.

**Mood**: the word of `ANGLES` that is nearest to the direction from the catalog's middle (both medians) to the track's
percentiles of valence (0°) and arousal (90°); ``neutral`` closer than `NEUTRAL` percentile points to the middle, an
eighth of a catalog in which valence and arousal are independent. The angles are those of eight of Russell's 28 words,
by direct circular scaling (1980, A circumplex model of affect, J. Pers. Soc. Psychol. 39, 1161-1178), to a degree;
the words divide the circle into parts of 35° to 54°. Scores without valence or without arousal have no moods.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from mer_ray.io.schemas import dimensions_of, standing_schema

ANGLES = {
    "happy": 8,
    "excited": 49,
    "tense": 93,
    "distressed": 138,
    "miserable": 189,
    "sad": 208,
    "sleepy": 272,
    "calm": 316,
}
"""Degrees from pleasure (0°) to arousal (90°)."""
MIDDLE = "neutral"
WORDS = (*ANGLES, MIDDLE)
NEUTRAL = 20.0
FEWEST = 10
"""In a catalog of fewer tracks there is no mood: with so few to compare with, a word would say nothing."""


class Catalog:
    """The values of all tracks of a catalog, with which tracks are compared; 8 bytes a track and dimension."""

    def __init__(self, pieces: Iterable[pa.Table], dimensions: Sequence[str]) -> None:
        """pieces: tables with a column in 0..1 for each dimension."""
        self.dimensions = tuple(dimensions)
        values = [np.stack([piece[d].to_numpy() for d in dimensions]) for piece in pieces]
        self._sorted = np.sort(np.concatenate([np.zeros((len(dimensions), 0)), *values], axis=1), axis=1)

    def added(self, table: pa.Table) -> pa.Table:
        """The table with the columns of `standing_schema`, in place of those that it has; after the dimensions."""
        schema, ordered = standing_schema(self.dimensions), dict(zip(self.dimensions, self._sorted, strict=True))
        made = {f"{d}_percentile": percentiles(table[d].to_numpy(), ordered[d]) for d in self.dimensions}
        if "mood" in schema.names:
            few = self._sorted.shape[1] < FEWEST
            codes = moods(made["valence_percentile"], made["arousal_percentile"])
            made["mood"] = pa.nulls(len(table), pa.string()) if few else pa.array(WORDS).take(pa.array(codes))
        table = table.drop_columns([name for name in schema.names if name in table.column_names])
        at = table.column_names.index(self.dimensions[-1]) + 1
        for i, field in enumerate(schema):
            table = table.add_column(at + i, field, pa.array(made[field.name], field.type))
        return table


def added(table: pa.Table) -> pa.Table:
    """A whole catalog's rows of ``scores`` with the columns of `standing_schema`."""
    return Catalog([table], dimensions_of(table.schema, "scores")).added(table)


def percentiles(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """The percentile, 0..100, of values (N,) among the values of a catalog in ascending order (M,)."""
    both: np.ndarray = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return both * (50.0 / max(1, len(ordered)))


def moods(valence: np.ndarray, arousal: np.ndarray) -> np.ndarray:
    """The moods of percentiles (N,), (N,), as indices of `WORDS`."""
    across, up = valence - 50.0, arousal - 50.0
    angles = np.array(list(ANGLES.values()))
    cuts = (angles + np.append(angles[1:], angles[0] + 360)) / 2
    nearest = np.searchsorted(cuts, np.degrees(np.arctan2(up, across)) % 360) % len(angles)
    return np.where(np.hypot(across, up) < NEUTRAL, len(angles), nearest)
