"""Limits that hold for the whole cluster: the places of `mer_ray.sources.limits`, kept by one Ray actor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mer_ray.identity import digest
from mer_ray.sources.limits import Gate, Limiter, LocalLimiter

NAMESPACE = "mer-ray"
LEASE_S = 600.0
PATIENCE_S = 120.0  # for an actor that is being started anew: on a busy node that takes tens of seconds
PAUSE_S = 0.5
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
        """Wait for a place, and have it within the context."""
        keeper, ticket = self._take(name)
        try:
            yield
        finally:
            keeper.give_back.remote(name, ticket)

    def _take(self, name: str) -> tuple[Any, int]:
        import ray

        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                keeper = self._actor or self._find()
                return keeper, ray.get(keeper.take.remote(name))
            except ray.exceptions.RayActorError:
                # It is being started anew; or it ended with the job that made it, and the next one, under the name that
                # will soon be free, is ours.
                self._actor = None
                if time.monotonic() > give_up:
                    raise
                time.sleep(PAUSE_S)

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
    """The actor: a gate for each name, its callers served in their order."""

    def __init__(self, capacity: int, hold_s: float, gap_s: float, lease_s: float) -> None:
        self._bounds = (capacity, hold_s, gap_s, lease_s)
        self._gates: dict[str, Gate] = {}
        self._queues: dict[str, asyncio.Lock] = {}
        self._returned: dict[str, asyncio.Event] = {}

    async def take(self, name: str) -> int:
        """A ticket under ``name``, once there is one."""
        if name not in self._gates:
            self._gates[name] = Gate(*self._bounds, now=time.monotonic())
            self._queues[name], self._returned[name] = asyncio.Lock(), asyncio.Event()
        async with self._queues[name]:
            while True:
                self._returned[name].clear()
                ticket, wait_s = self._gates[name].take(time.monotonic())
                if ticket is not None:
                    return ticket
                try:
                    await asyncio.wait_for(self._returned[name].wait(), wait_s)
                except TimeoutError:
                    continue

    async def give_back(self, name: str, ticket: int) -> None:
        """The holder is done."""
        if name not in self._gates:
            return  # this actor was started anew in between
        self._gates[name].give_back(ticket, time.monotonic())
        self._returned[name].set()
