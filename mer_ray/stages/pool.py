"""Processes on this machine that work on a stage's blocks, where Ray is not installed.

A process that dies is replaced. Its block is done again, once as it was, so that what it had committed is found, then
row by row; a row on which `TRIES` processes died has failed. The processes end with this one, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from typing import Any

import psutil
import pyarrow as pa

from mer_ray import machine, signals
from mer_ray.audio.isolated import ONE_THREAD
from mer_ray.console import err
from mer_ray.errors import ServiceError
from mer_ray.io import plan, scratch
from mer_ray.io.worker import Done
from mer_ray.stages import task
from mer_ray.stages.remote import RemoteError
from mer_ray.stages.task import STARTS, TRIES, Report, Stage

CONTEXT = multiprocessing.get_context("spawn")
VARIABLES = {**ONE_THREAD, "NPROC": "1", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "PYTHONSAFEPATH": "1"}
"""Of the processes: a thread and no GPU each, and no imports from the current folder."""
END_S = 5.0
_running: set[Any] = set()


def _kill_all() -> None:
    for process in list(_running):
        process.kill()


signals.at_worst.append(_kill_all)


@dataclass(eq=False)
class _Block:
    """rows: in parts, as a process commits them. known: the parts that were reported. deaths: of processes on it."""

    number: int
    rows: pa.Table
    known: set[int] = field(default_factory=set)
    deaths: int = 0


class _Member:
    """A process, and the block that it works on, which it is given as soon as its worker is made."""

    def __init__(self, stage: Stage) -> None:
        self.block: _Block | None = None
        self.ready = False
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, stage, machine.niceness()), daemon=True)
        with theirs, _circumstances():
            self.process.start()
        _running.add(self.process)

    def give(self, block: _Block | None, final: bool) -> None:
        self.block = block
        if block is not None and self.ready:
            with suppress(OSError):  # it has died, which `Pool.reports` will notice
                self.pipe.send((block.number, block.rows, final))

    def end(self, wait_s: float = 0.0) -> None:
        """End it: by itself, if it does in time."""
        self.pipe.close()
        self.process.join(wait_s)
        self.process.kill()
        self.process.join()
        _running.discard(self.process)


class Pool:
    """At most n processes, and no more than there is memory for. A context."""

    def __init__(self, stage: Stage, n: int) -> None:
        self._stage = stage
        self._n = max(1, min(n, psutil.virtual_memory().available // stage.memory))
        self._members: list[_Member] = []
        self._stillborn = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for member in self._members:
            member.end(END_S if kind is None and member.block is None else 0.0)
        scratch.sweep()

    def reports(self, blocks: Iterable[pa.Table], final: bool) -> Iterator[Report]:
        """The reports on all blocks, as they come. Raises what workers raise."""
        new, again = enumerate(blocks), deque[_Block]()
        while True:
            self._hand_out(new, again, final)
            busy = [member for member in self._members if member.block is not None]
            if not busy:
                return
            ready = connection.wait([member.pipe for member in busy])
            for member in [member for member in busy if member.pipe in ready]:
                try:
                    message = member.pipe.recv()
                except (EOFError, OSError):
                    yield from self._after_death(member, again)
                    continue
                if isinstance(message, RemoteError):
                    raise message.to_error()
                if isinstance(message, Report):
                    assert member.block is not None
                    if message.part not in member.block.known:
                        member.block.known.add(message.part)
                        yield message
                elif member.ready:
                    member.give(None, final)
                else:
                    member.ready, self._stillborn = True, 0
                    member.give(member.block, final)

    def _hand_out(self, new: Iterator[tuple[int, pa.Table]], again: deque[_Block], final: bool) -> None:
        """A block to each process that has none, and a new process as long as there are blocks."""
        idle = [member for member in self._members if member.block is None]
        while idle or len(self._members) < self._n:
            if again:
                block = again.popleft()
            elif (found := next(new, None)) is not None:
                block = _Block(*found)
            else:
                return
            if not idle:
                self._members.append(member := _Member(self._stage))
            else:
                member = idle.pop()
            member.give(block, final)

    def _after_death(self, member: _Member, again: deque[_Block]) -> Iterator[Report]:
        """What to do again; or the report of a row that has failed."""
        self._members.remove(member)
        member.end()
        block = member.block
        assert block is not None
        if not member.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS * self._n:
                raise ServiceError(
                    f"{self._stillborn} processes in a row ended before they had begun",
                    f"for want of memory? Set {self._stage.name}.workers=1",
                )
            again.appendleft(block)
            return
        block.deaths += 1
        parts = enumerate(plan.parts(block.rows, self._stage.sizes.part))
        left = pa.concat_tables([rows for i, rows in parts if i not in block.known] or [block.rows.slice(0, 0)])
        if len(left) > 1 and block.deaths > 1:
            err.print(f"[dim]2 processes ended on the same rows; these {len(left):,} are tried one by one[/dim]")
            again.extendleft(_Block(block.number, left.slice(i, 1).combine_chunks()) for i in range(len(left)))
        elif len(left) > 1 or (len(left) and block.deaths < TRIES):
            again.appendleft(block)
        elif len(left):
            message = f"{TRIES} processes ended on it alone (killed, perhaps for want of memory)"
            failed = self._stage.worker.failure(left.to_pylist()[0], message)
            planned = float(left["planned"][0].as_py())
            yield Report(block.number, 0, 1, planned, Done(0, [failed]), None, [], task.this_node())


@contextmanager
def _circumstances() -> Iterator[None]:
    """The environment of a new process; and Ctrl-C in a terminal is this process's alone, which then ends the others.

    A blocked signal stays blocked in what a process starts.
    """
    resource_tracker.ensure_running()  # else the first start does it, and unblocks the signal
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ |= VARIABLES
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# in a process of the pool ------------------------------------------------------------------------------------------


def _serve(pipe: Any, stage: Stage, nice: int) -> None:
    """Make a worker, and let it work on blocks until the other end of the pipe is closed. nice: its niceness."""
    machine.make_nice(nice)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    scratch.sweep()
    try:
        with closing(stage.worker(**stage.arguments)) as worker:
            pipe.send(None)
            while True:
                number, block, final = pipe.recv()
                for report in task.reports(worker, number, block, stage.sizes.part, task.this_node(), final):
                    pipe.send(report)
                pipe.send(None)
    except EOFError:
        return
    except MemoryError:
        raise  # as if it had been killed
    except Exception as error:
        with suppress(OSError):
            pipe.send(task.remote_error(error))


def _end_with_parent() -> None:
    """End this process when that which started it has ended; its decoder ends with it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
