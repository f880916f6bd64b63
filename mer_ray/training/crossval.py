"""A network trained once per fold, and judged on the tracks that it has not heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mer_ray.training.fit import Member, Recipe, fit, forward, track_means
from mer_ray.training.splits import grouped_folds, grouped_holdout

HOLDOUT = 0.15
"""Share of a fold's training tracks that decide when to stop."""


@dataclass(frozen=True)
class Result:
    """predicted: out-of-fold (N, 3), in 0..1. fold: (N,). members: ``members`` per fold, in fold order."""

    predicted: np.ndarray
    fold: np.ndarray
    members: list[Member]


def cross_validate(
    recipe: Recipe,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    folds: int,
    members: int,
    seed: int,
    on_epoch: Callable[[int, int, float, float], None] = lambda member, epoch, train, valid: None,
) -> Result:
    """Grouped K-fold: tracks (n_i, F), labels (N, 3) in 0..1, groups (N,) such as artists.

    Each fold trains ``members`` networks that differ in seed and in the tracks that stop them; their answers are
    averaged. on_epoch(member, epoch, training loss, validation loss); member counts over all folds.
    """
    fold = grouped_folds(groups, folds, seed)
    network = forward(recipe.network, tracks[0].shape[1], recipe.hop_s, recipe.window)
    predicted = np.zeros((len(tracks), labels.shape[1]))
    trained: list[Member] = []
    for k in range(folds):
        inside, outside = np.flatnonzero(fold != k).tolist(), np.flatnonzero(fold == k).tolist()
        for m in range(members):
            number = k * members + m
            member_seed = seed * 10_000 + number
            stop = grouped_holdout([groups[i] for i in inside], HOLDOUT, member_seed)
            member = fit(
                recipe,
                [tracks[i] for i in inside],
                labels[inside],
                stop,
                member_seed,
                partial(on_epoch, number),
            )
            values, owner = network.windows(member, [tracks[i] for i in outside])
            predicted[outside] += track_means(np.clip(values, 0, 1), owner, len(outside)) / members
            trained.append(member)
    return Result(predicted, fold, trained)
