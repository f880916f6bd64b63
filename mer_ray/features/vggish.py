"""VGGish embeddings: 128 numbers per 0.96 s.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP; the AudioSet VGGish release and
its TensorFlow Hub module ``google/vggish/1``. The numbers are the raw embeddings of both: before activation, PCA and
quantisation.

A SavedModel runs in TensorFlow, as published; the original checkpoint, and the random stand-in of the demo, in JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.errors import ConfigError, ModelError, ServiceError
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features import vggish_frontend as frontend
from mer_ray.features import vggish_network as network
from mer_ray.features import vggish_weights as sources
from mer_ray.identity import one_line


class Params(BaseModel):
    """Settings under ``extract.vggish``.

    weights: ``auto`` (the handle of the TensorFlow Hub module), another handle, the path of a SavedModel folder or of
    the original checkpoint, or ``random`` (the demo only). seed: of the random weights. batch_patches: patches per run
    of the network. timeout_s: longest wait for a hub's answer.
    """

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("auto", min_length=1)
    seed: int = Field(0, ge=0)
    batch_patches: int = Field(64, ge=1, le=4_096)
    timeout_s: float = Field(5.0, gt=0, le=3_600)


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    """Settings → spec. Only the demo may use random weights: if asked to, or if ``auto`` and the hub gives none.

    Raises ConfigError or ServiceError naming the ways to real weights.
    """
    weights, note = _weights(params, demo)
    return FeatureSpec(
        name="vggish",
        version=1,
        sample_rate_hz=frontend.SAMPLE_RATE_HZ,
        hop_s=frontend.PATCH_HOP / frontend.SAMPLE_RATE_HZ,
        n_dims=network.N_DIMS,
        weights=weights,
        note=note,
        runtime={"batch_patches": params.batch_patches, "timeout_s": params.timeout_s},
    )


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor. Raises ModelError if the weights are gone, damaged, others, or not VGGish's."""
    weights, runtime = spec.weights or {}, Params(**spec.runtime)
    if weights["kind"] == "random":
        return Vggish(spec, network.random_weights(weights["seed"]), runtime.batch_patches)
    path = sources.locate(weights, runtime.timeout_s)
    if weights["kind"] == "checkpoint":
        return Vggish(spec, sources.read_checkpoint(path), runtime.batch_patches)
    return SavedVggish(spec, path, runtime.batch_patches)


class Vggish:
    """The network in JAX, patches batched across tracks."""

    def __init__(self, spec: FeatureSpec, weights: dict[str, np.ndarray], batch_patches: int) -> None:
        self.spec = spec
        self._network = network.Network(weights, batch_patches)

    def __call__(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `mer_ray.features.Extractor`."""
        empty = np.zeros((0, network.N_DIMS), np.float32)
        parts = [self._network(block) for block in frontend.blocks(batch, self._network.batch)]
        ends = np.cumsum([frontend.n_patches(samples.size) for samples in batch], dtype=int)
        return np.split(np.concatenate([empty, *parts]), ends[:-1]) if len(batch) else []


class SavedVggish:
    """A SavedModel with the signature of the TensorFlow Hub module: (n,) float32 at 16 kHz → (N, 128)."""

    def __init__(self, spec: FeatureSpec, folder: Path, batch_patches: int) -> None:
        self.spec = spec
        self._folder = folder
        self._batch = batch_patches
        self._model = _load_saved_model(folder)
        # A module of another kind is found out here, not in the first track.
        self._embed(np.zeros(frontend.PATCH_SAMPLES, np.float32))

    def __call__(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """See `mer_ray.features.Extractor`."""
        return [self._one(np.ascontiguousarray(samples, np.float32)) for samples in batch]

    def _one(self, samples: np.ndarray) -> np.ndarray:
        # In pieces of whole patches: the same numbers, and memory does not grow with the length of the audio.
        n = frontend.n_patches(samples.size)
        results = [np.zeros((0, network.N_DIMS), np.float32)]
        for first in range(0, n, self._batch):
            results.append(self._embed(frontend.piece(samples, first, min(self._batch, n - first))))
        return np.concatenate(results)

    def _embed(self, samples: np.ndarray) -> np.ndarray:
        try:
            result = np.asarray(self._model(samples))
        except Exception as error:  # whatever a foreign graph raises
            reason = one_line(str(error), 200)
            raise ModelError(f"{self._folder} does not run as VGGish ({reason})", sources.ways()) from error
        wanted = (frontend.n_patches(samples.size), network.N_DIMS)
        if result.shape != wanted:
            raise ModelError(
                f"{self._folder} is no VGGish: {samples.size} samples must give {wanted}, it gave {result.shape}",
                sources.ways(),
            )
        return result.astype(np.float32, copy=False)


def _weights(params: Params, demo: bool) -> tuple[dict[str, Any], str]:
    """Where the weights are, and what readers have to know about them."""
    stand_in = {"kind": "random", "seed": params.seed}
    note = f"VGGish with seeded random weights (seed {params.seed})"
    if params.weights == "random":
        if not demo:
            raise ConfigError("extract.vggish.weights: random weights are for the demo alone", sources.ways())
        return stand_in, f"{note}, as asked for"
    auto = params.weights == "auto"
    try:
        return sources.find(sources.HANDLE if auto else params.weights, params.timeout_s), ""
    except (ServiceError, ConfigError) as error:  # ConfigError: a machine without a writable cache
        if not (demo and auto):
            raise
        return stand_in, f"{note}: {error.message}"


def _load_saved_model(folder: Path) -> Callable[[np.ndarray], Any]:
    """The callable in a SavedModel: the object itself, or its serving signature."""
    tf = sources.import_tensorflow()
    try:
        import tensorflow_hub as hub
    except ImportError as error:  # it wants pkg_resources
        raise ModelError(f"tensorflow-hub cannot be imported ({error})", 'pip install "setuptools<81"') from error
    try:
        model = hub.load(str(folder))
    except Exception as error:  # TensorFlow has no common exception for what it cannot read
        reason = one_line(str(error), 200)
        raise ModelError(f"{folder} cannot be read as a SavedModel ({reason})", sources.ways()) from error
    if callable(model):
        return lambda samples: model(tf.constant(samples))
    serving = getattr(model, "signatures", {}).get("serving_default")
    inputs = list(serving.structured_input_signature[1]) if serving else []
    outputs = list(serving.structured_outputs) if serving else []
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"{folder} is no VGGish: it offers no function of one waveform", sources.ways())

    def call(samples: np.ndarray) -> Any:
        # The function is found through the model each time, since it lives only as long as the model does.
        return model.signatures["serving_default"](**{inputs[0]: tf.constant(samples)})[outputs[0]]

    return call
