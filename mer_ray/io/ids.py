"""Sets of track ids in 8 bytes each, so that the ids of a large catalog fit into one process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.identity import digest

DIGITS = 16
"""Hexadecimal digits of generated ids: 64 bits."""
_OWN = re.compile(f"[0-9a-f]{{{DIGITS}}}")
_BATCH = 1 << 20
_VALUES = np.full(256, 255, np.uint8)
_VALUES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


class Ids(Set[str]):
    """A growing set of ids: 16 lower-case hexadecimal digits take 8 bytes, other ids the size of a string.

    The numbers are stored as sorted runs, each at least twice as long as the next (as in O'Neil et al. 1996, "The
    log-structured merge-tree"), so that adding n ids in batches takes O(n log n).
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._runs: list[np.ndarray] = []
        self._others: set[str] = set()
        batch: list[str] = []
        for i in ids:
            batch.append(i)
            if len(batch) == _BATCH:
                self.add(batch)
                batch = []
        self.add(batch)

    def add(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Add ids. Returns which of them are new, (n,) bool; of equal ones in ``ids``, the first."""
        own, numbers, others, strings = _encode(ids)
        new = np.zeros(len(own), bool)
        distinct, first = np.unique(numbers, return_index=True)
        fresh = ~self._has(distinct)
        new[np.flatnonzero(own)[first[fresh]]] = True
        if fresh.any():
            self._merge(distinct[fresh])
        for at, text in zip(others.tolist(), strings, strict=True):
            new[at] = text not in self._others
            self._others.add(text)
        return new

    def mask(self, ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Which of ``ids`` are in the set, (n,) bool."""
        own, numbers, others, strings = _encode(ids)
        out = np.zeros(len(own), bool)
        out[own] = self._has(numbers)
        out[others] = [text in self._others for text in strings]
        return out

    def _has(self, numbers: np.ndarray) -> np.ndarray:
        out = np.zeros(len(numbers), bool)
        for run in self._runs:
            out |= lookup(run, numbers)[1]
        return out

    def _merge(self, run: np.ndarray) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort(kind="stable")  # a merge of two runs, in linear time
            self._runs.append(merged)

    def __contains__(self, i: object) -> bool:
        if not isinstance(i, str):
            return False
        if not _OWN.fullmatch(i):
            return i in self._others
        return bool(self._has(np.array([int(i, 16)], np.uint64))[0])

    def __len__(self) -> int:
        return sum(map(len, self._runs)) + len(self._others)

    def __iter__(self) -> Iterator[str]:
        for run in self._runs:
            for number in run.tolist():
                yield f"{number:0{DIGITS}x}"
        yield from self._others

    def __repr__(self) -> str:
        return f"Ids({len(self):,})"

    @property
    def nbytes(self) -> int:
        """Size of the numbers in bytes."""
        return sum(run.nbytes for run in self._runs)


def hashed(texts: Iterable[str]) -> np.ndarray:
    """64 bits of the hash of each text, (n,) uint64: what a table of many texts is compared by."""
    return np.array([int(digest(text.encode())[:DIGITS], 16) for text in texts], np.uint64)


def lookup(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices (n,) of ``wanted`` in the sorted ``keys``, and which of them are there, (n,) bool."""
    if not len(keys):
        return np.zeros(len(wanted), int), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def _encode(ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """(which are generated ids (n,) bool, their numbers uint64, indices of the others, the others)."""
    column: Any = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if not isinstance(column, pa.Array):
        column = pa.array(list(column), pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], pa.string())
    own = pc.equal(pc.binary_length(column), DIGITS).fill_null(False).to_numpy(zero_copy_only=False)
    right = column.filter(pa.array(own)) if not own.all() else column
    fixed = right.cast(pa.binary()).cast(pa.binary(DIGITS))
    start = fixed.offset * DIGITS
    letters = np.frombuffer(fixed.buffers()[1] or b"", np.uint8)[start : start + DIGITS * len(fixed)]
    nibbles = _VALUES[letters].reshape(-1, DIGITS)
    good = (nibbles < 16).all(1) if len(nibbles) else np.zeros(0, bool)
    if not good.all():
        own[np.flatnonzero(own)[~good]] = False
        nibbles = nibbles[good]
    octets = (nibbles[:, ::2] << 4) | nibbles[:, 1::2]
    numbers = np.ascontiguousarray(octets).view(">u8").reshape(-1).astype(np.uint64)
    others = np.flatnonzero(~own)
    return own, numbers, others, column.take(pa.array(others)).to_pylist() if len(others) else []
