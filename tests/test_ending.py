"""How commands end: one line and a code, whatever the system refuses and whenever a signal comes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import sounds
from test_output import rows

from mer_ray import signals
from mer_ray.errors import WorkspaceError, to_mer_ray_error

ROOT = Path(__file__).parents[1]
STOPPED = "mer-ray: stopped; the same command goes on from here"
DEMO = [
    "collect.demo.cues=3",
    "collect.demo.seconds=2",
    "extract.features=mfcc",
    "train.networks=kernel",
    "train.folds=2",
]
SETTINGS = [part for setting in DEMO for part in ("--set", setting)]
STAGES = ("collect", "label", "acquire", "extract", "train", "report", "score", "run", "status")


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))  # Python ignores the signal of it: the write fails
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@contextmanager
def sighup(handler: signal.Handlers) -> Iterator[None]:
    """What processes that are started meanwhile do with it, as they inherit: these tests may run under nohup."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def started(
    *arguments: object, on_sighup: signal.Handlers = signal.SIG_DFL, limited: bool = False, **options: object
) -> subprocess.Popen[str]:
    """``mer-ray ARGUMENTS`` in a process of its own. limited: no file may have more than 2,000 bytes.

    Without a ``preexec_fn``, which forks this process: others of its tests may have left it threads.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = [sys.executable, *(["-c", LIMITED] if limited else []), "-m", "mer_ray", *map(str, arguments)]
    with sighup(on_sighup):
        return subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def ended(*arguments: object, **options: object) -> tuple[int, str, str]:
    process = started(*arguments, **options)
    out, err = process.communicate(timeout=240)
    return process.returncode, out or "", err or ""


def one_line(code: int, err: str, *message: str) -> None:
    assert code == 2, err
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("mer-ray: error: ")]
    for part in message:
        assert part in line


# what the system refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_file_in_place_of_a_table_is_one_line(mer_ray, tmp_path, stage):
    for name in ("tracks", "labels", "audio", "settings", "runs", "failures", "features", "scores", "report"):
        (tmp_path / "w" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "w" / name).write_text("a file")
    code, _, err = mer_ray(stage, "--workspace", tmp_path / "w", *SETTINGS)
    one_line(code, err, str(tmp_path / "w"))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["n" * 300, "/proc/mer-ray", "/dev/full", "/dev/null/w", "loop/w"])
def test_a_place_that_cannot_be_is_one_line(mer_ray, tmp_path, monkeypatch, stage, name):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    code, _, err = mer_ray(stage, "--workspace", name, *SETTINGS)
    one_line(code, err)


@pytest.mark.parametrize("place", ["/dev/full/x", "/proc/x", "/dev/null/x", f"{'n' * 300}"])
def test_a_place_for_a_result_that_cannot_be_is_one_line(mer_ray, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    pq.write_table(rows(1), "s.parquet")
    one_line(*mer_ray("playlist", "s.parquet", "--out", f"{place}.m3u8")[::2])
    one_line(*mer_ray("explore", "s.parquet", "--out", f"{place}.html")[::2])
    sounds.write(tmp_path / "a.wav", sounds.noise(1.5))
    one_line(*mer_ray("score", "a.wav", "--out", f"{place}.csv")[::2])


def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path):
    """A limit on the size of files stands in for it."""
    pq.write_table(rows(*range(500)), tmp_path / "s.parquet")

    for name, command in (
        ("e.html", ("explore", "s.parquet", "--out", "e.html")),
        ("w", ("collect", "--workspace", "w", *SETTINGS)),
    ):
        if name != "w":
            (tmp_path / name).write_text("before")
        code, _, err = ended(*command, cwd=tmp_path, limited=True)
        one_line(code, err, "File too large", "free some space")
        assert name == "w" or (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize(("command", "unbuffered"), [("--help", ""), ("score --help", "1"), ("playlist s.parquet", "")])
def test_a_full_standard_output_is_one_line(tmp_path, command, unbuffered):
    pq.write_table(rows(1, 2), tmp_path / "s.parquet")
    with Path("/dev/full").open("w") as full:
        own = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
        line = [sys.executable, "-m", "mer_ray", *command.split()]
        done = subprocess.run(line, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, env=own)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["playlist", "s.parquet"]])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path, command):
    pq.write_table(rows(*range(50)), tmp_path / "s.parquet")
    read, write = os.pipe()
    os.close(read)
    process = started(*command, cwd=tmp_path, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_closed_streams_do_no_harm(tmp_path, closed):
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = f"{sys.executable} -m mer_ray status --workspace gone {closed}"
    done = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, text=True, env=own)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_an_error_of_the_system_as_one_line():
    error = to_mer_ray_error(PermissionError(errno.EACCES, "Permission denied", "/a", None, b"/b"))
    assert str(error).startswith("/a and /b: Permission denied: allow it or choose another place")
    assert str(to_mer_ray_error(OSError(errno.ENOSPC, "No space left on device"))).startswith(
        "No space left on device: free"
    )
    assert str(to_mer_ray_error(TimeoutError("late"))).startswith("late: ")
    own = WorkspaceError("mine")
    assert to_mer_ray_error(own) is own


# signals -----------------------------------------------------------------------------------------------------------


def gone(processes: list[psutil.Process], within_s: float = 120.0) -> bool:
    return not psutil.wait_procs(processes, within_s)[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_one_line_and_the_next_command_goes_on(tmp_path, number, code):
    own = ("--workspace", tmp_path / "w", "--set", "collect.demo.cues=20000", "--set", "collect.demo.seconds=20")
    process = started("collect", *own)
    while not (tmp_path / "w" / "settings").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err.splitlines()[-1:]) == (code, [STOPPED]), out + err
    assert "Traceback" not in err
    assert [f for f in (tmp_path / "w").rglob(".tmp/*") if f.is_file()] == []


def test_signals_while_ray_runs(tmp_path):
    """Ray's own handlers print a C++ stack or leave processes behind; and one signal may follow another."""
    sounds.write(tmp_path / "m" / "a.wav", sounds.noise(1.5))
    own = ["--workspace", "w", "--set", "collect.source=folder", "--set", "collect.folder=m", "--set"]
    own += ["extract.features=mfcc"]
    for stage in "collect", "acquire":
        assert ended(stage, *own, cwd=tmp_path)[0] == 0
    process = started("extract", "--address", "local", *own, cwd=tmp_path)
    driver = psutil.Process(process.pid)
    while not any("raylet" in p.name() for p in driver.children(recursive=True)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    time.sleep(1.0)
    processes = driver.children(recursive=True)
    assert processes
    process.terminate()
    time.sleep(0.2)
    process.terminate()
    _, err = process.communicate(timeout=240)
    assert (process.returncode, err.splitlines()[-1]) == (143, STOPPED), err
    assert "***" not in err
    assert "Traceback" not in err
    assert gone(processes)


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """As nohup has it."""
    process = started("collect", "--workspace", tmp_path / "w", *SETTINGS, on_sighup=signal.SIG_IGN)
    while not (tmp_path / "w" / "settings").exists() and process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process in the background of a shell ignores SIGINT, and then `ending` does, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_handlers_come_back(interruptible):
    before = [signal.getsignal(s) for s in signals.SIGNALS]
    with signals.signals():
        assert signals.armed()
        signal.signal(signal.SIGTERM, lambda *_: None)
        signals.rearm()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(s) for s in signals.SIGNALS] == before
