"""How much of this machine a command takes: a share of its CPUs, and at which priority (niceness) long work runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
"""Environment variables with the number of threads of numeric libraries."""
HIGHEST = 19
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass
class _Taken:
    """share: of the CPUs. nice: of long work; 0 outside of a command, for a library leaves its user's process alone."""

    share: float = 1.0
    nice: int = 0


_taken = _Taken()


@cache
def cpus() -> int:
    """CPUs that this process could use at the first call: of its affinity and its container's quota, at least 1."""
    found = os.cpu_count() or 1
    with suppress(AttributeError, psutil.Error):  # macOS has no affinity
        found = len(psutil.Process().cpu_affinity())
    with suppress(OSError, ValueError):
        quota, period = _QUOTA.read_text("ascii").split()
        found = min(found, math.ceil(int(quota) / int(period)))
    return max(1, found)


def local_workers(share: float | None = None) -> int:
    """How many processes may work on this machine: a share of `cpus`, rounded, at least 1.

    share: 0..1; by default that of the command (`taking`).
    """
    return max(1, round((_taken.share if share is None else share) * cpus()))


def niceness() -> int:
    """The niceness of long work, 0..19: see `taking`. To be sent to processes that are started for it."""
    return _taken.nice


def added_niceness() -> int:
    """By how much the niceness of workers for long work is above that of this process: see `taking`."""
    return max(0, _taken.nice - int(psutil.Process().nice())) if hasattr(os, "nice") else 0


def make_nice(n: int | None = None) -> None:
    """Let this process have a niceness of n at least; on Windows, for n > 0, a priority below the normal one.

    Called in processes that are started for long work. n: 0..19; by default that of the command (`taking`).
    """
    wanted, own = _taken.nice if n is None else n, psutil.Process()
    if hasattr(os, "nice"):
        os.nice(max(0, min(wanted, HIGHEST) - int(own.nice())))
    elif wanted > 0:
        own.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)


@contextmanager
def taking(share: float = 1.0, nice: int = 0) -> Iterator[None]:
    """Within this context, work on this machine takes a share of the CPUs, and long work has a niceness.

    For a share, this process and those that it starts are bound to so many CPUs, the idlest ones, where the system can
    do that, and the threads of numeric libraries are as many. That lasts: a command ends with its process.
    """
    before = _taken.share, _taken.nice
    _taken.share, _taken.nice = share, nice
    try:
        if local_workers() < cpus():
            _bind(local_workers())
        yield
    finally:
        _taken.share, _taken.nice = before


def _bind(n: int) -> None:
    """Bind this process, and those that it starts, to n CPUs."""
    for variable in THREADS:
        os.environ[variable] = str(min(n, _number(os.environ.get(variable), n)))
    if hasattr(os, "sched_setaffinity"):
        chosen = _idlest(n)
        for thread in psutil.Process().threads():  # those that a library has started already, too
            with suppress(OSError):
                os.sched_setaffinity(thread.id, chosen)
    else:
        with suppress(AttributeError, psutil.Error):
            psutil.Process().cpu_affinity(_idlest(n))
    from threadpoolctl import threadpool_info, threadpool_limits

    threadpool_limits({used["prefix"]: min(n, used["num_threads"]) for used in threadpool_info()})  # the loaded ones


def _idlest(n: int) -> list[int]:
    """The n CPUs, of those that this process may use, that had the least to do in the last tenth of a second."""
    busy = psutil.cpu_percent(interval=0.1, percpu=True)
    own = psutil.Process().cpu_affinity()
    return sorted(sorted(own, key=lambda i: (busy[i] if i < len(busy) else 0.0, i))[:n])


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdigit() else otherwise
