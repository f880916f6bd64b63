"""cluster/slurm.sh runs as it stands: real Ray nodes, on one machine, under a Slurm that is three small scripts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from parts import running

REPO = Path(__file__).parent.parent
JOB = 100_000 + os.getpid()

# As many copies of the command as --ntasks says; SIGTERM goes on to them, and it ends when they have.
SRUN = """#!/usr/bin/env bash
n=1
while [[ $1 == --* ]]; do
  case $1 in --ntasks=*) n=${1#*=} ;; esac
  shift
done
tasks=()
for ((i = 0; i < n; i++)); do "$@" & tasks+=($!); done
trap 'kill -TERM "${tasks[@]}" 2>/dev/null' TERM
for task in "${tasks[@]}"; do
  wait "$task"
  while kill -0 "$task" 2>/dev/null; do wait "$task"; done
done
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Ray's sockets want a short path."""
    folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(tmp_path: Path, scratch: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts cluster/slurm.sh with a command, as Slurm would on the first of so many nodes."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in {
        "srun": SRUN,
        "scontrol": f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol\n',
        "hostname": "#!/bin/sh\necho 127.0.0.1\n",
    }.items():
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    def start(nodes: int, *command: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM"))}
        environment |= {
            "HOME": str(tmp_path),
            "PATH": f"{fake}{os.pathsep}{environment['PATH']}",
            "MER_RAY_VENV": sys.prefix,
            "MER_RAY_SCRATCH": str(scratch),
            "SLURM_JOB_ID": str(JOB),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_MEM_PER_CPU": "1000",
            "SLURMD_NODENAME": "first",
            "SLURM_SUBMIT_DIR": str(REPO),
        }
        script = shutil.copy(REPO / "cluster" / "slurm.sh", tmp_path / "slurm_script")  # Slurm, too, runs a copy
        line = ["bash", script, *command]
        with (tmp_path / "log").open("w") as out:
            started.append(subprocess.Popen(line, env=environment, stdout=out, stderr=out, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        for left in below(process):
            left.kill()
        process.kill()
        process.wait()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All that a process has started, and what that has, as long as it lives."""
    return psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []


def wait_for(what: str, log: Path, process: subprocess.Popen[str]) -> re.Match[str]:
    deadline = time.monotonic() + 300
    while not (found := re.search(what, log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    return found


def test_a_job_runs_on_its_nodes_asks_for_a_token_and_is_queued_again_when_time_is_up(
    long_tests, slurm, scratch, tmp_path
):
    ours = "import os, time, ray; ray.init(logging_level='ERROR'); has = ray.cluster_resources(); "
    ours += "print('may use', *(round(has[k] / 2**20) for k in ('memory', 'object_store_memory')), flush=True); "
    ours += "print('joins', os.environ['RAY_ADDRESS'], flush=True); time.sleep(600)"
    process = slurm(2, "python", "-c", ours)
    log = tmp_path / "log"
    wait_for(r"Ray: 2 of 2 nodes, 2 CPUs, 0 GPUs", log, process)
    wait_for(r"(?m)^may use 1400 400$", log, process)  # of two nodes, not of the machine
    wait_for(rf"(?m)^joins 127.0.0.1:{20_000 + JOB % 1000 * 10}$", log, process)

    dashboard = f"http://127.0.0.1:{20_000 + JOB % 1000 * 10 + 1}"
    assert httpx.get(f"{dashboard}/api/jobs/", timeout=30).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(dashboard.replace("127.0.0.1", "127.0.0.2"), timeout=30)  # it listens on one address only
    mine = below(process)
    token = next(p.environ()["RAY_AUTH_TOKEN"] for p in mine if p.name() == "raylet")
    assert re.fullmatch(r"[0-9a-f]{64}", token)

    process.send_signal(signal.SIGUSR1)
    process.wait(120)
    try:
        # Ray's agents take their time to notice that their node is gone; Slurm ends what a job leaves behind.
        assert [p for p in mine if running(p) and not p.name().startswith("ray::")] == []
    finally:
        for left in filter(running, mine):
            left.kill()
    assert list(scratch.iterdir()) == []
    assert (tmp_path / "scontrol").read_text() == f"requeue {JOB}\n"
    assert "time is up" in log.read_text()
    assert token not in log.read_text()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 20_000 + JOB % 1000 * 10)) != 0


def test_a_job_without_a_command_or_without_ray_says_what_to_do(slurm, tmp_path):
    assert slurm(1).wait(240) == 2
    assert "what to run? sbatch cluster/slurm.sh python" in (tmp_path / "log").read_text()
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "1", "MER_RAY_VENV": str(tmp_path)}
    done = subprocess.run(
        ["bash", str(REPO / "cluster" / "slurm.sh"), "true"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "set MER_RAY_VENV" in done.stderr
