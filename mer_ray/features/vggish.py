"""VGGish embeddings: 128 numbers per 0.96 s.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP; the AudioSet VGGish release and
its TensorFlow Hub module ``google/vggish/1``. The numbers are the raw embeddings of both, before activation, PCA and
quantisation, unless ``postprocess`` asks for the release's last two.

The weights are imported once. The network runs without TensorFlow: on CPUs in `vggish_cpu`, on GPUs in
`vggish_network`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.accelerator import has_gpu
from mer_ray.errors import ConfigError, ServiceError
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features import vggish_frontend as frontend
from mer_ray.features import vggish_network as network
from mer_ray.features import vggish_weights as sources
from mer_ray.features.vggish_postprocess import Postprocess

Embed = Callable[[np.ndarray], np.ndarray]
"""(n, 15600) float32 samples → (n, 128) float32 embeddings, each of which depends on its own samples alone."""


class Params(BaseModel):
    """Settings under ``extract.vggish``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    weights: str = Field("auto", min_length=1)
    """`auto` (from TensorFlow Hub), another handle, the path of a SavedModel folder, of the original checkpoint or
    of a `.safetensors` made from them, or `random` (the demo only)."""
    seed: int = Field(0, ge=0)
    """Of the random weights."""
    batch_patches: int = Field(64, ge=1, le=8_192)
    """Patches in a batch: multiples of 64 on a CPU, some hundreds on a GPU."""
    timeout_s: float = Field(5.0, gt=0, le=3_600)
    """Longest wait for a hub's answer, in seconds."""
    precision: network.Precision = "float32"
    """Of the factors of products; `tf32` and `bfloat16` need a GPU."""
    postprocess: Literal[False] | str = False
    """`false`, or the path of the release's `vggish_pca_params.npz`: embeddings PCA-whitened and quantised to
    0..255, as in the AudioSet data."""


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    """Settings → spec. Only the demo may use random weights: for ``random``, or for ``auto`` if the hub fails.

    Raises ConfigError, ServiceError or ModelError that explain how to get weights, and ConfigError for a
    ``postprocess`` that cannot be read.
    """
    pca = Postprocess.read(params.postprocess) if params.postprocess else None
    weights, note = _weights(params, demo)
    return FeatureSpec(
        name="vggish",
        version=2,
        sample_rate_hz=frontend.SAMPLE_RATE_HZ,
        hop_s=frontend.PATCH_HOP / frontend.SAMPLE_RATE_HZ,
        n_dims=network.N_DIMS,
        params={"precision": params.precision, "postprocess": pca.sha256 if pca else None},
        weights=weights,
        note=note,
        runtime={
            "batch_patches": params.batch_patches,
            "timeout_s": params.timeout_s,
            "postprocess": params.postprocess and str(Path(params.postprocess).expanduser().resolve()),
        },
    )


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor.

    Raises ModelError if the weights are missing, damaged, changed, or not VGGish's, ConfigError for a precision that
    this machine does not support.
    """
    weights, runtime = spec.weights or {}, Params(**spec.runtime)
    precision, on_gpu = spec.params["precision"], has_gpu()
    if precision != "float32" and not on_gpu:
        raise ConfigError(
            f"extract.vggish.precision: {precision} needs a GPU, and this worker has none",
            "set it to float32, or give workers a GPU with extract.gpus_per_worker",
        )
    pca = Postprocess.read(runtime.postprocess, spec.params["postprocess"]) if runtime.postprocess else None
    random = weights["kind"] == "random"
    arrays = network.random_weights(weights["seed"]) if random else sources.load(weights, runtime.timeout_s)
    embed = network.Network(arrays, runtime.batch_patches, precision) if on_gpu else _on_cpu(arrays)
    return Vggish(spec, embed, runtime.batch_patches, pca)


class Vggish(Extractor):
    """Patches of all open streams go through the network together, ``batch_patches`` at a time."""

    def __init__(self, spec: FeatureSpec, embed: Embed, batch_patches: int, pca: Postprocess | None = None) -> None:
        self.spec = spec
        self.batch_patches = batch_patches
        self._embed = embed
        self._pca = pca
        # Samples, not patches: on a GPU the front end is part of the compiled network.
        self._windows = np.empty((batch_patches, frontend.PATCH_SAMPLES), np.float32)
        self._owners: list[_Stream] = []  # of the buffered windows

    def start(self) -> _Stream:
        """See `mer_ray.features.Extractor`. A dropped stream leaves at most a batch of windows in memory."""
        return _Stream(self)

    def add(self, stream: _Stream, window: np.ndarray) -> None:
        """A stream's next 15,600 samples, which are copied."""
        if len(self._owners) == self.batch_patches:
            self.flush()
        self._windows[len(self._owners)] = window
        self._owners.append(stream)

    def flush(self) -> None:
        """Run the network on the buffered windows, and pass the results to the streams."""
        embeddings = self._embed(self._windows[: len(self._owners)])
        owners, self._owners = self._owners, []  # only now, so that a failed batch can be repeated
        for stream, embedding in zip(owners, embeddings, strict=True):
            stream.receive(embedding)

    def finished(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, 128) raw embeddings → postprocessed as in the settings."""
        return self._pca(embeddings) if self._pca else embeddings


class _Stream:
    """See `mer_ray.features.FrameStream`. Buffers one window of samples, and the embeddings so far."""

    def __init__(self, extractor: Vggish) -> None:
        self._extractor = extractor
        self._window = np.empty(frontend.PATCH_SAMPLES, np.float32)
        self._filled = 0
        self._sent = 0
        self._embeddings: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        while samples.size:
            part = samples[: frontend.PATCH_SAMPLES - self._filled]
            self._window[self._filled : self._filled + part.size] = part
            self._filled += part.size
            samples = samples[part.size :]
            if self._filled == frontend.PATCH_SAMPLES:
                self._sent += 1
                self._extractor.add(self, self._window)
                self._filled -= frontend.PATCH_HOP
                self._window[: self._filled] = self._window[frontend.PATCH_HOP :]

    def finish(self) -> None:
        """Does nothing: an incomplete window is dropped."""

    def receive(self, embedding: np.ndarray) -> None:
        self._embeddings.append(embedding.copy())

    def frames(self) -> np.ndarray:
        if len(self._embeddings) < self._sent:
            self._extractor.flush()
        return self._extractor.finished(np.array(self._embeddings, np.float32).reshape(-1, network.N_DIMS))


def _on_cpu(weights: dict[str, np.ndarray]) -> Embed:
    """The fast network, or JAX's if the fast one's rounding depends on a patch's position in the batch."""
    from mer_ray.features import vggish_cpu

    if not vggish_cpu.rows_are_alike():
        return network.Network(weights, vggish_cpu.BATCH)
    run = vggish_cpu.Network(weights)
    return lambda windows: run(frontend.patches(windows))


def _weights(params: Params, demo: bool) -> tuple[dict[str, Any], str]:
    """(the weights' ``FeatureSpec.weights``, the spec's note)."""
    random_weights = {"kind": "random", "seed": params.seed}
    note = f"VGGish with seeded random weights (seed {params.seed})"
    if params.weights == "random":
        if not demo:
            raise ConfigError("extract.vggish.weights: random weights are for the demo alone", sources.ways())
        return random_weights, f"{note}, as asked for"
    auto = params.weights == "auto"
    try:
        return sources.find(sources.HANDLE if auto else params.weights, params.timeout_s), ""
    except (ServiceError, ConfigError) as error:  # ConfigError: the cache cannot be written
        if not (demo and auto):
            raise
        return random_weights, f"{note}: {error.message}"
