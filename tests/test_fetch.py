"""Audio by HTTP, against a server on the loopback interface."""

from __future__ import annotations

import gzip
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from services import STALL_S, Call, Files, closed_port, send, wav_bytes

from mer_ray.errors import TrackError, WorkspaceError
from mer_ray.io import http
from mer_ray.io.private import is_private
from mer_ray.io.rate_limit import LocalLimiter

AUDIO = wav_bytes(0.5)
get = partial(http.fetch, allow_private=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files(files={"a.wav": AUDIO}) as running:
        yield running


def lose(files: Files, path: Path, name: str = "a.wav", timeout_s: float = 20.0, max_mb: float = 1.0) -> TrackError:
    """The error of a fetch that must fail, and leave nothing behind."""
    start = time.monotonic()
    with pytest.raises(TrackError) as caught:
        get(f"{files.url}/{name}", path, timeout_s, max_mb)
    assert time.monotonic() - start < timeout_s + STALL_S / 2  # a server that is silent is so for longer
    assert list(path.parent.iterdir()) == []
    return caught.value


# http -------------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole(files: Files, tmp_path: Path) -> None:
    target = tmp_path / "new" / "0123.wav"
    get(f"{files.url}/a.wav", target, 20, 1)
    assert target.read_bytes() == AUDIO
    assert [p.name for p in target.parent.iterdir()] == ["0123.wav"]
    assert files.calls[0].headers["user-agent"].startswith("mer-ray/")


def test_an_older_file_is_replaced(files: Files, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


@pytest.mark.parametrize(
    ("status", "transient"), [(400, False), (403, False), (404, False), (410, False), (429, True), (503, True)]
)
def test_refusals(files: Files, tmp_path: Path, status: int, transient: bool) -> None:
    files.faults = {"a.wav": [str(status)]}
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == (f"http_{status}", transient)
    assert len(files.calls) == (http.TRIES if transient else 1)


@pytest.mark.parametrize("fault", ["503", "429", "408", "close", "truncated", "503 0", "503 soon"])
def test_what_passes_is_tried_again(files: Files, tmp_path: Path, fault: str) -> None:
    files.faults = {"a.wav": [fault, fault, "ok"]}
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    assert len(files.calls) == 3


def test_retry_after_is_kept_to_where_it_fits(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["503 1", "ok"]}
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    first, second = files.calls
    assert second.at - first.at >= 1.0


def test_retry_after_beyond_the_deadline_ends_at_once(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["503 600"]}
    assert lose(files, tmp_path / "x").reason == "http_503"
    assert len(files.calls) == 1


def test_retry_after_reads_numbers_and_dates() -> None:
    assert http.retry_after_s({"retry-after": "7"}) == 7
    assert http.retry_after_s({"retry-after": formatdate(time.time() + 90, usegmt=True)}) == pytest.approx(90, abs=5)
    assert http.retry_after_s({"retry-after": formatdate(0, usegmt=True)}) == 0
    assert [http.retry_after_s({"retry-after": text}) for text in ("", "-1", "soon", "²")] == [None] * 4


@pytest.mark.parametrize("fault", ["stall", "drip", "drip headers"])
def test_a_slow_server_is_ended_at_the_deadline(files: Files, tmp_path: Path, fault: str) -> None:
    files.faults = {"a.wav": [fault]}
    error = lose(files, tmp_path / "x", timeout_s=0.6)
    assert (error.reason, error.transient) == ("timeout", True)


def test_a_body_without_end_is_ended_at_the_size_limit(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["unbounded"]}
    error = lose(files, tmp_path / "x", max_mb=0.5)
    assert (error.reason, error.transient) == ("too_big", False)


def test_a_body_that_says_it_is_too_big_is_not_read(files: Files, tmp_path: Path) -> None:
    files.files["a.wav"] = bytes(2_000_000)
    assert lose(files, tmp_path / "x").reason == "too_big"
    assert len(files.calls) == 1


def test_a_truncated_body(files: Files, tmp_path: Path) -> None:
    files.faults = {"a.wav": ["truncated"]}
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == ("truncated", True)


def test_an_empty_body(files: Files, tmp_path: Path) -> None:
    files.files["a.wav"] = b""
    error = lose(files, tmp_path / "x")
    assert (error.reason, error.transient) == ("empty", False)


def test_redirects_are_followed(files: Files, tmp_path: Path) -> None:
    files.faults = {"b": ["-> /c"], "c": [f"-> {files.url}/a.wav"]}
    get(f"{files.url}/b", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/b"])
def test_redirects_that_lead_astray(files: Files, tmp_path: Path, target: str) -> None:
    files.faults = {"b": [f"-> {target}"]}
    error = lose(files, tmp_path / "x", "b")
    assert (error.reason, error.transient) == ("bad_url", False)


@pytest.mark.parametrize(
    "url", ["", "a.wav", "file:///etc/passwd", "ftp://host/a", "http://", "http://a:b:c/", "me:sesame@host/a"]
)
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(TrackError) as caught:
        get(url, tmp_path / "x", 5, 1)
    assert (caught.value.reason, caught.value.transient) == ("bad_url", False)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("host", [f"127.0.0.1:{closed_port()}", "nowhere.invalid"], ids=["port", "host"])
def test_nobody_there(tmp_path: Path, host: str) -> None:
    with pytest.raises(TrackError) as caught:
        get(f"http://{host}/a.wav", tmp_path / "x", 5, 1)
    assert (caught.value.reason, caught.value.transient) == ("unreachable", True)


@pytest.mark.parametrize("fault", ["ok", "404", "503", "truncated", "drip", "-> ftp://host/x"])
def test_secrets_in_an_address_are_used_and_not_shown(
    files: Files, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    files.faults = {"a.wav": [fault]}
    url = f"{files.url.replace('http://', 'http://me:sesame@')}/a.wav?token=geheim#s"
    message = ""
    with caplog.at_level(logging.INFO):
        try:
            get(url, tmp_path / "x", 0.5, 1)
        except TrackError as error:
            message = str(error)
            assert f"{files.url}/a.wav" in message
    assert files.calls[0].headers["authorization"].startswith("Basic ")
    assert files.calls[0].params["token"] == "geheim"
    for secret in ("sesame", "geheim"):
        assert secret not in message + caplog.text


def test_a_disk_that_refuses_ends_the_stage(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WorkspaceError, match="cannot write"):
        get(f"{files.url}/a.wav", tmp_path / "file" / "x", 20, 1)


def test_a_body_that_is_packed_all_the_same_is_unpacked(files: Files, tmp_path: Path) -> None:
    files.respond = lambda call, handler: send(  # type: ignore[method-assign]
        handler, gzip.compress(AUDIO), headers={"Content-Encoding": "gzip", "ETag": '"1"', "Accept-Ranges": "bytes"}
    )
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


# going on where it broke off -------------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", ["etag", "modified"])
def test_a_broken_download_goes_on_where_it_was(files: Files, tmp_path: Path, validator: str) -> None:
    files.validator, files.faults = validator, {"a.wav": ["truncated", "truncated", "ok"]}
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    half = len(AUDIO) // 2
    ranges = [call.headers.get("range") for call in files.calls]
    assert ranges == [None, f"bytes={half}-", f"bytes={half + (len(AUDIO) - half) // 2}-"]
    assert files.calls[1].headers["if-range"].startswith('"') == (validator == "etag")


@pytest.mark.parametrize("validator", ["", "weak"])
def test_without_a_name_for_the_version_it_starts_over(files: Files, tmp_path: Path, validator: str) -> None:
    files.validator, files.faults = validator, {"a.wav": ["truncated", "ok"]}
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    assert [call.headers.get("range") for call in files.calls] == [None, None]


@pytest.mark.parametrize("fault", ["whole", "elsewhere", "416"])
def test_a_server_that_does_not_go_on_is_asked_for_all_of_it(files: Files, tmp_path: Path, fault: str) -> None:
    files.validator, files.faults = "etag", {"a.wav": ["truncated", fault, "ok"]}
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    assert files.calls[1].headers["range"] == f"bytes={len(AUDIO) // 2}-"


def test_a_file_that_changed_meanwhile_is_not_patched_together(files: Files, tmp_path: Path) -> None:
    files.validator, files.faults = "etag", {"a.wav": ["truncated", "503", "ok"]}
    other = wav_bytes(0.5, hz=880.0)
    answer = files.respond

    def change(call: Call, handler: BaseHTTPRequestHandler) -> None:
        files.files["a.wav"] = AUDIO if len(files.calls) == 1 else other
        answer(call, handler)

    files.respond = change  # type: ignore[method-assign]
    get(f"{files.url}/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == other
    assert "range" in files.calls[2].headers


def test_what_is_over_the_limit_in_all_is_too_big_in_pieces_too(files: Files, tmp_path: Path) -> None:
    files.files["a.wav"] = bytes(600_000)
    files.validator, files.faults = "etag", {"a.wav": ["truncated", "ok"]}
    answer = files.respond

    def grow(call: Call, handler: BaseHTTPRequestHandler) -> None:
        answer(call, handler)
        files.validator = ""  # and with it the length that was said before
        files.files["a.wav"] = bytes(1_200_000)

    files.respond = grow  # type: ignore[method-assign]
    assert lose(files, tmp_path / "x").reason == "too_big"


# at most so many at once -----------------------------------------------------------------------------------------


def test_a_host_has_as_many_requests_at_once_as_it_has_places(files: Files, tmp_path: Path) -> None:
    limiter, full = LocalLimiter(3), Barrier(3)
    names: list[str] = []

    def slot(name: str) -> AbstractContextManager[None]:
        names.append(name)
        return limiter.slot(name)

    def wait_for_others() -> None:
        full.wait(240)

    files._pause = wait_for_others  # type: ignore[method-assign]
    files.files = {f"{i}.wav": AUDIO for i in range(36)}
    with ThreadPoolExecutor(12) as threads:
        done = threads.map(lambda i: get(f"{files.url}/{i}.wav", tmp_path / f"{i}", 300, 1, slot), range(36))
        assert len(list(done)) == 36
    assert names == ["127.0.0.1"] * 36
    assert files.most_in_flight == 3


def test_waiting_for_a_place_is_no_part_of_the_time_limit(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + waited_s, sleep=time.sleep)
    monkeypatch.setattr(http, "time", clock)

    @contextmanager
    def crowded(name: str) -> Iterator[None]:
        nonlocal waited_s
        waited_s += 3_600
        yield

    get(f"{files.url}/a.wav", tmp_path / "x", 60, 1, crowded)
    assert (tmp_path / "x").read_bytes() == AUDIO


# private networks ------------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST.",
    "music.localhost",
    "2130706433",
    "0x7f.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.31.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.251",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_an_address_in_a_private_network_is_refused(files: Files, tmp_path: Path, host: str) -> None:
    with pytest.raises(TrackError) as caught:
        http.fetch(f"http://{host}:{files.url.rpartition(':')[2]}/a.wav", tmp_path / "x", 5, 1)
    assert (caught.value.reason, caught.value.transient) == ("private_address", False)
    assert host.strip("[]").lower() in caught.value.message.lower()
    assert "acquire.allow_private=true" in caught.value.message
    assert (files.calls, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("host", ["93.184.215.14", "8.8.8.8", "[2606:4700::1]", "[64:ff9b::808:808]", "music.test"])
def test_a_public_address_is_not_refused(host: str) -> None:
    assert not is_private(host.strip("[]"))


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names under ``.test`` are this machine's."""
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host.endswith(".test") else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_name_that_leads_into_a_private_network_is_refused(resolves: None, files: Files, tmp_path: Path) -> None:
    url = f"{files.url.replace('127.0.0.1', 'music.test')}/a.wav"
    with pytest.raises(TrackError, match=r"music\.test \(127\.0\.0\.1\)") as caught:
        http.fetch(url, tmp_path / "x", 5, 1)
    assert caught.value.reason == "private_address"
    assert files.calls == []
    get(url, tmp_path / "x", 5, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO


@pytest.mark.parametrize("host", ["127.0.0.1", "music.test"])
def test_a_redirect_into_a_private_network_is_refused(
    resolves: None, files: Files, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Files(files={"a.wav": AUDIO}) as proxy:  # it may be private itself
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", host)
        http.fetch("http://93.184.215.14/a.wav", tmp_path / "x", 5, 1)
        assert [call.headers["host"] for call in proxy.calls] == ["93.184.215.14"]
        proxy.faults = {"a.wav": [f"-> {files.url.replace('127.0.0.1', host)}/a.wav"]}
        with pytest.raises(TrackError, match=host) as caught:
            http.fetch("http://93.184.215.14/a.wav", tmp_path / "y", 5, 1)
    assert caught.value.reason == "private_address"
    assert files.calls == []
