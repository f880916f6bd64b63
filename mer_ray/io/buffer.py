"""Rows that one process collects and writes in a few large shards."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mer_ray.io.shards import Tables

COMMIT_ROWS, COMMIT_S = 5_000, 10.0
"""Rows that the driver writes together, and the longest time that it waits for so many."""


class Buffer:
    """Rows for a table, written as they come, at most every `COMMIT_S` s, and merged into shards of `COMMIT_ROWS`."""

    def __init__(self, workspace: Tables, table: str) -> None:
        self._workspace, self._table = workspace, table
        self._rows: list[Mapping[str, Any]] = []
        self._since = time.monotonic()
        self._small: dict[str, int] = {}

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._merge()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of the table."""
        self._rows += rows
        if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._since > COMMIT_S:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        for name in self._workspace.append_rows(self._table, self._rows):
            self._small[name] = len(self._rows)
        self._rows, self._since = [], time.monotonic()
        if sum(self._small.values()) >= COMMIT_ROWS:
            self._merge()

    def _merge(self) -> None:
        if len(self._small) > 1:
            self._workspace.merge(self._table, list(self._small))
        self._small = {}
