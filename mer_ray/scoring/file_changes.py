"""Which scores of earlier runs are outdated: of files that have changed, that are gone from the searched folders, or
whose path or names were replaced in an edited manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.errors import InputError
from mer_ray.io import address
from mer_ray.io.address import to_path, to_uri
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.ids import Ids, hashed, lookup

NAMES = ("artist", "title", "album")
COLUMNS = ("track_id", "uri", "size", "mtime_ms", "sha256", *NAMES)
MadeOf = Callable[[str, str], set[str]]
"""Of a file's address and the SHA-256 of its scored version: those of versions that differ from it in tags only."""


def _nothing_else(uri: str, sha256: str) -> set[str]:
    return set()


@dataclass
class Void:
    """The ids of outdated scores, and their numbers: of changed files, and of files that are gone.

    unknown: how many scores do not record the version of their file.
    """

    ids: Ids = field(default_factory=Ids)
    changed: int = 0
    gone: int = 0
    unknown: int = 0

    def notes(self) -> Iterator[str]:
        """Lines for the user."""
        figures = ((self.changed, "of files that have changed since"), (self.gone, "of files that are gone"))
        parts = [f"{n:,} {what}" for n, what in figures if n]
        if parts:
            yield f"earlier scores taken out: {', '.join(parts)}"
        if self.unknown:
            yield (
                f"{self.unknown:,} earlier scores do not say which version of their file they are of, and were kept: "
                "remove the file of scores to make them anew"
            )


def find(
    scores: Iterable[pa.Table],
    listed: Iterable[pa.Table],
    folders: Sequence[str],
    keep_gone: bool = False,
    made_of: MadeOf = _nothing_else,
) -> Void:
    """Find outdated scores. Takes 40 bytes of memory a listed file.

    A file counts as changed, too, if its id or its names differ from those of its score.

    Args:
        scores: Of earlier runs, with `COLUMNS`.
        listed: The present files, with uri, size and mtime_ms.
        folders: The searched ones: a file below one of them that is not listed is gone.
        keep_gone: Do not report files that are gone.
        made_of: Gives the versions of a file, by SHA-256, that differ from the scored one in tags only.
    """
    there = _Listed(listed)
    roots = tuple(f"{folder.rstrip('/')}/" for folder in folders)
    void = Void()
    for piece in scores:
        ids = []
        for row in piece.to_pylist():
            # A spreadsheet rounds a time to 1.79597E+12: the bytes decide then.
            versioned = row["size"] is not None and (row["mtime_ms"] is not None or row["sha256"] is not None)
            index = there.find(row)
            if index is not None and there.names[index] != _hash(_names(row)):
                differs = True
                void.changed += 1
            elif index is not None:
                void.unknown += not versioned and there.states[index] != _NOTHING
                differs = versioned and there.states[index] != _hash(_state(row)) and not has_same_audio(row, made_of)
                void.changed += differs
            elif there.has(row):
                # A score from a table of frames has no version, and its file may be listed, too.
                differs = versioned or address.is_object(row["uri"])
                void.changed += differs
                void.unknown += not differs
            else:
                differs = bool(roots) and not keep_gone and str(to_path(row["uri"])).startswith(roots)
                void.gone += differs
            if differs:
                ids.append(row["track_id"])
        void.ids.add(ids)
    return void


def keep_others(
    scores: Iterable[pa.Table],
    where: str,
    model: str,
    listed: Iterable[pa.Table],
    folders: Sequence[str],
    keep_gone: bool = False,
) -> None:
    """Raises InputError where there are another model's scores of what this command does not list.

    A file has one model's scores: these would be lost.

    Args:
        scores: With `COLUMNS` and ``model``.
        where: What holds them, for the message.
        model: Of this command. The rest is as `find` takes it.
    """
    there, lost, old = _Listed(listed), 0, set[str]()
    roots = tuple(f"{folder.rstrip('/')}/" for folder in folders)
    for piece in scores:
        for row in piece.filter(pc.not_equal(piece["model"], model)).to_pylist():
            gone = bool(roots) and not keep_gone and str(to_path(row["uri"])).startswith(roots)
            if not gone and there.find(row) is None and not there.has(row):
                lost += 1
                old.add(row["model"])
    if lost:
        raise InputError(
            f"{where} holds scores by {one_line(', '.join(sorted(old)), 200)} of {lost:,} tracks that "
            f"are not in CATALOG, and the model is now {model}",
            "give the --model that made them, or another --out; or score all of them in one command",
        )


def has_same_audio(row: dict[str, Any], made_of: MadeOf = _nothing_else) -> bool:
    """Whether a file, whose size or time differs, has the scored version's bytes, or one of ``made_of``'s versions."""
    path, scored = to_path(row["uri"]), row["sha256"]
    try:
        tagged = made_of(to_uri(path.resolve()), scored) if scored else set()
        return bool(
            scored and (tagged or path.stat().st_size == row["size"]) and file_digest(path) in {scored, *tagged}
        )
    except OSError:
        return False


class _Listed:
    """The present files, as hashes of their size and time (``states``) and of their ``names``, in the same order."""

    def __init__(self, listed: Iterable[pa.Table]) -> None:
        parts: list[list[np.ndarray]] = [[np.zeros(0, np.uint64)] for _ in range(5)]
        for table in listed:
            rows = table.to_pylist()
            for part, text in zip(parts, (_pair, _state, _names, _uri, _id), strict=True):
                part.append(hashed(map(text, rows)))
        pairs, states, names, uris, ids = map(np.concatenate, parts)
        order = np.argsort(pairs, kind="stable")
        self._pairs, self.states, self.names = pairs[order], states[order], names[order]
        self._either = np.sort(np.concatenate([uris, ids]))

    def find(self, row: dict[str, Any]) -> int | None:
        """The index of the file with the same id."""
        return _at(self._pairs, _hash(_pair(row)))

    def has(self, row: dict[str, Any]) -> bool:
        """Whether the file is listed with any id, or the id with any file."""
        return any(_at(self._either, _hash(text(row))) is not None for text in (_uri, _id))


def _at(keys: np.ndarray, key: int) -> int | None:
    [index], [there] = lookup(keys, np.array([key], np.uint64))
    return int(index) if there else None


def _pair(row: dict[str, Any]) -> str:
    return f"{row['track_id']}\x1f{row['uri']}"


def _uri(row: dict[str, Any]) -> str:
    return f"file {row['uri']}"


def _id(row: dict[str, Any]) -> str:
    return f"id {row['track_id']}"


def _names(row: dict[str, Any]) -> str:
    # As the table stores them; in a sheet, an empty text and null are the same.
    return "\x1f".join(one_line(row[name] or "") for name in NAMES)


def _state(row: dict[str, Any]) -> str:
    return f"{row['size']} {row['mtime_ms']}"


def _hash(text: str) -> int:
    return int(hashed([text])[0])


_NOTHING = _hash(_state({"size": None, "mtime_ms": None}))
