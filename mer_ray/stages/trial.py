"""What one trial does, in a process of its own: cross-validate a network on a feature, and write the run's folder."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.features import FeatureSpec
from mer_ray.io.identity import digest
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace, now
from mer_ray.stages import remote, session

REPORT_S = 1.0
"""Tune hears of an epoch at most this often: every report is a round trip."""


def tune_trial(config: dict[str, Any]) -> None:
    """A trial of the experiment. An error of ours is an answer: raised, Tune would try the same again."""
    session.prepare_worker(config["gpus"], config["threads"])
    from ray import tune

    last = time.monotonic()

    def report(values: dict[str, Any], due: bool) -> None:
        nonlocal last
        if due or time.monotonic() - last >= REPORT_S:
            last = time.monotonic()
            tune.report(values)

    def work() -> None:
        session.check_gpu(config["gpus"])
        remote.check_marker([Workspace(config["workspace"])], config["mark"])
        figures = baselines(config) if config["trial"]["network"] is None else network(config, report)
        tune.report({"members_done": config["trial"]["members"], **figures})

    _, error = remote.attempt(work)
    if error is not None:
        tune.report({"members_done": 0, "error": str(error)})


def group_trial(config: dict[str, Any]) -> None:
    """A trial that several processes train together: each calls this."""
    from mer_ray.training.placement import Placement

    remote.check_marker([Workspace(config["workspace"])], config["mark"])
    network(config, lambda values, due: None, Placement.everywhere())


def baselines(config: dict[str, Any]) -> dict[str, float]:
    """Ridge and SVR on a feature's pooled statistics, and what a split by tracks would have leaked."""
    from mer_ray.training import baselines as base
    from mer_ray.training import data, grouped

    workspace, settings = Workspace(config["workspace"]), config["settings"]
    feature = FeatureSpec.from_json(config["trial"]["feature"])
    groups = grouped.read(workspace)
    d = data.load(workspace, feature, groups.of)
    made = base.evaluate(d.frames, d.labels, d.groups, settings["folds"], settings["repeats"], settings["seed"])
    rows = base.rows(made, d.labels, d.ids, d.artists, d.titles, d.groups)
    found = groups.within(d.ids)
    report = made.leakage.to_json(feature.name, feature.fingerprint, config["trial"]["data"], d.ids, d.artists, found)
    base.write(
        workspace, feature.name, rows, {**report, "notes": [*groups.about, *made.notes], "made_for": key(config)}
    )
    return {f"r2_{name}": float(made.leakage.grouped_r2[i]) for i, name in enumerate(DIMENSIONS)}


def network(
    config: dict[str, Any], report: Callable[[dict[str, Any], bool], None], placement: Any = None
) -> dict[str, float]:
    """Cross-validate, continue from what an interrupted attempt has left, write ``runs/NAME``; R² per dimension."""
    from mer_ray import models
    from mer_ray.evaluation.bootstrap import group_sizes
    from mer_ray.evaluation.summary import evaluate
    from mer_ray.models.statistics import PassageStatistics
    from mer_ray.scoring import model_folder
    from mer_ray.scoring.card import card
    from mer_ray.scoring.intervals import coverage, intervals
    from mer_ray.training import data, grouped, reference
    from mer_ray.training.checkpoint import VERSION
    from mer_ray.training.crossval import cross_validate, partitions, whole
    from mer_ray.training.shelf import WorkspaceShelf

    workspace, settings, trial = Workspace(config["workspace"]), config["settings"], config["trial"]
    feature = FeatureSpec.from_json(trial["feature"])
    d = data.load(workspace, feature, grouped.read(workspace).of)
    errors = d.errors if settings["weigh_labels"] and np.isfinite(d.errors).any() else None
    shelf = WorkspaceShelf(workspace, f"{trial['name']}-{key(config)}")
    recipe_of = recipes(trial, feature, settings)
    done = -1

    def on_epoch(number: int, epoch: int, train: float, valid: float) -> None:
        nonlocal done
        due, done = number > done, max(done, number)
        report({"members_done": number, "epoch": epoch, "train_loss": train, "valid_loss": valid}, due)

    result = cross_validate(
        recipe_of,
        d.frames,
        d.labels,
        d.groups,
        partitions(d.groups, d.labels, settings["folds"], settings["repeats"], settings["seed"]),
        settings.get("members", 1),
        settings["seed"],
        on_epoch,
        errors,
        settings.get("heads") == "separate",
        shelf,
        placement,
    )
    figures = evaluate(d.labels, result.predicted, d.groups)
    if placement is None or placement.is_first:
        first, members = recipe_of(result.plan[0]), result.members
        if not models.is_network(trial["network"]):
            number = len(result.plan)
            members = [whole(first, d.frames, d.labels, d.groups, settings["seed"], number, errors, shelf)]
        own = members[0].statistics
        if own is None:
            own = PassageStatistics.fit(d.frames, d.labels, first.window, feature.hop_s, 0)
        means = [own.mean(t, first.window, feature.hop_s) for t in d.frames]
        model = model_folder.Model(
            name=trial["name"],
            network=trial["network"],
            feature=feature,
            window=first.window,
            members=members,
            intervals=intervals(d.labels, result.predicted, d.groups),
            reference=reference.fit(own, np.stack(means), d.groups, settings["seed"]),
            metrics=figures,
            details={
                "settings": settings,
                "weighed": errors is not None,
                "chosen": members[0].chosen,
                "searched": _searched(trial["choices"]),
                "version": VERSION,
                "data": trial["data"],
                "repeats": settings["repeats"],
                "n_tracks": len(d.ids),
                "n_artists": len(set(d.artists)),
                **group_sizes(d.groups),
                "labels": _origin(d.lexicons),
                "about": config.get("about"),
                "coverage": coverage(d.labels, result.predicted, d.groups).tolist(),
                "trained_at": now().isoformat(),
            },
        )
        _write(workspace, trial["name"], "predictions", _predictions(d, result))
        _write(workspace, trial["name"], "curves", _curves(result))
        workspace.write_bytes(card(model).encode(), "runs", trial["name"], "README.md")
        model_folder.save(model, workspace, "runs", trial["name"])
        shelf.clear(trial["name"])
    return {f"r2_{name}": figures[name]["r2"] for name in DIMENSIONS}


def key(config: dict[str, Any]) -> str:
    """8 hexadecimal digits of all that decides what comes out of a trial."""
    from mer_ray import models
    from mer_ray.training.checkpoint import VERSION

    trial = {k: config["trial"][k] for k in ("name", "feature", "data", "choices")}
    network = config["trial"]["network"]
    trial["code"] = f"{models.fingerprint(network)}-{VERSION}" if network else None
    return digest(json.dumps([trial, config["settings"]], sort_keys=True, default=str).encode())[:8]


def recipes(trial: dict[str, Any], feature: FeatureSpec, settings: dict[str, Any]) -> Callable[[Any], Any]:
    """Part of the cross-validation → its `Recipe`: the settings, with what a search has chosen for that fold."""
    from mer_ray import models
    from mer_ray.models.windows import window_frames
    from mer_ray.training.recipe import Recipe

    # A recipe is whole; what the network does not use is in none of the settings.
    settings = {**models.defaults(trial["network"]), **settings}
    chosen = {(c["repeat"], c["fold"], c["target"]): c["settings"] for c in trial["choices"]}
    names = [n for n in Recipe.__dataclass_fields__ if n in settings]

    def recipe_of(part: Any) -> Recipe:
        own = {**settings, **chosen.get((part.repeat, part.fold, part.target), {})}
        window = window_frames(own["window_s"], feature.hop_s)
        return Recipe(network=trial["network"], hop_s=feature.hop_s, window=window, **{k: own[k] for k in names})

    return recipe_of


def _searched(choices: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What a search has chosen for the folds, each value once."""
    names = {name for c in choices for name in c["settings"]}
    return {name: sorted({c["settings"][name] for c in choices}) for name in sorted(names)}


def _origin(lexicons: list[str]) -> str:
    told = ["given by the source" if n == "manifest" else f"tag-weighted means of the lexicon {n}" for n in lexicons]
    return "; ".join(told) + "."


def _predictions(d: Any, result: Any) -> pa.Table:
    n, repeats = len(d.ids), len(result.fold)
    described = {"track_id": d.ids, "artist": d.artists, "title": d.titles, "group": d.groups}
    return pa.table(
        {
            **{name: values * repeats for name, values in described.items()},
            "repeat": np.repeat(np.arange(repeats, dtype=np.int32), n),
            "fold": result.fold.ravel().astype(np.int32),
            **{name: np.tile(d.labels[:, i], repeats) for i, name in enumerate(DIMENSIONS)},
            **{f"predicted_{name}": result.predicted[..., i].ravel() for i, name in enumerate(DIMENSIONS)},
        }
    )


def _curves(result: Any) -> pa.Table:
    rows = [
        (p.repeat, p.fold, p.member, epoch, train, valid)
        for p, member in zip(result.plan, result.members, strict=True)
        for epoch, (train, valid) in enumerate(member.curve)
    ]
    kinds = {"repeat": np.int32, "fold": np.int32, "member": np.int32, "epoch": np.int32}
    columns = ["repeat", "fold", "member", "epoch", "train_loss", "valid_loss"]
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pa.table({name: np.array(v, kinds.get(name, np.float64)) for name, v in zip(columns, values, strict=True)})


def _write(workspace: Workspace, name: str, what: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    workspace.write_bytes(sink.getvalue(), "runs", name, f"{what}.parquet")
