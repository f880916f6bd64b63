"""What the tracks of an album, or of a folder, are like together."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.address import is_local, to_path
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.scoring.scores_table import name

_OVER_TRACKS = {
    "mean": "mean over the tracks, 0..1; each counts the same, however long it is",
    "sd": "SD over the tracks (of the population: 0 for one track), 0..1",
    "lower": "10th percentile of the tracks, 0..1",
    "upper": "90th percentile of the tracks, 0..1",
}
SCHEMA = pa.schema(
    [pa.field(n, kind, nullable, metadata={"unit": unit}) for n, kind, nullable, unit in (
        ("kind", pa.string(), False, "album | folder"),
        ("name", pa.string(), False, "artist – album, or the folder that the audio files lie in: a path or URI"),
        ("n", pa.int32(), False, "tracks"),
        ("duration_s", pa.float64(), False, "s, of the tracks whose length is known together"),
    )]
    + [
        pa.field(f"{statistic}_{d}", pa.float64(), False, metadata={"unit": unit})
        for d in DIMENSIONS
        for statistic, unit in _OVER_TRACKS.items()
    ]
    + [
        pa.field(
            "in_distribution",
            pa.float64(),
            metadata={"unit": "share of the tracks that are like the training data, 0..1; null if unknown for all"},
        )
    ]
)  # fmt: skip


def rollups(scores: pa.Table) -> pa.Table:
    """Rows of ``scores`` → a table of `SCHEMA`: a row per album, in the order of their names, then one per folder.

    Albums are told apart by artist and title; a track without an album is in none. A folder counts only the files
    directly in it. Percentiles are interpolated linearly.
    """
    return pa.concat_tables([_roll("album", scores, _albums(scores)), _roll("folder", scores, _folders(scores))])


def _albums(scores: pa.Table) -> Iterator[str | None]:
    spelled = functools.cache(name)
    for artist, album in zip(scores["artist"].to_pylist(), scores["album"].to_pylist(), strict=True):
        yield spelled(artist, album) if album else None


def _folders(scores: pa.Table) -> Iterator[str | None]:
    for uri in scores["uri"].to_pylist():
        if not uri:
            yield None
            continue
        local = is_local(uri)
        path = str(to_path(uri)) if uri.startswith("file:") else uri
        parent = path.rpartition("/")[0] or ("/" if "/" in path else ".")
        yield parent.encode("utf-8", "backslashreplace").decode() if local else parent


def _roll(kind: str, scores: pa.Table, names: Iterator[str | None]) -> pa.Table:
    of = list(names)
    known = sorted({n for n in of if n})
    number = {n: i for i, n in enumerate(known)}
    rows = np.array([i for i, n in enumerate(of) if n], dtype=np.int64)
    group = np.array([number[n] for n in of if n], dtype=np.int64)
    n = np.bincount(group, minlength=len(known))
    columns: dict[str, pa.Array | np.ndarray] = {
        "kind": pa.array([kind] * len(known), pa.string()),
        "name": pa.array(known, pa.string()),
        "n": n.astype(np.int32),
        "duration_s": _sums(group, np.nan_to_num(_floats(scores, "duration_s")[rows]), len(known)),
    }
    for d in DIMENSIONS:
        values = _floats(scores, d)[rows]
        mean = _sums(group, values, len(known)) / n
        columns[f"mean_{d}"] = mean
        columns[f"sd_{d}"] = np.sqrt(_sums(group, np.square(values - mean[group]), len(known)) / n)
        ordered, starts = values[np.lexsort((values, group))], np.cumsum(n) - n
        for end, share in (("lower", 0.1), ("upper", 0.9)):
            place = (n - 1) * share
            below = np.floor(place).astype(np.int64)
            a, b = ordered[starts + below], ordered[starts + np.minimum(below + 1, n - 1)]
            columns[f"{end}_{d}"] = a + (b - a) * (place - below)
    like = pc.cast(scores["in_distribution"], pa.float64()).to_numpy(zero_copy_only=False)[rows]
    told = _sums(group, np.isfinite(like).astype(float), len(known))
    share = _sums(group, np.nan_to_num(like), len(known)) / np.maximum(told, 1)
    columns["in_distribution"] = pa.array(share, mask=told == 0)
    return pa.table([columns[f.name] for f in SCHEMA], schema=SCHEMA)


def _sums(group: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(group, values, minlength=n)


def _floats(scores: pa.Table, column: str) -> np.ndarray:
    values: np.ndarray = scores[column].to_numpy(zero_copy_only=False)
    return values
