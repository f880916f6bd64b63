"""Placement of batches and networks: on one device, or on all devices of all processes that train one network.

Data-parallel training by GSPMD (Xu et al. 2021, arXiv:2105.04663): the state is replicated, the batch is split
over the devices, and a jitted step whose loss is a mean over the batch gets its gradient's all-reduce from the
compiler. The step is the same for one device and for many, and so is its result, dropout included
(`jax_threefry_partitionable`, on by default), up to the order in which floats are added.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mer_ray.errors import InputError, ServiceError
from mer_ray.io.identity import one_line

TIMEOUT_S = 120.0
SPLIT = PartitionSpec("data")  # type: ignore[no-untyped-call]
WHOLE = PartitionSpec()  # type: ignore[no-untyped-call]
KNOCK_S = 0.2


@dataclass(frozen=True)
class Placement:
    """Devices on which one network is trained. Without a mesh: JAX's default device, and arrays pass through.

    With one, every process has to make the same calls in the same order: most of them wait for the other processes.
    """

    mesh: Mesh | None = None

    @classmethod
    def single(cls) -> Placement:
        """One device."""
        return cls()

    @classmethod
    def everywhere(cls) -> Placement:
        """All devices of all processes of the group that `initialize` joined (of this process where there is none)."""
        return cls(Mesh(sorted(jax.devices(), key=lambda d: (d.process_index, d.id)), ("data",)))

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.mesh is None or jax.process_index() == 0

    def rows(self, n: int) -> slice:
        """The rows of a global batch of n that this process passes to `batch`.

        Raises InputError where n rows do not divide among the devices.
        """
        if self.mesh is None:
            return slice(0, n)
        share, rest = divmod(n, self.mesh.size)
        if rest or not share:
            raise InputError(
                f"a batch of {n} tracks does not divide among {self.mesh.size} devices",
                "make train.batch_size a multiple of train.workers (times the GPUs of each)",
            )
        mine = [i for i, d in enumerate(self.mesh.devices.flat) if d.process_index == jax.process_index()]
        return slice(mine[0] * share, (mine[-1] + 1) * share)

    def batch(self, local: np.ndarray) -> Any:
        """This process's `rows` (b, ...) → the global batch (B, ...), its rows split over the devices."""
        if self.mesh is None:
            return local
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, SPLIT), local)  # type: ignore[no-untyped-call]

    def replicate(self, tree: Any) -> Any:
        """The first process's arrays on every device: numbers or `jax.random` keys, of the same shapes in each process.

        Each process's own may differ in a bit, as weights from the same seed do on two kinds of CPU.
        """
        return tree if self.mesh is None else jax.tree.map(self._from_first, tree)

    def local(self, tree: Any) -> Any:
        """Replicated arrays → this process's copy, on one device, for work without the other processes."""
        return tree if self.mesh is None else jax.tree.map(_own_copy, tree)

    def agree(self, value: float) -> float:
        """The first process's value, bit for bit, for decisions (to stop, to resume) that all must share."""
        if self.mesh is None:
            return value
        bits = self.local(self.replicate(np.array([value], np.float64).view(np.uint32)))
        return float(np.asarray(bits).view(np.float64)[0])

    def check_same(self, value: float, what: str) -> None:
        """Raises ServiceError, after which all start again, where the first process has another value."""
        first = self.agree(value)
        if first != value:
            raise ServiceError(
                f"process {jax.process_index()} of the group found {what} {value:g}, and the first one {first:g}",
                "their folder shows them different files, perhaps for a moment: run the command again",
            )

    def _from_first(self, x: Any) -> jax.Array:
        assert self.mesh is not None
        placed: jax.Array
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            placed = jax.random.wrap_key_data(self._from_first(jax.random.key_data(x)), impl=jax.random.key_impl(x))
            return placed
        value = np.asarray(x)
        rows = np.zeros((self.mesh.local_mesh.size, *value.shape), value.dtype)
        if self.is_first:
            rows[0] = value
        # The sum of the first process's values and everybody else's zeros.
        placed = jax.jit(_sum, out_shardings=NamedSharding(self.mesh, WHOLE))(self.batch(rows))
        return placed


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=0, dtype=x.dtype)


def _own_copy(x: jax.Array) -> jax.Array:
    if not x.is_fully_replicated:
        raise ValueError(f"an array of shape {x.shape} is split over devices: none has all of it")
    copy: jax.Array = x.addressable_data(0)
    return copy


def initialize(coordinator: str, processes: int, rank: int, timeout_s: float = TIMEOUT_S) -> None:
    """Join the group of processes that train one network, before JAX has computed anything in this one.

    CPUs communicate by Gloo (JAX's default), GPUs by NCCL. On CPUs each machine's host name must resolve to an address
    that the others can connect to.

    Args:
        coordinator: host:port, free, where process 0 will listen.
        processes: Their number.
        rank: 0..processes-1.
        timeout_s: For the coordinator and the other processes.

    Raises:
        ServiceError: The coordinator does not respond in time.
    """
    if rank:
        # At its own time-out, JAX ends the process without an exception.
        _wait_for(coordinator, timeout_s)
    # JAX's preemption service would replace the process's SIGTERM handler.
    jax.config.update("jax_enable_preemption_service", False)  # type: ignore[no-untyped-call]
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            rank,
            cluster_detection_method="deactivate",  # Slurm's or MPI's variables describe another group
            initialization_timeout=max(1, round(timeout_s)),
            coordinator_bind_address=coordinator,  # not every interface of the machine
        )
        jax.devices()  # the processes exchange their devices
    except RuntimeError as error:
        raise ServiceError(
            f"process {rank} of {processes} could not join the others at {coordinator} ({one_line(str(error), 200)})",
            "the logs of the other processes may say more",
        ) from error


def shutdown() -> None:
    """Leave the group. Waits for all processes, so it must not be called after an error."""
    jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def _wait_for(address: str, timeout_s: float) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ServiceError(
                    f"the first of the processes that train together did not answer at {address} in {timeout_s:g} s "
                    f"({one_line(str(error), 200)})",
                    "each machine has to reach the others: check the firewall between them",
                ) from error
        time.sleep(KNOCK_S)
