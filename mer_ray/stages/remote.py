"""Work in other processes: how their errors come back, whether they see the workspace, and single tasks.

Raised in a Ray worker, an error would arrive inside Ray's own traceback, and Tune would repeat what cannot succeed. So
a worker returns what mer-ray raises on purpose as a `RemoteError`, and the driver raises it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from mer_ray import errors
from mer_ray.errors import MerRayError, as_ours
from mer_ray.io.store import MARK, TEMPORARY, Storage
from mer_ray.stages import session

RESTARTS = 3
"""How often a worker of `run_remote` that dies is replaced."""
T = TypeVar("T")


class RemoteError(NamedTuple):
    """A `MerRayError` on its way from a worker to the driver."""

    kind: str
    message: str
    hint: str

    def to_error(self) -> MerRayError:
        """The error, to be raised in the driver."""
        kind: type[MerRayError] = getattr(errors, self.kind)
        return kind(self.message, self.hint)

    def __str__(self) -> str:
        return str(self.to_error())


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, RemoteError | None]:
    """(what ``function(*arguments)`` returns, None), or (None, what it raised on purpose or the system refused)."""
    try:
        return function(*arguments), None
    except (MerRayError, OSError) as error:
        ours = as_ours(error)
        return None, RemoteError(type(ours).__name__, ours.message, ours.hint)


def run_remote(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a worker of the cluster, which has memory for it. Raises what the function raises."""
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
    """The name of a file that is in each local workspace among the arguments meanwhile, for `check_marker`.

    A new name each time: a folder that another machine happens to have at the same path does not have it.
    """
    name = f"{MARK}-{uuid.uuid4().hex}"
    local = [argument for argument in arguments if isinstance(argument, Storage) and argument.is_local]
    try:
        for workspace in local:
            workspace.write_bytes(b"", TEMPORARY, name)
        yield name
    finally:
        for workspace in local:
            workspace.delete(TEMPORARY, name)


def check_marker(arguments: Iterable[Any], name: str) -> None:
    """Called in a worker. Raises WorkspaceError where its machine does not see a workspace among the arguments.

    What it writes there would be missing. name: of the `marker` that the driver has put there.
    """
    for argument in arguments:
        if isinstance(argument, Storage):
            argument.check_reached(TEMPORARY, name)
