"""The state of an unfinished training, kept where the next attempt finds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

VERSION = 2
"""Raised where the same settings come to give other weights: what another version left unfinished is not continued."""


@dataclass(frozen=True)
class Kept:
    """arrays: the leaves of the training's state, in their order. progress: JSON values beside them."""

    arrays: list[np.ndarray]
    progress: dict[str, Any]


class Checkpoint(Protocol):
    """Where one training keeps its state. every_s: seconds between two saves."""

    every_s: float

    def load(self) -> Kept | None:
        """What was saved last; None at the first start."""

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        """Replace what was saved, whole or not at all."""


class _Nothing:
    every_s = float("inf")

    def load(self) -> None:
        return None

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        raise AssertionError("nothing is kept here")


NOTHING: Checkpoint = _Nothing()
"""Keeps nothing: an interrupted training begins anew."""


def to_bytes(arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> bytes:
    """Safetensors with the progress in its header."""
    from safetensors.numpy import save

    # Not np.ascontiguousarray, which makes a count (0-d) an array of one.
    tensors = {f"{i:05d}": np.asarray(a, order="C") for i, a in enumerate(arrays)}
    data: bytes = save(tensors, metadata={"progress": json.dumps(progress)})
    return data


def from_bytes(data: bytes) -> Kept:
    """The inverse of `to_bytes`."""
    from safetensors.numpy import load

    tensors = load(data)
    # The header: its length in 8 bytes, then JSON (https://github.com/huggingface/safetensors#format).
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    progress = json.loads(header["__metadata__"]["progress"])
    return Kept([tensors[k] for k in sorted(tensors)], progress)
