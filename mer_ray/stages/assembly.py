"""``runs/NAME`` from the results of its folds: predictions, learning curves, intervals, card and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.errors import MerRayError
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace, now
from mer_ray.stages.trial import Shared, Trial

if TYPE_CHECKING:
    from mer_ray.training.crossval import Result
    from mer_ray.training.data import Dataset


def assemble(trial: Trial, shared: Shared) -> dict[str, float]:
    """Write the folder of a run whose folds are all there; ``model.json`` comes last. R² per dimension."""
    from mer_ray import models
    from mer_ray.evaluation.bootstrap import group_sizes
    from mer_ray.evaluation.summary import evaluate
    from mer_ray.models.statistics import PassageStatistics
    from mer_ray.scoring import model_folder
    from mer_ray.scoring.card import card
    from mer_ray.scoring.intervals import coverage, intervals
    from mer_ray.training import reference
    from mer_ray.training.checkpoint import VERSION
    from mer_ray.training.crossval import read_member

    workspace, feature, own, d = shared.workspace, trial.feature, trial.settings, shared.dataset(trial)
    checkpoints = trial.checkpoints(workspace)
    result, choices = _read(trial, shared, d)
    figures = evaluate(d.labels, result.predicted, d.groups)
    first, members = trial.recipe(result.plan[0], choices), result.members
    if not models.is_network(str(trial.network)):
        members = [_required(read_member(checkpoints, len(result.plan), first), "whole")]
    statistics = members[0].statistics
    if statistics is None:
        statistics = PassageStatistics.fit(d.frames, d.labels, first.window, feature.hop_s, 0)
    means = [statistics.mean(t, first.window, feature.hop_s) for t in d.frames]
    model = model_folder.Model(
        name=trial.run,
        network=str(trial.network),
        feature=feature,
        window=first.window,
        members=members,
        intervals=intervals(d.labels, result.predicted, d.groups),
        reference=reference.fit(statistics, np.stack(means), d.groups, own["seed"]),
        metrics=figures,
        details={
            "settings": own,
            "weighed": bool(np.isfinite(d.errors).any()),
            "chosen": members[0].chosen,
            "searched": _searched(choices),
            "version": VERSION,
            "data": trial.data,
            "repeats": own["repeats"],
            "n_tracks": len(d.ids),
            "n_artists": len(set(d.artists)),
            **group_sizes(d.groups),
            "labels": _origin(d.lexicons),
            "about": shared.about,
            "coverage": coverage(d.labels, result.predicted, d.groups).tolist(),
            "trained_at": now().isoformat(),
        },
    )
    _write(workspace, trial.run, "predictions", _predictions(d, result))
    _write(workspace, trial.run, "curves", _curves(result))
    if choices:
        workspace.write_json({"choices": choices}, "search", f"{trial.run}.json")
    workspace.write_bytes(card(model).encode(), "runs", trial.run, "README.md")
    model_folder.save(model, workspace, "runs", trial.run)
    checkpoints.clear(trial.run)
    return {f"r2_{name}": figures[name]["r2"] for name in DIMENSIONS}


def _read(trial: Trial, shared: Shared, d: Dataset) -> tuple[Result, list[dict[str, Any]]]:
    """What the folds have left, and what their searches have chosen."""
    from mer_ray.training.crossval import Result, read_member

    checkpoints, plan, fold = trial.checkpoints(shared.workspace), trial.full_plan, trial.partitions(d)
    predicted = np.zeros((*fold.shape, len(DIMENSIONS)))
    choices: list[dict[str, Any]] = []
    for r, k in dict.fromkeys((p.repeat, p.fold) for p in plan):
        of_fold = _required(checkpoints.read(replace(trial, repeat=r, fold=k).result), f"fold {k} of repeat {r}")
        predicted[r, fold[r] == k] = of_fold.arrays[0]
        choices += of_fold.progress["choices"]
    members = [
        _required(read_member(checkpoints, p.number, trial.recipe(p, choices)), f"member {p.number}") for p in plan
    ]
    return Result(predicted, fold, plan, members), choices


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


def _predictions(d: Dataset, result: Result) -> pa.Table:
    n, repeats = len(d.ids), len(result.fold)
    described = {"track_id": d.ids, "artist": d.artists, "title": d.titles, "group": d.groups}
    return pa.table(
        {
            **{name: [*values] * repeats for name, values in described.items()},
            "repeat": np.repeat(np.arange(repeats, dtype=np.int32), n),
            "fold": result.fold.ravel().astype(np.int32),
            **{name: np.tile(d.labels[:, i], repeats) for i, name in enumerate(DIMENSIONS)},
            **{f"predicted_{name}": result.predicted[..., i].ravel() for i, name in enumerate(DIMENSIONS)},
        }
    )


def _curves(result: Result) -> pa.Table:
    rows = [
        (p.repeat, p.fold, p.member, epoch, train, valid)
        for p, member in zip(result.plan, result.members, strict=True)
        for epoch, (train, valid) in enumerate(member.curve)
    ]
    kinds = {"repeat": np.int32, "fold": np.int32, "member": np.int32, "epoch": np.int32}
    columns = ["repeat", "fold", "member", "epoch", "train_loss", "valid_loss"]
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pa.table({name: np.array(v, kinds.get(name, np.float64)) for name, v in zip(columns, values, strict=True)})


def _write(workspace: Workspace, run: str, what: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    workspace.write_bytes(sink.getvalue(), "runs", run, f"{what}.parquet")
