"""Replaces an audio file by a copy with other tags, or leaves it as it is: there is never half of a file.

The copy lies in the same folder, is tagged there and checked: the same audio packets, the same other tags. It then
takes the file's place in one step (``rename``), with its owner, permission bits and extended attributes.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from mer_ray.audio.opened import shown
from mer_ray.audio.packets import packets_digest
from mer_ray.errors import TrackError
from mer_ray.io.identity import file_digest
from mer_ray.scoring.tagging.fields import FileTags

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def found(path: Path) -> tuple[Path, os.stat_result]:
    """The file, after links, with its state. Raises TrackError where it is missing or may not be replaced."""
    try:
        path = path.resolve(strict=True)
        state = path.stat()
        folder = path.parent.stat()
    except (OSError, RuntimeError) as error:
        raise TrackError("missing", f"{shown(path)} is not there any more") from error
    if not stat.S_ISREG(state.st_mode):
        raise TrackError("missing", f"{shown(path)} is not a file")
    # By the bits as well: an administrator may write anything, and a read-only file is still meant to stay.
    if not state.st_mode & _WRITABLE or not os.access(path, os.W_OK):
        raise TrackError("read_only", f"{shown(path)} is read-only")
    if not folder.st_mode & _WRITABLE or not os.access(path.parent, os.W_OK):
        raise TrackError("read_only", f"{shown(path)}: its folder is read-only")
    if state.st_nlink > 1:
        raise TrackError("linked", f"{shown(path)} has {state.st_nlink} names (hard links), which tagging would part")
    return path, state


def replace(
    path: Path,
    state: os.stat_result,
    change: Callable[[FileTags], None],
    expected: Mapping[str, list[str] | None],
    announce: Callable[[Path], None],
    commit: Callable[[str], None],
    keep_mtime: bool = False,
) -> None:
    """Change a file's tags.

    Args:
        path: From `found`, with its ``state``: a file that has changed since stays as it is.
        change: Writes into the copy.
        expected: What `FileTags.own` must then say; None for no field.
        announce: Called with the copy's path before there is one.
        commit: Called with the copy's SHA-256 when all is checked, before the file is replaced.
        keep_mtime: Keep the time of the last modification.

    Raises:
        TrackError: The file stays as it was, and so after any other exception.
    """
    audio = _packets(path, path)
    temporary = path.parent / f".{uuid.uuid4().hex}.part{path.suffix}"
    announce(temporary)
    try:
        shutil.copyfile(path, temporary)
        tags = FileTags(temporary)
        others = tags.others()
        change(tags)
        after = FileTags(temporary)
        if after.others() != others:
            raise TrackError("unsafe", f"{shown(path)}: other tags would change, so it was left as it is")
        if after.own() != {key: values for key, values in expected.items() if values is not None}:
            raise TrackError("unsafe", f"{shown(path)}: the tags do not read back, so it was left as it is")
        if _packets(temporary, path) != audio:
            raise TrackError("unsafe", f"{shown(path)}: its audio would change, so it was left as it is")
        shutil.copystat(path, temporary)
        if hasattr(os, "chown"):
            with suppress(PermissionError):
                os.chown(temporary, state.st_uid, state.st_gid)
            temporary.chmod(stat.S_IMODE(state.st_mode))
        if not keep_mtime:
            os.utime(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        now = path.stat()
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (state.st_size, state.st_mtime_ns, state.st_ino):
            raise TrackError("changed", f"{shown(path)} has changed while it was being tagged", transient=True)
        commit(file_digest(temporary))
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise TrackError("unwritable", f"{shown(path)}: {error.strerror or error}", transient=True) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _packets(file: Path, of: Path) -> str:
    """`packets_digest` of the file ``of`` or its copy; what it says names the former."""
    try:
        return packets_digest(file)
    except TrackError as error:
        why = f"{shown(of)}: FFmpeg cannot read it, so whether its audio stays cannot be checked"
        raise TrackError("unsafe", why) from error


def _sync(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
