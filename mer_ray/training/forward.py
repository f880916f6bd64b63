"""Trained networks at work on frames: compiled once per shape, for any number of members."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_ray import models
from mer_ray.errors import ModelError
from mer_ray.models import N_TARGETS
from mer_ray.training.member import Member
from mer_ray.training.windows import cut, starts

BATCH = 64


@lru_cache(maxsize=8)
def forward(network: str, n_dims: int, hop_s: float, window: int, outputs: int = N_TARGETS) -> Forward:
    """The `Forward` of a shape: one per process, as its compilation takes seconds."""
    return Forward(network, n_dims, hop_s, window, outputs)


class Forward:
    """A network compiled once for prediction, for any number of members that share its shape."""

    def __init__(self, network: str, n_dims: int, hop_s: float, window: int, outputs: int = N_TARGETS) -> None:
        self.window = window
        # What is not a parameter (the seeds that Flax's cells keep) takes no part in the answer.
        self.graph, self.parameters, self.rest = split(network, n_dims, hop_s, 0, outputs)
        self._apply = jax.jit(lambda state, x, mask: nnx.merge(self.graph, state, self.rest)(x, mask)[:, :N_TARGETS])

    def state(self, member: Member) -> Any:
        """A member's parameters as the network's own tree. Raises ModelError where they do not fit."""
        state = nnx.to_flat_state(self.parameters)
        wanted = {name(k): v.get_value().shape for k, v in state}
        if wanted != {k: v.shape for k, v in member.parameters.items()}:
            raise ModelError("the model's weights are of another network", "train it again with this version")
        return nnx.from_flat_state([(k, v.replace(jnp.asarray(member.parameters[name(k)]))) for k, v in state])

    def windows(self, member: Member, tracks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (N, 3) in 0..1, not clipped, for every window, and the track that each belongs to (N,)."""
        out, owner = self.standardised(self.state(member), [member.scaler.frames(t) for t in tracks])
        return out * member.scaler.y_sd + member.scaler.y_mean, owner

    def standardised(self, state: Any, tracks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The network's own answers (N, 3) on every window of standardised tracks (n_i, F), and their owners (N,).

        Windows are cut batch by batch, all batches of one shape.
        """
        places = [(i, int(start)) for i, track in enumerate(tracks) for start in starts(len(track), self.window)]
        out = []
        for first in range(0, len(places), BATCH):
            pairs = [cut(tracks[i], start, self.window) for i, start in places[first : first + BATCH]]
            missing = BATCH - len(pairs)
            x = np.pad(np.stack([x for x, _ in pairs]), ((0, missing), (0, 0), (0, 0)))
            mask = np.pad(np.stack([m for _, m in pairs]), ((0, missing), (0, 0)))
            out.append(np.asarray(self._apply(state, x, mask))[: BATCH - missing])
        return np.concatenate(out), np.array([i for i, _ in places])


def ensemble(
    network: Forward, members: Sequence[Member], tracks: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the members' answers, each clipped to 0..1, for every window (N, 3), and the windows' owners (N,).

    A dimension is answered by the members that were trained on it.
    """
    answers = [network.windows(member, tracks) for member in members]
    targets = np.array([member.targets for member in members], float)
    total = sum(np.clip(values, 0, 1) * own for (values, _), own in zip(answers, targets, strict=True))
    return total / targets.sum(axis=0), answers[0][1]


def track_means(values: np.ndarray, owner: np.ndarray, n_tracks: int) -> np.ndarray:
    """Mean per track: values (N, 3), owner (N,) → (n_tracks, 3)."""
    sums = np.zeros((n_tracks, values.shape[1]))
    np.add.at(sums, owner, values)
    means: np.ndarray = sums / np.bincount(owner, minlength=n_tracks)[:, None]
    return means


def split(network: str, n_dims: int, hop_s: float, seed: int, outputs: int = N_TARGETS) -> tuple[Any, Any, Any]:
    """A fresh network as its structure, its parameters, and the rest of its state."""
    graph, parameters, *rest = nnx.split(models.build(network, n_dims, hop_s, seed, outputs), nnx.Param, ...)
    return graph, parameters, rest[0]


def flat(state: Any) -> dict[str, np.ndarray]:
    """A tree of parameters as name → array."""
    return {name(k): np.asarray(v.get_value()) for k, v in nnx.to_flat_state(state)}


def name(path: tuple[Any, ...]) -> str:
    """A parameter's name: the parts of its path with dots between."""
    return ".".join(str(part) for part in path)
