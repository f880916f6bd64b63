"""Tracks with audio whose file or request has changed since, which `stages.acquire` gets again.

A file has changed if its size or modification time differs. A worker then hashes it, and what was made from the same
bytes stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.audio.providers import searches
from mer_ray.io import changes
from mer_ray.io.address import is_local, to_path
from mer_ray.io.identity import digest
from mer_ray.io.ids import hashed, lookup
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace

OWN = ("file", "folder")
"""Providers that use the user's files where they lie."""
OF_NAMES = ("artist", "title", "album", "spotify_id", "duration_s")
THREADS = 16  # that read files' sizes and times, mostly from network drives
BATCH = 50_000
"""Tracks whose rows are replaced together: each replacement reads the tables once."""


def request(track: Mapping[str, Any], searched: bool) -> str:
    """A hash of the fields of a track that its audio was found by, 16 digits.

    track: a row of ``tracks``. searched: whether a provider searched by names.
    """
    fields = [track["uri"], *(track.get(name) for name in OF_NAMES if searched)]
    return digest(repr(fields).encode())[:16]


def state(uri: str) -> tuple[int | None, int | None]:
    """(bytes, modification time in ns since 1970) of a local file; Nones for anything else."""
    if not is_local(uri):
        return None, None
    try:
        found = os.stat(to_path(uri))  # noqa: PTH116
    except (OSError, ValueError):
        return None, None
    return found.st_size, found.st_mtime_ns


class Known:
    """For each track with audio: its request, its provider, and whether its file is unchanged (30 bytes a track)."""

    def __init__(self, workspace: Workspace) -> None:
        keys, requests, searched, same = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [_NONE], [_NONE]
        wanted = ["track_id", "uri", "provider", "request", "size", "mtime_ns"]
        with ThreadPoolExecutor(THREADS) as threads:
            for audio in workspace.batches("audio", wanted):
                rows = audio.to_pylist()
                now = threads.map(state, [r["uri"] for r in rows], chunksize=256)
                keys.append(hashed(r["track_id"] for r in rows))
                requests.append(np.array([int(r["request"] or "0", 16) for r in rows], np.uint64))
                searched.append(np.array([searches(r["provider"]) for r in rows], bool))
                same.append(np.array([_is_same(r, at) for r, at in zip(rows, now, strict=True)], bool))
        order = np.argsort(key := np.concatenate(keys), kind="stable")
        self._keys = key[order]
        self._requests, self._searched, self._same = (
            np.concatenate(parts)[order] for parts in (requests, searched, same)
        )

    def __len__(self) -> int:
        return len(self._keys)

    def differ(self, tracks: pa.Table) -> np.ndarray:
        """Which of these rows of ``tracks`` have audio whose request or file has changed, (n,) bool."""
        out = np.zeros(len(tracks), bool)
        at, known = lookup(self._keys, hashed(tracks["track_id"].to_pylist()))
        for i in np.flatnonzero(known):
            track = {name: tracks[name][i].as_py() for name in ("uri", *OF_NAMES)}
            requested = request(track, bool(self._searched[at[i]]))
            out[i] = not self._same[at[i]] or self._requests[at[i]] not in (0, int(requested, 16))
        return out


class Again:
    """Replaces rows of ``audio``, and removes those of tracks that no longer have any, batch by batch.

    Rows made from the old bytes are deleted first, so that after a kill the next run finds the difference again.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._rows, self._gone = workspace, dict[str, dict[str, Any]](), set[str]()
        self.replaced = self.same = self.gone = 0

    def add(self, rows: Sequence[dict[str, Any]], gone: Sequence[str]) -> None:
        """rows: of ``audio``. gone: ids of tracks without audio."""
        self._rows |= {r["track_id"]: r for r in rows}
        self._gone.update(gone)
        if len(self._rows) + len(self._gone) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been added."""
        if not (self._rows or self._gone):
            return
        work, ids = self._workspace, {*self._rows, *self._gone}
        before = {r["track_id"]: r for r in work.find("audio", sorted(ids), ["track_id", "uri", "sha256"]).to_pylist()}
        new = [i for i, r in self._rows.items() if i not in before or before[i]["sha256"] != r["sha256"]]
        moved = [i for i, r in self._rows.items() if i not in before or before[i]["uri"] != r["uri"]]
        void, keys = {*new, *self._gone}, changes.precomputed(work)
        work.drop("scores", void | set(moved))
        for name in work.names("features"):
            work.drop(features_table(name), void | set(moved) if keys.get(name) == "path" else void)
        work.drop("failures", void, changes.of_decoding())
        work.exchange("audio", ids, list(self._rows.values()))
        self.replaced += len(new)
        self.same += len(self._rows) - len(new)
        self.gone += len(self._gone)
        self._rows, self._gone = {}, set()

    def notes(self) -> Iterator[str]:
        """What has changed, in a line."""
        figures = ((self.replaced, "have other audio now"), (self.gone, "have none any more"))
        parts = [f"{n:,} {what}" for n, what in (*figures, (self.same, "the same as before")) if n]
        if parts:
            n = self.replaced + self.gone + self.same
            yield f"{n:,} tracks whose path or file had changed were looked at again: {', '.join(parts)}"


def _is_same(row: Mapping[str, Any], now: tuple[int | None, int | None]) -> bool:
    """Whether a file is as ``audio`` has it. Older versions recorded neither size nor time."""
    then = row["size"], row["mtime_ns"]
    return then == now or (then == (None, None) and row["provider"] not in OWN)


_NONE = np.zeros(0, bool)
