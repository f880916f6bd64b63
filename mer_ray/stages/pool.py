"""Workers for a stage's blocks of rows: in this process, or in processes of Ray that may die.

Ray Data schedules the workers and blocks; when a worker dies, it starts another and repeats the block, without limit,
so that a track that kills its worker each time would stop a run for ever. This module sets the limits: before each
block, a worker asks a `Tally` how often it was begun, and after `TRIES` times returns it unprocessed. The rows of such
a block go into the next pass one by one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from mer_ray.console import err
from mer_ray.errors import ServiceError
from mer_ray.io.tables import keep_up, now
from mer_ray.stages import remote, session
from mer_ray.stages.remote import RemoteError

TRIES = 3
"""Workers that may die on a block before its rows are processed one by one; and on one row before it fails."""
STARTS = 3
"""Times that each worker of the pool may die in a row before one gets ready."""
PASS = 4096
"""Blocks of one pass of Ray Data, which are all in the object store together; each pass starts its workers anew."""
STOP_TIMEOUT_S = 10.0
"""Time that the tally, which is on the driver's node, has to list the workers."""
Rows = list[dict[str, Any]]


class Worker(Protocol):
    """Made once per process, then called with one block after the other; what it returns is for the driver."""

    def __call__(self, block: pa.Table, /) -> pa.Table:
        """Do the work on a block."""

    def close(self) -> None:
        """End what it has started, where no end of a process does so."""

    @staticmethod
    def worker_died(arguments: dict[str, Any], row: dict[str, Any], message: str) -> Rows:
        """Record, in the driver, a row on which `TRIES` workers died. Returns the rows that a call would return."""


@dataclass(frozen=True)
class Workers:
    """Where a stage's blocks are worked on, and by how many.

    Attributes:
        n: Number of workers, >= 1.
        local: In this process, without Ray. Else Ray is connected.
        gpus: GPUs of each worker, or a fraction of one.
        cpus: CPUs of each worker; a fraction for one that waits for the network.
    """

    n: int
    local: bool = False
    gpus: float = 0.0
    cpus: float = 1.0

    def map(self, blocks: Iterable[pa.Table], worker: type[Worker], arguments: dict[str, Any]) -> Iterator[Rows]:
        """Process the blocks, and yield the rows that workers return for each, as they are finished.

        Each block is returned once, even if it was begun more than once. At most `PASS` blocks are drawn ahead.

        Raises:
            MerRayError: The first one that a worker raised.
            ServiceError: Workers die before they are ready.
        """
        if self.local:
            with closing(worker(**arguments)) as own:
                yield from (own(block).to_pylist() for block in blocks)
            return
        session.check_fits(self.gpus)
        with remote.marker(*arguments.values()) as marker:
            yield from self._map(blocks, worker, arguments, marker)

    def _map(
        self, blocks: Iterable[pa.Table], worker: type[Worker], arguments: dict[str, Any], marker: str
    ) -> Iterator[Rows]:
        todo = iter(blocks)
        while drawn := dict(enumerate(itertools.islice(todo, PASS))):
            for number, rows in self._pass(drawn, worker, arguments, marker):
                if rows is not None:
                    del drawn[number]
                    yield rows
            again = [block for block in drawn.values() if block.num_rows > 1]
            if again:
                n = sum(block.num_rows for block in again)
                err.print(f"[dim]{TRIES} workers ended on the same rows; these {n} are tried one by one[/dim]")
            for block in drawn.values():
                if block.num_rows == 1:
                    message = f"{TRIES} workers ended on it alone (killed, perhaps for want of memory)"
                    yield worker.worker_died(arguments, block.to_pylist()[0], message)
            todo = itertools.chain((block.slice(i, 1) for block in again for i in range(block.num_rows)), todo)

    def _pass(
        self, blocks: dict[int, pa.Table], worker: type[Worker], arguments: dict[str, Any], marker: str
    ) -> Iterator[tuple[int, Rows | None]]:
        """(number of a block, its rows; None if it came back unprocessed), as they are finished."""
        import ray

        size = min(self.n, len(blocks))
        tally = _tally(STARTS * size)
        data = ray.data.from_arrow([pa.table({"number": [i], "block": [_pack(b)]}) for i, b in blocks.items()])
        results = data.map_batches(
            Guarded,
            fn_constructor_args=(worker, arguments, tally, marker, now()),
            compute=ray.data.ActorPoolStrategy(size=size),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=self.cpus,
            **({"num_gpus": self.gpus} if self.gpus else {}),
        )
        try:
            with closing(iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))) as batches:
                for batch in batches:
                    for number, rows, error in zip(*(batch[name] for name in _RESULT.names), strict=True):
                        if error.is_valid:
                            raise RemoteError(*error.as_py()).to_error()
                        yield number.as_py(), _unpack(rows).to_pylist() if rows.is_valid else None
        finally:
            _stop(tally)


def workers(address: str | None, n: int | None, small: bool = False, gpus: float = 0.0, cpus: float = 1.0) -> Workers:
    """The workers for an amount of work: this process, or those of Ray, which is then connected.

    Args:
        address: Of the cluster: ``--address``.
        n: How many; None for one per CPU.
        small: Whether the work takes less time than a start of Ray's workers.
        gpus: See `Workers`.
        cpus: See `Workers`.
    """
    if session.runs_locally(address, small, gpus):
        return Workers(1, local=True)
    session.connect(address)
    return Workers(n or session.n_cpus(), False, gpus, cpus)


_RESULT = pa.schema([("number", pa.int64()), ("rows", pa.binary()), ("error", pa.list_(pa.string()))])


class Guarded:
    """A worker that returns RemoteErrors instead of raising them, and skips a block on which too many workers died.

    Args:
        worker: The class to make.
        arguments: Of its constructor.
        tally: The handle of a `Tally`.
        marker: See `remote.check_marker`.
        at: The time in the driver, for the rows of failures.
    """

    def __init__(self, worker: type[Worker], arguments: dict[str, Any], tally: Any, marker: str, at: datetime) -> None:
        import ray

        self.tally = tally
        keep_up(at)
        try:
            begun: int = ray.get(tally.start.remote(ray.get_runtime_context().current_actor))
        except ray.exceptions.ActorDiedError:  # the pass is over
            ray.actor.exit_actor()

        def make() -> Worker:
            if begun < 0:
                raise ServiceError(
                    f"{-begun} workers in a row ended before they had begun",
                    "see Ray's logs of the nodes; give workers more memory, or set fewer of them",
                )
            remote.check_marker(arguments.values(), marker)
            return worker(**arguments)

        self.worker, self.error = remote.attempt(make)
        ray.get(tally.ready.remote())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """batch: one row with a block's number and its packed rows; the result has the same form."""
        import ray

        number = batch["number"][0].as_py()
        rows, error = None, self.error
        if self.worker is not None and ray.get(self.tally.may_try.remote(number)):
            result, error = remote.attempt(self.worker, _unpack(batch["block"][0]))
            rows = None if result is None else _pack(result)
        return pa.table([[number], [rows], [error and list(error)]], _RESULT)


class Tally:
    """An actor that outlives the workers, lists them, and counts their starts and the attempts at each block."""

    def __init__(self, most_starts: int) -> None:
        self.most_starts, self.starts = most_starts, 0
        self.tries: Counter[int] = Counter()
        self.workers: dict[str, Any] = {}

    def start(self, worker: Any) -> int:
        """Register a worker. Returns how many in a row have started without getting ready; below 0 if too many.

        worker: the handle of the caller.
        """
        self.workers[worker._actor_id.hex()] = worker
        self.starts += 1
        return self.starts if self.starts <= self.most_starts else -self.most_starts

    def ready(self) -> None:
        """Record that a worker is ready."""
        self.starts = 0

    def known(self) -> list[Any]:
        """The registered workers."""
        return list(self.workers.values())

    def may_try(self, number: int) -> bool:
        """Whether a block may be begun once more. Counts the attempt."""
        self.tries[number] += 1
        return self.tries[number] <= TRIES


def _tally(most_starts: int) -> Any:
    """A `Tally` on the driver's own node, so that no other node's end takes it away."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Tally).options(**lasting).remote(most_starts)


def _stop(tally: Any) -> None:
    """Kill the workers of a pass now.

    Ray Data drops its references, and an actor ends with the last one. Where that is part of a cycle, Python may take
    minutes to collect it, and meanwhile the actors occupy CPUs. A worker that has yet to start ends when it finds no
    tally.
    """
    import ray

    if not ray.is_initialized():  # the session was closed first; a call would start another one
        return
    workers: list[Any] = []
    with suppress(ray.exceptions.RayError):  # its node, which is the driver's, is shutting down
        workers = ray.get(tally.known.remote(), timeout=STOP_TIMEOUT_S)
    for actor in (*workers, tally):
        ray.kill(actor)


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpack(packed: pa.BinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(packed.as_buffer()).read_all()
