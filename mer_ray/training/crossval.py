"""A network trained once per fold, and judged on the tracks that it has not heard; repeated with other folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from mer_ray import models
from mer_ray.models.regressor import N_TARGETS, Regressor, ensemble
from mer_ray.models.splits import grouped_folds
from mer_ray.training.checkpoint import NOTHING, Checkpoint
from mer_ray.training.fit import create
from mer_ray.training.placement import Placement
from mer_ray.training.recipe import Recipe, label_weights


@dataclass(frozen=True)
class Part:
    """One network of a cross-validation: its place in it, and where its random numbers start."""

    repeat: int
    fold: int
    member: int
    target: int | None
    number: int
    seed: int


@dataclass(frozen=True)
class Result:
    """predicted: out-of-fold (R, N, 3), in 0..1. fold: (R, N). plan: as `parts` gives it.

    members: one of each part.
    """

    predicted: np.ndarray
    fold: np.ndarray
    plan: list[Part]
    members: list[Regressor]


class Shelf(Protocol):
    """Where finished members and the state of the unfinished one are kept."""

    def finished(self, number: int, recipe: Recipe) -> Regressor | None:
        """A member that was put here."""

    def put(self, number: int, member: Regressor) -> None:
        """Keep a finished member."""

    def checkpoint(self, number: int) -> Checkpoint:
        """Where a member that is being trained keeps its state."""


class _NoShelf:
    def finished(self, number: int, recipe: Recipe) -> None:
        return None

    def put(self, number: int, member: Regressor) -> None:
        return None

    def checkpoint(self, number: int) -> Checkpoint:
        return NOTHING


NO_SHELF: Shelf = _NoShelf()
"""Keeps nothing."""


def partitions(groups: Sequence[str], labels: np.ndarray, folds: int, repeats: int, seed: int) -> np.ndarray:
    """The folds of each repeat, (R, N): grouped, stratified on VAD, repeat r by the seed ``seed + r``."""
    return np.stack([grouped_folds(groups, folds, seed + r, labels) for r in range(repeats)])


def parts(network: str, folds: int, repeats: int, members: int, separate: bool, seed: int) -> list[Part]:
    """All models of a cross-validation, in their order. members and separate: where the model uses such settings."""
    uses = models.uses(network)
    members = members if "members" in uses else 1
    targets: list[int | None] = list(range(N_TARGETS)) if separate and "heads" in uses else [None]
    order = [(r, k, m, t) for r in range(repeats) for k in range(folds) for m in range(members) for t in targets]
    return [Part(r, k, m, t, n, seed * 10_000 + n) for n, (r, k, m, t) in enumerate(order)]


def cross_validate(
    recipe: Recipe | Callable[[Part], Recipe],
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    fold: np.ndarray,
    members: int,
    seed: int,
    on_epoch: Callable[[int, int, float, float], None] = lambda member, epoch, train, valid: None,
    errors: np.ndarray | None = None,
    separate: bool = False,
    shelf: Shelf = NO_SHELF,
    placement: Placement | None = None,
) -> Result:
    """Grouped K-fold: tracks (n_i, F), labels (N, 3) in 0..1, groups (N,) such as artists, fold (R, N).

    Each fold trains ``members`` models that differ in seed and in the tracks that stop them; their predictions are
    averaged. recipe: one for all, or one for each part. errors: the labels' standard errors (N, 3), by which they are
    weighted. separate: a model per dimension. on_epoch(number of the part, epoch, training loss, validation loss).
    """
    repeats, folds = len(fold), int(fold.max()) + 1
    recipe_of = recipe if callable(recipe) else lambda part: recipe
    plan = parts(recipe_of(Part(0, 0, 0, None, 0, 0)).network, folds, repeats, members, separate, seed)
    predicted = np.zeros((repeats, len(tracks), N_TARGETS))
    trained: list[Regressor] = []
    for part in plan:
        own = replace(recipe_of(part), target=part.target)
        member = shelf.finished(part.number, own)
        if placement is not None:  # else one would train this model while another is at the next
            placement.check_same(float(member is not None), f"part {part.number} finished:")
        if member is None:
            inside = np.flatnonzero(fold[part.repeat] != part.fold).tolist()
            member = create(
                own,
                on_epoch=partial(on_epoch, part.number),
                placement=placement,
                checkpoint=shelf.checkpoint(part.number),
            ).fit(
                [tracks[i] for i in inside],
                labels[inside],
                [groups[i] for i in inside],
                weights=label_weights(labels[inside], None if errors is None else errors[inside]),
                seed=part.seed,
            )
            if placement is None or placement.is_first:
                shelf.put(part.number, member)
        trained.append(member)
    for r in range(repeats):
        for k in range(folds):
            outside = np.flatnonzero(fold[r] == k).tolist()
            mine = [m for p, m in zip(plan, trained, strict=True) if (p.repeat, p.fold) == (r, k)]
            predicted[r, outside] = [p.value for p in ensemble(mine, [tracks[i] for i in outside])]
    return Result(predicted, fold, plan, trained)


def whole(
    recipe: Recipe,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    seed: int,
    number: int,
    errors: np.ndarray | None = None,
    shelf: Shelf = NO_SHELF,
) -> Regressor:
    """A closed-form model once more, on all tracks: nothing has to stop it, so no tracks have to be left out.

    One model predicts in a fraction of the time of an ensemble of all folds. Its quality has been measured by the
    folds, each on fewer tracks. number: its position among the finished members.
    """
    member = shelf.finished(number, recipe)
    if member is None:
        member = create(recipe).fit(tracks, labels, groups, weights=label_weights(labels, errors), seed=seed)
        shelf.put(number, member)
    return member
