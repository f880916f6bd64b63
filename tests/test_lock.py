"""One `mer-ray collect` at a time in a workspace, wherever it is, and however the one before has ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import object_servers as stores
import pytest
from services import LastFm, Song

from mer_ray.errors import WorkspaceError
from mer_ray.io import lock
from mer_ray.io.store import Store

RATE = 50
N = 150


@contextmanager
def harvest(service: LastFm, workspace: object) -> Iterator[subprocess.Popen[str]]:
    """`mer-ray collect` at work in a process of its own; killed at the end."""
    command = [sys.executable, "-m", "mer_ray", "collect", *options(service, workspace)]
    environment = {**os.environ, "LASTFM_API_KEY": LastFm.key}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while not service.count("track.getTopTags"):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def options(service: LastFm, workspace: object) -> list[str]:
    settings = ("source=lastfm", f"api_url={service.url}", f"requests_per_s={RATE}", "timeout_s=240")
    return ["--workspace", str(workspace), *(part for s in settings for part in ("--set", f"collect.{s}"))]


@pytest.fixture
def service() -> Iterator[LastFm]:
    with LastFm(songs=[Song("A", str(i)) for i in range(N)]) as running:
        yield running


def test_the_second_ends_with_a_line_and_asks_nothing(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("LASTFM_API_KEY", LastFm.key)
    second_ended = threading.Event()

    def waits(params: dict[str, str]) -> str:
        if params["method"] == "track.getTopTags":
            second_ended.wait(240)
        return ""

    service.fault_of = waits  # so the first is at work for so long
    with harvest(service, tmp_path / "w") as first:
        for more in ([], ["--offline"]):
            code, out, err = mer_ray("collect", *options(service, tmp_path / "w"), *more)
            assert code == 2, out + err
            assert f"another `mer-ray collect` is at work in {tmp_path / 'w'}" in err
            assert f"process {first.pid} on {socket.gethostname()}, since " in err
            assert "run this again" in err
            assert len((out + err).strip().splitlines()) == 1
        second_ended.set()
        assert first.wait(240) == 0, first.communicate()
    assert service.count("track.getTopTags") == N
    assert service.busiest_second() <= RATE
    code, out, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 0, out + err
    assert service.count("track.getTopTags") == N


def test_one_that_was_killed_bars_nobody(service, mer_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("LASTFM_API_KEY", LastFm.key)
    with harvest(service, tmp_path / "w") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    code, out, err = mer_ray("collect", *options(service, tmp_path / "w"))
    assert code == 0, out + err
    assert service.busiest_second() <= RATE


def test_every_source_has_the_lock_and_other_workspaces_their_own(mer_ray, tmp_path):
    (tmp_path / "x.csv").write_text("artist,title\nA,One\n")
    manifest = ["--set", "collect.source=manifest", "--set", f"collect.manifest={tmp_path / 'x.csv'}"]
    demo = ["--set", "collect.demo.cues=2", "--set", "collect.source=demo"]
    with lock.locked(Store(tmp_path / "w"), "collect"):
        for source in (manifest, demo):
            code, _, err = mer_ray("collect", "--workspace", tmp_path / "w", *source)
            assert code == 2
            assert f"process {os.getpid()} on" in err
        assert mer_ray("collect", "--workspace", tmp_path / "other", *manifest)[0] == 0
    assert mer_ray("collect", "--workspace", tmp_path / "w", *manifest)[0] == 0


def test_an_error_gives_it_back(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lock.locked(Store(tmp_path), "collect"):
            raise KeyError
    with lock.locked(Store(tmp_path), "collect"), lock.locked(Store(tmp_path), "other"):
        pass


def test_of_many_at_once_one_has_it(tmp_path):
    together, inside = threading.Barrier(8, timeout=240), []

    def take() -> None:
        together.wait()
        try:
            with lock.locked(Store(tmp_path), "collect"):
                inside.append(1)
                refused.wait(60)
        except WorkspaceError:
            inside.append(0)
            if inside.count(0) == 7:
                refused.set()

    refused = threading.Event()
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(inside) == [0] * 7 + [1]


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 100])
def test_what_is_left_in_the_file_means_nothing(tmp_path, left):
    (tmp_path / ".collect.lock").write_bytes(left)
    with lock.locked(Store(tmp_path), "collect"):
        (tmp_path / ".collect.lock").write_bytes(left)
        with pytest.raises(WorkspaceError, match="at work"), lock.locked(Store(tmp_path), "collect"):
            pass


def test_a_place_where_nothing_can_be_written_is_one_line(mer_ray, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot write"), lock.locked(Store(tmp_path / "file" / "w"), "collect"):
        pass


# object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.2)
    monkeypatch.setattr(lock, "STILL_S", 120.0)  # so late may a beat be on a busy machine
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)


@pytest.mark.usefixtures("_soon")
def test_in_an_object_store_too(monkeypatch):
    with stores.s3() as server:
        place = Store(stores.uri_of(server, "w"))
        with lock.locked(place, "collect"):
            for _ in range(2):
                with pytest.raises(WorkspaceError, match=f"process {os.getpid()} on "), lock.locked(place, "collect"):
                    pass
        assert not place.exists(".collect.lock")
        with lock.locked(place, "collect"):
            assert place.exists(".collect.lock")

        # One that was killed: its object stands still.
        monkeypatch.setattr(lock, "STILL_S", 1.5)
        place.write_json({"pid": 1, "host": "gone", "since": "then", "key": "k", "beats": 7}, ".collect.lock")
        began = time.monotonic()
        with lock.locked(place, "collect"):
            assert time.monotonic() - began >= 1.5
            assert json.loads(place.read_bytes(".collect.lock"))["pid"] == os.getpid()
            # One that was taken for dead, and is not, leaves the new holder's object alone.
            theirs = b'{"pid": 2, "host": "new", "since": "now", "key": "x"}'
            while any("(live)" in thread.name for thread in threading.enumerate()):  # it may be about to write
                place.write_bytes(theirs, ".collect.lock")
                time.sleep(0.05)
        assert place.read_bytes(".collect.lock") == theirs

        # Two that begin together: the last to write has it.
        place.delete(".collect.lock")
        write = lock._beat

        def late(workspace, name, holder, beats):
            write(workspace, name, holder, beats)
            place.write_bytes(theirs, name)

        monkeypatch.setattr(lock, "_beat", late)
        with pytest.raises(WorkspaceError, match="process 2 on new"), lock.locked(place, "collect"):
            pass
