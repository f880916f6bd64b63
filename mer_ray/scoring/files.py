"""Audio files → rows of ``scores``, in this process: for the stage's workers, and for `mer_ray.score`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from mer_ray.audio import walk
from mer_ray.audio.file_tags import describe
from mer_ray.audio.isolated import Decoder
from mer_ray.errors import InputError, TrackError
from mer_ray.features import Extractor
from mer_ray.features.batch import Extracted, Stream, extract
from mer_ray.features.joined import frames_of
from mer_ray.io import address
from mer_ray.io.address import is_url, to_path, to_uri
from mer_ray.io.identity import one_line
from mer_ray.scoring import rows
from mer_ray.scoring.catalog import content_hash, file_id, state
from mer_ray.scoring.measures import measured
from mer_ray.scoring.predictor import Predictor
from mer_ray.scoring.waveform import Waveform, duration_s

FAILURES = pa.schema([(name, pa.string()) for name in ("uri", "reason", "message")])
KEY = b"mer_ray.failures"
"""Of a schema's metadata: the failures as JSON."""

NAMED = 3
"""Failures that a warning names."""

PathLike = str | os.PathLike[str]


@dataclass
class Batch:
    """The result of scoring files.

    Attributes:
        scores: Rows of ``scores``.
        frames: Of each of the model's features, by its name and track_id.
        errors: By track_id.
        seconds: Of decoded audio.
    """

    scores: pa.Table
    frames: dict[str, dict[str, np.ndarray]]
    errors: dict[str, TrackError]
    seconds: float


def score(
    model: Predictor,
    files: Sequence[Mapping[str, Any]],
    min_duration_s: float,
    stream: Stream | None = None,
    describe: Callable[[str], Mapping[str, Any]] | None = None,
) -> Batch:
    """Score audio files together; an unusable one becomes an error.

    Args:
        model: Loaded; it must read audio.
        files: track_id and uri of each, and optionally other columns of `rows.COLUMNS`.
        min_duration_s: Shorter files are errors.
        stream: How files are decoded.
        describe: Called with each decoded URI for further columns; may raise OSError.
    """
    own, extractors = list(model.features), model.extractors()
    wanted = [(f["track_id"], f["uri"], list(extractors)) for f in files]
    found = extract(wanted, extractors, min_duration_s, stream, loudness=True)
    peaks = found.frames[Waveform.NAME]
    errors = {i: error for (name, i), error in found.errors.items() if name in ("", *own)}
    # A track without all of the features is not scored, and none of its frames is kept.
    frames = {name: {i: array for i, array in found.frames[name].items() if i not in errors} for name in own}
    tracks = {}
    for file in files:
        i, uri = file["track_id"], file["uri"]
        if i not in errors:
            try:
                known = {"sha256": content_hash(uri), "decoded_share": found.shares[i]}
                tracks[i] = {**file, **known, **(describe(uri) if describe else {})}
            except OSError as error:
                errors[i] = _unreadable(uri, error)
    of_track = [frames_of(model.model.feature, {name: frames[name][i] for name in own}) for i in tracks]
    predictions = model.predict_frames(of_track)
    made = [
        rows.Scored(track, prediction, duration_s(peaks[i]), model.name, peaks[i], _measured(found, extractors, i))
        for (i, track), prediction in zip(tracks.items(), predictions, strict=True)
    ]
    return Batch(
        rows.table(made, model.dimensions),
        frames,
        {f["track_id"]: named(errors[f["track_id"]], f["uri"]) for f in files if f["track_id"] in errors},
        found.seconds,
    )


def _measured(found: Extracted, extractors: Mapping[str, Extractor], track_id: str) -> dict[str, Any]:
    frames = {name: arrays[track_id] for name, arrays in found.frames.items() if track_id in arrays}
    return measured.values(extractors, frames, found.loudness[track_id])


def scored(
    paths: Iterable[PathLike], model: Predictor, min_duration_s: float, allow_partial: bool = False
) -> Iterator[pa.Table | dict[str, Any]]:
    """A table of one row for each file, in order, or a dict with ``uri`` and ``error``, a TrackError.

    paths: files, objects in a store, and folders, which stand for the audio in them.
    """
    with Decoder(allow_partial=allow_partial) as decoder:
        for uri, error in _files(paths):
            if error is None:
                track = {"track_id": file_id(uri), "uri": uri}
                made = score(model, [track], min_duration_s, decoder.stream, _describe)
                error = made.errors.get(track["track_id"])
            yield made.scores if error is None else {"uri": uri, "error": error}


def embedded(
    paths: Iterable[PathLike], model: Predictor, min_duration_s: float, allow_partial: bool = False
) -> np.ndarray:
    """The embeddings (N, P) of audio files, see `Predictor.embed_frames`. Raises the first unusable one's TrackError.

    paths: as of `scored`.
    """
    own, made = list(model.features), [model.embed_frames([])]
    with Decoder(allow_partial=allow_partial) as decoder:
        for uri, error in _files(paths):
            if error is None:
                found = extract([(uri, uri, own)], model.features, min_duration_s, decoder.stream)
                error = next((named(e, uri) for e in found.errors.values()), None)
            if error is not None:
                raise error
            made.append(model.embed_frames([frames_of(model.model.feature, {n: found.frames[n][uri] for n in own})]))
    return np.concatenate(made)


def named(error: TrackError, uri: str) -> TrackError:
    """The error with a message that names the file, without passwords."""
    file = _shown(uri)
    return error if file in error.message else TrackError(error.reason, f"{file}: {error.message}", error.transient)


def with_failures(table: pa.Table, failed: list[dict[str, Any]]) -> pa.Table:
    """The table, with what could not be scored in its schema's metadata."""
    listed = [{"uri": row["uri"], "reason": row["error"].reason, "message": row["error"].message} for row in failed]
    return (
        table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: json.dumps(listed)}) if failed else table
    )


def failures(table: pa.Table) -> pa.Table:
    """What `with_failures` put there: uri, reason, message."""
    return pa.Table.from_pylist(json.loads((table.schema.metadata or {}).get(KEY, b"[]")), schema=FAILURES)


def warning(failed: list[dict[str, Any]], n_scored: int) -> str:
    """How many could not be scored, and why the first of them."""
    named = "; ".join(f"{row['error'].message} ({row['error'].reason})" for row in failed[:NAMED])
    more = f"; and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
    n = len(failed) + n_scored
    return f"{len(failed):,} of {n:,} could not be scored: {named}{more}. mer_ray.failures(table) lists them"


def _files(paths: Iterable[PathLike]) -> Iterator[tuple[str, TrackError | None]]:
    """The URI of each file; with an error where it is not a file."""
    for path in paths:
        text = os.fsdecode(os.fspath(path))
        if is_url(text):
            yield address.shown(text), TrackError("bad_uri", f"{address.shown(text)} is a web address: fetch it first")
        elif address.has_credentials(text):
            yield address.shown(text), TrackError("credentials", f"{address.shown(text)} {address.EXPOSED}")
        elif address.is_object(text):
            yield text, None
        else:
            yield from _local(to_path(text).expanduser().absolute())


def _local(path: Path) -> Iterator[tuple[str, TrackError | None]]:
    uri = to_uri(path)
    try:
        if not path.is_dir():
            yield uri, None
            return
        found, skipped = walk.search(path)
    except OSError as error:
        yield uri, _unreadable(uri, error)
    except InputError as error:
        yield uri, TrackError("empty", str(error))
    else:
        if skipped.counts[walk.UNREADABLE]:
            yield uri, TrackError("unreadable", f"{one_line(uri, 300)}: {skipped}")
        for file in found:
            yield to_uri(file), None


def _describe(uri: str) -> dict[str, Any]:
    if address.is_object(uri):
        return {"title": one_line(unquote(PurePosixPath(uri.partition("?")[0]).stem))}
    track = describe(to_path(uri))
    return {"artist": track.artist, "title": track.title, "album": track.album, **state(uri)}


def _shown(uri: str) -> str:
    return address.shown(uri) if address.is_object(uri) else one_line(str(to_path(uri)), 300)


def _unreadable(uri: str, error: OSError) -> TrackError:
    return TrackError("unreadable", f"{_shown(uri)} cannot be read ({error.strerror})")
