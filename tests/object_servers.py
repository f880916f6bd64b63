"""Object stores on the loopback interface: real servers in processes of their own, and a proxy that injects faults."""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import quote

import pyarrow.fs
import pyarrow.parquet as pq
from parts import free_ports
from services import Handler, Server, send

from mer_ray.io.identity import digest

BUCKET = "bucket"
STALL_S = 2.0
FAULTS = ("500", "503", "lost", "cut", "stall")
"""An error before anything is done; "slow down"; done, but no response; a response cut in the middle; late."""
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto shows nothing to those who do not sign, but checks no signature."""
# At import, which is before any test starts Ray: its workers get the environment that there is then.
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test-of-mer-ray")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
Rule = Callable[[str, str], str | None]
"""(HTTP method, path with query) → the fault of this request, or None."""


@contextmanager
def s3() -> Iterator[str]:
    """moto's S3 server with an empty bucket: its host:port."""
    with _process("moto.server", "-H", "127.0.0.1", "-p", "{port}") as at:
        _ask(at, "PUT", f"/{BUCKET}")
        yield at


@contextmanager
def gcs() -> Iterator[str]:
    """An emulator of Google Cloud Storage with an empty bucket: its host:port."""
    options = ("--host=127.0.0.1", "--port={port}", "--in-memory", f"--default-bucket={BUCKET}")
    with _process("gcp_storage_emulator", "start", *options) as at:
        yield at


@contextmanager
def _process(module: str, *options: str) -> Iterator[str]:
    (port,) = free_ports(1)  # it takes seconds until the server binds it
    command = [sys.executable, "-m", module, *(o.format(port=port) for o in options)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        deadline = time.monotonic() + 150
        while True:
            assert process.poll() is None, f"{module} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{module} does not listen"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def uri_of(at: str, *parts: str, scheme: str = "s3") -> str:
    """A URI in the bucket of a server."""
    user = "anonymous@" if scheme == "gs" else ""
    return f"{scheme}://{user}{'/'.join([BUCKET, *parts])}?scheme=http&endpoint_override={at}"


def _ask(at: str, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(at, timeout=150)
    try:
        connection.request(method, path, headers={"Authorization": SIGNED})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Proxy:
    """Between clients and a server: gives requests a fault, by ``rule``, or the next one of `FAULTS`, at random.

    rate: the probability of that.
    ``at``: its host:port. ``injected``: how often each fault was. ``asked``: how often each HTTP method came.
    """

    def __init__(self, server: str, seed: int = 0, rate: float = 0.0, rule: Rule | None = None) -> None:
        self.server, self.rate, self.rule = server, rate, rule
        self.injected: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.closing = threading.Event()
        self._random, self._faults, self._lock = random.Random(seed), itertools.cycle(FAULTS), threading.Lock()
        proxy = self

        class Forward(_Forward):
            owner = proxy

        self._listener = Server(Forward)
        self.at = self._listener.at

    def fault(self, method: str, path: str) -> str | None:
        """The fault of this request, counted."""
        with self._lock:
            self.asked[method] += 1
            chosen = self.rule(method, path) if self.rule else None
            if chosen is None and self._random.random() < self.rate:
                chosen = next(self._faults)
            if chosen is not None:
                self.injected[chosen] += 1
            return chosen

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.__exit__()


class _Forward(Handler):
    owner: Proxy

    def _handle(self) -> None:
        body = self._body()
        match fault := self.owner.fault(self.command, self.path):
            case "500":
                return self._refuse(500, "InternalError", "We encountered an internal error. Please try again.")
            case "503":
                return self._refuse(503, "SlowDown", "Please reduce your request rate.")
            case "403":
                return self._refuse(403, "InvalidAccessKeyId", "The key id you provided does not exist.")
            case "hang":
                self.owner.closing.wait(60)
                return self._reset()
            case "stall":
                self.owner.closing.wait(STALL_S)
        status, headers, response = self._forward(body)
        if fault == "lost" or (fault == "cut" and not response):
            return self._reset()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if fault == "cut":
            self.wfile.write(response[: len(response) // 2])
            self.wfile.flush()
            return self._reset()
        self.wfile.write(response)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        dropped = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        connection = http.client.HTTPConnection(self.owner.server, timeout=150)
        try:
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            response = connection.getresponse()
            data = response.read()
            passed_on = [(k, v) for k, v in response.getheaders() if k.lower() not in (*dropped, "date", "server")]
            length = response.headers.get("content-length", "0") if self.command == "HEAD" else str(len(data))
            return response.status, [*passed_on, ("Content-Length", length)], data
        finally:
            connection.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
        send(self, body, status, "application/xml")

    def _reset(self) -> None:
        """End the connection with a RST, as a machine that went away does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


class Watcher:
    """Lists the bucket all the time, reads every object that it has not seen so, and says which were not whole."""

    def __init__(self, at: str) -> None:
        self.at, self.seen, self.broken = at, Counter[str](), list[str]()
        self._known: set[tuple[str, Any, int]] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.fs = pyarrow.fs.S3FileSystem(
            access_key="test", secret_key="test", endpoint_override=at, scheme="http", region="x"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self.look()

    def _watch(self) -> None:
        while not self._closing.wait(0.05):
            try:
                self.look()
            except OSError as error:
                self.broken.append(f"the watcher itself: {error}")

    def look(self) -> None:
        """One round."""
        for info in self.fs.get_file_info(pyarrow.fs.FileSelector(BUCKET, recursive=True)):
            state = (info.path, info.mtime_ns, info.size)
            if info.type != pyarrow.fs.FileType.File or state in self._known:
                continue
            # In one request: an object that is replaced in between is the old one or the new one.
            status, data = _ask(self.at, "GET", quote(f"/{info.path}"))
            if status != 404:  # removed by now
                self._known.add(state)
                self._judge(PurePosixPath(info.path), data)

    def _judge(self, path: PurePosixPath, data: bytes) -> None:
        self.seen["media" if "media" in path.parts else path.suffix] += 1
        try:
            if path.suffix == ".parquet":
                pq.read_table(io.BytesIO(data))
            elif path.suffix == ".json" and "tune" not in path.parts:  # Tune's own is one document a line
                json.loads(data)
            elif path.suffix == ".safetensors":
                from safetensors.numpy import load

                load(data)
            elif "media" in path.parts:
                assert digest(data) == path.stem
        except Exception as error:  # whatever a reader of a part would say
            self.broken.append(f"{path}: {len(data)} bytes, {error}")
