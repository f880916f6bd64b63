"""The pool of processes that works where Ray is not installed: nothing lost, nothing twice, nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from conftest import INTERRUPTIBLE, write_tunes
from parts import commands
from stage_workers import Doubts, Mistaken, Refuses, Squares, StillBorn

from mer_ray.errors import InputError, MissingExtra, ServiceError
from mer_ray.io.plan import Sizes, Work
from mer_ray.io.tables import Workspace
from mer_ray.stages import runner, session
from mer_ray.stages.runner import Workers
from mer_ray.stages.task import Stage

ROOT = Path(__file__).parents[1]


def go(folder, n, size, worker=Squares, arguments=None, part=1e9, workers=2):
    """The totals and the outputs of a run over n rows in blocks of ``size``."""
    import pyarrow as pa

    rows = pa.table({"track_id": [f"{i:016x}" for i in range(n)], "x": range(n), "planned": [1.0] * n})
    workspace, taken = Workspace(folder / "w"), []
    arguments = {"folder": folder} if arguments is None else arguments
    stage = Stage("extract", workspace, worker, arguments, Sizes(size, part, size), memory=1)
    with Work([rows]) as work:
        totals = runner.run(stage, work, Workers(workers, True), taken.append)
    assert not any("spawn_main" in " ".join(c) for _, c in commands([p.pid for p in psutil.Process().children()]))
    return totals, taken, workspace


@pytest.mark.parametrize("part", [1e9, 2.0])
def test_every_row_is_done_once_and_a_row_that_ends_every_process_has_failed(tmp_path, part):
    given = {"folder": tmp_path, "frail": (13,), "deadly": (10,)}
    totals, taken, workspace = go(tmp_path, 20, 5, arguments=given, part=part)
    outputs = [row for done in taken if done.output is not None for row in done.output.to_pylist()]
    assert sorted(row["x"] for row in outputs) == [x for x in range(20) if x != 10]
    assert all(row["square"] == row["x"] ** 2 for row in outputs)
    assert len({row["pid"] for row in outputs} - {os.getpid()}) > 1
    (failed,) = workspace.failures("extract")
    assert (failed["track_id"], failed["reason"]) == (f"{10:016x}", "worker_died")
    assert (totals.rows, totals.made, totals.lost) == (20, 19, {"worker_died": 1})


def test_what_may_be_the_machines_fault_is_tried_twice(tmp_path):
    given = {"folder": tmp_path, "missing": (3,), "healed": (5,)}
    totals, _, workspace = go(tmp_path, 8, 2, Doubts, given)
    assert (totals.made, totals.rows) == (7, 8)
    assert [f["track_id"] for f in workspace.failures("extract")] == [f"{3:016x}"]
    assert [len((tmp_path / f"{x}").read_text()) for x in (0, 3, 5)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("worker", "error", "message"),
    [(Refuses, InputError, "no: yes"), (Mistaken, RuntimeError, "KeyError: 'oops'")],
)
def test_an_error_ends_the_run(tmp_path, worker, error, message):
    with pytest.raises(error, match=message):
        go(tmp_path, 6, 1, worker)


def test_processes_that_cannot_begin_end_the_run(tmp_path):
    with pytest.raises(ServiceError, match="in a row ended before they had begun"):
        go(tmp_path, 4, 1, StillBorn, {})


def test_no_extra_is_a_missing_extra_there_too(tmp_path):
    from stage_workers import Lacking

    with pytest.raises(MissingExtra, match=r"this needs jax: pip install 'mer-ray\[train\]'"):
        go(tmp_path, 2, 1, Lacking, {})


def without_ray() -> str:
    """The beginning of a program in which Ray is not installed."""
    return "import sys; sys.modules['ray'] = None\nfrom mer_ray.cli import main\n"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", f"{without_ray()}main({[str(a) for a in arguments]!r})"]


@pytest.fixture(scope="module")
def tunes(tmp_path_factory) -> Path:
    """A folder of 30 files of half a minute."""
    return write_tunes(tmp_path_factory.mktemp("tunes"), 30, 30.0)[0].parent


def test_without_ray_scores_are_the_same_and_several_processes_make_them(tunes, tmp_path, mer_ray):
    (tmp_path / "music").mkdir()
    for file in sorted(tunes.iterdir())[:12]:
        shutil.copy(file, tmp_path / "music")
    (tmp_path / "music" / "broken.flac").write_bytes(b"fLaC" + bytes(5_000))
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    options = ("--model", "light", "--set", "score.batch_minutes=1")
    assert mer_ray("score", tmp_path / "music", "--out", one, *options)[0] == 0
    ended = subprocess.run(
        command("score", tmp_path / "music", "--out", many, *options, "--set", "score.workers=2"),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "1 failed" in ended.stdout
    ours, theirs = (pq.read_table(path).sort_by("track_id") for path in (many, one))
    assert ours["track_id"].to_pylist() == theirs["track_id"].to_pylist()
    for name in ("valence", "arousal", "dominance"):
        assert ours[name].to_numpy() == pytest.approx(theirs[name].to_numpy(), abs=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_all_and_the_next_run_goes_on(tunes, tmp_path, number):
    out = tmp_path / "scores.parquet"
    typed = command("score", tunes, "--out", out, "--model", "light", "--set", "score.batch_minutes=1",
                    "--set", "score.workers=2")  # fmt: skip
    interruptible = [*INTERRUPTIBLE, *typed[1:]]
    process = subprocess.Popen(interruptible, stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts = Path(f"{out}.parts")
    until = time.monotonic() + 240
    while not list(parts.glob("scores/*.parquet")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    began = psutil.Process(process.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=150)
    gone, alive = psutil.wait_procs(began, timeout=240)
    assert gone
    assert alive == []
    if number != signal.SIGKILL:
        assert (process.returncode, errors.strip().splitlines()[-1]) == (
            128 + number,
            "mer-ray: stopped; the same command goes on from here",
        )
        assert "Traceback" not in errors
    assert list(parts.glob("scores/*.parquet"))
    if number != signal.SIGKILL:
        return
    ended = subprocess.run(typed, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert " new" in ended.stdout  # the others were found
    ids = pq.read_table(out)["track_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 30


def test_a_pool_has_a_process_for_each_cpu(monkeypatch):
    monkeypatch.setattr(session, "has_ray", lambda: False)
    chosen = runner.workers(None, None, small=False)
    assert (chosen.local, chosen.n) == (True, len(os.sched_getaffinity(0)))
    assert runner.workers(None, 3, small=False).n == 3
    assert runner.workers(None, None, small=True).n == 1
    assert session.small(100.0) == 10.0
