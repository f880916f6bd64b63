"""``predictions.parquet`` → arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mer_ray.config_checks import dimensions as check_dimensions
from mer_ray.errors import WorkspaceError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace

LABEL_TOLERANCE = 1e-6
"""Labels that differ by less are equal, as some are stored in single precision."""

_TEXTS = ("artist", "title", "group")
_PREDICTED = "predicted_"
AGAIN = "remove its folder and run `mer-ray train` again"


@dataclass(frozen=True)
class Predictions:
    """A run's out-of-fold predictions, tracks in the order of their ids.

    Attributes:
        ids: (N,).
        artists: (N,).
        titles: (N,).
        groups: (N,).
        labels: (N, D) in 0..1, NaN where a track has no label of a dimension.
        fold: (R, N).
        predicted: (R, N, D) in 0..1.
        dimensions: Names of the D columns.
    """

    ids: list[str]
    artists: list[str]
    titles: list[str]
    groups: list[str]
    labels: np.ndarray
    fold: np.ndarray
    predicted: np.ndarray
    dimensions: tuple[str, ...] = DIMENSIONS

    def on(self, ids: Sequence[str]) -> Predictions:
        """The predictions of these tracks, in this order."""
        position = {i: k for k, i in enumerate(self.ids)}
        k = [position[i] for i in ids]
        artists, titles, groups = ([column[j] for j in k] for column in (self.artists, self.titles, self.groups))
        own = self.labels[k], self.fold[:, k], self.predicted[:, k]
        return Predictions(list(ids), artists, titles, groups, *own, self.dimensions)

    def of(self, dimensions: Sequence[str]) -> Predictions:
        """The same of some of the dimensions, in this order."""
        k = [self.dimensions.index(d) for d in dimensions]
        return replace(self, labels=self.labels[:, k], predicted=self.predicted[..., k], dimensions=tuple(dimensions))

    @property
    def tested(self) -> Predictions:
        """The same of the tracks that are in a fold (not below 0), and not only trained on."""
        k = np.flatnonzero((self.fold >= 0).all(axis=0))
        return self if len(k) == len(self.ids) else self.on([self.ids[i] for i in k])

    def table(self) -> pa.Table:
        """One row per (repeat, track): the inverse of `from_table`. An unknown label is null."""
        repeats, n = self.fold.shape
        labels = [pa.array(np.tile(column, repeats), from_pandas=True) for column in self.labels.T]
        described = {"track_id": self.ids, "artist": self.artists, "title": self.titles, "group": self.groups}
        return pa.table(
            {
                **{name: [*values] * repeats for name, values in described.items()},
                "repeat": np.repeat(np.arange(repeats, dtype=np.int32), n),
                "fold": self.fold.ravel().astype(np.int32),
                **dict(zip(self.dimensions, labels, strict=True)),
                **{f"{_PREDICTED}{d}": self.predicted[..., i].ravel() for i, d in enumerate(self.dimensions)},
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
    """One row per (repeat, track) → arrays; the dimensions are those that have a column ``predicted_DIMENSION``.

    Raises WorkspaceError for another content.
    """
    names = [name for name in table.column_names if name.startswith(_PREDICTED)] or [_PREDICTED + DIMENSIONS[0]]
    dimensions = tuple(name.removeprefix(_PREDICTED) for name in names)
    missing = {"track_id", *_TEXTS, "repeat", "fold", *dimensions, *names} - set(table.column_names)
    if missing:
        raise WorkspaceError(f"{path} is of another version: it has no {', '.join(sorted(missing))}", AGAIN)
    try:
        check_dimensions(list(dimensions))
    except ValueError as error:
        raise WorkspaceError(f"{path} cannot be read ({one_line(str(error), 200)})", AGAIN) from error
    table = table.sort_by([("repeat", "ascending"), ("track_id", "ascending")])
    repeats = len(pc.unique(table["repeat"]))
    n = table.num_rows // max(repeats, 1)
    ids = table["track_id"].to_pylist()
    if n == 0 or ids != ids[:n] * repeats or len(set(ids[:n])) != n:
        raise WorkspaceError(f"{path} does not have each track once in each repeat", AGAIN)
    first = table.slice(0, n)
    labels = _matrix(first, dimensions)
    predicted = _matrix(table, names).reshape(repeats, n, len(dimensions))
    known = np.isfinite(labels)
    # A label may be unknown, but not all of a track or of a dimension.
    whole = known.any(axis=0).all() and known.any(axis=1).all() and not np.isinf(labels).any()
    if not (whole and np.isfinite(predicted).all()):
        raise WorkspaceError(f"{path} has a label or a prediction that is not a number", AGAIN)
    artists, titles, groups = ([value or "" for value in first[name].to_pylist()] for name in _TEXTS)
    fold = table["fold"].to_numpy().reshape(repeats, n)
    return Predictions(ids[:n], artists, titles, groups, labels, fold, predicted, dimensions)


def shared_ids(runs: Sequence[Predictions]) -> list[str]:
    """The tracks that all predicted, sorted."""
    return sorted(set.intersection(*(set(p.ids) for p in runs)))


def common(a: Predictions, b: Predictions) -> tuple[str, ...]:
    """The dimensions that both have, in the order of a."""
    return tuple(d for d in a.dimensions if d in b.dimensions)


def other_labels(a: Predictions, b: Predictions) -> int:
    """The number of tracks whose labels of the common dimensions differ between a and b, both on the same tracks."""
    shared = common(a, b)
    one, other = a.of(shared).labels, b.of(shared).labels
    differ = (np.abs(one - other) > LABEL_TOLERANCE) | (np.isnan(one) != np.isnan(other))
    return int(differ.any(axis=1).sum())


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
