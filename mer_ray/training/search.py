"""Hyperparameter search for each fold: an Optuna study on the fold's own training tracks.

The search is nested (Varma & Simon 2006, BMC Bioinformatics 7:91): a fold's test tracks take no part in the choice of
its settings, or the metrics of the best of many trials would be biased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from mer_ray.config import SearchConfig
from mer_ray.errors import InputError, MerRayError
from mer_ray.models.splits import grouped_holdout
from mer_ray.training import given
from mer_ray.training.checkpoint import Checkpoints
from mer_ray.training.data import Examples
from mer_ray.training.network import Network
from mer_ray.training.recipe import Recipe, label_weights

INNER_HOLDOUT = 0.25
"""Share of a fold's training tracks on which trials are compared: larger than `network.HOLDOUT`."""
WORST = -1e9
"""The score of a training that diverged: finite, as JSON has no infinity."""
REDUCTION = 3
"""Successive halving continues with the best third of the trials of a rung."""

Space = Mapping[str, BaseDistribution]

SPACE: Space = {
    # AdamW with gradients clipped to 1: below, 60 epochs are too few; above, most trainings diverge.
    "learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
    # Decoupled (Loshchilov & Hutter 2019): per step lr × decay, so 1 is strong and 0.01 next to nothing.
    "weight_decay": FloatDistribution(1e-2, 1.0, log=True),
    # Small catalogs have a small number of steps an epoch: 64 halves it, 16 doubles it.
    "batch_size": CategoricalDistribution((16, 32, 64)),
    # nll has a wider output than the others, so a model cannot mix it with them: train.loss=nll sets it for all folds.
    "loss": CategoricalDistribution(("mse", "huber", "ccc")),
    # The published range: spans of a fifth to a third of the axis.
    "mask_share": CategoricalDistribution((0.0, 0.1, 0.2, 0.3)),
    # Zhang et al. (2018) found 0.1 to 0.4 best.
    "mixup": CategoricalDistribution((0.0, 0.2, 0.4)),
}
"""Fields of `Recipe` that are searched. Not the window: all members of a model have the same."""
SPACES: dict[str, Space] = {
    # Lower for a recurrent network, whose gradients grow with the sequence length.
    "lstm": {**SPACE, "learning_rate": FloatDistribution(3e-4, 5e-3, log=True)},
}
"""Networks with ranges of their own."""
SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    "optuna": optuna.samplers.TPESampler,
}


@dataclass(frozen=True)
class Slot:
    """The scope of a study: the fold of a repeat, and the index of the dimension where each has its own network.

    seeds: of the repeats, where they are listed; see `crossval.parts`.
    """

    repeat: int
    fold: int
    target: int | None
    seeds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of its trials' files."""
        return f"search-{self.repeat}-{self.fold}-{'all' if self.target is None else self.target}"

    def seed(self, seed: int, use: str, *more: int) -> int:
        """A seed 0..2³¹-1 for a use. The studies of a fold's dimensions share the seeds of split and training."""
        target = 0 if self.target is None or use != "draw" else self.target + 1
        number = ("draw", "split", "train").index(use)
        own = (self.seeds[self.repeat], number, 0) if self.seeds else (seed, number, self.repeat)
        return int(np.random.default_rng([*own, self.fold, target, *more]).integers(2**31))


def space(network: str, fixed: Collection[str] = ()) -> Space:
    """The search space of a network, without the settings that the user has fixed.

    Raises MerRayError where nothing is left.
    """
    left = {k: v for k, v in SPACES.get(network, SPACE).items() if k not in fixed}
    if not left:
        raise MerRayError(
            f"nothing is left to search for {network}: the settings name {', '.join(sorted(fixed))}",
            "leave one of them out, or set train.search.trials to 0",
        )
    return left


def choose(
    slot: Slot,
    recipe: Recipe,
    space: Space,
    config: SearchConfig,
    seed: int,
    data: Examples,
    fold: np.ndarray,
    checkpoints: Checkpoints,
    on_epoch: Callable[[int, int, float, float], None] = lambda number, epoch, train, valid: None,
) -> dict[str, Any]:
    """Run the study of a slot, from the first trial that ``checkpoints`` lacks.

    Trial 0 has the recipe's own settings, so that the search is no worse than they are on the inner holdout. Each draw
    has its own seed, so that an interrupted study comes to the same choice.

    Args:
        recipe: the network with its own or the user's settings.
        space: of `space`.
        data: all tracks; the fold's own are not used.
        fold: (N,), of the slot's repeat.
        on_epoch: called with the trial's number, the epoch, training and validation loss.

    Returns:
        repeat, fold, target, settings (fields of `Recipe`), score (1 − MSE of standardised labels on the inner
        holdout), and trials, each with its settings, score, epochs and whether it was stopped early.

    Raises:
        MerRayError: no trial was completed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    inside, holdout = inner_split(data.groups, data.labels, fold, slot.fold, slot.seed(seed, "split"))
    seen = data.of(inside)
    weights = label_weights(seen.labels, seen.errors)
    study = optuna.create_study(direction="maximize", pruner=pruner(config, recipe.epochs))
    while len(study.trials) < config.trials:
        record = checkpoints.read_json(f"{slot.name}-{len(study.trials):04d}")
        if record is None:
            break
        study.add_trial(_from_json(record, space))
    done = len(study.trials)
    if not done:
        study.enqueue_trial({name: getattr(recipe, name) for name in space})

    def objective(trial: optuna.Trial) -> float:
        curve: list[list[float]] = []

        def report(epoch: int, train: float, valid: float) -> None:
            curve.append([train, valid])
            on_epoch(trial.number, epoch, train, valid)
            trial.report(score(curve), epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned

        own = replace(recipe, target=slot.target, **_settings(trial.params))
        try:
            Network(own, report).fit(
                seen.frames,
                seen.labels,
                seen.groups,
                weights=weights,
                seed=slot.seed(seed, "train"),
                validation=holdout,
                dimensions=seen.dimensions,
                curves=seen.curves if own.over_time else (),
            )
        except InputError:
            if score(curve) > WORST:
                raise  # another error than divergence
        return score(curve)

    for number in range(done, config.trials):
        study.sampler = SAMPLERS[config.method](seed=slot.seed(seed, "draw", number))  # type: ignore[call-arg]
        trial = study.ask(dict(space))
        try:
            study.tell(trial, objective(trial))
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        checkpoints.write_json(f"{slot.name}-{number:04d}", _to_json(study.trials[number]))
    ended = [t for t in study.trials if t.state == TrialState.COMPLETE and t.values[0] > WORST]
    if not ended:
        raise MerRayError(
            f"the search for fold {slot.fold} found nothing: none of its {config.trials} trials came to an end",
            "the trials' folders under tune/ have their logs",
        )
    best = max(ended, key=lambda t: t.values[0])  # the first of equals
    history = [
        {
            "settings": _settings(t.params),
            "score": t.values[0] if t.values else None,
            "epochs": len(t.intermediate_values),
            "stopped": t.state == TrialState.PRUNED,
        }
        for t in study.trials
    ]
    where = {"repeat": slot.repeat, "fold": slot.fold, "target": slot.target}
    return {**where, "settings": _settings(best.params), "score": best.values[0], "trials": history}


def pruner(config: SearchConfig, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner, which stops trials that are worse than others of the study."""
    if config.scheduler == "none":
        return optuna.pruners.NopPruner()
    if config.scheduler == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=config.grace_epochs - 1)
    grace = min(config.grace_epochs, epochs)
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=grace, reduction_factor=REDUCTION)


def inner_split(
    groups: Sequence[str], labels: np.ndarray, fold: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The data of a fold's search: (indices of the fold's training tracks (n,), mask (n,) of the inner holdout).

    groups (N,), labels (N, D), fold (N,) of one repeat, number: the outer fold, whose tracks are in neither. The
    holdout consists of whole groups, or is the given validation set. Raises InputError where the training tracks are
    one group.
    """
    inside = np.flatnonzero(fold != number)
    if (fold[inside] == given.VALID).any():
        return inside, fold[inside] == given.VALID
    holdout = grouped_holdout([groups[int(i)] for i in inside], INNER_HOLDOUT, seed, labels[inside])
    if not holdout.any():
        raise InputError(
            "the training tracks of a fold are of one artist, so that no trial can be judged on another",
            "label tracks of more artists, or set train.search.trials to 0",
        )
    return inside, holdout


def score(curve: Sequence[Sequence[float]]) -> float:
    """The score of a training so far: 1 − the lowest validation loss (the MSE of standardised labels), about an R².

    curve: training and validation loss by epoch. Standardised, so that all dimensions count the same.
    """
    losses = [valid for _, valid in curve if math.isfinite(valid)]
    return 1 - min(losses) if losses else WORST


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, rounded to three digits."""
    return {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in params.items()}


def _to_json(trial: FrozenTrial) -> dict[str, Any]:
    steps = {str(step): value for step, value in trial.intermediate_values.items()}
    own = {"state": trial.state.name, "value": trial.values[0] if trial.values else None, "params": trial.params}
    return {**own, "intermediate_values": steps, "system_attrs": trial.system_attrs}


def _from_json(record: Mapping[str, Any], space: Space) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState[record["state"]],
        value=record["value"],
        params=record["params"],
        distributions=dict(space),
        intermediate_values={int(step): value for step, value in record["intermediate_values"].items()},
        system_attrs=record["system_attrs"],
    )
