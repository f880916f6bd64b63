"""``features`` and ``labels`` → ``runs/NETWORK-FEATURE``: every pair is a trial of one Ray Tune experiment."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.config import Config
from mer_ray.console import Summary, Ticker, progress
from mer_ray.errors import InputError, MerRayError, WorkspaceError
from mer_ray.features import FeatureSpec
from mer_ray.identity import one_line
from mer_ray.stages import extract, session
from mer_ray.tables import DIMENSIONS, Workspace, failure, now

RESOURCES = ("networks", "cpus_per_trial", "gpus_per_trial")
"""Settings that say what is trained and where, not what comes out of a trial."""


def run(config: Config, workspace: Workspace, specs: dict[str, FeatureSpec] | None = None) -> Summary:
    """Train the networks that the workspace lacks on each feature, in parallel."""
    from mer_ray.scoring import store
    from mer_ray.training import data

    started = time.monotonic()
    specs = specs or extract.check(config)
    settings = config.train.model_dump(exclude=set(RESOURCES))
    summary = Summary("train", unit="models")
    trials = []
    for name, spec in specs.items():
        dataset = data.load(workspace, spec)
        _check_size(dataset, config)
        for network in config.train.networks:
            run_name = f"{network}-{name}"
            finished = store.describe(workspace, "runs", run_name)
            if finished is not None:
                _check_settings(workspace, run_name, finished["details"]["settings"], settings)
                if finished["details"]["data"] == dataset.fingerprint(spec):
                    summary.done_before += 1
                    continue
                summary.notes.append(f"{run_name} is trained again: its data changed")
            trials.append({"name": run_name, "network": network, "feature": spec.to_json()})
    if trials:
        session.connect(config.address)
        total = len(trials) * config.train.folds * config.train.members
        with progress("train", total) as ticker:
            errors = _tune(config, workspace, settings, trials, ticker)
        workspace.append_rows("failures", [failure("train", name, "trial_failed", e) for name, e in errors.items()])
        summary.made = len(trials) - len(errors)
        summary.failed = len(errors)
        if len(errors) == len(trials):
            raise MerRayError(
                f"all {len(trials)} trials failed ({next(iter(errors.values()))})",
                "the trials' folders under tune/ have their logs",
            )
    summary.seconds = time.monotonic() - started
    return summary


def _check_size(dataset: Any, config: Config) -> None:
    artists = len(set(dataset.groups))
    if artists < config.train.folds or len(dataset.ids) < 2 * config.train.folds:
        raise InputError(
            f"{len(dataset.ids)} labelled tracks by {artists} artists are too few for {config.train.folds} folds",
            "collect more tracks, or lower train.folds: each fold needs an artist of its own and two tracks",
        )


def _check_settings(workspace: Workspace, name: str, recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    changes = [f"train.{k} was {recorded.get(k)!r}, now {v!r}" for k, v in settings.items() if recorded.get(k) != v]
    if changes:
        raise WorkspaceError(
            f"workspace {workspace.uri} was made with other settings ({'; '.join(changes)})",
            f"choose another --workspace, or remove {workspace.path('runs')} to train anew on the same features",
        )


def _tune(
    config: Config, workspace: Workspace, settings: dict[str, Any], trials: list[dict[str, Any]], ticker: Ticker
) -> dict[str, str]:
    """Run the trials; the error messages of those that failed, by name."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune

    class Progress(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.members: dict[str, int] = {}

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            before = self.members.get(trial.trial_id, 0)
            if result.get("members_done", 0) > before:
                self.members[trial.trial_id] = result["members_done"]
                ticker.advance(result["members_done"] - before, trial.config["trial"]["name"])

    resources = {"cpu": config.train.cpus_per_trial, "gpu": config.train.gpus_per_trial}
    storage = workspace.path("tune") if workspace.is_local else f"{workspace.uri.rstrip('/')}/tune"
    tuner = tune.Tuner(
        tune.with_resources(_trial, resources),
        param_space={
            "trial": tune.grid_search(trials),
            "workspace": workspace.uri,
            "settings": settings,
            "threads": max(1, int(config.train.cpus_per_trial)),
            "gpus": config.train.gpus_per_trial,
        },
        tune_config=tune.TuneConfig(trial_dirname_creator=_folder, trial_name_creator=_folder),
        run_config=tune.RunConfig(
            name=f"train-{now():%Y%m%d-%H%M%S}", storage_path=storage, verbose=0, callbacks=[Progress()]
        ),
    )
    results = tuner.fit()
    errors = {}
    for trial, result in zip(trials, results, strict=True):
        if result.error is not None:
            errors[trial["name"]] = one_line(str(result.error).strip().splitlines()[-1])
    return errors


def _folder(trial: Any) -> str:
    return f"{trial.config['trial']['name']}-{trial.trial_id[-5:]}"


def _trial(config: dict[str, Any]) -> None:
    """One trial, in a process of its own: cross-validate a network on a feature and write the run's folder."""
    session.prepare_worker(config["gpus"], config["threads"])
    from ray import tune

    from mer_ray.evaluation.card import card
    from mer_ray.evaluation.metrics import interval_radius, metrics
    from mer_ray.scoring import store
    from mer_ray.training import data
    from mer_ray.training.crossval import cross_validate
    from mer_ray.training.fit import Recipe
    from mer_ray.training.windows import window_frames

    workspace, settings = Workspace(config["workspace"]), config["settings"]
    name, network = config["trial"]["name"], config["trial"]["network"]
    feature = FeatureSpec.from_json(config["trial"]["feature"])
    dataset = data.load(workspace, feature)
    recipe = Recipe(
        network=network,
        hop_s=feature.hop_s,
        window=window_frames(settings["window_s"], feature.hop_s),
        **{k: settings[k] for k in ("epochs", "patience", "batch_size", "learning_rate", "weight_decay")},
    )

    def on_epoch(member: int, epoch: int, train: float, valid: float) -> None:
        tune.report({"members_done": member, "epoch": epoch, "train_loss": train, "valid_loss": valid})

    result = cross_validate(
        recipe,
        dataset.frames,
        dataset.labels,
        dataset.groups,
        settings["folds"],
        settings["members"],
        settings["seed"],
        on_epoch,
    )
    figures = {d: vars(metrics(dataset.labels[:, i], result.predicted[:, i])) for i, d in enumerate(DIMENSIONS)}
    model = store.Model(
        name=name,
        network=network,
        feature=feature,
        window=recipe.window,
        members=result.members,
        radius=interval_radius(result.predicted - dataset.labels).tolist(),
        metrics=figures,
        details={
            "settings": settings,
            "data": dataset.fingerprint(feature),
            "n_tracks": len(dataset.ids),
            "n_artists": len(set(dataset.groups)),
            "trained_at": now().isoformat(),
        },
    )
    rows = {
        "track_id": dataset.ids,
        "artist": dataset.artists,
        "title": dataset.titles,
        "fold": result.fold.astype(np.int32),
        **{d: dataset.labels[:, i] for i, d in enumerate(DIMENSIONS)},
        **{f"predicted_{d}": result.predicted[:, i] for i, d in enumerate(DIMENSIONS)},
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows), sink)
    workspace.write_bytes(sink.getvalue().to_pybytes(), "runs", name, "predictions.parquet")
    workspace.write_bytes(card(model).encode(), "runs", name, "README.md")
    store.save(model, workspace, "runs", name)
    tune.report({"members_done": len(result.members), **{f"r2_{d}": f["r2"] for d, f in figures.items()}})
