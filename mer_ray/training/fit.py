"""The training of one network on one split: pure functions of arrays, on whatever device JAX has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mer_ray import models
from mer_ray.errors import InputError, ModelError
from mer_ray.training.windows import all_cuts, random_cuts

EVAL_BATCH = 64
EMA_DECAY = 0.98


@dataclass(frozen=True)
class Recipe:
    """How to train. window: frames (T). Learning rate decays to 0 over the epochs along a cosine."""

    network: str
    hop_s: float
    window: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Scaler:
    """Means and deviations: of the frames, shape (F,), and of the labels, shape (3,)."""

    x_mean: np.ndarray
    x_sd: np.ndarray
    y_mean: np.ndarray
    y_sd: np.ndarray

    @classmethod
    def of(cls, tracks: Sequence[np.ndarray], labels: np.ndarray) -> Scaler:
        """From training tracks (n_i, F) and labels (N, 3). A constant column gets the deviation 1."""
        frames = np.concatenate(tracks).astype(np.float64)
        x_sd, y_sd = frames.std(axis=0), labels.std(axis=0)
        f32 = np.float32
        return cls(
            frames.mean(axis=0).astype(f32),
            np.where(x_sd > 1e-6, x_sd, 1).astype(f32),
            labels.mean(axis=0).astype(f32),
            np.where(y_sd > 1e-6, y_sd, 1).astype(f32),
        )

    def frames(self, track: np.ndarray) -> np.ndarray:
        """Standardised frames (n, F), float32."""
        scaled: np.ndarray = ((track - self.x_mean) / self.x_sd).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Member:
    """A trained network: its flat parameters (name → array) and the scaling that it was trained with."""

    parameters: dict[str, np.ndarray]
    scaler: Scaler


@lru_cache(maxsize=8)
def forward(network: str, n_dims: int, hop_s: float, window: int) -> Forward:
    """The `Forward` of a shape: one per process, as its compilation takes seconds."""
    return Forward(network, n_dims, hop_s, window)


@lru_cache(maxsize=8)
def _optimizer(learning_rate: float, weight_decay: float, steps: int) -> optax.GradientTransformation:
    # One object per schedule: the compiled step is found again by it.
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay))


class Forward:
    """A network compiled once for prediction, for any number of members that share its shape."""

    def __init__(self, network: str, n_dims: int, hop_s: float, window: int) -> None:
        self.window = window
        # What is not a parameter (the seeds that Flax's cells keep) takes no part in the answer.
        self.graph, self.parameters, self.rest = _split(network, n_dims, hop_s, 0)
        self._apply = jax.jit(lambda state, x, mask: nnx.merge(self.graph, state, self.rest)(x, mask))

    def state(self, member: Member) -> Any:
        """A member's parameters as the network's own tree. Raises ModelError where they do not fit."""
        state = nnx.to_flat_state(self.parameters)
        wanted = {_name(k): v.get_value().shape for k, v in state}
        if wanted != {k: v.shape for k, v in member.parameters.items()}:
            raise ModelError("the model's weights are of another network", "train it again with this version")
        return nnx.from_flat_state([(k, v.replace(jnp.asarray(member.parameters[_name(k)]))) for k, v in state])

    def windows(self, member: Member, tracks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (N, 3) in 0..1, not clipped, for every window, and the track that each belongs to (N,)."""
        x, mask, owner = all_cuts([member.scaler.frames(t) for t in tracks], self.window)
        out = self.standardised(self.state(member), x, mask)
        return out * member.scaler.y_sd + member.scaler.y_mean, owner

    def standardised(self, state: Any, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The network's own answers (N, 3) on (N, T, F), in batches of one shape."""
        out = []
        for i in range(0, len(x), EVAL_BATCH):
            part, part_mask = x[i : i + EVAL_BATCH], mask[i : i + EVAL_BATCH]
            missing = EVAL_BATCH - len(part)
            if missing:
                part = np.pad(part, ((0, missing), (0, 0), (0, 0)))
                part_mask = np.pad(part_mask, ((0, missing), (0, 0)))
            out.append(np.asarray(self._apply(state, part, part_mask))[: EVAL_BATCH - missing])
        return np.concatenate(out)


def track_means(values: np.ndarray, owner: np.ndarray, n_tracks: int) -> np.ndarray:
    """Mean per track: values (N, 3), owner (N,) → (n_tracks, 3)."""
    sums = np.zeros((n_tracks, values.shape[1]))
    np.add.at(sums, owner, values)
    means: np.ndarray = sums / np.bincount(owner, minlength=n_tracks)[:, None]
    return means


def fit(
    recipe: Recipe,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    validation: np.ndarray,
    seed: int,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, train, valid: None,
) -> Member:
    """Train one network with early stopping.

    tracks: frames (n_i, F). labels: (N, 3) in 0..1. validation: mask (N,) of the tracks that only decide when to stop;
    without any, the training tracks do.
    on_epoch(epoch, training loss, validation loss) is called after each epoch; losses are MSE of standardised labels.
    Returns the exponential moving average of the weights at the epoch of the lowest validation loss.
    """
    fit_index, valid_index = np.flatnonzero(~validation).tolist(), np.flatnonzero(validation).tolist()
    valid_index = valid_index or fit_index
    scaler = Scaler.of([tracks[i] for i in fit_index], labels[fit_index])
    scaled = [scaler.frames(t) for t in tracks]
    targets = ((labels - scaler.y_mean) / scaler.y_sd).astype(np.float32)

    network = forward(recipe.network, tracks[0].shape[1], recipe.hop_s, recipe.window)
    graph, state, rest = _split(recipe.network, tracks[0].shape[1], recipe.hop_s, seed)
    batches = max(1, len(fit_index) // recipe.batch_size)
    optimizer = _optimizer(recipe.learning_rate, recipe.weight_decay, recipe.epochs * batches)
    optimizer_state, average = optimizer.init(state), state
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    valid_x, valid_mask, valid_owner = all_cuts([scaled[i] for i in valid_index], recipe.window)

    best, best_loss, waited = average, np.inf, 0
    for epoch in range(recipe.epochs):
        losses = []
        # Batches of one size, so that one compilation serves: the rest of a permutation waits for the next epoch.
        for chosen in np.resize(rng.permutation(fit_index), batches * recipe.batch_size).reshape(batches, -1):
            x, mask = random_cuts([scaled[i] for i in chosen], recipe.window, rng)
            key, used = jax.random.split(key)
            state, average, optimizer_state, loss = _step(
                graph, optimizer, state, rest, average, optimizer_state, used, x, mask, targets[chosen]
            )
            losses.append(loss)
        predicted = track_means(network.standardised(average, valid_x, valid_mask), valid_owner, len(valid_index))
        valid_loss = float(np.mean((predicted - targets[valid_index]) ** 2))
        on_epoch(epoch, float(np.mean(jax.device_get(losses))), valid_loss)
        if valid_loss < best_loss:
            best, best_loss, waited = average, valid_loss, 0
        else:
            waited += 1
            if waited >= recipe.patience:
                break
    if not np.isfinite(best_loss):
        raise InputError("the training diverged: its loss was never finite", "lower train.learning_rate")
    return Member({_name(k): np.asarray(v.get_value()) for k, v in nnx.to_flat_state(best)}, scaler)


def _split(network: str, n_dims: int, hop_s: float, seed: int) -> tuple[Any, Any, Any]:
    """A fresh network as its structure, its parameters, and the rest of its state."""
    graph, parameters, *rest = nnx.split(models.build(network, n_dims, hop_s, seed), nnx.Param, ...)
    return graph, parameters, rest[0]


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    graph: Any,
    optimizer: optax.GradientTransformation,
    state: Any,
    rest: Any,
    average: Any,
    optimizer_state: Any,
    key: jax.Array,
    x: jax.Array,
    mask: jax.Array,
    y: jax.Array,
) -> tuple[Any, Any, Any, jax.Array]:
    def loss_of(state: Any) -> jax.Array:
        predicted = nnx.merge(graph, state, rest)(x, mask, nnx.Rngs(dropout=key))
        return jnp.mean(jnp.square(predicted - y))

    loss, gradients = jax.value_and_grad(loss_of)(state)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, state)
    state = optax.apply_updates(state, updates)
    average = jax.tree.map(lambda a, s: EMA_DECAY * a + (1 - EMA_DECAY) * s, average, state)
    return state, average, optimizer_state, loss


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in path)
