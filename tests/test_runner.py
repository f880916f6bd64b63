"""Plans worked off by workers that die: each row is done once, and a row that ends every worker has failed."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import stage_workers
from conftest import LONG
from ray import cloudpickle
from stage_workers import Doubts, Mistaken, Refuses, Squares, StillBorn

from mer_ray.errors import InputError, NodeError, ServiceError, WorkspaceError
from mer_ray.io.plan import Sizes, Work
from mer_ray.io.store import TEMPORARY
from mer_ray.io.tables import Workspace
from mer_ray.io.worker import Done
from mer_ray.stages import remote, runner, session, task
from mer_ray.stages.runner import Workers
from mer_ray.stages.task import Stage
from mer_ray.stages.totals import lost

cloudpickle.register_pickle_by_value(stage_workers)
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not see this folder


class Full(Squares):
    def __call__(self, rows: pa.Table, final: bool) -> Done:
        raise NodeError("cannot work in /tmp: no space left on device", "free some")


def rows(n: int) -> pa.Table:
    return pa.table({"track_id": [f"{i:016x}" for i in range(n)], "x": range(n), "planned": [1.0] * n})


def go(folder: Path, n: int, size: int, worker=Squares, arguments=None, workers=2, part=1e9, take=None, local=False):
    """The totals and the outputs of a run over n rows in blocks of ``size``."""
    arguments = {"folder": folder} if arguments is None else arguments
    workspace, taken = Workspace(folder / "w"), []
    stage = Stage("extract", workspace, worker, arguments, Sizes(size, part, size))
    with Work([rows(n)]) as work:
        totals = runner.run(
            stage, work, Workers(1 if local else workers, local), take or (lambda done: taken.append(done))
        )
    return totals, taken, workspace


@pytest.fixture
def growing(ray_session, monkeypatch):
    """Whether nodes may join this Ray."""
    return lambda may: monkeypatch.setattr(session, "may_grow", lambda: may)


@pytest.mark.parametrize(("part", "workers"), [(2.0, 5), *([(1e9, 2), (2.0, 2)] if LONG else [])])
def test_every_row_is_done_once_and_a_row_that_ends_every_worker_has_failed(growing, tmp_path, part, workers):
    growing(workers > 2)
    given = {"folder": tmp_path, "frail": (13,), "deadly": (10,)}
    totals, taken, workspace = go(tmp_path, 20, 4, arguments=given, part=part, workers=workers)
    squares = {r["x"]: r["square"] for done in taken if done.output is not None for r in done.output.to_pylist()}
    assert squares == {x: x * x for x in range(20) if x != 10}
    assert sum(len(done.output) for done in taken if done.output is not None) == 19
    (failed,) = workspace.failures("extract")
    assert (failed["track_id"], failed["reason"]) == (f"{10:016x}", "worker_died")
    assert failed["message"].startswith(f"{task.TRIES} workers ended on it alone")
    assert (totals.rows, totals.made, totals.lost) == (20, 19, {"worker_died": 1})
    assert {p.name for p in tmp_path.iterdir()} == {"10", "13", "w"}
    assert list((tmp_path / "w" / TEMPORARY).iterdir()) == []


def test_a_cluster_that_may_grow_is_asked_for_all_workers_at_once(growing, tmp_path):
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    def pending() -> int:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return sum(b.count for d in status.resource_demands.ray_task_actor_demand for b in d.bundles_by_count)

    growing(True)
    more = 3
    seen = []
    go(tmp_path, 40, 1, Naps, workers=int(ray.cluster_resources()["CPU"]) + more, take=lambda _: seen.append(pending()))
    assert more in seen  # at first more of them wait, for as long as their processes take to start


def test_processes_stay_from_run_to_run(ray_session, tmp_path):
    pids = [{p for done in go(tmp_path, 8, 1)[1] for p in done.output["pid"].to_pylist()} for _ in range(2)]
    assert pids[0] & pids[1]


def test_here_and_on_ray_the_same_comes_out(ray_session, tmp_path):
    found = []
    for local in (True, False):
        folder = tmp_path / str(local)
        folder.mkdir()
        given = {"folder": folder, "missing": (1, 5), "healed": (3,)}
        totals, _, workspace = go(folder, 6, 2, Doubts, given, local=local)
        failed = sorted((f["track_id"], f["reason"]) for f in workspace.failures("extract"))
        seen = {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}
        found.append((totals.rows, totals.made, totals.lost, failed, seen))
    assert found[0] == found[1]
    assert found[0][:3] == (6, 4, {"missing": 2})
    assert found[0][4] == {"0": "x", "1": "xx", "2": "x", "3": "xx", "4": "x", "5": "xx"}, "doubtful: looked at twice"


def test_what_was_lost_is_told_above_the_share_that_is_allowed():
    reasons = {"missing": 2, "corrupt": 3}
    assert lost(reasons, 5, 0.2) == ""
    assert lost(reasons, 5, 0.19) == "2 of 10 tracks could not be worked on (2 missing)"
    assert lost({}, 0, 0.0) == ""


class Reads(Squares):
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def __call__(self, rows: pa.Table, final: bool) -> Done:
        return Done(1, output=pa.table({"seen": [str(self.workspace.read_json("settings", "x.json"))]}))


class Unshared(Workspace):
    """A workspace on a disk that each node has for itself: in a worker it is another folder."""

    def __reduce__(self):
        return Workspace, (f"{self.uri}-of-the-node",)


def test_a_workspace_that_a_node_does_not_see_ends_the_run(ray_session, tmp_path):
    here = Unshared(tmp_path / "x")
    there = Workspace(f"{here.uri}-of-the-node")
    for workspace in (here, there):  # of an earlier run, on each of them
        workspace.write_json(1, "settings", "x.json")
    with pytest.raises(WorkspaceError, match=r"does not see .*-of-the-node") as caught:
        go(tmp_path, 2, 1, Reads, {"workspace": here}, 1)
    assert "a folder that they share" in caught.value.hint
    with pytest.raises(WorkspaceError, match="does not see"):
        remote.run_remote(Workspace.names, here)
    shared = Workspace(tmp_path / "x")
    assert go(tmp_path, 1, 1, Reads, {"workspace": shared}, 1)[1][0].output["seen"].to_pylist() == ["1"]
    assert list((tmp_path / "x" / TEMPORARY).iterdir()) == []


def test_workers_that_cannot_begin_end_the_run(ray_session, tmp_path):
    with pytest.raises(ServiceError, match="ended before they had begun"):
        go(tmp_path, 3, 1, StillBorn, {}, 1)


@pytest.mark.parametrize("local", [False, True])
def test_an_error_of_ours_arrives_as_it_was(ray_session, tmp_path, local):
    with pytest.raises(InputError, match="no: yes"):
        go(tmp_path, 4, 1, Refuses, local=local)


@pytest.mark.parametrize("local", [False, True])
def test_the_only_machine_that_cannot_work_ends_the_run(ray_session, tmp_path, local):
    with pytest.raises(NodeError, match="no space left"):
        go(tmp_path, 4, 1, Full, local=local)


def test_a_mistake_in_a_workers_code_ends_the_run(ray_session, tmp_path):
    with pytest.raises(RuntimeError, match=r"KeyError: .oops."):
        go(tmp_path, 3, 1, Mistaken)


def free_cpus() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


class Stop(Exception):
    pass


@pytest.mark.parametrize("more", [0, 3])
def test_workers_end_with_the_run_whoever_still_knows_of_them(ray_session, tmp_path, more):
    """Else they hold CPUs that a trial of the same command waits for. more: workers than there are CPUs."""
    import ray

    def take(done):
        raise Stop

    wait_for(lambda: free_cpus() == ray.cluster_resources()["CPU"])
    gc.disable()  # what is let go of in a cycle is not found meanwhile
    try:
        held = None
        try:
            go(tmp_path, 40, 1, Slow, workers=2 + more, take=take)
        except Stop as error:
            held = error  # and so are the frames that it went through
        assert held is not None
        wait_for(lambda: free_cpus() == ray.cluster_resources()["CPU"])
    finally:
        gc.enable()


class Naps(Squares):
    def __call__(self, rows: pa.Table, final: bool) -> Done:
        time.sleep(0.5)
        return Done(len(rows))


class Slow(Squares):
    def __call__(self, rows: pa.Table, final: bool) -> Done:
        time.sleep(1 if rows["x"][0].as_py() < 4 else 600)
        return Done(len(rows))


def wait_for(what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 300
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.1)
