"""The VGGish network: its shapes, and its computation in JAX, from samples to 128-dimensional embeddings.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP; layers, names and layouts of
the AudioSet VGGish release: 3×3 SAME convolutions and 2×2 max pools over (time, band), then three dense layers. The
embedding is the last layer before its activation and before the release's PCA, as in the TensorFlow Hub module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mer_ray.features import vggish_frontend as frontend

Precision = Literal["float32", "tf32", "bfloat16"]
"""Precision of the factors of products on a GPU; sums are float32."""

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

    Kernels are (height, width, in, out), biases (out,). Dense kernels are (out, in), transposed from the
    checkpoint's for faster matrix products on CPUs.
    """
    result: dict[str, tuple[int, ...]] = {}
    height, width, channels = frontend.PATCH_FRAMES, frontend.N_BANDS, 1
    for name, (outputs, pooled) in CONVOLUTIONS.items():
        result[f"vggish/{name}/weights"] = (3, 3, channels, outputs)
        result[f"vggish/{name}/biases"] = (outputs,)
        channels = outputs
        if pooled:
            height, width = height // 2, width // 2
    inputs = height * width * channels
    for name, outputs in DENSE.items():
        result[f"vggish/{name}/weights"] = (outputs, inputs)
        result[f"vggish/{name}/biases"] = (outputs,)
        inputs = outputs
    return result


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """He-normal kernels and zero biases, the same on every machine.

    He et al. (2015), "Delving deep into rectifiers", ICCV: this variance preserves the scale of the signal from layer
    to layer. Each array has its own random stream.
    """
    weights = {}
    for index, (name, shape) in enumerate(shapes().items()):
        if len(shape) == 1:
            weights[name] = np.zeros(shape, np.float32)
            continue
        inputs = math.prod(shape[:-1]) if len(shape) == 4 else shape[1]
        kernel = np.random.Generator(np.random.PCG64([seed, index])).standard_normal(shape, np.float32)
        kernel *= np.float32(math.sqrt(2 / inputs))
        weights[name] = kernel
    return weights


def log_mel(windows: Any) -> Any:
    """(B, 15600) samples → (B, 96, 64) patches: `vggish_frontend.patch` for arrays of JAX."""
    import jax.numpy as jnp
    from jax import lax

    window, mel = frontend.tables()
    starts = np.arange(frontend.PATCH_FRAMES) * frontend.HOP
    frames = windows[:, starts[:, None] + np.arange(frontend.FRAME)]
    magnitude = jnp.abs(jnp.fft.rfft(frames * window.astype(np.float32), frontend.N_FFT))
    return jnp.log(jnp.dot(magnitude, mel, precision=lax.Precision.HIGHEST) + frontend.LOG_OFFSET)


def embed(weights: Mapping[str, Any], patches: Any, precision: Precision = "float32") -> Any:
    """(B, 96, 64) patches → (B, 128) float32 embeddings, the last layer without activation."""
    import jax.numpy as jnp
    from jax import lax, nn

    # Without HIGHEST, GPUs and TPUs round the factors to 10 or 7 bits.
    accuracy = lax.Precision.HIGHEST if precision == "float32" else lax.Precision.DEFAULT
    factor = jnp.bfloat16 if precision == "bfloat16" else jnp.float32

    x = patches[..., None].astype(jnp.float32)
    for name, (_, pooled) in CONVOLUTIONS.items():
        x = lax.conv_general_dilated(
            x.astype(factor),
            weights[f"vggish/{name}/weights"].astype(factor),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=accuracy,
            preferred_element_type=jnp.float32,
        )
        x = nn.relu(x + weights[f"vggish/{name}/biases"])
        if pooled:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(len(x), -1)
    for name in DENSE:
        kernel = weights[f"vggish/{name}/weights"].astype(factor)
        x = jnp.dot(x.astype(factor), kernel.T, precision=accuracy, preferred_element_type=jnp.float32)
        x = x + weights[f"vggish/{name}/biases"]
        if name != "fc2":
            x = nn.relu(x)
    return x


class Network:
    """Samples → embeddings in one program on the default JAX device, compiled for ``batch`` windows at a time."""

    def __init__(self, weights: Mapping[str, np.ndarray], batch: int, precision: Precision = "float32") -> None:
        import jax

        self._batch = batch
        self._weights = jax.device_put(dict(weights))
        self._run = jax.jit(lambda weights, windows: embed(weights, log_mel(windows), precision))

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """(n, 15600) samples → (n, 128) float32 embeddings."""
        result = np.empty((len(windows), N_DIMS), np.float32)
        for first in range(0, len(windows), self._batch):
            block = windows[first : first + self._batch]
            # One shape, so that JAX compiles once and results do not depend on the number of windows.
            padded = np.pad(block, ((0, self._batch - len(block)), (0, 0)))
            result[first : first + self._batch] = np.asarray(self._run(self._weights, padded))[: len(block)]
        return result
