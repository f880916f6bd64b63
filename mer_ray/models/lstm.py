"""A recurrent network that reads the frames as a sequence of about two steps a second or slower."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mer_ray.models.pooling import pool_time
from mer_ray.models.recurrence import lstm

STEP_S = 0.5


class Lstm(nnx.Module):
    """Mean and deviation of each half second → LSTM (Hochreiter & Schmidhuber 1997) → mean over the steps."""

    def __init__(
        self, n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int, width: int = 64, dropout: float = 0.4
    ) -> None:
        self.stride = max(1, round(STEP_S / hop_s))
        inputs = n_dims if self.stride == 1 else 2 * n_dims
        self.project = nnx.Linear(inputs, width, rngs=rngs)
        self.gates = nnx.Linear(width, 4 * width, rngs=rngs)
        square = nnx.initializers.orthogonal()
        self.recurrent = nnx.Param(jnp.concatenate([square(rngs.params(), (width, width)) for _ in range(4)], axis=1))
        self.norm = nnx.LayerNorm(2 * width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.head = nnx.Linear(2 * width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (B, T, F), mask (B, T) → (B, outputs). Padding is at the end, where it does not affect earlier steps."""
        x, mask = pool_time(jnp.where(mask[:, :, None] > 0, x, 0), mask, self.stride)
        x, share = x.swapaxes(0, 1), (mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1e-6)).T[:, :, None]
        h = self.dropout(nnx.relu(self.project(x)), deterministic=rngs is None, rngs=rngs)
        states = lstm(self.gates(h), self.recurrent[...])
        pooled = self.norm(jnp.concatenate([(states * share).sum(axis=0), (h * share).sum(axis=0)], axis=-1))
        return self.head(self.dropout(pooled, deterministic=rngs is None, rngs=rngs))


def build(n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int) -> Lstm:
    """The network; see `mer_ray.models`."""
    return Lstm(n_dims, hop_s, rngs, outputs)
