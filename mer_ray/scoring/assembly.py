"""``runs/NAME`` from the results of its folds: predictions, learning curves, intervals, card and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray import models
from mer_ray.errors import MerRayError
from mer_ray.evaluation import units
from mer_ray.evaluation.bootstrap import group_sizes
from mer_ray.evaluation.dynamic import FILE as CURVES_FILE
from mer_ray.evaluation.dynamic import CurvePredictions
from mer_ray.evaluation.predictions import Predictions
from mer_ray.evaluation.protocol import GROUPS, TEST
from mer_ray.evaluation.summary import evaluate, of_baselines
from mer_ray.features.joined import parts
from mer_ray.io.tables import Workspace, now
from mer_ray.models import passages
from mer_ray.models.regressor import Regressor
from mer_ray.models.statistics import PassageStatistics
from mer_ray.scoring import excerpts, model_folder
from mer_ray.scoring.card import baselines_name, card
from mer_ray.scoring.intervals import coverage, intervals, with_excerpts
from mer_ray.training import given, grouped, reference, source_bias
from mer_ray.training.checkpoint import VERSION
from mer_ray.training.crossval import Part, read_member
from mer_ray.training.data import Dataset
from mer_ray.training.trial import Trial


def assemble(trial: Trial, workspace: Workspace, dataset: Dataset, about: str | None) -> dict[str, float]:
    """Write the folder of a run whose folds are all there; ``model.json`` comes last. R² per dimension.

    Args:
        trial: Of the run.
        workspace: Has the results.
        dataset: The run's tracks (`Trial.tracks`).
        about: A line for the model card.
    """
    d, own, feature, plan = dataset, trial.settings, trial.feature, trial.full_plan
    checkpoints = trial.checkpoints(workspace)
    fold, folds = trial.partitions(d), own["folds"]
    predicted = np.zeros((*fold.shape, len(d.dimensions)))
    choices: list[dict[str, Any]] = []
    over_time: dict[tuple[int, int], np.ndarray] = {}
    for r, k in np.ndindex(own["repeats"], folds):
        result = _required(checkpoints.read(replace(trial, repeat=r, fold=k).result), f"fold {k} of repeat {r}")
        predicted[r, fold[r] == k] = result.arrays[0]
        followed = [i for i in np.flatnonzero(fold[r] == k).tolist() if d.curves and d.curves[i] is not None]
        over_time |= {(r, i): curve for i, curve in zip(followed, result.arrays[1:], strict=True)}
        choices += result.progress["choices"]

    def member(number: int, part: Part) -> Regressor:
        found: Regressor = _required(read_member(checkpoints, number, trial.recipe(part, choices)), f"member {number}")
        return found

    trained = [member(p.number, p) for p in plan]
    first = trial.recipe(plan[0], choices)
    members = [member(len(plan), plan[0])] if trial.is_whole else trained
    seen = _seen(trial, d, fold[0])
    statistics = members[0].statistics
    if statistics is None:
        statistics = PassageStatistics.fit(seen.frames, seen.labels, first.window, feature.hop_s, 0)
    means = [statistics.mean(t, first.window, feature.hop_s) for t in seen.frames]
    blocks = passages.level_blocks([(part.n_dims, part.hop_s) for part in parts(feature)])
    every = Predictions(d.ids, d.artists, d.titles, list(d.groups), d.labels, fold, predicted, d.dimensions)
    made = every.tested
    of_made = made.labels, made.predicted, made.groups
    figures = evaluate(*of_made, d.dimensions)
    of_fold = {k: [m for m, p in zip(trained, plan, strict=True) if (p.repeat, p.fold) == (0, k)] for k in range(folds)}
    tested = d.of(np.flatnonzero(fold[0] >= 0))
    rows, heard, whole_s = excerpts.predictions(tested.frames, made.fold[0], of_fold, feature.hop_s, own["seed"])
    held, held_at_once = coverage(*of_made)
    widths = with_excerpts(intervals(*of_made), made.labels[rows], made.predicted[0, rows], heard, whole_s)
    model = model_folder.Model(
        name=trial.run,
        network=str(trial.network),
        feature=feature,
        window=first.window,
        members=members,
        intervals=widths,
        reference=reference.fit(statistics, np.stack(means), seen.groups, own["seed"], blocks),
        metrics=figures,
        details={
            "settings": own,
            "weighed": bool(np.isfinite(d.errors).any()),
            "chosen": dict(zip(d.dimensions, members[0].chosen.values(), strict=False)),
            "searched": _searched(choices),
            "version": VERSION,
            "data": trial.data,
            "repeats": own["repeats"],
            "n_tracks": len(d.ids),
            "n_artists": len(set(d.artists)),
            **group_sizes(made.groups),
            "labels": _origin(d.lexicons),
            "about": about,
            "coverage": held.tolist(),
            "coverage_of_all": held_at_once,
            "scale": units.of_source(workspace) if d.lexicons == ["manifest"] else None,
            **_of_sources(trial, d, every, seen),
            **_of_split(trial, workspace, d, every, seen),
            "trained_at": now().isoformat(),
        },
        dimensions=d.dimensions,
    )
    workspace.write_table(made.table(), "runs", trial.run, "predictions.parquet")
    workspace.write_table(_curves(plan, trained), "runs", trial.run, "curves.parquet")
    if over_time:
        workspace.write_table(_over_time(d, fold, over_time).table(), "runs", trial.run, CURVES_FILE)
    if choices:
        workspace.write_json({"choices": choices}, "search", f"{trial.run}.json")
    workspace.write_bytes(card(model).encode(), "runs", trial.run, "README.md")
    model_folder.save(model, workspace, "runs", trial.run)
    checkpoints.clear(trial.run)
    return {f"r2_{name}": figures[name]["r2"] for name in d.dimensions}


def _seen(trial: Trial, d: Dataset, fold: np.ndarray) -> Dataset:
    """The tracks that the run's model was trained on."""
    return given.rows(d, np.flatnonzero(fold < 0)) if trial.protocol == TEST else d


def _of_sources(trial: Trial, d: Dataset, every: Predictions, seen: Dataset) -> dict[str, Any]:
    """With ``train.source_bias``: each data set's bias in training, and metrics of predictions to which it is added."""
    if not trial.settings.get("source_bias"):
        return {}
    added = every.predicted + source_bias.of_folds(d.labels, d.datasets, every.fold)
    own = replace(every, predicted=np.clip(added, 0, 1)).tested
    found = {name: values.tolist() for name, values in source_bias.biases(seen.labels, seen.datasets).items()}
    return {"biases": found, "with_biases": evaluate(own.labels, own.predicted, own.groups, d.dimensions)}


def _of_split(trial: Trial, workspace: Workspace, d: Dataset, every: Predictions, seen: Dataset) -> dict[str, Any]:
    """Details of a run on a given split: how many tracks each part has, and what is on both sides of it.

    ``constants``: for a given test set, mean and median of each dimension's training labels.
    """
    if trial.protocol == GROUPS:
        return {}
    fold = every.fold[0]
    shared = given.overlap(d, fold, grouped.read(workspace).within(d.ids))
    apart = every.on([d.ids[i] for i in np.flatnonzero(shared.apart)])
    known = [name for name, column in zip(d.dimensions, apart.labels.T, strict=True) if np.isfinite(column).sum() > 1]
    own = apart.of(known)
    details: dict[str, Any] = {
        "overlap": {**shared.to_json(), "metrics": evaluate(own.labels, own.predicted, own.groups, known)}
    }
    if trial.protocol == TEST:
        columns = [column[np.isfinite(column)] for column in seen.labels.T]
        details["parts"] = {name: d.splits.count(name) for name in ("train", "valid", "test")}
        details["constants"] = [[float(np.mean(c)), float(np.median(c))] for c in columns]
    return details


def _over_time(d: Dataset, fold: np.ndarray, predicted: dict[tuple[int, int], np.ndarray]) -> CurvePredictions:
    """The predicted curves by (repeat, track), beside the labels and the means of the training tracks' points."""
    rows, repeats = sorted({i for _, i in predicted}), range(len(fold))
    curves = {i: curve for i, curve in enumerate(d.curves) if curve is not None}
    constant = np.empty((len(rows), len(fold), len(d.dimensions)))
    for r in repeats:
        for k in {fold[r, i] for i in rows}:
            points = [curve.values for i, curve in curves.items() if fold[r, i] != k]
            every = np.concatenate([np.full((0, len(d.dimensions)), np.nan), *points])
            n = np.isfinite(every).sum(axis=0)
            mean = np.divide(np.nansum(every, axis=0), n, out=np.full(len(n), np.nan), where=n > 0)
            constant[[row for row, i in enumerate(rows) if fold[r, i] == k], r] = mean
    return CurvePredictions(
        d.dimensions,
        [d.ids[i] for i in rows],
        [curves[i].time_s for i in rows],
        [curves[i].values for i in rows],
        [np.stack([predicted[r, i] for r in repeats]) for i in rows],
        constant,
    )


def _required(found: Any, what: str) -> Any:
    if found is None:
        raise MerRayError(f"the checkpoint of {what} is gone", "run `mer-ray train` again: it is trained again")
    return found


def _searched(choices: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What a search has chosen for the folds, each value once."""
    names = {name for c in choices for name in c["settings"]}
    return {name: sorted({c["settings"][name] for c in choices}) for name in sorted(names)}


def _origin(lexicons: list[str]) -> str:
    origins = ["given by the source" if n == "manifest" else f"tag-weighted means of the lexicon {n}" for n in lexicons]
    return "; ".join(origins) + "."


def _curves(plan: Sequence[Part], members: Sequence[Regressor]) -> pa.Table:
    """The losses of each epoch of each member."""
    epochs = [len(m.curve) for m in members]
    whose = np.repeat(np.array([(p.repeat, p.fold, p.member) for p in plan], np.int32), epochs, axis=0)
    epoch = np.concatenate([np.arange(n, dtype=np.int32) for n in epochs])
    losses = np.concatenate([np.reshape(m.curve, (-1, 2)) for m in members]).astype(float)
    names = ["repeat", "fold", "member", "epoch", "train_loss", "valid_loss"]
    return pa.table([*whose.T, epoch, *losses.T], names)


def write_cards(workspace: Workspace) -> None:
    """Write each model's card again, now that the baselines of its feature exist."""
    figures = of_baselines(workspace)
    for name in workspace.names("runs"):
        described = model_folder.describe(workspace, "runs", name)
        if described is not None and described["network"] in models.NETWORKS:  # else of another version
            model = model_folder.load(workspace.at("runs", name))
            text = card(model, figures.get(baselines_name(model)))
            workspace.write_bytes(text.encode(), "runs", name, "README.md")
