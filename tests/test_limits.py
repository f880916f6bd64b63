"""Places at a service: what a server sees, whatever the network and the callers do."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io.rate_limit import LATE_S, Gate, LocalLimiter, per_second
from mer_ray.stages import shared_limits

SECOND = 1024
"""A second, in ticks of the clock that the tests use: sums of them are exact in binary."""


def drive(gate: Gate, seed: int, n: int, busy: float, tail: float) -> list[tuple[float, float, float]]:
    """n callers of a gate that starts at 0: when each got its place, when its request arrived, when it was given back.

    Each arrival is at a moment between the two that hurts most: at the very end of a place's time for one caller, at
    its very beginning for the next. busy: the share of callers that come while others wait. tail: how long a few take.
    """
    chance = random.Random(seed)
    now = 0.0
    held: list[tuple[float, int, float, float]] = []  # until, ticket, taken, arrival
    done: list[tuple[float, float, float]] = []

    def give_back_until(moment: float) -> None:
        for item in sorted(h for h in held if h[0] <= moment):
            held.remove(item)
            until, ticket, taken, arrival = item
            gate.give_back(ticket, until)
            done.append((taken, arrival, until))

    while len(done) + len(held) < n:
        if chance.random() > busy:
            now += chance.randrange(3 * SECOND) / SECOND
        while True:
            give_back_until(now)
            ticket, wait_s = gate.take(now)
            if ticket is not None:
                break
            assert wait_s > 0
            # No later than the gate said, or than the next that is given back: what the limiters do.
            now = min([now + wait_s, *(h[0] for h in held)])
        lasts = chance.choice([0, 1, 100, SECOND, int(tail * SECOND)]) / SECOND
        held.append((now + lasts, ticket, now, now + chance.choice([0.0, lasts, chance.randint(0, 4) / 4 * lasts])))
    give_back_until(float("inf"))
    return done


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= t < start + seconds for t in times) for start in times)


GATES = st.tuples(st.integers(1, 6), st.sampled_from([0, 1, 64, SECOND // 5]))


@settings(max_examples=150, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 5))
def test_no_second_sees_more_requests_than_places(bounds: tuple[int, int], seed: int, busy: float, tail: float) -> None:
    capacity, gap = bounds
    gate = Gate(capacity, 1.0, gap / SECOND, float("inf"), now=0.0)
    done = drive(gate, seed, 40, busy, tail)
    assert len(done) == 40
    assert most_within([arrival for _, arrival, _ in done], 1.0) <= capacity


@settings(max_examples=150, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 5))
def test_no_more_places_are_taken_at_once_than_there_are(
    bounds: tuple[int, int], seed: int, busy: float, tail: float
) -> None:
    capacity, gap = bounds
    gate = Gate(capacity, 0.0, gap / SECOND, float("inf"), now=0.0)
    done = drive(gate, seed, 40, busy, tail)
    for moment, _, _ in done:
        assert sum(taken <= moment < until or taken == moment for taken, _, until in done if until > moment) <= capacity


@settings(max_examples=100, deadline=None)
@given(GATES, st.integers(0, 2**32), st.floats(0, 1))
def test_takings_are_a_gap_apart_but_for_what_a_late_one_is_behind(
    bounds: tuple[int, int], seed: int, busy: float
) -> None:
    capacity, gap = bounds
    taken = sorted(t for t, _, _ in drive(Gate(capacity, 1.0, gap / SECOND, float("inf"), 0.0), seed, 40, busy, 1.0))
    for (i, earlier), (j, later) in itertools.combinations(enumerate(taken), 2):
        assert later - earlier >= (j - i) * gap / SECOND - LATE_S - 1e-9


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.5, 5.0, 300.0])
def test_a_rate_is_met_and_never_passed(rate: float) -> None:
    bounds = per_second(rate)
    assert bounds["gap_s"] == 1 / rate
    gate = Gate(**bounds, lease_s=float("inf"), now=0.0)
    # Answers that take no time are what comes closest to a burst.
    now, taken = 0.0, []
    while now < 20 / min(rate, 1.0) and len(taken) < 1_000:
        ticket, wait_s = gate.take(now)
        if ticket is None:
            now += wait_s
            continue
        taken.append(now)
        gate.give_back(ticket, now)
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
    gate = Gate(2, 1.0, 0.25, 10.0, now=100.0)
    assert gate.take(100.0) == (None, 1.0)
    assert gate.take(100.75) == (None, 0.25)
    ticket, wait_s = gate.take(101.0)
    assert ticket is not None
    assert wait_s == 0.0


def test_a_gate_without_rest_is_open_at_once() -> None:
    gate = Gate(2, 0.0, 0.0, 10.0, now=100.0)
    tickets = [gate.take(100.0)[0] for _ in range(3)]
    assert None not in tickets[:2]
    assert tickets[2] is None


def test_a_place_rests_after_it_was_given_back_and_not_after_it_was_taken() -> None:
    gate = Gate(1, 1.0, 0.0, 100.0, now=0.0)
    ticket, _ = gate.take(1.0)
    assert ticket is not None
    gate.give_back(ticket, 5.0)
    assert gate.take(5.0) == (None, 1.0)
    assert gate.take(5.75) == (None, 0.25)
    assert gate.take(6.0)[0] is not None


def test_a_place_whose_holder_died_is_free_after_its_lease_and_its_rest() -> None:
    gate = Gate(1, 1.0, 0.0, 10.0, now=0.0)
    dead, _ = gate.take(1.0)
    assert dead is not None
    assert gate.take(1.0) == (None, 10.0)
    assert gate.take(11.0) == (None, 1.0)  # it may have asked at the very end
    living, _ = gate.take(12.0)
    assert living is not None
    # The dead one's word, should it come late after all, frees nobody else's place.
    gate.give_back(dead, 12.0)
    assert gate.take(12.5) == (None, 9.5)


def test_a_ticket_counts_once() -> None:
    gate = Gate(2, 0.0, 0.0, 10.0, now=0.0)
    first, second = gate.take(0.0)[0], gate.take(0.0)[0]
    assert first is not None
    for _ in range(3):
        gate.give_back(first, 0.0)
    assert gate.take(0.0)[0] is not None
    assert gate.take(0.0)[0] is None
    assert second != first


def test_a_gate_made_anew_does_not_know_the_old_ones_tickets() -> None:
    old, new = Gate(1, 0.0, 0.0, 10.0, 0.0), Gate(1, 0.0, 0.0, 10.0, 0.0)
    ticket, held = old.take(0.0)[0], new.take(0.0)[0]
    assert ticket is not None
    assert held is not None
    new.give_back(ticket, 0.0)
    assert new.take(0.0)[0] is None


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
    full = threading.Barrier(3, timeout=60)  # breaks unless three are inside together

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
    both = threading.Barrier(2, timeout=60)  # breaks if one waits for the other's place

    def work(i: int) -> None:
        with limiter.slot(f"host {i}"):
            both.wait()

    in_threads(2, work)
    assert not both.broken


# the keeper, in this process --------------------------------------------------------------------------------------

LONG_S = 100.0
"""What no test waits for."""


def steps(what: Coroutine[Any, Any, object]) -> None:
    """Runs it, but not for ever."""
    asyncio.run(asyncio.wait_for(what, 60))


def test_who_finds_no_place_hears_so_and_keeps_none() -> None:
    async def play() -> None:
        keeper = shared_limits._Keeper(1, 0.0, 0.0, LONG_S)
        first = await keeper.take("host", 0.0, 0.01)
        assert first is not None
        # The one in front waits for the place, the others wait for the one in front.
        assert await asyncio.gather(*(keeper.take("host", 0.0, 0.01) for _ in range(3))) == [None] * 3
        await keeper.give_back("host", first)
        assert await keeper.take("host", 0.0, 0.0) is not None

    steps(play())


def test_no_place_is_lost_in_the_moment_in_which_a_wait_ends() -> None:
    async def play() -> None:
        keeper = shared_limits._Keeper(3, 0.0, 0.0, LONG_S)
        served = inside = most = 0

        async def visit(number: int) -> None:
            nonlocal served, inside, most
            for _ in range(20):
                waited_s = 0.0
                while (ticket := await keeper.take("host", waited_s, 0.0005 * (number % 4))) is None:
                    waited_s += 0.001
                    await asyncio.sleep(0)
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.0005)
                inside -= 1
                served += 1
                await keeper.give_back("host", ticket)

        await asyncio.gather(*map(visit, range(12)))
        assert (served, most) == (240, 3)
        assert None not in [await keeper.take("host", 0.0, 0.0) for _ in range(3)]

    steps(play())


def test_who_asks_again_keeps_its_place_in_the_line() -> None:
    async def play() -> None:
        keeper = shared_limits._Keeper(1, 0.0, 0.0, LONG_S)
        ticket = await keeper.take("host", 0.0, LONG_S)
        served: list[str] = []

        async def visit(who: str, waited_s: float) -> None:
            ticket = await keeper.take("host", waited_s, LONG_S)
            assert ticket is not None
            served.append(who)
            await keeper.give_back("host", ticket)

        async with asyncio.TaskGroup() as group:
            for who, waited_s in (("new", 0.0), ("newer", 0.0), ("oldest", 20.0), ("old", 10.0)):
                group.create_task(visit(who, waited_s))
                await asyncio.sleep(0)  # it stands in the line
            assert ticket is not None
            await keeper.give_back("host", ticket)
        assert served == ["oldest", "old", "new", "newer"]

    steps(play())


def test_a_place_that_rests_or_whose_lease_ends_goes_to_who_waits() -> None:
    async def play() -> None:
        keeper = shared_limits._Keeper(1, 0.02, 0.0, 0.05)
        taken = [await asyncio.gather(*(keeper.take("host", 0.0, LONG_S) for _ in range(3)))]
        assert None not in taken[0]

    steps(play())
