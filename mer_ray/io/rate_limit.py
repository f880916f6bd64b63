"""How many requests a service gets at the same time, and how often: slots that callers take and release.

A clock in the caller cannot promise a rate to a server, since requests are delayed on their way and then arrive
together. A slot that stays taken for a second *after* its response came can: two requests of one slot then arrive at
least a second apart, so n slots make at most n requests in any second, whatever the network does.
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
"""A delay between two takings that the next ones may make up for."""

Slot = Callable[[str], AbstractContextManager[None]]
"""What code that makes requests is passed: `Limiter.slot`."""


class Limiter(Protocol):
    """Waits for a slot under a name, such as a host's; the slot is taken inside of the context."""

    def slot(self, name: str) -> AbstractContextManager[None]:
        """A context to be entered once there is a slot."""


class Gate:
    """The bookkeeping of one name's slots, on a clock that the caller reads (seconds, monotonic). Not thread-safe.

    Args:
        capacity: Number of slots.
        hold_s: How long one stays taken after it was released.
        gap_s: The time between two takings, on the average.
        now: The time.
    """

    def __init__(self, capacity: int, hold_s: float, gap_s: float, now: float) -> None:
        self._capacity, self._hold_s, self._gap_s = capacity, hold_s, gap_s
        # Whoever had the slots before (a process that was killed, say) may have used them just now.
        self._next = now + hold_s
        self._taken = 0
        self._resting: deque[float] = deque()

    def take(self, now: float) -> float:
        """0 where a slot was taken, else the seconds after which to ask again: at the latest, after a release."""
        while self._resting and self._resting[0] <= now:
            self._resting.popleft()
        if now < self._next:
            return self._next - now
        if self._taken + len(self._resting) >= self._capacity:
            return self._resting[0] - now if self._resting else math.inf
        # Who wakes late may be followed sooner, or all the small delays would add up; `capacity` holds all the same.
        self._next = max(self._next, now - LATE_S) + self._gap_s
        self._taken += 1
        return 0.0

    def release(self, now: float) -> None:
        """A caller that took a slot is done."""
        self._taken -= 1
        if self._hold_s:
            self._resting.append(now + self._hold_s)


def per_second(rate: float) -> dict[str, Any]:
    """The capacity, hold and gap of a gate that lets at most ``rate`` requests through in any one second.

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
        """Wait for a slot, and have it within the context."""
        with self._changed:
            while wait_s := self._gates[name].take(time.monotonic()):
                self._changed.wait(min(wait_s, 60.0))
        try:
            yield
        finally:
            with self._changed:
                self._gates[name].release(time.monotonic())
                self._changed.notify_all()
