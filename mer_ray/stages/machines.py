"""The machines of a run: where much fails that may be a machine's fault, and which get no more work."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from mer_ray.io.address import is_local, to_path
from mer_ray.stages.task import Node, Stage

SICK_ROWS, SICK_TIMES = 8, 4.0
"""A machine is sick if so many rows failed there that others can read, or a share so many times that of the others."""
LOOKED_AT = 32
"""Rows of a report at most whose files the driver looks for itself."""


class Machines:
    """Counts what failed where.

    Attributes:
        aside: The machines that are set aside, by id.
    """

    def __init__(self, able: Callable[[], set[str]]) -> None:
        """able: the ids of the machines that could work."""
        self._able = able
        self.aside: dict[str, Node] = {}
        self.rows, self.doubts, self._refuted = Counter[Node](), Counter[Node](), Counter[Node]()

    def count(self, node: Node, rows: int, doubts: int, doubtful: pa.Table | None = None) -> None:
        """Count a report: how many rows, and how many of them failed in a way that may be the machine's fault.

        doubtful: these rows. Where the driver finds a row's file, the machine is wrong.
        """
        self.rows[node] += rows
        self.doubts[node] += doubts
        if node.id and doubtful is not None and "uri" in doubtful.column_names:
            self._refuted[node] += sum(map(_is_there, doubtful["uri"][:LOOKED_AT].to_pylist()))

    def verdict(self, node: Node) -> str:
        """Why a machine is sick; empty if it is not, or if nothing is known to compare it with."""
        doubts, rows = self.doubts[node], self.rows[node]
        if doubts < SICK_ROWS:
            return ""
        why = f"{doubts:,} of its {rows:,} tracks could not be read there"
        if self._refuted[node] >= SICK_ROWS:
            return why
        others = [
            (self.doubts[other] + 1) / (n + 10)
            for other, n in self.rows.items()
            if other != node and other.id not in self.aside and n >= SICK_ROWS
        ]
        return why if others and doubts / rows > SICK_TIMES * statistics.median(others) else ""

    def set_aside(self, node: Node) -> bool:
        """Give a machine no more work. Returns False where it is the only one that could do it."""
        if not node.id or node.id in self.aside or not self._able() - {node.id, *self.aside}:
            return False
        self.aside[node.id] = node
        return True

    def to_avoid(self, others: Iterable[Node] = ()) -> list[str]:
        """The ids of the machines that are set aside, and of the others as far as a machine is left."""
        able, aside = self._able(), set(self.aside)
        both = aside | {node.id for node in others}
        return sorted((both if able - both else aside if able - aside else set()) & able)


def able(stage: Stage, memory: int) -> set[str]:
    """The ids of the machines that have what a worker of this stage asks for."""
    import ray

    needed: dict[str, Any] = {"CPU": stage.cpus, "GPU": stage.gpus, "memory": memory}
    return {
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and all(node["Resources"].get(name, 0) >= n for name, n in needed.items())
    }


def _is_there(uri: str | None) -> bool:
    try:
        return bool(uri) and is_local(str(uri)) and to_path(str(uri)).is_file()
    except (OSError, ValueError):
        return False
