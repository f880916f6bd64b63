"""Masked means and standard deviations over time, for the networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def masked_mean_sd(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation over time: x (B, T, F), mask (B, T) → two arrays (B, F). No frames give zeros."""
    # Sums as matrix products: XLA's reductions over the middle axis take three times as long on CPUs. At the highest
    # precision, or GPUs would round the frames to 10 bits.
    share = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1e-6)
    mean = jnp.einsum("bt,btf->bf", share, x, precision="highest")
    variance = jnp.einsum("bt,btf->bf", share, jnp.square(x - mean[:, None]), precision="highest")
    return mean, jnp.sqrt(variance + 1e-6)


def pool_time(x: jax.Array, mask: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of every ``stride`` frames side by side: x (B, T, F) → (B, T', 2F), mask (B, T) → (B, T').

    T is cut or padded to a multiple of stride, T' = ceil(T / stride); the new mask is the share of real frames.
    A stride of 1 returns x and mask as they are.
    """
    if stride == 1:
        return x, mask
    batch, time, dims = x.shape
    padding = -time % stride
    x = jnp.pad(x, ((0, 0), (0, padding), (0, 0))).reshape(-1, stride, dims)
    mask = jnp.pad(mask, ((0, 0), (0, padding))).reshape(-1, stride)
    mean, sd = masked_mean_sd(x, mask)
    pooled = jnp.concatenate([mean, sd], axis=-1).reshape(batch, -1, 2 * dims)
    return pooled, mask.mean(axis=1).reshape(batch, -1)
