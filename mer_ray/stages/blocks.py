"""How a stage's rows are cut into blocks for its workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

WINDOW = 100_000
"""Rows that are planned at a time, so that only the ids of the whole catalog are in memory."""
SHARES = 4
"""A worker's share of what is left is cut into so many blocks, so that all workers end at about the same time."""


def windows(pieces: Iterable[pa.Table], rows: int = WINDOW) -> Iterator[pa.Table]:
    """The rows of all the pieces in tables of at least ``rows`` rows (the last one: fewer), none of them empty."""
    window: list[pa.Table] = []
    for piece in pieces:
        window.append(piece)
        if sum(map(len, window)) >= rows:
            yield pa.concat_tables(window).combine_chunks()
            window = []
    if any(map(len, window)):
        yield pa.concat_tables(window).combine_chunks()


def split(rows: pa.Table, size: int) -> list[pa.Table]:
    """Blocks of ``size`` rows."""
    return [rows.slice(start, size).combine_chunks() for start in range(0, rows.num_rows, size)]


def balanced(n_rows: int, largest: int, workers: int) -> int:
    """A block size: at most ``largest``, and small enough that every worker gets several."""
    return max(1, min(largest, -(-n_rows // (SHARES * workers))))


def by_duration(
    rows: pa.Table, seconds: Sequence[float], workers: int, smallest_s: float, largest_s: float
) -> list[pa.Table]:
    """Blocks of about equal work, the longest tracks first.

    seconds: > 0, of each row. Blocks shrink with what is left, so that all workers end at about the same time (guided
    self-scheduling: Polychronopoulos & Kuck 1987), between ``largest_s`` and ``smallest_s``; a longer track is a block
    of its own.
    """
    order = np.argsort(-np.asarray(seconds, np.float64), kind="stable")
    left = float(np.sum(seconds))
    starts: list[int] = []
    size = target = 0.0
    for position, i in enumerate(order.tolist()):
        if not starts or size + seconds[i] / 2 > target:
            target = min(largest_s, max(smallest_s, left / (SHARES * workers)))
            starts.append(position)
            size = 0.0
        size += seconds[i]
        left -= seconds[i]
    ordered = rows.take(pa.array(order)).combine_chunks()
    ends = [*starts[1:], len(order)]
    return [ordered.slice(start, end - start).combine_chunks() for start, end in zip(starts, ends, strict=False)]
