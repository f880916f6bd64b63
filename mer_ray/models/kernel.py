"""Statistics of a whole passage, compared with those of the training tracks by a sum of Gaussian kernels.

The kernels are approximated by random Fourier features (Rahimi & Recht 2007, NeurIPS), so that the network is a fixed
layer and one linear layer, which is solved and not stepped (`mer_ray.models.solve`): on a few hundred tracks no
network that was trained by gradients came near it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_ray.models import N_TARGETS
from mer_ray.models.functionals import functionals
from mer_ray.models.layout import BANDWIDTHS, CLIP, N_WAVES, directions, n_components
from mer_ray.models.layout import sizes as block_sizes
from mer_ray.models.pooling import masked_mean_sd

SOLVED = True
DEFAULTS = {"window_s": 30.0}
USES = ("window_s", "weigh_labels")


class Kernel(nnx.Module):
    """Statistics in blocks → waves of each block → a linear head.

    Of spectra and cepstra: the mean frame, and functionals of the frames' principal components, since neighbouring
    bands say the same. Of embeddings, whose frames are a second or so apart: mean and deviation.
    """

    def __init__(self, n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int = N_TARGETS) -> None:
        self.hop_s = hop_s
        self.n_components = n_components(n_dims, hop_s)
        sizes = block_sizes(n_dims, hop_s)
        waves = N_WAVES // len(sizes)
        # The solver sets these from the training tracks, as it does the head.
        self.components = nnx.Param(jnp.zeros((n_dims, self.n_components)))
        self.shift = nnx.Param(jnp.zeros(sum(sizes)))
        self.scale = nnx.Param(jnp.ones(sum(sizes)))
        self.reach = nnx.Param(jnp.ones(len(sizes)))
        n_inputs = len(sizes) * len(BANDWIDTHS) * 2 * waves
        self.head = nnx.Linear(n_inputs, outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.ends = tuple(int(e) for e in np.cumsum(sizes)[:-1])
        # Not learnt and not stored: drawn again, the same whatever the seed.
        self.directions = nnx.List(nnx.Variable(jnp.asarray(directions(i, n, waves))) for i, n in enumerate(sizes))

    def blocks(self, x: jax.Array, mask: jax.Array) -> list[jax.Array]:
        """Statistics as they come: (B, T, F), (B, T) → arrays (B, P_i)."""
        x = jnp.where(mask[:, :, None] > 0, x, 0)
        mean, sd = masked_mean_sd(x, mask)
        if not self.n_components:
            return [mean, sd]
        return [mean, *functionals(x @ self.components[...], mask, self.hop_s)]

    def waves(self, values: jax.Array) -> jax.Array:
        """All blocks side by side (B, P) → (B, blocks, bandwidths, 2 W): in each place, products are its kernel."""
        values = jnp.clip((values - self.shift) / self.scale, -CLIP, CLIP)
        parts = jnp.split(values, self.ends, axis=-1)
        angle = jnp.stack([part @ d[...] for part, d in zip(parts, self.directions, strict=True)], axis=1)
        width = jnp.sqrt(2 * jnp.asarray(BANDWIDTHS))[:, None] / self.reach[:, None, None]
        angle = angle[:, :, None, :] * width
        waves: jax.Array = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1) / np.sqrt(angle.shape[-1])
        return waves

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """x (B, T, F), mask (B, T) → (B, 3)."""
        waves = self.waves(jnp.concatenate(self.blocks(x, mask), axis=-1))
        return self.head(waves.reshape(len(x), -1))


def build(n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int = N_TARGETS) -> Kernel:
    """See `mer_ray.models.build`."""
    return Kernel(n_dims, hop_s, rngs, outputs)
