"""Audio files → rows of ``scores``, one after the other, in this process: what `mer_ray.score` does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from mer_ray.audio import walk
from mer_ray.audio.file_tags import describe
from mer_ray.audio.isolated import Decoder
from mer_ray.errors import InputError, TrackError
from mer_ray.features.batch import extract
from mer_ray.io import address
from mer_ray.io.address import is_url, to_path, to_uri
from mer_ray.io.identity import one_line
from mer_ray.scoring.catalog import content_hash, file_id, state
from mer_ray.scoring.predictor import Predictor
from mer_ray.scoring.rows import scores_table
from mer_ray.scoring.waveform import Waveform, duration_s

FAILURES = pa.schema([(name, pa.string()) for name in ("uri", "reason", "message")])
KEY = b"mer_ray.failures"
"""Of a schema's metadata, which has them as JSON."""

TOLD = 3
"""Failures that a warning tells of."""

Place = str | os.PathLike[str]


def scored(
    places: Iterable[Place], model: Predictor, min_duration_s: float, allow_partial: bool = False
) -> Iterator[pa.Table | dict[str, Any]]:
    """A table of one row for each file, in order, or a dict with ``uri`` and ``error``, a TrackError.

    places: files, objects in a store, and folders, which stand for the audio in them.
    """
    extractors = model.extractors()
    feature = model.model.feature.name
    with Decoder(allow_partial=allow_partial) as decoder:
        for uri, lost in _files(places):
            if lost is not None:
                yield {"uri": uri, "error": lost}
                continue
            track: dict[str, Any] = {"track_id": file_id(uri), "uri": uri}
            result = extract([(track["track_id"], uri, list(extractors))], extractors, min_duration_s, decoder.stream)
            try:
                for error in result.errors.values():
                    raise error
                ((frames,), (peaks,)) = (list(result.frames[name].values()) for name in (feature, Waveform.NAME))
                predictions = model.predict_frames([frames])
                track |= {
                    **_names(uri),
                    **state(uri),
                    "sha256": content_hash(uri),
                    "decoded_share": result.shares[track["track_id"]],
                }
            except (OSError, TrackError) as error:
                yield {"uri": uri, "error": _with_place(uri, error)}
                continue
            yield scores_table([track], predictions, [duration_s(peaks)], model.name, [peaks])


def with_failures(table: pa.Table, lost: list[dict[str, Any]]) -> pa.Table:
    """The table, whose schema's metadata remembers what could not be scored."""
    rows = [{"uri": row["uri"], "reason": row["error"].reason, "message": row["error"].message} for row in lost]
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: json.dumps(rows)}) if rows else table


def failures(table: pa.Table) -> pa.Table:
    """What `with_failures` put there: uri, reason, message."""
    return pa.Table.from_pylist(json.loads((table.schema.metadata or {}).get(KEY, b"[]")), schema=FAILURES)


def warning(lost: list[dict[str, Any]], n_scored: int) -> str:
    """How many could not be scored, and why the first of them."""
    told = "; ".join(f"{row['error'].message} ({row['error'].reason})" for row in lost[:TOLD])
    more = f"; and {len(lost) - TOLD:,} more" if len(lost) > TOLD else ""
    n = len(lost) + n_scored
    return f"{len(lost):,} of {n:,} could not be scored: {told}{more}. mer_ray.failures(table) lists them"


def _files(places: Iterable[Place]) -> Iterator[tuple[str, TrackError | None]]:
    """The address of each file, or of what is none with the reason."""
    for place in places:
        text = os.fsdecode(os.fspath(place))
        if is_url(text):
            yield address.shown(text), TrackError("bad_uri", f"{address.shown(text)} is a web address: fetch it first")
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
        yield uri, _with_place(uri, error)
    except InputError as error:
        yield uri, TrackError("empty", str(error))
    else:
        if skipped.counts[walk.UNREADABLE]:
            yield uri, TrackError("unreadable", f"{one_line(uri, 300)}: {skipped}")
        for file in found:
            yield to_uri(file), None


def _names(uri: str) -> dict[str, Any]:
    if address.is_object(uri):
        return {"artist": "", "title": one_line(unquote(PurePosixPath(uri.partition("?")[0]).stem)), "album": ""}
    found = describe(to_path(uri))
    return {"artist": found.artist, "title": found.title, "album": found.album or ""}


def _with_place(uri: str, error: OSError | TrackError) -> TrackError:
    shown = address.shown(uri) if address.is_object(uri) else one_line(str(to_path(uri)), 300)
    if isinstance(error, OSError):
        return TrackError("unreadable", f"{shown} cannot be read ({error.strerror})")
    return error if shown in error.message else TrackError(error.reason, f"{shown}: {error.message}", error.transient)
