"""What a stretch of frames is like as a whole: its level, its spread, and how fast each coefficient moves.

Modulation spectra of cepstral coefficients tell genres and moods apart that means and deviations do not (Lee et al.
2009, IEEE Transactions on Multimedia 11(4), 670-682).
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from mer_ray.models.layout import FLOOR, TEXTURE_S, band_edges, segment_frames
from mer_ray.models.pooling import masked_mean_sd, pool_time


def functionals(x: jax.Array, mask: jax.Array, hop_s: float) -> list[jax.Array]:
    """Blocks of statistics over time: x (B, T, F), mask (B, T) → arrays (B, P_i).

    Mean; log deviation; log deviation of the differences of neighbouring frames; over half seconds, the deviation of
    their means and the mean and deviation of their deviations; and the modulation spectrum. For frames that are close
    enough (`is_fine`).
    """
    mean, sd = masked_mean_sd(x, mask)
    steps = mask[:, 1:] * mask[:, :-1]
    _, moved = masked_mean_sd(x[:, 1:] - x[:, :-1], steps)
    blocks = [mean, jnp.log(sd + FLOOR), jnp.log(moved + FLOOR)]
    texture, weight = pool_time(x, mask, round(TEXTURE_S / hop_s))
    level, spread = jnp.split(texture, 2, axis=-1)
    (_, level_sd), (spread_mean, spread_sd) = masked_mean_sd(level, weight), masked_mean_sd(spread, weight)
    blocks.append(jnp.concatenate([level_sd, spread_mean, spread_sd], axis=-1))
    return [*blocks, modulation(x, mask, segment_frames(hop_s))]


def modulation(x: jax.Array, mask: jax.Array, segment: int) -> jax.Array:
    """Log power of each coefficient's movement in bands of modulation frequency: x (B, T, F), mask (B, T) → (B, K F).

    Welch's method (1967): Hann windows of ``segment`` frames, half overlapping, each without its mean. A segment with
    missing frames counts less, and hardly at all where less than half of it is there.
    """
    batch, time, dims = x.shape
    hop = segment // 2
    count = -(-time // hop)
    room = (count + 1) * hop - time
    x = jnp.pad(x, ((0, 0), (0, room), (0, 0))).reshape(batch, count + 1, hop, dims)
    mask = jnp.pad(mask, ((0, 0), (0, room))).reshape(batch, count + 1, hop)
    pieces = jnp.concatenate([x[:, :-1], x[:, 1:]], axis=2).reshape(-1, segment, dims)
    there = jnp.concatenate([mask[:, :-1], mask[:, 1:]], axis=2).reshape(-1, segment)
    mean, _ = masked_mean_sd(pieces, there)
    taper = jnp.asarray(np.hanning(segment + 1)[:-1], jnp.float32)[None, :] * there
    edges = band_edges(segment)
    # As a product: on CPUs, XLA's Fourier transform takes three times as long.
    wave = np.exp(-2j * np.pi * np.outer(np.arange(1, edges[-1]), np.arange(segment)) / segment)
    pieces = (pieces - mean[:, None]) * taper[:, :, None]
    real, imaginary = (jnp.einsum("ks,nsf->nkf", jnp.asarray(w, jnp.float32), pieces) for w in (wave.real, wave.imag))
    power = (jnp.square(real) + jnp.square(imaginary)) / jnp.maximum(jnp.square(taper).sum(axis=1), 1e-6)[:, None, None]
    bands = jnp.stack([power[:, a - 1 : b - 1].mean(axis=1) for a, b in pairwise(edges)], axis=1)
    share = there.mean(axis=1)
    weight = (jnp.maximum(share - 0.5, 0) + 1e-3 * share).reshape(batch, count, 1, 1)
    bands = (bands.reshape(batch, count, -1, dims) * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1e-9)
    return jnp.log(bands + FLOOR).reshape(batch, -1)
