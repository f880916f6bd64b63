"""The work of a trial: in most cases to train and evaluate the networks of one fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mer_ray.config import SearchConfig
from mer_ray.evaluation import protocol
from mer_ray.evaluation.metrics import metrics
from mer_ray.io.tables import Workspace
from mer_ray.training import baselines, crossval, grouped, source_bias
from mer_ray.training.data import Dataset
from mer_ray.training.placement import Placement
from mer_ray.training.trial import Trial

Report = Callable[[dict[str, Any], bool], None]
"""Called with values, and whether they must be reported however short ago the last report was."""


def train(
    trial: Trial, workspace: Workspace, dataset: Dataset, report: Report, placement: Placement | None = None
) -> dict[str, float]:
    """Train the networks of a fold, resuming from checkpoints, and save its predictions; nothing if that is done."""
    checkpoints, plan = trial.checkpoints(workspace), trial.plan
    # A member that was damaged may have been removed since, as its error advises.
    members = (checkpoints.member(part.number) for part in plan)
    finished = checkpoints.read(trial.result) is not None and all(member is not None for member in members)
    if placement is not None:
        placement.check_same(float(finished), f"{trial.name} finished:")
    if finished:
        return {}
    choices = search_settings(trial, workspace, dataset, report) if trial.searched else []
    done = trial.search_steps - 1

    def on_epoch(number: int, epoch: int, train: float, valid: float) -> None:
        nonlocal done
        so_far = trial.search_steps + number - plan[0].number
        due, done = so_far > done, max(done, so_far)
        report({"steps_done": so_far, "epoch": epoch, "train_loss": train, "valid_loss": valid}, due)

    fold = trial.partitions(dataset)[trial.repeat]
    data = pooled(trial, dataset, fold != trial.fold)
    result = crossval.train_fold(
        lambda part: trial.recipe(part, choices), data, fold, plan, on_epoch, checkpoints, placement
    )
    if placement is None or placement.is_first:
        checkpoints.write(trial.result, [result.predicted, *result.curves], {"choices": choices})
    return {}


def search_settings(trial: Trial, workspace: Workspace, dataset: Dataset, report: Report) -> list[dict[str, Any]]:
    """Choose the settings of the fold: a row for each of its studies, see `search.choose`."""
    from mer_ray.training import search

    own = trial.settings
    space = search.space(str(trial.network), [name for name in search.SPACE if name not in trial.searched])
    choices: list[dict[str, Any]] = []

    def on_epoch(number: int, epoch: int, train: float, valid: float) -> None:
        so_far = len(choices) * own["search"]["trials"] + number
        values = {"epoch": epoch, "train_loss": train, "valid_loss": valid}
        report({"steps_done": so_far, "search_trial": number, **values}, epoch == 0)

    fold, checkpoints = trial.partitions(dataset)[trial.repeat], trial.checkpoints(workspace)
    dataset = pooled(trial, dataset, fold != trial.fold)
    for part in trial.plan:
        if part.member == 0:
            slot = search.Slot(part.repeat, part.fold, part.target, tuple(own.get("seeds", ())))
            recipe, config = replace(trial.recipe(part), target=part.target), SearchConfig(**own["search"])
            choices.append(
                search.choose(slot, recipe, space, config, own["seed"], dataset, fold, checkpoints, on_epoch)
            )
    return choices


def pooled(trial: Trial, dataset: Dataset, training: np.ndarray) -> Dataset:
    """The tracks with the labels that the trial learns. training: mask (N,) of those that it may see."""
    return source_bias.without(dataset, training) if trial.settings.get("source_bias") else dataset


def fit_whole(trial: Trial, workspace: Workspace, dataset: Dataset) -> dict[str, float]:
    """Fit a closed-form model on all tracks."""
    checkpoints, plan = trial.checkpoints(workspace), trial.full_plan
    if checkpoints.member(len(plan)) is None:
        dataset = pooled(trial, dataset, np.ones(len(dataset.ids), bool))
        checkpoints.write_member(len(plan), crossval.whole(trial.recipe(plan[0]), dataset, trial.settings["seed"]))
    return {}


def make_baselines(trial: Trial, workspace: Workspace, dataset: Dataset) -> dict[str, float]:
    """Ridge and SVR on a feature's pooled statistics, and the leakage that a split by tracks would have."""
    own, feature, groups, d = trial.settings, trial.feature, grouped.read(workspace), dataset
    seeds, in_groups = own.get("seeds", ()), trial.protocol == protocol.GROUPS
    made = baselines.evaluate(d.frames, d.labels, d.groups, trial.partitions(d), own["seed"], seeds, in_groups)
    report: dict[str, Any] = {"feature": feature.name, "notes": [*groups.about, *made.notes]}
    if made.leakage is not None:
        about = trial.data, d.ids, d.artists, groups.within(d.ids), report["notes"], d.dimensions
        report = made.leakage.to_json(feature.name, feature.fingerprint, *about)
    table = baselines.rows(made, d.labels, d.ids, d.artists, d.titles, d.groups, d.dimensions)
    name = feature.name + protocol.SUFFIX[trial.protocol]
    baselines.write(workspace, name, table, {**report, "made_for": trial.key})
    tested, svr = made.fold[0] >= 0, made.predicted["svr"]
    columns = zip(d.dimensions, d.labels[tested].T, np.moveaxis(svr[:, tested], -1, 0), strict=True)
    return {f"r2_{name}": metrics(labels, predicted)["r2"] for name, labels, predicted in columns}
