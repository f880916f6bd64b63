"""What the driver sends to each trial of a training; `fold` does the work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mer_ray.features import FeatureSpec
from mer_ray.io.identity import digest
from mer_ray.io.tables import Workspace

if TYPE_CHECKING:  # the driver needs no JAX
    from mer_ray.training.checkpoint import Checkpoints
    from mer_ray.training.crossval import Part
    from mer_ray.training.data import Dataset
    from mer_ray.training.recipe import Recipe


@dataclass(frozen=True)
class Trial:
    """One trial of the experiment.

    Attributes:
        kind: ``fold`` trains the networks of one fold; ``search`` only chooses their settings; ``whole`` fits a
            closed-form model on all tracks; ``assemble`` writes ``runs/RUN`` from the results of the others;
            ``baselines`` makes ``baselines/FEATURE``.
        run: NETWORK-FEATURE, or baselines-FEATURE.
        data: `Dataset.fingerprint`.
        settings: The settings of ``train`` that affect it (`training.settings.used`).
        searched: Names of those that each fold chooses itself.
    """

    kind: Literal["fold", "search", "whole", "assemble", "baselines"]
    run: str
    network: str | None
    feature: FeatureSpec
    data: str
    settings: dict[str, Any]
    searched: tuple[str, ...] = ()
    repeat: int = 0
    fold: int = 0

    @property
    def name(self) -> str:
        """The name of its folder and in logs."""
        if self.kind in ("fold", "search"):
            search = "-search" if self.kind == "search" else ""
            return f"{self.run}-repeat{self.repeat}-fold{self.fold}{search}"
        return self.run if self.kind == "baselines" else f"{self.run}-{self.kind}"

    @property
    def result(self) -> str:
        """The checkpoint of a finished fold."""
        return f"fold{self.repeat}-{self.fold}"

    @property
    def steps(self) -> int:
        """By how much a progress bar advances: members of a fold and trials of its search, 1 for baselines."""
        if self.kind in ("whole", "assemble"):
            return 0
        return 1 if self.kind == "baselines" else (self.kind == "fold") * len(self.plan) + self.search_steps

    @property
    def search_steps(self) -> int:
        """Trials of the fold's studies."""
        return self.settings["search"]["trials"] * len({p.target for p in self.plan}) if self.searched else 0

    @property
    def plan(self) -> list[Part]:
        """The fold's part of the cross-validation."""
        return [p for p in self.full_plan if (p.repeat, p.fold) == (self.repeat, self.fold)]

    @property
    def full_plan(self) -> list[Part]:
        """The whole cross-validation."""
        from mer_ray.training.crossval import parts

        assert self.network is not None
        own = self.settings
        separate = own.get("heads") == "separate"
        return parts(self.network, own["folds"], own["repeats"], own.get("members", 1), separate, own["seed"])

    def partitions(self, dataset: Dataset) -> np.ndarray:
        """The fold of each track in each repeat, (R, N)."""
        from mer_ray.training.crossval import partitions

        own = self.settings
        return partitions(dataset.groups, dataset.labels, own["folds"], own["repeats"], own["seed"])

    @property
    def key(self) -> str:
        """8 hexadecimal digits: a hash of everything that decides the run's result."""
        from mer_ray import models
        from mer_ray.training.checkpoint import VERSION

        code = f"{models.fingerprint(self.network)}-{VERSION}" if self.network else None
        own = {"name": self.run, "feature": self.feature.to_json(), "data": self.data, "code": code}
        content = [{**own, "choices": self.searched}, self.settings]
        return digest(json.dumps(content, sort_keys=True, default=str).encode())[:8]

    def checkpoints(self, workspace: Workspace) -> Checkpoints:
        """Where the run's trials store their results."""
        from mer_ray.training.checkpoint import Checkpoints

        return Checkpoints(workspace, f"{self.run}-{self.key}")

    def recipe(self, part: Part, choices: Sequence[Mapping[str, Any]] = ()) -> Recipe:
        """How a part is trained. choices: settings that a search chose for its fold (`search.choose`)."""
        from mer_ray import models
        from mer_ray.models.windows import window_frames
        from mer_ray.training.recipe import Recipe

        assert self.network is not None
        # A recipe is complete; the settings leave out what the network does not use.
        own = {**models.defaults(self.network), **self.settings}
        for choice in choices:
            if (choice["repeat"], choice["fold"], choice["target"]) == (part.repeat, part.fold, part.target):
                own |= choice["settings"]
        window = window_frames(own["window_s"], self.feature.hop_s)
        names = [n for n in Recipe.__dataclass_fields__ if n in own]
        return Recipe(network=self.network, hop_s=self.feature.hop_s, window=window, **{n: own[n] for n in names})


@dataclass(frozen=True)
class Shared:
    """What all trials of an experiment share.

    Attributes:
        datasets: Feature → a reference to its `Dataset` in Ray's object store.
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

        dataset: Dataset = ray.get(self.datasets[trial.feature.name])
        if trial.settings.get("weigh_labels"):
            return dataset
        return replace(dataset, errors=np.full(dataset.errors.shape, np.nan))
