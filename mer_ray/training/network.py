"""The training loop of all networks, with early stopping, and their predictions, on any of JAX's devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mer_ray import models
from mer_ray.errors import InputError, ModelError
from mer_ray.features.joined import Frames
from mer_ray.models import windows
from mer_ray.models.curves import Curve, OverTime
from mer_ray.models.regressor import (
    NOT_IN_AUDIO,
    NOT_LEARNT,
    OF_ANOTHER,
    Regressor,
    TrackPrediction,
    known_labels,
    names,
)
from mer_ray.models.scaling import Scaler
from mer_ray.models.splits import grouped_holdout
from mer_ray.training import losses
from mer_ray.training.augment import mixup, spec_augment
from mer_ray.training.checkpoint import NOTHING, Saver
from mer_ray.training.placement import Placement
from mer_ray.training.recipe import Recipe

HOLDOUT = 0.15
"""Share of the training tracks in the validation set for early stopping."""
BATCH = 64
"""Windows that are predicted together."""
PREFIX = "network."
ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
"""AdamW without learning rate and decay, which are arguments of `_step`: trials that differ in them compile once."""
OnEpoch = Callable[[int, float, float], None]


class Network(Regressor):
    """An ``nnx.Module`` of `mer_ray.models` as a `Regressor`.

    Args:
        recipe: Its settings.
        on_epoch: Called with epoch, training loss and validation loss (MSE of standardised labels) of each epoch,
            including those before a checkpoint.
        placement: The devices; every process of a group makes the same calls.
        checkpoint: From which the training resumes, and where it saves its state.
    """

    def __init__(
        self,
        recipe: Recipe,
        on_epoch: OnEpoch = lambda epoch, train, valid: None,
        placement: Placement | None = None,
        checkpoint: Saver = NOTHING,
    ) -> None:
        super().__init__(recipe.hop_s, recipe.window, recipe.hops)
        self.recipe, self.on_epoch, self.checkpoint = recipe, on_epoch, checkpoint
        self.placement = placement or Placement.single()

    def fit(
        self,
        tracks: Sequence[Frames],
        labels: np.ndarray,
        groups: Sequence[str],
        *,
        weights: np.ndarray | None = None,
        seed: int = 0,
        dimensions: Sequence[str] = (),
        curves: Sequence[Curve | None] = (),
        validation: np.ndarray | None = None,
    ) -> Self:
        """See `Regressor.fit`. Returns the moving average of the weights at the epoch of the lowest validation loss.

        An epoch has a window of each track; with curves as many as fit into the labelled part of the track.

        Args:
            validation: mask (N,) of the validation set for early stopping; None draws whole groups. If it is empty, the
                training tracks decide.
        Raises:
            InputError: the loss was never finite; or see `known_labels`.
        """
        recipe, placement = self.recipe, self.placement
        labels, weights = known_labels(labels, weights, groups, dimensions)
        targets = recipe.targets(labels.shape[1])
        if validation is None:
            validation = grouped_holdout(groups, HOLDOUT, seed, labels)
        own = np.flatnonzero(~validation)
        over_time = OverTime(labels, curves)
        samples = self._window_labels(over_time, tracks, own) if over_time else labels[own]
        if over_time and np.isnan(samples).all():
            raise InputError(*NOT_IN_AUDIO)
        if (missing := np.isnan(samples).all(axis=0)).any():
            lacking = names(dimensions, len(targets))[missing.argmax()]
            raise InputError(
                f"{lacking} cannot be learnt: all of its labels are in the validation set",
                NOT_LEARNT,
            )
        scaler = Scaler.of([tracks[i] for i in own.tolist()], samples)
        for judging in (np.flatnonzero(validation), own):
            wanted = scaler.labels(self._window_labels(over_time, tracks, judging) if over_time else labels[judging])
            judged = (np.isfinite(wanted) & np.array(targets, bool)).T
            if judged.any():
                break
        counts = (weights * np.array(targets, np.float32) * len(targets) / sum(targets)).astype(np.float32)
        earliest, choices, each = self._drawn_from(over_time, tracks)
        own, judging_tracks = np.repeat(own, each[own]), [tracks[i] for i in judging.tolist()]

        n_dims, outputs = tracks[0].shape[1], losses.outputs(recipe.loss, len(targets))
        graph, state, rest = split(recipe.network, n_dims, recipe.hop_s, seed, outputs)
        compiled = _compiled(recipe.network, n_dims, recipe.hop_s, outputs, len(targets))
        size = min(recipe.batch_size, len(own)) if placement.mesh is None else recipe.batch_size
        batches = max(1, len(own) // size)
        static = graph, recipe.loss, recipe.mask_share > 0, recipe.mixup > 0
        numbers = np.array([recipe.weight_decay, recipe.mask_share, recipe.mixup], np.float32)
        steps = np.arange(recipe.epochs * batches)
        rates = (recipe.learning_rate * (1 + np.cos(np.pi * steps / len(steps))) / 2).astype(np.float32)
        shares = newest_shares(recipe.ema, len(steps)).astype(np.float32)
        rng = np.random.default_rng(seed)
        now = _State(state, state, state, ADAM.init(state), jax.random.key_data(jax.random.key(seed)))
        progress: dict[str, Any] = {"epoch": 0, "best_loss": np.inf, "waited": 0, "losses": []}
        saved = self.checkpoint.load()
        if saved is not None:
            now, progress = _State(*jax.tree.unflatten(jax.tree.structure(now.all), saved.arrays)), saved.progress
        placement.check_same(progress["epoch"], "a checkpoint of epoch")
        if saved is not None:
            rng.bit_generator.state = progress["rng"]
            for epoch, (train_loss, valid_loss) in enumerate(progress["losses"]):
                self.on_epoch(epoch, train_loss, valid_loss)
        now, rest = _State(*placement.replicate(now.all)), placement.replicate(rest)

        saved_at = time.monotonic()
        while progress["epoch"] < recipe.epochs and progress["waited"] < recipe.patience:
            step_losses = []
            # Batches of one size, so that the step compiles once; the remainder of a permutation is left out.
            order = np.resize(rng.permutation(len(own)), batches * size).reshape(batches, -1)
            for step, chosen in enumerate(order, start=progress["epoch"] * batches):
                rows = own[chosen]
                first = earliest[rows] + rng.integers(0, choices[rows])
                local = placement.rows(size)  # every process draws the same numbers and cuts its own windows
                x, mask = windows.cut(tracks, rows[local], first[local], self.window, scaler.frames)
                y = scaler.labels(over_time.of(rows[local], *self._seconds(first[local])))
                count = np.where(np.isfinite(y), counts[rows[local]], 0)  # an unknown label has no weight
                batch = [placement.batch(a) for a in (x, mask, np.nan_to_num(y), count)]
                changed, loss = _step(*static, rates[step], shares[step], numbers, rest, now.changing, *batch)
                now = replace(now, **changed)
                step_losses.append(loss)
            out, owner = compiled.standardised(placement.local(now.average), scaler, judging_tracks, self.window)
            error = (out if over_time else windows.track_means(out, owner, len(judging))) - wanted
            valid_loss = placement.agree(float(np.mean(error.T[judged] ** 2)))
            train_loss = float(np.mean([np.asarray(placement.local(v)) for v in step_losses]))
            progress["losses"].append([train_loss, valid_loss])
            self.on_epoch(progress["epoch"], train_loss, valid_loss)
            progress["epoch"] += 1
            if valid_loss < progress["best_loss"]:
                now, progress["best_loss"], progress["waited"] = replace(now, best=now.average), valid_loss, 0
            else:
                progress["waited"] += 1
            if placement.is_first and time.monotonic() - saved_at >= self.checkpoint.every_s:
                progress["rng"] = rng.bit_generator.state
                leaves = jax.tree.leaves(placement.local(now.all))
                self.checkpoint.save([np.asarray(leaf) for leaf in leaves], progress)
                saved_at = time.monotonic()
        if not np.isfinite(progress["best_loss"]):
            raise InputError("the training diverged: its loss was never finite", "lower train.learning_rate")
        self.arrays = {**flat(placement.local(now.best)), **scaler.arrays()}
        self.targets, self.curve = targets, np.array(progress["losses"]).reshape(-1, 2)
        return self

    def _seconds(self, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and end of windows from frames ``first`` on."""
        return first * self.hop_s, (first + self.window) * self.hop_s

    def _window_labels(self, over_time: OverTime, tracks: Sequence[Frames], rows: np.ndarray) -> np.ndarray:
        """The labels (W, D) of every window of some tracks."""
        owner, first = windows.all_starts([tracks[i] for i in rows.tolist()], self.window)
        return over_time.of(rows[owner], *self._seconds(first))

    def _drawn_from(self, over_time: OverTime, tracks: Sequence[Frames]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per track: the earliest first frame of a training window, the number of them, and the windows of an epoch."""
        last = np.maximum(0, np.array([len(t) for t in tracks]) - self.window)
        if not over_time:
            return np.zeros_like(last), last + 1, np.ones_like(last)
        spans = np.array([over_time.span_s(i) for i in range(len(tracks))]) / self.hop_s
        spans = np.minimum(spans, last[:, None] + self.window)
        earliest = np.minimum(spans[:, 0].astype(int), last)
        latest = np.clip(np.ceil(spans[:, 1]).astype(int) - self.window, earliest, last)
        each = np.maximum(1, np.rint((spans[:, 1] - spans[:, 0]) / self.window)).astype(int)
        return earliest, latest - earliest + 1, each

    def predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        """See `Regressor.predict`. The prediction is the mean over windows that overlap by half."""
        if not tracks:
            return []
        scaler, compiled = Scaler.from_arrays(self.arrays), self._compiled(tracks[0].shape[1])
        out, _ = compiled.standardised(compiled.state(self.arrays), scaler, tracks, self.window)
        return windows.predictions(scaler.vad(out), tracks, self.window, self.hop_s)

    def check(self, track: Frames) -> None:
        """See `Regressor.check`; nothing is compiled."""
        n_dims = track.shape[1]
        wanted = nnx.to_flat_state(self._compiled(n_dims).parameters)
        found = {k: v.shape for k, v in self.arrays.items() if k.startswith(PREFIX)}
        if found != {_name(k): v.get_value().shape for k, v in wanted} or len(self.arrays["scaler.x_mean"]) != n_dims:
            raise ModelError(*OF_ANOTHER)

    def _compiled(self, n_dims: int) -> _Compiled:
        # The stored bias has the number of outputs, which depends on the loss.
        width, n_targets = len(self.arrays.get(f"{PREFIX}head.bias", ())), len(self.targets)
        if not width or width not in (n_targets, 2 * n_targets):
            raise ModelError(*OF_ANOTHER)
        return _compiled(self.recipe.network, n_dims, self.hop_s, width, n_targets)


@lru_cache(maxsize=8)
def _compiled(network: str, n_dims: int, hop_s: float, outputs: int, n_targets: int) -> _Compiled:
    """One per process and shape, as compilation takes seconds."""
    return _Compiled(network, n_dims, hop_s, outputs, n_targets)


class _Compiled:
    """A network compiled once for prediction, for any number of members of its shape."""

    def __init__(self, network: str, n_dims: int, hop_s: float, outputs: int, n_targets: int) -> None:
        # Other state (random seeds in Flax's cells) does not affect predictions.
        graph, self.parameters, rest = split(network, n_dims, hop_s, 0, outputs)
        self._apply = jax.jit(lambda state, x, mask: nnx.merge(graph, state, rest)(x, mask)[:, :n_targets])

    def state(self, arrays: dict[str, np.ndarray]) -> Any:
        """Stored arrays as the network's parameter tree."""
        state = nnx.to_flat_state(self.parameters)
        return nnx.from_flat_state([(k, v.replace(jnp.asarray(arrays[_name(k)]))) for k, v in state])

    def standardised(
        self, state: Any, scaler: Scaler, tracks: Sequence[Frames], window: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs (W, D) on every window of the tracks (n_i, F), cut batch by batch, and the windows' tracks (W,)."""
        owner, first = windows.all_starts(tracks, window)
        out = []
        for i in range(0, len(owner), BATCH):
            n = min(BATCH, len(owner) - i)
            pair = windows.cut(tracks, owner[i : i + n], first[i : i + n], window, scaler.frames)
            # All batches have one shape.
            x, mask = (np.pad(a, [(0, BATCH - n), *[(0, 0)] * (a.ndim - 1)]) for a in pair)
            out.append(np.asarray(self._apply(state, x, mask))[:n])
        return np.concatenate(out), owner


def split(network: str, n_dims: int, hop_s: float, seed: int, outputs: int) -> tuple[Any, Any, Any]:
    """A newly initialised network as its structure, its parameters, and the rest of its state.

    outputs: see `losses.outputs`.
    """
    module = models.module(network).build(n_dims, hop_s, nnx.Rngs(seed), outputs)
    graph, parameters, *rest = nnx.split(module, nnx.Param, ...)
    return graph, parameters, rest[0]


def flat(state: Any) -> dict[str, np.ndarray]:
    """A tree of parameters as name → array; a name is the path joined by dots."""
    return {_name(k): np.asarray(v.get_value()) for k, v in nnx.to_flat_state(state)}


def _name(path: tuple[Any, ...]) -> str:
    return PREFIX + ".".join(str(part) for part in path)


def newest_shares(decay: float, steps: int) -> np.ndarray:
    """Weight of each step in the moving average after it: (steps,), 1 at the first step.

    Adam's bias correction, m / (1 - decay^t) of an average m that starts at 0, as an update of the corrected average.
    An average that started at the initial weights would still contain half of them after 34 steps at 0.98, which are
    all the steps that a small catalog has.
    """
    return (1 - decay) / (1 - decay ** np.arange(1.0, steps + 1))


@dataclass(frozen=True)
class _State:
    """The state of the training. key: the data of a `jax.random` key."""

    state: Any
    average: Any
    best: Any
    optimizer: Any
    key: Any

    @property
    def all(self) -> tuple[Any, ...]:
        return (self.state, self.average, self.best, self.optimizer, self.key)

    @property
    def changing(self) -> dict[str, Any]:
        """The part that a step updates."""
        return {"state": self.state, "average": self.average, "optimizer": self.optimizer, "key": self.key}


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _step(
    graph: Any,
    loss: losses.Loss,
    masks: bool,
    mixes: bool,
    rate: jax.Array,
    share: jax.Array,
    numbers: jax.Array,
    rest: Any,
    now: dict[str, Any],
    x: jax.Array,
    mask: jax.Array,
    y: jax.Array,
    weight: jax.Array,
) -> tuple[dict[str, Any], jax.Array]:
    """One AdamW step on a batch: the changed part of the state, and the loss."""
    weight_decay, mask_share, alpha = numbers
    following, dropout, masking, mixing = jax.random.split(jax.random.wrap_key_data(now["key"]), 4)
    if masks:
        x = spec_augment(masking, x, mask_share)
    if mixes:
        x, mask, y, weight = mixup(mixing, alpha, x, mask, y, weight)

    def loss_of(state: Any) -> jax.Array:
        out = nnx.merge(graph, state, rest)(x, mask, nnx.Rngs(dropout=dropout))
        return losses.loss_value(loss, out, y, weight)

    value, gradients = jax.value_and_grad(loss_of)(now["state"])
    updates, optimizer = ADAM.update(gradients, now["optimizer"], now["state"])
    state = jax.tree.map(lambda s, u: s - rate * (u + weight_decay * s), now["state"], updates)
    average = jax.tree.map(lambda a, s: (1 - share) * a + share * s, now["average"], state)
    key = jax.random.key_data(following)
    return {"state": state, "average": average, "optimizer": optimizer, "key": key}, value
