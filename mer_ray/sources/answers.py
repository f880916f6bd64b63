"""A service's raw answers, kept for good: what was asked once is not asked again, and tables can be made anew offline.

A folder of ``.jsonl.gz`` files, one per process that asked; ``zcat`` shows them, a line an answer. Each line is a gzip
member of its own with its length and its question's hash in the header (RFC 1952, 2.3.1.1, as BGZF does it), so that an
answer is on disk as soon as it came, the files are searched without unpacking them, and what a killed process left half
written is seen for what it is.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from mer_ray.errors import WorkspaceError
from mer_ray.io.identity import digest
from mer_ray.io.tables import Workspace

SUFFIX = ".jsonl.gz"
SYNC_S = 5.0  # what a power cut may cost; a killed process costs nothing
REMOTE_BATCH = 200
REMOTE_BATCH_S = 10.0
"""An object store takes whole objects only: there, so many answers or seconds are lost with a killed process."""

_FIXED = struct.Struct("<4BI2BH")  # gzip's header: magic, method, flags, time, extra flags, system, length of the extra
_EXTRA = struct.Struct("<2sH16sI")  # our subfield of it: its name and length, the question's hash, the member's length
_NAME = b"MR"
_HEADER = _FIXED.size + _EXTRA.size


class Answer(NamedTuple):
    """text: as the service sent it. at: when, UTC."""

    text: str
    at: datetime


def question_hash(question: Mapping[str, Any]) -> bytes:
    """16 bytes that stand for a question (its parameters, without keys and secrets)."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False)
    return bytes.fromhex(digest(text.encode("utf-8", "surrogatepass"))[:32])


class Answers:
    """The answers in a folder, by their questions. One writer and any number of readers per process; thread-safe.

    Used as a context: leaving it makes what was put durable. read: whether to look at what there is.
    """

    def __init__(self, uri: str | os.PathLike[str], read: bool = True) -> None:
        self._folder = Workspace(uri)
        self._files: list[str] = []
        self._index: dict[bytes, tuple[int, int, int]] = {}  # question → number of the file, offset, length
        self._lock = threading.Lock()
        self._sink: _Sink | None = None
        self.torn = 0
        if read:
            self.reload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._sink is not None:
                self._sink.close()
                self._sink = None

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, question: Mapping[str, Any]) -> bool:
        return question_hash(question) in self._index

    def reload(self) -> None:
        """See what this and other processes have put since."""
        with self._lock:
            if isinstance(self._sink, _RemoteSink):
                self._sink.close()  # what still waits there is to be seen as well
        files, index, torn = [], {}, 0
        for number, name in enumerate(n for n in self._folder.names() if n.endswith(SUFFIX)):
            files.append(name)
            for key, offset, length in self._members(name):
                if length < 0:
                    torn += 1
                else:
                    index[key] = (number, offset, length)  # names begin with a time: the last answer counts
        with self._lock:
            self._files, self._index, self.torn = files, index, torn

    def get(self, question: Mapping[str, Any]) -> Answer | None:
        """The last answer to a question; None if there is none that `reload` has seen. Raises WorkspaceError."""
        with self._lock:
            place = self._index.get(question_hash(question))
            if place is None:
                return None
            number, offset, length = place
            name = self._files[number]
        try:
            with self._folder.fs.open_input_file(self._folder.path(name)) as file:
                record = json.loads(zlib.decompress(file.read_at(length, offset), wbits=31))
            return Answer(record["answer"], datetime.fromisoformat(record["at"]))
        except (OSError, zlib.error, ValueError, KeyError) as error:
            raise WorkspaceError(
                f"{self._folder.path(name)} is damaged at byte {offset}", "remove it; its answers are asked for again"
            ) from error

    def put(self, question: Mapping[str, Any], text: str) -> None:
        """Keep an answer: on a local disk it survives the end of this process from now on. Raises WorkspaceError."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"asked": dict(question), "at": at, "answer": text}, ensure_ascii=False) + "\n"
        member = _member(question_hash(question), line.encode("utf-8", "surrogatepass"))
        with self._lock:
            if self._sink is None:
                self._sink = _LocalSink(self._folder) if self._folder.is_local else _RemoteSink(self._folder)
            self._sink.write(member)

    def size_bytes(self) -> int:
        """Bytes of all answers on disk."""
        return sum(
            self._folder.fs.get_file_info(self._folder.path(name)).size
            for name in self._folder.names()
            if name.endswith(SUFFIX)
        )

    def _members(self, name: str) -> list[tuple[bytes, int, int]]:
        """(question, offset, length) of each answer in a file; a length of -1 where it breaks off."""
        found: list[tuple[bytes, int, int]] = []
        offset = 0
        with self._folder.fs.open_input_file(self._folder.path(name)) as file:
            size = file.size()
            while offset < size:
                key, length = _read_header(file.read_at(min(_HEADER, size - offset), offset))
                if not length or offset + length > size:
                    found.append((key, offset, -1))
                    break
                found.append((key, offset, length))
                offset += length
        return found


def _member(key: bytes, data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    length = _HEADER + len(body) + 8
    header = _FIXED.pack(0x1F, 0x8B, 8, 4, 0, 0, 255, _EXTRA.size) + _EXTRA.pack(_NAME, _EXTRA.size - 4, key, length)
    return header + body + struct.pack("<2I", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _read_header(data: bytes) -> tuple[bytes, int]:
    """(question, length); a length of 0 where this is no header of ours."""
    if len(data) < _HEADER or data[:4] != b"\x1f\x8b\x08\x04":
        return b"", 0
    name, _, key, length = _EXTRA.unpack(data[_FIXED.size : _HEADER])
    return key, length if name == _NAME else 0


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}{SUFFIX}"


class _Sink(Protocol):
    def write(self, member: bytes) -> None:
        """Take an answer."""

    def close(self) -> None:
        """Make all of them durable."""


class _LocalSink:
    """Appends to one file; the operating system has each answer at once, the disk some seconds later."""

    def __init__(self, folder: Workspace) -> None:
        self._path = Path(folder.path(_new_name()))
        self._synced = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            raise self._refused(error) from error

    def write(self, member: bytes) -> None:
        start = self._file.tell()
        try:
            if self._file.write(member) != len(member):
                raise OSError(28, "No space left on device")
            if time.monotonic() - self._synced > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(start)  # a torn answer would hide the ones after it
                self._file.seek(start)
            raise self._refused(error) from error

    def close(self) -> None:
        try:
            with self._file:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"cannot write {self._path}: {error.strerror}",
            "free some space or choose another --workspace, then run again",
        )


class _RemoteSink:
    """Writes an object for every so many answers, or seconds."""

    def __init__(self, folder: Workspace) -> None:
        self._folder = folder
        self._waiting: list[bytes] = []
        self._since = time.monotonic()

    def write(self, member: bytes) -> None:
        self._waiting.append(member)
        if len(self._waiting) >= REMOTE_BATCH or time.monotonic() - self._since > REMOTE_BATCH_S:
            self.close()

    def close(self) -> None:
        if self._waiting:
            self._folder.write_bytes(b"".join(self._waiting), _new_name())
        self._waiting.clear()
        self._since = time.monotonic()
