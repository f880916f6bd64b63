"""The connection to Ray, where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from mer_ray import machine
from mer_ray.errors import ConfigError, ServiceError
from mer_ray.stages import session


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1", "127.0.0.1:99999"]
)
def test_a_cluster_that_does_not_answer_ends_at_once(address):
    with pytest.raises(ServiceError, match="cannot join Ray") as caught:
        session.check_reachable(address)
    assert address in str(caught.value)
    assert "--address" in caught.value.hint


def test_joining_it_says_so_too(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1"):
        session.connect(None)


def test_a_port_that_cannot_be_is_not_taken_for_another():
    """C's resolver takes it modulo 2^16."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1] + 65_536}"
        with pytest.raises(ServiceError, match="ports end at 65535"):
            session.check_reachable(address)


def test_a_worker_that_got_a_gpu_and_has_none_for_jax_says_so(monkeypatch):
    """Otherwise it would train on the CPU for days."""
    session.check_gpu(0)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ConfigError, match=r"0\.25 of one for each process\), and none for JAX") as caught:
        session.check_gpu(0.25)
    assert "mer-ray[cuda]" in caught.value.hint


def test_work_that_would_wait_for_a_gpu_for_ever_is_refused(ray_session, monkeypatch, capsys):
    session.check_fits(0)
    with pytest.raises(ConfigError, match=r"0\.5 of a GPU was asked for each process, and Ray finds 0"):
        session.check_fits(0.5)
    with pytest.raises(ConfigError, match=r"cpus_per_trial is 999, and Ray has \d+ CPUs on this machine: lower it"):
        session.check_fits(0, cpus=999)
    monkeypatch.setattr(session, "_single_node", False)
    session.check_fits(0.5)  # on a cluster, one may yet come
    assert "0.5 GPUs are needed and the cluster has 0" in capsys.readouterr().err


def test_a_group_that_needs_more_gpus_than_the_machine_has_is_refused_before_it_starts(ray_session, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    session.check_fits(1, 2)
    with pytest.raises(ConfigError, match=r"1 of a GPU was asked for each process \(3 of them together\), .* finds 2"):
        session.check_fits(1, 3)


KILLING = """
import os, sys, threading, time
from mer_ray import machine
from mer_ray.stages import session

def talk():  # the user's own lines must not get lost
    for _ in range(20):
        os.write(2, b"mine\\n")
        time.sleep(0.2)

talking = threading.Thread(target=talk)
talking.start()
before = os.nice(0)
if not sys.argv[1]:
    taken = machine.taking(0.5, before + 7)
    taken.__enter__()
session.connect(sys.argv[1] or None)
talking.join()
import pyarrow as pa, ray

died = sys.argv[2]  # a worker has another command line

class Dies:
    def __init__(self, large): pass
    def __call__(self, batch=None):
        flag = f"{died}-{batch}" if isinstance(batch, str) else f"{died}-{batch['n'][0]}"
        if not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), 9)
        return batch
    def niceness(self): return os.nice(0)

def fails(batch):
    if batch["n"][0].as_py() == 2: raise ValueError
    return Dies(0)(batch)

lasting = {"max_restarts": -1, "max_task_retries": -1}
actor = ray.remote(Dies).options(**lasting).remote(ray.put(bytes(10**6)))
print("niceness", ray.get(actor.niceness.remote()) - before)
print(int(ray.cluster_resources()["CPU"]) == machine.local_workers(), machine.local_workers() == machine.cpus())
print(ray.get(ray.remote(max_retries=3)(lambda: Dies(0)("task")).remote()))
ray.data.DataContext.get_current().max_errored_blocks = -1
blocks = ray.data.from_blocks([pa.table({"n": [i]}) for i in range(4)])
options = {"batch_format": "pyarrow", "batch_size": None}
print(sorted(row["n"] for row in blocks.map_batches(fails, **options).take_all()))
session.close()
"""


@pytest.mark.parametrize("where", ["on this machine", "joined"])
def test_no_line_of_ray_reaches_the_terminal_when_workers_die(ray_session, tmp_path, where):
    import ray

    address = ray.get_runtime_context().gcs_address if where == "joined" else ""
    command = [sys.executable, "-c", KILLING, address, str(tmp_path / "died")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_AUTH_MODE"] = "token"
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    own = machine.local_workers(0.5) == machine.cpus()  # one CPU has no half
    taken = "niceness 0\nTrue True" if address else f"niceness 7\nTrue {own}"
    assert done.stdout == f"{taken}\ntask\n[0, 1, 3]\n", done.stderr
    lines = done.stderr.splitlines()
    assert lines.pop(lines.index(f"Ray: {'starting on this machine' if not address else f'joining {address}'}"))
    assert lines == ["mine"] * 20


SHORT = """
import ray
from mer_ray.stages import session
session.connect(None)

@ray.remote(max_retries=0)
def sleep():
    import time
    time.sleep(600)

try:
    ray.get(sleep.remote(), timeout=500)
except ray.exceptions.OutOfMemoryError:
    print("given up")
session.close()
"""


def test_a_task_that_is_killed_for_want_of_memory_is_not_tried_for_ever():
    """Ray's memory monitor, at a threshold that any machine is over."""
    monitor = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    command = [sys.executable, "-c", SHORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, env=os.environ | monitor)
    assert done.stdout == "given up\n", done.stderr
