"""Work in other processes: how their errors return, a check that they see the workspace, and single tasks.

An error raised in a Ray worker would arrive inside Ray's own traceback, and Tune would retry what cannot succeed. So a
worker returns each MerRayError as a `RemoteError`, and the driver raises it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from mer_ray import errors
from mer_ray.errors import MerRayError, to_mer_ray_error
from mer_ray.io.store import MARKER, TEMPORARY, Store
from mer_ray.stages import session

RESTARTS = 3
"""How often a worker of `run_remote` that dies is replaced."""
T = TypeVar("T")


class RemoteError(NamedTuple):
    """A `MerRayError` on its way from a worker to the driver."""

    kind: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: MerRayError | OSError) -> RemoteError:
        """The error on its way."""
        raised = to_mer_ray_error(error)
        return cls(type(raised).__name__, raised.message, raised.hint)

    def to_error(self) -> Exception:
        """The error, to be raised in the driver. Without a kind, it is a bug, and the message its traceback."""
        if not self.kind:
            return RuntimeError(self.message)
        kind: type[MerRayError] = getattr(errors, self.kind)
        return kind(self.message, self.hint)

    def __str__(self) -> str:
        return str(self.to_error())


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, RemoteError | None]:
    """(result of ``function(*arguments)``, None), or (None, its MerRayError or OSError)."""
    try:
        return function(*arguments), None
    except (MerRayError, OSError) as error:
        return None, RemoteError.of(error)


def run_remote(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in a worker of the cluster, on a node with enough memory. Raises its errors."""
    import ray

    with marker(*arguments) as name:
        task = ray.remote(_run).options(num_cpus=1, max_retries=RESTARTS).remote(function, arguments, name)
        result, error = ray.get(task)
    if error is not None:
        raise error.to_error()
    return result


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> tuple[Any, RemoteError | None]:
    session.prepare_worker(0)
    _, error = attempt(check_marker, arguments, name)
    return (None, error) if error is not None else attempt(function, *arguments)


@contextmanager
def marker(*arguments: Any) -> Iterator[str]:
    """Put a file into each local workspace among the arguments, for `check_marker`; yields its name.

    The name is new each time, so that another machine's folder at the same path does not have it.
    """
    name = f"{MARKER}-{uuid.uuid4().hex}"
    local = [argument for argument in arguments if isinstance(argument, Store) and argument.is_local]
    try:
        for workspace in local:
            workspace.write_bytes(b"", TEMPORARY, name)
        yield name
    finally:
        for workspace in local:
            workspace.delete(TEMPORARY, name)


def check_marker(arguments: Iterable[Any], name: str) -> None:
    """Raises WorkspaceError where this worker's machine does not see the driver's local workspace.

    Else its output would be missing. arguments: of the work, workspaces among them. name: see `marker`.
    """
    for argument in arguments:
        if isinstance(argument, Store):
            argument.check_reached(TEMPORARY, name)
