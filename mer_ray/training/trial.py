"""The trials of a training: what each of them trains, and in which order they run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mer_ray import models
from mer_ray.evaluation import protocol
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import part_hops
from mer_ray.io.identity import digest
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.models.windows import window_frames
from mer_ray.training import crossval, given
from mer_ray.training.checkpoint import VERSION, Checkpoints
from mer_ray.training.crossval import Part
from mer_ray.training.data import Dataset
from mer_ray.training.recipe import Recipe

RESTARTS = 3
"""How often a trial whose process died is started again; it continues from its checkpoints."""


@dataclass(frozen=True)
class Trial:
    """One trial of the experiment.

    Attributes:
        kind: ``fold`` trains the networks of one fold, or those for a given test set; ``search`` only chooses their
            settings; ``whole`` fits a closed-form model on all tracks, if there is no given test set; ``assemble``
            writes ``runs/RUN`` from the results of the others; ``baselines`` makes ``baselines/FEATURE``.
        run: NETWORK-FEATURE, or baselines-FEATURE, with the ending of its protocol (`evaluation.protocol`).
        data: `Dataset.fingerprint`.
        settings: The settings of ``train`` that affect it (`training.settings.used`).
        searched: Names of those that each fold chooses itself.
        dimensions: Those of the labels.
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
    dimensions: tuple[str, ...] = field(default=DIMENSIONS, kw_only=True)

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
        own = self.settings
        separate = len(self.dimensions) if own.get("heads") == "separate" else 0
        size = own["folds"], own["repeats"], own.get("members", 1), separate
        return crossval.parts(str(self.network), *size, own["seed"], own.get("seeds", ()))

    def of_run(self) -> list[Trial]:
        """All trials of the run that this one assembles."""
        own = self.settings
        places = np.ndindex(own["repeats"], own["folds"])
        folds = [replace(self, kind="fold", repeat=r, fold=k) for r, k in places]
        return [*folds, *([replace(self, kind="whole")] if self.is_whole else []), self]

    @property
    def is_whole(self) -> bool:
        """Whether the run's model is one that was fitted to all tracks, and not those of the folds."""
        return not models.is_network(str(self.network)) and self.protocol != protocol.TEST

    @property
    def protocol(self) -> str:
        """See `evaluation.protocol`."""
        return protocol.of(self.settings)

    def partitions(self, dataset: Dataset) -> np.ndarray:
        """The fold of each track in each repeat, (R, N). dataset: of `tracks`."""
        own = self.settings
        if self.protocol != protocol.GROUPS:
            return np.tile(given.partition(dataset, self.protocol), (own["repeats"], 1))
        return crossval.partitions(dataset.groups, dataset.labels, own["folds"], self.seeds)

    @property
    def seeds(self) -> list[int]:
        """Of the repeats."""
        return protocol.seeds(self.settings, self.settings["repeats"])

    def tracks(self, dataset: Dataset) -> Dataset:
        """Those of all labelled tracks that the run is of."""
        return given.within(dataset, self.protocol)

    @property
    def key(self) -> str:
        """8 hexadecimal digits: a hash of everything that decides the run's result."""
        code = f"{models.fingerprint(self.network)}-{VERSION}" if self.network else None
        own = {"name": self.run, "feature": self.feature.to_json(), "data": self.data, "code": code}
        content = [{**own, "choices": self.searched}, self.settings]
        return digest(json.dumps(content, sort_keys=True, default=str).encode())[:8]

    def checkpoints(self, workspace: Workspace) -> Checkpoints:
        """Where the run's trials store their results."""
        return Checkpoints(workspace, f"{self.run}-{self.key}")

    def recipe(self, part: Part, choices: Sequence[Mapping[str, Any]] = ()) -> Recipe:
        """How a part is trained. choices: settings that a search chose for its fold (`search.choose`)."""
        network = str(self.network)
        # A recipe is complete; the settings leave out what the network does not use.
        own = {**models.defaults(network), **self.settings}
        for choice in choices:
            if (choice["repeat"], choice["fold"], choice["target"]) == (part.repeat, part.fold, part.target):
                own |= choice["settings"]
        window = window_frames(own["window_s"], self.feature.hop_s)
        names, hops = [n for n in Recipe.__dataclass_fields__ if n in own], part_hops(self.feature)
        over_time = own.get("targets") == "curve"
        settings = {n: own[n] for n in names}
        return Recipe(network, self.feature.hop_s, window, hops=hops, over_time=over_time, **settings)


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
