"""One limiter for a whole cluster: its actor, those who wait, and what happens when either dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mer_ray.errors import ServiceError
from mer_ray.stages import cluster_limit
from mer_ray.stages.cluster_limit import ClusterLimiter, Slots

LONG_S = 600.0
"""A lease that no test waits for."""
LEASE_S = 8.0
"""A lease that tests wait for: longer than a busy machine suspends a process."""


class Counter:
    """An actor that counts who is inside."""

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
    """Runs in a worker; nobody leaves before so many were inside."""
    import ray

    for _ in range(times):
        with limiter.slot("host"):
            ray.get(counter.enter.remote())
            while ray.get(counter.state.remote())[0] < wait_for:
                time.sleep(0.005)
            ray.get(counter.leave.remote())


def actor(capacity: int, lease_s: float = LONG_S) -> Any:
    """The limiter's actor, as any job could look it up."""
    import ray

    return ray.get_actor(f"limit-{capacity}-{lease_s:g}", namespace=cluster_limit.NAMESPACE)


@pytest.fixture
def cluster(ray_session: None) -> Iterator[Any]:
    """Starts tasks and actors that take no CPU."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    yield lambda what: ray.remote(num_cpus=0)(what)
    for capacity in range(1, 5):  # each test begins with fresh slots
        with suppress(ValueError):
            ray.kill(actor(capacity))


def test_tasks_of_a_cluster_share_the_slots(cluster: Any) -> None:
    import ray

    limiter, counter, task = ClusterLimiter(2, LONG_S), cluster(Counter).remote(), cluster(visit)
    # Nobody leaves before two were inside: with one slot only, this would never end.
    ray.get([task.remote(limiter, counter, 5, 2) for _ in range(4)], timeout=300)
    assert ray.get(counter.state.remote()) == (2, 20, 0)


@pytest.mark.parametrize("no_restart", [False, True])
def test_those_who_wait_while_the_actor_dies_are_served(cluster: Any, no_restart: bool) -> None:
    import ray

    limiter, counter, task = ClusterLimiter(3, LONG_S), cluster(Counter).remote(), cluster(visit)
    tasks = [task.remote(limiter, counter, 20) for _ in range(5)]
    while ray.get(counter.state.remote())[1] < 10:
        pass
    ray.kill(actor(3), no_restart=no_restart)
    with limiter.slot("host"), limiter.slot("another host"):
        pass
    ray.get(tasks, timeout=300)
    assert ray.get(counter.state.remote())[1:] == (100, 0)


class Waiter:
    """A worker whose threads wait for a slot."""

    def begin(self, limiter: Any, threads: int) -> None:
        for _ in range(threads):
            threading.Thread(target=limiter.slot("host").__enter__, daemon=True).start()


def waiting(limiter: Any) -> int:
    """How many wait for a slot at the host."""
    import ray

    def count(slots: Any) -> int:
        return len(slots._changed["host"]._waiters) if "host" in slots._changed else 0

    return int(ray.get(limiter.__ray_call__.remote(count)))


def test_a_worker_that_dies_while_it_waits_gets_no_slot(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    limiter, entered = ClusterLimiter(1, LONG_S), []
    deadline = time.monotonic() + 150
    with limiter.slot("host"):
        waiter = cluster(Waiter).remote()
        ray.get(waiter.begin.remote(limiter, 4))
        for n in (4, 0):
            while waiting(actor(1)) != n:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            ray.kill(waiter)
    with limiter.slot("host"):  # were one of theirs, it would be after LONG_S
        entered.append(1)
    assert entered == [1]


class Gone:
    """Ends whenever it is started."""

    def __init__(self, *bounds: float) -> None:
        raise MemoryError

    async def take(self, *arguments: object) -> None:
        """Never comes to this."""


def test_an_actor_that_stays_away_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_limit, "PATIENCE_S", 0.0)
    monkeypatch.setattr(cluster_limit, "PAUSE_S", 0.0)
    monkeypatch.setattr(cluster_limit, "Slots", Gone)
    with (
        pytest.raises(ServiceError, match=r"gives out places at host\.test .*\(ActorDiedError\): see Ray's logs"),
        ClusterLimiter(4, LONG_S).slot("host.test"),
    ):
        pass


class Mortal:
    """Finds no slot, dies when it is asked once more, and is started anew; after three deaths it has a slot."""

    def __init__(self, *bounds: float) -> None:
        self.asked = 0

    async def take(self, name: str, ticket: str, ask_s: float) -> bool:
        deaths = len(list(Path(name).iterdir()))
        self.asked += 1
        if self.asked == 2:
            Path(name, f"{deaths}").touch()
            os._exit(1)
        return deaths == 3

    async def release(self, name: str, ticket: str) -> None:
        """Nothing to do."""


def test_the_patience_with_an_actor_begins_anew_with_each_of_its_deaths(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        sleep = staticmethod(time.sleep)

        @staticmethod
        def monotonic() -> float:
            return 10 * cluster_limit.PATIENCE_S * len(list(tmp_path.iterdir()))

    monkeypatch.setattr(cluster_limit, "Slots", Mortal)
    limiter = ClusterLimiter(4, LONG_S)
    monkeypatch.setattr(cluster_limit, "time", Clock)
    entered = []
    with limiter.slot(str(tmp_path)):
        entered.append(1)
    assert entered == [1]


def hold(limiter: Any, file: str) -> None:
    """Runs in a worker: occupies a slot for ever, and writes its process' number."""
    with limiter.slot("host"):
        Path(file).write_text(f"{os.getpid()}\n")
        threading.Event().wait()


def is_held(lease_s: float) -> bool:
    """Whether the only slot at the host is leased."""
    import ray

    try:
        taken = actor(1, lease_s).__ray_call__.remote(lambda slots: bool(slots._taken.get("host")))
        return bool(ray.get(taken))
    except (ray.exceptions.RayActorError, ValueError):  # it is being started
        return False


@pytest.fixture
def holder(cluster: Any, tmp_path: Path) -> Iterator[tuple[ClusterLimiter, int]]:
    """(a limiter with one slot and a short lease, the process that holds its slot)."""
    limiter, file = ClusterLimiter(1, LEASE_S), tmp_path / "holder"
    held = cluster(hold).options(max_retries=0).remote(limiter, str(file))
    deadline = time.monotonic() + 150
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pid = int(file.read_text())
    yield limiter, pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    del held


def test_a_slot_is_its_holders_for_as_long_as_that_process_lives(holder: tuple[ClusterLimiter, int]) -> None:
    limiter, pid = holder
    entered = threading.Event()

    def enter() -> None:
        with limiter.slot("host"):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert not entered.wait(1.5 * LEASE_S)
    os.kill(pid, signal.SIGKILL)
    assert entered.wait(150)


@pytest.mark.parametrize("no_restart", [False, True])
def test_an_actor_that_is_started_anew_learns_who_holds_its_slots(
    holder: tuple[ClusterLimiter, int], no_restart: bool
) -> None:
    import ray

    limiter, _ = holder
    ray.kill(actor(1, LEASE_S), no_restart=no_restart)
    with limiter.slot("another host"):
        pass
    deadline = time.monotonic() + 150
    while not is_held(LEASE_S):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# the actor's class, in this process -------------------------------------------------------------------------------


def steps(what: Coroutine[Any, Any, object]) -> None:
    """Runs it, but not for ever."""
    asyncio.run(asyncio.wait_for(what, 60))


def test_who_finds_no_slot_is_told_so_and_takes_none() -> None:
    async def play() -> None:
        slots = Slots(1, LONG_S)
        assert await slots.take("host", "first", 0.01)
        assert not any(await asyncio.gather(*(slots.take("host", f"{n}", 0.01) for n in range(3))))
        await slots.release("host", "first")
        assert await slots.take("host", "second", 0.0)
        await slots.release("host", "first")  # it counts once
        assert not await slots.take("host", "third", 0.0)

    steps(play())


def test_no_slot_is_lost_in_the_moment_in_which_a_wait_ends() -> None:
    async def play() -> None:
        slots = Slots(3, LONG_S)
        served = inside = most = 0

        async def visit(number: int) -> None:
            nonlocal served, inside, most
            for n in range(20):
                ticket = f"{number} {n}"
                while not await slots.take("host", ticket, 0.0005 * (number % 4)):
                    await asyncio.sleep(0)
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.0005)
                inside -= 1
                served += 1
                await slots.release("host", ticket)

        await asyncio.gather(*map(visit, range(12)))
        assert (served, most) == (240, 3)
        assert all([await slots.take("host", f"{n}", 0.0) for n in range(3)])

    steps(play())


@pytest.mark.parametrize("lease_s", [LONG_S, 0.05])
def test_who_waits_is_served_after_a_release_or_a_lease(lease_s: float) -> None:
    async def play() -> None:
        slots, served = Slots(1, lease_s), list[int]()

        async def visit(number: int) -> None:
            assert await slots.take("host", f"{number}", LONG_S)
            served.append(number)
            if lease_s == LONG_S:
                await slots.release("host", f"{number}")

        await asyncio.gather(*map(visit, range(3)))
        assert sorted(served) == [0, 1, 2]
        assert served == sorted(served) or lease_s != LONG_S

    steps(play())
