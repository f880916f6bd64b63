"""``features`` and ``labels`` → ``runs/NETWORK-FEATURE``: every fold is a trial of one Ray Tune experiment."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from mer_ray import extras
from mer_ray.config import Config
from mer_ray.console import Summary, Ticker, progress
from mer_ray.errors import MerRayError
from mer_ray.features import FeatureSpec
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.stages import counters, experiment, extract, remote, session, tracking, workspace_source
from mer_ray.stages.experiment import Shared
from mer_ray.training.trial import Trial

PACKAGES = ("jax", "flax", "optax", "optuna", "sklearn", "scipy", "tensorboardX", "ray")
"""What no training does without."""


def run(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec] | None = None) -> Summary:
    """Train the networks that the workspace lacks on each of ``train.inputs``, in parallel."""
    started = time.monotonic()
    extras.require("train", *PACKAGES)
    config = workspace_source.adopt(config, workspace)
    specs = specs or extract.check(config)
    summary = Summary("train", unit="models")
    # The plan reads all frames to find near-duplicates: on a cluster, a worker does that.
    if session.runs_locally(config.address):
        trials = _plan(config, workspace, specs, summary)
    else:
        session.connect(config.address)
        trials, summary = remote.run_remote(_planned, config, workspace, specs, summary)
    if trials:
        session.connect(config.address)
        tracking.keep_keys_home()
        session.check_fits(config.train.gpus_per_trial, config.train.workers, config.train.cpus_per_trial)
        with remote.marker(workspace) as mark, progress("train", sum(t.steps for t in trials)) as ticker:
            errors = _train(config, workspace, trials, mark, ticker)
        workspace.append_rows("failures", [failure("train", name, "trial_failed", e) for name, e in errors.items()])
        runs = {t.run: t.network for t in trials}
        made = [name for name in runs if name not in errors]
        summary.made = sum(runs[name] is not None for name in made)
        summary.failed = len(errors)
        counters.count("train", models=summary.made, failed=["trial_failed"] * len(errors))
        if not made:
            raise MerRayError(
                f"all {len(runs)} trainings failed ({next(iter(errors.values()))})",
                "the trials' folders under tune/ have their logs",
            )
        from mer_ray.scoring.assembly import write_cards

        write_cards(workspace)
    summary.seconds = time.monotonic() - started
    return summary


def _planned(*arguments: Any) -> tuple[list[Trial], Summary]:
    """`_plan` for another process: it also returns the changed summary."""
    return _plan(*arguments), arguments[-1]


def _plan(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec], summary: Summary) -> list[Trial]:
    from mer_ray.scoring import unfinished

    found = unfinished.trials(config.train, workspace, specs)
    summary.notes += found.notes
    summary.done_before = found.finished
    return found.trials


def _train(config: Config, workspace: Workspace, trials: list[Trial], mark: str, ticker: Ticker) -> dict[str, str]:
    """Run the trials; the error messages of the runs that failed, by name."""
    from mer_ray import models

    train = config.train
    datasets, n_bytes = experiment.load_frames(workspace, {t.feature.name: t.feature for t in trials}, mark)
    threads = max(1, int(train.cpus_per_trial))
    shared = Shared(workspace, mark, threads, train.gpus_per_trial, train.about, datasets)
    together: list[Trial] = []
    if train.workers > 1:
        together = [t for t in trials if t.kind == "fold" and models.is_network(str(t.network))]
    # Each trial of a search trains in one process, not in a group.
    searches = [replace(t, kind="search") for t in together if t.searched]
    errors = experiment.run(config, searches, shared, n_bytes, ticker) if searches else {}
    for name in dict.fromkeys(t.run for t in together):
        folds = [t for t in together if t.run == name]
        if name not in errors:
            errors |= _train_together(config, name, folds, shared)
            ticker.advance(sum(len(t.plan) for t in folds), name)
    rest = [t for t in trials if t not in together and t.run not in errors]
    return errors | (experiment.run(config, rest, shared, n_bytes, ticker) if rest else {})


def _train_together(config: Config, name: str, folds: list[Trial], shared: Shared) -> dict[str, str]:
    """Train the folds of a run, one after the other, each by ``train.workers`` processes."""
    from mer_ray.stages.data_parallel import run_group

    train = config.train
    try:
        run_group(
            experiment.train_together,
            {"trials": folds, "shared": shared},
            train.workers,
            train.cpus_per_trial,
            train.gpus_per_trial,
            tracking.storage(shared.workspace),
            f"{name}-{now():%Y%m%d-%H%M%S}",
            grows=session.may_grow(),
        )
    except MerRayError as error:
        return {name: str(error)}
    return {}
