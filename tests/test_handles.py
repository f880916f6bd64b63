"""Hub handles → folders, by tensorflow_hub in a child process. Each child takes TensorFlow's start, some 5 s of CPU."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hubs import Answer, archive, hub, link, member, sends

from mer_ray.errors import ConfigError, ServiceError
from mer_ray.features import handles


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, and no proxy between it and the loopback."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


def fetch(handle: str, timeout_s: float = 120) -> Path:
    return handles.fetch(handle, timeout_s, "take another way")


def test_a_module_is_fetched_once_and_tensorflow_hub_finds_it_too(cache: Path) -> None:
    with hub(sends(archive(member("saved_model.pb")))) as handle:
        folder = fetch(handle)
    assert folder == cache / hashlib.sha1(handle.encode()).hexdigest()
    assert (folder / "saved_model.pb").read_bytes() == b"x"
    assert list(cache.iterdir()) == [folder]
    assert fetch(handle) == folder  # the server is gone, the cache is not


def bad(*members: Callable) -> bytes:
    return archive(lambda tar: [add(tar) for add in (member("saved_model.pb", os.urandom(50_000)), *members)])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bad(member("../../escaped")), "is no module .*'../../escaped' is invalid"),
        (archive(member("readme.txt")), r"holds no saved_model\.pb"),
    ],
    ids=["path", "another archive"],
)
def test_what_is_not_safe_or_no_module_is_refused_and_leaves_nothing(body: bytes, reason: str, cache: Path) -> None:
    with hub(sends(body)) as handle, pytest.raises(ServiceError, match=reason) as caught:
        fetch(handle)
    assert "take another way" in str(caught.value)
    assert list(cache.iterdir()) == []
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bad(member("../../escaped")), "'../../escaped' is invalid"),
        (bad(link), "Unexpected object type"),
        (b"<html>Sign in to the guest network</html>", "not appear to be a valid module"),
        (bad()[:-20_000], "not appear to be a valid module"),
    ],
    ids=["path", "link", "web page", "cut short"],
)
def test_what_tensorflow_hub_refuses(body: bytes, reason: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the child process does, in this one: TensorFlow starts once."""
    with hub(sends(body)) as handle:
        assert handles.main(handle, "30") == 1
    socket.setdefaulttimeout(None)
    assert reason in capsys.readouterr().out
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]
    assert not list(cache.rglob("saved_model.pb"))


def test_an_archive_that_grows_without_end_is_cut(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(handles, "SIZE_LIMIT", 1 << 20)
    bomb = archive(member("saved_model.pb", bytes(2_000_000)))
    with hub(sends(bomb)) as handle, pytest.raises(ServiceError, match="unpacks to over 1 MiB"):
        fetch(handle)
    assert list(cache.iterdir()) == []


def test_a_hub_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "DOWNLOAD_LIMIT_S", 0.5)
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not stop.wait(0.05):
            try:
                request.wfile.write(bytes(1 << 20))
            except OSError:
                return

    started = time.monotonic()
    with hub(answer) as handle:
        with pytest.raises(ServiceError, match=r"took over 0\.5 s"):
            fetch(handle)
        stop.set()
    assert time.monotonic() - started < 240


@pytest.fixture(params=["refuses", "never answers"])
def dead_handle(request: pytest.FixtureRequest) -> Iterator[str]:
    """A handle at a port that refuses, or that accepts and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        handle = f"http://127.0.0.1:{server.getsockname()[1]}/google/module/1"
        if request.param == "refuses":
            server.close()
        yield handle


def test_an_unreachable_hub_fails_within_seconds(dead_handle: str, cache: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"the hub could not be reached.*take another way"):
        fetch(dead_handle, timeout_s=1)
    assert time.monotonic() - started < 240
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [(sends(b"", status=404), ServiceError, "answered 404"), (sends(b"", 503), ServiceError, "answered 503")],
)
def test_a_hub_that_refuses(answer: Answer, error: type[Exception], reason: str) -> None:
    with hub(answer) as handle, pytest.raises(error, match=reason):
        fetch(handle)


def test_a_handle_that_is_no_address() -> None:
    with pytest.raises(ConfigError, match="is no address"):
        fetch("http://[::1/vggish")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="TFHUB_CACHE_DIR"):
        fetch("http://127.0.0.1:9/google/vggish/1")


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TFHUB_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert handles.cache_folder() == tmp_path / "xdg" / "mer-ray" / "tfhub_modules"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert handles.cache_folder() == Path.home() / ".cache" / "mer-ray" / "tfhub_modules"
