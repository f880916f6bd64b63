"""Keeps Ray's own lines out of the user's terminal: Ray has them in its logs, and what is lost is in the summary."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

LEVEL = "RAY_BACKEND_LOG_LEVEL"
"""The least severe lines of Ray's C++ core to be printed and logged. Setting it makes it print a line of its own."""
LINE = b" logging.cc:"
"""Stands in that line."""


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Within this context, a module's attribute has another value, if the module has it at all."""
    if not hasattr(module, name):  # another version of Ray
        yield
        return
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def quiet() -> Iterator[None]:
    """For `ray.init`: Ray prints nothing then, nor while it is connected."""
    import ray
    from ray._private import worker
    from ray._private.log import PlainRayHandler

    os.environ.setdefault(LEVEL, "fatal")
    start = ray._raylet.CoreWorker
    with (
        # Its thread prints of each task that is retried, on standard output.
        replaced(worker, "listen_error_messages", lambda *_: None),
        replaced(ray._raylet, "CoreWorker", partial(_without_line, start)),
    ):
        yield
    import ray.data  # sets up its logger

    # The tracebacks of tasks that failed go to its file alone.
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, PlainRayHandler):
            handler.setLevel(logging.CRITICAL + 1)


def _without_line(start: Callable[..., Any], *arguments: Any) -> Any:
    """Start Ray's C++ core. What it (or another thread) prints meanwhile comes out afterwards, but for its `LINE`."""
    try:
        terminal = os.dup(2)
    except OSError:  # closed
        return start(*arguments)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            return start(*arguments)
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            os.write(2, b"".join(line for line in held if LINE not in line))
