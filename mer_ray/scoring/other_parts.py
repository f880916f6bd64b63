"""Frames of a joined feature from a workspace's own tables: one part's rows, and beside them those of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.features import FeatureSpec
from mer_ray.features.joined import Frames, frames_of, parts
from mer_ray.io.identity import digest
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace
from mer_ray.scoring import frames


def files(workspace: Workspace, feature: FeatureSpec) -> list[str]:
    """The Parquet files of a feature's table."""
    table = features_table(feature.name)
    return [workspace.path(table, name) for name in workspace.names(table) if name.endswith(".parquet")]


def n_whole(workspace: Workspace, tables: Sequence[str]) -> int:
    """The number of tracks that all of the tables have."""
    first = workspace.read(tables[0], ["track_id"])["track_id"]
    there = [workspace.ids(table).mask(first) for table in tables[1:]]
    return int(np.all([np.ones(len(first), bool), *there], axis=0).sum())


def state(workspace: Workspace, feature: FeatureSpec) -> str:
    """A hash of the files of the second and further parts, which changes when they get more tracks; "" of none."""
    others = [files(workspace, part) for part in parts(feature)[1:]]
    return digest("\n".join(name for names in others for name in sorted(names)).encode())[:16] if others else ""


class OtherParts:
    """Looks up tracks in the tables of the second and further parts.

    It holds where each track's frames are, in Arrow, and the last row group that was read of each part: tracks that
    were extracted together lie in one.
    """

    def __init__(self, workspace: Workspace, feature: FeatureSpec) -> None:
        self.feature = feature
        self._tables = [_Table(workspace, part) for part in parts(feature)[1:]]

    def beside(
        self, tracks: Sequence[dict[str, Any]], arrays: Sequence[np.ndarray]
    ) -> tuple[list[dict[str, Any]], list[Frames], list[dict[str, Any]]]:
        """Tracks with frames of the first part → those that have all parts, all their frames, and rows of ``failures``.

        A track that another table lacks is left out, as one that no table has. Raises as `scoring.frames.Frames`.
        """
        ids, failed = [str(track["track_id"]) for track in tracks], list[dict[str, Any]]()
        found = {i: {parts(self.feature)[0].name: array} for i, array in zip(ids, arrays, strict=True)}
        for table in self._tables:
            own, lost = table.read(ids)
            failed += lost
            for i, array in own.items():
                found[i][table.feature.name] = array
        whole = [n for n, i in enumerate(ids) if len(found[i]) == 1 + len(self._tables)]
        return [tracks[n] for n in whole], [frames_of(self.feature, found[ids[n]]) for n in whole], failed


class _Table:
    """One part's table."""

    def __init__(self, workspace: Workspace, feature: FeatureSpec) -> None:
        self.feature, self._fs = feature, workspace.fs
        self._units = [unit for file in files(workspace, feature) for unit in frames.unit_rows(file, self._fs, "")]
        columns = [frames.ids(unit, self._fs) for unit in self._units]
        at = np.repeat(np.arange(len(columns), dtype=np.int32), [len(column) for column in columns])
        chunks = [chunk for column in columns for chunk in column.chunks]
        index = pa.table({"track_id": pa.chunked_array(chunks, pa.string()), "unit": at}).sort_by("track_id")
        self._ids, self._at = index["track_id"].to_numpy(zero_copy_only=False), index["unit"].to_numpy()
        self._last = -1, pa.table({})

    def read(self, ids: Sequence[str]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """The frames of the tracks that the table has, and rows of ``failures`` for frames that cannot be used."""
        wanted = np.array(ids, object)
        places = np.minimum(np.searchsorted(self._ids, wanted), max(0, len(self._ids) - 1))
        there = self._ids[places] == wanted if len(self._ids) else np.zeros(len(wanted), bool)
        found, failed = dict[str, np.ndarray](), list[dict[str, Any]]()
        for number in np.unique(self._at[places[there]]).tolist():
            opened = frames.Frames(self._units[number], self._fs, self.feature)
            if self._last[0] != number:
                self._last = number, pa.concat_tables(piece for _, piece in opened.pieces())
            rows = self._last[1]
            known, arrays, lost = opened.read(rows.filter(pc.is_in(rows["track_id"], pa.array(ids, pa.string()))))
            failed += lost
            found |= {track["track_id"]: array for track, array in zip(known, arrays, strict=True)}
        return found, failed
