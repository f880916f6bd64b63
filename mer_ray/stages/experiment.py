"""Trials through Ray Tune: in a fixed order, as many at a time as fit, with the frames in shared memory."""

from __future__ import annotations

import logging
import os
from typing import Any

from mer_ray.config import Config
from mer_ray.console import Ticker
from mer_ray.features import FeatureSpec
from mer_ray.io.identity import one_line
from mer_ray.io.tables import Workspace, now
from mer_ray.stages import remote, session, tracking
from mer_ray.stages.trial import Shared, Trial

RESTARTS = 3
"""How often a trial whose process died is started again; it continues from its checkpoints."""
BASE_BYTES = 600 * 2**20
"""Memory of a process with JAX and a compiled network."""
SHARE = 0.4
"""Share of a feature's frames that a trial standardises at a time (validation or test frames)."""


def load_frames(workspace: Workspace, features: dict[str, FeatureSpec], mark: str) -> tuple[dict[str, Any], int]:
    """Each feature's `Dataset` in Ray's object store, read by a worker: (references, bytes of the largest frames).

    The driver holds no frames; each node has one copy, from which all its processes read.
    """
    import ray

    load = ray.remote(num_cpus=1, num_returns=2, max_retries=3, max_calls=1)(_load)
    datasets, largest = {}, 0
    for name, feature in features.items():  # one after the other: frames are in memory twice while they are read
        datasets[name], about = load.remote(workspace, feature, mark)
        n_bytes, error = ray.get(about)
        if error is not None:
            raise error.to_error()
        largest = max(largest, n_bytes)
    return datasets, largest


def _load(workspace: Workspace, feature: FeatureSpec, mark: str) -> tuple[Any, tuple[int, remote.RemoteError | None]]:
    session.prepare_worker(0)
    from mer_ray.training import data, grouped

    def read() -> data.Dataset:
        remote.check_marker([workspace], mark)
        return data.load(workspace, feature, grouped.read(workspace).of)

    dataset, error = remote.attempt(read)
    return dataset, (sum(track.nbytes for track in dataset.frames) if dataset else 0, error)


def memory(frames_bytes: int, gpus: float) -> int:
    """Bytes that a trial requests from Ray: for its process and standardised frames; with a GPU, for all frames once.

    Ray counts the object store, where the raw frames are, separately. At most what the largest node has.
    """
    return session.at_most_a_node(BASE_BYTES + (SHARE + (1 if gpus else 0)) * frames_bytes)


def run(config: Config, trials: list[Trial], shared: Shared, frames_bytes: int, ticker: Ticker) -> dict[str, str]:
    """Run the trials; the error messages of the runs that failed, by name."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command, not only Tune
    # As many trials may wait for room as Tune lets wait in a grid.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(max(200, session.n_cpus())))
    from ray import tune

    from mer_ray.stages import fold

    # Tune would print the traceback of every process that died, though its trial is started again.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    class Progress(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.done: dict[str, int] = {}
            self.trials: list[Any] = []

        def __reduce__(self) -> Any:
            return object, ()  # Tune pickles its tuner, which nothing reads; a progress bar cannot be pickled

        def on_experiment_end(self, trials: Any, **info: Any) -> None:
            self.trials = list(trials)

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            own: Trial = trial.config["trial"]
            before = self.done.get(own.name, 0)
            if result.get("steps_done", 0) > before:
                self.done[own.name] = result["steps_done"]
                ticker.advance(result["steps_done"] - before, own.run)

    train = config.train
    resources = {"cpu": train.cpus_per_trial, "gpu": train.gpus_per_trial}
    resources["memory"] = memory(frames_bytes, train.gpus_per_trial)
    name = f"train-{now():%Y%m%d-%H%M%S}"
    seen = Progress()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(fold.tune_trial, shared=shared), resources),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until `Order` has no more
            search_alg=_in_order(trials),
            trial_dirname_creator=_folder,
            trial_name_creator=_folder,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            **tracking.storage(shared.workspace),
            verbose=0,
            callbacks=[seen, *tracking.callbacks(train.mlflow, name)],
        ),
    )
    results = tuner.fit()
    made, errors = set(), {}
    for of_tune, result in zip(seen.trials, results, strict=True):
        trial: Trial = of_tune.config["trial"]
        if result.error is not None:
            errors[trial.name] = trial.run, one_line(str(result.error).strip().splitlines()[-1])
        elif result.metrics and result.metrics.get("error"):
            errors[trial.name] = trial.run, result.metrics["error"]
        else:
            made.add(trial.name)
    return dict(reversed([error for name, error in errors.items() if name not in made]))  # a run's first error


class Order:
    """Which trial comes next: a run is assembled when its other trials are done, and dropped when one has failed.

    A trial whose process died is repeated, `RESTARTS` times at most. (Tune's own restarts fail immediately if the
    process dies while it is passed from one trial to the next: Ray 2.60.)
    """

    def __init__(self, trials: list[Trial]) -> None:
        self.waiting, self.running = list(trials), dict[str, Trial]()
        self.deaths: dict[str, int] = {}

    def next(self, trial_id: str) -> Trial | None:
        """The trial to run under Tune's ``trial_id``; None where others have to end first."""
        for index, trial in enumerate(self.waiting):
            others = [*self.running.values(), *self.waiting[:index]]
            if trial.kind != "assemble" or all(other.run != trial.run for other in others):
                self.running[trial_id] = self.waiting.pop(index)
                return trial
        return None

    def end(self, trial_id: str, failed: bool, died: bool) -> None:
        """Record that a trial has ended. failed: with an error that a retry would repeat. died: its process died."""
        trial = self.running.pop(trial_id, None)
        if trial is None:  # Tune reports a process that dies between two trials twice
            return
        self.deaths[trial.name] = deaths = self.deaths.get(trial.name, 0) + died
        if died and deaths <= RESTARTS:
            self.waiting.insert(0, trial)
        elif failed or died:
            self.waiting = [t for t in self.waiting if t.run != trial.run]

    @property
    def is_empty(self) -> bool:
        """Whether no trial waits, and none that runs can be repeated."""
        return not self.waiting and not self.running


def _in_order(trials: list[Trial]) -> Any:
    """`Order` as a searcher of Tune."""
    from ray.tune.search import Searcher

    class InOrder(Searcher):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(metric="steps_done", mode="max")
            self.order = Order(trials)

        def suggest(self, trial_id: str) -> Any:
            trial = self.order.next(trial_id)
            if trial is None:
                return Searcher.FINISHED if self.order.is_empty else None
            return {"trial": trial, "settings": trial.settings}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            self.order.end(trial_id, failed=bool((result or {}).get("error")), died=error)

        def save(self, checkpoint_path: str) -> None:
            """Does nothing: a killed experiment continues from the workspace."""

        def __reduce__(self) -> Any:
            return object, ()

    return InOrder()


def _folder(trial: Any) -> str:
    return f"{trial.config['trial'].name}-{trial.trial_id[-5:]}"
