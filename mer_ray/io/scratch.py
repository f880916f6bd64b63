"""Temporary folders that are removed even after their process was killed: the next start on this host does it.

They are in ``TMPDIR/mer-ray-UID`` and named by host and process. The process holds a lock on its folder, which the
system releases when it ends in whatever way: unlike a process id, a lock is never anybody else's.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOREIGN_S = 86_400.0
"""So long a folder is left alone that is another host's, in a shared TMPDIR, or on a file system without locks."""


@contextmanager
def folder() -> Iterator[Path]:
    """A new temporary folder. Raises OSError where there is no room for one."""
    path, lock = _locked()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def sweep() -> int:
    """Remove the folders of this user's processes that no longer live. Returns how many; never raises OSError."""
    try:
        with os.scandir(_parent()) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return 0
    return sum(_removed(path) for path in found)


def _parent() -> Path:
    """The folder of this user's temporary folders. Raises PermissionError where it is another user's."""
    path = Path(tempfile.gettempdir(), f"mer-ray-{os.getuid()}")
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    about = path.lstat()  # a link could lead anywhere
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{path} is not a folder of this user alone")
    return path


def _locked() -> tuple[Path, int]:
    """(a new folder, the descriptor that holds its lock)."""
    try:
        parent, prefix = _parent(), f"{_host()}.{os.getpid()}."
    except PermissionError:
        parent, prefix = Path(tempfile.gettempdir()), "mer-ray-"  # one's own, but nobody sweeps it
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _open(path)
        except FileNotFoundError:
            continue  # swept before it was locked
        with suppress(OSError):  # no locks on this file system
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _removed(path: Path) -> bool:
    """Whether this is the folder of a dead process; then it is removed."""
    try:
        lock = _open(path)
    except OSError:
        return False  # somebody else has just removed it
    try:
        old = time.time() - os.fstat(lock).st_mtime > FOREIGN_S
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # its process lives
        except OSError:
            here = False  # no locks on this file system
        else:
            here = path.name.startswith(f"{_host()}.")  # locks of other hosts may be invisible
        if here or old:
            shutil.rmtree(path, ignore_errors=True)
        return here or old
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _host() -> str:
    """This host's name, without characters that could be a path's or the separator."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
