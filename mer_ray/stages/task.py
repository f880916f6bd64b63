"""One block of a stage's work, in a process of Ray or in this one: part by part, each committed and reported."""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.errors import MerRayError, NodeError, ServiceError
from mer_ray.io.store import MARKER, TEMPORARY
from mer_ray.io.tables import Workspace
from mer_ray.stages import plan, remote, session
from mer_ray.stages.remote import RemoteError

DOUBTFUL = ("missing", "unreadable", "crashed")
"""Reasons that may be the machine's fault and not the file's: another machine tries before they count."""
TRIES = 3
"""Workers that may die on a block before its rows are worked on one by one; and on one row before it fails."""
STARTS = 3
"""Times that each worker may die in a row before it is ready."""


@dataclass
class Done:
    """What a worker has made of some rows.

    Attributes:
        made: New rows of the stage's table.
        failed: Rows of ``failures``.
        seconds: Of audio.
        output: Rows that the driver writes (``take`` of `runner.run`).
        tracks: With a result; None if they are as many as ``made``.
    """

    made: int
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    output: pa.Table | None = None
    tracks: int | None = None


class Worker(Protocol):
    """Made once in each process, then called with one part after the other. It commits what it makes."""

    def __call__(self, rows: pa.Table, /) -> Done:
        """Work on the rows. What an earlier call has committed for the same rows is not made again."""

    def close(self) -> None:
        """End what it has started."""

    @staticmethod
    def failure(row: dict[str, Any], message: str) -> dict[str, Any]:
        """The row of ``failures``, ``worker_died``, of a row on which workers died."""


@dataclass(frozen=True)
class Stage:
    """What a stage file hands to `runner.run`.

    Attributes:
        name: In progress and counters.
        workspace: Where the rows' results go.
        worker: Its class.
        arguments: Of its constructor.
        sizes: How much is handed out at a time.
        cpus: Of each worker; a fraction for one that waits for the network.
        gpus: Of each worker, or a fraction of one.
        memory: Bytes that each worker may need, with the process that decodes.
    """

    name: str
    workspace: Workspace
    worker: type[Worker]
    arguments: dict[str, Any]
    sizes: plan.Sizes
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 2**30


class Ticket(NamedTuple):
    """What a process of Ray has to know beside the stage. key: of the run. marker: see `remote.check_marker`."""

    key: str
    marker: str
    workers: int


class Node(NamedTuple):
    """A machine: its id in Ray, and its address for messages."""

    id: str
    address: str


class Report(NamedTuple):
    """One part of a block on its way to the driver.

    Attributes:
        number: Of the block.
        part: Of the part in the block.
        rows: In the part.
        planned: Their work.
        done: Without the doubtful failures.
        doubtful: The rows whose failure may be the machine's fault.
        doubts: Their rows of ``failures``.
        cpu_s: CPU-seconds of the process and its children.
        error: That ends the run, or, with ``is_node``, sets the machine aside.
    """

    number: int
    part: int
    rows: int
    planned: float
    done: Done
    doubtful: pa.Table | None
    doubts: list[dict[str, Any]]
    node: Node
    cpu_s: float
    error: RemoteError | None = None

    @property
    def is_node(self) -> bool:
        """Whether the machine cannot work."""
        return self.error is not None and self.error.kind == NodeError.__name__


def reports(worker: Worker, number: int, block: pa.Table, part: float, node: Node) -> Iterator[Report]:
    """Work on a block. Raises what the worker raises."""
    for index, rows in enumerate(plan.parts(block, part)):
        before = _cpu_s()
        done = worker(rows)
        doubts = [f for f in done.failed if f["reason"] in DOUBTFUL and not f["transient"]]
        if doubts:
            done.failed = [f for f in done.failed if f not in doubts]
        ids = pa.array([f["track_id"] for f in doubts], pa.string())
        doubtful = rows.filter(pc.is_in(rows["track_id"], ids)) if doubts else None
        planned = float(np.sum(rows["planned"].to_numpy()))
        yield Report(number, index, len(rows), planned, done, doubtful, doubts, node, _cpu_s() - before)


def this_node() -> Node:
    """This machine, without Ray."""
    return Node("", socket.gethostname())


# in a process of Ray -----------------------------------------------------------------------------------------------

_current: tuple[str, Worker] | None = None


def work(batch: pa.Table, stage: Stage, ticket: Ticket) -> Iterator[pa.Table]:
    """The reports on a block, packed. batch: one row with a block's number and its packed rows.

    An error becomes a report: raised, it would arrive as one of Ray, or not at all.
    """
    import ray

    context = ray.get_runtime_context()
    node = Node(context.get_node_id(), ray.util.get_node_ip_address())
    number, block = batch["number"][0].as_py(), plan.unpack(batch["block"][0].as_py())
    index = -1
    try:
        worker = _worker(stage, ticket)
        with _attempt(stage, ticket, number):
            for report in reports(worker, number, block, stage.sizes.part, node):
                index = report.part
                yield pack(report)
    except _GivenUp:
        return  # the driver sees that the block is missing
    except MemoryError:
        raise  # as if it had been killed: its rows are tried one by one
    except Exception as error:
        yield pack(Report(number, index + 1, 0, 0.0, Done(0), None, [], node, 0.0, _remote(error)))


def _remote(error: Exception) -> RemoteError:
    if isinstance(error, MerRayError | OSError):
        return RemoteError.of(error)
    return RemoteError("", "".join(traceback.format_exception(error)), "")


def _worker(stage: Stage, ticket: Ticket) -> Worker:
    """This process's worker, made with the first block of the run. That of an earlier stage is closed."""
    global _current
    if _current is not None and _current[0] == ticket.key:
        return _current[1]
    session.prepare_worker(stage.gpus)
    if _current is not None:
        _current[1].close()
        _current = None
    remote.check_marker(stage.arguments.values(), ticket.marker)
    mine = f"{MARKER}-{ticket.key}-start-{socket.gethostname()}-{os.getpid()}"
    store = stage.workspace
    begun = [n for n in store.names(TEMPORARY) if n.startswith(f"{MARKER}-{ticket.key}-start-")]
    if len(begun) >= STARTS * ticket.workers:
        raise ServiceError(
            f"{len(begun)} workers in a row ended before they had begun",
            "see Ray's logs of the nodes; give workers more memory, or set fewer of them",
        )
    store.write_bytes(b"", TEMPORARY, mine)
    try:
        made = stage.worker(**stage.arguments)
    finally:
        store.delete(TEMPORARY, mine)
    _current = ticket.key, made
    return made


class _GivenUp(Exception):
    """Too many workers have died on a block."""


class Pooled:
    """`work` in an actor, since a process with a GPU must keep its GPU."""

    def __init__(self, stage: Stage, ticket: Ticket) -> None:
        self._arguments = stage, ticket

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """As `work`."""
        yield from work(batch, *self._arguments)


@contextmanager
def _attempt(stage: Stage, ticket: Ticket, number: int) -> Iterator[None]:
    """Mark in the workspace that a block is begun. Raises _GivenUp if that was done `TRIES` times and never ended.

    Ray Data repeats a task whose process died without limit.
    """
    store, mine = stage.workspace, f"{MARKER}-{ticket.key}-try-{number}-"
    before = sum(name.startswith(mine) for name in store.names(TEMPORARY))
    if before >= TRIES:
        raise _GivenUp
    store.write_bytes(b"", TEMPORARY, f"{mine}{before}")
    yield
    store.delete(TEMPORARY, f"{mine}{before}")


def _cpu_s() -> float:
    """CPU-seconds so far of this process and of its children."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        total += times.user + times.system
    return total


_WIRE = pa.schema(
    {
        "about": pa.string(),
        "output": pa.binary(),
        "doubtful": pa.binary(),
    }
)


def pack(report: Report) -> pa.Table:
    """A report as a table of one row."""
    own = report._asdict()
    done: Done = own.pop("done")
    doubtful = own.pop("doubtful")
    about = own | {"done": [done.made, done.failed, done.seconds, done.tracks]}
    row = [json.dumps(about, default=_text), _packed(done.output), _packed(doubtful)]
    return pa.table([[value] for value in row], _WIRE)


def unpack(row: Sequence[Any]) -> Report:
    """The report of a row of `pack`."""
    about, output, doubtful = row
    own = json.loads(about, object_hook=_times)
    made, failed, seconds, tracks = own.pop("done")
    done = Done(made, failed, seconds, output and plan.unpack(output), tracks)
    error = own.pop("error")
    own |= {"node": Node(*own["node"]), "error": error and RemoteError(*error)}
    return Report(done=done, doubtful=doubtful and plan.unpack(doubtful), **own)


def _packed(table: pa.Table | None) -> bytes | None:
    return None if table is None else plan.pack(table)


def _text(value: Any) -> str:
    return str(value.isoformat())


def _times(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("at"), str):
        row["at"] = datetime.fromisoformat(row["at"])
    return row
