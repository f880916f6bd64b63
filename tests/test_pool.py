"""Blocks shared out to workers that die: each is answered once, and a row that ends every worker is given up."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from ray import cloudpickle

from mer_ray.errors import InputError, ServiceError, WorkspaceError
from mer_ray.io.store import TEMPORARY
from mer_ray.io.tables import Workspace
from mer_ray.stages import pool, remote
from mer_ray.stages.pool import Workers

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not see this folder


class Squares:
    """A worker. deadly: the rows that end it every time. frail: those that end it once."""

    def __init__(self, folder: Path, deadly: tuple[int, ...] = (), frail: tuple[int, ...] = ()) -> None:
        self.folder, self.deadly, self.frail = folder, deadly, frail

    def __call__(self, block: pa.Table) -> pa.Table:
        for x in block["x"].to_pylist():
            mark = self.folder / f"{x}"
            if x in self.deadly or (x in self.frail and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"x": block["x"], "square": [x * x for x in block["x"].to_pylist()]})

    @staticmethod
    def worker_died(arguments, row, message):
        return [{"x": row["x"], "square": None, "message": message}]


class StillBorn:
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, block: pa.Table) -> pa.Table:
        return block


class Refuses:
    def __call__(self, block: pa.Table) -> pa.Table:
        raise InputError("no", "yes")


def blocks(n: int, size: int) -> list[pa.Table]:
    return [pa.table({"x": list(range(i, min(n, i + size)))}) for i in range(0, n, size)]


def test_every_block_is_answered_once_and_a_row_that_ends_every_worker_is_given_up(ray_session, tmp_path):
    given = {"folder": tmp_path, "frail": (13,), "deadly": (10,)}
    messages = list(Workers(2).map(iter(blocks(20, 4)), Squares, given))
    rows = sorted((row for answer in messages for row in answer), key=lambda row: row["x"])
    assert [(r["x"], r["square"]) for r in rows] == [(x, None if x == 10 else x * x) for x in range(20)]
    assert rows[10]["message"].startswith(f"{pool.TRIES} workers ended on it alone")
    assert {p.name for p in tmp_path.iterdir()} == {"10", "13"}


class Reads:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def __call__(self, block: pa.Table) -> pa.Table:
        return pa.table({"seen": [str(self.workspace.read_json("settings", "x.json"))]})


class Unshared(Workspace):
    """A workspace on a disk that each node has for itself: in a worker it is another folder."""

    def __reduce__(self):
        return Workspace, (f"{self.uri}-of-the-node",)


def test_a_workspace_that_a_node_does_not_see_ends_the_run(ray_session, tmp_path):
    here = Unshared(tmp_path / "w")
    there = Workspace(f"{here.uri}-of-the-node")
    for workspace in (here, there):  # of an earlier run, on each of them
        workspace.write_json(1, "settings", "x.json")
    with pytest.raises(WorkspaceError, match=r"does not see .*-of-the-node") as caught:
        list(Workers(1).map(blocks(2, 1), Reads, {"workspace": here}))
    assert "a folder that they share" in caught.value.hint
    with pytest.raises(WorkspaceError, match="does not see"):
        remote.run_remote(Workspace.names, here)
    shared = Workspace(tmp_path / "w")
    assert list(Workers(1).map(blocks(1, 1), Reads, {"workspace": shared})) == [[{"seen": "1"}]]
    assert list((tmp_path / "w" / TEMPORARY).iterdir()) == []


def test_workers_that_cannot_begin_end_the_run(ray_session):
    with pytest.raises(ServiceError, match="ended before they had begun"):
        list(Workers(1).map(blocks(1, 1), StillBorn, {}))


def test_an_error_of_ours_arrives_as_it_was(ray_session):
    with pytest.raises(InputError, match="no: yes"):
        list(Workers(2).map(blocks(4, 1), Refuses, {}))


class Mistaken:
    def __call__(self, block: pa.Table) -> pa.Table:
        if block["x"][0].as_py() == 2:
            raise KeyError("oops")
        return block.slice(0, 0)


def test_a_mistake_in_a_workers_code_ends_the_run(ray_session):
    messages = Workers(1).map(blocks(3, 1), Mistaken, {})
    assert next(messages) == []  # an answer without rows is one
    with pytest.raises(Exception, match=r"KeyError: .oops."):
        list(messages)


def free_cpus() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


@pytest.mark.parametrize(
    ("worker", "taken", "more"), [(Squares, 4, 0), (Squares, 1, 0), (Refuses, 0, 0), (Mistaken, 1, 0), (Squares, 1, 3)]
)
def test_workers_end_with_the_pass_whoever_still_knows_of_them(ray_session, tmp_path, worker, taken, more):
    """Else they hold CPUs that a trial of the same command waits for.

    taken: answers that are read before the generator is closed or its error met. more: workers than there are CPUs.
    """
    import ray

    wait_for(lambda: free_cpus() == ray.cluster_resources()["CPU"])
    gc.disable()  # what is let go of in a cycle is not found meanwhile
    try:
        given = {"folder": tmp_path} if worker is Squares else {}
        messages = Workers(2 + more).map(blocks(4, 1), worker, given)
        held = None
        try:
            for _ in range(taken):
                next(messages)
            if worker is not Squares:
                list(messages)
        except Exception as error:
            held = error  # and so are the frames that it went through
        assert (held is None) == (worker is Squares)
        if held is None:
            messages.close()
        wait_for(lambda: free_cpus() == ray.cluster_resources()["CPU"])
    finally:
        gc.enable()


def wait_for(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 120
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.1)
