"""Audio at other addresses than http: what is opened, what is refused, and what is said when it does not answer."""

from __future__ import annotations

import posixpath
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import fsspec
import pytest
from services import STALL_S, Call, Service, closed_port, send, wav_bytes

from mer_ray.errors import TrackError
from mer_ray.io import address, objects
from mer_ray.io.objects import local_copy

AUDIO = wav_bytes(0.5)


class Ftp(socketserver.ThreadingTCPServer):
    """As much of RFC 959 and RFC 3659 as it takes to list a folder and to get a file. ``stall`` never comes."""

    daemon_threads = allow_reuse_address = True
    files: dict[str, bytes]
    password = "sesame%1"

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _FtpHandler)
        self.files, self.closing = files, threading.Event()
        self.at = f"127.0.0.1:{self.server_address[1]}"


class _FtpHandler(socketserver.StreamRequestHandler):
    server: Ftp

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def handle(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as passive:
            self._serve(passive)

    def _serve(self, passive: socket.socket) -> None:
        self.say("220 ready")
        start = 0
        for raw in self.rfile:
            command, _, argument = raw.decode().strip().partition(" ")
            match command.upper():
                case "USER":
                    self.say("331 password")
                case "PASS" if argument != self.server.password:
                    self.say("530 Login incorrect.")
                case "PASS" | "TYPE":
                    self.say("230 fine" if command == "PASS" else "200 fine")
                case "PASV":
                    port = passive.getsockname()[1]
                    self.say(f"227 Entering (127,0,0,1,{port // 256},{port % 256})")
                case "REST":
                    start = int(argument)
                    self.say("350 from there")
                case "MLSD" | "RETR":
                    here = {n: d for n, d in self.server.files.items() if posixpath.dirname(n) == argument.rstrip("/")}
                    lines = "".join(f"type=file;size={len(d)}; {posixpath.basename(n)}\r\n" for n, d in here.items())
                    data = lines.encode() if command == "MLSD" else self.server.files[argument][start:]
                    self.say("150 here it comes")
                    connection, _ = passive.accept()
                    with connection:
                        if argument.endswith("stall"):
                            self.server.closing.wait(STALL_S)
                        connection.sendall(data)
                    self.say("226 done")
                    start = 0
                case "QUIT":
                    self.say("221 bye")
                    return
                case _:
                    self.say("502 no")

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            """The other side has gone, as some tests mean."""


@pytest.fixture
def ftp() -> Iterator[Ftp]:
    files = {f"/music/{i}.wav": wav_bytes(0.2, hz=200 + 20 * i) for i in range(8)}
    with Ftp(files | {"/music/a b.wav": AUDIO, "/music/stall": AUDIO}) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def lose(uri: str, tmp_path: Path, timeout_s: float = 20.0, max_mb: float = 1.0) -> TrackError:
    with pytest.raises(TrackError) as caught:
        objects.copy(uri, tmp_path / "x", timeout_s, max_mb)
    return caught.value


def test_a_file_on_a_server_is_copied(ftp: Ftp) -> None:
    with local_copy(f"ftp://me:sesame%251@{ftp.at}/music/a b.wav") as path:
        assert path.read_bytes() == AUDIO
    assert not path.exists()


def test_several_at_once_each_get_their_own(ftp: Ftp, tmp_path: Path) -> None:
    def get(i: int) -> bytes:
        objects.copy(f"ftp://me:sesame%251@{ftp.at}/music/{i}.wav", tmp_path / str(i), 60, 1)
        return (tmp_path / str(i)).read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(get, range(8))) == [ftp.files[f"/music/{i}.wav"] for i in range(8)]


def test_what_is_not_there_too_big_or_not_for_us(ftp: Ftp, tmp_path: Path) -> None:
    good = f"ftp://me:sesame%251@{ftp.at}/music"
    outcomes = [lose(f"{good}/none.wav", tmp_path), lose(f"{good}/a b.wav", tmp_path, max_mb=0.01)]
    outcomes.append(lose(f"ftp://me:open-sesame@{ftp.at}/music/0.wav", tmp_path))
    assert [(e.reason, e.transient) for e in outcomes] == [
        ("missing", False),
        ("too_big", False),
        ("unreadable", True),
    ]
    assert "530" in outcomes[2].message
    assert not any("sesame" in e.message for e in outcomes)
    assert all(ftp.at in e.message for e in outcomes)


def test_a_server_that_never_answers_is_left_at_the_limit(ftp: Ftp, tmp_path: Path) -> None:
    start = time.monotonic()
    error = lose(f"ftp://me:sesame%251@{ftp.at}/music/stall", tmp_path, timeout_s=1.0)
    assert time.monotonic() - start < STALL_S / 2
    assert (error.reason, error.transient) == ("timeout", True)


def test_objects_in_memory_have_a_limit_too(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/music/a.wav", AUDIO)
    objects.copy("memory://music/a.wav", tmp_path / "x", 20, 1)
    assert (tmp_path / "x").read_bytes() == AUDIO
    assert lose("memory://music", tmp_path).reason == "missing"  # a folder


class Store(Service):
    """As much of S3 as it takes to read objects."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__()
        self.objects = objects

    def respond(self, call: Call, handler: BaseHTTPRequestHandler) -> None:
        data = self.objects.get(call.path)
        if data is not None:
            first, last = re.findall(r"[0-9]+", call.headers.get("range", f"0-{len(data) - 1}"))
            part = data[int(first) : int(last) + 1]
            send(handler, part, 206 if "range" in call.headers else 200)
        elif "list-type" in call.params:
            send(handler, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>", kind="application/xml")
        else:
            send(handler, b"", 404)


@pytest.mark.parametrize("user", ["AKIDKEY:geheim%2Fx@", "anonymous@"])
def test_an_object_in_a_store_is_copied(tmp_path: Path, user: str) -> None:
    with Store({"/bucket/music/a b.flac": AUDIO}) as store:
        end = f"?scheme=http&endpoint_override={store.url.removeprefix('http://')}"
        with local_copy(f"s3://{user}bucket/music/a b.flac{end}") as path:
            assert path.read_bytes() == AUDIO
        assert lose(f"s3://{user}bucket/music/none.flac{end}", tmp_path).reason == "missing"
        assert lose(f"s3://{user}bucket/music/a%20b.flac{end}", tmp_path, max_mb=0.01).reason == "too_big"
        signed = {"AKIDKEY" in call.headers.get("authorization", "") for call in store.calls}
    assert signed == {user.startswith("AKIDKEY")}


@pytest.mark.parametrize("user", ["AKIDKEY:geheim/x@", "anonymous@"])
def test_a_store_that_is_not_there_fails_soon(tmp_path: Path, user: str) -> None:
    uri = f"s3://{user.replace('/', '%2F')}bucket/a.flac"
    start = time.monotonic()
    error = lose(f"{uri}?endpoint_override=127.0.0.1:{closed_port()}&scheme=http", tmp_path, timeout_s=60)
    assert time.monotonic() - start < 60  # pyarrow's own patience is a matter of minutes
    assert (error.reason, error.transient) == ("unreadable", True)
    assert error.message.startswith("s3://bucket/a.flac cannot be read")
    assert not any(secret in error.message for secret in ("AKIDKEY", "geheim"))


@pytest.mark.parametrize(
    ("uri", "package"), [("sftp://me:geheim@127.0.0.1/x.wav", "paramiko"), ("az://container/x.wav", "adlfs")]
)
def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, uri: str, package: str) -> None:
    error = lose(uri, tmp_path)
    assert (error.reason, error.transient) == ("no_driver", True)
    assert f"needs {package}; install it" in error.message
    assert "geheim" not in error.message


@pytest.mark.parametrize(
    "uri",
    [
        *("mock:///x", "file:///etc/passwd", "/etc/passwd", "local:///etc/passwd", "dir://x", "dask://x", "git://x"),
        *("github://a:b@/x", "jupyter://x", "reference://x", "generic://x", "zip://a::s3://bucket/b.zip", "data:,x"),
        *("simplecache::ftp://host/x", "ftp://host/x::file:///etc/passwd", "tar://x", "pyscript://x", "ssh://host/x"),
    ],
)
def test_what_runs_code_or_wraps_another_address_is_refused(tmp_path: Path, uri: str) -> None:
    assert not address.is_object(uri)
    assert lose(uri, tmp_path).reason == "bad_uri"


def test_a_failed_extraction_does_not_show_an_address_s_secrets() -> None:
    from mer_ray.features.extraction import _named

    text = _named("cannot be decoded", "ftp://me:sesame@host/music/a.wav?token=geheim")
    assert text == "ftp://host/music/a.wav: cannot be decoded"
    assert _named("/music/a.wav cannot be decoded", "/music/a.wav") == "/music/a.wav cannot be decoded"
