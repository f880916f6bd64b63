"""``predictions.parquet`` → arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mer_ray.errors import WorkspaceError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace

LABEL_TOLERANCE = 1e-6
"""Labels that differ by less are equal, as some are stored in single precision."""

_TEXTS = ("artist", "title", "group")
_PREDICTED = tuple(f"predicted_{d}" for d in DIMENSIONS)
AGAIN = "remove its folder and run `mer-ray train` again"


@dataclass(frozen=True)
class Predictions:
    """A run's out-of-fold predictions, tracks in the order of their ids.

    ids, artists, titles, groups: (N,). labels: (N, 3) in 0..1. fold: (R, N). predicted: (R, N, 3) in 0..1.
    """

    ids: list[str]
    artists: list[str]
    titles: list[str]
    groups: list[str]
    labels: np.ndarray
    fold: np.ndarray
    predicted: np.ndarray

    def on(self, ids: Sequence[str]) -> Predictions:
        """The predictions of these tracks, in this order."""
        position = {i: k for k, i in enumerate(self.ids)}
        k = [position[i] for i in ids]
        artists, titles, groups = ([column[j] for j in k] for column in (self.artists, self.titles, self.groups))
        return Predictions(list(ids), artists, titles, groups, self.labels[k], self.fold[:, k], self.predicted[:, k])

    def table(self) -> pa.Table:
        """One row per (repeat, track): the inverse of `from_table`."""
        repeats, n = self.fold.shape
        described = {"track_id": self.ids, "artist": self.artists, "title": self.titles, "group": self.groups}
        return pa.table(
            {
                **{name: [*values] * repeats for name, values in described.items()},
                "repeat": np.repeat(np.arange(repeats, dtype=np.int32), n),
                "fold": self.fold.ravel().astype(np.int32),
                **{name: np.tile(self.labels[:, i], repeats) for i, name in enumerate(DIMENSIONS)},
                **{name: self.predicted[..., i].ravel() for i, name in enumerate(_PREDICTED)},
            }
        )


def read(workspace: Workspace, *parts: str) -> dict[str, Predictions]:
    """Read a Parquet file of predictions by its column ``model``, or "" if it has none.

    Raises WorkspaceError with the file and its defect.
    """
    path, table = workspace.path(*parts), read_table(workspace, *parts)
    if "model" not in table.column_names:
        return {"": from_table(table, path)}
    models = pc.unique(table["model"]).to_pylist()
    return {m: from_table(table.filter(pc.equal(table["model"], m)), path) for m in models}


def read_table(workspace: Workspace, *parts: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of a run. Raises WorkspaceError with the file and its defect."""
    path = workspace.path(*parts)
    try:
        return pq.read_table(io.BytesIO(workspace.read_bytes(*parts)), columns=columns)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} is missing", AGAIN) from error
    except (OSError, pa.ArrowException, KeyError) as error:
        raise WorkspaceError(f"{path} cannot be read ({one_line(str(error), 200)})", AGAIN) from error


def from_table(table: pa.Table, path: str) -> Predictions:
    """One row per (repeat, track) → arrays. Raises WorkspaceError for another content."""
    missing = {"track_id", *_TEXTS, "repeat", "fold", *DIMENSIONS, *_PREDICTED} - set(table.column_names)
    if missing:
        raise WorkspaceError(f"{path} is of another version: it has no {', '.join(sorted(missing))}", AGAIN)
    table = table.sort_by([("repeat", "ascending"), ("track_id", "ascending")])
    repeats = len(pc.unique(table["repeat"]))
    n = table.num_rows // max(repeats, 1)
    ids = table["track_id"].to_pylist()
    if n == 0 or ids != ids[:n] * repeats or len(set(ids[:n])) != n:
        raise WorkspaceError(f"{path} does not have each track once in each repeat", AGAIN)
    first = table.slice(0, n)
    labels = _matrix(first, DIMENSIONS)
    predicted = _matrix(table, _PREDICTED).reshape(repeats, n, len(DIMENSIONS))
    if not (np.isfinite(labels).all() and np.isfinite(predicted).all()):
        raise WorkspaceError(f"{path} has a label or a prediction that is not a number", AGAIN)
    artists, titles, groups = ([value or "" for value in first[name].to_pylist()] for name in _TEXTS)
    return Predictions(
        ids[:n], artists, titles, groups, labels, table["fold"].to_numpy().reshape(repeats, n), predicted
    )


def shared_ids(runs: Sequence[Predictions]) -> list[str]:
    """The tracks that all predicted, sorted."""
    return sorted(set.intersection(*(set(p.ids) for p in runs)))


def other_labels(a: Predictions, b: Predictions) -> int:
    """The number of tracks whose labels differ between a and b, both on the same tracks."""
    return int((np.abs(a.labels - b.labels) > LABEL_TOLERANCE).any(axis=1).sum())


def joined_groups(groupings: Sequence[Sequence[str]]) -> list[str]:
    """The finest grouping of the tracks (N,) that contains the groups of all groupings."""
    if all(list(g) == list(groupings[0]) for g in groupings):
        return list(groupings[0])
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(groupings[0])
    nodes, start = [], n
    for grouping in groupings:
        names, index = np.unique(np.asarray(grouping, dtype=object).astype(str), return_inverse=True)
        nodes.append(index + start)
        start += len(names)
    edges = np.tile(np.arange(n), len(groupings)), np.concatenate(nodes)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(start, start))
    _, component = connected_components(graph, directed=False)
    return [str(c) for c in component[:n]]


def _matrix(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    return np.stack([table[c].to_numpy().astype(float) for c in columns], axis=1)
