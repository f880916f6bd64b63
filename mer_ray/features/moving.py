"""Moving means and maxima along the first axis, whose ends are continued by the first and the last row."""

from __future__ import annotations

import numpy as np


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    before = size // 2
    return np.concatenate([np.repeat(x[:1], before, axis=0), x, np.repeat(x[-1:], size - 1 - before, axis=0)])


def moving_mean(x: np.ndarray, size: int) -> np.ndarray:
    """(T, ...) → (T, ...) float64: the mean of rows t - size // 2 to t - size // 2 + size - 1. size: at least 1."""
    if not len(x):
        return np.asarray(x, np.float64)
    sums = np.cumsum(_padded(x, size), axis=0, dtype=np.float64)
    sums[size:] -= sums[:-size].copy()
    result: np.ndarray = sums[size - 1 :] / size
    return result


def moving_max(x: np.ndarray, size: int) -> np.ndarray:
    """(T, ...) → (T, ...): the largest of rows t - size // 2 to t - size // 2 + size - 1. size: at least 1."""
    if not len(x):
        return x
    padded = _padded(x, size)
    result = padded[: len(x)].copy()
    for shift in range(1, size):
        np.maximum(result, padded[shift : shift + len(x)], out=result)
    return result
