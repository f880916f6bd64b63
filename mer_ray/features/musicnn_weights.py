"""musicnn's weights as files: the packaged ones, and others that ``mer-ray weights musicnn`` made.

A file is in the format safetensors, and holds the arrays of `musicnn_network.shapes` of both networks, ``msd/...`` and
``mtt/...``, as float32; or *packed*, in five eighths of the size: each kernel as integers of 20 bits times a step for
each of its outputs. float16 takes half the size, but changes the penultimate layer by up to 5e-3; packing, by less
than 1e-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.errors import ConfigError, ModelError
from mer_ray.features.musicnn_network import TAGS, shapes
from mer_ray.io.identity import digest, one_line

PACKAGED = Path(__file__).parent / "musicnn_data" / "weights.safetensors"
NOTICE = PACKAGED.with_name("LICENSE.md")
"""The release's licence (ISC), which must stand beside every copy of the weights."""
PACKAGE = "package"
"""The location of the packaged weights, which is another path on each machine."""

LIMIT = (1 << 19) - 1  # the largest packed integer
UNPACKED = ("temporal32",)  # small, and where rounding matters most: its outputs are scaled by up to 45

Arrays = dict[str, np.ndarray]


def ways() -> str:
    """How to get weights: the hint of errors about them."""
    return (
        "take the packaged ones (extract.musicnn.weights=auto), or make a file of them with `mer-ray weights musicnn`"
    )


def find(setting: str) -> dict[str, Any]:
    """``auto`` or a path → ``kind``, ``location`` and the file's ``sha256``.

    Raises ConfigError if the file is missing or cannot be read, ModelError if it holds no weights of musicnn.
    """
    path = PACKAGED if setting == "auto" else Path(setting).expanduser().resolve()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"extract.musicnn.weights: {path} cannot be read ({error.strerror})", ways()) from error
    parse(content, str(path))
    return {"kind": "musicnn", "location": PACKAGE if setting == "auto" else str(path), "sha256": digest(content)}


def load(weights: Mapping[str, Any]) -> dict[str, Arrays]:
    """The weights of `find`: network → arrays of `musicnn_network.shapes`.

    Raises ModelError if the file is missing, damaged or has changed.
    """
    path = PACKAGED if weights["location"] == PACKAGE else Path(weights["location"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the weights of musicnn, {path}, cannot be read ({error.strerror})", ways()) from error
    if digest(content) != weights["sha256"]:
        raise ModelError(
            f"the weights of musicnn in {path} are not those that the features were made with",
            f"set extract.musicnn.weights to those of SHA-256 {weights['sha256'][:16]}…, or extract again with these",
        )
    return parse(content, str(path))


def parse(content: bytes, source: str) -> dict[str, Arrays]:
    """A file's content → network → float32 arrays. Raises ModelError, which names ``source``."""
    import safetensors
    import safetensors.numpy

    try:
        stored = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{source} cannot be read as safetensors ({one_line(str(error), 200)})", ways()) from error
    result: dict[str, Arrays] = {}
    for network in TAGS:
        result[network] = {}
        for name, shape in shapes().items():
            array = _unpacked(stored, f"{network}/{name}")
            if array is None or array.dtype != np.float32 or array.shape != shape:
                found = "none" if array is None else f"{array.dtype} {array.shape}"
                raise ModelError(
                    f"{source} is no musicnn: {network}/{name} must be float32 {shape}, found {found}", ways()
                )
            if not np.isfinite(array).all():
                raise ModelError(f"{source} is damaged: {network}/{name} holds values that are not finite", ways())
            result[network][name] = array
    return result


def to_bytes(networks: Mapping[str, Arrays], packed: bool) -> bytes:
    """The content of a file: the inverse of `parse`, but for rounding if ``packed``. Equal arrays give equal bytes."""
    import safetensors.numpy

    stored: Arrays = {}
    for network, arrays in networks.items():
        for name, array in arrays.items():
            layer, part = name.split("/")
            if packed and part == "kernel" and layer not in UNPACKED:
                stored |= {f"{network}/{name}.{key}": value for key, value in _packed(array).items()}
            else:
                stored[f"{network}/{name}"] = np.ascontiguousarray(array, np.float32)
    # One entry only: safetensors writes several in any order.
    return safetensors.numpy.save(stored, {"notice": NOTICE.read_text(encoding="utf-8")})


def _packed(array: np.ndarray) -> Arrays:
    """(..., outputs) float32 → the upper 16 bits of its integers, the lower 4 by pairs, and the outputs' steps."""
    step = (np.abs(array).max(tuple(range(array.ndim - 1))).astype(np.float64) / LIMIT).astype(np.float32)
    integers = np.rint(array.astype(np.float64) / np.where(step > 0, step, 1)).astype(np.int32)
    integers = np.clip(integers, -LIMIT - 1, LIMIT)  # the step was rounded
    low = (integers & 15).astype(np.uint8).reshape(-1)
    low = np.append(low, np.zeros(low.size % 2, np.uint8))
    return {"high": (integers >> 4).astype(np.int16), "low": low[::2] << 4 | low[1::2], "step": step}


def _unpacked(stored: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """The inverse of `_packed` where ``name`` is stored so; None if it is not stored at all, or not in that form."""
    high, low, step = (stored.get(f"{name}.{key}") for key in ("high", "low", "step"))
    if high is None or low is None or step is None:
        return stored.get(name)
    pairs = np.stack([low >> 4, low & 15], axis=-1).reshape(-1)
    right = high.dtype == np.int16 and low.dtype == np.uint8 and step.dtype == np.float32
    if not right or step.shape != high.shape[-1:] or pairs.size != high.size + high.size % 2:
        return None
    integers = high.astype(np.int32) << 4 | pairs[: high.size].reshape(high.shape)
    return (integers * step.astype(np.float64)).astype(np.float32)
