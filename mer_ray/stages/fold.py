"""The work of a trial, in a process of its own: in most cases to train and evaluate the networks of one fold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mer_ray.config import SearchConfig
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.stages import assembly, remote, session
from mer_ray.stages.trial import Shared, Trial

if TYPE_CHECKING:
    from mer_ray.training.data import Dataset

REPORT_S = 1.0
"""Epochs are reported to Tune at most this often: every report is a round trip."""
Report = Callable[[dict[str, Any], bool], None]
"""Called with values, and whether they must be reported even within `REPORT_S` of the last report."""


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
        tune.report({"steps_done": trial.steps, **run(trial, shared, report)})

    _, error = remote.attempt(work)
    if error is not None:
        tune.report({"steps_done": 0, "error": str(error)})


def train_together(config: dict[str, Any]) -> None:
    """Folds that several processes train together: each calls this."""
    from mer_ray.training.placement import Placement

    shared: Shared = config["shared"]
    remote.check_marker([shared.workspace], shared.mark)
    for trial in config["trials"]:
        train(trial, shared, lambda values, due: None, Placement.everywhere())


def run(trial: Trial, shared: Shared, report: Report) -> dict[str, float]:
    """Do the work of the trial's kind, unless it has been done. Returns figures for the log."""
    if trial.kind == "baselines":
        return baselines(trial, shared)
    if trial.kind == "assemble":
        return assembly.assemble(trial, shared)
    if trial.kind == "whole":
        return solve(trial, shared)
    if trial.kind == "search":
        search(trial, shared, shared.dataset(trial), report)
        return {}
    return train(trial, shared, report)


def train(trial: Trial, shared: Shared, report: Report, placement: Any = None) -> dict[str, float]:
    """Train the networks of a fold, resuming from checkpoints, and save its predictions."""
    from mer_ray.training.crossval import train_fold

    checkpoints, plan = trial.checkpoints(shared.workspace), trial.plan
    # A member that was damaged may have been removed since, as its error advises.
    members = (checkpoints.member(part.number) for part in plan)
    finished = checkpoints.read(trial.result) is not None and all(member is not None for member in members)
    if placement is not None:
        placement.check_same(float(finished), f"{trial.name} finished:")
    if finished:
        return {}
    dataset = shared.dataset(trial)
    choices = search(trial, shared, dataset, report) if trial.searched else []
    done = trial.search_steps - 1

    def on_epoch(number: int, epoch: int, train: float, valid: float) -> None:
        nonlocal done
        so_far = trial.search_steps + number - plan[0].number
        due, done = so_far > done, max(done, so_far)
        report({"steps_done": so_far, "epoch": epoch, "train_loss": train, "valid_loss": valid}, due)

    result = train_fold(
        lambda part: trial.recipe(part, choices),
        dataset,
        trial.partitions(dataset)[trial.repeat],
        plan,
        on_epoch,
        checkpoints,
        placement,
    )
    if placement is None or placement.is_first:
        checkpoints.write(trial.result, [result.predicted], {"choices": choices})
    return {}


def search(trial: Trial, shared: Shared, dataset: Dataset, report: Report) -> list[dict[str, Any]]:
    """Choose the settings of the fold: a row for each of its studies, see `training.search.choose`."""
    from mer_ray.training import search

    own = trial.settings
    fixed = [name for name in search.SPACE if name not in trial.searched]
    choices: list[dict[str, Any]] = []

    def on_epoch(number: int, epoch: int, train: float, valid: float) -> None:
        so_far = len(choices) * own["search"]["trials"] + number
        values = {"epoch": epoch, "train_loss": train, "valid_loss": valid}
        report({"steps_done": so_far, "search_trial": number, **values}, epoch == 0)

    for part in trial.plan:
        slot = search.Slot(part.repeat, part.fold, part.target)
        if part.member == 0:
            choices.append(
                search.choose(
                    slot,
                    replace(trial.recipe(part), target=part.target),
                    search.space(str(trial.network), fixed),
                    SearchConfig(**own["search"]),
                    own["seed"],
                    dataset,
                    trial.partitions(dataset)[trial.repeat],
                    trial.checkpoints(shared.workspace),
                    on_epoch,
                )
            )
    return choices


def solve(trial: Trial, shared: Shared) -> dict[str, float]:
    """Fit a closed-form model on all tracks."""
    from mer_ray.training.crossval import whole

    checkpoints, plan = trial.checkpoints(shared.workspace), trial.full_plan
    if checkpoints.member(len(plan)) is None:
        member = whole(trial.recipe(plan[0]), shared.dataset(trial), trial.settings["seed"])
        checkpoints.write_member(len(plan), member)
    return {}


def baselines(trial: Trial, shared: Shared) -> dict[str, float]:
    """Ridge and SVR on a feature's pooled statistics, and the leakage that a split by tracks would have."""
    from mer_ray.training import baselines as base
    from mer_ray.training import grouped

    own, d, groups = trial.settings, shared.dataset(trial), grouped.read(shared.workspace)
    made = base.evaluate(d.frames, d.labels, d.groups, own["folds"], own["repeats"], own["seed"])
    rows = base.rows(made, d.labels, d.ids, d.artists, d.titles, d.groups)
    duplicates = groups.within(d.ids)
    feature = trial.feature
    leak = made.leakage.to_json(feature.name, feature.fingerprint, trial.data, d.ids, d.artists, duplicates)
    about = {"notes": [*groups.about, *made.notes], "made_for": trial.key}
    base.write(shared.workspace, feature.name, rows, {**leak, **about})
    return {f"r2_{name}": float(made.leakage.grouped_r2[i]) for i, name in enumerate(DIMENSIONS)}


def _share_compilations() -> None:
    """Cache JAX's compilations in Ray's folder of this node, so that each network compiles once for all processes."""
    from ray._private import worker

    node = getattr(worker.global_worker, "node", None)
    if node is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{node.get_session_dir_path()}/mer-ray-jax")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
