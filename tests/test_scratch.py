"""Temporary folders of killed processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mer_ray import child_process
from mer_ray.io import scratch

LOADING = """
import sys, time
from mer_ray.io.objects import local_copy

with local_copy("memory:///song.flac"):  # some audio of an object store, which is in use for a while
    print("here", flush=True)
    time.sleep(600)
"""
"""What a worker does with an object, before it is killed."""
STORING = 'import fsspec; fsspec.filesystem("memory").pipe("/song.flac", bytes(100_000))'


@pytest.fixture
def tmpdir_of(tmp_path, monkeypatch):
    """TMPDIR of this process and its children: a folder of the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(scratch.tempfile, "tempdir", None)
    yield tmp_path
    monkeypatch.setattr(scratch.tempfile, "tempdir", None)


@pytest.fixture
def loading():
    """Start processes that hold a temporary copy of an object, each returned when it does."""
    started = []

    def start():
        process = subprocess.Popen([sys.executable, "-c", STORING + LOADING], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def audio(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def status(folder: Path) -> None:
    """Type a command, which fails: there is no such workspace."""
    subprocess.run([*child_process.child("-m", "mer_ray"), "status", "--workspace", str(folder / "none")], timeout=240)


def test_the_next_command_removes_what_a_killed_process_left(tmpdir_of, loading):
    dead, alive = loading(), loading()
    assert len(audio(tmpdir_of)) == 2
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    status(tmpdir_of)
    (left,) = audio(tmpdir_of)
    assert f".{alive.pid}." in str(left)
    assert left.stat().st_size == 100_000


def test_a_folder_that_is_used_to_its_end_leaves_nothing(tmpdir_of):
    with suppress(KeyError), scratch.folder() as folder:
        (folder / "audio").write_bytes(b"x")
        raise KeyError
    (parent,) = tmpdir_of.iterdir()
    assert parent.stat().st_mode & 0o777 == 0o700
    assert list(parent.iterdir()) == []


def test_a_folder_of_another_host_stays_for_a_day(tmpdir_of, loading, monkeypatch):
    """In a TMPDIR that hosts share, locks may not be seen from one to another."""
    process = loading()
    process.kill()
    process.wait()
    (copy,) = audio(tmpdir_of)
    monkeypatch.setattr(scratch.socket, "gethostname", lambda: "another")
    assert scratch.sweep() == 0
    long_ago = time.time() - scratch.FOREIGN_S - 60
    os.utime(copy.parent, (long_ago, long_ago))
    assert scratch.sweep() == 1
    assert audio(tmpdir_of) == []


def test_a_live_folder_stays_however_old_it_looks(tmpdir_of):
    with scratch.folder() as folder:
        os.utime(folder, (0, 0))
        assert scratch.sweep() == 0
        assert folder.is_dir()


def test_a_link_is_not_followed(tmpdir_of):
    with scratch.folder() as folder:
        parent = folder.parent
    theirs = tmpdir_of / "theirs"
    theirs.mkdir()
    (theirs / "song").write_bytes(b"x")
    (parent / folder.name).symlink_to(theirs)
    (parent / f"{folder.name}2").mkdir()
    (parent / f"{folder.name}2" / "link").symlink_to(theirs)
    assert scratch.sweep() == 1  # the folder with the link in it
    assert (theirs / "song").exists()


@pytest.mark.parametrize("what", ["link", "open to all"])
def test_a_parent_that_others_could_change_is_not_used(tmpdir_of, what):
    parent = tmpdir_of / f"mer-ray-{os.getuid()}"
    there = tmpdir_of / "there" / f"{scratch._host()}.1.x"
    there.mkdir(parents=True)
    if what == "link":
        parent.symlink_to(there.parent)
    else:
        there.parent.rename(parent)
        parent.chmod(0o777)
        there = parent / there.name
    assert scratch.sweep() == 0
    with scratch.folder() as folder:
        assert folder.parent == tmpdir_of
        assert folder.stat().st_mode & 0o777 == 0o700
    assert there.exists()
    assert not folder.exists()


def test_a_worker_that_starts_sweeps_too(tmpdir_of, loading):
    from mer_ray.stages import session

    process = loading()
    process.kill()
    process.wait()
    session.prepare_worker(0)
    assert audio(tmpdir_of) == []
