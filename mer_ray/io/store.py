"""`Store`: the files of a folder, at a local path or in an object store, written atomically."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from mer_ray.errors import InputError, WorkspaceError
from mer_ray.io import address, buckets
from mer_ray.io.identity import one_line
from mer_ray.io.replace import replacing

TEMPORARY = ".tmp"
"""The folder of temporary files."""
MARKER = "here"
"""Prefix of the files of a run: its plan, its workers' marks, and what shows that nodes see the same folder."""
SHARED_S = 5.0
"""Delay after which a file in a shared folder is visible to other machines."""
_T = TypeVar("_T")


def check_lasting(path: str, option: str) -> None:
    """Raises InputError for a path in Ray's copy of a job's working folder, which Ray removes afterwards."""
    if {"runtime_resources", "working_dir_files"} <= set(Path(path).parts):
        raise InputError(
            f"{option} {path} is in the job's copy of the code, which Ray throws away when the job has ended",
            "give an absolute path that all nodes reach, or a bucket (s3://, gs://)",
        )


class Store:
    """A folder of files, at a local path or in an object store (s3://, gs://).

    Cheap to make and to send to another process: it has only its URI and a shared file system.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        """Raises WorkspaceError, within seconds, where the URI is invalid or the store cannot be opened."""
        text = os.fspath(uri)
        kind = address.scheme(text)
        self.is_local = address.is_local(text)
        if self.is_local and address.has_credentials(text):  # s3:/key:secret@bucket
            raise WorkspaceError(f"workspace {address.shown(text)} {address.EXPOSED}", address.INSTEAD)
        if not self.is_local:
            buckets.check_workspace(text, kind)
            self.fs, root = buckets.check_reachable(text)
            self.root = root.rstrip("/")
            self.uri = text
            return
        try:
            if kind:
                self.fs, self.root = pyarrow.fs.FileSystem.from_uri(text)
            else:
                self.fs, self.root = pyarrow.fs.LocalFileSystem(), str(Path(text).expanduser().resolve())
        except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
            raise WorkspaceError(f"cannot open workspace {one_line(text)}: {one_line(str(error))}") from error
        if Path(self.root).is_file():
            raise WorkspaceError(f"workspace {self.root} is a file", "give a folder, or one that is to be made")
        self.uri = self.root

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.uri,)

    def path(self, *parts: str) -> str:
        """A path inside the folder, for ``self.fs``."""
        return posixpath.join(self.root, *parts)

    def at(self, *parts: str) -> str:
        """The path or URI of a file or folder inside, for other processes."""
        if self.is_local:
            return self.path(*parts)
        base, mark, query = self.uri.partition("?")
        return "/".join([base.rstrip("/"), *map(quote, parts)]) + mark + query

    def check_reached(self, *parts: str) -> None:
        """Raises WorkspaceError where this machine does not see a file that another one has written.

        In a network folder it may appear later.
        """
        deadline = time.monotonic() + SHARED_S
        while self.is_local and not self.exists(*parts):
            if time.monotonic() > deadline:
                raise WorkspaceError(
                    f"{socket.gethostname()}, a node of the cluster, does not see {self.path(*parts)}",
                    "all nodes have to reach the workspace: give a folder that they share, at the same path, or a "
                    "bucket (s3://, gs://)",
                )
            time.sleep(0.2)

    def exists(self, *parts: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._ask(lambda: self.fs.get_file_info(self.path(*parts))).type != pyarrow.fs.FileType.NotFound)

    def stamp(self, *parts: str) -> tuple[int | None, int | None]:
        """(modification time in ns, bytes) of a file, which identify its version; Nones if it is missing."""
        info = self._ask(lambda: self.fs.get_file_info(self.path(*parts)))
        return info.mtime_ns, info.size

    def names(self, *parts: str) -> list[str]:
        """The base names in a folder, sorted; empty if there is none. Hidden and temporary names are left out."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = (info.base_name for info in self._ask(lambda: self.fs.get_file_info(selector)))
        return sorted(n for n in names if not n.startswith((".", "_")))

    def n_bytes(self, *parts: str) -> int:
        """The size of all files in a folder."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        return sum(info.size or 0 for info in self._ask(lambda: self.fs.get_file_info(selector)))

    def is_folder(self, *parts: str) -> bool:
        """Whether there is such a folder; in an object store, an object under that prefix."""
        return bool(self._ask(lambda: self.fs.get_file_info(self.path(*parts))).type == pyarrow.fs.FileType.Directory)

    def read_bytes(self, *parts: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

        def read() -> bytes:
            # By default, pyarrow decompresses by the suffix of the name.
            with self.fs.open_input_stream(self.path(*parts), compression=None) as stream:
                return bytes(stream.read())

        return self._ask(lambda: buckets.read_again(read))

    def write_bytes(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write a file atomically."""
        if self.is_local:
            with self._replacing(*parts) as file:
                file.write(data)
        else:
            self._put(data, *parts)

    def write_file(self, source: Path, *parts: str) -> None:
        """Write a local file's content atomically."""
        if self.is_local:
            with source.open("rb") as data, self._replacing(*parts) as file:
                shutil.copyfileobj(data, file, 1 << 20)
        elif source.stat().st_size:
            with pa.memory_map(str(source)) as data:
                self._put(data.read_buffer(), *parts)
        else:
            self._put(b"", *parts)

    def read_json(self, *parts: str) -> Any:
        """A JSON file's value, or None if there is no such file."""
        try:
            return json.loads(self.read_bytes(*parts))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise WorkspaceError(
                f"{self.path(*parts)} is not JSON ({error})", "remove it and run the stage again"
            ) from error

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n", *parts)

    def sweep(self, older_than_s: float = 86_400.0) -> None:
        """Remove temporary files of killed processes."""
        selector = pyarrow.fs.FileSelector(self.path(TEMPORARY), allow_not_found=True)
        for info in self._ask(lambda: self.fs.get_file_info(selector)):
            # Runs that last for weeks need theirs.
            longest_s = 30 * older_than_s if info.base_name.startswith(MARKER) else older_than_s
            if info.mtime is not None and time.time() - info.mtime.timestamp() > longest_s:
                self.delete(TEMPORARY, info.base_name)

    def in_use(self) -> bool:
        """Whether a process of a cluster works here: its markers, marks and plan are still there."""
        return any(name.startswith(MARKER) for name in self.names(TEMPORARY))

    def delete(self, *parts: str) -> None:
        """Remove a file, if it exists."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self.fs.delete_file(self.path(*parts)))

    def discard(self, *parts: str) -> None:
        """Remove a folder, if it exists."""
        if self.exists(*parts):
            with suppress(FileNotFoundError):  # Google's client raises it for a prefix without an object
                self._ask(lambda: self.fs.delete_dir(self.path(*parts)))

    def remove(self) -> None:
        """Remove the whole folder with its content."""
        if self.is_local or "/" in self.root.strip("/"):
            self.discard()
        else:  # a bucket stays; pyarrow's delete_dir_contents of one takes minutes at Google's
            for info in self._ask(lambda: self.fs.get_file_info(pyarrow.fs.FileSelector(self.root))):
                (self.discard if info.type == pyarrow.fs.FileType.Directory else self.delete)(info.base_name)

    def _put(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write one object in one call: pyarrow's stream cannot be aborted.

        Closed after an exception, or by the garbage collector, it would write an incomplete object.
        """
        target = self.path(*parts)
        try:
            stream = self.fs.open_output_stream(target, compression=None)
            stream.write(data)
            stream.close()
        except (OSError, pa.ArrowException) as error:
            raise buckets.unreachable(self.at(*parts), error) from error

    def _replacing(self, *parts: str) -> AbstractContextManager[BinaryIO]:
        return replacing(Path(self.path(*parts)), Path(self.path(TEMPORARY)))

    def _ask(self, request: Callable[[], _T]) -> _T:
        """The store's response. Raises WorkspaceError where all attempts fail."""
        try:
            return request()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if self.is_local:
                raise
            raise buckets.unreachable(self.uri, error) from error
