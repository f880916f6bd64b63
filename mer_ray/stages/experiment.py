"""Trials through Ray Tune: in a fixed order, as many at a time as fit, with the frames in shared memory."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mer_ray.config import Config
from mer_ray.console import Ticker
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import parts
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace, now
from mer_ray.stages import remote, session, tracking
from mer_ray.training.data import Dataset
from mer_ray.training.trial import Order, Trial

BASE_BYTES = 600 * 2**20
"""Memory of a process with JAX and a compiled network."""
SHARE = 0.4
"""Share of a feature's frames that a trial standardises at a time (validation or test frames)."""
REPORT_S = 1.0
"""Epochs are reported to Tune at most this often: every report is a round trip."""


@dataclass(frozen=True)
class Shared:
    """What all trials of an experiment share.

    Attributes:
        datasets: Feature → a reference to its `Dataset` in Ray's object store; that of a joined feature has no
            frames, which are those of its parts.
        mark: See `remote.marker`.
        threads: Of each process.
        gpus: Of each process.
        about: A line for the model card.
    """

    workspace: Workspace
    mark: str
    threads: int
    gpus: float
    about: str | None
    datasets: dict[str, Any]

    def dataset(self, trial: Trial) -> Dataset:
        """Its arrays are read-only, in memory that all processes of the node share."""
        import ray

        from mer_ray.training.data import with_parts

        dataset: Dataset = ray.get(self.datasets[trial.feature.name])
        if len(own := parts(trial.feature)) > 1:
            dataset = with_parts(dataset, trial.feature, ray.get([self.datasets[part.name] for part in own]))
        dataset = trial.tracks(dataset)
        if trial.settings.get("weigh_labels"):
            return dataset
        return replace(dataset, errors=np.full(dataset.errors.shape, np.nan))


# in the driver -----------------------------------------------------------------------------------------------------


def load_frames(workspace: Workspace, features: dict[str, FeatureSpec], mark: str) -> tuple[dict[str, Any], int]:
    """Each feature's `Dataset` in Ray's object store, read by a worker: (references, bytes of the largest frames).

    The driver holds no frames; each node has one copy, from which all its processes read.
    """
    import ray

    # Without a CPU: if its node is lost, it runs again while trials that wait for the frames hold all CPUs.
    load = ray.remote(num_cpus=0, num_returns=2, max_retries=3, max_calls=1)(_load)
    datasets, n_bytes = dict[str, Any](), dict[str, int]()
    own = {part.name: part for feature in features.values() for part in parts(feature)}
    for name, feature in (own | features).items():  # one after the other: frames are in memory twice as they are read
        needed = BASE_BYTES + (
            2 * workspace.n_bytes(features_table(name)) if name in own else 0
        )  # a small head has less
        load_on = load.options(memory=session.at_most_a_node(needed))
        datasets[name], about = load_on.remote(workspace, feature, name in own, mark)
        n_bytes[name], error = ray.get(about)
        if error is not None:
            raise error.to_error()
    return datasets, max(sum(n_bytes[part.name] for part in parts(feature)) for feature in features.values())


def _load(
    workspace: Workspace, feature: FeatureSpec, with_frames: bool, mark: str
) -> tuple[Any, tuple[int, remote.RemoteError | None]]:
    session.prepare_worker(0)
    from mer_ray.training import data, grouped

    def read() -> Dataset:
        remote.check_marker([workspace], mark)
        return data.load(workspace, feature, grouped.read(workspace).of, with_frames)

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
        tune.with_resources(tune.with_parameters(tune_trial, shared=shared), resources),
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


# in the process of a trial ------------------------------------------------------------------------------------------


def tune_trial(config: dict[str, Any], shared: Shared) -> None:
    """A trial of the experiment. An error of ours is reported, not raised: Tune would try the same again."""
    session.prepare_worker(shared.gpus, shared.threads)
    _share_compilations()
    from ray import tune

    trial: Trial = config["trial"]
    last = time.monotonic()

    def report(values: dict[str, Any], due: bool) -> None:
        nonlocal last
        if due or time.monotonic() - last >= REPORT_S:
            last = time.monotonic()
            tune.report(values)

    def work() -> None:
        session.check_gpu(shared.gpus)
        remote.check_marker([shared.workspace], shared.mark)
        tune.report({"steps_done": trial.steps, **run_trial(trial, shared, report)})

    _, error = remote.attempt(work)
    if error is not None:
        tune.report({"steps_done": 0, "error": str(error)})


def run_trial(trial: Trial, shared: Shared, report: Any) -> dict[str, float]:
    """Do the work of the trial's kind, unless it has been done. Returns figures for the log. report: `work.Report`."""
    from mer_ray.training import work

    own = trial, shared.workspace, shared.dataset(trial)
    if trial.kind == "baselines":
        return work.make_baselines(*own)
    if trial.kind == "assemble":
        from mer_ray.scoring.assembly import assemble

        return assemble(*own, shared.about)
    if trial.kind == "whole":
        return work.fit_whole(*own)
    if trial.kind == "search":
        work.search_settings(*own, report)
        return {}
    return work.train(*own, report)


def train_together(config: dict[str, Any]) -> None:
    """Folds that several processes train together: each calls this."""
    from mer_ray.training import work
    from mer_ray.training.placement import Placement

    shared: Shared = config["shared"]
    remote.check_marker([shared.workspace], shared.mark)
    for trial in config["trials"]:
        place = Placement.everywhere()
        work.train(trial, shared.workspace, shared.dataset(trial), lambda values, due: None, place)


def _share_compilations() -> None:
    """Cache JAX's compilations in Ray's folder of this node, so that each network compiles once for all processes."""
    from ray._private import worker

    node = getattr(worker.global_worker, "node", None)
    if node is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{node.get_session_dir_path()}/mer-ray-jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
