"""A convolutional network over time, whose filters span all coefficients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mer_ray.models.pooling import masked_mean_sd


class Cnn(nnx.Module):
    """Three strided convolutions; then mean and standard deviation over time of every channel of every layer.

    A filter spans all coefficients (Dieleman & Schrauwen 2014, ICASSP), since they are not translation-invariant as
    pixels are, and XLA is several times slower on CPUs with small filters over a small number of channels. The mean and
    deviation of the frames themselves are added as a skip connection, which small catalogs need. Before each layer,
    whole channels are dropped (Tompson et al. 2015, CVPR).
    """

    def __init__(
        self, n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int, width: int = 64, dropout: float = 0.4
    ) -> None:
        # Hops below about 0.1 s are strided by every convolution, longer ones by the first only.
        stride = 2 if hop_s < 0.1 else 1
        strides, inputs = (2 * stride, stride, stride), (n_dims, width, width)
        # Padded at the end only, or padding appended to a window would shift its frames.
        self.convolutions = nnx.List(
            nnx.Conv(c, width, (2 * s,), strides=s, padding=((0, 2 * s - 1),), rngs=rngs)
            for c, s in zip(inputs, strides, strict=True)
        )
        self.strides = strides
        n_pooled = 2 * n_dims + 2 * width * len(strides)
        self.norm = nnx.LayerNorm(n_pooled, rngs=rngs)
        self.channel_dropout = nnx.Dropout(dropout / 2, broadcast_dims=(1,))
        self.dropout = nnx.Dropout(dropout)
        self.head = nnx.Linear(n_pooled, outputs, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (B, T, F), mask (B, T) → (B, outputs)."""
        still = rngs is None
        h = jnp.where(mask[:, :, None] > 0, x, 0)
        pooled = [*masked_mean_sd(h, mask)]
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            mask = mask[:, ::stride]
            # Masked again after each layer, or values would spread into the padding and back.
            h = nnx.relu(convolution(self.channel_dropout(h, deterministic=still, rngs=rngs))) * mask[:, :, None]
            pooled += masked_mean_sd(h, mask)
        normed = self.norm(jnp.concatenate(pooled, axis=-1))
        return self.head(self.dropout(normed, deterministic=still, rngs=rngs))


def build(n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int) -> Cnn:
    """The network; see `mer_ray.models`."""
    return Cnn(n_dims, hop_s, rngs, outputs)
