"""Hyperparameters: for each fold a search of its own on its training tracks, all of them in one Ray Tune experiment.

``search/NAME.json`` gets a row for each fold whose search has ended, ``search/NAME/`` a file for each trial that has.
Both are what a search that was interrupted continues from: its trials are drawn again, in their order, and those that
have ended are read and not trained. (Tune could restore an experiment itself, but from pickles, which run as code when
they are read, and only as far as its last snapshot.) With ``scheduler: none`` the choice is the same as without the
interruption; ASHA's depends on the order in which the trials report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_ray import models
from mer_ray.config import TrainConfig
from mer_ray.console import Ticker, progress
from mer_ray.errors import InputError, MerRayError
from mer_ray.features import FeatureSpec
from mer_ray.io.identity import digest, one_line
from mer_ray.io.tables import Workspace, now
from mer_ray.stages import session, tracking

if TYPE_CHECKING:
    from mer_ray.training.data import Dataset
    from mer_ray.training.recipe import Recipe
    from mer_ray.training.search import Place, Trials

FOLDER = "search"
REDUCTION = 3
"""ASHA goes on with the best third of the trials that reach a rung."""
RETRIES = 2
"""Of a trial whose process died."""


def choose(
    workspace: Workspace,
    name: str,
    feature: FeatureSpec,
    recipe: Recipe,
    train: TrainConfig,
    dataset: Dataset,
    fold: np.ndarray,
) -> list[dict[str, Any]]:
    """What each fold of the run ``name`` is to be trained with; [] where nothing is searched.

    recipe: the network with its own or the user's settings; only what ``train`` leaves open is searched. fold: (R, N).
    Answers, and writes to ``search/NAME.json``, one row per repeat, fold and (with separate heads) target: ``repeat``,
    ``fold``, ``target`` (0..2 or None), ``settings`` (fields of `Recipe`), ``score`` (1 − MSE of standardised labels on
    the inner holdout) and ``trials``, each with its own. What is there already is not searched again. Ray has to be
    connected. Raises MerRayError where all trials of a fold fail.
    """
    if not train.search.trials or "search" not in models.uses(recipe.network):
        return []
    from mer_ray.training import search
    from mer_ray.training.checkpoint import VERSION

    open_to = search.space(recipe.network, [k for k in search.SPACE if getattr(train, k) is not None])
    basis = {
        "data": dataset.fingerprint(feature),
        "recipe": asdict(recipe),
        "fold": fold.tolist(),
        "seed": train.seed,
        "weigh_labels": train.weigh_labels,
        "version": VERSION,
    }
    key = _hash([basis, train.search.model_dump(), train.heads, repr(sorted(open_to.items()))])
    found = workspace.read_json(FOLDER, f"{name}.json")
    choices = list(found["choices"]) if found is not None and found.get("key") == key else []
    done = {(c["repeat"], c["fold"], c["target"]) for c in choices}
    searches: dict[Place, Trials] = {}
    for place in search.places(int(fold.max()) + 1, len(fold), train.heads == "separate"):
        if (place.repeat, place.fold, place.target) not in done:
            sampler = search.SAMPLERS[train.search.method](open_to, recipe, _seed(train.seed, "draw", place))
            searches[place] = search.Trials(sampler, train.search.trials)
    if not searches:
        return choices

    def record(place: Place, trials: Trials) -> None:
        """A fold's search has ended: write its row, unless all its trials failed."""
        history = [asdict(t) for t in trials.history]
        if all(t["score"] is None or t["score"] <= search.WORST for t in history):
            return
        best = history[search.winner([t["score"] for t in history])]
        choices.append({**asdict(place), "settings": best["settings"], "score": best["score"], "trials": history})
        choices.sort(key=lambda c: (c["repeat"], c["fold"], -1 if c["target"] is None else c["target"]))
        workspace.write_json({"key": key, "choices": choices}, FOLDER, f"{name}.json")

    common = {
        "workspace": workspace.uri,
        "name": name,
        "basis": _hash(basis),
        "recipe": asdict(recipe),
        "fold": fold,
        "seed": train.seed,
        "threads": max(1, int(train.cpus_per_trial)),
        "gpus": train.gpus_per_trial,
        # Arrays go through Ray's object store: once per machine, whatever the number of trials on it.
        "data": {
            "frames": dataset.frames,
            "labels": dataset.labels,
            "groups": dataset.groups,
            "errors": dataset.errors if train.weigh_labels else None,
        },
    }
    with progress("search", train.search.trials * len(searches)) as ticker:
        error = _tune(workspace, name, recipe.epochs, train, searches, common, record, ticker)
    lost = len(searches) - (len(choices) - len(done))
    if lost:
        raise MerRayError(
            f"the search for {name} found nothing for {lost} of {len(searches)} folds ({error or 'it was ended'})",
            "the trials' folders under tune/ have their logs; run again to go on where it ended",
        )
    workspace.discard(FOLDER, name)
    return choices


def _tune(
    workspace: Workspace,
    name: str,
    epochs: int,
    train: TrainConfig,
    searches: dict[Place, Trials],
    common: dict[str, Any],
    record: Callable[[Place, Trials], None],
    ticker: Ticker,
) -> str:
    """Run the trials of all searches. Answers one line on the first trial that failed, if any."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command, not only Tune
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.tune.search import Searcher

    order = list(searches)
    stopped: set[str] = set()

    class Draw(Searcher):  # type: ignore[misc]
        """Tune's view of the searches: one after the other, or the next one while one waits for its own trials."""

        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")
            self.running: dict[str, tuple[int, int]] = {}

        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            for index, place in enumerate(order):
                drawn = searches[place].draw()
                if drawn is not None:
                    number, settings = drawn
                    self.running[trial_id] = index, number
                    return {"search": index, "number": number, "place": asdict(place), "settings": settings}
            return None

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            index, number = self.running.pop(trial_id)
            place, trials = order[index], searches[order[index]]
            result = {} if error or not result else result
            epochs_done = int(result.get("training_iteration", 0))
            trials.end(number, result.get("score"), epochs_done, trial_id in stopped)
            ticker.advance(1, f"{name}, fold {place.fold}")
            if trials.complete:
                record(place, trials)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: see the module's docstring."""

        def __reduce__(self) -> Any:
            return object, ()  # Tune pickles its tuner; nothing reads that, and this cannot be pickled

    class PerSearch(FIFOScheduler):  # type: ignore[misc]
        """An ASHA for each search: scores compare on the same tracks alone."""

        def __init__(self) -> None:
            super().__init__()
            grace = min(train.search.grace_epochs, epochs)
            self.of = [
                ASHAScheduler(
                    metric="score",
                    mode="max",
                    max_t=epochs,
                    grace_period=grace,
                    reduction_factor=REDUCTION,
                    stop_last_trials=False,
                )
                for _ in order
            ]

        def on_trial_add(self, controller: Any, trial: Any) -> None:
            self.of[trial.config["search"]].on_trial_add(controller, trial)

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision: str = self.of[trial.config["search"]].on_trial_result(controller, trial, result)
            if decision == FIFOScheduler.STOP:
                stopped.add(trial.trial_id)
            return decision

        def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
            self.of[trial.config["search"]].on_trial_complete(controller, trial, result)

        def on_trial_remove(self, controller: Any, trial: Any) -> None:
            self.of[trial.config["search"]].on_trial_remove(controller, trial)

        def __reduce__(self) -> Any:
            return object, ()

    resources = {"cpu": train.cpus_per_trial, "gpu": train.gpus_per_trial}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, common=common), resources),
        tune_config=tune.TuneConfig(
            num_samples=sum(trials.n for trials in searches.values()),
            search_alg=Draw(),
            scheduler=PerSearch() if train.search.scheduler == "asha" else FIFOScheduler(),
            reuse_actors=True,
            trial_dirname_creator=_folder,
            trial_name_creator=_folder,
        ),
        run_config=tune.RunConfig(
            name=f"search-{name}-{now():%Y%m%d-%H%M%S}",
            **tracking.storage(workspace),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
            callbacks=tracking.callbacks(train.mlflow, f"mer-ray search {name}"),
        ),
    )
    errors = [r.error for r in tuner.fit() if r.error is not None]
    return one_line(str(errors[0]).strip().splitlines()[-1], 300) if errors else ""


def _folder(trial: Any) -> str:
    place, number = trial.config["place"], trial.config["number"]
    target = "" if place["target"] is None else f"-{'vad'[place['target']]}"
    return f"repeat{place['repeat']}-fold{place['fold']}{target}-trial{number:03d}-{trial.trial_id[-5:]}"


def _trial(config: dict[str, Any], common: dict[str, Any]) -> None:
    """One trial, in a process that other trials have used before it: train a member, report every epoch."""
    session.prepare_worker(common["gpus"], common["threads"])
    session.check_gpu(common["gpus"])
    from ray import tune

    from mer_ray.training.search import WORST, Place, inner_split, override, score
    from mer_ray.training.shelf import WorkspaceShelf

    place, data = Place(**config["place"]), common["data"]
    workspace, folder = Workspace(common["workspace"]), (FOLDER, common["name"])
    key = _hash([common["basis"], config["place"], config["settings"]])
    shelf = WorkspaceShelf(workspace, f"search-{key}")
    before = workspace.read_json(*folder, f"{key}.json") or {"curve": [], "stopped": True}
    curve: list[list[float]] = []

    def report(epoch: int, train: float, valid: float) -> None:
        if epoch == len(curve):  # a training that begins anew comes by what was reported before
            curve.append([train, valid])
            tune.report({"epoch": epoch, "score": score(curve), "train_loss": train, "valid_loss": valid})

    def keep(stopped: bool) -> None:
        workspace.write_json({"curve": curve, "stopped": stopped}, *folder, f"{key}.json")
        shelf.clear()

    try:
        for epoch, losses in enumerate(before["curve"]):
            report(epoch, *losses)
        if not before["stopped"]:
            return
        from mer_ray.training.network import Network
        from mer_ray.training.recipe import Recipe, label_weights

        split_seed, train_seed = (_seed(common["seed"], use, replace(place, target=None)) for use in ("split", "train"))
        outer = common["fold"][place.repeat]
        inside, held = inner_split(data["groups"], data["labels"], outer, place.fold, split_seed)
        errors = None if data["errors"] is None else data["errors"][inside]
        recipe = replace(override(Recipe(**common["recipe"]), config["settings"]), target=place.target)
        Network(recipe, report, checkpoint=shelf.checkpoint(0)).fit(
            [data["frames"][i] for i in inside],
            data["labels"][inside],
            [data["groups"][i] for i in inside],
            weights=label_weights(data["labels"][inside], errors),
            seed=train_seed,
            validation=held,
        )
    except SystemExit:  # so Tune ends the trial of a function that its scheduler has stopped
        keep(stopped=True)
        raise
    except InputError:
        if score(curve) > WORST:
            raise  # it is not that the training diverged
    keep(stopped=False)


def _seed(seed: int, use: str, place: Place) -> int:
    """One for each use and place; trials of a fold share those of its split and training, and differ in settings."""
    from mer_ray.training.search import seed_of

    target = 0 if place.target is None else place.target + 1
    return seed_of(seed, ("draw", "split", "train").index(use), place.repeat, place.fold, target)


def _hash(content: Any) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())[:24]
