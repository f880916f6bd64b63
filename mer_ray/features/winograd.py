"""3×3 convolutions on a CPU with a quarter of the multiplications: Winograd's F(4×4, 3×3).

Lavin & Gray (2016), "Fast algorithms for convolutional neural networks", CVPR. A tile of 4×4 outputs from 6×6 inputs
takes 36 products per pair of channels instead of 144. So a convolution is 36 matrix products
(tiles × inputs) @ (inputs × outputs) between two cheap transforms: numba does the transforms, BLAS the products.

Images have the layout (image, row, column, channel), with a border of one zero pixel if a convolution follows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

TILE = 4  # rows and columns of outputs
SEEN = TILE + 2  # rows and columns of inputs
POINTS = SEEN * SEEN  # matrix products

_KERNEL_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)


def transformed(kernel: np.ndarray) -> np.ndarray:
    """A kernel (3, 3, inputs, outputs) → the right-hand factors of the products, (36, inputs, outputs) float32."""
    g = _KERNEL_TRANSFORM
    rows = np.tensordot(g, kernel.astype(np.float64), (1, 0))  # (6, 3, inputs, outputs)
    both = np.tensordot(g, rows, (1, 1)).swapaxes(0, 1)
    return both.reshape(POINTS, *kernel.shape[2:]).astype(np.float32)


class Scratch:
    """Buffers between the transforms and the products, shared by convolutions that run one after the other."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, *shape: int) -> np.ndarray:
        """An uninitialised float32 array of this shape. The same name reuses the same memory."""
        size = int(np.prod(shape))
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.zeros(size, np.float32)
        return self._arrays[name][:size].reshape(shape)


class Convolution:
    """A 3×3 SAME convolution with bias and ReLU, and a 2×2 max pool if ``pool``, of ``n`` images at a time.

    ``n`` fixes the shapes of all products, so that an image's result does not depend on the others to the last bit.
    height, width: of the input without its border, multiples of 4.
    """

    def __init__(
        self, kernel: np.ndarray, bias: np.ndarray, n: int, height: int, width: int, pool: bool, scratch: Scratch
    ) -> None:
        self.n, self.height, self.width, self.pool = n, height, width, pool
        self._kernel = transformed(kernel)
        self._bias = np.ascontiguousarray(bias, np.float32)
        self._scratch = scratch

    def __call__(self, images: np.ndarray, out: np.ndarray) -> None:
        """(n, height + 2, width + 2, inputs) → ``out``: (n, rows, columns, outputs), with or without a border.

        Both are C-contiguous float32. A border of ``out`` is not changed.
        """
        _, inputs, outputs = self._kernel.shape
        tiles = self.n * (self.height // TILE) * (self.width // TILE)
        row = self._scratch.array("row", SEEN, self.width + 2, inputs)
        left = self._scratch.array("left", POINTS, tiles, inputs)
        products = self._scratch.array("products", POINTS, tiles, outputs)
        half = self._scratch.array("half", TILE, SEEN, outputs)
        full = self._scratch.array("full", TILE, TILE, outputs)
        border = (out.shape[1] - self.height // (2 if self.pool else 1)) // 2
        kernels().forward(images, row, left)
        np.matmul(left, self._kernel, out=products)
        kernels().inverse(products, self._bias, half, full, self.pool, border, out)


class Kernels(NamedTuple):
    """Compiled loops.

    forward(images, row, left): the tiles of images (n, H + 2, W + 2, I) → ``left`` (36, tiles, I).
    inverse(products, bias, half, full, pool, border, out): ``products`` (36, tiles, O) → images, bias, ReLU and pool.
    first(images, kernel, bias, out): a whole layer for images (n, H + 2, W + 2) of one channel: convolution with
    ``kernel`` (9, O), bias, ReLU, pool, into ``out`` (n, H / 2 + 2, W / 2 + 2, O), which has a border.
    """

    forward: Callable[..., None]
    inverse: Callable[..., None]
    first: Callable[..., None]


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """The loops, compiled at their first call in about four seconds.

    The transforms are of rows, then of columns. Their inner loops run over channels, which are contiguous, and so
    become vector instructions.
    """
    from numba import njit

    zero, two, four, five, eight = (np.float32(x) for x in (0, 2, 4, 5, 8))

    @njit
    def forward_1d(x, y):  # type: ignore[no-untyped-def]
        for c in range(x.shape[1]):
            even, odd = x[4, c] - four * x[2, c], x[3, c] - four * x[1, c]
            y[0, c] = four * x[0, c] - five * x[2, c] + x[4, c]
            y[1, c] = even + odd
            y[2, c] = even - odd
            even, odd = x[4, c] - x[2, c], two * (x[3, c] - x[1, c])
            y[3, c] = even + odd
            y[4, c] = even - odd
            y[5, c] = four * x[1, c] - five * x[3, c] + x[5, c]

    @njit
    def inverse_1d(x, y):  # type: ignore[no-untyped-def]
        for c in range(x.shape[1]):
            sum1, difference1 = x[1, c] + x[2, c], x[1, c] - x[2, c]
            sum2, difference2 = x[3, c] + x[4, c], x[3, c] - x[4, c]
            y[0, c] = x[0, c] + sum1 + sum2
            y[1, c] = difference1 + two * difference2
            y[2, c] = sum1 + four * sum2
            y[3, c] = difference1 + eight * difference2 + x[5, c]

    @njit(nogil=True)
    def forward(images, row, left):  # type: ignore[no-untyped-def]
        n, height, width, channels = images.shape
        lines = images.reshape(n, height, width * channels)
        line = row.reshape(6, width * channels)
        tile = 0
        for image in range(n):
            for i in range(0, height - 2, 4):
                forward_1d(lines[image, i : i + 6], line)
                for j in range(0, width - 2, 4):
                    for r in range(6):
                        forward_1d(row[r, j : j + 6], left[6 * r : 6 * r + 6, tile])
                    tile += 1

    @njit(nogil=True)
    def inverse(products, bias, half, full, pool, border, out):  # type: ignore[no-untyped-def]
        n, height, width, channels = out.shape
        step = 2 if pool else 4
        tile = 0
        for image in range(n):
            for i in range(border, height - border, step):
                for j in range(border, width - border, step):
                    for r in range(6):
                        inverse_1d(products[r::6, tile], half[:, r])
                    for r in range(4):
                        inverse_1d(half[r], full[r])
                    for r in range(step):
                        for s in range(step):
                            z = out[image, i + r, j + s]
                            if pool:
                                a, b = full[2 * r, 2 * s], full[2 * r, 2 * s + 1]
                                c, d = full[2 * r + 1, 2 * s], full[2 * r + 1, 2 * s + 1]
                                for k in range(channels):
                                    z[k] = max(max(max(a[k], b[k]), max(c[k], d[k])) + bias[k], zero)
                            else:
                                a = full[r, s]
                                for k in range(channels):
                                    z[k] = max(a[k] + bias[k], zero)
                    tile += 1

    @njit(nogil=True)
    def first(images, kernel, bias, out):  # type: ignore[no-untyped-def]
        n, height, width, channels = out.shape
        for image in range(n):
            for i in range(height - 2):
                for j in range(width - 2):
                    z = out[image, i + 1, j + 1]
                    for k in range(channels):
                        largest = np.float32(-np.inf)
                        for r in range(2):
                            for s in range(2):
                                total = zero
                                for tap in range(9):
                                    total += images[image, 2 * i + r + tap // 3, 2 * j + s + tap % 3] * kernel[tap, k]
                                largest = max(largest, total)
                        z[k] = max(largest + bias[k], zero)

    return Kernels(forward, inverse, first)
