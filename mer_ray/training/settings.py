"""What the settings of ``train`` ask for: which of them affect a trial, and which have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mer_ray import models
from mer_ray.config import TrainConfig
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation.protocol import GROUPS
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import join
from mer_ray.io.tables import Workspace
from mer_ray.training.data import Dataset

RESOURCES = ("networks", "inputs", "baselines", "workers", "cpus_per_trial", "gpus_per_trial", "mlflow", "about")
"""Settings of what is trained and where, which do not affect a trial's result."""
UNRECORDED = {"seeds": None, "targets": "track", "source_bias": False}
"""Defaults that runs do not record, as those of earlier versions do not."""


def inputs(train: TrainConfig, specs: Mapping[str, FeatureSpec]) -> dict[str, FeatureSpec]:
    """What the models read, by name: the features of each of ``train.inputs``, or every feature alone."""
    named = [[specs[name] for name in names] for names in train.inputs or [[name] for name in specs]]
    return {spec.name: spec for spec in map(join, named)}


def used(train: TrainConfig, network: str | None, split: str = GROUPS, folds: int = 1) -> dict[str, Any]:
    """The settings that decide a trial: those that the network uses, with its defaults where the user sets none.

    Args:
        train: The user's.
        network: None for the baselines, which depend on the splits alone.
        split: How runs are evaluated (`evaluation.protocol`).
        folds: The number of given folds; 1 for a given test set.
    """
    names, own = (models.uses(network), models.defaults(network, train.targets)) if network else (models.SPLITS, {})
    explicit = train.model_dump(exclude=set(RESOURCES))
    settings = {k: own.get(k) if v is None else v for k, v in explicit.items() if k in names}
    if train.targets == "track":
        settings.pop("targets", None)  # runs of earlier versions do not name it
    if train.seeds:
        settings["seeds"] = train.seeds
    if train.source_bias and network:
        settings["source_bias"] = True
    return settings if split == GROUPS else {**settings, "split": split, "folds": folds}


def searched(train: TrainConfig, network: str) -> tuple[str, ...]:
    """The settings that each fold searches. Raises MerRayError where none are left."""
    if not train.search.trials or "search" not in models.uses(network):
        return ()
    from mer_ray.training import search

    fixed = [name for name in search.SPACE if getattr(train, name) is not None]
    return tuple(search.space(network, fixed))


def check_size(dataset: Dataset, folds: int) -> None:
    """Raises InputError where there are too few tracks or groups for so many folds, of any dimension."""
    groups = len(set(dataset.groups))
    if groups < folds or len(dataset.ids) < 2 * folds:
        raise InputError(
            f"{len(dataset.ids)} labelled tracks in {groups} groups (artists, albums) are too few for {folds} folds",
            "collect more tracks, or lower train.folds: each fold needs an artist of its own and two tracks",
        )
    for name, labels in zip(dataset.dimensions, dataset.labels.T, strict=True):
        known = np.isfinite(labels)
        groups = len({g for g, k in zip(dataset.groups, known, strict=True) if k})
        if groups < folds or known.sum() < 2 * folds:
            raise InputError(
                f"{known.sum()} tracks in {groups} groups (artists, albums) have a label of {name}: too few for "
                f"{folds} folds",
                f"leave {name} out of collect.dimensions, label more tracks, or lower train.folds",
            )


def check_curves(train: TrainConfig, dataset: Dataset) -> None:
    """Raises InputError where labels over time are to be learnt, and there are none."""
    if train.targets == "curve" and not any(curve is not None for curve in dataset.curves):
        raise InputError(
            "train.targets is curve, but no labelled track has labels over time",
            "name their tables in collect.curves and run `mer-ray collect`, or set train.targets=track",
        )


def check_partitions(dataset: Dataset, fold: np.ndarray) -> None:
    """Raises InputError where a fold leaves less than two groups to learn a dimension from. fold: (R, N)."""
    groups = np.asarray(dataset.groups, dtype=object)
    for name, labels in zip(dataset.dimensions, dataset.labels.T, strict=True):
        known = np.isfinite(labels)
        for own in () if known.all() else fold:
            if any(len(set(groups[known & (own != k)])) < 2 for k in np.unique(own)):
                raise InputError(
                    f"nearly all tracks with a label of {name} are in one fold: too few are left to learn it from",
                    f"leave {name} out of collect.dimensions, or label tracks of more artists",
                )


def check_same(workspace: Workspace, recorded: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises WorkspaceError where a finished run was trained with other settings."""
    before, now = UNRECORDED | dict(recorded), UNRECORDED | dict(settings)
    changes = [f"train.{k} was {before.get(k)!r}, now {v!r}" for k, v in now.items() if before.get(k) != v]
    if changes:
        raise WorkspaceError(
            f"workspace {workspace.uri} was made with other settings ({'; '.join(changes)})",
            f"choose another --workspace, or remove {workspace.path('runs')} to train anew on the same features",
        )


def unused(train: TrainConfig) -> list[str]:
    """Sentences on the user's settings that have no effect, or not on all of the chosen networks."""
    sentences, explicit = [], _explicit(train)
    ignored: dict[tuple[str, ...], list[str]] = {}
    for network in train.networks:
        names = tuple(n for n in explicit if (k := n.split(".")[0]) in models.STEPPED and k not in models.uses(network))
        ignored.setdefault(names, []).append(network)
    for names, networks in ignored.items():
        if names:
            sentences.append(f"{_listed(names)} not used by {' and '.join(networks)}")
    if train.split == "given" and "folds" in explicit:
        sentences.append("train.folds is not used: train.split is given")
    if not train.search.trials:
        names = tuple(f"search.{n}" for n in sorted(train.search.model_fields_set - {"trials"}))
        if names:
            sentences.append(f"{_listed(names)} not used: train.search.trials is 0")
    return sentences


def _explicit(train: TrainConfig) -> list[str]:
    """Names of the settings that a file or --set has set, in the order of the section, including the search's."""
    names = [n for n in type(train).model_fields if n in train.model_fields_set and getattr(train, n) is not None]
    inner = [f"search.{n}" for n in type(train.search).model_fields if n in train.search.model_fields_set]
    return [n for n in names if n != "search"] + (inner if train.search.trials else [])


def _listed(names: tuple[str, ...]) -> str:
    """``train.loss is``, ``train.loss and train.mixup are``."""
    full = [f"train.{n}" for n in names]
    return f"{full[0]} is" if len(full) == 1 else f"{', '.join(full[:-1])} and {full[-1]} are"
