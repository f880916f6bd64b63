"""What makes a few hundred tracks look like more: masks over time and frequency, and mixtures of tracks."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def spec_augment(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
    """One stretch of time and one of coefficients set to 0, the mean: x (B, T, F), standardised → (B, T, F).

    share: each stretch takes up to this part of its axis, 0..1 (Park et al. 2019, arXiv:1904.08779).
    """
    time_key, dim_key = jax.random.split(key)
    time = _stretch(time_key, x.shape[0], x.shape[1], share)
    dims = _stretch(dim_key, x.shape[0], x.shape[2], share)
    return jnp.where(time[:, :, None] | dims[:, None, :], 0, x)


def mixup(
    key: jax.Array, alpha: float, x: jax.Array, mask: jax.Array, y: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Each piece mixed with another of the batch, labels likewise (Zhang et al. 2018, arXiv:1710.09412).

    x (B, T, F), mask (B, T), y and weight (B, 3); alpha > 0: mixing shares are Beta(alpha, alpha). A frame is there
    where either piece has one.
    """
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, (x.shape[0],))
    other = jax.random.permutation(order_key, x.shape[0])

    def mix(a: jax.Array) -> jax.Array:
        part = share.reshape(-1, *[1] * (a.ndim - 1))
        return part * a + (1 - part) * a[other]

    return mix(x * mask[:, :, None]), jnp.maximum(mask, mask[other]), mix(y), mix(weight)


def _stretch(key: jax.Array, n: int, length: int, share: float) -> jax.Array:
    """True over a stretch of 0..share of ``length`` at a random place: (n, length)."""
    size_key, place_key = jax.random.split(key)
    size = jnp.floor(jax.random.uniform(size_key, (n, 1)) * (share * length + 1))
    first = jnp.floor(jax.random.uniform(place_key, (n, 1)) * (length - size + 1))
    place = jnp.arange(length)[None, :]
    return (place >= first) & (place < first + size)
