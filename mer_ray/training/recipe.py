"""How a model is trained: its settings as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mer_ray.models import DEFAULTS

if TYPE_CHECKING:  # a recipe needs no JAX
    from mer_ray.training.losses import Loss


@dataclass(frozen=True)
class Recipe:
    """A model's name and its settings. A closed-form model uses only the window.

    The learning rate decays to 0 over the epochs along a cosine.

    Attributes:
        hop_s: Seconds between frames (of the finest feature).
        window: Frames (T).
        loss: One of `losses.Loss`.
        mask_share: See `spec_augment`; 0 is off.
        mixup: Alpha, see `mixup`; 0 is off.
        ema: Decay, per step, of the moving average of the weights, bias-corrected (Kingma & Ba 2015, section 3); 0 uses
            the weights themselves.
        target: The index of the one dimension to train on; None for all.
        hops: Seconds between the frames of each feature, where there are several.
        over_time: Train on labels over time, of the tracks that have them.
    """

    network: str
    hop_s: float
    window: int
    epochs: int = DEFAULTS["epochs"]
    patience: int = DEFAULTS["patience"]
    batch_size: int = DEFAULTS["batch_size"]
    learning_rate: float = DEFAULTS["learning_rate"]
    weight_decay: float = DEFAULTS["weight_decay"]
    loss: Loss = DEFAULTS["loss"]
    mask_share: float = DEFAULTS["mask_share"]
    mixup: float = DEFAULTS["mixup"]
    ema: float = DEFAULTS["ema"]
    target: int | None = None
    hops: tuple[float, ...] = ()
    over_time: bool = False

    def targets(self, n_dimensions: int) -> tuple[int, ...]:
        """1 for each dimension that is trained on, 0 for the others."""
        return tuple(int(self.target in (None, d)) for d in range(n_dimensions))


def label_weights(labels: np.ndarray, errors: np.ndarray | None) -> np.ndarray:
    """Weights of labels (N, D) with standard errors (N, D) or None → (N, D): 0 for unknown labels, of mean 1 else.

    The inverse of the label's variance around the model, to which the model's error is assumed to contribute half of
    the labels' variance (random-effects weighting, DerSimonian & Laird 1986). An unknown error (NaN, of a label from a
    single term) counts as the largest known one. A dimension without any gets equal weights.
    """
    there = np.isfinite(labels)
    weights: np.ndarray = there.astype(np.float32)
    if errors is None:
        return weights
    for d in range(labels.shape[1]):
        own, error = labels[there[:, d], d], errors[there[:, d], d]
        known = np.isfinite(error)
        if known.any() and own.std() > 0:
            se = np.where(known, error, error[known].max())
            weight = 1 / (own.var() / 2 + se**2)
            weights[there[:, d], d] = weight / weight.mean()
    return weights
