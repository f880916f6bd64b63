"""Creates a model from its recipe, or restores it from stored arrays: the only module that maps names to classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer_ray import models
from mer_ray.models.regressor import Regressor
from mer_ray.training.recipe import Recipe


def create(recipe: Recipe, **training: Any) -> Regressor:
    """An unfitted model. training: arguments of `network.Network`; other models ignore them."""
    if models.is_network(recipe.network):
        from mer_ray.training.network import Network

        return Network(recipe, **training)
    made: Regressor = models.module(recipe.network).REGRESSOR(recipe.hop_s, recipe.window, recipe.hops)
    return made


def restore(
    recipe: Recipe,
    arrays: Mapping[str, np.ndarray],
    targets: Sequence[int],
    chosen: Mapping[str, Any] | None = None,
) -> Regressor:
    """A fitted model from its stored arrays. `Regressor.check` then verifies their shapes."""
    model = create(recipe)
    model.arrays, model.targets, model.chosen = dict(arrays), tuple(targets), dict(chosen or {})
    return model
