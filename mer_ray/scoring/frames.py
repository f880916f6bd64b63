"""Tables of frames that are ready, read row group by row group and never as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mer_ray.errors import InputError, ModelError
from mer_ray.features import FeatureSpec
from mer_ray.identity import one_line
from mer_ray.tables import failure, ragged_arrays

KNOWN = ("track_id", "artist", "title", "album", "uri")


def unit_rows(file: str, filesystem: Any, at_once: int, model: str) -> Iterator[dict[str, Any]]:
    """A file's row groups: file, group, rows, and ``shards``, the keys under which their scores are committed.

    Raises InputError where the file cannot be read.
    """
    try:
        metadata = pq.read_metadata(file, filesystem=filesystem)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{one_line(file)} cannot be read ({one_line(str(error), 200)})") from error
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        shards = [_key(file, group, start, model) for start in range(0, rows, at_once)]
        yield {"file": file, "group": group, "rows": rows, "shards": shards}


class Frames:
    """One row group of a table with the columns track_id and frames, those of `KNOWN` that it has, and fingerprint.

    Raises InputError or ModelError where the model cannot read it.
    """

    def __init__(self, file: str, group: int, filesystem: Any, spec: FeatureSpec) -> None:
        self.file, self.group, self.spec = file, group, spec
        self._opened = pq.ParquetFile(file, filesystem=filesystem)
        names = self._opened.schema_arrow.names
        if "track_id" not in names:
            raise InputError(f"{one_line(file)} has no column track_id", "name each row's track")
        self.has_fingerprint = "fingerprint" in names
        if not self.has_fingerprint and spec.family != "brought":
            raise ModelError(
                f"{one_line(file)} does not say which frames it holds: it has no column fingerprint",
                f"the model reads {spec.name} with the fingerprint {spec.fingerprint}; take features that mer-ray made",
            )
        self._columns = [n for n in (*KNOWN, "frames", "fingerprint") if n in names]

    def pieces(self, at_once: int, model: str) -> Iterator[tuple[str, pa.Table]]:
        """The key of each piece of ``at_once`` rows, and the piece."""
        start, held = 0, pa.table({})
        for batch in self._opened.iter_batches(at_once, row_groups=[self.group], columns=self._columns):
            table = pa.Table.from_batches([batch])
            held = pa.concat_tables([held, table]) if held.num_rows else table
            while held.num_rows >= at_once:
                yield _key(self.file, self.group, start, model), held.slice(0, at_once)
                held, start = held.slice(at_once), start + at_once
        if held.num_rows:
            yield _key(self.file, self.group, start, model), held

    def read(self, piece: pa.Table) -> tuple[list[dict[str, Any]], list[np.ndarray], list[dict[str, Any]]]:
        """What is known of the tracks, their frames (n_i, F), and rows of ``failures`` for those that have none."""
        if self.has_fingerprint:
            found = set(piece["fingerprint"].unique().to_pylist()) - {self.spec.fingerprint}
            if found:
                raise ModelError(
                    f"{one_line(self.file)} holds frames of {', '.join(sorted(map(str, found)))[:80]}, and the model "
                    f"reads {self.spec.fingerprint} ({self.spec.name})",
                    "extract the features with the settings that the model was trained with",
                )
        empty = pc.fill_null(pc.equal(pc.list_value_length(piece["frames"]), 0), True).to_numpy(zero_copy_only=False)
        usable = piece.filter(pa.array(~empty))
        kind = pa.list_(pa.list_(pa.float32(), self.spec.n_dims))
        try:
            arrays = ragged_arrays(usable["frames"].cast(kind).combine_chunks())
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"{one_line(self.file)}: its frames are not {self.spec.n_dims} numbers wide "
                f"({one_line(str(error), 100)})",
                f"the model reads {self.spec.name}",
            ) from error
        finite = np.array([bool(np.isfinite(a).all()) for a in arrays], bool)
        ids = piece["track_id"].to_pylist()
        lost = [
            failure("score", str(ids[i]), "too_short", f"{self.file}: row {ids[i]} has no frames")
            for i in np.flatnonzero(empty)
        ]
        tracks = usable.select([n for n in KNOWN if n in usable.column_names]).to_pylist()
        for track, good in zip(tracks, finite, strict=True):
            if not good:
                i = str(track["track_id"])
                lost.append(failure("score", i, "not_finite", f"{self.file}: row {i} has NaN or infinite frames"))
        kept = np.flatnonzero(finite)
        return [tracks[i] for i in kept], [arrays[i] for i in kept], lost


def _key(file: str, group: int, start: int, model: str) -> str:
    return f"{model} {file} {group} {start}"
