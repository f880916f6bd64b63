"""The rehearsal of cluster/README.md, typed as it stands there: every code block of it, in its order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import REPO, can_separate, end_all, ip

from mer_ray.io.tables import Workspace

STARTED = "Ray runtime started"
TRIES = 4


def rehearsal() -> list[str]:
    """The code blocks of the section."""
    text = (REPO / "cluster" / "README.md").read_text()
    section = text.split("## Rehearsal on one machine\n")[1].split("\n## ")[0]
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            blocks[-1].append(line)
        elif blocks[-1] and line:
            blocks.append([])
    return [textwrap.dedent("\n".join(block)) for block in blocks if block]


class Terminals:
    """Shells in a network namespace of their own, where the ports of the README are free, and with a home, temporary
    folders and a ``work/`` of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.namespace = folder, f"mr{os.getpid()}n9"
        self.open: list[subprocess.Popen[bytes]] = []
        (folder / "home").mkdir()
        self.mounts = {folder / name: Path("/tmp", f"mer-ray-{name}") for name in ("head", "node1", "node2")}
        self.mounts[folder / "work"] = REPO / "work"
        for mine, target in self.mounts.items():
            mine.mkdir()
            target.mkdir(exist_ok=True)
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def type(self, block: str) -> subprocess.Popen[bytes]:
        """Open a terminal and type the block into it."""
        if not (REPO / ".venv").exists():  # these tests run in another environment: it is activated already
            block = block.replace(". .venv/bin/activate\n", "")
        mounts = "".join(f'mount --bind "{mine}" "{target}"\n' for mine, target in self.mounts.items())
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("RAY_") and not k.lower().endswith("_proxy")
        }
        environment |= {
            "HOME": str(self.folder / "home"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        with (self.folder / f"terminal{len(self.open)}.log").open("wb") as screen:
            terminal = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "bash", "-e", "-c", mounts + block],
                stdout=screen,
                stderr=screen,
                cwd=REPO,
                env=environment,
                start_new_session=True,
            )
        self.open.append(terminal)
        return terminal

    def start(self, block: str) -> subprocess.Popen[bytes]:
        """Type a block that stays open, until it says that it has started.

        Again where Ray gives up its own processes, because on a busy machine they took longer than it allows.
        """
        for _ in range(TRIES):
            before = self.pids()
            terminal = self.type(block)
            while terminal.poll() is None:
                if STARTED in self.shown(terminal).read_text():
                    return terminal
                time.sleep(0.2)
            end_all(lambda before=before: self.pids() - before)
        raise AssertionError(self.shown(terminal).read_text())

    def shown(self, terminal: subprocess.Popen[bytes]) -> Path:
        """What the terminal shows."""
        return self.folder / f"terminal{self.open.index(terminal)}.log"

    def pids(self) -> set[int]:
        return {int(pid) for pid in ip("netns", "pids", self.namespace).split()}

    def close(self) -> None:
        end_all(self.pids)
        for terminal in self.open:
            terminal.wait(120)
        ip("netns", "del", self.namespace)


@pytest.fixture
def terminals() -> Iterator[Terminals]:
    if not can_separate():
        pytest.skip("needs root and ip: the ports of the README may be in use on this machine")
    with tempfile.TemporaryDirectory(prefix="mr", dir="/tmp") as folder:
        made = Terminals(Path(folder))
        try:
            yield made
        finally:
            made.close()


@pytest.mark.timeout(600)
def test_the_rehearsal_works_as_typed(long_tests, terminals):
    *nodes, submit, status = rehearsal()
    assert len(nodes) == 3
    head, first, second = (terminals.start(block) for block in nodes)
    job = terminals.type(submit)
    while "acquire  24" not in terminals.shown(job).read_text() and job.poll() is None:
        time.sleep(0.2)
    press_ctrl_c(second)  # "the node leaves, and the job goes on without it"
    assert job.wait(400) == 0, terminals.shown(job).read_text()
    assert "all done" in terminals.shown(job).read_text()
    assert len(Workspace(terminals.folder / "work" / "demo-job").ids("scores")) == 24
    look = terminals.type(status)
    assert look.wait(60) == 0
    assert "features/mfcc" in terminals.shown(look).read_text()

    press_ctrl_c(first)
    press_ctrl_c(head)
    assert terminals.pids() == set()


def press_ctrl_c(terminal: subprocess.Popen[bytes]) -> None:
    os.killpg(terminal.pid, signal.SIGINT)
    terminal.wait(60)
