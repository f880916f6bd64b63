"""How the statistics of a passage are laid out, for all that reads or makes them: sizes of blocks, bands, waves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

TEXTURE_S = 0.5
MODULATION_S = 6.0
MIN_STRIDE = 4
MAX_BANDS = 10
FLOOR = 1e-3
VARIANCE = 1e-6
"""Added to every variance."""

N_COMPONENTS = 40
N_WAVES = 5_120
"""Of all blocks together."""
BANDWIDTHS = (0.5, 1.0, 2.0)
"""b of the kernels exp(-b d² / median d²), d the distance of two tracks in one block of statistics."""
CLIP = 5.0
"""Statistics that lie further than so many deviations from the training tracks' mean are brought back to it."""


def is_fine(hop_s: float) -> bool:
    """Whether half a second has frames enough to tell of movement."""
    return round(TEXTURE_S / hop_s) >= MIN_STRIDE


def segment_frames(hop_s: float) -> int:
    """Length of the segments of the modulation spectrum: the power of 2 nearest to 6 s."""
    return int(2 ** round(np.log2(MODULATION_S / hop_s)))


def band_edges(segment: int) -> list[int]:
    """Bins between which the bands of the modulation spectrum lie, each about half an octave wide or one bin."""
    edges = np.unique(np.round(np.geomspace(1, segment // 2, MAX_BANDS + 1)).astype(int))
    return [int(e) for e in edges]


def n_components(n_dims: int, hop_s: float) -> int:
    """K, the principal components whose movement is looked at; 0 for embeddings."""
    return min(n_dims, N_COMPONENTS) if is_fine(hop_s) else 0


def sizes(n_dims: int, hop_s: float) -> list[int]:
    """P_i, the widths of the blocks of statistics."""
    k = n_components(n_dims, hop_s)
    if not k:
        return [n_dims, n_dims]
    return [n_dims, k, k, k, 3 * k, k * (len(band_edges(segment_frames(hop_s))) - 1)]


@lru_cache(maxsize=32)
def directions(seed: int, size: int, count: int) -> np.ndarray:
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
    made: np.ndarray = np.concatenate(parts, axis=1).astype(np.float32)
    return made
