"""Audio that is there already, looked at again: whether its file or what it was asked for has changed since.

For files, size and time of last change decide; where they differ, a worker hashes the file. What was made from the same
bytes stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io import objects
from mer_ray.io.address import is_url, to_path
from mer_ray.io.identity import digest
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace
from mer_ray.stages import changes

SEARCHED = ("folder", "savify")
"""Providers that find audio by names; the others take the track's own address."""
OWN = ("file", "folder")
"""Providers that leave files where the user has them."""
OF_NAMES = ("artist", "title", "album", "spotify_id", "duration_s")
THREADS = 16  # that ask for files' sizes and times, of a server for the most part
AT_ONCE = 50_000
"""Tracks whose rows are put in their places together, for each time that the tables are gone through."""


def request(track: Mapping[str, Any], provider: str) -> str:
    """A hash of what of a track its audio was found by, 16 digits. track: a row of ``tracks``."""
    asked = [track["uri"], *(track.get(name) for name in OF_NAMES if provider in SEARCHED)]
    return digest(repr(asked).encode())[:16]


def state(uri: str) -> tuple[int | None, int | None]:
    """(bytes, ns since 1970 of the last change) of a local file; Nones for anything else."""
    if is_url(uri) or objects.scheme(uri) not in ("", "file"):
        return None, None
    try:
        found = os.stat(to_path(uri))  # noqa: PTH116
    except (OSError, ValueError):
        return None, None
    return found.st_size, found.st_mtime_ns


class Known:
    """Of each track with audio: what it was asked for, by which provider, and whether its file is as it was.

    Some 30 bytes a track are held.
    """

    def __init__(self, workspace: Workspace) -> None:
        keys, requests, searched, same = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [_NONE], [_NONE]
        wanted = ["track_id", "uri", "provider", "request", "size", "mtime_ns"]
        with ThreadPoolExecutor(THREADS) as threads:
            for audio in workspace.batches("audio", wanted):
                rows = audio.to_pylist()
                now = threads.map(state, [r["uri"] for r in rows], chunksize=256)
                keys.append(_hashes(r["track_id"] for r in rows))
                requests.append(np.array([int(r["request"] or "0", 16) for r in rows], np.uint64))
                searched.append(np.array([r["provider"] in SEARCHED for r in rows], bool))
                same.append(np.array([_is_same(r, at) for r, at in zip(rows, now, strict=True)], bool))
        order = np.argsort(key := np.concatenate(keys), kind="stable")
        self._keys = key[order]
        self._requests, self._searched, self._same = (
            np.concatenate(parts)[order] for parts in (requests, searched, same)
        )

    def __len__(self) -> int:
        return len(self._keys)

    def differ(self, tracks: pa.Table) -> np.ndarray:
        """Which of these rows of ``tracks`` have audio that is to be looked at again, (n,) bool."""
        out = np.zeros(len(tracks), bool)
        if not len(self):
            return out
        own = _hashes(tracks["track_id"].to_pylist())
        at = np.minimum(np.searchsorted(self._keys, own), len(self) - 1)
        for i in np.flatnonzero(self._keys[at] == own):
            track = {name: tracks[name][i].as_py() for name in ("uri", *OF_NAMES)}
            asked = request(track, SEARCHED[0] if self._searched[at[i]] else "")
            out[i] = not self._same[at[i]] or self._requests[at[i]] not in (0, int(asked, 16))
        return out


class Again:
    """Puts in place what looking again has brought: rows of ``audio``, or the ids of tracks whose audio is lost now.

    What followed from other bytes goes first, so that a kill in between leaves a difference that is found again.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._held, self._lost = workspace, dict[str, dict[str, Any]](), set[str]()
        self.replaced = self.same = self.lost = 0

    def add(self, rows: Sequence[dict[str, Any]], lost: Sequence[str]) -> None:
        """rows: of ``audio``."""
        self._held |= {r["track_id"]: r for r in rows}
        self._lost.update(lost)
        if len(self._held) + len(self._lost) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Put in place what has been added."""
        if not (self._held or self._lost):
            return
        work, ids = self._workspace, {*self._held, *self._lost}
        before = {r["track_id"]: r for r in work.find("audio", sorted(ids), ["track_id", "uri", "sha256"]).to_pylist()}
        new = [i for i, r in self._held.items() if i not in before or before[i]["sha256"] != r["sha256"]]
        moved = [i for i, r in self._held.items() if i not in before or before[i]["uri"] != r["uri"]]
        void, keys = {*new, *self._lost}, changes.precomputed(work)
        work.drop("scores", void | set(moved))
        for name in work.names("features"):
            work.drop(features_table(name), void | set(moved) if keys.get(name) == "path" else void)
        work.drop("failures", void, changes.of_decoding())
        work.exchange("audio", ids, list(self._held.values()))
        self.replaced, self.same, self.lost = (
            self.replaced + len(new),
            self.same + len(self._held) - len(new),
            self.lost + len(self._lost),
        )
        self._held, self._lost = {}, set()

    def notes(self) -> Iterator[str]:
        """What was found, in a line."""
        figures = ((self.replaced, "have other audio now"), (self.lost, "have none any more"))
        said = [f"{n:,} {what}" for n, what in (*figures, (self.same, "the same as before")) if n]
        if said:
            n = self.replaced + self.lost + self.same
            yield f"{n:,} tracks whose path or file had changed were looked at again: {', '.join(said)}"


def _is_same(row: Mapping[str, Any], now: tuple[int | None, int | None]) -> bool:
    """Whether a file is as ``audio`` has it. An older version wrote none down: the user's own may be others."""
    then = row["size"], row["mtime_ns"]
    return then == now or (then == (None, None) and row["provider"] not in OWN)


_NONE = np.zeros(0, bool)


def _hashes(ids: Any) -> np.ndarray:
    return np.array([int(digest(i.encode())[:16], 16) for i in ids], np.uint64)
