"""A convolutional network that reads the frames as an image, time by coefficient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mer_ray.models import N_TARGETS
from mer_ray.models.pooling import masked_mean_sd


class Cnn(nnx.Module):
    """Three convolutions, each thinning time; then mean and deviation over time of every channel at every coefficient.

    Frequency keeps its place to the end: the coefficients of a frame are not interchangeable as pixels are. The mean
    and deviation of the frames themselves stand beside: few tracks do not teach a convolution to pass them on.
    """

    def __init__(self, n_dims: int, hop_s: float, rngs: nnx.Rngs, width: int = 16, dropout: float = 0.4) -> None:
        # Frames closer than about 0.1 s are thinned by the first convolutions, coarser ones are not.
        stride = 2 if hop_s < 0.1 else 1
        across = 2 if n_dims >= 16 else 1
        channels = (1, width, width, 2 * width)
        strides = ((2 * stride, across), (stride, 2), (stride, 2))
        # Padded alike on both sides, whatever the length: "SAME" would shift the frames where padding is appended.
        self.convolutions = nnx.List(
            nnx.Conv(channels[i], channels[i + 1], (5, 3), strides=strides[i], padding=((2, 2), (1, 1)), rngs=rngs)
            for i in range(3)
        )
        self.time_strides = tuple(s[0] for s in strides)
        bands = n_dims
        for s in strides:
            bands = -(-bands // s[1])
        n_pooled = 2 * bands * channels[-1] + 2 * n_dims
        self.norm = nnx.LayerNorm(n_pooled, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)
        self.head = nnx.Linear(n_pooled, N_TARGETS, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (B, T, F), mask (B, T) → (B, 3)."""
        x = jnp.where(mask[:, :, None] > 0, x, 0)
        level = masked_mean_sd(x, mask)
        h = x[..., None]
        for convolution, stride in zip(self.convolutions, self.time_strides, strict=True):
            mask = mask[:, ::stride]
            # Masked again after each layer, or the edge of the music would leak into the padding and back.
            h = nnx.relu(convolution(h)) * mask[:, :, None, None]
        b, t, _, _ = h.shape
        mean, sd = masked_mean_sd(h.reshape(b, t, -1), mask)
        pooled = self.norm(jnp.concatenate([mean, sd, *level], axis=-1))
        return self.head(self.dropout(pooled, deterministic=rngs is None, rngs=rngs))


def build(n_dims: int, hop_s: float, rngs: nnx.Rngs) -> Cnn:
    """See `mer_ray.models.build`."""
    return Cnn(n_dims, hop_s, rngs)
