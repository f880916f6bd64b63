"""Imports VGGish's weights from TensorFlow's formats: a SavedModel or the original checkpoint → ``.safetensors``.

    python -m mer_ray.features.vggish_import SOURCE TARGET

The original network and this package's network with the imported weights are run on a probe and must agree. This also
finds the right order of variables: every kernel of VGGish has a unique shape, but four pairs of biases have equal
shapes, and a SavedModel may give its variables any names.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.errors import MerRayError, ModelError
from mer_ray.features import vggish_frontend as frontend
from mer_ray.features.handles import SAVED_MODEL
from mer_ray.features.saved_model import Module, import_tensorflow
from mer_ray.features.vggish_network import CONVOLUTIONS, DENSE, N_DIMS, shapes
from mer_ray.features.vggish_weights import ways
from mer_ray.io.identity import one_line

TOLERANCE = 1e-3  # of the embeddings' SD; float32 rounding makes 1e-5, one wrong bias more than 1e-2
TRIES = 64  # orders of variables at most; 16 are possible without other variables of the same shapes


def convert(source: Path, target: Path) -> None:
    """Write ``target`` atomically: the arrays of `vggish_network.shapes`, verified on the probe.

    Raises ModelError if the source is damaged, or not VGGish's.
    """
    from safetensors.numpy import save_file

    samples = probe()
    candidates: Iterable[dict[str, np.ndarray]]
    if (source / SAVED_MODEL).is_file():
        wanted = Module(source, None, str(source)).frames(samples)
        variables = Variables(source / "variables" / "variables", source)
        candidates = (variables.arrays(names) for names in orders(variables.shapes))
    else:
        variables = Variables(source, source)
        arrays = variables.arrays({name: name for name in shapes()})
        wanted = np.asarray(in_tensorflow({name: as_stored(array) for name, array in arrays.items()}, samples))
        candidates = [arrays]
    arrays = verified(candidates, wanted, samples, source)
    with tempfile.TemporaryDirectory(prefix=f"{target.stem}.", dir=target.parent) as folder:
        made = Path(folder, target.name)
        save_file(arrays, made)
        made.replace(target)


def probe() -> np.ndarray:
    """(30960,) float32, two patches: a chord that rises, and noise that fades."""
    n = frontend.PATCH_SAMPLES + frontend.PATCH_HOP
    t = np.arange(n) / frontend.SAMPLE_RATE_HZ
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (220.0, 554.4, 1318.5, 4699.0))
    noise = np.random.Generator(np.random.PCG64(0)).uniform(-1, 1, n)
    ramp = np.linspace(0, 1, n)
    return np.asarray(0.15 * ramp * chord + 0.3 * (1 - ramp) * noise, np.float32)


class Variables:
    """A checkpoint's arrays. ``shapes``: as stored, by name. Messages name ``source``."""

    def __init__(self, prefix: Path, source: Path) -> None:
        self._source = source
        try:
            self._reader = import_tensorflow().train.load_checkpoint(str(prefix))
            present = self._reader.get_variable_to_shape_map()
        except MerRayError:
            raise
        except Exception as error:  # TensorFlow raises many kinds for an unreadable checkpoint
            raise self._unreadable(error) from error
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in present.items()}

    def arrays(self, names: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The arrays of `vggish_network.shapes` from the variables of these names. Raises ModelError."""
        arrays = {}
        for name, shape in shapes().items():
            stored, found = stored_shape(shape), self.shapes.get(names[name])
            if found != stored:
                raise ModelError(f"{self._source} is no VGGish: {name} must be {stored}, found {found}", ways())
            try:
                array = np.asarray(self._reader.get_tensor(names[name]), np.float32)
            except Exception as error:
                raise self._unreadable(error) from error
            if not np.isfinite(array).all():
                raise ModelError(f"{self._source} is damaged: {name} holds values that are not finite", ways())
            arrays[name] = np.ascontiguousarray(as_stored(array))
        return arrays

    def _unreadable(self, error: Exception) -> ModelError:
        return ModelError(f"{self._source} cannot be read as a checkpoint ({one_line(str(error), 200)})", ways())


def orders(present: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, str]]:
    """Ways to assign variables to VGGish's arrays of the same shapes, the likeliest first: array → variable.

    Variables with the layer's name are likeliest, then the order of names. Empty if a shape is missing.
    """
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, shape in shapes().items():
        alike[stored_shape(shape)].append(name)
    choices = []
    for shape, names in alike.items():
        found = sorted(variable for variable, other in present.items() if other == shape)
        ways_to = permutations(found, len(names))
        choices.append(sorted(ways_to, key=lambda way, names=names: -_named_alike(names, way)))  # type: ignore[misc]
    wanted = [name for names in alike.values() for name in names]
    for choice in islice(product(*choices), TRIES):
        yield dict(zip(wanted, (variable for way in choice for variable in way), strict=True))


def verified(
    candidates: Iterable[dict[str, np.ndarray]], wanted: np.ndarray, samples: np.ndarray, source: Path
) -> dict[str, np.ndarray]:
    """The first of the candidates with the original's embeddings of the samples. Raises ModelError if none has."""
    from mer_ray.features.vggish_cpu import Network

    patches = frontend.patches(
        np.lib.stride_tricks.sliding_window_view(samples, frontend.PATCH_SAMPLES)[:: frontend.PATCH_HOP]
    )
    if wanted.shape != (len(patches), N_DIMS):
        raise ModelError(
            f"{source} is no VGGish: {samples.size} samples must give {(len(patches), N_DIMS)}, it gave {wanted.shape}",
            ways(),
        )
    best = np.inf
    for arrays in candidates:
        difference = np.abs(Network(arrays)(patches) - wanted).max() / max(wanted.std(), 1e-12)
        if difference <= TOLERANCE:
            return arrays
        best = min(best, difference)
    reason = f"embeddings of a probe differ by {best:.2g} SD" if np.isfinite(best) else "its arrays are not VGGish's"
    raise ModelError(f"{source} is no VGGish that mer-ray knows: {reason}", ways())


def as_stored(array: np.ndarray) -> np.ndarray:
    """Convert between this package's and TensorFlow's layout, in which dense kernels are (in, out)."""
    return array.T if array.ndim == 2 else array


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if len(shape) == 2 else shape


def _named_alike(names: list[str], variables: tuple[str, ...]) -> int:
    return sum(name.split("/")[-2] in variable for name, variable in zip(names, variables, strict=True))


def in_tensorflow(arrays: Mapping[str, Any], samples: Any) -> Any:
    """VGGish in TensorFlow, front end included: (n,) samples → (N, 128).

    arrays: tensors with the names and shapes of the checkpoint.
    """
    import tensorflow as tf

    spectrum = tf.abs(tf.signal.stft(samples, frontend.FRAME, frontend.HOP, frontend.N_FFT))
    mel = tf.signal.linear_to_mel_weight_matrix(
        frontend.N_BANDS, frontend.N_FFT // 2 + 1, frontend.SAMPLE_RATE_HZ, frontend.LOW_HZ, frontend.HIGH_HZ
    )
    log_mel = tf.math.log(tf.matmul(spectrum, mel) + frontend.LOG_OFFSET)
    x: Any = tf.signal.frame(log_mel, frontend.PATCH_FRAMES, frontend.PATCH_FRAMES, axis=0)[..., None]
    for name, (_, pooled) in CONVOLUTIONS.items():
        x = tf.nn.conv2d(x, arrays[f"vggish/{name}/weights"], 1, "SAME") + arrays[f"vggish/{name}/biases"]
        x = tf.nn.relu(x)
        x = tf.nn.max_pool2d(x, 2, 2, "SAME") if pooled else x
    x = tf.reshape(x, [-1, math.prod(x.shape[1:])])
    for name in DENSE:
        x = tf.matmul(x, arrays[f"vggish/{name}/weights"]) + arrays[f"vggish/{name}/biases"]
        x = x if name == "fc2" else tf.nn.relu(x)
    return x


def main(arguments: list[str]) -> int:
    """The command. It prints a failure as a JSON pair of message and hint to standard output."""
    source, target = map(Path, arguments)
    try:
        convert(source, target)
    except MerRayError as error:
        print(json.dumps([error.message, error.hint]))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
