"""A hub on the loopback: a real HTTP server that sends modules, or something else."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def hub(answer: Answer) -> Iterator[str]:
    """Yields a module's handle there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/google/module/1"
        finally:
            server.shutdown()
            thread.join()


def sends(body: bytes, status: int = 200) -> Answer:
    """What tfhub.dev does: a redirection to where the archive is stored."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked = request.path == "/google/module/1?tf-hub-format=compressed"
        request.send_response(302 if asked else status if request.path == "/stored" else 404)
        request.send_header("Location", "/stored")
        request.send_header("Content-Length", "0" if asked else str(len(body)))
        request.end_headers()
        request.wfile.write(b"" if asked else body)

    return answer


def archive(add: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        add(tar)
    return buffer.getvalue()


def member(name: str, content: bytes = b"x") -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    return add


def link(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("variables")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc"
    tar.addfile(info)
