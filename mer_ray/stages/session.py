"""The connection to Ray, made only when a stage has work for it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from mer_ray import child_process, extras, machine, signals
from mer_ray.accelerator import has_gpu
from mer_ray.console import err
from mer_ray.errors import ConfigError, ServiceError
from mer_ray.io import scratch
from mer_ray.io.identity import one_line
from mer_ray.stages.quiet import quiet, replaced

CONNECT_TIMEOUT_S = 5.0
_processes: list[psutil.Process] = []
_owned = False
_single_node = False
"""Ray runs on this machine only: no node will join."""


def connect(address: str | None) -> None:
    """Join the cluster at ``address`` (or in RAY_ADDRESS), else start Ray on this machine. Once per process."""
    global _owned, _single_node
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")  # mer-ray shows its own progress, and repeats blocks
    # A task whose worker is killed for want of memory would be tried again for ever.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    import ray

    if ray.is_initialized():
        return
    # A cluster that runs on this machine may be somebody else's: join only the requested one.
    where = _address(address) or "local"
    err.print(f"[dim]Ray: {'starting on this machine' if where == 'local' else 'joining ' + one_line(where)}[/dim]")
    if where == "local":
        # Relative to the user's own; Ray's default is 15.
        os.environ.setdefault("RAY_worker_niceness", str(machine.added_niceness()))
    else:
        check_reachable(where)
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {}
    if where == "local":
        options = {"include_dashboard": False, "num_cpus": machine.local_workers()}
    before = set(psutil.Process().children())
    _owned, _single_node = True, where == "local"
    try:
        with _own_handlers(), quiet():
            ray.init(address=where, job_config=_job(where), log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(where, error) from error
    finally:
        _processes[:] = set(psutil.Process().children()) - before
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # the newer reader fuses a source with the map that follows it


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep the SIGTERM handler of `ending`: Ray's handlers leave processes behind, or print a C++ stack."""
    from ray._private import utils

    if not signals.armed():
        yield
        return
    try:
        with replaced(utils, "set_sigterm_handler", lambda handler: None):
            yield
    finally:
        signals.rearm()


def _job(where: str) -> Any:
    """Ray's settings for this job: its workers import nothing from the current folder.

    Ray would put that folder, and the script's, first on their ``sys.path``, unless the job has a working folder.
    """
    from ray.job_config import JobConfig

    class Job(JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    # Ray's client adds no folder, and cannot send this class.
    return None if child_process.from_here() or where.startswith("ray://") else Job()


def check_reachable(address: str) -> None:
    """Raises ServiceError unless somebody listens at host:port: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return  # "auto", or another scheme
    try:
        if int(port) > 65_535:  # the C resolver would take it modulo 2^16
            raise OverflowError("ports end at 65535")
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"cannot join Ray at {one_line(address)} ({one_line(str(error), 200)})",
        "check --address and RAY_ADDRESS, or leave them out to run on this machine",
    )


def _address(address: str | None) -> str | None:
    """The requested cluster: ``--address`` or RAY_ADDRESS."""
    return address or os.environ.get("RAY_ADDRESS") or None


def runs_locally(address: str | None, small: bool = True, gpus: float = 0.0) -> bool:
    """Whether work is done in this process: no cluster is requested, and Ray's workers would take longer to start.

    Args:
        address: ``--address``.
        small: Whether the work takes less time than a start of Ray's workers.
        gpus: GPUs of a worker; this process uses none.
    """
    return not _address(address) and small and not gpus


def has_ray() -> bool:
    """Whether Ray is installed (the extra cluster)."""
    return extras.is_installed("ray")


def small(most: float) -> float:
    """How much work this process does sooner than others would start. most: the same if they are Ray's.

    Those of a pool start in a few seconds, which is a tenth of the time.
    """
    return most if has_ray() else most / 10


def close() -> None:
    """Leave the cluster, or end the one that `connect` started."""
    global _owned, _single_node
    if _owned and not signals.stopping():  # then `ending` does it: a shutdown would abort what of Ray still works
        import ray

        left = _all_processes()
        try:
            ray.shutdown()
        finally:
            _end_processes(left)
            signals.rearm()
            _owned = _single_node = False
            scratch.sweep()  # workers are killed, not ended


def _all_processes() -> list[psutil.Process]:
    """The processes of the Ray that `connect` started on this machine, and their descendants."""
    found = []
    for process in _processes:
        with suppress(psutil.Error):
            found += [process, *process.children(recursive=True)]
    return found


def _end_processes(left: Iterable[psutil.Process]) -> None:
    """End Ray's remaining processes. On a busy machine, Ray kills its raylet before that has ended its children."""
    for process in left:
        with suppress(psutil.Error):
            process.kill()


signals.at_worst.append(lambda: _end_processes(_all_processes()))


def n_cpus() -> int:
    """CPUs of the cluster, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def at_most_a_node(n_bytes: float) -> int:
    """So many bytes, or what the largest machine has: a request for more would wait for ever. Ray is connected."""
    import ray

    return int(min(n_bytes, max(n["Resources"].get("memory", 0) for n in ray.nodes() if n["Alive"])))


def prepare_worker(gpus: float, threads: int = 1) -> None:
    """Called first in a worker: it sweeps temporary folders; numeric libraries get so many threads, and no GPU unless
    Ray gave one.

    The latter has an effect only before those libraries are imported, and none in the user's own process.
    """
    scratch.sweep()
    ray = sys.modules.get("ray")  # a worker has imported it; else an import would take a second
    if not ray or not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"):
        os.environ[variable] = str(threads)
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    # JAX would otherwise take three quarters of a GPU that it shares.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"


def may_grow() -> bool:
    """Whether nodes may still join the Ray that is connected: an autoscaler's, or late ones."""
    return not _single_node


def check_fits(gpus: float, processes: int = 1, cpus: float = 1.0) -> None:
    """Raises ConfigError where the machine lacks the GPUs or CPUs that work needs, which would wait for ever.

    Ray is connected. On a cluster that may grow, a line says that the work waits.

    Args:
        gpus: Of each process.
        processes: How many have to run at the same time.
        cpus: Of each process.
    """
    import ray

    if _single_node and cpus > n_cpus():
        raise ConfigError(
            f"train.cpus_per_trial is {cpus:g}, and Ray has {n_cpus()} CPUs on this machine",
            "lower it, or raise --cpu-share",
        )

    there = ray.cluster_resources().get("GPU", 0)
    if gpus * processes <= there:
        return
    if may_grow():
        needed = f"{gpus * processes:g} GPUs are needed and the cluster has {there:g}"
        err.print(f"[dim]Ray: {needed}; waiting for more[/dim]")
        return
    together = f" ({processes} of them together)" if processes > 1 else ""
    raise ConfigError(
        f"{gpus:g} of a GPU was asked for each process{together}, and Ray finds {there:g} on this machine",
        "lower train.workers, set train.gpus_per_trial, extract.gpus_per_worker and score.gpus_per_worker to 0, or "
        "join a cluster with --address",
    )


def check_gpu(gpus: float) -> None:
    """Raises ConfigError where Ray gave this process (a part of) a GPU and JAX has none.

    Else it would silently train on the CPU, for days. Starts JAX, so processes that train together must join before.
    """
    if gpus and not has_gpu():
        raise ConfigError(
            f"{socket.gethostname()} has a GPU for Ray ({gpus:g} of one for each process), and none for JAX",
            "install mer-ray[cuda] on that node and see that its driver is found (LD_LIBRARY_PATH, JAX_PLATFORMS), or "
            "do without: train.gpus_per_trial=0, extract.gpus_per_worker=0, score.gpus_per_worker=0",
        )
