"""Places at a service: what a server sees, whatever the network and the callers do."""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import ServiceError
from mer_ray.sources.limits import LATE_S, Gate, LocalLimiter, per_second
from mer_ray.stages import limits

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
        keeper = limits._Keeper(1, 0.0, 0.0, LONG_S)
        first = await keeper.take("host", 0.0, 0.01)
        assert first is not None
        # The one in front waits for the place, the others wait for the one in front.
        assert await asyncio.gather(*(keeper.take("host", 0.0, 0.01) for _ in range(3))) == [None] * 3
        await keeper.give_back("host", first)
        assert await keeper.take("host", 0.0, 0.0) is not None

    steps(play())


def test_no_place_is_lost_in_the_moment_in_which_a_wait_ends() -> None:
    async def play() -> None:
        keeper = limits._Keeper(3, 0.0, 0.0, LONG_S)
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
        keeper = limits._Keeper(1, 0.0, 0.0, LONG_S)
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
        keeper = limits._Keeper(1, 0.02, 0.0, 0.05)
        taken = [await asyncio.gather(*(keeper.take("host", 0.0, LONG_S) for _ in range(3)))]
        assert None not in taken[0]

    steps(play())


# the cluster ------------------------------------------------------------------------------------------------------


class Counter:
    """An actor that counts who is inside, and lets nobody out before so many were."""

    def __init__(self) -> None:
        self.inside = self.most = self.served = 0

    def enter(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    def leave(self) -> None:
        self.inside -= 1
        self.served += 1

    def state(self) -> tuple[int, int, int]:
        return self.most, self.served, self.inside


def visit(limiter: Any, counter: Any, times: int, wait_for: int = 0) -> None:
    """Runs in a worker."""
    import ray

    for _ in range(times):
        with limiter.slot("host"):
            ray.get(counter.enter.remote())
            while ray.get(counter.state.remote())[0] < wait_for:
                time.sleep(0.005)
            ray.get(counter.leave.remote())


def keeper(name: str, *bounds: float) -> Any:
    """The limiter's actor, as any job could look it up."""
    import ray

    from mer_ray.identity import digest

    actor = f"limit-{digest(f'{name} {bounds}'.encode())[:16]}"
    return ray.get_actor(actor, namespace=limits.NAMESPACE)


def in_line(keeper: Any, n: int) -> None:
    """Returns when so many wait for a place."""
    import ray

    deadline = time.monotonic() + 60
    while (found := ray.get(keeper.__ray_call__.remote(lambda self: len(self._lines.get("host", []))))) != n:
        assert time.monotonic() < deadline, f"{found} wait"
        time.sleep(0.01)


def asked_often(keeper: Any, n: int, before: int = 0) -> int:
    """Returns when a keeper was asked so often by others, in its next process after ``before``: that one's id."""
    import ray

    deadline = time.monotonic() + 60
    asked = process = 0
    while process == before or asked < n:
        assert time.monotonic() < deadline, f"asked {asked} times"
        time.sleep(0.01)
        with suppress(ray.exceptions.RayActorError):  # it is being started anew
            asked, process = ray.get(keeper.__ray_call__.remote(lambda self: (self._asked, os.getpid())))
    return process


class Clock:
    """Stands in for the module ``time``: goes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        time.sleep(0.01)


@pytest.fixture
def cluster(ray_session: None) -> Any:
    """Starts tasks and actors that take no CPU."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    return lambda what: ray.remote(num_cpus=0)(what)


def test_tasks_of_a_cluster_share_the_places(cluster: Any) -> None:
    import ray

    limiter = limits.shared("test share", 2)
    counter = cluster(Counter).remote()
    task = cluster(visit)
    # Nobody leaves before two were inside: with one place only, this would never end.
    ray.get([task.remote(limiter, counter, 5, 2) for _ in range(4)], timeout=300)
    assert ray.get(counter.state.remote()) == (2, 20, 0)


def test_a_shared_limiter_can_be_sent_and_means_the_same_places(cluster: Any) -> None:
    import ray

    limiter = limits.shared("test pickle", 1)
    again = pickle.loads(pickle.dumps(limiter))
    counter = cluster(Counter).remote()
    task = cluster(visit)
    with limiter.slot("host"):
        waiting = task.remote(again, counter, 1)
        assert ray.wait([waiting], timeout=0.5)[0] == []
        assert ray.get(counter.state.remote()) == (0, 0, 0)
    ray.get(waiting, timeout=120)
    assert ray.get(counter.state.remote()) == (1, 1, 0)


def test_limiters_of_other_names_or_bounds_are_independent(ray_session: None) -> None:
    one, other, wider = limits.shared("test a", 1), limits.shared("test b", 1), limits.shared("test a", 2)
    entered = []
    with one.slot("host"), other.slot("host"), wider.slot("host"):
        entered.append(1)
    assert entered == [1]


def test_a_limiter_outlives_its_keeper(ray_session: None) -> None:
    import ray

    limiter = limits.shared("test killed", 1)
    served = 0
    for no_restart in (True, False, True):
        with limiter.slot("host"):
            served += 1
        with limiter.slot("host"):
            ray.kill(keeper("test killed", 1, 0.0, 0.0, limits.LEASE_S), no_restart=no_restart)
            served += 1
    with limiter.slot("host"):
        served += 1
    assert served == 7


def test_those_who_wait_while_the_keeper_dies_are_served(cluster: Any) -> None:
    import ray

    limiter = limits.shared("test orphans", 2)
    counter = cluster(Counter).remote()
    task = cluster(visit)
    tasks = [task.remote(limiter, counter, 20) for _ in range(4)]
    while ray.get(counter.state.remote())[1] < 10:
        pass
    ray.kill(keeper("test orphans", 2, 0.0, 0.0, limits.LEASE_S), no_restart=False)
    ray.get(tasks, timeout=300)
    assert ray.get(counter.state.remote())[1:] == (80, 0)


class Waiter:
    """A worker whose threads wait for a place."""

    def begin(self, limiter: Any, threads: int) -> None:
        for _ in range(threads):
            threading.Thread(target=limiter.slot("host").__enter__, daemon=True).start()


def test_a_worker_that_dies_while_it_waits_gets_no_place(cluster: Any) -> None:
    import ray

    limiter = limits.shared("test dead waiters", 1)
    entered = []
    with limiter.slot("host"):
        waiter = cluster(Waiter).remote()
        ray.get(waiter.begin.remote(limiter, 4))
        kept_by = keeper("test dead waiters", 1, 0.0, 0.0, limits.LEASE_S)
        in_line(kept_by, 4)
        ray.kill(waiter)
        in_line(kept_by, 0)
    with limiter.slot("host"):  # were one of theirs, it would be after LEASE_S
        entered.append(1)
    assert entered == [1]


def test_who_waits_for_long_asks_again_until_there_is_a_place(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ASK_S", 0.01)
    limiter = limits.shared("test asks again", 1)
    kept_by = keeper("test asks again", 1, 0.0, 0.0, limits.LEASE_S)
    served = threading.Event()

    def wait() -> None:
        with limiter.slot("host"):
            served.set()

    with limiter.slot("host"):
        thread = threading.Thread(target=wait)
        thread.start()
        asked_often(kept_by, 20)
        assert not served.is_set()
    thread.join(120)
    assert served.is_set()


def test_the_patience_with_a_keeper_begins_anew_with_each_of_its_deaths(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    monkeypatch.setattr(limits, "ASK_S", 0.1)
    bounds = (1, 1_000.0, 0.0, limits.LEASE_S)
    limiter = limits.shared("test patience", 1, hold_s=1_000.0)  # a gate made anew rests for so long
    ended: list[object] = []

    def wait() -> None:
        try:
            with limiter.slot("host"):
                ended.append("served")
        except Exception as error:  # what a thread raises is seen by nobody
            ended.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    kept_by, process = keeper("test patience", *bounds), 0
    for _ in range(2):
        process = asked_often(kept_by, 2, process)  # twice: it was told in between that there is no place
        clock.now += 10 * limits.PATIENCE_S
        ray.kill(kept_by, no_restart=False)
    asked_often(kept_by, 1, process)
    ray.get(kept_by.__ray_call__.remote(open_gate))
    thread.join(60)
    assert ended == ["served"]


def open_gate(keeper: Any) -> None:
    keeper._gates["host"]._next = 0.0


class NoKeeper:
    """Ends whenever it is started."""

    def __init__(self, *bounds: float) -> None:
        raise MemoryError

    async def take(self, *asked: object) -> None:
        """Never comes to this."""


def test_a_keeper_that_stays_away_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE_S", 0.0)
    monkeypatch.setattr(limits, "PAUSE_S", 0.0)
    monkeypatch.setattr(limits, "_Keeper", NoKeeper)
    with (
        pytest.raises(ServiceError, match=r"gives out places at host\.test .*\(ActorDiedError\): see Ray's logs"),
        limits.shared("test away", 1).slot("host.test"),
    ):
        pass


def hold_and_die(limiter: Any) -> None:
    """Runs in a worker, and ends it."""
    import os

    with limiter.slot("host"):
        os._exit(1)


def test_a_dead_holders_place_is_free_after_its_lease(cluster: Any) -> None:
    import ray

    limiter = limits.shared("test lease", 1, lease_s=0.5)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(cluster(hold_and_die).options(max_retries=0).remote(limiter), timeout=120)
    entered = []
    with limiter.slot("host"):
        entered.append(1)
    assert entered == [1]


def test_one_process_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = limits.shared("test local", 1, local=True)
    assert isinstance(limiter, LocalLimiter)
