"""Decoding in a child process, so that a damaged file that crashes or blocks a C library affects only itself.

Parent and child exchange messages over a socket (`_send`): requests and blocks of samples. The child decodes ahead as
far as the socket's buffer allows, and ends with its parent.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray import child_process
from mer_ray.audio.decode import Block, Probe, check, stream
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.loudness import Loudness
from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line

START_S = 60.0
"""Additional time for the first message of a child, which loads libraries."""

FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""Signals from outside (the end of a job, a lack of memory), which no file causes: a retry may succeed."""

_LENGTHS = struct.Struct("<QQ")
"""Precedes a message: the bytes of its JSON and of its samples."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Decoder:
    """`decode.stream` and `decode.check` in a child process. One file at a time; not thread-safe.

    The child starts with the first file, and again after a crash. stall_s: longest wait for a block, in seconds.
    memory_mb: limit of the child's memory, in megabytes (10^6 bytes). allow_partial: as in `decode.stream`.

        with Decoder() as decoder:
            for block in decoder.stream(path, [16_000]):
                ...
    """

    def __init__(self, stall_s: float = 60.0, memory_mb: float = 1_000.0, allow_partial: bool = False) -> None:
        self.stall_s, self.memory_mb, self.allow_partial = stall_s, memory_mb, allow_partial
        self.starts = 0
        self._child: _Child | None = None
        self._number = 0

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
        self._child = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None without a child."""
        return self._child.process.pid if self._child is not None else None

    def stream(
        self,
        path: str | Path,
        rates: Sequence[int],
        excerpt: Excerpt | None = None,
        min_duration_s: float = 0.0,
        loudness: bool = False,
    ) -> Iterator[Block]:
        """`decode.stream`, with its errors and these of TrackError:

        ``crashed``: the child died of the file, or (then transient) was ended from outside; ``stuck``: it did not
        respond for ``stall_s``; ``too_big``: it needed more than ``memory_mb``.
        """
        request: dict[str, Any] = {"rates": [int(r) for r in rates], "excerpt": excerpt.to_json() if excerpt else None}
        request |= {"min_duration_s": min_duration_s, "loudness": loudness}
        for message, samples in self._responses(path, request):
            starts = [0, *itertools.accumulate(message["lengths"])]
            by_rate = {int(r): samples[a:b] for r, (a, b) in zip(rates, itertools.pairwise(starts), strict=True)}
            measured = message["loudness"] and Loudness(**message["loudness"])
            yield Block(message["piece"], by_rate, message["seconds"], message["decoded_share"], measured)

    def check(self, path: str | Path) -> Probe:
        """`decode.check`, with its errors and those of `stream`."""
        (probe,) = [Probe(**message["probe"]) for message, _ in self._responses(path, {"check": True})]
        return probe

    def _responses(self, path: str | Path, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """The child's messages about a file, with samples. Raises TrackError."""
        self._number += 1
        number, name, finished = self._number, one_line(str(path), 300), False
        about = {"number": number, "path": os.fspath(path), "allow_partial": self.allow_partial}
        child = self._ready({**about, **request})
        try:
            while True:
                message, samples = child.receive(self.stall_s)
                if message["number"] != number:
                    continue  # of an abandoned file
                if "error" in message:
                    finished = True
                    raise TrackError(*message["error"])
                if "done" in message:
                    finished = True
                    return
                yield message, samples
        except TimeoutError as error:
            finished = True
            self._forget(child)
            raise TrackError("stuck", f"{name}: the decoder did not answer for {self.stall_s:g} s") from error
        except (OSError, EOFError) as error:
            finished = True
            died = self._forget(child)
            outside = died in FROM_OUTSIDE
            how = "was ended from outside" if outside else "died of it"
            raise TrackError("crashed", f"{name}: the decoder {how} ({died})", outside) from error
        finally:
            if not finished and self._child is child and self._number == number:
                with suppress(OSError):  # the next file detects a dead child
                    child.send({"number": number, "stop": True})

    def _ready(self, request: dict[str, Any]) -> _Child:
        """Send the request to the child, or to a new one if it has died."""
        if self._child is not None:
            try:
                self._child.send(request)
                return self._child
            except OSError:
                self._forget(self._child)
        self._child = _Child(self.memory_mb)
        self.starts += 1
        self._child.send(request)
        return self._child

    def _forget(self, child: _Child) -> str:
        if self._child is child:
            self._child = None
        return child.kill()


class _Child:
    """The parent's side of a child process."""

    def __init__(self, memory_mb: float) -> None:
        self._socket, child_socket = socket.socketpair()
        command = child_process.child("-m", __name__, str(child_socket.fileno()), str(int(memory_mb * 1e6)))
        with child_socket:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # some decoders complain to the terminal
                pass_fds=(child_socket.fileno(),),
                env={**os.environ, **ONE_THREAD, child_process.VARIABLE: child_process.path()},
            )
        self._started = False

    def send(self, message: dict[str, Any]) -> None:
        _send(self._socket, message)

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], np.ndarray]:
        """The next message, with its samples. Raises TimeoutError, EOFError, OSError."""
        received = _receive(self._socket, timeout_s if self._started else timeout_s + START_S)
        self._started = True
        return received

    def end(self) -> None:
        """Close the socket, at which the child ends; if not, kill it."""
        self._socket.close()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> str:
        """Kill it. Returns the reason of its death."""
        with suppress(subprocess.TimeoutExpired):  # if its socket is closed, it is ending by itself
            self.process.wait(0.2)
        self.process.kill()
        self._socket.close()
        self.process.wait()
        code = self.process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _send(target: socket.socket, message: dict[str, Any], *samples: np.ndarray) -> None:
    text = json.dumps(message).encode()
    target.settimeout(None)
    target.sendall(_LENGTHS.pack(len(text), sum(part.nbytes for part in samples)) + text)
    for part in samples:
        target.sendall(np.ascontiguousarray(part).data.cast("B"))


def _receive(source: socket.socket, timeout_s: float | None = None) -> tuple[dict[str, Any], np.ndarray]:
    """A message and its samples, float32. Raises TimeoutError where nothing arrives in time, EOFError, OSError."""
    source.settimeout(timeout_s)
    n_text, n_samples = _LENGTHS.unpack(_exactly(source, _LENGTHS.size))
    return json.loads(_exactly(source, n_text)), np.frombuffer(_exactly(source, n_samples), np.float32)


def _exactly(source: socket.socket, n: int) -> bytearray:
    data = bytearray(n)
    rest = memoryview(data)
    while rest:
        if not (received := source.recv_into(rest)):
            raise EOFError("the other process is gone")
        rest = rest[received:]
    return data


# the child ---------------------------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> None:
    """Decode the parent's requests until the socket closes."""
    with suppress(EOFError, OSError):
        while True:
            request, _ = _receive(connection)
            if "path" in request:
                _respond(request, connection)


def _respond(request: dict[str, Any], connection: socket.socket) -> None:
    about = {"number": request["number"]}
    try:
        if "check" in request:
            _send(connection, {**about, "probe": asdict(check(request["path"], request["allow_partial"]))})
        else:
            excerpt = Excerpt.from_json(request["excerpt"])
            limits = request["min_duration_s"], request["allow_partial"], request["loudness"]
            for block in stream(request["path"], request["rates"], excerpt, *limits):
                if _is_abandoned(connection, request["number"]):
                    return
                parts = [block.samples[rate] for rate in request["rates"]]
                header: dict[str, Any] = {
                    "piece": block.piece,
                    "seconds": block.seconds,
                    "decoded_share": block.decoded_share,
                }
                header["loudness"] = block.loudness and asdict(block.loudness)
                _send(connection, {**about, **header, "lengths": [len(part) for part in parts]}, *parts)
    except TrackError as error:
        _send(connection, {**about, "error": [error.reason, error.message, error.transient]})
    else:
        _send(connection, {**about, "done": True})


def _is_abandoned(connection: socket.socket, number: int) -> bool:
    """Whether the parent has sent a stop for this file. During decoding, it sends nothing else."""
    while select.select([connection], [], [], 0)[0]:
        message, _ = _receive(connection)
        if message["number"] == number:
            return True
    return False


def _end_with(connection: socket.socket) -> None:
    """End this process as soon as the other end is closed, even within a decoder."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    poll.poll()
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """The child: SOCKET (an inherited descriptor) MAX_BYTES."""
    connection, max_bytes = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # other systems ignore it, or count reserved memory
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    serve(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
