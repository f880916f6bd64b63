"""The log by which tags are undone: JSON lines, each on disk before its file is replaced.

    {"temporary": URI}                      a copy that is being made; removed later, if a kill has left it
    {"uri": URI, "former": {KEY: [TEXT] or null}, "wrote": {...}, "created": [KEY] or null, "sha256": ...,
        "scored": ...}
    {"undoing": URI, "sha256": ..., "scored": ...}, {"undone": URI}
    {"moved": URI, "to": URI}               by beets

sha256: of the file as mer-ray wrote it. scored: SHA-256 of the version that the scores are of, which has the same
audio; missing in logs of earlier versions, null where that is not known. created: if there was no tag before,
the other fields that the new one has (from an ID3v1 tag).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_ray.errors import InputError, to_mer_ray_error
from mer_ray.io.address import is_local, to_path, to_uri
from mer_ray.io.identity import one_line
from mer_ray.scoring.tagging.fields import Values, is_own

SUFFIX = ".tags.jsonl"
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part(\.[^/]*)?")


@dataclass
class Former:
    """What a file's fields were before mer-ray's first change that is not undone, and all that it wrote since."""

    values: Values = field(default_factory=dict)
    wrote: dict[str, list[list[str] | None]] = field(default_factory=dict)
    created: list[str] | None = None


def beside(scores: str) -> Path:
    """Where the log of a file of scores on this machine is, unless the user has chosen another place."""
    return Path(f"{to_path(scores).expanduser().absolute()}{SUFFIX}")


class Log:
    """An opened log. Only one command at a time uses it."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        """Raises InputError where it is no log, or another command is using it.

        writes: False changes nothing on disk, and a missing log is empty.
        """
        self.former: dict[str, Former] = {}
        self._made: dict[tuple[str, str], set[str]] = {}  # by URI and the version that was scored
        self._scored: dict[str, str] = {}
        self._name = one_line(str(path))
        self._file: Any = None
        if path.exists() and not path.is_file():
            raise InputError(f"the log {self._name} is not a file", "choose another with --log")
        if writes:
            self._file = path.open("ab+")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise InputError(f"another command is using {self._name}", "wait until it has ended") from error
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1  # the rest is half a line, whose file was not replaced
        left, number = None, 0
        try:
            for line in data[:whole].splitlines():
                number += 1
                left = self._take(json.loads(line)) or left
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.close()
            raise InputError(
                f"{self._name}, line {number}: is no line of a log of tags", "give what `mer-ray tag` wrote"
            ) from error
        if writes:
            if whole < len(data):
                self._file.truncate(whole)
            if left is not None and _TEMPORARY.fullmatch(left.name):
                with suppress(OSError):
                    left.unlink(missing_ok=True)

    def _take(self, line: dict[str, Any]) -> Path | None:
        """Returns the path of a temporary file."""
        if "temporary" in line:
            return to_path(line["temporary"])
        if "undone" in line:
            self.former.pop(line["undone"], None)
            return None
        if "moved" in line:
            self._follow(line["moved"], line["to"])
            return None
        uri = line["undoing"] if "undoing" in line else line["uri"]
        if "uri" in line:
            self._scored[uri] = line.get("scored") or ""
        self._made.setdefault((uri, line.get("scored") or ""), set()).add(line["sha256"])
        if "uri" in line:
            if not (line["created"] is None or _are_texts(line["created"])):
                raise ValueError(line)
            former = self.former.setdefault(uri, Former(created=line["created"]))
            for key, values in line["former"].items():
                if not is_own(key) or not (values is None or _are_texts(values)):
                    raise ValueError(key)
                former.values.setdefault(key, values)
                former.wrote.setdefault(key, []).append(line["wrote"].get(key))
        return None

    def _follow(self, source: str, to: str) -> None:
        if source in self.former:
            self.former[to] = self.former.pop(source)
        if source in self._scored:
            scored = self._scored[to] = self._scored.pop(source)
            self._made[to, scored] = self._made.pop((source, scored), set())

    def made_of(self, uri: str, scored: str | None) -> set[str]:
        """SHA-256 of all versions that mer-ray made of the scored one, which differ from it in tags only.

        scored: None for those of which it is not known what they were made of.
        """
        return self._made.get((uri, scored or ""), set())

    def scored_of(self, uri: str, sha256: str) -> str | None:
        """The scored version that this one was made of, if it is the last one that was tagged; else None."""
        scored = self._scored.get(uri)
        return scored if scored and sha256 in {scored, *self.made_of(uri, scored)} else None

    def write(self, durable: bool = True, **line: Any) -> None:
        """Append a line. durable: wait until it is on disk. Raises WorkspaceError, which ends the command."""
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise to_mer_ray_error(OSError(error.errno, error.strerror, self._name)) from error
        self._take(line)

    def close(self) -> None:
        """Release it."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, which `write` has told
                self._file.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_undo(self) -> Iterator[tuple[str, Former]]:
        """Files and their former values, the last one first."""
        yield from reversed(list(self.former.items()))


def made_of(scores: str) -> Callable[[str, str], set[str]]:
    """`Log.made_of` of the log beside a file of scores; finds nothing without a log that can be read."""
    if is_local(scores):
        with suppress(InputError, OSError), Log(beside(scores), writes=False) as log:
            return log.made_of
    return lambda uri, scored: set()


def moved(log: Path, source: Path, to: Path) -> None:
    """Note in a log, if there is one, that a file was moved. Raises InputError where it is no log."""
    if not log.is_file():
        return
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 1))
        is_whole = file.read() in (b"", b"\n")
    if not is_whole:
        Log(log).close()  # which removes half a line
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = {"moved": to_uri(source.resolve()), "to": to_uri(to.resolve())}
        file.write(json.dumps(line).encode() + b"\n")


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
