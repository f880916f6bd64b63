"""The failures of a stage so far, and which of them the next run tries again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.ids import Ids


@dataclass(frozen=True)
class Failed:
    """A stage's unresolved failures, one a track, columns in the same order (N,).

    transient: the next run tries again. attempts: so far.
    """

    ids: pa.Array
    transient: np.ndarray
    attempts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def look_up(self, ids: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """(which of them failed for good (n,) bool, the attempts of each (n,), 0 where it has not failed)."""
        at = pc.index_in(ids, value_set=self.ids).fill_null(-1).to_numpy()
        found = at >= 0
        final, attempts = np.zeros(len(at), bool), np.zeros(len(at), np.int32)
        final[found] = ~self.transient[at[found]]
        attempts[found] = self.attempts[at[found]]
        return final, attempts

    def todo(
        self, ids: pa.Array | pa.ChunkedArray, done: Ids, retry_failed: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """(which of ``ids`` are still to do (n,) bool, the attempts of each (n,)).

        Not to do: what is done, and what failed for good, unless ``retry_failed``. Transient failures (time-outs)
        are always retried.
        """
        final, attempts = self.look_up(ids)
        wanted: np.ndarray = ~done.mask(ids)
        return wanted if retry_failed else wanted & ~final, attempts


def latest(failures: pa.Table) -> pa.Table:
    """The last failure of each stage and track. failures: with columns stage, track_id and at."""
    if not len(failures):
        return failures
    order = pc.sort_indices(failures, [("stage", "ascending"), ("track_id", "ascending"), ("at", "ascending")])
    rows = failures.take(order)
    last = np.ones(len(rows), bool)
    same = [pc.equal(rows[c][1:], rows[c][:-1]).to_numpy() for c in ("stage", "track_id")]
    last[:-1] = ~(same[0] & same[1])
    return rows.filter(pa.array(last))
