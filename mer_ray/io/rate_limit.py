"""How much is asked of a service at once, and how often: places that callers take and give back.

A clock in the caller cannot promise a rate to a server, since requests are delayed on their way and then arrive
together. A place that stays taken for a second *after* its answer came can: two requests of one place then arrive at
least a second apart, so n places make at most n requests in any second, whatever the network does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

LATE_S = 0.1
"""A delay between two takings that the next ones may make up for."""


class Limiter(Protocol):
    """Waits for a place under a name; the place is taken inside of the context."""

    def slot(self, name: str) -> AbstractContextManager[None]:
        """A context to be entered once there is a place."""


class Gate:
    """The bookkeeping of one name's places, on a clock that the caller reads (seconds, monotonic). Not locked.

    capacity: how many places. hold_s: how long one stays taken after it was given back. gap_s: the time between
    two takings, on the average. lease_s: after this time, a place counts as given back: its holder is dead.
    """

    def __init__(self, capacity: int, hold_s: float, gap_s: float, lease_s: float, now: float) -> None:
        self.capacity, self.hold_s, self.gap_s, self.lease_s = capacity, hold_s, gap_s, lease_s
        # Whoever had the places before (a process that was killed, say) may have used them just now.
        self._next = now + hold_s
        self._taken: dict[int, float] = {}
        self._resting: deque[float] = deque()
        self._tickets = itertools.count(time.monotonic_ns())  # a gate made anew must not know the old one's tickets

    def take(self, now: float) -> tuple[int | None, float]:
        """(a ticket, 0), or (None, the seconds after which to ask again)."""
        for ticket in [t for t, until in self._taken.items() if until <= now]:
            self.give_back(ticket, now)
        while self._resting and self._resting[0] <= now:
            self._resting.popleft()
        if now < self._next:
            return None, self._next - now
        if len(self._taken) + len(self._resting) >= self.capacity:
            return None, (self._resting[0] if self._resting else min(self._taken.values())) - now
        # Who wakes late may be followed sooner, or all the small delays would add up; `capacity` holds all the same.
        self._next = max(self._next, now - LATE_S) + self.gap_s
        ticket = next(self._tickets)
        self._taken[ticket] = now + self.lease_s
        return ticket, 0.0

    def give_back(self, ticket: int, now: float) -> None:
        """The holder is done. A ticket whose lease had run out is ignored."""
        if self._taken.pop(ticket, None) is not None and self.hold_s:
            self._resting.append(now + self.hold_s)


def per_second(rate: float) -> dict[str, Any]:
    """The capacity, hold and gap of a gate that lets at most ``rate`` requests through in any one second.

    Whole numbers: 2.5 means 2 in any second. A rate under 1 means one request in 1/rate seconds.
    """
    return {"capacity": max(1, int(rate)), "hold_s": max(1.0, 1.0 / rate), "gap_s": 1.0 / rate}


class LocalLimiter:
    """A `Limiter` for the threads of one process."""

    def __init__(self, capacity: int, hold_s: float = 0.0, gap_s: float = 0.0) -> None:
        self._gates: defaultdict[str, Gate] = defaultdict(
            lambda: Gate(capacity, hold_s, gap_s, float("inf"), time.monotonic())
        )
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a place, and have it within the context."""
        ticket = self._take(name)
        try:
            yield
        finally:
            with self._changed:
                self._gates[name].give_back(ticket, time.monotonic())
                self._changed.notify_all()

    def _take(self, name: str) -> int:
        with self._changed:
            while True:
                ticket, wait_s = self._gates[name].take(time.monotonic())
                if ticket is not None:
                    return ticket
                self._changed.wait(min(wait_s, 60.0))


Slot = Callable[[str], AbstractContextManager[None]]
"""What code that asks a service is given: `Limiter.slot`."""
