"""A model and a catalog → ``scores``: audio files, tables of frames, or the workspace's own tracks."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import InputError, MerRayError, WorkspaceError
from mer_ray.features.joined import parts
from mer_ray.io import address, plan
from mer_ray.io.identity import one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import features_table
from mer_ray.io.shards import shard_file
from mer_ray.io.tables import Workspace, now
from mer_ray.scoring import frames, model_folder, other_parts, output, workers
from mer_ray.scoring.catalog import Catalog, find
from mer_ray.scoring.measures import display
from mer_ray.scoring.scores_table import pieces
from mer_ray.stages import counters, runner, session, task
from mer_ray.stages.totals import lost
from mer_ray.training import grouped

SMALL_ROWS, SMALL_S = 2_000, 3_600.0
"""Up to so many rows of frames, or seconds of audio, this process is done sooner than Ray's workers would start."""
SMALLEST_S, LARGEST = 180.0, 4
"""Of a block: seconds of audio at least, and commits at most."""
SIZES_OF_FRAMES = plan.Sizes(smallest=4_096, part=16_384, largest=65_536)  # in rows
WINDOW = 100_000
FEW = 8
"""Failures that are shown at most."""
MEMORY = 10**9
"""Bytes of a worker, with its decoder (docs/scaling.md)."""


def run(config: Config, workspace: Workspace) -> Summary:
    """Score, from their features, the workspace's tracks that ``score.model``, or else the best one, has not scored."""
    started = time.monotonic()
    path = config.score.model or model_folder.best(workspace)
    model = model_folder.load(path)
    for feature in (features_table(part.name) for part in parts(model.feature)):
        if not workspace.has(feature):
            raise WorkspaceError(
                f"workspace {workspace.uri} has no {feature}, which {path} reads", "run `mer-ray extract` first"
            )
    notes = []
    if others := workspace.distinct("scores", "model") - {model.id}:
        old, n = one_line(", ".join(sorted(others)), 200), len(workspace.ids("scores"))
        notes.append(f"the workspace held {n:,} scores by {old}: these take their place")
        workspace.discard("scores")
    done = workspace.ids("scores")
    summary = Summary("score", done_before=len(done), notes=notes)
    tables = other_parts.files(workspace, parts(model.feature)[0])
    _score_frames(config, workspace, workspace, path, model, tables, done, summary)
    summary.made = len(workspace.ids("scores")) - len(done)
    summary.failed = (reasons := workspace.reasons("score")).total()
    summary.lost = lost(reasons, summary.done_before + summary.made, config.max_lost)
    summary.seconds = time.monotonic() - started
    summary.notes.append(f"model {model.id}, mean R² {model.mean_r2:.3f}{_note(model)}")
    summary.notes.append(
        "scored from features, which have no tempo, key and loudness: `mer-ray score FILES` measures these"
    )
    if config.score.model is None and grouped.changed(workspace, model.feature, model.details):
        summary.notes.append("its tracks or their labels have changed since it was trained: run `mer-ray train`")
    return summary


def run_catalog(
    config: Config, paths: Sequence[str], target: str, model: str | None = None, keep_features: bool = False
) -> Summary:
    """Score catalogs into a Parquet, CSV or Excel file, or a folder of shards: a row per file, or one in its failures.

    Rows that the same model has scored before stay, unless their file has changed or is gone. Works in shards (in the
    folder, or in ``TARGET.parts`` beside the file), so that a killed run resumes.

    Args:
        config: The settings.
        paths: Folders, files, manifests or tables of frames.
        target: A path, s3:// or gs://, that ends in .parquet, .csv or .xlsx, or is a folder.
        model: A folder, or a packaged model by its name; by default, the latter's default.
        keep_features: Write the features too, as a table features/NAME in the target folder.
    """
    started = time.monotonic()
    path = model or model_folder.DEFAULT
    if address.is_local(path) and path not in model_folder.PACKAGED:
        path = os.path.abspath(path)  # noqa: PTH100
    out = output.Output(target)
    if keep_features and out.is_file:
        raise InputError(f"--keep-features needs a folder for its tables, and --out {target} is a file")
    loaded = model_folder.load(path)
    catalog = find(paths)
    own = [features_table(part.name) for part in parts(loaded.feature)]
    if catalog.tables and len(own) > 1:
        raise InputError(
            f"{one_line(catalog.tables[0])} is a table of frames, and {loaded.id} reads several features",
            "give audio files, or a model of one feature",
        )
    work = out.open(loaded.id, loaded.dimensions, catalog, config.collect.keep_gone)
    try:
        void = out.follow(catalog, config.collect.keep_gone)
        _record(work, [{**failed, "at": now()} for failed in catalog.failed])  # of this run
        done = out.done()
        summary = Summary("score", done_before=len(done), changed=void.changed, gone=void.gone)
        complete = [done, *(work.ids(table) for table in own if keep_features)]
        _score_files(config, work, path, catalog, complete, keep_features, out, summary)
        if catalog.tables:
            _score_frames(config, work, None, path, loaded, catalog.tables, done, summary)
    except MerRayError:
        out.abandon()
        raise
    failed = work.failures()
    n_scored = len(out.done())
    summary.made, summary.failed = n_scored - len(done), len(failed)
    summary.lost = lost(Counter(row["reason"] for row in failed), n_scored, config.max_lost)
    beside = out.finish(failed, n_scored)
    if not n_scored:
        named = ", ".join(one_line(p) if address.is_local(p) else address.shown(p) for p in paths)
        if not failed:
            raise InputError(f"there are no tracks in {named}", "give audio files, or tables of frames")
        raise InputError(
            f"none of the {len(failed):,} tracks in {named} could be scored",
            f"the first: {failed[0]['message']} ({failed[0]['reason']}); all of them: {beside}",
        )
    summary.notes.append(f"{out.shown}, by {loaded.id}{_note(loaded)}")
    unmeasured = display.without(pieces(out.uri, ["true_peak"])) if len(done) or catalog.tables else ""
    summary.notes += filter(None, [out.note, *void.notes(), *catalog.notes(), unmeasured])
    if failed:
        summary.notes += [*_first(failed), f"what failed and why: {beside}"]
    summary.seconds = time.monotonic() - started
    return summary


def _first(failed: Sequence[dict[str, Any]]) -> list[str]:
    """All failures if they are few, else the first of each of some reasons: a Parquet file needs a program to read."""
    some = failed if len(failed) <= FEW else list({f["reason"]: f for f in reversed(failed)}.values())[::-1][:FEW]
    return [f"{f['reason']}: {f['message']}" for f in some]


def _note(model: model_folder.Model) -> str:
    return f"; {model.feature.note}" if model.feature.note else ""


def _score_files(
    config: Config,
    work: Workspace,
    path: str,
    catalog: Catalog,
    complete: Sequence[Ids],
    keep_features: bool,
    out: output.Output,
    summary: Summary,
) -> None:
    """Score the files that are not among all of ``complete``: the scored ones, and those with features to keep."""

    def missing() -> Iterator[pa.Table]:
        for rows in catalog.windows(WINDOW):
            yield rows.filter(pa.array(~np.all([ids.mask(rows["track_id"]) for ids in complete], axis=0)))

    part = 60 * config.score.batch_minutes
    arguments = {
        "workspace": work,
        "model": path,
        "min_duration_s": config.extract.min_duration_s,
        "allow_partial": config.allow_partial,
        "keep_features": keep_features,
    }
    with plan.Work(missing()) as todo:
        if todo.rows:
            out.check_room(todo.rows + len(complete[0]))
            sizes = plan.Sizes(SMALLEST_S, part, LARGEST * part)
            is_small = todo.planned <= session.small(SMALL_S) or todo.rows == 1
            _run(config, work, workers.ScoreFiles, arguments, todo, sizes, is_small, summary)


def _score_frames(
    config: Config,
    work: Workspace,
    known: Workspace | None,
    path: str,
    model: model_folder.Model,
    tables: Sequence[str],
    done: Ids,
    summary: Summary,
) -> None:
    """Score tables of frames by row groups. known: the workspace with the tracks' names. done: ids scored already."""
    units = _units(config, work, known, model, tables, done)
    if not units:
        return
    stage = frames.unit_stage(model.feature.name)
    rows = [
        {**u, "track_id": frames.unit_id(u), "planned": float(u["rows"]), "stage": stage, "at": now()} for u in units
    ]
    arguments = {"workspace": work, "known": known, "model": path, "stage": stage}
    with plan.Work([pa.Table.from_pylist(rows)]) as todo:
        is_small = todo.planned <= session.small(SMALL_ROWS)
        _run(config, work, workers.ScoreFrames, arguments, todo, SIZES_OF_FRAMES, is_small, summary)


def _units(
    config: Config,
    work: Workspace,
    known: Workspace | None,
    model: model_folder.Model,
    tables: Sequence[str],
    done: Ids,
) -> list[dict[str, Any]]:
    """The row groups to score, each with ``tries``, how often it could not be read.

    A duplicated track_id is a row of ``failures``, except in a workspace's own tables, where two processes may have
    written the same.
    """
    filesystem = known.fs if known is not None else None
    written, seen, units = set(work.names("scores")), Ids(), list[dict[str, Any]]()
    stage = frames.unit_stage(model.feature.name)
    before = {failed["track_id"]: failed for failed in work.failures(stage)}
    if before:
        work.claim(stage, "scores", {}, restart=True)  # those that still cannot be read are recorded again
    made_of = f"{model.id} {other_parts.state(known, model.feature)}".strip() if known is not None else model.id
    for table in tables:
        for unit in frames.unit_rows(table, filesystem, made_of):
            scored = written.issuperset(map(shard_file, frames.shards(unit)))
            failed = None if scored else before.get(frames.unit_id(unit))
            if failed and not failed["transient"] and not config.retry_failed:
                _record(work, [{**failed, "at": now()}])
                continue
            ids: Any = frames.ids(unit, filesystem) if known is None or (done and not scored) else []
            if known is None:
                _record(work, frames.repeated(unit, ids, seen.add(ids)))
            # A merged file has no shard names, so compare ids.
            if not scored and not (len(ids) and done.mask(ids).all()):
                units.append({**unit, "tries": failed["attempts"] if failed else 0})
    return units


def _record(work: Workspace, failed: list[dict[str, Any]]) -> None:
    for start in range(0, len(failed), frames.MAX_ROWS):
        work.append_rows("failures", failed[start : start + frames.MAX_ROWS])
    counters.count("score", failed=[row["reason"] for row in failed])


def _run(
    config: Config,
    work: Workspace,
    worker: type[Any],
    arguments: dict[str, Any],
    todo: plan.Work,
    sizes: plan.Sizes,
    is_small: bool,
    summary: Summary,
) -> None:
    """Let workers score, in this process or on Ray."""
    gpus = config.score.gpus_per_worker
    stage = task.Stage("score", work, worker, arguments, sizes, gpus=gpus, memory=MEMORY)
    totals = runner.run(stage, todo, runner.workers(config.address, config.score.workers, is_small, gpus))
    summary.notes += totals.notes()
