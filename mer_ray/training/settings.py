"""Which settings of ``train`` come into what is trained, and which of those that somebody gave do not."""

from __future__ import annotations

from typing import Any

from mer_ray import models
from mer_ray.config import TrainConfig

RESOURCES = ("networks", "baselines", "workers", "cpus_per_trial", "gpus_per_trial", "mlflow", "about")
"""What is trained and where, not what comes out of a trial."""


def used(train: TrainConfig, network: str | None) -> dict[str, Any]:
    """The settings that a trial follows from: those that the network uses, its own values where they are left open.

    network: None for the baselines, into which the splits alone come.
    """
    names, own = (models.uses(network), models.defaults(network)) if network else (models.SPLITS, {})
    given = train.model_dump(exclude=set(RESOURCES))
    return {k: own.get(k) if v is None else v for k, v in given.items() if k in names}


def unused(train: TrainConfig) -> list[str]:
    """Sentences on settings that were given and come into nothing, or not into all of the chosen networks."""
    told, given = [], _given(train)
    ignored: dict[tuple[str, ...], list[str]] = {}
    for network in train.networks:
        names = tuple(n for n in given if (k := n.split(".")[0]) in models.STEPPED and k not in models.uses(network))
        ignored.setdefault(names, []).append(network)
    for names, networks in ignored.items():
        if names:
            told.append(f"{_listed(names)} not used by {' and '.join(networks)}")
    if not train.search.trials:
        names = tuple(f"search.{n}" for n in sorted(train.search.model_fields_set - {"trials"}))
        if names:
            told.append(f"{_listed(names)} not used: train.search.trials is 0")
    return told


def _given(train: TrainConfig) -> list[str]:
    """Names of what a file or --set has set, in the order of the section; of the search, if there is one."""
    names = [n for n in type(train).model_fields if n in train.model_fields_set and getattr(train, n) is not None]
    inner = [f"search.{n}" for n in type(train.search).model_fields if n in train.search.model_fields_set]
    return [n for n in names if n != "search"] + (inner if train.search.trials else [])


def _listed(names: tuple[str, ...]) -> str:
    """``train.loss is``, ``train.loss and train.mixup are``."""
    full = [f"train.{n}" for n in names]
    return f"{full[0]} is" if len(full) == 1 else f"{', '.join(full[:-1])} and {full[-1]} are"
