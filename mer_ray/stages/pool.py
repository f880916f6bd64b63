"""Blocks of rows, shared out with Ray Data to worker processes that may die.

Ray Data places the workers, hands out the blocks, and when a worker dies it starts it again and repeats the block: both
without end, so that one track that ends its worker each time would stop a run for ever. What bounds it stands here: a
worker asks before each block how often that was begun, and after `TRIES` times passes it back undone. The rows of such
a block go into the next pass one by one.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa

from mer_ray import errors
from mer_ray.console import err
from mer_ray.errors import MerRayError, ServiceError, as_ours
from mer_ray.io.identity import one_line
from mer_ray.io.tables import keep_up, now
from mer_ray.stages import session

TRIES = 3
"""Workers that may die on a block before its rows are tried one by one; and on one row, before it is given up."""
STARTS = 3
"""Times that each worker of the pool may die before it is ready, with no other getting ready in between."""
PASS = 4096
"""Blocks of one pass of Ray Data, which all lie in the object store at once; each pass starts its workers anew."""
DISMISS_S = 10.0
"""For the tally to say who its workers are. It is on the driver's node."""
Rows = list[dict[str, Any]]


class Pool:
    """``size`` workers, each made once a pass with ``arguments``, and given one block after the other.

    worker: see `session.map_blocks`. If it has a static method ``lost(arguments, row, message)``, that one records a
    row on which workers die however often it is tried, and answers as a worker would; else such a row ends the run.
    """

    def __init__(
        self,
        worker: type | Callable[..., Any],
        arguments: dict[str, Any],
        size: int,
        cpus: float,
        gpus: float,
    ) -> None:
        self._worker, self._arguments, self._size = worker, arguments, size
        self._resources = {"num_cpus": cpus} | ({"num_gpus": gpus} if gpus else {})

    def map(self, blocks: Iterable[pa.Table]) -> Iterator[Rows]:
        """What the workers answer, block by block, as they are done. No more than `PASS` blocks are drawn ahead.

        Each block is answered once, though its work may have begun more than once. Raises the first MerRayError of a
        worker, and ServiceError where workers die before they have begun.
        """
        with session.marked(*self._arguments.values()) as mark:
            yield from self._map(blocks, mark)

    def _map(self, blocks: Iterable[pa.Table], mark: str) -> Iterator[Rows]:
        todo = iter(blocks)
        while drawn := dict(enumerate(itertools.islice(todo, PASS))):
            for number, answer in self._pass(drawn, mark):
                if answer is not None:
                    del drawn[number]
                    yield answer
            again = [block for block in drawn.values() if block.num_rows > 1]
            if again:
                n = sum(block.num_rows for block in again)
                err.print(f"[dim]{TRIES} workers ended on the same rows; these {n} are tried one by one[/dim]")
            for block in drawn.values():
                if block.num_rows == 1:
                    yield self._lost(block.to_pylist()[0])
            todo = itertools.chain((block.slice(i, 1) for block in again for i in range(block.num_rows)), todo)

    def _pass(self, blocks: dict[int, pa.Table], mark: str) -> Iterator[tuple[int, Rows | None]]:
        """(number of a block, its answer; None if it came back undone), as they are done."""
        import ray

        size = min(self._size, len(blocks))
        tally = _tally(STARTS * size)
        data = ray.data.from_arrow([pa.table({"number": [i], "block": [_pack(b)]}) for i, b in blocks.items()])
        answers = data.map_batches(
            Guarded,
            fn_constructor_args=(self._worker, self._arguments, tally, mark, now()),
            compute=ray.data.ActorPoolStrategy(size=size),
            batch_size=None,
            batch_format="pyarrow",
            **self._resources,
        )
        try:
            with closing(iter(answers.iter_batches(batch_size=None, batch_format="pyarrow"))) as batches:
                for batch in batches:
                    for number, answer in zip(batch["number"].to_pylist(), batch["answer"], strict=True):
                        yield number, _rows(_unpack(answer)) if answer.is_valid else None
        finally:
            _dismiss(tally)

    def _lost(self, row: dict[str, Any]) -> Rows:
        told = f"{TRIES} workers ended on it alone (killed, perhaps for want of memory)"
        lost: Callable[..., Rows] | None = getattr(self._worker, "lost", None)
        if lost is None:
            raise MerRayError(one_line(f"{told}: {row}", 300), "see Ray's logs of the nodes; give workers more memory")
        return lost(self._arguments, row, told)


class Guarded:
    """A worker whose MerRayError or OSError comes back as its answer; a block on which too many died is passed back.

    Raised in a worker, Ray would print its traceback into the user's terminal. tally: the handle of a `Tally`. mark:
    see `session.marked`. at: what time it is in the driver, whose clock decides which failures count.
    """

    def __init__(
        self, worker: type | Callable[..., Any], arguments: dict[str, Any], tally: Any, mark: str, at: datetime
    ) -> None:
        import ray

        self.tally = tally
        keep_up(at)
        self.error: MerRayError | None = None
        try:
            begun: int = ray.get(tally.start.remote(ray.get_runtime_context().current_actor))
        except ray.exceptions.ActorDiedError:  # the pass is over
            ray.actor.exit_actor()
        try:
            if begun < 0:
                raise ServiceError(
                    f"{-begun} workers in a row ended before they had begun",
                    "see Ray's logs of the nodes; give workers more memory, or set fewer of them",
                )
            session.check_reached(arguments.values(), mark)
            self.call = worker(**arguments) if isinstance(worker, type) else partial(worker, **arguments)
        except (MerRayError, OSError) as error:
            self.error = as_ours(error)
        ray.get(tally.ready.remote())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """batch: the number of a block and its rows, packed, in one row; answered likewise."""
        import ray

        number = batch["number"][0].as_py()
        answer: bytes | None = None
        try:
            if self.error is not None:
                raise self.error
            if ray.get(self.tally.may_try.remote(number)):
                answer = _pack(self.call(_unpack(batch["block"][0])))
        except (MerRayError, OSError) as error:
            ours = as_ours(error)
            answer = _pack(pa.table({"error": [type(ours).__name__], "message": [ours.message], "hint": [ours.hint]}))
        return pa.table({"number": [number], "answer": pa.array([answer], pa.binary())})


class Tally:
    """An actor that outlives the workers, knows them, and counts what Ray Data would let them repeat for ever."""

    def __init__(self, most_starts: int) -> None:
        self.most_starts, self.starts = most_starts, 0
        self.tries: Counter[int] = Counter()
        self.workers: dict[str, Any] = {}

    def start(self, worker: Any) -> int:
        """How many workers in a row have begun to start and never were ready; below 0 if they are too many.

        worker: the handle of the one that asks.
        """
        self.workers[worker._actor_id.hex()] = worker
        self.starts += 1
        return self.starts if self.starts <= self.most_starts else -self.most_starts

    def ready(self) -> None:
        """A worker has started."""
        self.starts = 0

    def known(self) -> list[Any]:
        """The workers that have begun to start."""
        return list(self.workers.values())

    def may_try(self, number: int) -> bool:
        """Whether a block may be begun once more."""
        self.tries[number] += 1
        return self.tries[number] <= TRIES


def _tally(most_starts: int) -> Any:
    """A `Tally` on the driver's own node, which it cannot outlive anyway."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Tally).options(**lasting).remote(most_starts)


def _dismiss(tally: Any) -> None:
    """End the workers of a pass, at once.

    Ray Data lets go of them, and they end when the last reference has gone: where that lies in a cycle, Python may
    take minutes to find it. Meanwhile they hold the CPUs that a trial waits for. One that has yet to start ends as it
    finds no tally.
    """
    import ray

    if not ray.is_initialized():  # the session was closed before the generator; to ask would start another one
        return
    workers: list[Any] = []
    with suppress(ray.exceptions.RayError):  # its node is gone, and the driver will be
        workers = ray.get(tally.known.remote(), timeout=DISMISS_S)
    for actor in (*workers, tally):
        ray.kill(actor)


def _rows(answer: pa.Table) -> Rows:
    rows: Rows = answer.to_pylist()
    if rows and "error" in rows[0]:
        raise getattr(errors, rows[0]["error"])(rows[0]["message"], rows[0]["hint"])
    return rows


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpack(packed: pa.BinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(packed.as_buffer()).read_all()
