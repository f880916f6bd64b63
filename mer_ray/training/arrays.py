"""Features and labels of a workspace for other libraries: plain arrays, and one table that scikit-learn can take."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.errors import InputError, WorkspaceError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import features_table, ragged_arrays
from mer_ray.io.tables import Workspace
from mer_ray.training import grouped
from mer_ray.training.groups import track_groups

NAMES = ("artist", "title", "album")
SPLITS = ("dataset", "split", "fold")


def read_features(
    workspace: str | os.PathLike[str], feature: str, ids: Iterable[str] | None = None
) -> tuple[list[str], list[np.ndarray]]:
    """See `mer_ray.read_features`."""
    store, table = _opened(workspace), features_table(feature)
    if not store.has(table):
        there = [name for name in store.names("features") if store.has(features_table(name))]
        raise WorkspaceError(
            f"workspace {store.uri} has no {one_line(table)}",
            f"its features are: {', '.join(there)}" if there else "run `mer-ray extract` on it first",
        )
    rows = store.read(table, ["track_id", "frames", "fingerprint"])
    if len(rows["fingerprint"].unique()) > 1:
        raise WorkspaceError(
            f"{store.path(table)} holds frames of several settings or weights",
            "remove that folder and run `mer-ray extract`",
        )
    wanted = _given(sorted(rows["track_id"].to_pylist()) if ids is None else ids)
    at = pc.index_in(wanted, rows["track_id"].combine_chunks())
    if at.null_count:
        raise InputError(
            f"{at.null_count:,} of {len(wanted):,} ids have no frames in {store.path(table)}; the first is "
            f"{_first(wanted, at)}",
            "leave them out: without ids, read_features gives all tracks that have frames",
        )
    arrays = ragged_arrays(rows["frames"])
    return wanted.to_pylist(), [arrays[i] for i in at.to_pylist()]


def read_labels(workspace: str | os.PathLike[str], ids: Iterable[str] | None = None) -> pa.Table:
    """See `mer_ray.read_labels`."""
    store = _opened(workspace)
    dimensions = store.dimensions("labels")
    own = [*dimensions, *(f"se_{d}" for d in dimensions), "curves"]
    labels = store.require("labels", "label", ["track_id", *own])
    tracks = store.require("tracks", "collect", ["track_id", *NAMES, "composer", *SPLITS])
    wanted = _given(sorted(labels["track_id"].to_pylist()) if ids is None else ids)
    at = pc.index_in(wanted, tracks["track_id"].combine_chunks())
    if at.null_count:
        raise InputError(
            f"{at.null_count:,} of {len(wanted):,} ids are no tracks of {store.uri}; the first is {_first(wanted, at)}",
            "give ids of this workspace, such as those of read_features",
        )
    known, audio = tracks.take(at), store.read("audio", ["track_id", "uri"])
    labels, audio = (t.take(pc.index_in(wanted, t["track_id"].combine_chunks())) for t in (labels, audio))
    columns = {n: known[n] for n in ("track_id", *NAMES)} | {
        "group": pa.array(_groups(store, tracks, wanted), pa.string())
    }
    columns |= {n: labels[n] for n in own} | {n: known[n] for n in SPLITS}
    return pa.table({**columns, "uri": audio["uri"]})


def _groups(store: Workspace, tracks: pa.Table, wanted: pa.Array) -> list[str]:
    """As in training, if it knows all of the wanted ids; else by artist, album and composer.

    Those are of all tracks, whichever are wanted: training and test ids that are read apart have the same groups.
    """
    known = grouped.read(store).of if store.exists(grouped.FOLDER, "splits.json") else {}
    if not all(i in known for i in wanted.to_pylist()):
        rows = tracks.sort_by("track_id")
        ids, *more = (rows[n].to_pylist() for n in ("track_id", "artist", "album", "composer"))
        known = dict(zip(ids, track_groups(ids, *more), strict=True))
    return [known[i] for i in wanted.to_pylist()]


def _opened(workspace: str | os.PathLike[str]) -> Workspace:
    store = Workspace(workspace)
    if not store.exists("settings"):
        raise WorkspaceError(f"there is no workspace at {store.uri}", "give a folder that mer-ray has worked in")
    return store


def _given(ids: Iterable[str]) -> pa.Array:
    if isinstance(ids, str):
        raise InputError(f"ids is the text {one_line(ids, 40)!r}", "give a list of track_ids")
    texts = ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else [str(i) for i in ids]
    return pa.array(texts, pa.string())


def _first(ids: pa.Array, at: pa.Array) -> str:
    return one_line(ids[at.is_null().to_pylist().index(True)].as_py() or "", 40)
