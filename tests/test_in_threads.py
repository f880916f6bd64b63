"""Jobs shared out among threads: each comes back once, errors end the work, and no thread is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mer_ray.errors import ServiceError, TrackError
from mer_ray.sources.lastfm_harvest import in_threads


class Contexts:
    """Counts the contexts that threads are in."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entered = self.left = 0

    @contextmanager
    def make(self) -> Iterator[int]:
        with self.lock:
            self.entered += 1
            mine = self.entered
        try:
            yield mine
        finally:
            with self.lock:
                self.left += 1


def test_every_job_comes_back_with_its_result_or_its_loss():
    contexts = Contexts()

    def work(context: int, job: int) -> int:
        if job % 7 == 0:
            raise TrackError("seven", str(job))
        return job * job

    results = dict(in_threads(contexts.make, work, range(3_000), 5))
    assert len(results) == 3_000
    failed = {job: result for job, result in results.items() if isinstance(result, TrackError)}
    assert {job: error.message for job, error in failed.items()} == {job: str(job) for job in range(0, 3_000, 7)}
    assert all(result == job * job for job, result in results.items() if job not in failed)
    assert contexts.entered == contexts.left == 5


def test_all_threads_work_at_once():
    together = threading.Barrier(4, timeout=240)

    def work(context: int, job: int) -> int:
        together.wait()  # breaks unless four are at work
        return context

    results = [result for _, result in in_threads(Contexts().make, work, range(8), 4)]
    assert set(results) == {1, 2, 3, 4}


@pytest.mark.parametrize("error", [ServiceError("gone"), KeyError("a bug"), KeyboardInterrupt()])
def test_any_other_error_ends_the_work_and_is_raised_where_results_are_read(error):
    done: list[int] = []

    def work(context: int, job: int) -> int:
        if job == 10:
            raise error
        done.append(job)
        return job

    with pytest.raises(type(error)) as caught:
        list(in_threads(Contexts().make, work, range(100_000), 3))
    assert caught.value is error
    assert len(done) < 100_000


def test_a_context_that_cannot_be_made_ends_the_work():
    def make() -> Any:
        raise ServiceError("no connection")

    with pytest.raises(ServiceError, match="no connection"):
        list(in_threads(make, lambda context, job: job, range(10), 2))


def test_jobs_that_cannot_be_listed_end_the_work():
    def jobs() -> Iterator[int]:
        yield 1
        raise ServiceError("no more jobs")

    with pytest.raises(ServiceError, match="no more jobs"):
        list(in_threads(Contexts().make, lambda context, job: job, jobs(), 2))


def test_a_reader_that_stops_leaves_no_thread_behind():
    contexts = Contexts()
    results = in_threads(contexts.make, lambda context, job: job, iter(int, 1), 4)  # endless jobs
    assert next(results) == (0, 0)
    results.close()
    deadline = time.monotonic() + 150
    while contexts.left < contexts.entered and time.monotonic() < deadline:
        time.sleep(0.01)
    assert contexts.left == contexts.entered > 0
