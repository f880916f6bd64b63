"""What a command takes of the machine: its share of the CPUs, the niceness of long work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report import typed

from mer_ray import machine

TAKES = """
import json, os, subprocess, sys, threading
import numpy as np
np.ones((200, 200)) @ np.ones((200, 200))  # its threads have started
from mer_ray import machine
idle = threading.Event()
threading.Thread(target=idle.wait, daemon=True).start()
taken = machine.taking(float(sys.argv[1]))
taken.__enter__()
import psutil, threadpoolctl
child = "import os; print(len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'])"
print(json.dumps({
    "threads": sorted({len(os.sched_getaffinity(t.id)) for t in psutil.Process().threads()}),
    "pools": sorted({p["num_threads"] for p in threadpoolctl.threadpool_info()}),
    "child": subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.split(),
}))
"""


def python(code: str, *arguments: str, **environment: str) -> str:
    own = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True))
def test_a_share_is_one_worker_at_least_and_all_cpus_at_most(one, other):
    n = machine.local_workers(one)
    assert 1 <= n <= machine.cpus() == machine.local_workers(1.0)
    assert abs(n - one * machine.cpus()) <= 0.5 or n == 1
    if one <= other:
        assert n <= machine.local_workers(other)


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_a_share_binds_all_threads_and_the_processes_that_are_started(share):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    n = machine.local_workers(share)
    found = json.loads(python(TAKES, str(share), OMP_NUM_THREADS="64", OPENBLAS_NUM_THREADS="64"))
    assert found["threads"] == [n]
    assert max(found["pools"]) <= n
    assert found["child"] == [str(n), str(n) if n < machine.cpus() else "64"]


def test_the_whole_machine_is_left_as_it_is():
    code = TAKES.replace("['OMP_NUM_THREADS']", ".get('OMP_NUM_THREADS', '-')")
    found = json.loads(python(code, "1.0", OMP_NUM_THREADS="3"))
    assert found["child"] == [str(machine.cpus()), "3"]


def test_a_process_is_as_nice_as_asked_and_never_less_nice():
    before = psutil.Process().nice()
    code = "import os; from mer_ray import machine as m; m.make_nice({}); m.make_nice(0); print(os.nice(0))"
    for n in (0, 7, 19, 30):
        assert int(python(code.format(n))) == max(before, min(n, 19))


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        (["--cpu-share", "0"], "cpu-share"),
        (["--cpu-share", "1.5"], "cpu-share"),
        (["--set", "cpu_share=0"], "cpu_share"),
        (["--set", "nice=20"], "nice"),
        (["--set", "nice=-1"], "nice"),
    ],
)
def test_a_share_or_niceness_out_of_range_is_refused(tmp_path, setting, why):
    code, out, err = typed("status", "--workspace", tmp_path, *setting)
    assert (code, out) == (2, "")
    assert why in err
