"""A lock that lets one command at a time work on a stage of a workspace.

In a folder, it is a lock of the operating system, released when the process ends. An object store has no locks: there,
the holder rewrites an object periodically, and a command that finds it unchanged for long enough takes over. That is
best effort: two commands that begin at the same moment may both continue.
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
from mer_ray.io.store import Store

BEAT_S = 5.0
"""In an object store, the period in which the holder rewrites the object."""
STILL_S = 20.0
"""In an object store, the time without a change after which the holder counts as dead."""
SETTLE_S = 0.5
"""In an object store, the time after which a new holder checks that the object is still its own."""

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=Store)


def alone(stage: str) -> Callable[[Callable[Concatenate[A, W, P], T]], Callable[Concatenate[A, W, P], T]]:
    """Decorate a stage's ``run(config, workspace, ...)``, which then has the lock of its name."""

    def decorate(run: Callable[Concatenate[A, W, P], T]) -> Callable[Concatenate[A, W, P], T]:
        @functools.wraps(run)
        def wrapped(config: A, workspace: W, /, *more: P.args, **named: P.kwargs) -> T:
            with locked(workspace, stage):
                return run(config, workspace, *more, **named)

        return wrapped

    return decorate


@contextmanager
def locked(workspace: Store, stage: str) -> Iterator[None]:
    """Hold the lock within this context. Raises WorkspaceError where another command holds it."""
    name = f".{stage}.lock"
    with _flocked(workspace, name, stage) if workspace.is_local else _leased(workspace, name, stage):
        yield


def _holder() -> dict[str, str | int]:
    began = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": began, "key": uuid.uuid4().hex}


def _taken(workspace: Store, stage: str, text: bytes) -> WorkspaceError:
    """The error with the holder. text: the lock's content, which may be incomplete."""
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
def _flocked(workspace: Store, name: str, stage: str) -> Iterator[None]:
    path = Path(workspace.path(name))
    with _locked(workspace, path, stage) as file:
        with suppress(OSError):  # another user's file, or a full disk: the lock is valid nevertheless
            file.truncate(0)
            file.write(json.dumps(_holder()).encode())
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _locked(workspace: Store, path: Path, stage: str) -> FileIO:
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
        file.close()  # its holder has removed it, and others may lock a new one


def _open(path: Path) -> FileIO:
    try:
        return FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
    except PermissionError:
        if not path.exists():
            raise
        # Another user's file, which can be locked nevertheless.
        return FileIO(os.open(path, os.O_RDONLY), "r")


# an object store --------------------------------------------------------------------------------------------------


@contextmanager
def _leased(workspace: Store, name: str, stage: str) -> Iterator[None]:
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
            with suppress(MerRayError):  # the next attempt may succeed
                if (found := _read(workspace, name)) and not _is_own(found, holder):
                    return  # another command has taken over
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


def _wait_for(workspace: Store, name: str, stage: str) -> None:
    """Wait until the lock is free. Raises WorkspaceError where its holder is alive."""
    first = _read(workspace, name)
    until = time.monotonic() + STILL_S
    while first and time.monotonic() < until:
        time.sleep(BEAT_S / 5)
        found = _read(workspace, name)
        if not found:
            return
        if found != first:
            raise _taken(workspace, stage, found)


def _beat(workspace: Store, name: str, holder: dict[str, str | int], beats: int) -> None:
    workspace.write_bytes(json.dumps({**holder, "beats": beats}).encode(), name)


def _is_own(text: bytes, holder: dict[str, str | int]) -> bool:
    return str(holder["key"]).encode() in text


def _read(workspace: Store, name: str) -> bytes:
    try:
        return workspace.read_bytes(name)
    except FileNotFoundError:
        return b""
