"""What has changed in the source since the last ``collect``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io.changes import BATCH, Changes
from mer_ray.io.identity import normalise
from mer_ray.io.ids import Ids, hashed, lookup
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace

COMPARED = [name for name in SCHEMAS["tracks"].names if name not in ("source", "fetched_at")]


def compare(workspace: Workspace, new: Callable[[], Iterator[pa.Table]]) -> Changes:
    """How the tracks that the source has now differ from the stored ones.

    new: yields the present rows of ``tracks``, batch by batch. Takes 16 bytes a track of both.
    """
    keys, contents = _digests(workspace.batches("tracks", COMPARED, BATCH))
    changes, differing, fresh, still = Changes(), set[str](), set[str](), np.zeros(len(keys), bool)
    for batch in new():
        own, content = _digests([batch.select(COMPARED)], sort=False)
        if not len(keys):
            changes.new += len(own)
            continue
        at, known = lookup(keys, own)
        still[at[known]] = True
        differing.update(batch["track_id"].filter(pa.array(known & (contents[at] != content))).to_pylist())
        fresh.update(batch["track_id"].filter(pa.array(~known)).to_pylist())
    gone = keys[~still]
    for batch in workspace.batches("tracks", ["track_id"]) if len(gone) else ():
        ids = batch["track_id"].to_pylist()
        changes.gone.update(i for i, is_gone in zip(ids, lookup(gone, hashed(ids))[1], strict=True) if is_gone)
    stored = _rows(differing | changes.gone, workspace.batches("tracks", COMPARED, BATCH))
    found = _rows(differing | (fresh if len(gone) else set()), (batch.select(COMPARED) for batch in new()))
    changes.renamed = _same_music([stored[i] for i in changes.gone], [found[i] for i in fresh] if len(gone) else [])
    pairs = {**{i: i for i in differing}, **changes.renamed}
    for before, after in pairs.items():
        for name in COMPARED:
            if found[after][name] != stored[before][name]:
                changes.fields.setdefault(name, set()).add(after)
    changes.gone -= changes.renamed.keys()
    changes.new += len(fresh) - len(changes.renamed)
    changes.unchanged = int(still.sum()) + len(changes.renamed)
    return changes


def _same_music(gone: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> dict[str, str]:
    """Old id → new id of tracks that only changed their name: with the same path, or else the same artist and title."""
    found: dict[str, str] = {}
    for named in (_path, _name):
        rows: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        for side, listed, taken in zip(rows, (gone, fresh), (set(found), set(found.values())), strict=True):
            for row in listed:
                if (name := named(row)) and row["track_id"] not in taken:
                    side.setdefault(name, []).append(row["track_id"])
        before, after = rows
        found |= {i[0]: after[n][0] for n, i in before.items() if len(i) == 1 and len(after.get(n, ())) == 1}
    return found


def _path(row: dict[str, Any]) -> str:
    return row["uri"] or ""


def _name(row: dict[str, Any]) -> str:
    artist, title = normalise(row["artist"]), normalise(row["title"])
    return f"{artist}\x1f{title}" if artist and title else ""


def _digests(batches: Iterable[pa.Table], sort: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(a hash of each row's id, a hash of its content), uint64 (n,); by default ordered by the first."""
    keys, contents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for batch in batches:
        rows = batch.to_pylist()
        keys.append(hashed(row["track_id"] for row in rows))
        contents.append(hashed(json.dumps(row, sort_keys=True) for row in rows))
    key, content = np.concatenate(keys), np.concatenate(contents)
    order = np.argsort(key, kind="stable") if sort else slice(None)
    return key[order], content[order]


def _rows(ids: set[str], batches: Iterator[pa.Table]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if ids:
        wanted = Ids(ids)
        for batch in batches:
            found |= {r["track_id"]: r for r in batch.filter(pa.array(wanted.mask(batch["track_id"]))).to_pylist()}
    return found
