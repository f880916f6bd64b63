"""What the runs of the stages cost: a row of the table ``costs`` for each that had something to do."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import psutil
import pyarrow as pa

from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace, now

MANY = 100
"""So many shards become one."""


class Meter:
    """Measures from its making on: wall-clock time, and the CPU time of this process and those that it started.

    cluster: the work is done elsewhere, so that no CPU time is known.
    """

    def __init__(self, cluster: bool = False) -> None:
        self.cluster = cluster
        self.again()

    def again(self) -> None:
        """Begin to measure anew."""
        self._began, self._before = time.monotonic(), _cpu_s()

    def read(self) -> dict[str, Any]:
        """seconds, cpu_s (None on a cluster), place and cpus, as in the table."""
        return {
            "seconds": time.monotonic() - self._began,
            "cpu_s": None if self.cluster else max(0.0, _cpu_s() - self._before),
            "place": "cluster" if self.cluster else "this machine",
            "cpus": os.cpu_count() or 1,
        }


def _cpu_s() -> float:
    """CPU-seconds of this process and its descendants, with those that have ended."""
    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            total += times.user + times.system + ended
    return total


def record(workspace: Workspace, stage: str, meter: Meter, made: int, failed: int) -> None:
    """Add a row to ``costs``; none for a run that found everything done."""
    if not made:
        return
    at = now()
    row = {"stage": stage, "at": at, "made": made, "failed": failed, **meter.read()}
    workspace.append("costs", pa.Table.from_pylist([row], SCHEMAS["costs"]), f"{stage} {at} {os.getpid()}")
    names = workspace.names("costs")
    if len(names) > MANY:
        workspace.merge("costs", names)


def of(workspace: Workspace) -> list[dict[str, Any]]:
    """The rows of ``costs``, in the order of time, each once."""
    rows = {(row["at"], row["stage"]): row for row in workspace.read("costs").to_pylist()}
    return [rows[key] for key in sorted(rows)]
