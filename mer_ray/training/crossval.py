"""A network trained once per fold, and judged on the tracks that it has not heard; repeated with other folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mer_ray import models
from mer_ray.models import N_TARGETS
from mer_ray.models.splits import grouped_folds, grouped_holdout
from mer_ray.training.checkpoint import NOTHING, Checkpoint
from mer_ray.training.fit import Recipe, fit, label_weights
from mer_ray.training.inference import answers
from mer_ray.training.member import Member
from mer_ray.training.placement import Placement

HOLDOUT = 0.15
"""Share of a fold's training tracks that decide when to stop."""


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

    members, curves: one of each part; a curve is (E, 2), training and validation loss by epoch.
    """

    predicted: np.ndarray
    fold: np.ndarray
    plan: list[Part]
    members: list[Member]
    curves: list[np.ndarray]


class Shelf(Protocol):
    """Where finished members and the state of the unfinished one are kept."""

    def finished(self, number: int) -> tuple[Member, np.ndarray] | None:
        """A member that was put here, with its curve."""

    def put(self, number: int, member: Member, curve: np.ndarray) -> None:
        """Keep a finished member."""

    def checkpoint(self, number: int) -> Checkpoint:
        """Where a member that is being trained keeps its state."""


class _NoShelf:
    def finished(self, number: int) -> None:
        return None

    def put(self, number: int, member: Member, curve: np.ndarray) -> None:
        return None

    def checkpoint(self, number: int) -> Checkpoint:
        return NOTHING


NO_SHELF: Shelf = _NoShelf()
"""Keeps nothing."""


def partitions(groups: Sequence[str], labels: np.ndarray, folds: int, repeats: int, seed: int) -> np.ndarray:
    """The folds of each repeat, (R, N): grouped, stratified on VAD, repeat r by the seed ``seed + r``."""
    return np.stack([grouped_folds(groups, folds, seed + r, labels) for r in range(repeats)])


def parts(network: str, folds: int, repeats: int, members: int, separate: bool, seed: int) -> list[Part]:
    """All networks of a cross-validation, in their order. A solved network has one member per fold."""
    members = 1 if models.is_solved(network) else members
    targets: list[int | None] = list(range(N_TARGETS)) if separate and not models.is_solved(network) else [None]
    places = [(r, k, m, t) for r in range(repeats) for k in range(folds) for m in range(members) for t in targets]
    return [Part(r, k, m, t, n, seed * 10_000 + n) for n, (r, k, m, t) in enumerate(places)]


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

    Each fold trains ``members`` networks that differ in seed and in the tracks that stop them; their answers are
    averaged. recipe: one for all, or one for each part. errors: the labels' standard errors (N, 3), by which they are
    weighted. separate: a network per dimension. on_epoch(number of the part, epoch, training loss, validation loss).
    """
    repeats, folds = len(fold), int(fold.max()) + 1
    recipe_of = recipe if callable(recipe) else lambda part: recipe
    plan = parts(recipe_of(Part(0, 0, 0, None, 0, 0)).network, folds, repeats, members, separate, seed)
    predicted = np.zeros((repeats, len(tracks), N_TARGETS))
    trained: list[Member] = []
    curves: list[np.ndarray] = []
    for part in plan:
        kept = shelf.finished(part.number)
        if placement is not None:  # else one would train this network while another is at the next
            placement.check_same(float(kept is not None), f"part {part.number} finished:")
        if kept is None:
            inside = np.flatnonzero(fold[part.repeat] != part.fold).tolist()
            curve: list[tuple[float, float]] = []

            def note(epoch: int, train: float, valid: float, part: Part = part, curve: Any = curve) -> None:
                curve.append((train, valid))
                on_epoch(part.number, epoch, train, valid)

            inner = [groups[i] for i in inside]
            member = fit(
                replace(recipe_of(part), target=part.target),
                [tracks[i] for i in inside],
                labels[inside],
                grouped_holdout(inner, HOLDOUT, part.seed, labels[inside]),
                part.seed,
                note,
                label_weights(labels[inside], None if errors is None else errors[inside]),
                placement,
                shelf.checkpoint(part.number),
                inner,
            )
            kept = member, np.array(curve).reshape(-1, 2)
            if placement is None or placement.is_first:
                shelf.put(part.number, *kept)
        trained.append(kept[0])
        curves.append(kept[1])
    for r in range(repeats):
        for k in range(folds):
            outside = np.flatnonzero(fold[r] == k).tolist()
            mine = [(p, m) for p, m in zip(plan, trained, strict=True) if (p.repeat, p.fold) == (r, k)]
            used = recipe_of(mine[0][0])
            answer = answers(
                used.network, tracks[0].shape[1], used.hop_s, used.window, [m for _, m in mine], used.outputs
            )
            predicted[r, outside] = [a.value for a in answer([tracks[i] for i in outside])]
    return Result(predicted, fold, plan, trained, curves)


def whole(
    recipe: Recipe,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    seed: int,
    number: int,
    errors: np.ndarray | None = None,
    shelf: Shelf = NO_SHELF,
) -> Member:
    """A solved network once more, on all tracks: nothing has to stop it, so nothing has to be kept from it.

    One network answers in a fraction of the time of an ensemble of all folds. What it is worth has been measured by the
    folds, each on fewer tracks. number: its place on the shelf.
    """
    kept = shelf.finished(number)
    if kept is None:
        none = np.zeros(len(tracks), bool)
        member = fit(recipe, tracks, labels, none, seed, weights=label_weights(labels, errors), groups=groups)
        kept = member, np.zeros((0, 2))
        shelf.put(number, *kept)
    return kept[0]
