"""A model from its recipe, or from what a folder stores: the one place that knows which kind of model a name is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer_ray import models
from mer_ray.models.regressor import Regressor
from mer_ray.training.recipe import Recipe


def create(recipe: Recipe, **training: Any) -> Regressor:
    """An unfitted model. training: how a network is trained, arguments of `network.Network`; others ignore it."""
    if models.is_network(recipe.network):
        from mer_ray.training.network import Network

        return Network(recipe, **training)
    made: Regressor = models.module(recipe.network).REGRESSOR(recipe.hop_s, recipe.window)
    return made


def restore(
    recipe: Recipe,
    arrays: Mapping[str, np.ndarray],
    targets: Sequence[int],
    chosen: Mapping[str, Any] | None = None,
) -> Regressor:
    """A fitted model from what it stored. Its `Regressor.check` tells whether the arrays fit."""
    model = create(recipe)
    model.arrays, model.targets, model.chosen = dict(arrays), tuple(targets), dict(chosen or {})
    return model
