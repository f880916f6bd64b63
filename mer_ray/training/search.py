"""Hyperparameters that a fold chooses for itself: what may be chosen, how trials are drawn, and which of them wins.

The search is nested (Varma & Simon 2006, BMC Bioinformatics 7:91): the tracks that a fold is judged on take no part in
the choice of its settings, or the figures of the best of many trials would be too good. Pure functions and samplers;
`mer_ray.stages.tuning` runs the trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mer_ray.errors import InputError, MerRayError
from mer_ray.models.regressor import N_TARGETS
from mer_ray.models.splits import grouped_holdout

if TYPE_CHECKING:  # a trial that has only to be read needs no JAX
    from mer_ray.training.crossval import Part
    from mer_ray.training.recipe import Recipe

INNER_HOLDOUT = 0.25
"""Share of a fold's training tracks that trials are compared on: more than `crossval.HOLDOUT`, as it decides more."""
WORST = -1e9
"""The score of a training that diverged: a number, as JSON knows no infinity."""
GENERATION = 5
"""TPE draws so many trials at once and waits for all of them, so that their order of arrival changes nothing."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: tuple[float | str, ...]

    def draw(self, rng: np.random.Generator) -> float | str:
        """Each is as likely as the others."""
        return self.values[int(rng.integers(len(self.values)))]

    def __contains__(self, value: object) -> bool:
        return value in self.values


@dataclass(frozen=True)
class LogUniform:
    """A number of low..high, each power of ten as likely as the others; three digits are enough."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Between the bounds, both included."""
        value = float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.3g}")
        return min(max(value, self.low), self.high)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


Space = Mapping[str, OneOf | LogUniform]

SPACE: Space = {
    # AdamW with gradients clipped to 1: below, 60 epochs are too few; above, most trainings diverge.
    "learning_rate": LogUniform(3e-4, 1e-2),
    # Decoupled (Loshchilov & Hutter 2019): per step lr × decay, so 1 is strong and 0.01 next to nothing.
    "weight_decay": LogUniform(1e-2, 1.0),
    # Few tracks make few steps an epoch: 64 halves them, 16 doubles them.
    "batch_size": OneOf((16, 32, 64)),
    # nll has a wider answer than the others, so a model cannot mix it with them: train.loss=nll sets it for all folds.
    "loss": OneOf(("mse", "huber", "ccc")),
    # The published range: a stretch of a fifth to a third of the axis.
    "mask_share": OneOf((0.0, 0.1, 0.2, 0.3)),
    # Zhang et al. (2018) found 0.1 to 0.4 best.
    "mixup": OneOf((0.0, 0.2, 0.4)),
}
"""Fields of `Recipe` that are searched. Not the window: a model cuts a catalog into windows of one length."""

SPACES: dict[str, Space] = {
    # A recurrent network bears less: its gradients grow with the steps that it reads.
    "lstm": {**SPACE, "learning_rate": LogUniform(3e-4, 5e-3)},
}
"""Networks with ranges of their own."""


def space(network: str, fixed: Collection[str] = ()) -> Space:
    """What is searched for a network, but for the settings that the user has fixed.

    Raises MerRayError where nothing is left.
    """
    left = {k: v for k, v in SPACES.get(network, SPACE).items() if k not in fixed}
    if not left:
        raise MerRayError(
            f"nothing is left to search for {network}: the settings name {', '.join(sorted(fixed))}",
            "leave one of them out, or set train.search.trials to 0",
        )
    return left


def sample(space: Space, number: int, seed: int) -> Settings:
    """The settings of a random trial: they follow from its number and the seed alone."""
    rng = np.random.default_rng([seed, number])
    return {name: space[name].draw(rng) for name in sorted(space)}


class Sampler(Protocol):
    """Where trials come from: asked for 0, 1, 2, ... in that order.

    Trial 0 has the recipe's own settings, so that a search does no worse than they do where it is judged.
    """

    def ready(self, number: int, told: int) -> bool:
        """Whether this trial can be drawn when the first ``told`` trials have been told."""

    def draw(self, number: int) -> Settings:
        """The trial's settings."""

    def tell(self, number: int, settings: Settings, score: float) -> None:
        """How a trial ended; in the order of their numbers."""


class RandomSampler:
    """See `sample`."""

    def __init__(self, space: Space, recipe: Recipe, seed: int) -> None:
        self.space, self.seed = space, seed
        self.first = {name: getattr(recipe, name) for name in sorted(space)}

    def ready(self, number: int, told: int) -> bool:
        """At any time."""
        return True

    def draw(self, number: int) -> Settings:
        """See `sample`."""
        return sample(self.space, number, self.seed) if number else self.first

    def tell(self, number: int, settings: Settings, score: float) -> None:
        """Changes nothing."""


class TpeSampler:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS), in generations.

    A generation of `GENERATION` trials is drawn from what the ones before it have shown.
    """

    def __init__(self, space: Space, recipe: Recipe, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = {name: _distribution(space[name]) for name in sorted(space)}
        self.first = {name: getattr(recipe, name) for name in self.space}
        self.study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self.asked: dict[int, Any] = {}
        if all(self.first[name] in space[name] for name in space):
            self.study.enqueue_trial(self.first)
            self.asked[0] = self.study.ask(self.space)

    def ready(self, number: int, told: int) -> bool:
        """Once all generations before this trial's have been told."""
        return told >= number // GENERATION * GENERATION

    def draw(self, number: int) -> Settings:
        """Three digits are enough."""
        if number == 0:
            return self.first
        trial = self.asked[number] = self.study.ask(self.space)
        return {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in trial.params.items()}

    def tell(self, number: int, settings: Settings, score: float) -> None:
        """A lost trial teaches nothing."""
        import optuna

        if number in self.asked:
            lost = score <= WORST
            state = optuna.trial.TrialState.FAIL if lost else optuna.trial.TrialState.COMPLETE
            self.study.tell(self.asked.pop(number), None if lost else score, state)


SAMPLERS: dict[str, Callable[[Space, Recipe, int], Sampler]] = {"random": RandomSampler, "optuna": TpeSampler}


def _distribution(dimension: OneOf | LogUniform) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(dimension, LogUniform):
        return FloatDistribution(dimension.low, dimension.high, log=True)
    return CategoricalDistribution(dimension.values)


@dataclass(frozen=True)
class Place:
    """One search: the fold of a repeat, and the dimension (0..2) where each has a network of its own."""

    repeat: int
    fold: int
    target: int | None


def places(folds: int, repeats: int, separate: bool) -> list[Place]:
    """All searches of a cross-validation, in their order."""
    targets: list[int | None] = list(range(N_TARGETS)) if separate else [None]
    return [Place(r, k, t) for r in range(repeats) for k in range(folds) for t in targets]


def seed_of(seed: int, *place: int) -> int:
    """A seed 0..2³¹-1 of its own for each place."""
    return int(np.random.default_rng([seed, *place]).integers(2**31))


def inner_split(
    groups: Sequence[str], labels: np.ndarray, fold: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the search of a fold may see: (indices of the fold's training tracks (n,), mask (n,) of the inner holdout).

    groups (N,), labels (N, 3), fold (N,) of one repeat, number: the outer fold, whose tracks are in neither. Whole
    groups are held out; all trials of the fold, whatever their target, get the same split. Raises InputError where
    the training tracks are one group.
    """
    inside = np.flatnonzero(fold != number)
    held = grouped_holdout([groups[int(i)] for i in inside], INNER_HOLDOUT, seed, labels[inside])
    if not held.any():
        raise InputError(
            "the training tracks of a fold are of one artist, so that no trial can be judged on another",
            "label tracks of more artists, or set train.search.trials to 0",
        )
    return inside, held


def score(curve: Sequence[Sequence[float]]) -> float:
    """How good a training is so far: 1 − the lowest validation loss (the MSE of standardised labels), about an R².

    curve: training and validation loss by epoch. A mean of standardised errors lets no dimension starve another.
    """
    losses = [valid for _, valid in curve if math.isfinite(valid)]
    return 1 - min(losses) if losses else WORST


def winner(scores: Sequence[float | None]) -> int:
    """The number of the best trial, of equals the earlier one. None: a trial that failed.

    Raises InputError where every trial failed or diverged.
    """
    values = [s if s is not None and math.isfinite(s) else WORST for s in scores]
    best = max(range(len(values)), key=values.__getitem__, default=0)  # the first of equals
    if not values or values[best] <= WORST:
        raise InputError(
            f"none of the {len(values)} trials of a search came to an end",
            "the trials' folders under tune/ have their logs",
        )
    return best


def override(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with a trial's settings."""
    return replace(recipe, **settings)


def recipes(recipe: Recipe, choices: Sequence[Mapping[str, Any]]) -> Callable[[Part], Recipe]:
    """What each part of a cross-validation is trained with: that of its fold's choice, or ``recipe`` without one.

    choices: rows with ``repeat``, ``fold``, ``target`` and ``settings``, as `mer_ray.stages.tuning.choose` gives them.
    """
    chosen = {(c["repeat"], c["fold"], c["target"]): override(recipe, c["settings"]) for c in choices}
    return lambda part: chosen.get((part.repeat, part.fold, part.target), recipe)


@dataclass(frozen=True)
class Trial:
    """A trial that has ended. score: None where it failed. stopped: by the scheduler, before its time."""

    settings: Settings
    score: float | None
    epochs: int
    stopped: bool


class Trials:
    """The trials of one search, from the first draw to the choice."""

    def __init__(self, sampler: Sampler, n: int) -> None:
        self.sampler, self.n = sampler, n
        self.drawn: list[Settings] = []
        self.ended: dict[int, Trial] = {}
        self._told = 0

    def draw(self) -> tuple[int, Settings] | None:
        """The next trial's number and settings; None where there is none, or others have to end before it."""
        number = len(self.drawn)
        if number == self.n or not self.sampler.ready(number, self._told):
            return None
        self.drawn.append(self.sampler.draw(number))
        return number, self.drawn[number]

    def end(self, number: int, score: float | None, epochs: int, stopped: bool) -> None:
        """A trial has ended. The sampler is told in the order of the numbers, not in that of the ends."""
        self.ended[number] = Trial(self.drawn[number], score, epochs, stopped)
        while self._told in self.ended:
            trial = self.ended[self._told]
            self.sampler.tell(self._told, trial.settings, WORST if trial.score is None else trial.score)
            self._told += 1

    @property
    def complete(self) -> bool:
        """Whether all have ended."""
        return len(self.ended) == self.n

    @property
    def history(self) -> list[Trial]:
        """The trials by number. Only once all have ended."""
        return [self.ended[number] for number in range(self.n)]
