"""Limits of the number and rate of requests to a service: slots that callers take and release.

A clock in the caller cannot guarantee a rate at the server, since requests may be delayed and then arrive together. So
a slot stays taken for a second *after* its response: two requests of one slot then arrive at least a second apart, and
n slots make at most n requests in any second, whatever the delays.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

LATE_S = 0.1
"""Lateness of a request that later ones may make up for."""

Slot = Callable[[str], AbstractContextManager[None]]
"""`Limiter.slot`, as passed to code that makes requests."""


class Limiter(Protocol):
    """Limits requests by name, such as a host's."""

    def slot(self, name: str) -> AbstractContextManager[None]:
        """A context that waits for a slot, and occupies it."""


class Gate:
    """The state of one name's slots. The caller passes the time (seconds, monotonic). Not thread-safe.

    Args:
        capacity: Number of slots.
        hold_s: How long a slot stays taken after its release.
        gap_s: Average time between two takings.
        now: The time.
    """

    def __init__(self, capacity: int, hold_s: float, gap_s: float, now: float) -> None:
        self._capacity, self._hold_s, self._gap_s = capacity, hold_s, gap_s
        # An earlier process, killed for instance, may just have used the slots.
        self._next = now + hold_s
        self._taken = 0
        self._resting: deque[float] = deque()

    def take(self, now: float) -> float:
        """Take a slot and return 0, or else the seconds after which to try again, or earlier after a release."""
        while self._resting and self._resting[0] <= now:
            self._resting.popleft()
        if now < self._next:
            return self._next - now
        if self._taken + len(self._resting) >= self._capacity:
            return self._resting[0] - now if self._resting else math.inf
        # After a late request the next one may come sooner, or delays would add up; `capacity` still limits them.
        self._next = max(self._next, now - LATE_S) + self._gap_s
        self._taken += 1
        return 0.0

    def release(self, now: float) -> None:
        """Release a slot."""
        self._taken -= 1
        if self._hold_s:
            self._resting.append(now + self._hold_s)


def per_second(rate: float) -> dict[str, Any]:
    """Arguments of a `Gate` for at most ``rate`` requests in any second.

    Whole numbers: 2.5 means 2 in any second. A rate under 1 means one request in 1/rate seconds.
    """
    return {"capacity": max(1, int(rate)), "hold_s": max(1.0, 1.0 / rate), "gap_s": 1.0 / rate}


class LocalLimiter:
    """A `Limiter` for the threads of one process. The arguments are those of `Gate`, for each name."""

    def __init__(self, capacity: int, hold_s: float = 0.0, gap_s: float = 0.0) -> None:
        self._gates = defaultdict[str, Gate](lambda: Gate(capacity, hold_s, gap_s, time.monotonic()))
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Wait for a slot, and occupy it within the context."""
        with self._changed:
            while wait_s := self._gates[name].take(time.monotonic()):
                self._changed.wait(min(wait_s, 60.0))
        try:
            yield
        finally:
            with self._changed:
                self._gates[name].release(time.monotonic())
                self._changed.notify_all()
