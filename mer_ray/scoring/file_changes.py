"""Which scores of earlier runs are of files that have changed since, or that are gone from the folders searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.audio.location import to_path
from mer_ray.identity import digest
from mer_ray.ids import Ids

COLUMNS = ("track_id", "uri", "size", "mtime_ms")


@dataclass
class Void:
    """The ids of scores that are void, and how many of them: of changed files, and of files that are gone.

    unknown: scores that do not say which version of their file they are of.
    """

    ids: Ids = field(default_factory=Ids)
    changed: int = 0
    gone: int = 0
    unknown: int = 0

    def notes(self) -> Iterator[str]:
        """What was found, in lines."""
        figures = ((self.changed, "of files that have changed since"), (self.gone, "of files that are gone"))
        said = [f"{n:,} {what}" for n, what in figures if n]
        if said:
            yield f"earlier scores taken out: {', '.join(said)}"
        if self.unknown:
            yield (
                f"{self.unknown:,} earlier scores do not say which version of their file they are of, and were kept: "
                "remove the file of scores to make them anew"
            )


def find(
    scores: Iterable[pa.Table], listed: Iterable[pa.Table], folders: Sequence[str], keep_gone: bool = False
) -> Void:
    """scores: of earlier runs, with `COLUMNS`. listed: the files there are now, with uri, size and mtime_ms.

    folders: those that were searched: a file below one of them that is not listed is gone.
    Of ``listed``, 16 bytes a file are held.
    """
    keys, states = _listed(listed)
    roots = tuple(f"{folder.rstrip('/')}/" for folder in folders)
    found = Void()
    for piece in scores:
        ids = []
        for row in piece.to_pylist():
            at = int(np.searchsorted(keys, _hash(row["uri"]))) if len(keys) else 0
            if at < len(keys) and keys[at] == _hash(row["uri"]):
                if row["size"] is None or row["mtime_ms"] is None:
                    found.unknown += states[at] != _NOTHING
                    continue
                differs = states[at] != _hash(_state(row))
                found.changed += differs
            else:
                differs = bool(roots) and not keep_gone and str(to_path(row["uri"])).startswith(roots)
                found.gone += differs
            if differs:
                ids.append(row["track_id"])
        found.ids.add(ids)
    return found


def _listed(listed: Iterable[pa.Table]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes of the addresses, sorted; of size and time of each)."""
    keys, states = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for table in listed:
        rows = table.to_pylist()
        keys.append(np.array([_hash(r["uri"]) for r in rows], np.uint64))
        states.append(np.array([_hash(_state(r)) for r in rows], np.uint64))
    key, state = np.concatenate(keys), np.concatenate(states)
    order = np.argsort(key, kind="stable")
    return key[order], state[order]


def _state(row: dict[str, Any]) -> str:
    return f"{row['size']} {row['mtime_ms']}"


def _hash(text: str) -> int:
    return int(digest(text.encode())[:16], 16)


_NOTHING = _hash(_state({"size": None, "mtime_ms": None}))
