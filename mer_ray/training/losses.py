"""Losses of the training, on standardised labels."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Loss = Literal["mse", "huber", "ccc", "nll"]
HUBER_DELTA = 1.0
"""In standard deviations of the labels."""


def outputs(loss: Loss, n_targets: int) -> int:
    """Outputs of the network per window: twice as many if the loss needs a variance, too."""
    return 2 * n_targets if loss == "nll" else n_targets


def loss_value(loss: Loss, out: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean loss, a scalar: out (B, D), or (B, 2D) for ``nll``; labels y (B, D); weight (B, D), of mean about 1.

    A label that is unknown has the weight 0, and any finite value.

    mse: squared error. huber: Huber (1964), delta of one deviation. ccc: 1 − Lin's concordance (1989) of the batch per
    dimension. nll: Gaussian negative log-likelihood with a variance for each window, scaled by the root of that
    variance as in Seitzer et al. (2022, arXiv:2203.09168, beta = 0.5), without which hard tracks would be neglected.
    """
    n = y.shape[1]
    error = out[:, :n] - y
    if loss == "mse":
        return jnp.mean(weight * jnp.square(error))
    if loss == "huber":
        size = jnp.abs(error)
        quadratic = jnp.minimum(size, HUBER_DELTA)
        return jnp.mean(weight * (2 * HUBER_DELTA * (size - quadratic) + jnp.square(quadratic)))
    if loss == "nll":
        log_variance = jnp.clip(out[:, n:], -6, 6)
        likelihood = 0.5 * (log_variance + jnp.square(error) * jnp.exp(-log_variance))
        return jnp.mean(weight * likelihood * jax.lax.stop_gradient(jnp.exp(0.5 * log_variance)))
    return jnp.mean(weight.max(axis=0) * (1 - _ccc(out[:, :n], y, weight)))


def _ccc(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted concordance per column: three arrays (B, n) → (n,). A column without weight gives 0."""
    share = weight / jnp.maximum(weight.sum(axis=0), 1e-9)
    mean_a, mean_b = (a * share).sum(axis=0), (b * share).sum(axis=0)
    covariance = ((a - mean_a) * (b - mean_b) * share).sum(axis=0)
    spread = (jnp.square(a - mean_a) * share).sum(axis=0) + (jnp.square(b - mean_b) * share).sum(axis=0)
    return 2 * covariance / (spread + jnp.square(mean_a - mean_b) + 1e-8)
