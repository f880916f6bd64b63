"""A permanent cache of a service's raw responses: nothing is requested twice, and tables can be rebuilt offline.

A folder of ``.jsonl.gz`` files, one per process that made requests; ``zcat`` shows them, a line per response. Each line
is a gzip member with its length and its request's hash in the header (RFC 1952, 2.3.1.1, as in BGZF), so that a
response is on disk as soon as it arrives, files are searched without decompression, and incomplete members of killed
processes are recognised.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from mer_ray.errors import WorkspaceError
from mer_ray.io.identity import digest
from mer_ray.io.store import Store

SUFFIX = ".jsonl.gz"
SYNC_S = 5.0  # lost by a power cut; a killed process loses nothing
REMOTE_BATCH = 200
REMOTE_BATCH_S = 10.0
"""An object store cannot append, so there a killed process loses up to so many responses or seconds."""

_FIXED = struct.Struct("<4BI2BH")  # gzip's header: magic, method, flags, time, extra flags, system, length of the extra
_EXTRA = struct.Struct("<2sH16sI")  # its subfield: name and length, the request's hash, the member's length
_NAME = b"MR"
_HEADER = _FIXED.size + _EXTRA.size

Request = Mapping[str, Any]
"""The parameters of a request, without keys and secrets."""


class Response(NamedTuple):
    """text: unchanged. at: when it was received, UTC."""

    text: str
    at: datetime


def request_hash(request: Request) -> bytes:
    """16 bytes, independent of the order of the parameters."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return bytes.fromhex(digest(text.encode("utf-8", "surrogatepass"))[:32])


class ResponseCache:
    """The responses in a folder, by their requests. Any number of processes read and write it; thread-safe.

    A context manager: at its end, all responses are durable.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self._folder = Store(uri)
        self._files: list[str] = []
        self._index: dict[bytes, tuple[int, int, int]] = {}  # request → number of the file, offset, length
        self._lock = threading.Lock()
        self._writer: _LocalWriter | _RemoteWriter | None = None
        self._ended = False
        self.reload()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._ended = True
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, request: Request) -> bool:
        return request_hash(request) in self._index

    def reload(self) -> None:
        """Index the responses that this and other processes have added."""
        with self._lock:
            if isinstance(self._writer, _RemoteWriter):
                self._writer.close()  # writes its batch
        files = [name for name in self._folder.names() if name.endswith(SUFFIX)]
        index = {
            key: (number, offset, length)  # names begin with a time: the last response counts
            for number, name in enumerate(files)
            for key, offset, length in self._members(name)
        }
        with self._lock:
            self._files, self._index = files, index

    def get(self, request: Request) -> Response | None:
        """The last response to a request; None if there was none at the last `reload`. Raises WorkspaceError."""
        with self._lock:
            position = self._index.get(request_hash(request))
            if position is None:
                return None
            number, offset, length = position
            name = self._files[number]
        try:
            with self._folder.fs.open_input_file(self._folder.path(name)) as file:
                record = json.loads(zlib.decompress(file.read_at(length, offset), wbits=31))
            return Response(record["answer"], datetime.fromisoformat(record["at"]))
        except (OSError, zlib.error, ValueError, KeyError) as error:
            raise WorkspaceError(
                f"{self._folder.path(name)} is damaged at byte {offset}", "remove it; its answers are asked for again"
            ) from error

    def put(self, request: Request, text: str) -> None:
        """Store a response: on a local disk, it now survives the end of this process. Raises WorkspaceError."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"asked": dict(request), "at": at, "answer": text}, ensure_ascii=False) + "\n"
        member = _member(request_hash(request), line.encode("utf-8", "surrogatepass"))
        with self._lock:
            if self._writer is None:
                self._writer = (_LocalWriter if self._folder.is_local else _RemoteWriter)(self._folder)
            self._writer.write(member)
            if self._ended:  # the response to a request that was under way at the end
                self._close()

    def size_bytes(self) -> int:
        """Bytes of all responses, as they are stored."""
        names = [name for name in self._folder.names() if name.endswith(SUFFIX)]
        return sum(self._folder.fs.get_file_info(self._folder.path(name)).size for name in names)

    def _members(self, name: str) -> Iterator[tuple[bytes, int, int]]:
        """(request, offset, length) of each response in a file, up to an incomplete one."""
        offset = 0
        with self._folder.fs.open_input_file(self._folder.path(name)) as file:
            size = file.size()
            while offset < size:
                key, length = _read_header(file.read_at(min(_HEADER, size - offset), offset))
                if not length or offset + length > size:
                    return
                yield key, offset, length
                offset += length


def _member(key: bytes, data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(data) + deflate.flush()
    length = _HEADER + len(body) + 8
    header = _FIXED.pack(0x1F, 0x8B, 8, 4, 0, 0, 255, _EXTRA.size) + _EXTRA.pack(_NAME, _EXTRA.size - 4, key, length)
    return header + body + struct.pack("<2I", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _read_header(data: bytes) -> tuple[bytes, int]:
    """(request, length); a length of 0 for another header."""
    if len(data) < _HEADER or data[:4] != b"\x1f\x8b\x08\x04":
        return b"", 0
    name, _, key, length = _EXTRA.unpack(data[_FIXED.size : _HEADER])
    return key, length if name == _NAME else 0


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}{SUFFIX}"


class _LocalWriter:
    """Appends to one file: each response is flushed immediately, and synced to the disk some seconds later."""

    def __init__(self, folder: Store) -> None:
        self._path = Path(folder.path(_new_name()))
        self._synced = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

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
                self._file.truncate(start)  # an incomplete response would hide the ones after it
                self._file.seek(start)
            raise self._unwritable(error) from error

    def close(self) -> None:
        try:
            with self._file:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"cannot write {self._path}: {error.strerror}",
            "free some space or choose another --workspace, then run again",
        )


class _RemoteWriter:
    """Writes an object for each batch of responses."""

    def __init__(self, folder: Store) -> None:
        self._folder = folder
        self._batch: list[bytes] = []
        self._since = time.monotonic()

    def write(self, member: bytes) -> None:
        self._batch.append(member)
        if len(self._batch) >= REMOTE_BATCH or time.monotonic() - self._since > REMOTE_BATCH_S:
            self.close()

    def close(self) -> None:
        if self._batch:
            self._folder.write_bytes(b"".join(self._batch), _new_name())
        self._batch.clear()
        self._since = time.monotonic()
