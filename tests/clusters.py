"""A Ray cluster of several machines on this one, and ways to hurt it.

Each node is a raylet in a network namespace of its own, with an address of its own on a bridge, and with a temporary
folder of its own. What they share is what a cluster shares: the file system with the workspace. The nodes of one
cluster are named after the process that makes it, so that two can run side by side. Namespaces take root and `ip`; a
head alone is an ordinary Ray on this host.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from parts import commands, free_ports

REPO = Path(__file__).parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
PREFIX = "mr"
START_S = 90.0
TRIES = 4
STORE_BYTES = 100_000_000
QUICK_TO_NOTICE = {
    # Ray's defaults take up to a minute to give up a node that is silent; here it is 15 s. Sooner, a busy machine would
    # lose nodes that nobody has touched.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
STATES = ("PENDING", "RUNNING")
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long offset(void) { const char *s = getenv("CLOCK_OFFSET_S"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, t);
    if (clock == CLOCK_REALTIME && t) t->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    if (t) { t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000; }
    return result;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


def ip(*arguments: str) -> str:
    """``ip ARGUMENTS``: what it prints. Raises CalledProcessError."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def has_ip() -> bool:
    """Whether this process may change the machine's network."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def can_separate() -> bool:
    """Whether this process may make network namespaces, bridges and mounts."""
    if not has_ip() or shutil.which("mount") is None:
        return False
    name = f"{PREFIX}{os.getpid()}t"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", f"{name}b", "type", "bridge")
            ip("-n", name, "link", "add", f"{name}v", "type", "veth", "peer", "name", f"{name}w")
            subprocess.run(["ip", "netns", "exec", name, "mount", "--bind", "/tmp", "/tmp"], check=True)
        finally:
            ip("netns", "del", name)
    except (subprocess.CalledProcessError, OSError):
        return False
    return True


WORK = ("MapBatches", "MapWorker", "ImplicitFunc")
"""What Ray calls the processes that do our work."""


@dataclass
class Node:
    """One machine of the cluster. number 0 is the head."""

    number: int
    address: str
    folder: Path
    cpu: int | None = None
    namespace: str | None = None
    link: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def temporary(self) -> Path:
        """Its TMPDIR."""
        return self.folder / "tmp"

    def pids(self) -> list[int]:
        """All processes of the node."""
        if self.namespace is not None:
            exists = Path("/run/netns", self.namespace).exists()
            return [int(p) for p in ip("netns", "pids", self.namespace).split()] if exists else []
        if self.process is None:
            return []
        marker = f"MER_RAY_TEST_NODE={self.folder}".encode()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if marker in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.append(process.pid)
        return found

    def runs(self) -> bool:
        """Whether neither its `ray start` nor its raylet has ended."""
        return self.process is not None and self.process.poll() is None and self.raylet() is not None

    def raylet(self) -> psutil.Process | None:
        """Ray's own process on the node, if it lives."""
        return next((p for p, command in commands(self.pids()) if command[0].endswith("/raylet")), None)

    def workers(self) -> list[psutil.Process]:
        """The processes that have the work in hand: Ray Data's workers and Tune's trials, not what helps them."""
        found = [(p, c[0]) for p, c in commands(self.pids()) if c[0].startswith("ray::")]
        return [p for p, name in found if any(work in name for work in WORK)]


def end_all(pids: Callable[[], Collection[int]]) -> None:
    """kill -9 of all processes, until there are none."""
    while found := pids():
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@dataclass
class Cluster:
    """A head with ``head_cpus`` CPUs and ``n`` nodes with one each, behind a token. A context manager.

    pin: node i on core i - 1, the head where there is room. secrets: what the environment of all has beside the token.
    clocks: by how many seconds a node's clock is wrong.
    """

    n: int = 2
    pin: bool = False
    head_cpus: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    clocks: dict[int, int] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        sweep()
        assert not self.n or can_separate(), "several nodes need root, ip and mount"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.token = secrets.token_hex(32)
        proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k.lower() not in proxies}
        self.environment = (
            inherited
            | self.secrets
            | {
                "HOME": str(self.folder),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": self.token,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "JAX_PLATFORMS": "cpu",
            }
        )
        try:
            self._wire()
            for node in self.nodes:
                self.start(node)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # its parts -----------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        """Namespaces on a bridge: one of the 8,192 small networks of 198.18.0.0/15 (RFC 2544: for tests)."""
        name = f"{PREFIX}{os.getpid()}"
        base = (198 << 24) + (18 << 16) + 16 * (os.getpid() % 8192)
        addresses = [socket.inet_ntoa((base + 1 + i).to_bytes(4, "big")) for i in range(self.n + 2)]
        self.ports = free_ports(6 * (self.n + 1))
        if self.n:
            ip("link", "add", f"{name}b", "type", "bridge")
            ip("address", "add", f"{addresses[0]}/28", "dev", f"{name}b")
            ip("link", "set", f"{name}b", "up")
        for i in range(self.n + 1):
            folder = self.folder / str(i)
            (folder / "tmp").mkdir(parents=True)
            address = addresses[i + 1] if self.n else "127.0.0.1"
            cpu = (i - 1) % (os.cpu_count() or 1) if self.pin and i else None
            node = Node(i, address, folder, cpu)
            if self.n:
                node.namespace, node.link = f"{name}n{i}", f"{name}v{i}"
                ip("netns", "add", node.namespace)
                ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
                ip("link", "set", node.link, "master", f"{name}b", "up")
                ip("-n", node.namespace, "address", "add", f"{address}/28", "dev", "eth0")
                ip("-n", node.namespace, "link", "set", "lo", "up")
                ip("-n", node.namespace, "link", "set", "eth0", "up")
            self.nodes.append(node)

    def start(self, node: Node) -> None:
        """`ray start` on the node, until Ray counts it. Ray gives its agents 15 s, which a busy machine exceeds."""
        for _ in range(TRIES):
            self._start(node)
            deadline = time.monotonic() + START_S
            while node.process is not None and node.process.poll() is None and time.monotonic() < deadline:
                if self._counted(node):
                    return
                time.sleep(0.2)
                if (self.folder / f"node{node.number}.log").read_text().count("timed out during startup") > 0:
                    break
            self.kill_node(node)
        raise AssertionError(f"node {node.number}: " + (self.folder / f"node{node.number}.log").read_text()[-3000:])

    def _start(self, node: Node) -> None:
        gcs, dashboard, *_ = self.ports
        own = self.ports[6 * node.number : 6 * node.number + 6]
        command = [*RAY, "start", "--block", "--disable-usage-stats", f"--node-ip-address={node.address}"]
        command += [f"--temp-dir={node.folder}", f"--object-store-memory={STORE_BYTES}"]
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--metrics-export-port={own[4]}"]
        command += [f"--dashboard-agent-listen-port={own[2]}", f"--num-cpus={1 if node.number else self.head_cpus}"]
        if node.number == 0:
            command += [
                "--head",
                f"--port={gcs}",
                f"--dashboard-port={dashboard}",
                f"--ray-client-server-port={own[3]}",
            ]
            command += [f"--ray-client-server-port={own[3]}", *(["--dashboard-host=0.0.0.0"] if self.n else [])]
        else:
            command += [f"--address={self.nodes[0].address}:{gcs}"]
        if node.cpu is not None:
            command = ["taskset", "-c", str(node.cpu), *command]
        if node.namespace is not None:
            command = ["ip", "netns", "exec", node.namespace, *command]
        environment = self.environment | QUICK_TO_NOTICE | {"MER_RAY_TEST_NODE": str(node.folder)}
        environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
        environment["TMPDIR"] = str(node.temporary)
        if node.number in self.clocks:
            environment |= {"LD_PRELOAD": str(self._clock()), "CLOCK_OFFSET_S": str(self.clocks[node.number])}
        with (self.folder / f"node{node.number}.log").open("wb") as log:
            node.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        if node.number == 0:
            self.url, self.agent_url, self.metrics_url = (
                f"http://{node.address}:{port}" for port in (dashboard, own[2], own[4])
            )

    def _counted(self, node: Node) -> bool:
        """Whether Ray counts the node as it runs now, and not only as it ran before."""
        known = {f"--node_id={n['raylet']['nodeId']}" for n in self._summary()}
        return any(c[0].endswith("/raylet") and not known.isdisjoint(c) for _, c in commands(node.pids()))

    @property
    def bearer(self) -> dict[str, str]:
        """The header that opens the dashboard."""
        return {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str) -> Any:
        """The dashboard's response, None while there is none."""
        try:
            response = httpx.get(f"{self.url}{path}", headers=self.bearer, timeout=5, trust_env=False)
            return response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    def _summary(self) -> list[dict[str, Any]]:
        """The nodes that Ray counts, the head among them."""
        nodes = (self.get("/nodes?view=summary") or {}).get("data", {}).get("summary", [])
        return [n for n in nodes if n.get("raylet", {}).get("state") == "ALIVE"]

    def counts(self, node: Node) -> bool:
        """Whether Ray still counts a node at that address, also when it has gone."""
        return node.address in {n["raylet"]["nodeManagerAddress"] for n in self._summary()}

    def wait_for(self, n: int) -> None:
        """Until Ray counts n nodes."""
        _until(lambda: len(self._summary()) == n, START_S, lambda: f"{len(self._summary())} nodes of {n}")

    def close(self) -> None:
        """End everything that was started, and remove every trace."""
        for node in self.nodes:
            self.kill_node(node)
        _remove(f"{PREFIX}{os.getpid()}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.nodes = []

    # what can happen to it -----------------------------------------------------------------------------------------

    def kill_worker(self, node: Node) -> str | None:
        """kill -9 of a process that works there: its name, None if there is none."""
        for worker in node.workers():
            with suppress(psutil.Error):
                name = worker.cmdline()[0]
                worker.kill()
                return name
        return None

    def kill_raylet(self, node: Node) -> None:
        """kill -9 of Ray itself on the node; what it has started ends by itself, in its own time."""
        raylet = node.raylet()
        if raylet is not None:
            raylet.kill()

    def kill_node(self, node: Node) -> None:
        """The machine loses power."""
        end_all(node.pids)
        if node.process is not None:
            node.process.wait(120)

    def cut(self, node: Node) -> None:
        """Its cable is pulled."""
        ip("link", "set", str(node.link), "down")

    def join(self, node: Node) -> None:
        """The cable is put in again."""
        ip("link", "set", str(node.link), "up")

    def hide(self, node: Node, folder: Path) -> None:
        """The node no longer sees what is in a folder: its mount is gone."""
        self._mount(node, folder, "size=1m")

    def fill(self, node: Node) -> None:
        """The node's disk for temporary files has room for one folder: Python would use another than a full one."""
        self._mount(node, node.temporary, "size=4k,nr_inodes=2")

    def heal(self, node: Node, folder: Path) -> None:
        """Undo `hide` and `fill`, as far as the node has not been started again since."""
        for place in (folder, node.temporary):
            with suppress(subprocess.CalledProcessError, StopIteration):
                self._in(node, "umount", str(place))

    def _mount(self, node: Node, folder: Path, options: str) -> None:
        self._in(node, "mount", "-t", "tmpfs", "-o", options, "none", str(folder))

    def _in(self, node: Node, *command: str) -> None:
        """Run a command among the node's mounts, which its processes share from its start on."""
        assert node.process is not None
        pid = next(p for p in node.pids() if "raylet" in Path(f"/proc/{p}/cmdline").read_text())
        subprocess.run(["nsenter", "-t", str(pid), "-m", *command], check=True, capture_output=True)

    def _clock(self) -> Path:
        """A library that adds CLOCK_OFFSET_S to the time of day."""
        library, source = self.folder / "clock.so", self.folder / "clock.c"
        if not library.exists():
            source.write_text(CLOCK)
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        return library

    def restart(self, node: Node, patience_s: float = 20.0) -> None:
        """Start a failed node again. One that Ray has given up ends by itself."""
        assert node.process is not None
        with suppress(subprocess.TimeoutExpired):
            node.process.wait(patience_s)
        self.kill_node(node)
        self.start(node)

    # jobs ----------------------------------------------------------------------------------------------------------

    def submit(self, *entrypoint: object) -> Job:
        """`ray job submit` from the repository's root; it does not wait for the job."""
        name = f"job-{secrets.token_hex(4)}"
        command = [*RAY, "job", "submit", "--address", self.url, "--no-wait", "--submission-id", name]
        command += ["--working-dir", ".", "--", *map(str, entrypoint)]
        done = subprocess.run(command, env=self.environment, cwd=REPO, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return Job(self, name)


@dataclass
class Job:
    """A job that was submitted."""

    cluster: Cluster
    name: str

    def log(self) -> str:
        """What it has printed so far."""
        file = self.cluster.nodes[0].folder / "session_latest" / "logs" / f"job-driver-{self.name}.log"
        try:
            return file.read_text(errors="replace")
        except FileNotFoundError:  # not there yet, or Ray is just setting the link to its folder anew
            return ""

    def state(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str((self.cluster.get(f"/api/jobs/{self.name}") or {}).get("status", "PENDING"))

    def driver(self) -> psutil.Process | None:
        """The process that runs the job's Python."""
        of = self.name.encode()
        for process, command in commands(self.cluster.nodes[0].pids()):
            if any(part.endswith(".py") and part.startswith("jobs/") for part in command) and "python" in command[0]:
                with suppress(OSError):
                    if of in Path(f"/proc/{process.pid}/environ").read_bytes():
                        return process
        return None

    def kill(self) -> bool:
        """kill -9 of the driver. False if there is none."""
        driver = self.driver()
        if driver is None:
            return False
        with suppress(psutil.NoSuchProcess):
            driver.kill()
        return True

    def wait(self, timeout_s: float) -> str:
        """Its state when it has ended."""
        _until(lambda: self.state() not in STATES, timeout_s, self.log)
        return self.state()


def sweep() -> None:
    """Remove what processes that were killed themselves have left: namespaces with their processes, and bridges."""
    if not has_ip():
        return
    owners = re.findall(rf"\b{PREFIX}(\d+)(?:n\d+|b|t)\b", ip("netns", "list") + ip("-o", "link", "list"))
    for pid in {int(p) for p in owners}:
        if not psutil.pid_exists(pid):
            for namespace in _namespaces(f"{PREFIX}{pid}"):
                end_all(lambda namespace=namespace: [int(p) for p in ip("netns", "pids", namespace).split()])
            _remove(f"{PREFIX}{pid}")
            for folder in Path("/tmp").glob(f"{PREFIX}{pid}-*"):
                shutil.rmtree(folder, ignore_errors=True)


def _namespaces(name: str) -> list[str]:
    return [line.split()[0] for line in ip("netns", "list").splitlines() if re.match(rf"{name}(n\d+|t)\b", line)]


def _remove(name: str) -> None:
    if not has_ip():
        return
    for namespace in _namespaces(name):
        ip("netns", "del", namespace)
    if Path("/sys/class/net", f"{name}b").exists():
        ip("link", "del", f"{name}b")


def _until(condition: Callable[[], bool], timeout_s: float, about: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"gave up after {timeout_s:.0f} s: {about()}"
        time.sleep(0.2)
