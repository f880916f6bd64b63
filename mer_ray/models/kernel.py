"""Statistics of a whole passage, compared with those of the training tracks by a sum of Gaussian kernels.

The kernels are approximated by random Fourier features (Rahimi & Recht 2007, NeurIPS), so that the network is a fixed
layer and one linear layer, which is solved and not stepped (`mer_ray.training.solve`): on a few hundred tracks no
network that was trained by gradients came near it.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_ray.models import N_TARGETS
from mer_ray.models.functionals import functionals, is_fine
from mer_ray.models.pooling import masked_mean_sd

SOLVED = True
DEFAULTS = {"window_s": 30.0}

N_COMPONENTS = 40
N_WAVES = 5_120
"""Of all blocks together."""
BANDWIDTHS = (0.5, 1.0, 2.0)
"""b of the kernels exp(-b d² / median d²), d the distance of two tracks in one block of statistics."""
CLIP = 5.0
"""Statistics that lie further than so many deviations from the training tracks' mean are brought back to it."""


class Kernel(nnx.Module):
    """Statistics in blocks → waves of each block → a linear head.

    Of spectra and cepstra: the mean frame, and functionals of the frames' principal components, since neighbouring
    bands say the same. Of embeddings, whose frames are a second or so apart: mean and deviation.
    """

    def __init__(self, n_dims: int, hop_s: float, rngs: nnx.Rngs, outputs: int = N_TARGETS) -> None:
        self.hop_s = hop_s
        self.n_components = min(n_dims, N_COMPONENTS) if is_fine(hop_s) else 0
        sizes = _sizes(n_dims, self.n_components, hop_s)
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
        self.directions = nnx.List(nnx.Variable(jnp.asarray(_directions(i, n, waves))) for i, n in enumerate(sizes))

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


def _sizes(n_dims: int, n_components: int, hop_s: float) -> list[int]:
    """P_i, the widths of the blocks."""
    if not n_components:
        return [n_dims, n_dims]
    made = jax.eval_shape(lambda x: functionals(x, x[:, :, 0], hop_s), jnp.zeros((1, 2, n_components)))
    return [n_dims, *(block.shape[1] for block in made)]


@lru_cache(maxsize=32)
def _directions(seed: int, size: int, count: int) -> np.ndarray:
    """(size, count) float32: normal directions made orthogonal as far as they can be, which approximates a kernel
    better (Yu et al. 2016, NeurIPS). From the bits of a counter, which NumPy keeps the same in all versions."""
    bits = np.random.Philox(key=seed)

    def uniform(n: int) -> np.ndarray:
        return (np.asarray(bits.random_raw(n) >> np.uint64(11), float) + 0.5) / 2.0**53

    def normal(n: int) -> np.ndarray:  # Box & Muller 1958
        drawn: np.ndarray = np.sqrt(-2 * np.log(uniform(n))) * np.cos(2 * np.pi * uniform(n))
        return drawn

    parts = []
    for first in range(0, count, size):
        q, _ = np.linalg.qr(normal(size * size).reshape(size, size))
        lengths = np.sqrt(np.square(normal(size * size)).reshape(size, size).sum(axis=0))
        parts.append((q * lengths)[:, : count - first])
    directions: np.ndarray = np.concatenate(parts, axis=1).astype(np.float32)
    return directions
