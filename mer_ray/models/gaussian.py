"""Sums of Gaussian kernels on blocks of statistics, and ridge regression with them.

A block has the kernels exp(-d² / 2 (l m)²): d is the distance of two passages in the block, m its median over training
passages, and l one of `LENGTH_SCALES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LENGTH_SCALES = (1.0, 0.5**0.5, 0.5)
"""Each kernel is the square of the one before it, so that a block needs one exponential."""
MEDIAN_OF = 1_000
"""Passages from which median distances are estimated."""
ROWS = 256
"""Passages that are compared together, so that memory does not grow with their number."""
JITTER = 1e-4
"""Added to the diagonal for landmarks whose kernels are nearly dependent."""


def median_distances(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The median distance of two passages in each block (n, P_b): (blocks,) float32."""
    out = []
    for block in blocks:
        some = block[:: max(1, -(-len(block) // MEDIAN_OF))].astype(np.float64)
        out.append(np.sqrt(max(np.median(_squared_distances(some, some)), 1e-6)))
    return np.array(out, np.float32)


@dataclass(frozen=True)
class Kernels:
    """Weighted sums of the kernels of all blocks and length scales.

    Attributes:
        medians: (blocks,), the unit of distance in each block.
        mixtures: (M, blocks, scales), the weights of each of M sums.
    """

    medians: np.ndarray
    mixtures: np.ndarray

    def __call__(self, x: Sequence[np.ndarray], support: Sequence[np.ndarray]) -> np.ndarray:
        """Compare n passages, blocks (n, P_b), with m others, blocks (m, P_b): (M, n, m) float32."""
        out = np.zeros((len(self.mixtures), len(x[0]), len(support[0])), np.float32)
        for a, b, median, weights in zip(x, support, self.medians, self.mixtures.transpose(1, 2, 0), strict=True):
            exponent = _squared_distances(a.astype(np.float32), b.astype(np.float32))
            exponent *= np.float32(-0.5 / median**2)
            kernel = np.exp(exponent, out=exponent)
            for scale, of_scale in enumerate(weights):
                if scale:
                    np.square(kernel, out=kernel)
                for m in np.flatnonzero(of_scale):
                    out[m] += np.float32(of_scale[m]) * kernel
        return out

    def of_tracks(
        self,
        x: Sequence[np.ndarray],
        counts: np.ndarray,
        support: Sequence[np.ndarray],
        support_counts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Means over the passages of each track: (M, tracks, m), or with ``support_counts`` (M, tracks, tracks).

        x: passages of all tracks, one track after the other. counts: passages of each track.
        """
        ends = np.concatenate([[0], np.cumsum(counts)])
        parts, i = [], 0
        while i < len(counts):
            j = max(i + 1, int(np.searchsorted(ends, ends[i] + ROWS, "right")) - 1)
            values = self([b[ends[i] : ends[j]] for b in x], support)
            values = _means(values, counts[i:j], 1)
            parts.append(values if support_counts is None else _means(values, support_counts, 2))
            i = j
        return np.concatenate(parts, axis=1)


def _means(values: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    """Means of so many neighbours along an axis."""
    if (counts == 1).all():
        return values
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    shape = [1, 1, 1]
    shape[axis] = len(counts)
    means: np.ndarray = np.add.reduceat(values, first, axis=axis) / counts.reshape(shape).astype(np.float32)
    return means


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, P) and (m, P) → (n, m)."""
    squared = a @ b.T
    squared *= -2
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    return np.asarray(np.maximum(squared, 0, out=squared))


def ridge(gram: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float) -> np.ndarray:
    """Kernel ridge regression: coefficients (N,) of the tracks' kernels.

    They minimise the weighted squared error plus alpha times the squared norm of the function.
    gram (N, N), y and weight (N,).
    """
    from scipy.linalg import solve

    penalised = gram.astype(np.float64)
    penalised[np.diag_indices_from(penalised)] += alpha / weight
    return np.asarray(solve(penalised, y, assume_a="pos", overwrite_a=True))


def ridge_on_landmarks(
    across: np.ndarray, gram: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float
) -> np.ndarray:
    """`ridge` among the functions that M landmarks span: their coefficients (M,).

    The Nyström approximation (Williams & Seeger 2001, NIPS 13; Yang et al. 2012, NIPS 25, compare it with random
    Fourier features). across (N, M): kernels of tracks and landmarks. gram (M, M). y and weight (N,).
    """
    from scipy.linalg import solve

    a = across.astype(np.float64)
    penalised = a.T @ (weight[:, None] * a) + alpha * gram
    penalised[np.diag_indices_from(penalised)] += JITTER
    return np.asarray(solve(penalised, a.T @ (weight * y), assume_a="pos", overwrite_a=True))


def ridge_path(
    gram: np.ndarray, y: np.ndarray, weights: np.ndarray, known: np.ndarray, alphas: Sequence[float]
) -> np.ndarray:
    """Predictions (alphas, M, D) for the tracks where ``known`` is False, for each penalty.

    gram (N, N), y and weights (N, D), known (N,). One eigendecomposition serves all penalties, and all dimensions with
    equal weights.
    """
    inside, across = gram[np.ix_(known, known)], gram[np.ix_(~known, known)]
    alike = bool(np.all(weights == weights[:, :1]))
    out = np.empty((len(alphas), len(across), y.shape[1]))
    for columns in [slice(None)] if alike else [slice(d, d + 1) for d in range(y.shape[1])]:
        root, target = np.sqrt(weights[known, columns][:, 0]), y[known, columns]
        mean = np.average(target, axis=0, weights=root**2)
        values, vectors = np.linalg.eigh(inside * root[:, None] * root[None, :])
        left, right = (across * root) @ vectors, vectors.T @ ((target - mean) * root[:, None])
        for j, alpha in enumerate(alphas):
            out[j][:, columns] = left @ (right / (values + alpha)[:, None]) + mean
    return out
