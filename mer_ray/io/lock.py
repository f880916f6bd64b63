"""One command at a time in a workspace.

In a folder, the system holds the lock, and takes it from a process that ends, however it ends. An object store has no
locks: there, the holder rewrites an object every few seconds, and a command that finds it unchanged for long enough
takes over. That is best effort: two commands that begin in the same moment may both go on.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from mer_ray.errors import MerRayError, WorkspaceError
from mer_ray.io.identity import one_line
from mer_ray.io.store import Storage

BEAT_S = 5.0
"""In an object store, how often the holder shows that it lives."""
STILL_S = 20.0
"""And for how long the object must not have changed, to whoever watches it, until the holder counts as dead."""
SETTLE_S = 0.5
"""And after what time a new holder looks whether the object is still its own."""

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=Storage)


def alone(stage: str) -> Callable[[Callable[Concatenate[A, W, P], T]], Callable[Concatenate[A, W, P], T]]:
    """Decorates a stage's ``run(config, workspace, ...)``, which then holds the lock of its name."""

    def decorate(run: Callable[Concatenate[A, W, P], T]) -> Callable[Concatenate[A, W, P], T]:
        @functools.wraps(run)
        def wrapped(config: A, workspace: W, /, *more: P.args, **named: P.kwargs) -> T:
            with locked(workspace, stage):
                return run(config, workspace, *more, **named)

        return wrapped

    return decorate


@contextmanager
def locked(workspace: Storage, stage: str) -> Iterator[None]:
    """Within this context, no other command holds the same. Raises WorkspaceError where one does."""
    name = f".{stage}.lock"
    with _flocked(workspace, name, stage) if workspace.is_local else _leased(workspace, name, stage):
        yield


def _holder() -> dict[str, str | int]:
    began = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": began, "key": uuid.uuid4().hex}


def _taken(workspace: Storage, stage: str, text: bytes) -> WorkspaceError:
    """text: what the holder wrote; it may be in the middle of that."""
    try:
        holder = json.loads(text)
        who = one_line(f"process {holder['pid']} on {holder['host']}, since {holder['since']}", 200)
    except (ValueError, KeyError, TypeError):
        who = "it has just begun"
    return WorkspaceError(
        f"another `mer-ray {stage}` is at work in {workspace.uri} ({who})",
        "wait until it has ended, or stop it; then run this again",
    )


# a folder ---------------------------------------------------------------------------------------------------------


@contextmanager
def _flocked(workspace: Storage, name: str, stage: str) -> Iterator[None]:
    path = Path(workspace.path(name))
    with _locked(workspace, path, stage) as file:
        with suppress(OSError):  # another user's file, or a full disk: the lock holds all the same
            file.truncate(0)
            file.write(json.dumps(_holder()).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _locked(workspace: Storage, path: Path, stage: str) -> FileIO:
    """The file, open and locked."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _open(path)
        except OSError as error:
            raise WorkspaceError(
                f"cannot write {path}: {error.strerror}", "check the rights to it, or choose another --workspace"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise _taken(workspace, stage, file.read()) from None
        except OSError:  # a network folder without locks
            return file
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()  # its holder has removed it in between, and others may lock one of the same name


def _open(path: Path) -> FileIO:
    try:
        return FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:
        if not path.exists():
            raise
        # Another user's; the lock can be had all the same.
        return FileIO(os.open(path, os.O_RDONLY), "r")


# an object store --------------------------------------------------------------------------------------------------


@contextmanager
def _leased(workspace: Storage, name: str, stage: str) -> Iterator[None]:
    holder, ended = _holder(), threading.Event()
    _wait_for(workspace, name, stage)
    _beat(workspace, name, holder, 0)
    time.sleep(SETTLE_S)
    if not _is_own(found := _read(workspace, name), holder):
        raise _taken(workspace, stage, found)

    def live() -> None:
        beats = 0
        while not ended.wait(BEAT_S):
            beats += 1
            with suppress(MerRayError):  # it may be reached the next time
                if (found := _read(workspace, name)) and not _is_own(found, holder):
                    return  # taken over by one that thought this process dead
                _beat(workspace, name, holder, beats)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(MerRayError):
            if _is_own(_read(workspace, name), holder):
                workspace.delete(name)


def _wait_for(workspace: Storage, name: str, stage: str) -> None:
    """Come back once nobody holds it. Raises WorkspaceError where the holder gives a sign of life."""
    first = _read(workspace, name)
    until = time.monotonic() + STILL_S
    while first and time.monotonic() < until:
        time.sleep(BEAT_S / 5)
        found = _read(workspace, name)
        if not found:
            return
        if found != first:
            raise _taken(workspace, stage, found)


def _beat(workspace: Storage, name: str, holder: dict[str, str | int], beats: int) -> None:
    workspace.write_bytes(json.dumps({**holder, "beats": beats}).encode(), name)


def _is_own(text: bytes, holder: dict[str, str | int]) -> bool:
    return str(holder["key"]).encode() in text


def _read(workspace: Storage, name: str) -> bytes:
    try:
        return workspace.read_bytes(name)
    except FileNotFoundError:
        return b""
