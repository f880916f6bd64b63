"""Summaries of the scores of each album and folder."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import pyarrow as pa

from mer_ray.io.address import is_local, to_path
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.scoring import sql
from mer_ray.scoring.scores_table import name

_OVER_TRACKS = {
    "mean": ("avg({})", "mean over the tracks, 0..1; each counts the same, however long it is"),
    "sd": ("stddev_pop({})", "SD over the tracks (of the population: 0 for one track), 0..1"),
    "p10": ("quantile_cont({}, 0.1)", "10th percentile of the tracks, 0..1"),
    "p90": ("quantile_cont({}, 0.9)", "90th percentile of the tracks, 0..1"),
}


def _columns(dimensions: Sequence[str]) -> list[tuple[str, pa.DataType, str, str]]:
    """Name, type, SQL and unit of each column."""
    return [
        ("kind", pa.string(), "kind", "album | folder"),
        ("name", pa.string(), "name", "artist – album, or the folder that the audio files lie in: a path or URI"),
        ("n", pa.int32(), "count(*)", "tracks"),
        ("duration_s", pa.float64(), "coalesce(sum(if(isfinite(duration_s), duration_s, 0)), 0)",
         "s, of the tracks whose length is known together"),
        *((f"{statistic}_{d}", pa.float64(), function.format(f'"{d}"'), unit)
          for d in dimensions for statistic, (function, unit) in _OVER_TRACKS.items()),
        ("in_distribution", pa.float64(), "avg(in_distribution::INT)",
         "share of the tracks that are like the training data, 0..1; null if unknown for all"),
    ]  # fmt: skip


def schema(dimensions: Sequence[str] = DIMENSIONS) -> pa.Schema:
    """The columns of `rollups`, with their units."""
    return pa.schema([pa.field(n, t, n == "in_distribution", {"unit": unit}) for n, t, _, unit in _columns(dimensions)])


def rollups(scores: pa.Table, dimensions: Sequence[str] = DIMENSIONS) -> pa.Table:
    """Rows of ``scores`` → a table of `schema`: a row per album, in the order of their names, then one per folder.

    An album is identified by artist and title; tracks without an album are in none. A folder counts only the files
    directly in it. Percentiles are interpolated linearly.
    """
    names = {"album": _albums(scores), "folder": _folders(scores)}
    named = [scores.append_column("name", pa.array(list(n), pa.string())) for n in names.values()]
    figures = ", ".join(f'{function} AS "{n}"' for n, _, function, _ in _columns(dimensions))
    tracks = " UNION ALL ".join(f"SELECT '{kind}' AS kind, * FROM {kind}" for kind in names)  # noqa: S608
    made = sql.query(
        f"SELECT {figures} FROM ({tracks}) WHERE name <> '' GROUP BY kind, name ORDER BY kind, name",  # noqa: S608
        **dict(zip(names, named, strict=True)),
    )
    return made.cast(schema(dimensions))


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
