"""Limits that hold for the whole cluster: the places of `mer_ray.io.rate_limit`, kept by one Ray actor."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mer_ray.errors import ServiceError
from mer_ray.io.identity import digest, one_line
from mer_ray.io.rate_limit import Gate, Limiter, LocalLimiter

NAMESPACE = "mer-ray"
LEASE_S = 600.0
PATIENCE_S = 120.0  # for an actor that is being started anew: on a busy node that takes tens of seconds
PAUSE_S = 0.5
ASK_S = 5.0
"""How long the actor lets a caller wait before that has to ask again: a dead one does not, and leaves the line."""
_held: dict[tuple[str, str], Any] = {}  # by job and name: the actors that live as long as this process


def shared(
    name: str, capacity: int, hold_s: float = 0.0, gap_s: float = 0.0, lease_s: float = LEASE_S, local: bool = False
) -> Limiter:
    """A limiter that all workers of the cluster share, and other jobs that ask for it by the same name and bounds.

    The meaning of the numbers: `Gate`. lease_s: longer than any request lasts. local: for this process only, without
    Ray; else Ray is connected. What it answers can be sent to workers, and outlives none of them: its actor belongs to
    the process that called this.
    """
    if local:
        return LocalLimiter(capacity, hold_s, gap_s)
    limiter = _ClusterLimiter(name, (capacity, hold_s, gap_s, lease_s))
    limiter.hold()
    return limiter


class _ClusterLimiter:
    def __init__(self, name: str, bounds: tuple[int, float, float, float]) -> None:
        self._name, self._bounds = name, bounds
        self._actor: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name, self._bounds)

    def hold(self) -> None:
        """Have the actor made by this process, and kept: one that a worker makes ends with the worker."""
        import ray

        key = (ray.get_runtime_context().get_job_id(), self._full_name)
        if key not in _held:
            _held[key] = self._find()

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a place, and have it within the context. Raises ServiceError where the actor stays away."""
        keeper, ticket = self._take(name)
        try:
            yield
        finally:
            keeper.give_back.remote(name, ticket)

    def _take(self, name: str) -> tuple[Any, int]:
        import ray

        began = time.monotonic()
        failing: float | None = None  # since when
        while True:
            try:
                keeper = self._actor or self._find()
                ticket = ray.get(keeper.take.remote(name, time.monotonic() - began, ASK_S))
            except ray.exceptions.RayActorError as error:
                # It is being started anew; or it ended with the job that made it, and the next one, under the name that
                # will soon be free, is ours.
                self._actor = None
                now = time.monotonic()
                failing = now if failing is None else failing
                if now - failing > PATIENCE_S:
                    raise ServiceError(
                        f"the actor that gives out places at {one_line(name, 80)} has been away for "
                        f"{now - failing:.0f} s ({type(error).__name__})",
                        "see Ray's logs of the nodes, and whether one has memory for a worker more; then run again: "
                        "what is done is kept",
                    ) from error
                time.sleep(PAUSE_S)
                continue
            failing = None
            if ticket is not None:
                return keeper, ticket

    @property
    def _full_name(self) -> str:
        return f"limit-{digest(f'{self._name} {self._bounds}'.encode())[:16]}"

    def _find(self) -> Any:
        import ray

        named = {"name": self._full_name, "namespace": NAMESPACE, "get_if_exists": True}
        keeper = ray.remote(_Keeper).options(**named, num_cpus=0, max_restarts=-1, max_concurrency=10_000)
        self._actor = keeper.remote(*self._bounds)
        return self._actor


class _Keeper:
    """The actor: a gate for each name, its callers served in the order in which they began to wait."""

    def __init__(self, capacity: int, hold_s: float, gap_s: float, lease_s: float) -> None:
        self._bounds = (capacity, hold_s, gap_s, lease_s)
        self._gates: dict[str, Gate] = {}
        self._lines: dict[str, list[_Waiting]] = {}
        self._asked = 0

    async def take(self, name: str, waited_s: float, ask_s: float) -> int | None:
        """A ticket under ``name``; None if there was none within ask_s: the caller asks again, if it still lives.

        waited_s: how long it has waited before, which keeps its place in the line.
        """
        now = time.monotonic()
        if name not in self._gates:
            self._gates[name], self._lines[name] = Gate(*self._bounds, now=now), []
        gate, line = self._gates[name], self._lines[name]
        until, woken = now + ask_s, asyncio.Event()
        self._asked += 1
        me = (now - waited_s, self._asked, woken)
        insort(line, me)
        try:
            while True:
                wait_s = until - now
                if line[0] is me:
                    ticket, free_s = gate.take(now)
                    if ticket is not None:
                        return ticket
                    wait_s = min(wait_s, free_s)
                if now >= until:
                    return None
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), wait_s)
                woken.clear()
                now = time.monotonic()
        finally:
            line.remove(me)
            _wake(line)

    async def give_back(self, name: str, ticket: int) -> None:
        """The holder is done."""
        if name not in self._gates:
            return  # this actor was started anew in between
        self._gates[name].give_back(ticket, time.monotonic())
        _wake(self._lines[name])


_Waiting = tuple[float, int, asyncio.Event]
"""Since when, a number that no other has, and what wakes it."""


def _wake(line: list[_Waiting]) -> None:
    if line:
        line[0][2].set()
