"""Runs a stage's plan: on Ray Data, whose workers may die and whose machines may be sick, or in this process; or in a
pool of processes (`pool`), where Ray is not installed.

The rows are one Dataset (a round): a task a block, in worker processes that Ray keeps from block to block and, on a
cluster that does not grow, from stage to stage. Ray repeats a block whose worker died, `TRIES` times; a worker skips
what is committed. What did not come is worked on row by row in the next round, and the row on which workers die again
has failed. A machine on which far more fails than on the others is set aside, and its rows go to the others; so do
single failures that may be a machine's fault, before they count.
"""

from __future__ import annotations

import gc
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mer_ray import machine
from mer_ray.console import Ticker, err, progress
from mer_ray.errors import ServiceError
from mer_ray.io import scratch
from mer_ray.io.buffer import Buffer
from mer_ray.io.plan import PlanFile, Work, read
from mer_ray.io.store import TEMPORARY
from mer_ray.io.tables import Workspace, now
from mer_ray.io.worker import Done
from mer_ray.stages import counters, machines, pool, remote, session, task
from mer_ray.stages.machines import Machines
from mer_ray.stages.task import TRIES, Node, Report, Stage, Ticket
from mer_ray.stages.totals import Totals


@dataclass(frozen=True)
class Workers:
    """How many work on a stage's blocks. local: this process, or a pool of several; else Ray is connected. began: when,
    before that."""

    n: int
    local: bool
    began: float = field(default_factory=time.monotonic)


def workers(address: str | None, n: int | None, small: bool, gpus: float = 0.0) -> Workers:
    """The workers for an amount of work: this process, or those of Ray, which is then connected.

    Args:
        address: Of the cluster: ``--address``.
        n: How many; None for one per CPU.
        small: Whether the work takes less time than a start of Ray's workers.
        gpus: Of each.
    """
    began = time.monotonic()
    if session.runs_locally(address, small, gpus):
        return Workers(1, True, began)
    if session.runs_locally(address, not session.has_ray(), gpus):
        return Workers(n or machine.local_workers(), True, began)
    session.connect(address)
    session.check_fits(gpus)
    return Workers(n or session.n_cpus(), False, began)


def run(stage: Stage, work: Work, chosen: Workers, take: Callable[[Done], None] | None = None) -> Totals:
    """Work on all rows, and write their failures. take: called with everything that is done.

    Raises:
        MerRayError: The first one that a worker raised; what is done by then is written.
    """
    blocks = work.blocks(chosen.n, stage.sizes)
    with progress(stage.name, work.rows, work=work.planned) as ticker, Buffer(stage.workspace, "failures") as failures:
        runs = _Run(stage, chosen, ticker, failures, take)
        if chosen.local and chosen.n == 1:
            runs.here(blocks)
        elif chosen.local:
            runs.in_pool(blocks)
        else:
            with remote.marker(*stage.arguments.values()) as marker:
                runs.on_ray(blocks, Ticket(uuid.uuid4().hex, "", False, marker, chosen.n))
    return runs.totals


class _Run:
    """The rounds of a stage's run."""

    def __init__(
        self,
        stage: Stage,
        chosen: Workers,
        ticker: Ticker,
        failures: Buffer,
        take: Callable[[Done], None] | None,
    ) -> None:
        self.stage, self.chosen, self.ticker = stage, chosen, ticker
        self.failures, self.take = failures, take
        self.totals = Totals()
        self.began, self.first = chosen.began, math.inf
        self.machines = Machines(lambda: machines.able(stage, session.at_most_a_node(stage.memory)))
        self.received = 0
        self.doubtful: dict[Node, list[pa.Table]] = defaultdict(list)

    # in this process -------------------------------------------------------------------------------------------

    def here(self, blocks: Iterable[pa.Table]) -> None:
        """Work in this process; doubtful rows twice."""
        scratch.sweep()
        with closing(self.stage.worker(**self.stage.arguments)) as worker:
            for final in (False, True):
                for number, block in enumerate(blocks):
                    for report in task.reports(worker, number, block, self.stage.sizes.part, task.this_node(), final):
                        self._receive(report, final)
                blocks = [table for tables in self._doubtful().values() for table in tables]

    def in_pool(self, blocks: Iterable[pa.Table]) -> None:
        """Work in processes of this machine; doubtful rows twice."""
        with pool.Pool(self.stage, self.chosen.n) as processes:
            for final in (False, True):
                for report in processes.reports(blocks, final):
                    self._receive(report, final)
                blocks = [table for tables in self._doubtful().values() for table in tables]

    # on Ray ----------------------------------------------------------------------------------------------------

    def on_ray(self, blocks: Iterable[pa.Table], ticket: Ticket) -> None:
        """Work on Ray; what is doubtful on one machine again on others, as far as there are any."""
        self.ticket = ticket
        try:
            self._all(blocks)
        finally:
            store = self.stage.workspace
            for name in store.names(TEMPORARY):
                if ticket.key in name:  # of processes that died
                    store.delete(TEMPORARY, name)

    def _all(self, blocks: Iterable[pa.Table]) -> None:
        self._rounds(blocks, [], final=False)
        doubtful = sorted(self._doubtful().items(), key=lambda item: -sum(map(len, item[1])))
        for node, tables in doubtful[:3]:
            self._again(tables, [node])
        self._again([table for _, tables in doubtful[3:] for table in tables], [])

    def _again(self, tables: list[pa.Table], avoid: list[Node]) -> None:
        if tables:
            with Work(tables) as work:
                self._rounds(work.blocks(self.chosen.n, self.stage.sizes), avoid, final=True)

    def _rounds(self, blocks: Iterable[pa.Table], avoid: list[Node], final: bool) -> None:
        """Until each row is done, has failed or is doubtful."""
        part = self.stage.sizes.part
        file = self._file(blocks)
        try:
            while file.rows:
                self.received = 0
                aside = self._round(file, avoid, final)
                rest = file.unfinished(part)
                left = self._file((block for _, block in rest) if aside else self._one_by_one(rest))
                file.delete()
                file = left
        finally:
            file.delete()

    def _file(self, blocks: Iterable[pa.Table]) -> PlanFile:
        return PlanFile(self.stage.workspace, blocks, self.ticket.key)

    def _one_by_one(self, blocks: Iterable[tuple[int, pa.Table]]) -> Iterator[pa.Table]:
        """Blocks of one row from blocks on which workers died; a block that was one row has failed.

        Blocks that nobody has begun come again as they are. Raises ServiceError if the round brought nothing at all.
        """
        begun, n = task.begun(self.stage, self.ticket), 0
        for number, block in blocks:
            if number not in begun and (self.received or begun):
                yield block
            elif number not in begun:
                raise ServiceError(
                    f"Ray gave up {len(block):,} tracks before any worker had begun with them",
                    "see Ray's logs of the nodes (is mer-ray installed on each?), then run again: it goes on from here",
                )
            if len(block) == 1:
                message = f"{TRIES} workers ended on it alone (killed, perhaps for want of memory)"
                died = self.stage.worker.failure(block.to_pylist()[0], message)
                self._done(Done(0, [died]), 1, block["planned"][0].as_py(), None)
            else:
                n += len(block)
                yield from (block.slice(i, 1).combine_chunks() for i in range(len(block)))
        if n:
            err.print(f"[dim]{TRIES} workers ended on the same rows; these {n:,} are tried one by one[/dim]")

    def _round(self, file: PlanFile, avoid: list[Node], final: bool) -> bool:
        """One Dataset. Returns whether it was ended because a machine was set aside."""
        avoided = self.machines.to_avoid(avoid)
        self.ticket = self.ticket._replace(round=uuid.uuid4().hex, final=final)
        with closing(self._results(file, avoided)) as results:
            for report in results:
                self.received += 1
                if report.error is None:
                    if file.received(report.number, report.part, report.rows):
                        self._receive(report, final)
                elif not report.is_node or not self._sick(report.node, report.error.message):
                    raise report.error.to_error()
                else:
                    return True
                if not final and (why := self.machines.verdict(report.node)) and self._sick(report.node, why):
                    return True
        return False

    def _results(self, file: PlanFile, avoided: Collection[str]) -> Generator[Report]:
        import ray

        stage = self.stage
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # each block of the plan, and each report, travels as soon as it is there
        context.max_errored_blocks = -1  # what does not come is repeated
        source = ray.data.read_datasource(
            _source(stage.workspace, file.path), concurrency=1, override_num_blocks=1, num_cpus=0
        )
        size = max(1, min(self.chosen.n, len(file.rows)))
        options: dict[str, Any] = {"num_cpus": stage.cpus, "memory": session.at_most_a_node(stage.memory)}
        if avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
        arguments = {"stage": stage, "ticket": self.ticket}
        # Processes of tasks stay for the next stage. Actors keep their GPU, and those that wait for a CPU make a
        # cluster grow, which Ray Data's tasks do not.
        actors = stage.gpus or (session.may_grow() and size * stage.cpus > session.n_cpus())
        if actors:
            options |= {
                "fn_constructor_kwargs": arguments,
                "compute": ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
                **({"num_gpus": stage.gpus} if stage.gpus else {}),
            }
        else:
            options |= {"fn_kwargs": arguments, "compute": ray.data.TaskPoolStrategy(size)}
        worker = task.Pooled if actors else task.work
        data = source.map_batches(worker, batch_size=None, batch_format="pyarrow", **options)
        try:
            with closing(iter(data.iter_batches(batch_size=None, batch_format="pyarrow"))) as batches:
                for batch in batches:
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        yield from task.unpack(row)
        finally:
            if actors:
                del data, batches
                gc.collect()  # they end with the last reference, which may be in a cycle

    def _sick(self, node: Node, why: str) -> bool:
        """Set a machine aside, for this reason, if there are others. Its doubtful rows go to those."""
        if not self.machines.set_aside(node):
            return False
        self.totals.aside[node.address] = why
        err.print(f"[yellow]node {node.address} is set aside: {why}[/yellow]")
        return True

    def _doubtful(self) -> dict[Node, list[pa.Table]]:
        found, self.doubtful = self.doubtful, defaultdict(list)
        return found

    # what comes back -------------------------------------------------------------------------------------------

    def _receive(self, report: Report, final: bool) -> None:
        done, doubts = report.done, 0
        if final:
            done.failed += report.doubts
        elif report.doubtful is not None:
            self.doubtful[report.node].append(report.doubtful)
            doubts = len(report.doubtful)
        self.first = min(self.first, time.monotonic() - report.took_s)
        self.machines.count(report.node, report.rows, len(report.doubts), report.doubtful)
        self.totals.cpu_s += report.cpu_s
        self._done(done, report.rows - doubts, 0.0 if final else report.planned, report.node)

    def _done(self, done: Done, rows: int, planned: float, node: Node | None) -> None:
        totals = self.totals
        totals.rows += rows
        totals.made += done.made
        totals.seconds += done.seconds
        if self.first < math.inf:
            totals.start_s, totals.wall_s = self.first - self.began, time.monotonic() - self.first
        for reason in (reasons := [failed["reason"] for failed in done.failed]):
            totals.lost[reason] += 1
            if node is not None:
                totals.by_node[node.address][reason] += 1
        self.failures.add([{**failed, "at": now()} for failed in done.failed])  # by the driver's clock
        if self.take is not None:
            self.take(done)
        speed = totals.seconds / max(1e-3, totals.wall_s)
        note = [f"{totals.seconds / 3600:.2f} h of audio, {speed:.0f}x real time"] if totals.seconds else []
        note += [f"{totals.lost.total():,} failed"] if totals.lost else []
        self.ticker.advance(rows, ", ".join(note), planned)
        tracks = done.made if done.tracks is None else done.tracks
        counters.count(self.stage.name, tracks, done.seconds, reasons)


def _source(workspace: Workspace, path: str) -> Any:
    """The blocks of a plan's file as a source of Ray Data: one task that streams them."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Source(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            def blocks() -> Iterator[pa.Table]:
                for number, packed in read(workspace, path):
                    yield pa.table({"number": [number], "block": pa.array([packed], pa.binary())})

            about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(blocks, about)]

    return Source()
