"""Data augmentation for small catalogs: masks over time and frequency, and mixtures of tracks."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def spec_augment(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
    """Set one span of time and one of coefficients to 0, the mean: x (B, T, F), standardised → (B, T, F).

    share: largest part of its axis that a span takes, 0..1 (Park et al. 2019, arXiv:1904.08779).
    """
    time_key, dim_key = jax.random.split(key)
    time = _span(time_key, x.shape[0], x.shape[1], share)
    dims = _span(dim_key, x.shape[0], x.shape[2], share)
    return jnp.where(time[:, :, None] | dims[:, None, :], 0, x)


def mixup(
    key: jax.Array, alpha: float, x: jax.Array, mask: jax.Array, y: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Mix each window, and its label, with another of the batch (Zhang et al. 2018, arXiv:1710.09412).

    x (B, T, F), mask (B, T), y and weight (B, D); alpha > 0: mixing shares are Beta(alpha, alpha). The mask is True
    where either window has a frame. A label has weight where both windows' labels have: else one of them is unknown.
    """
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, (x.shape[0],))
    other = jax.random.permutation(order_key, x.shape[0])

    def mix(a: jax.Array) -> jax.Array:
        part = share.reshape(-1, *[1] * (a.ndim - 1))
        return part * a + (1 - part) * a[other]

    known = (weight > 0) & (weight[other] > 0)
    return mix(x * mask[:, :, None]), jnp.maximum(mask, mask[other]), mix(y), jnp.where(known, mix(weight), 0)


def _span(key: jax.Array, n: int, length: int, share: float) -> jax.Array:
    """True over a span of 0..share of ``length`` at a random position: (n, length)."""
    size_key, position_key = jax.random.split(key)
    size = jnp.floor(jax.random.uniform(size_key, (n, 1)) * (share * length + 1))
    first = jnp.floor(jax.random.uniform(position_key, (n, 1)) * (length - size + 1))
    position = jnp.arange(length)[None, :]
    return (position >= first) & (position < first + size)
