"""Repeated cross-validation: a network is trained for each fold and predicts the fold's tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_ray import models
from mer_ray.models.regressor import Regressor, ensemble
from mer_ray.models.splits import grouped_folds
from mer_ray.training import given
from mer_ray.training.checkpoint import NOTHING, Checkpoints
from mer_ray.training.data import Examples
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe, label_weights

if TYPE_CHECKING:  # the driver needs no JAX
    from mer_ray.training.placement import Placement


@dataclass(frozen=True)
class Part:
    """One network of a cross-validation. number: 0, 1, ... in the order of `parts`, which decides the seed."""

    repeat: int
    fold: int
    member: int
    target: int | None
    number: int
    seed: int


@dataclass(frozen=True)
class FoldResult:
    """Of the fold's own n tracks.

    Attributes:
        predicted: (n, D) in 0..1.
        curves: (n_i, D) at the n_i times of its labels, of each track that has labels over time.
        members: One of each part.
    """

    predicted: np.ndarray
    curves: list[np.ndarray]
    members: list[Regressor]


def partitions(groups: Sequence[str], labels: np.ndarray, folds: int, seeds: Sequence[int]) -> np.ndarray:
    """The folds of each repeat, (R, N): grouped and stratified, each with its own seed."""
    return np.stack([grouped_folds(groups, folds, seed, labels) for seed in seeds])


def parts(
    network: str, folds: int, repeats: int, members: int, separate: int, seed: int, seeds: Sequence[int] = ()
) -> list[Part]:
    """All networks of a cross-validation, in their order. A closed-form model has one member per fold.

    separate: The number of dimensions that have a network each; 0 for networks of all dimensions.
    seeds: Of the repeats, if they are not ``seed`` and the following: each is then as if it were the only one.
    """
    uses = models.uses(network)
    members = members if "members" in uses else 1
    targets: list[int | None] = list(range(separate)) if separate and "heads" in uses else [None]
    order = [(r, k, m, t) for r in range(repeats) for k in range(folds) for m in range(members) for t in targets]
    own = len(order) // repeats
    seed_of = [seeds[n // own] * 10_000 + n % own if seeds else seed * 10_000 + n for n in range(len(order))]
    return [Part(r, k, m, t, n, seed_of[n]) for n, (r, k, m, t) in enumerate(order)]


def train_fold(
    recipe_of: Callable[[Part], Recipe],
    data: Examples,
    fold: np.ndarray,
    plan: Sequence[Part],
    on_epoch: Callable[[int, int, float, float], None] = lambda number, epoch, train, valid: None,
    checkpoints: Checkpoints | None = None,
    placement: Placement | None = None,
) -> FoldResult:
    """Train the networks of one fold on all other tracks, and predict its own.

    Args:
        recipe_of: how each part is trained.
        data: all tracks. Whole groups of the training tracks are the validation set for early stopping, unless there is
            a given one.
        fold: (N,), of the fold's repeat; see `training.given` for those below 0.
        plan: the parts of this fold, whose predictions are averaged.
        on_epoch: called with the part's number, the epoch, training and validation loss.
        checkpoints: finished members are read from here, not trained again.
        placement: where several processes train together.
    """
    training = np.flatnonzero(fold != plan[0].fold)
    inside, outside = data.of(training), data.of(np.flatnonzero(fold == plan[0].fold))
    weights = label_weights(inside.labels, inside.errors)
    validation = fold[training] == given.VALID
    members: list[Regressor] = []
    for part in plan:
        recipe = replace(recipe_of(part), target=part.target)
        member = read_member(checkpoints, part.number, recipe) if checkpoints else None
        if placement is not None:  # else the processes could be at different members
            placement.check_same(float(member is not None), f"part {part.number} finished:")
        if member is None:
            state = checkpoints.state(part.number) if checkpoints else NOTHING
            model = create(recipe, on_epoch=partial(on_epoch, part.number), placement=placement, checkpoint=state)
            own = inside.frames, inside.labels, inside.groups
            options: dict[str, Any] = {"weights": weights, "seed": part.seed, "dimensions": inside.dimensions}
            if recipe.over_time:
                options["curves"] = inside.curves
            if validation.any() and models.is_network(recipe.network):
                options["validation"] = validation
            member = model.fit(*own, **options)
            if checkpoints and (placement is None or placement.is_first):
                checkpoints.write_member(part.number, member)
        members.append(member)
    made = ensemble(members, outside.frames)
    pairs = zip(made, outside.curves, strict=False)  # without any curves there are none
    curves = [prediction.at(curve.time_s) for prediction, curve in pairs if curve is not None]
    return FoldResult(np.stack([p.value for p in made]), curves, members)


def read_member(checkpoints: Checkpoints, number: int, recipe: Recipe) -> Regressor | None:
    """A finished member, with its learning curve."""
    found = checkpoints.member(number)
    if found is None:
        return None
    curve, *arrays = found.arrays
    named, about = dict(zip(found.progress["names"], arrays, strict=True)), found.progress
    member = restore(recipe, named, about["targets"], about["chosen"])
    member.curve = curve
    return member


def whole(recipe: Recipe, data: Examples, seed: int) -> Regressor:
    """Fit a closed-form model on all tracks: it needs no validation set.

    One model predicts faster than an ensemble of all folds. Its accuracy is estimated by the folds, each with fewer
    training tracks.
    """
    weights = label_weights(data.labels, data.errors)
    own = data.frames, data.labels, data.groups
    curves = data.curves if recipe.over_time else ()
    return create(recipe).fit(*own, weights=weights, seed=seed, dimensions=data.dimensions, curves=curves)
