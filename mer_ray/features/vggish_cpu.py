"""VGGish on one CPU core: log-mel patches → embeddings, faster than TensorFlow's and JAX's convolutions.

The same function as `vggish_network.embed`, up to rounding: convolutions by Winograd (`winograd`), and dense layers by
BLAS. Every layer runs at a fixed number of patches, so that an embedding does not depend on its neighbours to the last
bit, if `rows_are_alike` on this machine. Wide layers use many patches, to read their weights less often; narrow ones a
small number, whose activations stay in the caches.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mer_ray.features.vggish_frontend import N_BANDS, PATCH_FRAMES
from mer_ray.features.vggish_network import DENSE, N_DIMS
from mer_ray.features.winograd import Convolution, Scratch, kernels

BATCH = 64  # patches in the dense layers
WIDE = 32  # in conv4
MIDDLE = 16  # in conv3


class Network:
    """weights: with the shapes of `vggish_network.shapes`; the dense layers' are not copied."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        scratch = Scratch()

        def layer(name: str, n: int, height: int, width: int, pool: bool) -> Convolution:
            kernel, bias = weights[f"vggish/{name}/weights"], weights[f"vggish/{name}/biases"]
            return Convolution(kernel, bias, n, height, width, pool, scratch)

        self._conv1 = weights["vggish/conv1/weights"].reshape(9, -1), np.array(weights["vggish/conv1/biases"])
        self._conv2 = layer("conv2", 1, 48, 32, pool=True)
        self._conv3 = layer("conv3/conv3_1", MIDDLE, 24, 16, pool=False), layer("conv3/conv3_2", MIDDLE, 24, 16, True)
        self._conv4 = layer("conv4/conv4_1", WIDE, 12, 8, pool=False), layer("conv4/conv4_2", WIDE, 12, 8, True)
        self._dense = [(weights[f"vggish/{n}/weights"], weights[f"vggish/{n}/biases"][:, None]) for n in DENSE]
        self._images = [  # each layer's input; the borders stay zero
            np.zeros(shape, np.float32)
            for shape in [
                (1, PATCH_FRAMES + 2, N_BANDS + 2),
                (1, 50, 34, 64),
                (MIDDLE, 26, 18, 128),
                (MIDDLE, 26, 18, 256),
                (WIDE, 14, 10, 256),
                (WIDE, 14, 10, 512),
                (BATCH, 6, 4, 512),
            ]
        ]

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """(n, 96, 64) float32 patches → (n, 128) float32 embeddings; NaN for a patch that is not finite."""
        result = np.empty((len(patches), N_DIMS), np.float32)
        for first in range(0, len(patches), BATCH):
            block = patches[first : first + BATCH]
            result[first : first + BATCH] = self.embed(self.convolve(block))[: len(block)]
        result[~np.isfinite(patches).all((1, 2))] = np.nan  # numba's maxima ignore NaN
        return result

    def convolve(self, patches: np.ndarray) -> np.ndarray:
        """The convolutions: n <= 64 patches → (64, 12288) activations, of which the first n rows are valid."""
        patch, after1, after2, inside3, after3, inside4, after4 = self._images
        for wide in range(0, len(patches), WIDE):
            for middle in range(wide, min(wide + WIDE, len(patches)), MIDDLE):
                for i in range(middle, min(middle + MIDDLE, len(patches))):
                    patch[0, 1:-1, 1:-1] = patches[i]
                    kernels().first(patch, *self._conv1, after1)
                    self._conv2(after1, after2[i - middle : i - middle + 1])
                self._conv3[0](after2, inside3)
                self._conv3[1](inside3, after3[middle - wide : middle - wide + MIDDLE])
            self._conv4[0](after3, inside4)
            self._conv4[1](inside4, after4[wide : wide + WIDE])
        return after4.reshape(BATCH, -1)

    def embed(self, activations: np.ndarray) -> np.ndarray:
        """The dense layers: (64, 12288) → (64, 128)."""
        x = activations.T
        for kernel, bias in self._dense:
            x = kernel @ x + bias
            if len(kernel) != N_DIMS:
                np.maximum(x, 0, out=x)
        return x.T


def rows_are_alike() -> bool:
    """Whether BLAS rounds a patch's results in the same way at any position in a batch.

    OpenBLAS does with its AVX-512 kernels, and does not with those for AVX2. Measured in 0.1 s.
    """
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    for n, tiles, inputs, outputs in (
        (MIDDLE, 24, 128, 256),
        (MIDDLE, 24, 256, 256),
        (WIDE, 6, 256, 512),
        (WIDE, 6, 512, 512),
    ):
        products = np.tile(random(tiles, inputs), (n, 1)) @ random(inputs, outputs)
        patches = products.reshape(n, tiles, outputs)
        if not np.array_equal(patches, np.broadcast_to(patches[:1], patches.shape)):
            return False
    for inputs in (12_288, 4_096):
        products = random(256, inputs) @ np.tile(random(1, inputs), (BATCH, 1)).T
        if not np.array_equal(products, np.broadcast_to(products[:, :1], products.shape)):
            return False
    return True
