"""``features`` and ``labels`` → ``runs/NETWORK-FEATURE``: every pair is a trial of one Ray Tune experiment."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from mer_ray.config import Config
from mer_ray.console import Summary, Ticker, progress
from mer_ray.errors import InputError, MerRayError, WorkspaceError
from mer_ray.features import FeatureSpec
from mer_ray.io.identity import one_line
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.stages import counters, extract, keys, remote, session, workspace_source

RESTARTS = 3
"""How often a trial whose process died is started again; it continues from its checkpoints."""


def run(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec] | None = None) -> Summary:
    """Train the networks that the workspace lacks on each feature, in parallel."""
    started = time.monotonic()
    config = workspace_source.adopt(config, workspace)
    specs = specs or extract.check(config)
    summary = Summary("train", unit="models")
    # It takes all frames of a feature: on a cluster, no work for the node that only drives.
    if session.runs_locally(config.address):
        trials = _plan(config, workspace, specs, summary)
    else:
        session.connect(config.address)
        trials, summary = remote.run_remote(_planned, config, workspace, specs, summary)
    if trials:
        session.connect(config.address)
        keys.keep_home()
        session.check_fits(config.train.gpus_per_trial)
        _search(config, workspace, trials)
        with remote.marker(workspace) as mark, progress("train", sum(t["members"] for t in trials)) as ticker:
            errors = _train(config, workspace, trials, _given(config, workspace, mark), ticker)
        workspace.append_rows("failures", [failure("train", name, "trial_failed", e) for name, e in errors.items()])
        made = [t for t in trials if t["name"] not in errors]
        summary.made = sum(t["network"] is not None for t in made)
        summary.failed = len(errors)
        counters.count("train", models=summary.made, failed=["trial_failed"] * len(errors))
        if not made:
            raise MerRayError(
                f"all {len(trials)} trials failed ({next(iter(errors.values()))})",
                "the trials' folders under tune/ have their logs",
            )
        _write_cards(workspace)
    summary.seconds = time.monotonic() - started
    return summary


def _planned(*arguments: Any) -> tuple[list[dict[str, Any]], Summary]:
    """`_plan`, for another process: with the summary as it has become."""
    return _plan(*arguments), arguments[-1]


def _plan(
    config: Config, workspace: Workspace, specs: dict[str, FeatureSpec], summary: Summary
) -> list[dict[str, Any]]:
    """What is to be trained: a dict per trial, for `trial.network`, or, without a network, for `trial.baselines`."""
    from mer_ray import models
    from mer_ray.scoring import model_folder
    from mer_ray.stages import trial as work
    from mer_ray.training import data, grouped
    from mer_ray.training.checkpoint import VERSION
    from mer_ray.training.crossval import parts
    from mer_ray.training.settings import unused, used

    groups = grouped.make(workspace, list(specs.values()))
    summary.notes += [*groups.about, *unused(config.train)]
    train, trials, old = config.train, [], []
    for name, spec in specs.items():
        dataset = data.load(workspace, spec, groups.of)
        _check_size(dataset, config)
        common = {"feature": spec.to_json(), "data": dataset.fingerprint(spec), "choices": []}
        del dataset  # the next feature's frames need the room
        if train.baselines:
            wanted = {"name": f"baselines-{name}", "network": None, "members": 1, **common}
            there = workspace.read_json("baselines", f"{name}.json")
            settings = used(train, None)
            if there is None or there["made_for"] != work.key({"trial": wanted, "settings": settings}):
                trials.append({**wanted, "settings": settings})
        for network in train.networks:
            run_name, settings = f"{network}-{name}", used(train, network)
            finished = model_folder.describe(workspace, "runs", run_name)
            if finished is not None:
                _check_settings(workspace, run_name, finished["details"]["settings"], settings)
                if finished["details"]["data"] == common["data"]:
                    summary.done_before += 1
                    if "ema" in models.uses(network) and finished["details"].get("version", 1) < VERSION:
                        old.append(run_name)
                    continue
                summary.notes.append(f"{run_name} is trained again: its data changed")
            separate = train.heads == "separate"
            n_parts = len(parts(network, train.folds, train.repeats, train.members, separate, train.seed))
            trials.append({"name": run_name, "network": network, "members": n_parts, **common, "settings": settings})
    if old:
        summary.notes.append(
            f"{', '.join(old)}: trained by an older version, whose average of the weights began at the fresh ones; "
            "remove the folder under runs/ to train anew"
        )
    return trials


def _check_size(dataset: Any, config: Config) -> None:
    groups = len(set(dataset.groups))
    if groups < config.train.folds or len(dataset.ids) < 2 * config.train.folds:
        raise InputError(
            f"{len(dataset.ids)} labelled tracks in {groups} groups (artists, albums) are too few for "
            f"{config.train.folds} folds",
            "collect more tracks, or lower train.folds: each fold needs an artist of its own and two tracks",
        )


def _check_settings(workspace: Workspace, name: str, recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    changes = [f"train.{k} was {recorded.get(k)!r}, now {v!r}" for k, v in settings.items() if recorded.get(k) != v]
    if changes:
        raise WorkspaceError(
            f"workspace {workspace.uri} was made with other settings ({'; '.join(changes)})",
            f"choose another --workspace, or remove {workspace.path('runs')} to train anew on the same features",
        )


def _search(config: Config, workspace: Workspace, trials: list[dict[str, Any]]) -> None:
    """Fills in each trial's choices, where a search is wanted and the network has something to search."""
    if not config.train.search.trials:
        return
    from mer_ray.stages import trial as work
    from mer_ray.stages import tuning
    from mer_ray.training import data, grouped
    from mer_ray.training.crossval import Part, partitions

    train, groups = config.train, grouped.read(workspace)
    for trial in (t for t in trials if t["network"] is not None):
        feature = FeatureSpec.from_json(trial["feature"])
        dataset = data.load(workspace, feature, groups.of)
        fold = partitions(dataset.groups, dataset.labels, train.folds, train.repeats, train.seed)
        recipe = work.recipes(trial, feature, trial["settings"])(Part(0, 0, 0, None, 0, 0))
        choices = tuning.choose(workspace, trial["name"], feature, recipe, train, dataset, fold)
        trial["choices"] = [{k: c[k] for k in ("repeat", "fold", "target", "settings", "score")} for c in choices]


def _train(
    config: Config, workspace: Workspace, trials: list[dict[str, Any]], given: dict[str, Any], ticker: Ticker
) -> dict[str, str]:
    """Run the trials; the error messages of those that failed, by name."""
    from mer_ray import models

    together = [t for t in trials if config.train.workers > 1 and t["network"] and models.is_network(t["network"])]
    errors = _tune(config, workspace, [t for t in trials if t not in together], given, ticker)
    for trial in together:
        errors |= _group(config, workspace, trial, given)
        ticker.advance(trial["members"], trial["name"])
    return errors


def _given(config: Config, workspace: Workspace, mark: str) -> dict[str, Any]:
    """What every trial is told beside its own."""
    threads = max(1, int(config.train.cpus_per_trial))
    about = {"about": config.train.about}
    return {"workspace": workspace.uri, "mark": mark, "threads": threads, "gpus": config.train.gpus_per_trial, **about}


def _group(config: Config, workspace: Workspace, trial: dict[str, Any], given: dict[str, Any]) -> dict[str, str]:
    """One trial over ``train.workers`` processes."""
    from mer_ray.stages import tracking
    from mer_ray.stages import trial as work
    from mer_ray.stages.group import run_group

    train = config.train
    told = {**given, "trial": trial, "settings": trial["settings"]}
    try:
        name = f"{trial['name']}-{now():%Y%m%d-%H%M%S}"
        run_group(
            work.group_trial,
            told,
            train.workers,
            train.cpus_per_trial,
            train.gpus_per_trial,
            tracking.storage(workspace),
            name,
            grows=config.address is not None,
        )
    except MerRayError as error:
        return {trial["name"]: str(error)}
    return {}


def _tune(
    config: Config, workspace: Workspace, trials: list[dict[str, Any]], given: dict[str, Any], ticker: Ticker
) -> dict[str, str]:
    """The trials that are one process each, side by side.

    Tune gives up at once on a trial whose process dies while it is handed from one trial to the next (Ray 2.60): those
    are run again.
    """
    errors: dict[str, str] = {}
    for _ in range(1 + RESTARTS):
        if not trials:
            break
        found, early = _tune_once(config, workspace, trials, given, ticker)
        errors = {n: e for n, e in errors.items() if n not in {t["name"] for t in trials}} | found
        trials = [t for t in trials if t["name"] in early]
    return errors


def _tune_once(
    config: Config, workspace: Workspace, trials: list[dict[str, Any]], given: dict[str, Any], ticker: Ticker
) -> tuple[dict[str, str], set[str]]:
    """(error messages of the trials that failed, by name; those of them that Tune did not try `RESTARTS` times)."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the command, not only Tune
    from ray import tune

    from mer_ray.stages import tracking
    from mer_ray.stages import trial as work

    # Tune would print the traceback of every process that died, though the trial goes on in another.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    class Progress(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.members: dict[str, int] = {}
            self.early: set[str] = set()

        def __reduce__(self) -> Any:
            return object, ()  # Tune writes its tuner down; nothing reads that, and a progress bar cannot be written

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            before = self.members.get(trial.trial_id, 0)
            if result.get("members_done", 0) > before:
                self.members[trial.trial_id] = result["members_done"]
                ticker.advance(result["members_done"] - before, trial.config["trial"]["name"])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            if trial.num_failures <= RESTARTS:
                self.early.add(trial.config["trial"]["name"])

    seen = Progress()
    name = f"train-{now():%Y%m%d-%H%M%S}"
    resources = {"cpu": config.train.cpus_per_trial, "gpu": config.train.gpus_per_trial}
    tuner = tune.Tuner(
        tune.with_resources(work.tune_trial, resources),
        param_space={
            "trial": tune.grid_search(trials),
            "settings": tune.sample_from(lambda spec: spec.config.trial["settings"]),
            **given,
        },
        tune_config=tune.TuneConfig(trial_dirname_creator=_folder, trial_name_creator=_folder, reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            **tracking.storage(workspace),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[seen, *tracking.callbacks(config.train.mlflow, name)],
        ),
    )
    errors = {}
    for trial, result in zip(trials, tuner.fit(), strict=True):
        if result.error is not None:
            errors[trial["name"]] = one_line(str(result.error).strip().splitlines()[-1])
        elif result.metrics and result.metrics.get("error"):
            errors[trial["name"]] = result.metrics["error"]
    return errors, seen.early & errors.keys()


def _folder(trial: Any) -> str:
    return f"{trial.config['trial']['name']}-{trial.trial_id[-5:]}"


def _write_cards(workspace: Workspace) -> None:
    """Each model's card once more, beside the baselines of its feature, which are there by now."""
    from mer_ray.evaluation.summary import of_baselines
    from mer_ray.scoring import model_folder
    from mer_ray.scoring.card import card

    figures = of_baselines(workspace)
    for name in workspace.names("runs"):
        if model_folder.describe(workspace, "runs", name) is not None:
            model = model_folder.load(workspace.at("runs", name))
            text = card(model, figures.get(model.feature.name))
            workspace.write_bytes(text.encode(), "runs", name, "README.md")
