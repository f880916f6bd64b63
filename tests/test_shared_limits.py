"""One limiter for a whole cluster: its keeper, those who wait, and what happens when either dies."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from mer_ray.errors import ServiceError
from mer_ray.io.rate_limit import LocalLimiter
from mer_ray.stages import shared_limits


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

    from mer_ray.io.identity import digest

    actor = f"limit-{digest(f'{name} {bounds}'.encode())[:16]}"
    return ray.get_actor(actor, namespace=shared_limits.NAMESPACE)


def in_line(keeper: Any, n: int) -> None:
    """Returns when so many wait for a place."""
    import ray

    deadline = time.monotonic() + 150
    while (found := ray.get(keeper.__ray_call__.remote(lambda self: len(self._lines.get("host", []))))) != n:
        assert time.monotonic() < deadline, f"{found} wait"
        time.sleep(0.01)


def asked_often(keeper: Any, n: int, before: int = 0) -> int:
    """Returns when a keeper was asked so often by others, in its next process after ``before``: that one's id."""
    import ray

    deadline = time.monotonic() + 150
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

    limiter = shared_limits.shared("test share", 2)
    counter = cluster(Counter).remote()
    task = cluster(visit)
    # Nobody leaves before two were inside: with one place only, this would never end.
    ray.get([task.remote(limiter, counter, 5, 2) for _ in range(4)], timeout=300)
    assert ray.get(counter.state.remote()) == (2, 20, 0)


def test_a_shared_limiter_can_be_sent_and_means_the_same_places(cluster: Any) -> None:
    import ray

    limiter = shared_limits.shared("test pickle", 1)
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
    one, other, wider = (
        shared_limits.shared("test a", 1),
        shared_limits.shared("test b", 1),
        shared_limits.shared("test a", 2),
    )
    entered = []
    with one.slot("host"), other.slot("host"), wider.slot("host"):
        entered.append(1)
    assert entered == [1]


def test_a_limiter_outlives_its_keeper(ray_session: None) -> None:
    import ray

    limiter = shared_limits.shared("test killed", 1)
    served = 0
    for no_restart in (True, False, True):
        with limiter.slot("host"):
            served += 1
        with limiter.slot("host"):
            ray.kill(keeper("test killed", 1, 0.0, 0.0, shared_limits.LEASE_S), no_restart=no_restart)
            served += 1
    with limiter.slot("host"):
        served += 1
    assert served == 7


def test_those_who_wait_while_the_keeper_dies_are_served(cluster: Any) -> None:
    import ray

    limiter = shared_limits.shared("test orphans", 2)
    counter = cluster(Counter).remote()
    task = cluster(visit)
    tasks = [task.remote(limiter, counter, 20) for _ in range(4)]
    while ray.get(counter.state.remote())[1] < 10:
        pass
    ray.kill(keeper("test orphans", 2, 0.0, 0.0, shared_limits.LEASE_S), no_restart=False)
    ray.get(tasks, timeout=300)
    assert ray.get(counter.state.remote())[1:] == (80, 0)


class Waiter:
    """A worker whose threads wait for a place."""

    def begin(self, limiter: Any, threads: int) -> None:
        for _ in range(threads):
            threading.Thread(target=limiter.slot("host").__enter__, daemon=True).start()


def test_a_worker_that_dies_while_it_waits_gets_no_place(cluster: Any) -> None:
    import ray

    limiter = shared_limits.shared("test dead waiters", 1)
    entered = []
    with limiter.slot("host"):
        waiter = cluster(Waiter).remote()
        ray.get(waiter.begin.remote(limiter, 4))
        kept_by = keeper("test dead waiters", 1, 0.0, 0.0, shared_limits.LEASE_S)
        in_line(kept_by, 4)
        ray.kill(waiter)
        in_line(kept_by, 0)
    with limiter.slot("host"):  # were one of theirs, it would be after LEASE_S
        entered.append(1)
    assert entered == [1]


def test_who_waits_for_long_asks_again_until_there_is_a_place(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "ASK_S", 0.01)
    limiter = shared_limits.shared("test asks again", 1)
    kept_by = keeper("test asks again", 1, 0.0, 0.0, shared_limits.LEASE_S)
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
    monkeypatch.setattr(shared_limits, "time", clock)
    monkeypatch.setattr(shared_limits, "ASK_S", 0.1)
    bounds = (1, 1_000.0, 0.0, shared_limits.LEASE_S)
    limiter = shared_limits.shared("test patience", 1, hold_s=1_000.0)  # a gate made anew rests for so long
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
        clock.now += 10 * shared_limits.PATIENCE_S
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
    monkeypatch.setattr(shared_limits, "PATIENCE_S", 0.0)
    monkeypatch.setattr(shared_limits, "PAUSE_S", 0.0)
    monkeypatch.setattr(shared_limits, "_Keeper", NoKeeper)
    with (
        pytest.raises(ServiceError, match=r"gives out places at host\.test .*\(ActorDiedError\): see Ray's logs"),
        shared_limits.shared("test away", 1).slot("host.test"),
    ):
        pass


def hold_and_die(limiter: Any) -> None:
    """Runs in a worker, and ends it."""
    import os

    with limiter.slot("host"):
        os._exit(1)


def test_a_dead_holders_place_is_free_after_its_lease(cluster: Any) -> None:
    import ray

    limiter = shared_limits.shared("test lease", 1, lease_s=0.5)
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(cluster(hold_and_die).options(max_retries=0).remote(limiter), timeout=120)
    entered = []
    with limiter.slot("host"):
        entered.append(1)
    assert entered == [1]


def test_one_process_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = shared_limits.shared("test local", 1, local=True)
    assert isinstance(limiter, LocalLimiter)
