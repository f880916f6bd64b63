"""The VGGish network in JAX: log-mel patches → 128-dimensional embeddings.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP; layers, names and layouts of
the AudioSet VGGish release: 3×3 SAME convolutions and 2×2 max pools over (time, band), then three dense layers. The
embedding is the last layer before its activation and before the release's PCA, as in the TensorFlow Hub module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mer_ray.features.vggish_frontend import N_BANDS, PATCH_FRAMES

N_DIMS = 128
CONVOLUTIONS = {  # name: output channels, whether a pool follows
    "conv1": (64, True),
    "conv2": (128, True),
    "conv3/conv3_1": (256, False),
    "conv3/conv3_2": (256, True),
    "conv4/conv4_1": (512, False),
    "conv4/conv4_2": (512, True),
}
DENSE = {"fc1/fc1_1": 4_096, "fc1/fc1_2": 4_096, "fc2": N_DIMS}  # name: outputs


def shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every array, under its name in the original checkpoint.

    Kernels are (height, width, in, out) and (in, out), biases (out,).
    """
    result: dict[str, tuple[int, ...]] = {}
    height, width, channels = PATCH_FRAMES, N_BANDS, 1
    for name, (outputs, pooled) in CONVOLUTIONS.items():
        result[f"vggish/{name}/weights"] = (3, 3, channels, outputs)
        result[f"vggish/{name}/biases"] = (outputs,)
        channels = outputs
        if pooled:
            height, width = height // 2, width // 2
    inputs = height * width * channels
    for name, outputs in DENSE.items():
        result[f"vggish/{name}/weights"] = (inputs, outputs)
        result[f"vggish/{name}/biases"] = (outputs,)
        inputs = outputs
    return result


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """He-normal kernels and zero biases, the same on every machine.

    He et al. (2015), "Delving deep into rectifiers", ICCV: this variance keeps the scale of the signal from layer to
    layer. Each array has a random stream of its own.
    """
    weights = {}
    for index, (name, shape) in enumerate(shapes().items()):
        if len(shape) == 1:
            weights[name] = np.zeros(shape, np.float32)
            continue
        kernel = np.random.Generator(np.random.PCG64([seed, index])).standard_normal(shape, np.float32)
        kernel *= np.float32(math.sqrt(2.0 / math.prod(shape[:-1])))
        weights[name] = kernel
    return weights


def convolve(weights: Mapping[str, Any], patches: Any) -> Any:
    """The convolutions: (B, 96, 64) log-mel patches → (B, 12288) activations, flattened from (time, band, channel)."""
    import jax.numpy as jnp
    from jax import lax, nn

    x = jnp.asarray(patches, jnp.float32)[..., None]
    for name, (_, pooled) in CONVOLUTIONS.items():
        kernel = weights[f"vggish/{name}/weights"]
        # HIGHEST, since GPUs and TPUs would else round the factors to 10 or 7 bits and give other features than CPUs.
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=lax.Precision.HIGHEST
        )
        x = nn.relu(x + weights[f"vggish/{name}/biases"])
        if pooled:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(x.shape[0], -1)


def embed(weights: Mapping[str, Any], activations: Any) -> Any:
    """The dense layers: (B, 12288) activations → (B, 128) embeddings, the last layer without activation."""
    import jax.numpy as jnp
    from jax import lax, nn

    x = activations
    for name in DENSE:
        x = jnp.dot(x, weights[f"vggish/{name}/weights"], precision=lax.Precision.HIGHEST)
        x = x + weights[f"vggish/{name}/biases"]
        if name != "fc2":
            x = nn.relu(x)
    return x


class Network:
    """VGGish on the default JAX device, compiled once, for ``batch`` patches at a time.

    In two functions. On CPUs the convolutions run in slices of 8 patches, whose activations stay in the caches, and
    which cost a short piece of music little padding; the dense layers want all patches at once, to read their 270 MB
    of weights seldom. As one function, 2 to 8 patches take several times as long (jax 0.10 on CPUs).
    """

    def __init__(self, weights: Mapping[str, np.ndarray], batch: int) -> None:
        import jax

        self.batch = batch
        self.slice = min(batch, 8) if jax.default_backend() == "cpu" else batch
        self._weights = jax.device_put(dict(weights))
        self._convolve = jax.jit(convolve)
        self._embed = jax.jit(embed)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """(n, 96, 64) patches, at most ``batch`` → (n, 128) float32 embeddings."""
        n = len(patches)
        parts = []
        for start in range(0, n, self.slice):
            part = patches[start : start + self.slice]
            parts.append(self._convolve(self._weights, _padded(part, self.slice))[: len(part)])
        if not parts:
            return np.zeros((0, N_DIMS), np.float32)
        activations = np.concatenate([np.asarray(part) for part in parts])
        return np.asarray(self._embed(self._weights, _padded(activations, self.batch)))[:n]


def _padded(array: np.ndarray, n: int) -> np.ndarray:
    """(m, …) → (n, …), with zeros: one shape, so that JAX compiles once."""
    if len(array) == n:
        return array
    return np.concatenate([array, np.zeros((n - len(array), *array.shape[1:]), array.dtype)])
