"""One network trained by a group of processes: Ray Train starts them, JAX's distributed runtime connects them.

Not Ray's `JaxTrainer`: on CPUs it never joins its workers (each trains a model of its own), and on GPUs it overrides
the devices that Ray assigned.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from mer_ray.errors import InputError, MerRayError, ServiceError
from mer_ray.io.identity import one_line
from mer_ray.stages import session

MAX_FAILURES = 3
MAX_WAITS = 9
"""How often Ray Train waits again (60 s each) for a cluster to have room for the group."""


def run_group(
    function: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    workers: int,
    cpus: float,
    gpus: float,
    storage: str | dict[str, Any],
    name: str,
    max_failures: int = MAX_FAILURES,
    grows: bool = True,
) -> None:
    """Call ``function(config)`` in each of the workers, inside which `Placement.everywhere` spans them all.

    Ray is connected already. When a worker dies, the whole group starts again.

    Args:
        function: Resumes from what it has saved, since it may be called again.
        config: Its argument.
        workers: Processes of the group.
        cpus: CPUs of each worker.
        gpus: GPUs of each worker, a whole number: NCCL does not join two processes on one GPU.
        storage: Ray Train's folder, or `tracking.storage`.
        name: The sub-folder in it.
        max_failures: How often the group is started again.
        grows: Whether the cluster may still get what it lacks; it has ten minutes for that.

    Raises:
        MerRayError: A worker raised it (it is not retried, but for a ServiceError), or the restarts are used up.
        InputError: For a fraction of a GPU, or more than there are.
    """
    import ray
    from ray import train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    if gpus != int(gpus):
        raise InputError(
            f"train.workers: {workers} processes cannot train on {gpus:g} of a GPU each",
            "set train.gpus_per_trial to 0 or to a whole number: NCCL wants GPUs that it does not share",
        )

    resources = {"CPU": cpus, "GPU": int(gpus)} if gpus else {"CPU": cpus}
    there = ray.cluster_resources()
    for resource, each in resources.items():
        if not grows and workers * each > there.get(resource, 0):
            raise InputError(
                f"train.workers: {workers} processes of {each:g} {resource} each do not fit into the "
                f"{there.get(resource, 0):g} there are",
                "lower train.workers or what each of them gets, or join a larger cluster with --address",
            )

    class Trainer(DataParallelTrainer):  # type: ignore[misc]
        def _register_sigint_handler(self, controller: Any) -> None:
            """Ctrl-C stays the command's own: Ray's handler would outlive the training, and end in exit code 0."""

    class NoRetry(train.UserCallback):  # type: ignore[misc]
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            final = _raised(worker_exceptions)
            if final is not None and not isinstance(final, ServiceError):
                raise final  # an error of the controller is not retried

    trainer = Trainer(
        partial(_member, function, config, gpus, max(1, int(cpus))),
        scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=train.RunConfig(
            name=name,
            **({"storage_path": storage} if isinstance(storage, str) else storage),
            failure_config=train.FailureConfig(max_failures=max_failures, controller_failure_limit=MAX_WAITS),
            callbacks=[NoRetry()],
            logging_config=train.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except train.TrainingFailedError as error:
        raise _cause(error, workers) from error


def _member(function: Callable[[dict[str, Any]], None], config: dict[str, Any], gpus: float, threads: int) -> None:
    """One process of the group."""
    session.prepare_worker(gpus, threads)
    from ray import train
    from ray.train import collective

    from mer_ray.training import placement

    context = train.get_context()
    rank = context.get_world_rank()
    coordinator = collective.broadcast_from_rank_zero(_free_address() if rank == 0 else None)
    placement.initialize(coordinator, context.get_world_size(), rank)
    session.check_gpu(gpus)
    function(config)
    # Not after an error: it waits for the others, which may be waiting for this one.
    placement.shutdown()


def _free_address() -> str:
    """An address of this machine, for the other workers, at a port that is free now."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raised(failures: dict[int, Exception]) -> MerRayError | None:
    """The first error that a worker raised on purpose."""
    return next((failure for failure in failures.values() if isinstance(failure, MerRayError)), None)


def _cause(error: Any, workers: int) -> MerRayError:
    """The cause of a TrainingFailedError of Ray Train: a MerRayError of a worker, or one line with all messages."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    controller = getattr(error, "controller_failure", None)
    raised = _raised(failures) or (controller if isinstance(controller, MerRayError) else None)
    if raised is not None:
        return raised
    messages = [f"worker {rank}: {_message(failure)}" for rank, failure in failures.items()]
    messages = messages or [_message(controller or error)]
    return MerRayError(
        f"the training over {workers} workers failed ({one_line('; '.join(messages))})",
        "Ray's logs have each worker's own; train.workers: 1 trains in one process",
    )


def _message(error: Exception) -> str:
    for wrapped in ("health_check_failure", "cause"):  # a worker that does not respond; an error of Ray's own
        error = getattr(error, wrapped, error)
    return f"{type(error).__name__}: {one_line(str(error), 200)}"
