"""Atomic replacement of a local file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mer_ray.errors import WorkspaceError, hint
from mer_ray.io.identity import one_line


@contextmanager
def replacing(path: Path, folder: Path | None = None) -> Iterator[BinaryIO]:
    """A new binary file that is renamed to ``path`` at the end of the context, or removed after an error.

    Args:
        path: Its folder is created if it is missing.
        folder: Of the temporary file, on the same disk; by default that of ``path``.

    Raises:
        WorkspaceError: The file cannot be written.
    """
    temporary = (folder or path.parent) / f".{uuid.uuid4().hex}.part"
    try:
        for parent in {path.parent, temporary.parent}:
            parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or one_line(str(error), 200)
        raise WorkspaceError(f"cannot write {path}: {reason}", hint(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
