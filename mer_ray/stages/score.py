"""A model and a catalog → ``scores``: audio files, tables of frames, or the workspace's own tracks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, MerRayError, TrackError, WorkspaceError
from mer_ray.features.batch import Stream, extract
from mer_ray.io import address
from mer_ray.io.identity import digest, one_line
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.scoring import model_folder, output, predictor
from mer_ray.scoring.catalog import Catalog, content_hash, find
from mer_ray.scoring.frames import AT_ONCE, Frames, ids, lost_stage, repeated, shards, unit_id, unit_place, unit_rows
from mer_ray.scoring.predictor import Predictor
from mer_ray.scoring.rows import scores_table
from mer_ray.scoring.waveform import Waveform, duration_s
from mer_ray.stages import blocks, counters, session
from mer_ray.training import grouped

FEW_ROWS, FEW_S = 2_000, 3_600.0
"""Up to so many rows of frames, or seconds of audio, the work is done before Ray's workers would have started."""
SMALLEST_S = 180.0


def best_model(workspace: Workspace) -> str:
    """The folder of the workspace's model with the highest mean R² over the dimensions. Raises WorkspaceError."""
    candidates: list[tuple[float, str]] = []
    for name in workspace.names("runs"):
        described = model_folder.describe(workspace, "runs", name)
        if described is not None:
            r2 = sum(m["r2"] for m in described["metrics"].values())
            candidates.append((r2 if math.isfinite(r2) else -math.inf, name))
    if not candidates:
        raise WorkspaceError(
            f"workspace {workspace.uri} has no trained model",
            "run `mer-ray train` on it first, or give a model folder with --model",
        )
    return workspace.at("runs", max(candidates)[1])


def run(config: Config, workspace: Workspace) -> Summary:
    """Score the workspace's tracks that its best (or the given) model has not scored, from their features."""
    started = time.monotonic()
    path = config.score.model or best_model(workspace)
    model = model_folder.load(path)
    feature = features_table(model.feature.name)
    if not workspace.has(feature):
        raise WorkspaceError(
            f"workspace {workspace.uri} has no {feature}, which {path} reads", "run `mer-ray extract` first"
        )
    if workspace.distinct("scores", "model") - {model.id}:
        workspace.discard("scores")  # another model is the best by now: its scores replace the old ones
    done = workspace.ids("scores")
    summary = Summary("score", done_before=len(done))
    tables = [workspace.path(feature, n) for n in workspace.names(feature) if n.endswith(".parquet")]
    _score_frames(config, workspace, workspace, path, model, tables, done)
    summary.made = len(workspace.ids("scores")) - len(done)
    summary.failed = workspace.n_lost("score")
    summary.seconds = time.monotonic() - started
    summary.notes.append(f"model {model.id}, mean R² {model.mean_r2:.3f}{_note(model)}")
    if config.score.model is None and grouped.changed(workspace, model.feature, model.details.get("data", "")):
        summary.notes.append("its tracks or their labels have changed since it was trained: run `mer-ray train`")
    return summary


def run_catalog(
    config: Config, places: Sequence[str], target: str, model: str | None = None, keep_features: bool = False
) -> Summary:
    """Score catalogs into a Parquet, CSV or Excel file, or a folder of shards: a row per file, or one in its failures.

    target: ends in .parquet, .csv or .xlsx, or is a folder; a path, s3:// or gs://. What the same model has scored
    there stays, unless its file has changed or is gone. Works in shards (in the folder, or in ``TARGET.parts`` beside
    the file), so that a killed run goes on where it was. model: a folder; the packaged one without it. keep_features:
    into the folder, as a table features/NAME.
    """
    started = time.monotonic()
    path = os.path.abspath(model) if model and "://" not in model else model or predictor.DEFAULT  # noqa: PTH100
    out = output.Output(target)
    if keep_features and out.is_file:
        raise InputError(f"--keep-features needs a folder for its tables, and --out {target} is a file")
    loaded = model_folder.load(path)
    catalog = find(places, config.collect.scale)
    work = out.open(loaded.id)
    work.append_rows("failures", [{**lost, "at": now()} for lost in catalog.lost])  # of this run
    counters.count("score", lost=[lost["reason"] for lost in catalog.lost])
    void = out.follow(catalog, config.collect.keep_gone)
    done = out.done()
    summary = Summary("score", done_before=len(done), changed=void.changed, gone=void.gone)
    there = [done, work.ids(features_table(loaded.feature.name))] if keep_features else [done]
    try:
        _score_files(config, work, path, catalog, there, keep_features, summary, out)
        if catalog.tables:
            _score_frames(config, work, None, path, loaded, catalog.tables, done)
    except MerRayError:
        out.abandon()
        raise
    failed = work.failures()
    n_scored = len(out.done())
    summary.made, summary.failed = n_scored - len(done), len(failed)
    beside = out.finish(failed, n_scored)
    if not n_scored:
        where = ", ".join(map(_shown, places))
        if not failed:
            raise InputError(f"there are no tracks in {where}", "give audio files, or tables of frames")
        raise InputError(
            f"none of the {len(failed):,} tracks in {where} could be scored",
            f"the first: {failed[0]['message']} ({failed[0]['reason']}); all of them: {beside}",
        )
    summary.notes.append(f"{out.place}, by {loaded.id}{_note(loaded)}")
    summary.notes += filter(None, [out.note, *void.notes(), str(catalog.skipped)])
    if failed:
        summary.notes.append(f"what failed and why: {beside}")
    summary.seconds = time.monotonic() - started
    return summary


def _note(model: model_folder.Model) -> str:
    return f"; {model.feature.note}" if model.feature.note else ""


def _score_files(
    config: Config,
    work: Workspace,
    path: str,
    catalog: Catalog,
    there: Sequence[Ids],
    keep_features: bool,
    summary: Summary,
    out: output.Output,
) -> None:
    """Score the files that are not in each of ``there``."""

    def lacking(rows: pa.Table) -> pa.Table:
        has = np.all([ids.mask(rows["track_id"]) for ids in there], axis=0)
        return rows.filter(pa.array(~has))

    def windows() -> Iterator[pa.Table]:
        return blocks.windows(map(lacking, catalog.windows(blocks.WINDOW)))

    tracks, seconds = 0, 0.0
    for rows in windows():
        tracks, seconds = tracks + len(rows), seconds + float(np.sum(rows["planned_s"].to_numpy()))
    if not tracks:
        return
    out.check_room(tracks + len(there[0]))
    settings = config.score
    arguments = {
        "workspace": work,
        "model": path,
        "gpus": settings.gpus_per_worker,
        "min_duration_s": config.extract.min_duration_s,
        "allow_partial": config.allow_partial,
        "keep_features": keep_features,
    }
    here = session.few(config.address) and not settings.gpus_per_worker and (seconds <= FEW_S or tracks == 1)
    if not here:
        session.connect(config.address)

    workers = 1 if here else settings.workers or session.n_cpus()

    def batches() -> Iterator[pa.Table]:
        for rows in windows():
            planned = rows["planned_s"].to_pylist()
            yield from blocks.by_duration(rows, planned, workers, SMALLEST_S, 60 * settings.batch_minutes)

    answers = _map(batches(), _ScoreFiles, arguments, workers, settings.gpus_per_worker, here)
    done_s, began = 0.0, time.monotonic()
    with progress("score", tracks, work=seconds) as ticker:
        for answered in answers:
            for a in answered:
                done_s += a["seconds"]
                speed = done_s / max(1e-3, time.monotonic() - began)
                note = f"{done_s / 3600:.2f} h of audio, {speed:.0f}x real time"
                ticker.advance(a["made"] + a["failed"], note, a["planned_s"])
                counters.count("score", a["made"], a["seconds"], a["lost"])
    took = time.monotonic() - began
    if done_s:
        speed = done_s / max(1e-3, took)
        summary.notes.append(f"{done_s / 3600:.2f} h of audio in {took:.1f} s ({speed:.0f}x real time)")


def _score_frames(
    config: Config,
    work: Workspace,
    known: Workspace | None,
    path: str,
    model: model_folder.Model,
    files: Sequence[str],
    done: Ids,
) -> None:
    """Score tables of frames, row group by row group. known: the workspace that has the tracks' names. done: ids."""
    units = _units(config, work, known, model, files, done)
    todo = sum(unit["rows"] for unit in units)
    if not units:
        return
    told = {"model": path, "gpus": config.score.gpus_per_worker, "lost_as": lost_stage(model.feature.name)}
    arguments = {"workspace": work, "known": known, **told}
    here = session.few(config.address) and not config.score.gpus_per_worker and todo <= FEW_ROWS
    if not here:
        session.connect(config.address)
    workers = 1 if here else config.score.workers or session.n_cpus()
    batches = blocks.split(pa.Table.from_pylist(units), blocks.balanced(len(units), 16, workers))
    with progress("score", todo) as ticker:
        for answered in _map(batches, _ScoreFrames, arguments, workers, config.score.gpus_per_worker, here):
            for a in answered:
                ticker.advance(a["rows"])
                counters.count("score", a["made"], lost=a["lost"])


def _units(
    config: Config, work: Workspace, known: Workspace | None, model: model_folder.Model, files: Sequence[str], done: Ids
) -> list[dict[str, Any]]:
    """The row groups to score, each with ``tries``, how often it could not be read.

    A track_id that comes twice is a row of ``failures``; but not in a workspace's own tables, where two processes may
    have written the same.
    """
    filesystem = known.fs if known is not None else None
    there, seen, units = set(work.names("scores")), Ids(), list[dict[str, Any]]()
    stage = lost_stage(model.feature.name)
    before = {lost["track_id"]: lost for lost in work.failures(stage)}
    if before:
        work.claim(stage, "scores", {}, restart=True)  # those that are still lost are put down again
    for file in files:
        for unit in unit_rows(file, filesystem, model.id):
            scored = there.issuperset(map(_shard_file, shards(unit)))
            lost = None if scored else before.get(unit_id(unit))
            if lost and not lost["transient"] and not config.retry_failed:
                _put_down(work, [{**lost, "at": now()}])
                continue
            found: Any = ids(unit, filesystem) if known is None or (done and not scored) else []
            if known is None:
                _put_down(work, repeated(unit, found, seen.add(found)))
            # A file does not remember its shards.
            if not scored and not (len(found) and done.mask(found).all()):
                units.append({**unit, "tries": lost["attempts"] if lost else 0})
    return units


def _put_down(work: Workspace, lost: list[dict[str, Any]]) -> None:
    for start in range(0, len(lost), AT_ONCE):
        work.append_rows("failures", lost[start : start + AT_ONCE])
    counters.count("score", lost=[row["reason"] for row in lost])


def _shard_file(shard: str) -> str:
    """As `Workspace.append` names it."""
    return f"part-{digest(shard.encode())[:24]}.parquet"


def _map(
    batches: Iterable[pa.Table], worker: type, arguments: dict[str, Any], workers: int, gpus: float, here: bool
) -> Iterator[list[dict[str, Any]]]:
    if here:
        return session.map_here(batches, worker, arguments)
    return session.map_blocks(batches, worker, arguments, workers, gpus)


class _ScoreFrames:
    """A worker that scores row groups of frames, and commits them a thousand rows at a time."""

    def __init__(self, workspace: Workspace, known: Workspace | None, model: str, gpus: float, lost_as: str) -> None:
        """known: see `_score_frames`. lost_as: the stage under which ``failures`` has row groups."""
        session.prepare_worker(gpus)
        session.check_gpu(gpus)
        self.workspace, self.known, self.lost_as = workspace, known, lost_as
        self.predictor = predictor.load(model)
        self.names = None if known is None else _Names(known)
        # A table of which some tracks were taken out and made anew: the others' scores are still right.
        self.done = Ids() if known is None else workspace.ids("scores")

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows, made, reasons = 0, 0, list[str]()
        there = set(self.workspace.names("scores"))
        for unit in batch.to_pylist():
            rows += unit["rows"]
            try:
                for n, lost in self._score(unit, there):
                    made += n
                    reasons += lost
            except TrackError as error:
                _lose(self.workspace, self.lost_as, unit, error)
                reasons.append(error.reason)
        return pa.table({"rows": [rows], "made": [made], "lost": [reasons]})

    @staticmethod
    def lost(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """A row group on which workers die, however often it is tried: see `pool.Pool`."""
        error = TrackError("worker_died", f"{unit_place(row)}: {message}")
        _lose(arguments["workspace"], arguments["lost_as"], row, error)
        return [{"rows": row["rows"], "made": 0, "lost": [error.reason]}]

    def _score(self, unit: dict[str, Any], there: set[str]) -> Iterator[tuple[int, list[str]]]:
        """(rows made, reasons of those lost) of each piece that is not there. Raises TrackError where one cannot be
        read: those before it are committed."""
        spec = self.predictor.model.feature
        frames = Frames(unit, self.known.fs if self.known is not None else None, spec)
        for shard, piece in frames.pieces():
            if _shard_file(shard) in there:
                continue
            tracks, arrays, lost = frames.read(piece)
            self.workspace.append_rows("failures", lost)
            if len(self.done):
                new = [i for i, t in enumerate(tracks) if t["track_id"] not in self.done]
                tracks, arrays = [tracks[i] for i in new], [arrays[i] for i in new]
            if self.names is not None:
                tracks = self.names.of([t["track_id"] for t in tracks])
            predictions = self.predictor.predict_frames(arrays)
            durations = [len(a) * spec.hop_s for a in arrays]
            table = scores_table(tracks, predictions, durations, self.predictor.name)
            self.workspace.append("scores", table, shard)
            yield len(table), [r["reason"] for r in lost]


def _lose(workspace: Workspace, stage: str, unit: dict[str, Any], error: TrackError) -> None:
    row = failure(stage, unit_id(unit), error.reason, error.message, error.transient, unit["tries"] + 1)
    workspace.append_rows("failures", [row])


class _Names:
    """Artist, title, album and address by track_id, held as Arrow: a million tracks take 150 MB."""

    def __init__(self, workspace: Workspace) -> None:
        tracks = workspace.read("tracks", ["track_id", "artist", "title", "album"])
        audio = workspace.read("audio", ["track_id", "uri", "decoded_share"])
        self.table = tracks.join(audio, "track_id").sort_by("track_id")
        self.ids = self.table["track_id"].to_numpy(zero_copy_only=False)

    def of(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What is known of each, and at least its id."""
        if not len(self.ids):
            return [{"track_id": i} for i in ids]
        wanted = np.array(ids, object)
        places = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        rows = self.table.take(pa.array(places)).to_pylist()
        return [row if row["track_id"] == i else {"track_id": i} for i, row in zip(ids, rows, strict=True)]


class _ScoreFiles:
    """A worker that scores audio files."""

    def __init__(
        self,
        workspace: Workspace,
        model: str,
        gpus: float,
        min_duration_s: float,
        keep_features: bool,
        allow_partial: bool = False,
    ) -> None:
        from mer_ray.audio.isolated import Decoder

        session.prepare_worker(gpus)
        session.check_gpu(gpus)
        self.workspace, self.predictor, self.min_duration_s = workspace, predictor.load(model), min_duration_s
        self.extractors = self.predictor.extractors()  # a model that cannot read audio says so now
        self.keep_features = keep_features
        self.decoder = Decoder(allow_partial=allow_partial)

    def __call__(self, batch: pa.Table) -> pa.Table:
        from mer_ray.stages.extract import commit

        files = batch.to_pylist()
        scores, frames, lost, seconds = score_files(self.predictor, files, self.min_duration_s, self.decoder.stream)
        self.workspace.append_rows("failures", lost)
        if len(scores):
            if self.keep_features:
                commit(self.workspace, self.predictor.model.feature, frames)
            shard = "\n".join([self.predictor.name, *scores["track_id"].to_pylist()])
            self.workspace.append("scores", scores, shard)
        planned = float(sum(f["planned_s"] for f in files))
        answer = {"made": len(scores), "failed": len(lost), "seconds": seconds, "planned_s": planned}
        return pa.Table.from_pylist([{**answer, "lost": [r["reason"] for r in lost]}])

    @staticmethod
    def lost(arguments: dict[str, Any], row: dict[str, Any], message: str) -> list[dict[str, Any]]:
        """A track on which workers die, however often it is tried: see `pool.Pool`."""
        arguments["workspace"].append_rows("failures", [_lost(row, TrackError("worker_died", message))])
        return [{"made": 0, "failed": 1, "seconds": 0.0, "planned_s": row["planned_s"], "lost": ["worker_died"]}]


def score_files(
    model: Predictor, files: list[dict[str, Any]], min_duration_s: float, stream: Stream | None = None
) -> tuple[pa.Table, dict[str, np.ndarray], list[dict[str, Any]], float]:
    """files: dicts with track_id, artist, title, album, uri → rows of ``scores``, the frames by track_id, rows of
    ``failures``, and the seconds of audio."""
    feature = model.model.feature.name
    extractors = model.extractors()
    wanted = list(extractors)
    result = extract([(f["track_id"], f["uri"], wanted) for f in files], extractors, min_duration_s, stream)
    by_id = {f["track_id"]: f for f in files}
    frames, peaks = result.frames[feature], result.frames[Waveform.NAME]
    tracks = [{**by_id[i], "sha256": content_hash(by_id[i]["uri"]), "decoded_share": result.shares[i]} for i in frames]
    scores = scores_table(
        tracks,
        model.predict_frames(list(frames.values())),
        [duration_s(peaks[i]) for i in frames],
        model.name,
        [peaks[i] for i in frames],
    )
    lost = [_lost(by_id[i], error) for (name, i), error in result.errors.items() if name in ("", feature)]
    return scores, frames, lost, result.seconds


def _shown(place: str) -> str:
    """A path or address for messages, without passwords."""
    return one_line(place) if address.is_local(place) else address.shown(place)


def _lost(file: dict[str, Any], error: TrackError) -> dict[str, Any]:
    place = _shown(file["uri"])
    message = error.message if place in error.message else f"{place}: {error.message}"
    return failure("score", file["track_id"], error.reason, message, error.transient)
