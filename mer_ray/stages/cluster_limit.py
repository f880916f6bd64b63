"""A limit on simultaneous downloads from one host in the whole cluster: slots that a Ray actor counts."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mer_ray.errors import ServiceError
from mer_ray.io.identity import one_line

NAMESPACE = "mer-ray"
PATIENCE_S = 120.0  # for an actor that is being started anew: on a busy node that takes tens of seconds
PAUSE_S = 0.5
ASK_S = 5.0
"""How long the actor lets a caller wait. It must then ask again, so that dead callers get no slot."""


class ClusterLimiter:
    """A `mer_ray.io.rate_limit.Limiter` for all workers of the cluster, and for other jobs with the same bounds.

    It can be sent to workers. The process that makes it owns the actor, which ends with this object. Ray is connected.

    Args:
        capacity: Slots of each name.
        lease_s: After this time a slot is free again, as its holder must be dead: longer than any request lasts.
    """

    def __init__(self, capacity: int, lease_s: float) -> None:
        self._bounds = (capacity, lease_s)
        self._actor: Any = self._find()

    def __getstate__(self) -> dict[str, Any]:
        return {"_bounds": self._bounds, "_actor": None}

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a slot, and occupy it within the context. Raises ServiceError where the actor stays away."""
        actor, ticket = self._take(name)
        try:
            yield
        finally:
            actor.release.remote(name, ticket)

    def _take(self, name: str) -> tuple[Any, int]:
        import ray

        failing_since: float | None = None
        while True:
            try:
                actor = self._actor or self._find()
                ticket = ray.get(actor.take.remote(name, ASK_S))
            except ray.exceptions.RayActorError as error:
                # It is restarting; or it ended with the job that made it, and this job makes the next one.
                self._actor = None
                now = time.monotonic()
                failing_since = now if failing_since is None else failing_since
                if now - failing_since > PATIENCE_S:
                    raise ServiceError(
                        f"the actor that gives out places at {one_line(name, 80)} has been away for "
                        f"{now - failing_since:.0f} s ({type(error).__name__})",
                        "see Ray's logs of the nodes, and whether one has memory for a worker more; then run again: "
                        "what is done is kept",
                    ) from error
                time.sleep(PAUSE_S)
                continue
            failing_since = None
            if ticket is not None:
                return actor, ticket

    def _find(self) -> Any:
        import ray

        name = f"limit-{self._bounds[0]}-{self._bounds[1]:g}"
        options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True}
        actor = ray.remote(Slots).options(**options, num_cpus=0, max_restarts=-1, max_concurrency=10_000)
        self._actor = actor.remote(*self._bounds)
        return self._actor


class Slots:
    """The actor. Its callers are served in about the order in which they began to wait."""

    def __init__(self, capacity: int, lease_s: float) -> None:
        self._capacity, self._lease_s = capacity, lease_s
        self._taken: dict[str, dict[int, float]] = {}  # by name: ticket → when its lease ends
        self._changed: dict[str, asyncio.Condition] = {}
        self._tickets = itertools.count(time.monotonic_ns())  # a restarted actor must not reuse old tickets

    async def take(self, name: str, ask_s: float) -> int | None:
        """A ticket under ``name``; None if there was none within ask_s(the caller then asks again)."""
        taken = self._taken.setdefault(name, {})
        changed = self._changed.setdefault(name, asyncio.Condition())
        until = time.monotonic() + ask_s
        async with changed:
            while True:
                now = time.monotonic()
                for ticket in [t for t, end in taken.items() if end <= now]:
                    del taken[ticket]
                if len(taken) < self._capacity:
                    ticket = next(self._tickets)
                    taken[ticket] = now + self._lease_s
                    return ticket
                if now >= until:
                    return None
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(until, *taken.values()) - now)

    async def release(self, name: str, ticket: int) -> None:
        """The holder is done."""
        if name not in self._taken:
            return  # this actor was restarted in between
        self._taken[name].pop(ticket, None)
        async with self._changed[name]:
            self._changed[name].notify()
