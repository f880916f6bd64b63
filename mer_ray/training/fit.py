"""The training of one network on one split: pure functions of arrays, on whatever devices JAX has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from mer_ray import models
from mer_ray.errors import InputError
from mer_ray.models import N_TARGETS
from mer_ray.training import losses
from mer_ray.training.augment import mixup, spec_augment
from mer_ray.training.checkpoint import NOTHING, Saver
from mer_ray.training.feed import Feed
from mer_ray.training.forward import flat, forward, split, track_means
from mer_ray.training.member import Member, Scaler
from mer_ray.training.placement import Placement


@dataclass(frozen=True)
class Recipe:
    """How to train. window: frames (T). Learning rate decays to 0 over the epochs along a cosine.

    mask_share: see `spec_augment`; 0 is off. mixup: alpha, see `mixup`; 0 is off. ema: decay, per step, of the moving
    average of the weights that is kept, without the bias of its start (Kingma & Ba 2015, section 3); 0 keeps the
    weights themselves. target: the one dimension (0..2) to train on; None for all. A network that is solved
    (`models.is_solved`) uses no more of it than the window.
    """

    network: str
    hop_s: float
    window: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    loss: losses.Loss = "mse"
    mask_share: float = 0.0
    mixup: float = 0.0
    ema: float = 0.98
    target: int | None = None

    @property
    def outputs(self) -> int:
        """Width of the network's answer."""
        if models.is_solved(self.network):
            return N_TARGETS
        return losses.outputs(self.loss, N_TARGETS)

    @property
    def targets(self) -> tuple[int, ...]:
        """1 for each dimension that is trained on, 0 for the others."""
        return tuple(int(self.target in (None, i)) for i in range(N_TARGETS))


@dataclass(frozen=True)
class _Objective:
    """The part of a recipe that is compiled into a step."""

    loss: losses.Loss
    masks: bool
    mixes: bool


ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
"""AdamW but for learning rate and decay, which `_step` takes as numbers: trials that differ in them compile once."""


def label_weights(labels: np.ndarray, errors: np.ndarray | None) -> np.ndarray:
    """How much each label counts: labels (N, 3), their standard errors (N, 3) or None → (N, 3) of mean 1.

    The inverse of the label's variance around the model, whose own part is taken to be half of the labels' variance
    (random-effects weighting, DerSimonian & Laird 1986). An unknown error (NaN) counts as the largest known one: it is
    what a single term leaves. A dimension without any gets equal weights.
    """
    weights = np.ones(labels.shape, np.float32)
    if errors is None:
        return weights
    for d in range(labels.shape[1]):
        known = np.isfinite(errors[:, d])
        if known.any() and labels[:, d].std() > 0:
            se = np.where(known, errors[:, d], errors[known, d].max())
            weight = 1 / (labels[:, d].var() / 2 + se**2)
            weights[:, d] = weight / weight.mean()
    return weights


def fit(
    recipe: Recipe,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    validation: np.ndarray,
    seed: int,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, train, valid: None,
    weights: np.ndarray | None = None,
    placement: Placement | None = None,
    checkpoint: Saver = NOTHING,
    groups: Sequence[str] | None = None,
) -> Member:
    """Train one network with early stopping.

    tracks: frames (n_i, F). labels: (N, 3) in 0..1. validation: mask (N,) of the tracks that only decide when to stop;
    without any, the training tracks do. weights: (N, 3), see `label_weights`. placement: the devices; every process
    of a group makes the same call. checkpoint: where the training continues, and where it leaves its state. groups:
    (N,), artists, for networks that are solved and not stepped (`models.is_solved`); those need no validation.

    on_epoch(epoch, training loss, validation loss) is called after each epoch, from where it continues on; the
    validation loss is the MSE of standardised labels. Returns the moving average of the weights at the epoch of the
    lowest validation loss. The same arguments give the same bits on the same machine, interrupted or not.
    """
    if models.is_solved(recipe.network):
        from mer_ray.models.solve import solve

        groups = groups if groups is not None else [str(i) for i in range(len(tracks))]
        weights = weights if weights is not None else np.ones(labels.shape, np.float32)
        r = recipe
        return solve(r.network, r.hop_s, r.window, tracks, labels, groups, seed, on_epoch, weights)
    placement = placement or Placement.single()
    fit_index, valid_index = np.flatnonzero(~validation).tolist(), np.flatnonzero(validation).tolist()
    valid_index = valid_index or fit_index
    scaler = Scaler.of([tracks[i] for i in fit_index], labels[fit_index])
    targets = scaler.labels(labels)
    counts = (weights if weights is not None else np.ones_like(targets)) * np.array(recipe.targets, np.float32)
    counts = (counts * N_TARGETS / sum(recipe.targets)).astype(np.float32)
    feed = Feed([tracks[i] for i in fit_index], recipe.window, placement, scaler.frames)
    valid_tracks = [scaler.frames(tracks[i]) for i in valid_index]
    judged = np.array(recipe.targets, bool)

    n_dims = tracks[0].shape[1]
    network = forward(recipe.network, n_dims, recipe.hop_s, recipe.window, recipe.outputs)
    graph, state, rest = split(recipe.network, n_dims, recipe.hop_s, seed, recipe.outputs)
    size = min(recipe.batch_size, len(fit_index)) if placement.mesh is None else recipe.batch_size
    batches = max(1, len(fit_index) // size)
    objective = _Objective(recipe.loss, recipe.mask_share > 0, recipe.mixup > 0)
    numbers = np.array([recipe.weight_decay, recipe.mask_share, recipe.mixup], np.float32)
    steps = np.arange(recipe.epochs * batches)
    rates = recipe.learning_rate * (1 + np.cos(np.pi * steps / len(steps))) / 2
    shares = newest_shares(recipe.ema, len(steps))
    rng = np.random.default_rng(seed)
    now = _State(state, state, state, ADAM.init(state), jax.random.key_data(jax.random.key(seed)))
    progress: dict[str, Any] = {"epoch": 0, "best_loss": np.inf, "waited": 0, "losses": []}
    kept = checkpoint.load()
    if kept is not None:
        now, progress = _State(*jax.tree.unflatten(jax.tree.structure(now.all), kept.arrays)), kept.progress
    placement.check_same(progress["epoch"], "a checkpoint of epoch")
    if kept is not None:
        rng.bit_generator.state = progress["rng"]
        for epoch, (train_loss, valid_loss) in enumerate(progress["losses"]):
            on_epoch(epoch, train_loss, valid_loss)
    now, rest = _State(*placement.replicate(now.all)), placement.replicate(rest)

    saved = time.monotonic()
    while progress["epoch"] < recipe.epochs and progress["waited"] < recipe.patience:
        step_losses = []
        # Batches of one size, so that one compilation serves: the rest of a permutation waits for the next epoch.
        order = np.resize(rng.permutation(len(fit_index)), batches * size).reshape(batches, -1)
        for step, chosen in enumerate(order, start=progress["epoch"] * batches):
            x, mask = feed.cut(chosen, rng)
            mine = np.array(fit_index)[chosen[placement.rows(size)]]
            y, weight = (placement.batch(a[mine]) for a in (targets, counts))
            stepped = _step(
                graph,
                objective,
                np.float32(rates[step]),
                np.float32(shares[step]),
                numbers,
                now.state,
                rest,
                now.average,
                now.optimizer,
                now.key,
                x,
                mask,
                y,
                weight,
            )
            now = replace(now, state=stepped[0], average=stepped[1], optimizer=stepped[2], key=stepped[3])
            step_losses.append(stepped[4])
        out, owner = network.standardised(placement.local(now.average), valid_tracks)
        error = track_means(out, owner, len(valid_index)) - targets[valid_index]
        valid_loss = placement.agree(float(np.mean(error[:, judged] ** 2)))
        train_loss = float(np.mean([np.asarray(placement.local(v)) for v in step_losses]))
        progress["losses"].append([train_loss, valid_loss])
        on_epoch(progress["epoch"], train_loss, valid_loss)
        progress["epoch"] += 1
        if valid_loss < progress["best_loss"]:
            now, progress["best_loss"], progress["waited"] = replace(now, best=now.average), valid_loss, 0
        else:
            progress["waited"] += 1
        if placement.is_first and time.monotonic() - saved >= checkpoint.every_s:
            progress["rng"] = rng.bit_generator.state
            checkpoint.save([np.asarray(a) for a in jax.tree.leaves(placement.local(now.all))], progress)
            saved = time.monotonic()
    if not np.isfinite(progress["best_loss"]):
        raise InputError("the training diverged: its loss was never finite", "lower train.learning_rate")
    return Member(flat(placement.local(now.best)), scaler, recipe.targets)


def newest_shares(decay: float, steps: int) -> np.ndarray:
    """What the weights of each step count in the moving average after it: (steps,), all of it at the first step.

    Adam's correction, m / (1 - decay^t) of an average m that starts at 0, written as a step of the corrected average
    itself. An average that starts at the fresh weights still has half of them after 34 steps at 0.98: all there are of
    a few dozen tracks.
    """
    return (1 - decay) / (1 - decay ** np.arange(1.0, steps + 1))


@dataclass(frozen=True)
class _State:
    """What changes from step to step. key: the data of a `jax.random` key."""

    state: Any
    average: Any
    best: Any
    optimizer: Any
    key: Any

    @property
    def all(self) -> tuple[Any, ...]:
        return (self.state, self.average, self.best, self.optimizer, self.key)


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    graph: Any,
    objective: _Objective,
    rate: jax.Array,
    share: jax.Array,
    numbers: jax.Array,
    state: Any,
    rest: Any,
    average: Any,
    optimizer_state: Any,
    key: jax.Array,
    x: jax.Array,
    mask: jax.Array,
    y: jax.Array,
    weight: jax.Array,
) -> tuple[Any, Any, Any, jax.Array, jax.Array]:
    weight_decay, mask_share, alpha = numbers
    following, dropout, masks, mixing = jax.random.split(jax.random.wrap_key_data(key), 4)
    if objective.masks:
        x = spec_augment(masks, x, mask_share)
    if objective.mixes:
        x, mask, y, weight = mixup(mixing, alpha, x, mask, y, weight)

    def loss_of(state: Any) -> jax.Array:
        out = nnx.merge(graph, state, rest)(x, mask, nnx.Rngs(dropout=dropout))
        return losses.loss_value(objective.loss, out, y, weight)

    loss, gradients = jax.value_and_grad(loss_of)(state)
    updates, optimizer_state = ADAM.update(gradients, optimizer_state, state)
    state = jax.tree.map(lambda s, u: s - rate * (u + weight_decay * s), state, updates)
    average = jax.tree.map(lambda a, s: (1 - share) * a + share * s, average, state)
    return state, average, optimizer_state, jax.random.key_data(following), loss
