"""Checkpoints of interrupted trainings: ``checkpoints/KEY`` in the workspace, as safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mer_ray.errors import WorkspaceError
from mer_ray.io.tables import Workspace
from mer_ray.models.regressor import Regressor

VERSION = 3
"""Increased whenever the same settings would give other weights, so that older checkpoints are not resumed."""
FOLDER = "checkpoints"
EVERY_S = 20.0


@dataclass(frozen=True)
class Checkpoint:
    """arrays: the leaves of the training's state, in order. progress: JSON values."""

    arrays: list[np.ndarray]
    progress: dict[str, Any]


class Saver(Protocol):
    """Loads and saves the state of one training."""

    @property
    def every_s(self) -> float:
        """Seconds between two saves."""

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None at the first start."""

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        """Replace the checkpoint atomically."""


class _Nothing:
    every_s = float("inf")

    def load(self) -> None:
        return None

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        raise AssertionError("nothing is saved here")


NOTHING: Saver = _Nothing()
"""Saves nothing: an interrupted training starts again."""


class Checkpoints:
    """The folder ``checkpoints/KEY`` of one run: finished members, states of unfinished ones, results of folds.

    key: contains a hash of data and settings, so that only the same training is resumed.
    """

    def __init__(self, workspace: Workspace, key: str, every_s: float = EVERY_S) -> None:
        self.workspace, self.key, self.every_s = workspace, key, every_s

    def read(self, name: str) -> Checkpoint | None:
        """A file of the folder, None if there is none. Raises WorkspaceError where it is damaged."""
        from safetensors import SafetensorError

        path = FOLDER, self.key, f"{name}.safetensors"
        if not self.workspace.exists(*path):
            return None
        try:
            return from_bytes(self.workspace.read_bytes(*path))
        except (SafetensorError, KeyError, ValueError) as error:
            raise WorkspaceError(
                f"{self.workspace.path(*path)} is damaged", "remove it: what was in it is trained again"
            ) from error

    def write(self, name: str, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        """Write a file of the folder atomically."""
        self.workspace.write_bytes(to_bytes(arrays, progress), FOLDER, self.key, f"{name}.safetensors")

    def member(self, number: int) -> Checkpoint | None:
        """A finished member as `write_member` saved it; `crossval.read_member` restores it."""
        return self.read(f"member{number:04d}")

    def write_member(self, number: int, member: Regressor) -> None:
        """Save a finished member, and remove the state of its training."""
        progress = {"names": list(member.arrays), "targets": list(member.targets), "chosen": member.chosen}
        self.write(f"member{number:04d}", [member.curve, *member.arrays.values()], progress)
        self.workspace.delete(FOLDER, self.key, f"state{number:04d}.safetensors")  # a short training has none

    def state(self, number: int) -> Saver:
        """The state of a member that is being trained."""
        return _State(self, f"state{number:04d}", self.every_s)

    def read_json(self, name: str) -> Any:
        """The value of a JSON file, None if there is none."""
        return self.workspace.read_json(FOLDER, self.key, f"{name}.json")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically."""
        self.workspace.write_json(value, FOLDER, self.key, f"{name}.json")

    def clear(self, run: str = "") -> None:
        """Remove the folder. run: remove also the folders RUN-HASH of its other settings or data."""
        for key in self.workspace.names(FOLDER):
            if key == self.key or (run and key.rpartition("-")[0] == run):
                self.workspace.discard(FOLDER, key)


@dataclass(frozen=True)
class _State:
    checkpoints: Checkpoints
    name: str
    every_s: float

    def load(self) -> Checkpoint | None:
        return self.checkpoints.read(self.name)

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        self.checkpoints.write(self.name, arrays, progress)


def to_bytes(arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> bytes:
    """Safetensors with the progress in its header."""
    from safetensors.numpy import save

    # Not np.ascontiguousarray, which turns a scalar (0-d) into an array of shape (1,).
    tensors = {f"{i:05d}": np.asarray(a, order="C") for i, a in enumerate(arrays)}
    data: bytes = save(tensors, metadata={"progress": json.dumps(progress)})
    return data


def from_bytes(data: bytes) -> Checkpoint:
    """The inverse of `to_bytes`."""
    from safetensors.numpy import load

    tensors = load(data)
    # The header: its length in 8 bytes, then JSON (https://github.com/huggingface/safetensors#format).
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    progress = json.loads(header["__metadata__"]["progress"])
    return Checkpoint([tensors[k] for k in sorted(tensors)], progress)
