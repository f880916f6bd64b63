"""Decoding in a process of its own: what a damaged file does to a decoder written in C costs that file and no more.

The parent asks and the child answers over a socket, in lines of JSON. The samples lie in shared memory without a name,
in two slots: the child fills one while the parent works on what was in the other. The child ends when its parent does.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
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
from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line

START_S = 60.0
"""What a child is given on top for its first answer: it has libraries to load."""

FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""What a file does not do to a decoder: a job that is ended does, or a machine without memory. Worth another try."""

SLOTS = 2
SLOT_BYTES = 8 << 20
"""More than blocks usually need; memory that is never written costs nothing."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Decoder:
    """`decode.stream` and `decode.check`, isolated. One file at a time; not for several threads at once.

    stall_s: seconds within which every block has to come. memory_mb: what the child may allocate, in megabytes (10^6
    bytes). allow_partial: of all files, as in `decode.stream`. The child starts with the first file, and anew after one
    that it did not survive.

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
        """The child's process id; None while there is none."""
        return self._child.process.pid if self._child is not None else None

    def stream(
        self, path: str | Path, rates: Sequence[int], excerpt: Excerpt | None = None, min_duration_s: float = 0.0
    ) -> Iterator[Block]:
        """As `decode.stream`. Raises TrackError as that does, and

        ``crashed``: the child died of the file, or (then transient) was ended from outside; ``stuck``: it did not
        answer for ``stall_s``. Here ``too_big`` means that it needed more than ``memory_mb``.
        """
        request = {"rates": [int(r) for r in rates], "excerpt": excerpt.to_json() if excerpt else None}
        for child, answer in self._answers(path, {**request, "min_duration_s": min_duration_s}):
            samples = child.take(answer["slot"], answer["lengths"])
            child.say({"number": answer["number"], "taken": True})
            yield Block(answer["piece"], samples, answer["seconds"], answer["decoded_share"])

    def check(self, path: str | Path) -> Probe:
        """As `decode.check`. Raises TrackError as that and as `stream` does."""
        (probe,) = [Probe(**answer["probe"]) for _, answer in self._answers(path, {"check": True})]
        return probe

    def _answers(self, path: str | Path, request: dict[str, Any]) -> Iterator[tuple[_Child, dict[str, Any]]]:
        """What the child says to a request about a file, and the child. Raises TrackError."""
        self._number += 1
        number, name, finished = self._number, one_line(str(path), 300), False
        about = {"number": number, "path": os.fspath(path), "allow_partial": self.allow_partial}
        child = self._ready({**about, **request})
        try:
            while True:
                answer = child.hear(self.stall_s)
                if answer.get("number") != number:
                    continue  # of a file that was given up
                if "error" in answer:
                    finished = True
                    raise TrackError(*answer["error"])
                if "done" in answer:
                    finished = True
                    return
                yield child, answer
        except TimeoutError as error:
            finished = True
            self._forget(child)
            raise TrackError("stuck", f"{name}: the decoder did not answer for {self.stall_s:g} s") from error
        except (OSError, EOFError) as error:
            finished = True
            died = self._forget(child)
            outside = died in FROM_OUTSIDE
            said = "the decoder was ended from outside" if outside else "the decoder died of it"
            raise TrackError("crashed", f"{name}: {said} ({died})", outside) from error
        finally:
            if not finished and self._child is child and self._number == number:
                with suppress(OSError):  # whether it lives is for the next file to find out
                    child.say({"number": number, "stop": True})

    def _ready(self, request: dict[str, Any]) -> _Child:
        """A child that has been given the request: the one there is, or, if that is gone, a new one."""
        if self._child is not None:
            try:
                self._child.say(request)
                return self._child
            except OSError:
                self._forget(self._child)
        self._child = _Child(self.memory_mb)
        self.starts += 1
        self._child.say(request)
        return self._child

    def _forget(self, child: _Child) -> str:
        if self._child is child:
            self._child = None
        return child.kill()


class _Child:
    """The parent's side of a child process."""

    def __init__(self, memory_mb: float) -> None:
        self._memory = _shared_memory()
        self._view = mmap.mmap(self._memory, SLOTS * SLOT_BYTES)
        self._socket, theirs = socket.socketpair()
        command = child_process.child(
            "-m", __name__, str(theirs.fileno()), str(self._memory), str(int(memory_mb * 1e6))
        )
        with theirs:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # some decoders complain to the terminal
                pass_fds=(theirs.fileno(), self._memory),
                env={**os.environ, **ONE_THREAD, child_process.VARIABLE: child_process.path()},
            )
        self._lines = _Lines(self._socket)
        self._started = False

    def say(self, message: dict[str, Any]) -> None:
        _send(self._socket, message)

    def hear(self, timeout_s: float) -> dict[str, Any]:
        """The next message. Raises TimeoutError, EOFError, OSError."""
        message = self._lines.next(timeout_s if self._started else timeout_s + START_S)
        self._started = True
        return message

    def take(self, slot: int, lengths: dict[str, int]) -> dict[int, np.ndarray]:
        """A copy of what lies in a slot: rate → samples (n,)."""
        samples, place = {}, slot * SLOT_BYTES
        for rate, n in lengths.items():
            samples[int(rate)] = np.frombuffer(self._view, np.float32, n, place).copy()
            place += 4 * n
        return samples

    def end(self) -> None:
        """It goes by itself when the socket closes; if not, it is made to."""
        self._socket.close()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._release()

    def kill(self) -> str:
        """End it at once. Returns what it died of."""
        with suppress(subprocess.TimeoutExpired):  # where its socket has closed, it is dying by itself
            self.process.wait(0.2)
        self.process.kill()
        self._socket.close()
        self._release()
        code = self.process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _release(self) -> None:
        self.process.wait()
        self._view.close()
        os.close(self._memory)


class _Lines:
    """JSON messages, one a line, from a socket."""

    def __init__(self, source: socket.socket) -> None:
        self._source, self._pending = source, b""

    def next(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Raises TimeoutError, EOFError, OSError."""
        self._source.settimeout(timeout_s)
        while b"\n" not in self._pending:
            received = self._source.recv(1 << 16)
            if not received:
                raise EOFError("the other process is gone")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _send(target: socket.socket, message: dict[str, Any]) -> None:
    target.settimeout(None)
    target.sendall(json.dumps(message).encode() + b"\n")


def _shared_memory() -> int:
    """A descriptor of memory for all slots, without a name: when the last process that has it ends, it is gone."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("mer-ray-audio")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    os.ftruncate(memory, SLOTS * SLOT_BYTES)
    return memory


# the child ---------------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """The parent has given up this file."""


def serve(connection: socket.socket, view: mmap.mmap) -> None:
    """Decode what the parent asks for, until it is gone."""
    lines = _Lines(connection)
    try:
        while True:
            request = lines.next()
            if "path" in request:
                with suppress(_Stopped):
                    _send(connection, _answer(request, lines, connection, view))
    except (EOFError, OSError):
        return  # the parent is gone


def _answer(request: dict[str, Any], lines: _Lines, connection: socket.socket, view: mmap.mmap) -> dict[str, Any]:
    """Send a file's blocks. Returns the last message."""
    number, given = request["number"], 0
    try:
        if "check" in request:
            probed = check(request["path"], request["allow_partial"])
            _send(connection, {"number": number, "probe": asdict(probed)})
            return {"number": number, "done": True}
        excerpt = Excerpt.from_json(request["excerpt"])
        bounds = request["min_duration_s"], request["allow_partial"]
        for block in stream(request["path"], request["rates"], excerpt, *bounds):
            for part in _parts(block):
                if given >= SLOTS:
                    _wait(lines, number)
                slot = given % SLOTS
                _put(view, slot, part)
                lengths = {rate: len(samples) for rate, samples in part.samples.items()}
                about = {"piece": part.piece, "seconds": part.seconds, "decoded_share": part.decoded_share}
                _send(connection, {"number": number, "slot": slot, "lengths": lengths, **about})
                given += 1
    except TrackError as error:
        return {"number": number, "error": [error.reason, error.message, error.transient]}
    return {"number": number, "done": True}


def _wait(lines: _Lines, number: int) -> None:
    """Until the parent has taken a block of this file."""
    while True:
        message = lines.next()
        if message["number"] == number:
            if "stop" in message:
                raise _Stopped
            return


def _parts(block: Block) -> list[Block]:
    """The block, in as many parts as it takes for each to fit into a slot."""
    n = -(-sum(samples.nbytes for samples in block.samples.values()) // (SLOT_BYTES // 2))
    if n <= 1:
        return [block]
    pieces = {rate: np.array_split(samples, n) for rate, samples in block.samples.items()}
    return [
        Block(block.piece, {rate: p[i] for rate, p in pieces.items()}, block.seconds / n, block.decoded_share)
        for i in range(n)
    ]


def _put(view: mmap.mmap, slot: int, block: Block) -> None:
    place = slot * SLOT_BYTES
    for samples in block.samples.values():
        np.frombuffer(view, np.float32, len(samples), place)[:] = samples
        place += samples.nbytes


def _end_with(connection: socket.socket) -> None:
    """End this process as soon as the other end is closed, whatever a decoder is doing."""
    poll = select.poll()
    poll.register(connection, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    poll.poll()
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """The child: SOCKET MEMORY MAX_BYTES, the first two as inherited descriptors."""
    connection, memory, max_bytes = socket.socket(fileno=int(arguments[0])), int(arguments[1]), int(arguments[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere it is not kept, or counts what is only reserved
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    with mmap.mmap(memory, SLOTS * SLOT_BYTES) as view:
        serve(connection, view)


if __name__ == "__main__":
    main(sys.argv[1:])
