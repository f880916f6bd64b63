"""What works on the rows of a stage, wherever that is: its interface, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

DOUBTFUL = ("missing", "unreadable", "crashed", "no_space", "no_driver")
"""Reasons of failures that may be the machine's fault and not the file's."""


@dataclass
class Done:
    """What a worker has made of some rows.

    Attributes:
        made: New rows of the stage's table.
        failed: Rows of ``failures``.
        seconds: Of audio.
        output: Rows for the process that gives out the work to write.
        tracks: With a result; None if they are as many as ``made``.
    """

    made: int
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    output: pa.Table | None = None
    tracks: int | None = None


class Worker(Protocol):
    """Made once in each process, then called with one part after the other. It commits what it makes."""

    def __call__(self, rows: pa.Table, final: bool, /) -> Done:
        """Work on the rows. What an earlier call has committed for the same rows is not made again.

        final: False where failures for a reason in `DOUBTFUL` do not count: the rows come again, on another machine.
        """

    def close(self) -> None:
        """End what it has started."""

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """The row of ``failures``, ``worker_died``, of a row on which workers died."""
