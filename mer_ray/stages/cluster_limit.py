"""A limit on simultaneous downloads from one host in the whole cluster: slots that a Ray actor counts.

A slot is leased: its holder's process renews it every few seconds, so it is free soon after that process has died.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mer_ray.errors import ServiceError
from mer_ray.io.identity import one_line

NAMESPACE = "mer-ray"
LEASE_S = 15.0
"""A slot that is not renewed for so long is free: longer than a busy node suspends a process."""
RENEWALS = 5  # in the time of a lease
PATIENCE_S = 120.0  # for an actor that is being started anew: on a busy node that takes tens of seconds
PAUSE_S = 0.5
ASK_S = 5.0
"""How long the actor lets a caller wait. It must then ask again, so that dead callers get no slot."""


class ClusterLimiter:
    """A `mer_ray.io.rate_limit.Limiter` for all workers of the cluster, and for other jobs with the same bounds.

    It can be sent to workers. The process that makes it owns the actor, which ends with this object. Ray is connected.
    While slots are held, one thread renews them; an actor that was started anew learns of them by that.

    Args:
        capacity: Slots of each name.
        lease_s: See `LEASE_S`.
    """

    def __init__(self, capacity: int, lease_s: float = LEASE_S) -> None:
        self._bounds = (capacity, lease_s)
        self._actor: Any = self._find()
        self._held: dict[str, str] = {}  # ticket → name
        self._lock, self._is_renewing = threading.Lock(), False

    def __reduce__(self) -> tuple[type[ClusterLimiter], tuple[int, float]]:
        return type(self), self._bounds

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a slot, and occupy it within the context. Raises ServiceError where the actor stays away."""
        ticket = self._take(name)
        with self._lock:
            self._held[ticket] = name
            if not self._is_renewing:
                self._is_renewing = True
                threading.Thread(target=self._renew, daemon=True).start()
        try:
            yield
        finally:
            del self._held[ticket]
            self._actor.release.remote(name, ticket)

    def _take(self, name: str) -> str:
        import ray

        ticket, failing_since = uuid.uuid4().hex, None
        while True:
            try:
                if ray.get(self._actor.take.remote(name, ticket, ASK_S)):
                    return ticket
                failing_since = None
            except ray.exceptions.RayActorError as error:
                # It is restarting; or it ended with the job that made it, and this job makes the next one.
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
                self._actor = self._find()

    def _renew(self) -> None:
        """Renew what is held, until nothing is."""
        import ray

        pause_s = self._bounds[1] / RENEWALS
        while True:
            time.sleep(pause_s)
            with self._lock:
                held = dict(self._held)
                self._is_renewing = bool(held)
            if not held:
                return
            try:
                ray.get(self._actor.renew.remote(held), timeout=pause_s)
            except ray.exceptions.RayActorError:
                self._actor = self._find()
            except ray.exceptions.GetTimeoutError:
                pass
            for ticket in held.keys() - self._held.keys():  # a renewal that comes after a release undoes it
                self._actor.release.remote(held[ticket], ticket)

    def _find(self) -> Any:
        import ray

        name = f"limit-{self._bounds[0]}-{self._bounds[1]:g}"
        options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True}
        actor = ray.remote(Slots).options(**options, num_cpus=0, max_restarts=-1, max_concurrency=10_000)
        return actor.remote(*self._bounds)


class Slots:
    """The actor. Its callers are served in about the order in which they began to wait."""

    def __init__(self, capacity: int, lease_s: float) -> None:
        self._capacity, self._lease_s = capacity, lease_s
        self._taken: dict[str, dict[str, float]] = {}  # by name: ticket → when its lease ends
        self._changed: dict[str, asyncio.Condition] = {}

    async def take(self, name: str, ticket: str, ask_s: float) -> bool:
        """Lease a slot under ``name`` to the ticket; False if none was free within ask_s (the caller asks again)."""
        taken = self._taken.setdefault(name, {})
        changed = self._changed.setdefault(name, asyncio.Condition())
        until = time.monotonic() + ask_s
        async with changed:
            while True:
                now = time.monotonic()
                for ended in [t for t, end in taken.items() if end <= now]:
                    del taken[ended]
                if len(taken) < self._capacity:
                    taken[ticket] = now + self._lease_s
                    return True
                if now >= until:
                    return False
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(until, *taken.values()) - now)

    async def renew(self, held: Mapping[str, str]) -> None:
        """Extend leases, also those that this actor does not know, as it was started anew. held: ticket → name."""
        end = time.monotonic() + self._lease_s
        for ticket, name in held.items():
            self._taken.setdefault(name, {})[ticket] = end

    async def release(self, name: str, ticket: str) -> None:
        """The holder is done."""
        self._taken.get(name, {}).pop(ticket, None)
        if name in self._changed:  # else nobody has asked this actor, as it was started anew
            async with self._changed[name]:
                self._changed[name].notify()
