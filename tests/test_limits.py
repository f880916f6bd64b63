"""Slots at a service: what a server sees, whatever the network and the callers do."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io.rate_limit import LATE_S, Gate, LocalLimiter, per_second

SECOND = 1024
"""A second, in ticks of the clock that the tests use: sums of them are exact in binary."""


def drive(gate: Gate, seed: int, n: int, busy: float, tail: float) -> list[tuple[float, float, float]]:
    """n callers of a gate that starts at 0: when each got its place, when its request arrived, when it was given back.

    Each arrival is at a moment between the two that hurts most: at the very end of a place's time for one caller, at
    its very beginning for the next. busy: the share of callers that come while others wait. tail: how long a few take.
    """
    chance = random.Random(seed)
    now = 0.0
    open_: list[tuple[float, float, float]] = []  # until, taken, arrival
    done: list[tuple[float, float, float]] = []

    def release_until(moment: float) -> None:
        for item in sorted(o for o in open_ if o[0] <= moment):
            open_.remove(item)
            until, taken, arrival = item
            gate.release(until)
            done.append((taken, arrival, until))

    while len(done) + len(open_) < n:
        if chance.random() > busy:
            now += chance.randrange(3 * SECOND) / SECOND
        while True:
            release_until(now)
            wait_s = gate.take(now)
            if not wait_s:
                break
            assert wait_s > 0
            # No later than the gate said, or than the next release: what the limiter does.
            now = min([now + wait_s, *(o[0] for o in open_)])
        lasts = chance.choice([0, 1, 100, SECOND, int(tail * SECOND)]) / SECOND
        open_.append((now + lasts, now, now + chance.choice([0.0, lasts, chance.randint(0, 4) / 4 * lasts])))
    release_until(float("inf"))
    return done


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= t < start + seconds for t in times) for start in times)


GATES = st.tuples(st.integers(1, 6), st.sampled_from([0, 1, 64, SECOND // 5]))


@settings(max_examples=150, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 5))
def test_no_second_sees_more_requests_than_places(bounds: tuple[int, int], seed: int, busy: float, tail: float) -> None:
    capacity, gap = bounds
    gate = Gate(capacity, 1.0, gap / SECOND, now=0.0)
    done = drive(gate, seed, 40, busy, tail)
    assert len(done) == 40
    assert most_within([arrival for _, arrival, _ in done], 1.0) <= capacity


@settings(max_examples=150, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 5))
def test_no_more_places_are_taken_at_once_than_there_are(
    bounds: tuple[int, int], seed: int, busy: float, tail: float
) -> None:
    capacity, gap = bounds
    gate = Gate(capacity, 0.0, gap / SECOND, now=0.0)
    done = drive(gate, seed, 40, busy, tail)
    for moment, _, _ in done:
        assert sum(taken <= moment < until or taken == moment for taken, _, until in done if until > moment) <= capacity


@settings(max_examples=100, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1))
def test_takings_are_a_gap_apart_but_for_what_a_late_one_is_behind(
    bounds: tuple[int, int], seed: int, busy: float
) -> None:
    capacity, gap = bounds
    taken = sorted(t for t, _, _ in drive(Gate(capacity, 1.0, gap / SECOND, 0.0), seed, 40, busy, 1.0))
    for (i, earlier), (j, later) in itertools.combinations(enumerate(taken), 2):
        assert later - earlier >= (j - i) * gap / SECOND - LATE_S - 1e-9


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.5, 5.0, 300.0])
def test_a_rate_is_met_and_never_passed(rate: float) -> None:
    bounds = per_second(rate)
    assert bounds["gap_s"] == 1 / rate
    gate = Gate(**bounds, now=0.0)
    # Answers that take no time are what comes closest to a burst.
    now, taken = 0.0, []
    while now < 20 / min(rate, 1.0) and len(taken) < 1_000:
        if wait_s := gate.take(now):
            now += wait_s
            continue
        taken.append(now)
        gate.release(now)
    window = max(1.0, 1.0 / rate)
    for start in taken:
        assert sum(start <= t < start + window - 1e-9 for t in taken) <= max(1, int(rate))
    # The gap alone would let through so many; the whole number of places is what a rate of 2.5 loses to.
    assert len(taken) / (taken[-1] - taken[0] + 1 / rate) >= 0.99 * (int(rate) or rate)


@pytest.mark.parametrize(
    ("rate", "capacity", "hold_s"), [(0.5, 1, 2.0), (1.0, 1, 1.0), (2.5, 2, 1.0), (5.0, 5, 1.0), (300.0, 300, 1.0)]
)
def test_a_rate_as_places(rate: float, capacity: int, hold_s: float) -> None:
    assert per_second(rate) == {"capacity": capacity, "hold_s": hold_s, "gap_s": 1 / rate}


def test_a_new_gate_rests_as_its_forerunners_places_may_just_have_been_used() -> None:
    gate = Gate(2, 1.0, 0.25, now=100.0)
    assert [gate.take(now) for now in (100.0, 100.75, 101.0)] == [1.0, 0.25, 0.0]


def test_a_gate_without_rest_is_open_at_once() -> None:
    gate = Gate(2, 0.0, 0.0, now=100.0)
    assert [gate.take(100.0) for _ in range(3)] == [0.0, 0.0, math.inf]


def test_a_place_rests_after_it_was_given_back_and_not_after_it_was_taken() -> None:
    gate = Gate(1, 1.0, 0.0, now=0.0)
    assert [gate.take(now) for now in (1.0, 4.0)] == [0.0, math.inf]
    gate.release(5.0)
    assert [gate.take(now) for now in (5.0, 5.75, 6.0)] == [1.0, 0.25, 0.0]


# threads ----------------------------------------------------------------------------------------------------------


class Room:
    """Counts who is inside, by the limiter's own names."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.served = 0

    def visit(self, while_inside: Callable[[], object] = lambda: None) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        while_inside()
        with self.lock:
            self.inside -= 1
            self.served += 1


def in_threads(n: int, work: Callable[[int], object]) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_all_places_are_used_and_no_more() -> None:
    limiter, room = LocalLimiter(3), Room()
    full = threading.Barrier(3, timeout=240)  # breaks unless three are inside together

    def work(_: int) -> None:
        with limiter.slot("host"):
            room.visit(full.wait)

    in_threads(12, work)
    assert (room.most, room.served, room.inside) == (3, 12, 0)


def test_places_that_rest_are_waited_for() -> None:
    limiter, room = LocalLimiter(2, hold_s=0.02, gap_s=0.001), Room()

    def work(_: int) -> None:
        for _ in range(5):
            with limiter.slot("host"):
                room.visit()

    in_threads(8, work)
    assert room.served == 40
    assert room.most <= 2


def test_an_error_gives_the_place_back() -> None:
    limiter = LocalLimiter(1)
    for _ in range(3):
        with pytest.raises(KeyError), limiter.slot("host"):
            raise KeyError
    entered = []
    with limiter.slot("host"):
        entered.append(1)
    assert entered == [1]


def test_names_do_not_wait_for_each_other() -> None:
    limiter = LocalLimiter(1)
    both = threading.Barrier(2, timeout=240)  # breaks if one waits for the other's place

    def work(i: int) -> None:
        with limiter.slot(f"host {i}"):
            both.wait()

    in_threads(2, work)
    assert not both.broken
