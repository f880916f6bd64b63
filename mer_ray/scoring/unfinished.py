"""The trials that a workspace lacks: what ``mer-ray train`` has to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mer_ray.config import TrainConfig
from mer_ray.errors import ModelError
from mer_ray.evaluation import overlap_report
from mer_ray.evaluation.protocol import FOLDS, GROUPS, SUFFIX, TEST
from mer_ray.features import FeatureSpec
from mer_ray.io.tables import Workspace
from mer_ray.scoring import model_folder
from mer_ray.training import data, given, grouped
from mer_ray.training.checkpoint import VERSION, Checkpoints
from mer_ray.training.settings import (
    check_curves,
    check_partitions,
    check_same,
    check_size,
    inputs,
    searched,
    unused,
    used,
)
from mer_ray.training.trial import Trial

LACKING = {TEST: "split", FOLDS: "fold"}
ORDER = ("baselines", "fold", "whole", "assemble")


@dataclass
class Unfinished:
    """The trials, in the order in which they run; the number of runs that are finished; sentences for the user."""

    trials: list[Trial] = field(default_factory=list)
    finished: int = 0
    notes: list[str] = field(default_factory=list)


def trials(train: TrainConfig, workspace: Workspace, specs: Mapping[str, FeatureSpec]) -> Unfinished:
    """Compare the settings and tables with the finished runs.

    First folds of all networks come before second ones, so that each network compiles early.

    Raises:
        InputError: There are too few tracks.
        WorkspaceError: A run was trained with other settings.
    """
    groups = grouped.make(workspace, list(specs.values()))
    found, old = Unfinished(notes=[*groups.about, *unused(train)]), []
    for name, spec in inputs(train, specs).items():
        dataset = data.load(workspace, spec, groups.of, with_frames=False)
        check_curves(train, dataset)
        found.notes += data.beyond_audio(workspace, dataset)
        split = given.kind(dataset) if train.split == "given" else GROUPS
        end, n_folds = SUFFIX[split], len(given.fold_names(dataset)) if split == FOLDS else 1
        of_split, settings = given.within(dataset, split), used(train, None, split, n_folds)
        own = f"baselines-{name}{end}", None, spec, of_split.fingerprint(spec, settings), settings
        wanted = Trial("baselines", *own, dimensions=dataset.dimensions)
        found.notes += _checked(wanted, dataset, groups)
        if train.baselines:
            there = workspace.read_json("baselines", f"{name}{end}.json")
            if there is None or there["made_for"] != wanted.key:
                found.trials.append(wanted)
        if train.source_bias and len(set(wanted.tracks(dataset).datasets)) < 2:
            found.notes.append("train.source_bias has no effect: all tracks are of one data set, or name none")
        for network in train.networks:
            run_name, settings = f"{network}-{name}{end}", used(train, network, split, n_folds)
            fingerprint = of_split.fingerprint(spec, settings)
            described = _described(workspace, run_name, found.notes)
            if described is not None:
                check_same(workspace, described["details"]["settings"], settings)
                if described["details"]["data"] == fingerprint:
                    found.finished += 1
                    Checkpoints(workspace, "").clear(run_name)  # of a run that was killed after its last step
                    if described["details"].get("version", 1) < VERSION:
                        old.append(run_name)
                    continue
                found.notes.append(f"{run_name} is trained again: its data changed")
            of_run = run_name, network, spec, fingerprint, settings, searched(train, network)
            found.trials += Trial("assemble", *of_run, dimensions=dataset.dimensions).of_run()
    if old:
        found.notes.append(
            f"{', '.join(old)}: trained by an older version, in other folds; remove the folder in runs/ to train anew"
        )
    found.notes = list(dict.fromkeys(found.notes))
    found.trials.sort(key=lambda t: (ORDER.index(t.kind), t.repeat, t.fold))
    return found


def _checked(trial: Trial, dataset: data.Dataset, groups: grouped.Groups) -> list[str]:
    """Sentences on given splits. Raises InputError where there are too few tracks."""
    own, settings = trial.tracks(dataset), trial.settings
    if trial.protocol == GROUPS:
        check_size(own, settings["folds"])
        check_partitions(own, trial.partitions(own))
        is_given = any(dataset.splits) or any(dataset.given_folds)
        return ["the source gives a split, which is not used: train.split=given does"] if is_given else []
    [fold, *_] = trial.partitions(own)
    given.check(own, fold)
    left_out, notes = len(dataset.ids) - len(own.ids), []
    if left_out:
        notes.append(
            f"{left_out:,} of {len(dataset.ids):,} tracks have no given {LACKING[trial.protocol]} and are left out"
        )
    shared = given.overlap(own, fold, groups.within(own.ids))
    return [*notes, *overlap_report.warning(shared.to_json(), trial.protocol)]


def _described(workspace: Workspace, name: str, notes: list[str]) -> dict[str, Any] | None:
    """The finished run of that name; None, with a note, where it is damaged or of a version with another format."""
    try:
        return model_folder.describe(workspace, "runs", name)
    except ModelError as error:
        notes.append(f"{name} is trained again: {error.message}")
        return None
