"""One block of a stage's work, in a process of Ray or in this one: part by part, each committed and reported."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray import extras
from mer_ray.errors import MerRayError, NodeError, ServiceError
from mer_ray.io import plan
from mer_ray.io.store import MARKER, TEMPORARY
from mer_ray.io.tables import Workspace
from mer_ray.io.worker import DOUBTFUL, Done, Worker
from mer_ray.stages import remote, session
from mer_ray.stages.remote import RemoteError

TRIES = 3
"""Workers that may die on a block before its rows are worked on one by one; and on one row before it fails."""
FEW = 64
"""Up to so many workers report each part of a block; more report whole blocks, so that the driver keeps up."""
STARTS = 3
"""Times that each worker may die in a row before it is ready."""


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
    """What a process of Ray has to know beside the stage.

    key: of the run. round: of the plan in which blocks have their numbers. final: whether doubtful failures count.
    marker: see `remote.check_marker`.
    """

    key: str
    round: str
    final: bool
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
        took_s: Seconds since the block was begun.
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
    took_s: float = 0.0
    cpu_s: float = 0.0
    error: RemoteError | None = None

    @property
    def is_node(self) -> bool:
        """Whether the machine cannot work."""
        return self.error is not None and self.error.kind == NodeError.__name__


def reports(worker: Worker, number: int, block: pa.Table, part: float, node: Node, final: bool) -> Iterator[Report]:
    """Work on a block. Raises what the worker raises."""
    began = time.monotonic()
    for index, rows in enumerate(plan.parts(block, part)):
        before = _cpu_s()
        try:
            done = worker(rows, final)
        except OSError as error:
            raise _explained(error) from error
        doubts = [f for f in done.failed if f["reason"] in DOUBTFUL]
        if doubts:
            done.failed = [f for f in done.failed if f not in doubts]
        ids = pa.array([f["track_id"] for f in doubts], pa.string())
        doubtful = rows.filter(pc.is_in(rows["track_id"], ids)) if doubts else None
        planned = float(np.sum(rows["planned"].to_numpy()))
        yield Report(
            number, index, len(rows), planned, done, doubtful, doubts, node, time.monotonic() - began, _cpu_s() - before
        )


def _explained(error: OSError) -> Exception:
    """A NodeError where this machine cannot write temporary files; else the error itself."""
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\0" * 2**16)
    except OSError as problem:
        why = problem.strerror or type(problem).__name__
        hint = "free some space there, or set TMPDIR to another folder"
        return NodeError(f"cannot work in {tempfile.gettempdir()}: {why}", hint)
    return error


def begun(stage: Stage, ticket: Ticket) -> set[int]:
    """The blocks of this round that were begun and never ended."""
    mine = f"{MARKER}-{ticket.key}-try-{ticket.round}-"
    names = stage.workspace.names(TEMPORARY)
    return {int(name.removeprefix(mine).split("-")[0]) for name in names if name.startswith(mine)}


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
    index, found = -1, list[Report]()
    try:
        worker = _worker(stage, ticket)
        with _attempt(stage, ticket, number):
            for report in reports(worker, number, block, stage.sizes.part, node, ticket.final):
                index = report.part
                found.append(report)
                if ticket.workers <= FEW:
                    yield pack(found)
                    found = []
            if found:
                yield pack(found)
    except _GivenUp:
        return  # the driver sees that the block is missing
    except MemoryError:
        raise  # as if it had been killed: its rows are tried one by one
    except Exception as error:
        yield pack([*found, Report(number, index + 1, 0, 0.0, Done(0), None, [], node, error=remote_error(error))])


def remote_error(error: Exception) -> RemoteError:
    """A worker's error, on its way to the driver."""
    error = (isinstance(error, ModuleNotFoundError) and extras.explained(error)) or error
    if isinstance(error, MerRayError | OSError):
        return RemoteError.of(error)
    return RemoteError("", "".join(traceback.format_exception(error)), "")


def _worker(stage: Stage, ticket: Ticket) -> Worker:
    """This process's worker, made with the first block of the run. That of an earlier stage is closed."""
    global _current
    if _current is not None and _current[0] == ticket.key:
        return _current[1]
    session.prepare_worker(stage.gpus)
    session.check_gpu(stage.gpus)
    if _current is not None:
        _current[1].close()
        _current = None
    remote.check_marker(stage.arguments.values(), ticket.marker)
    starts, store = f"{MARKER}-{ticket.key}-start-", stage.workspace
    mine = f"{starts}{socket.gethostname()}-{os.getpid()}"
    begun = [name for name in store.names(TEMPORARY) if name.startswith(starts)]
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
    for name in begun:
        store.delete(TEMPORARY, name)  # one is ready: those that died before it are not in a row
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
    store, tries = stage.workspace, f"{MARKER}-{ticket.key}-try-{ticket.round}-{number}-"
    if sum(name.startswith(tries) for name in store.names(TEMPORARY)) >= TRIES:
        raise _GivenUp
    mine = f"{tries}{uuid.uuid4().hex[:8]}"
    store.write_bytes(b"", TEMPORARY, mine)
    yield
    store.delete(TEMPORARY, mine)


def _cpu_s() -> float:
    """CPU-seconds so far of this process and of its children."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of children that have ended
        except psutil.Error:  # it has just ended
            continue
    return total


_WIRE = pa.schema({"about": pa.list_(pa.string()), "output": pa.list_(pa.binary()), "doubtful": pa.list_(pa.binary())})


def pack(found: Sequence[Report]) -> pa.Table:
    """Reports as a table of one row."""
    about = []
    for report in found:
        own = report._asdict()
        del own["doubtful"]
        done: Done = own.pop("done")
        own["done"] = [done.made, done.failed, done.seconds, done.tracks]
        about.append(json.dumps(own, default=_text))
    output = [_packed(report.done.output) for report in found]
    return pa.table([[about], [output], [[_packed(report.doubtful) for report in found]]], _WIRE)


def unpack(row: Sequence[Sequence[Any]]) -> Iterator[Report]:
    """The reports of a row of `pack`."""
    for about, output, doubtful in zip(*row, strict=True):
        own = json.loads(about, object_hook=_times)
        made, failed, seconds, tracks = own.pop("done")
        done = Done(made, failed, seconds, output and plan.unpack(output), tracks)
        error = own.pop("error")
        own |= {"node": Node(*own["node"]), "error": error and RemoteError(*error)}
        yield Report(done=done, doubtful=doubtful and plan.unpack(doubtful), **own)


def _packed(table: pa.Table | None) -> bytes | None:
    return None if table is None else plan.pack(table)


def _text(value: Any) -> str:
    return str(value.isoformat())


def _times(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("at"), str):
        row["at"] = datetime.fromisoformat(row["at"])
    return row
