"""Nearest neighbours of tracks: by emotion, by sound, or by both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.markup import escape

from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring.scores_table import find, listing, name, read

By = Literal["both", "feeling", "sound"]

_CELLS = 1 << 24  # distances in memory: 64 MiB
_PAIRS = 1 << 18  # exact distances in memory
_GROUPS = 512  # of columns at least; with more there are fewer candidates
_TOLERANCE = 1e-5  # of squared distances in float32, relative to the squared lengths they are computed from


@dataclass(frozen=True)
class _Part:
    """Points (N, d) float64 whose squared Euclidean distance is one part of the whole; ``known`` (N,): who has it."""

    points: np.ndarray
    known: np.ndarray


def nearest(table: pa.Table, k: int = 8, by: By = "both") -> np.ndarray:
    """The k nearest other rows of each row: (N, k) int32 row numbers, nearest first, -1 where there are fewer.

    The squared distance of two tracks is the mean of two parts: the mean squared difference of their dimensions and of
    the SDs of these over their curves, and that of their ``sound`` vectors; every number is divided by its SD over the
    table, so that two tracks drawn at random are 1.4 apart. Where one of the two has no sound, the first part counts
    alone; with ``by="sound"`` it has no neighbours and is none. Other missing numbers count as the table's mean. The
    result is exact, and ties are in row order. Memory is bounded; time grows with N².
    """
    parts = _parts(table, by)
    out = np.full((table.num_rows, max(0, k)), -1, np.int32)
    for rows, others in _candidates(parts, table.num_rows, k):
        squared = _exact(parts, rows, others)
        order = np.lexsort((others, squared, rows))
        order = order[np.isfinite(squared[order])]
        rows, others = rows[order], others[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        out[rows[rank < k], rank[rank < k]] = others[rank < k]
    return out


def nearest_to(table: pa.Table, row: int, k: int = 8, by: By = "both") -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other rows of one row, and their distances (as in `nearest`), nearest first: (n,), (n,)."""
    others = np.arange(table.num_rows)
    squared = _exact(_parts(table, by), np.full(len(others), row), others)
    order = np.argsort(squared, kind="stable")
    order = order[np.isfinite(squared[order])][: max(0, k)]
    return order.astype(np.int32), np.sqrt(squared[order])


def run(scores: str, track: str, n: int = 10, by: By = "both") -> list[str]:
    """Print the n nearest neighbours of a track of a scores file. Returns notes for the user."""
    from mer_ray.console import out

    table = read(scores, without=["waveform"])
    row = find(table, track)
    rows, distances = nearest_to(table, row, n, by)
    own = table.slice(row, 1).to_pylist()[0]
    feeling = ", ".join(f"{d.replace('_', ' ')} {own[d]:.2f}" for d in dimensions_of(table.schema, "scores"))
    out.print(f"[bold]{escape(name(own['artist'], own['title']))}[/bold]  {feeling}")
    if len(rows):
        out.print(listing(table, rows, distances))
        alike = "Alike in feeling and sound" if by == "both" else f"Alike in {by}"
        notes = [f"{alike}: 0 is the same, 1.4 as far as two tracks drawn at random."]
    else:
        notes = ["There is no other track to compare it with" + ("." if table.num_rows < 2 else " by its sound.")]
    if by != "feeling" and not _parts(table.slice(row, 1), "sound")[0].known.all():
        notes.append("Nothing is known of its sound: `mer-ray score` it again, with a model of this version.")
    return notes


def _candidates(parts: list[_Part], n: int, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Block by block, pairs of rows (m,), (m,) that include the k nearest of each of the block's rows.

    Columns are divided into groups. The k-th lowest of the groups' minima is an upper bound of the k-th lowest
    distance, so pairs with a larger approximate distance are left out.
    """
    groups = min(n, max(_GROUPS, 4 * k))
    size = max(1, _CELLS // max(1, n))
    points = [p.points.astype(np.float32) for p in parts]
    lengths = [np.einsum("nd,nd->n", p, p)[:, None] for p in points]
    ones = np.ones((n, 1), np.float32)
    left = [np.hstack([p, length, ones]) for p, length in zip(points, lengths, strict=True)]
    right = [np.hstack([-2 * p, ones, length]).T for p, length in zip(points, lengths, strict=True)]
    for start in range(0, n if k > 0 and n > 1 else 0, size):
        rows = slice(start, min(n, start + size))
        rough = left[0][rows] @ right[0]  # |a|² - 2ab + |b|²
        if not all(p.known.all() for p in parts):
            rough = _mean_of_known(
                parts, [rough, *(a[rows] @ b for a, b in zip(left[1:], right[1:], strict=True))], rows
            )
        np.fill_diagonal(rough[:, start:], np.inf)
        minima = rough[:, : n // groups * groups].reshape(len(rough), -1, groups).min(axis=1)
        limit = np.partition(minima, min(k, groups) - 1, axis=1)[:, min(k, groups) - 1]
        slack = 2 * _TOLERANCE * sum(length[rows, 0] + length.max() for length in lengths)
        near = np.flatnonzero(rough <= np.minimum(limit + slack, np.finfo(np.float32).max)[:, None])
        yield start + near // n, near % n


def _mean_of_known(parts: list[_Part], squared: list[np.ndarray], rows: slice) -> np.ndarray:
    """The mean (b, N) of the parts' squared distances (b, N)that both rows have; infinite where there is none."""
    known = [p.known[rows, None] & p.known for p in parts]
    total = sum(np.where(k, s, np.float32(0)) for k, s in zip(known, squared, strict=True))
    count = sum(k.astype(np.float32) for k in known)
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.inf))


def _exact(parts: list[_Part], rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances (m,) of pairs of rows, from differences; infinite from a row to itself and where none is."""
    out = np.full(len(rows), np.inf)
    for start in range(0, len(rows), _PAIRS):
        i, j = rows[start : start + _PAIRS], others[start : start + _PAIRS]
        total, count = np.zeros(len(i)), np.zeros(len(i))
        for part in parts:
            known = part.known[i] & part.known[j]
            total += np.where(known, np.square(part.points[i] - part.points[j]).sum(axis=1), 0.0)
            count += known
        real = (count > 0) & (i != j)
        out[start : start + _PAIRS] = np.where(real, total / np.maximum(count, 1), np.inf)
    return out


def _parts(table: pa.Table, by: By) -> list[_Part]:
    if by not in get_args(By):
        raise ValueError(f"by must be one of {', '.join(get_args(By))}, got {by!r}")
    parts = []
    if by != "sound":
        dimensions = dimensions_of(table.schema, "scores")
        numbers = np.column_stack([table[d].to_numpy() for d in dimensions]).astype(np.float64)
        parts.append(_Part(_standard(np.hstack([numbers, spread(table)])), np.ones(table.num_rows, bool)))
    if by != "feeling":
        vectors = sound(table)
        parts.append(_Part(_standard(vectors), np.isfinite(vectors).all(axis=1) & (vectors.shape[1] > 0)))
    if len(parts) == 2 and parts[1].known.all():  # one product instead of two
        return [_Part(np.hstack([p.points for p in parts]) / np.sqrt(2), parts[0].known)]
    return parts


def _standard(numbers: np.ndarray) -> np.ndarray:
    """Columns (N, d) in SDs from their means, over sqrt(d); 0 for what is not finite, and in a constant column."""
    known = np.where(np.isfinite(numbers), numbers, np.nan)
    known = known[:, np.isfinite(known).any(axis=0)]
    if known.size == 0:
        return np.zeros((len(numbers), 0))
    sd = np.nanstd(known, axis=0)
    away = known - np.nanmean(known, axis=0)
    varies = sd > 1e-9 * np.nanmax(np.abs(known), axis=0)  # less is rounding error of equal numbers
    out: np.ndarray = np.nan_to_num(np.where(varies, away / np.where(varies, sd, 1.0), 0.0) / np.sqrt(len(sd)))
    return out


def spread(table: pa.Table) -> np.ndarray:
    """SD of each dimension over each row's curve: (N, D) float64, NaN where it has none."""
    n_dimensions = len(dimensions_of(table.schema, "scores"))
    out = np.full((table.num_rows, n_dimensions), np.nan)
    if "curve" not in table.column_names:
        return out
    done = 0
    for batch in table.select(["curve"]).to_batches(max_chunksize=4096):
        column = batch.column(0)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        rows = np.flatnonzero(lengths)
        if len(rows):
            points = (
                column.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, n_dimensions).astype(np.float64)
            )
            starts = np.concatenate([[0], np.cumsum(lengths[rows])[:-1]])
            n = lengths[rows, None]
            mean = np.add.reduceat(points, starts) / n
            squares = np.add.reduceat(np.square(points - np.repeat(mean, lengths[rows], axis=0)), starts)
            out[done + rows] = np.sqrt(squares / n)
        done += len(column)
    return out


def sound(table: pa.Table) -> np.ndarray:
    """The ``sound`` vectors: (N, d) float64, NaN in rows without one. d is the length that most rows have, or 0."""
    if "sound" not in table.column_names or table["sound"].null_count == table.num_rows:
        return np.zeros((table.num_rows, 0))
    column = table["sound"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    d = int(np.argmax(np.bincount(lengths)[1:]) + 1) if lengths.any() else 0
    out = np.full((table.num_rows, d), np.nan)
    rows = np.flatnonzero(lengths == d) if d else np.zeros(0, np.int64)
    if len(rows):
        out[rows] = column.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False).reshape(-1, d)
    return out
