"""Finished members and the state of the unfinished one, in the workspace: what a killed trial continues from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mer_ray.errors import WorkspaceError
from mer_ray.io.tables import Workspace
from mer_ray.models.regressor import Regressor
from mer_ray.training.checkpoint import Checkpoint, Kept, from_bytes, to_bytes
from mer_ray.training.fit import restore
from mer_ray.training.recipe import Recipe

FOLDER = "checkpoints"
EVERY_S = 20.0


class WorkspaceShelf:
    """A folder of safetensors, one per member: ``checkpoints/KEY``.

    key: has to tell apart what must not be continued, so it holds a hash of data and settings.
    """

    def __init__(self, workspace: Workspace, key: str, every_s: float = EVERY_S) -> None:
        self.workspace, self.key, self.every_s = workspace, key, every_s

    def finished(self, number: int, recipe: Recipe) -> Regressor | None:
        """A member that was put here."""
        kept = _read(self.workspace, FOLDER, self.key, f"member{number:04d}.safetensors")
        if kept is None:
            return None
        curve, *arrays = kept.arrays
        named = dict(zip(kept.progress["names"], arrays, strict=True))
        member = restore(recipe, named, kept.progress["targets"], kept.progress["chosen"])
        member.curve = curve
        return member

    def put(self, number: int, member: Regressor) -> None:
        """Keep a finished member, and forget the state of its training."""
        progress = {"names": list(member.arrays), "targets": list(member.targets), "chosen": member.chosen}
        content = to_bytes([member.curve, *member.arrays.values()], progress)
        self.workspace.write_bytes(content, FOLDER, self.key, f"member{number:04d}.safetensors")
        self._forget(f"state{number:04d}.safetensors")

    def checkpoint(self, number: int) -> Checkpoint:
        """Where a member that is being trained keeps its state."""
        return _State(self.workspace, self.key, number, self.every_s)

    def clear(self, name: str = "") -> None:
        """Remove the folder; and with a run's name those that other settings or data of it (NAME-HASH) have left."""
        for key in self.workspace.names(FOLDER):
            if key == self.key or (name and key.rpartition("-")[0] == name):
                self.workspace.discard(FOLDER, key)

    def _forget(self, name: str) -> None:
        self.workspace.delete(FOLDER, self.key, name)  # a short training has left none


class _State:
    def __init__(self, workspace: Workspace, key: str, number: int, every_s: float) -> None:
        self.workspace, self.place, self.every_s = workspace, (FOLDER, key, f"state{number:04d}.safetensors"), every_s

    def load(self) -> Kept | None:
        return _read(self.workspace, *self.place)

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        self.workspace.write_bytes(to_bytes(arrays, progress), *self.place)


def _read(workspace: Workspace, *parts: str) -> Kept | None:
    from safetensors import SafetensorError

    if not workspace.exists(*parts):
        return None
    try:
        return from_bytes(workspace.read_bytes(*parts))
    except (SafetensorError, KeyError, ValueError) as error:
        raise WorkspaceError(
            f"{workspace.path(*parts)} is damaged", "remove it: what it held is trained again"
        ) from error
