"""The whole pipeline by ``ray job submit``, on a Ray head of its own with token authentication."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mer_ray.tables import Workspace

REPO = Path(__file__).parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to clients."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 8_000, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == n:
            return found
    raise AssertionError("no free ports")


@pytest.fixture
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a Ray head, and the environment that may talk to it."""
    folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))  # Ray's sockets want a short path
    gcs, dashboard, client, agent = free_ports(4)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(folder),
        # A job's `python` is what the head's PATH says, activated environment or not.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    command = [
        *RAY,
        *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", f"--temp-dir={folder}"),
        *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", "--min-worker-port=0", "--max-worker-port=0"),
        "--object-store-memory=200000000",
    ]
    log = (folder / "head.log").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline, (folder / "head.log").read_text()
            try:
                bearer = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
                if httpx.get(f"{url}/api/version", headers=bearer, timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield url, environment
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.write(b"all of the head's processes had ended\n")
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def submit(url: str, environment: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """``ray job submit`` from the repository's root."""
    command = [*RAY, "job", "submit", "--address", url, "--working-dir", ".", "--", *entrypoint]
    return subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=500)


@pytest.mark.timeout(900)
def test_the_pipeline_as_a_submitted_job(head, tmp_path):
    url, environment = head
    assert httpx.get(f"{url}/api/jobs/", timeout=10).status_code == 401  # nobody submits without the token
    options = [
        *("-c", "configs/demo.yaml", "--workspace", str(tmp_path / "w"), "--set", "extract.features=mfcc"),
        *("--set", "collect.demo.cues=16", "--set", "collect.demo.seconds=3", "--set", "train.folds=2"),
        *("--set", "train.epochs=2", "--set", "train.members=1", "--set", "train.batch_size=8"),
    ]
    first = submit(url, environment, "python", "jobs/run.py", *options)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "all done" in first.stdout
    assert (tmp_path / "w" / "report" / "metrics.csv").read_text().count("\n") == 1 + 3 * (2 + 2 + 3)
    assert len(Workspace(tmp_path / "w").ids("scores")) == 16
    assert environment["RAY_AUTH_TOKEN"] not in first.stdout + first.stderr

    again = submit(url, environment, "python", "jobs/run.py", *options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "everything was done already" in again.stdout

    alone = submit(url, environment, "python", "jobs/status.py", "--workspace", str(tmp_path / "w"))
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "features/mfcc" in alone.stdout
