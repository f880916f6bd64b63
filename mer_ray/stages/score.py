"""A model and a catalog → ``scores``: the workspace's own tracks from their features, or any files from their audio."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import InputError, ModelError, TrackError, WorkspaceError
from mer_ray.features.batch import Stream, extract
from mer_ray.identity import digest
from mer_ray.scoring import store
from mer_ray.scoring.predictor import Predictor, score_row
from mer_ray.scoring.predictor import load as load_model
from mer_ray.sources import Found, Track
from mer_ray.stages import blocks, session
from mer_ray.tables import SCHEMAS, Workspace, failure, features_table, ragged_arrays

FORMATS = (".parquet", ".csv")
SHARDS_PER_BLOCK = 16
FEW_TRACKS, FEW_FILES = 2_000, 4
"""Up to so many tracks with features, or audio files, the work is done before Ray's workers would have started."""


def best_model(workspace: Workspace) -> str:
    """The folder of the workspace's model with the highest mean R² over the dimensions. Raises WorkspaceError."""
    candidates: list[tuple[float, str]] = []
    for name in workspace.names("runs"):
        described = store.describe(workspace, "runs", name)
        if described is not None:
            r2 = sum(m["r2"] for m in described["metrics"].values())
            candidates.append((r2 if math.isfinite(r2) else -math.inf, name))
    if not candidates:
        raise WorkspaceError(
            f"workspace {workspace.uri} has no trained model",
            "run `mer-ray train` on it first, or give a model folder with --model",
        )
    return f"{workspace.uri.rstrip('/')}/runs/{max(candidates)[1]}"


def run(config: Config, workspace: Workspace) -> Summary:
    """Score the workspace's tracks that its best (or the given) model has not scored, from their features."""
    started = time.monotonic()
    path = config.score.model or best_model(workspace)
    model = store.load(path)
    feature = model.feature.name
    if not workspace.has(features_table(feature)):
        raise WorkspaceError(
            f"workspace {workspace.uri} has no features/{feature}, which {path} reads", "run `mer-ray extract` first"
        )
    scored = workspace.read("scores", ["track_id", "model"])
    if len(set(scored["model"].to_pylist()) - {model.id}):
        # Another model is the best by now: its scores replace the old ones.
        workspace.discard("scores")
        scored = scored.slice(0, 0)
    done = set(scored["track_id"].to_pylist())
    summary = Summary("score", done_before=len(done))
    todo = len(workspace.ids(features_table(feature)) - done)
    if todo:
        shards = [n for n in workspace.names(features_table(feature)) if n.endswith(".parquet")]
        arguments = {"workspace": workspace, "model": path, "gpus": config.score.gpus_per_worker}
        with progress("score", len(shards)) as ticker:
            for answered in _map(
                config, pa.table({"shard": shards}), SHARDS_PER_BLOCK, _ScoreFeatures, arguments, todo <= FEW_TRACKS
            ):
                summary.made += sum(a["made"] for a in answered)
                ticker.advance(sum(a["shards"] for a in answered))
    summary.seconds = time.monotonic() - started
    summary.notes.append(
        f"model {model.id}, mean R² {model.mean_r2:.3f}" + (f"; {model.feature.note}" if model.feature.note else "")
    )
    return summary


def run_catalog(config: Config, catalog: str, output: str, model: str) -> Summary:
    """Score a folder or manifest into a Parquet or CSV file: one row per file, or one in OUTPUT's ``.failures`` file.

    Works in shards beside the output (``OUTPUT.parts``), so that a killed run goes on where it was.
    """
    started = time.monotonic()
    target = Path(output).expanduser()
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"--out {target} must end in {' or '.join(FORMATS)}")
    if not target.parent.is_dir():
        raise InputError(f"folder {target.parent} for --out does not exist", "make it first")
    loaded = store.load(model)
    parts = Workspace(f"{target.resolve()}.parts")
    tracks, lost = _catalog(config, catalog)
    parts.claim(
        "score",
        "scores",
        {"catalog": str(Path(catalog).expanduser().resolve()), "model": loaded.id},
        restart=True,
    )
    parts.append_rows("failures", lost)
    done = parts.ids("scores")
    rows = [{"track_id": t.id, "artist": t.artist, "title": t.title, "uri": t.uri} for t in tracks if t.id not in done]
    summary = Summary("score", done_before=len(done))
    if rows:
        arguments = {
            "workspace": parts,
            "model": str(Path(model).resolve()) if "://" not in model else model,
            "gpus": config.score.gpus_per_worker,
            "min_duration_s": config.extract.min_duration_s,
        }
        table = pa.Table.from_pylist(rows)
        with progress("score", len(rows)) as ticker:
            for answered in _map(
                config, table, config.score.batch_tracks, _ScoreFiles, arguments, len(rows) <= FEW_FILES
            ):
                summary.made += sum(a["made"] for a in answered)
                ticker.advance(sum(a["made"] + a["failed"] for a in answered))
    failed = parts.failures()
    scores = parts.read("scores").sort_by("uri")
    summary.failed = len(failed)
    beside = target.with_name(f"{target.stem}.failures{target.suffix}")
    if failed:
        _write(pa.Table.from_pylist(failed, schema=SCHEMAS["failures"]), beside)
        summary.notes.append(f"what failed and why: {beside}")
    else:
        beside.unlink(missing_ok=True)
    if scores.num_rows == 0:
        raise InputError(
            f"none of the {len(tracks) + len(lost)} tracks in {catalog} could be scored",
            f"the first: {failed[0]['message']} ({failed[0]['reason']}); the others: {beside}",
        )
    _write(scores, target)
    parts.remove()
    summary.notes.insert(0, f"{target}, by {loaded.id}" + (f"; {loaded.feature.note}" if loaded.feature.note else ""))
    summary.seconds = time.monotonic() - started
    return summary


def _map(
    config: Config, rows: pa.Table, largest: int, worker: type, arguments: dict[str, Any], here: bool
) -> Iterator[list[dict[str, Any]]]:
    """The workers' answers, block by block; ``here`` does without Ray."""
    if here:
        yield from session.map_here(blocks.split(rows, largest), worker, arguments)
        return
    session.connect(config.address)
    batches = blocks.split(rows, blocks.balanced(len(rows), largest, session.n_cpus()))
    yield from session.map_blocks(batches, worker, arguments, config.score.workers, config.score.gpus_per_worker)


def _catalog(config: Config, catalog: str) -> tuple[list[Track], list[dict[str, Any]]]:
    """The tracks of a folder or manifest, identified by their files: two files of one title are two rows."""
    from mer_ray.sources import folder, manifest

    place = Path(catalog).expanduser()
    if not place.exists():
        raise InputError(
            f"catalog {place} does not exist", "give a folder with audio, or a manifest (CSV, JSON lines, Parquet)"
        )
    found: list[Found] = list(folder.tracks(place) if place.is_dir() else manifest.tracks(place, config.collect.scale))
    tracks: dict[str, Track] = {}
    lost = []
    for item in found:
        track, error = item if isinstance(item, tuple) else (item, None)
        if error is None and track.uri is None:
            error = TrackError("no_audio", f"{track.artist} – {track.title}: the manifest names no path or uri for it")
        if error is not None:
            lost.append(failure("score", track.id, error.reason, error.message, error.transient))
            continue
        by_file = Track(track.artist, track.title, uri=track.uri, key=digest((track.uri or "").encode())[:16])
        tracks.setdefault(by_file.id, by_file)
    return list(tracks.values()), lost


def _write(table: pa.Table, target: Path) -> None:
    """One file, whole or not at all. CSV has no lists: there the curve is left out."""
    sink = io.BytesIO()
    if target.suffix.lower() == ".csv":
        pacsv.write_csv(table.drop_columns([c for c in ("curve", "curve_hop_s") if c in table.column_names]), sink)
    else:
        pq.write_table(table, sink, compression="zstd")
    Workspace(target.parent).write_bytes(sink.getvalue(), target.name)


class _ScoreFeatures:
    """A worker that scores shards of features."""

    def __init__(self, workspace: Workspace, model: str, gpus: float) -> None:
        session.prepare_worker(gpus)
        self.workspace, self.predictor = workspace, load_model(model)
        self.table = features_table(self.predictor.model.feature.name)
        tracks = workspace.read("tracks", ["track_id", "artist", "title"]).to_pylist()
        uris = dict(
            zip(
                *(workspace.read("audio", ["track_id", "uri"])[c].to_pylist() for c in ("track_id", "uri")), strict=True
            )
        )
        self.known = {t["track_id"]: (t["artist"], t["title"], uris.get(t["track_id"], "")) for t in tracks}

    def __call__(self, batch: pa.Table) -> pa.Table:
        made, done = 0, self.workspace.ids("scores")
        for shard in batch["shard"].to_pylist():
            rows = pq.read_table(self.workspace.path(self.table, shard), filesystem=self.workspace.fs)
            if set(rows["fingerprint"].to_pylist()) != {self.predictor.model.feature.fingerprint}:
                raise ModelError(
                    f"{self.predictor.name} does not fit the frames in {self.workspace.path(self.table, shard)}",
                    "extract the features with the settings that the model was trained with",
                )
            rows = rows.filter(
                pa.compute.invert(pa.compute.is_in(rows["track_id"], pa.array(sorted(done), pa.string())))
            )
            if len(rows):
                ids = rows["track_id"].to_pylist()
                predictions = self.predictor.predict_frames(ragged_arrays(rows["frames"]))
                scores = [
                    score_row(i, *self.known.get(i, ("", "", "")), prediction=p, model=self.predictor.name)
                    for i, p in zip(ids, predictions, strict=True)
                ]
                self.workspace.append_rows("scores", scores)
                made += len(ids)
        return pa.table({"shards": [len(batch)], "made": [made]})


class _ScoreFiles:
    """A worker that scores audio files."""

    def __init__(self, workspace: Workspace, model: str, gpus: float, min_duration_s: float) -> None:
        from mer_ray.audio.isolated import Decoder

        session.prepare_worker(gpus)
        self.workspace, self.predictor, self.min_duration_s = workspace, load_model(model), min_duration_s
        self.decoder = Decoder()

    def __call__(self, batch: pa.Table) -> pa.Table:
        scores, lost = score_files(self.predictor, batch.to_pylist(), self.min_duration_s, self.decoder.stream)
        self.workspace.append_rows("failures", lost)
        self.workspace.append_rows("scores", scores)
        return pa.table({"made": [len(scores)], "failed": [len(lost)]})


def score_files(
    predictor: Predictor, files: list[dict[str, Any]], min_duration_s: float, stream: Stream
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """files: dicts with track_id, artist, title, uri → rows of ``scores`` and rows of ``failures``."""
    feature = predictor.model.feature.name
    result = extract(
        [(f["track_id"], f["uri"], [feature]) for f in files], {feature: predictor.extractor}, min_duration_s, stream
    )
    by_id = {f["track_id"]: f for f in files}
    frames = result.frames[feature]
    scores = [
        score_row(i, by_id[i]["artist"], by_id[i]["title"], by_id[i]["uri"], p, predictor.name)
        for i, p in zip(frames, predictor.predict_frames(list(frames.values())), strict=True)
    ]
    lost = [
        failure(
            "score",
            i,
            e.reason,
            e.message if by_id[i]["uri"] in e.message else f"{by_id[i]['uri']}: {e.message}",
            e.transient,
        )
        for (_, i), e in result.errors.items()
    ]
    return scores, lost
