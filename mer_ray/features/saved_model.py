"""TensorFlow SavedModels as functions of a waveform.

A SavedModel is a program, which TensorFlow runs and which may read and write files. Use only trusted ones.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.errors import ModelError
from mer_ray.io.identity import digest, file_digest, one_line

BATCH = 8  # windows in one call

Output = int | str | None
"""One of a module's results: the index in a tuple, the name in a dict, None for the only one."""


def content_hash(folder: Path) -> str:
    """SHA-256 over the relative names and bytes of a module's files. Raises OSError."""
    files = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
    return digest(json.dumps([[name, file_digest(file)] for name, file in files]).encode())


def import_tensorflow() -> Any:
    """Import TensorFlow for the CPU alone: on a GPU it would take all memory, which JAX needs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU"):
        try:
            tf.config.set_visible_devices([], "GPU")
        except RuntimeError as error:
            raise ModelError("TensorFlow had already taken the GPU", "load VGGish in a process of its own") from error
    return tf


def import_tensorflow_hub() -> Any:
    """Import tensorflow_hub 0.16.1, which imports pkg_resources, of which setuptools 80 warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        import tensorflow_hub

    return tensorflow_hub


class Module:
    """A SavedModel's function of one waveform: the object itself, or else its serving signature.

    length: samples of its input, None for any number. Messages of its ModelErrors begin with ``what``.
    """

    def __init__(self, folder: Path, output: Output, what: str) -> None:
        """Raises ModelError if the folder holds no such function."""
        self._what = what
        self._output = output
        self._tf = import_tensorflow()
        try:
            self._model = import_tensorflow_hub().load(str(folder))
        except Exception as error:  # TensorFlow raises many kinds for an unreadable model
            raise ModelError(f"{what} cannot be read as a SavedModel ({one_line(str(error), 200)})") from error
        # The model must stay referenced, or the function loses its variables.
        self._call, inputs = self._signature()
        if len(inputs) != 1:
            raise ModelError(f"{what} takes {len(inputs)} inputs, not one waveform")
        shape = inputs[0].shape.as_list() if inputs[0].shape.rank is not None else [None]
        if len(shape) not in (1, 2) or not inputs[0].dtype.is_floating:
            raise ModelError(f"{what} takes {inputs[0].dtype.name} of shape {shape}, not a waveform (n,) or (1, n)")
        self._dtype = inputs[0].dtype
        self._rank = len(shape)
        self._takes_batches = self._rank == 2 and shape[0] is None
        self.length: int | None = shape[-1]

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """(n,) float32 → (N, F) float32; one vector counts as one frame. Raises ModelError if it does not run."""
        result = self._run(samples if self._rank == 1 else samples[None])
        frames = result[0] if result.ndim == 3 and len(result) == 1 else result
        frames = frames[None] if frames.ndim == 1 else frames
        if frames.ndim != 2:
            raise ModelError(
                f"{self._what} must give (frames, dimensions), it gave {result.shape} for {samples.size} samples"
            )
        return frames

    def vectors(self, windows: np.ndarray) -> np.ndarray:
        """(k, n) float32 → (k, F) float32, a vector for each window. Raises ModelError."""
        if not self._takes_batches:
            results = [self.frames(window) for window in windows]
        else:
            results = [self._run(windows[i : i + BATCH]) for i in range(0, len(windows), BATCH)]
            results = [r[:, 0] if r.ndim == 3 and r.shape[1] == 1 else r for r in results]
        vectors = np.concatenate(results)
        if vectors.ndim != 2 or len(vectors) != len(windows):
            raise ModelError(
                f"{self._what} must give a vector for each window, it gave {vectors.shape} for {len(windows)}"
            )
        return vectors

    def _signature(self) -> tuple[Callable[[Any], Any], list[Any]]:
        """A function of one tensor, and its inputs (TensorSpecs)."""
        model, tf = self._model, self._tf
        if callable(model):
            # One trace for each way to call it, e.g. in training; the waveform is the first argument of all of them.
            traces = getattr(model.__call__, "concrete_functions", [])
            taken = [tf.nest.flatten(t.structured_input_signature) for t in traces]
            tensors = [[x for x in t if isinstance(x, tf.TensorSpec)] for t in taken]
            return lambda samples: self._model(samples), min(tensors, key=len, default=[tf.TensorSpec([None])])
        signatures = getattr(model, "signatures", {})
        name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
        if name is None:
            raise ModelError(f"{self._what} offers no function: it cannot be called, and has no signature")
        named = signatures[name].structured_input_signature[1]
        return lambda samples: self._model.signatures[name](**{next(iter(named)): samples}), list(named.values())

    def _run(self, samples: np.ndarray) -> np.ndarray:
        try:
            result = self._call(self._tf.cast(self._tf.constant(samples), self._dtype))
        except Exception as error:  # a graph may raise anything
            shape = samples.shape
            raise ModelError(f"{self._what} does not run on {shape} ({one_line(str(error), 200)})") from error
        return np.asarray(self._pick(result)).astype(np.float32, copy=False)

    def _pick(self, result: Any) -> Any:
        """The wanted one of a module's results."""
        one = self._output
        if isinstance(result, Mapping):
            offered: Sequence[Any] = sorted(result)
            chosen = offered[0] if one is None and len(result) == 1 else one
        elif isinstance(result, list | tuple):
            offered = range(len(result))
            chosen = 0 if one is None and len(result) == 1 else one
        else:
            offered, chosen = [None], one
        if chosen not in offered:
            shapes = [f"{o!r}: {[*result[o].shape]}" for o in offered] if offered != [None] else ["null: the only one"]
            raise ModelError(
                f"{self._what} has no output {one!r}", f"set output to one of {one_line(', '.join(shapes))}"
            )
        return result if chosen is None else result[chosen]
