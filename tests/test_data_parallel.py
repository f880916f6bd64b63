"""A group of training processes on a real local Ray: started, connected, and started again when one is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_ray.errors import InputError, MerRayError
from mer_ray.stages import data_parallel


def test_the_workers_are_one_group_and_start_again_when_one_is_killed(ray_session, tmp_path):
    def add_up(config: dict[str, Any]) -> None:
        """Each worker writes down what it sees; the second one is killed the first time."""
        import jax
        import jax.numpy as jnp

        from mer_ray.training.placement import Placement

        place, rank, folder = Placement.everywhere(), jax.process_index(), Path(config["folder"])
        was_killed = folder / "was_killed"
        first_time = place.agree(float(not was_killed.exists()))
        if first_time and rank == 1:
            was_killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        total = place.local(jax.jit(jnp.sum)(place.batch(np.array([10.0 + rank], np.float32))))
        (folder / f"{rank}.txt").write_text(f"{jax.process_count()} processes, {len(jax.devices())} devices, {total:g}")

    data_parallel.run_group(
        add_up, {"folder": str(tmp_path)}, 2, 1.0, 0.0, str(tmp_path / "tune"), "sum", max_failures=1
    )
    assert (tmp_path / "was_killed").exists()
    for rank in range(2):
        assert (tmp_path / f"{rank}.txt").read_text() == "2 processes, 2 devices, 21"


def test_a_part_of_a_gpu_for_each_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"2 processes cannot train on 0\.5 of a GPU each.*train\.gpus_per_trial"):
        data_parallel.run_group(print, {}, 2, 1.0, 0.5, str(tmp_path), "sum")


def test_more_than_the_machine_has_is_refused_at_once(ray_session, tmp_path):
    with pytest.raises(InputError, match=r"5000 processes of 1 CPU each do not fit into the \d+ there are"):
        data_parallel.run_group(print, {}, 5000, 1.0, 0.0, str(tmp_path), "sum", grows=False)


def test_an_error_of_ours_comes_out_as_it_is():
    from ray import train

    ours = InputError("row 3 is broken", "mend it")
    for failed in (train.WorkerGroupError("…", {0: ValueError("lost a peer"), 1: ours}), train.ControllerError(ours)):
        assert data_parallel._cause(failed, 2) is ours


def test_any_other_error_becomes_one_line():
    from ray import train

    bug = train.WorkerGroupError("…", {1: ValueError("first line\nsecond\tline \x1b[31m")})
    assert str(data_parallel._cause(bug, 2)).startswith(
        "the training over 2 workers failed (worker 1: ValueError: first line second line [31m): "
    )
    for error in (train.ControllerError(RuntimeError("no room")), train.TrainingFailedError("no room")):
        message = data_parallel._cause(error, 2)
        assert type(message) is MerRayError
        assert "no room" in str(message)
