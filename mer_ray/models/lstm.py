"""A recurrent network that reads the frames as a sequence of about two steps a second or slower."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mer_ray.models import N_TARGETS
from mer_ray.models.pooling import masked_mean_sd, pool_time

STEP_S = 0.5


class Lstm(nnx.Module):
    """Mean and deviation of each half second → LSTM (Hochreiter & Schmidhuber 1997) → mean over the steps."""

    def __init__(self, n_dims: int, hop_s: float, rngs: nnx.Rngs, width: int = 64, dropout: float = 0.4) -> None:
        self.stride = max(1, round(STEP_S / hop_s))
        inputs = n_dims if self.stride == 1 else 2 * n_dims
        self.project = nnx.Linear(inputs, width, rngs=rngs)
        self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(width, width, rngs=rngs))
        self.norm = nnx.LayerNorm(2 * width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.head = nnx.Linear(2 * width, N_TARGETS, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (B, T, F), mask (B, T) → (B, 3). Padding stands at the end, where the past cannot see it."""
        h, mask = pool_time(jnp.where(mask[:, :, None] > 0, x, 0), mask, self.stride)
        h = nnx.relu(self.project(h))
        h = self.dropout(h, deterministic=rngs is None, rngs=rngs)
        zeros = jnp.zeros((h.shape[0], h.shape[-1]))
        states = self.lstm(h, initial_carry=(zeros, zeros))
        heard, _ = masked_mean_sd(states, mask)
        direct, _ = masked_mean_sd(h, mask)
        pooled = self.norm(jnp.concatenate([heard, direct], axis=-1))
        return self.head(self.dropout(pooled, deterministic=rngs is None, rngs=rngs))


def build(n_dims: int, hop_s: float, rngs: nnx.Rngs) -> Lstm:
    """See `mer_ray.models.build`."""
    return Lstm(n_dims, hop_s, rngs)
