"""`Store`: the files of a folder, at a local path or in an object store, written whole or not at all."""

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
"""The folder of files that are to be gone when a run has ended."""
MARK = "here"
"""Prefix of the files by which nodes find out whether they see the same folder."""
SHARED_S = 5.0
"""After one machine has written a file into a shared folder, another may see it so much later."""
_T = TypeVar("_T")


def check_lasting(path: str, option: str) -> None:
    """Raises InputError for a path in the copy of the code in which Ray runs a job: Ray removes it afterwards."""
    if {"runtime_resources", "working_dir_files"} <= set(Path(path).parts):
        raise InputError(
            f"{option} {path} is in the job's copy of the code, which Ray throws away when the job has ended",
            "give an absolute path that all nodes reach, or a bucket (s3://, gs://)",
        )


class Store:
    """A folder of files, at a local path or in an object store (s3://, gs://).

    Cheap to make and to send to another process: it holds only its URI and a file system that others share.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        """Raises WorkspaceError, within seconds, where the URI is invalid or the store refuses."""
        text = os.fspath(uri)
        kind = address.scheme(text)
        self.is_local = address.is_local(text)
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
        """The path or URI of a file or folder inside, as other processes open it."""
        if self.is_local:
            return self.path(*parts)
        base, mark, query = self.uri.partition("?")
        return "/".join([base.rstrip("/"), *map(quote, parts)]) + mark + query

    def check_reached(self, *parts: str) -> None:
        """Raises WorkspaceError where this machine does not see a file that another one has written.

        A network folder may show it a moment later.
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
        """(time of change in ns, bytes) of a file, by which a new version is recognised; Nones for none."""
        info = self._ask(lambda: self.fs.get_file_info(self.path(*parts)))
        return info.mtime_ns, info.size

    def names(self, *parts: str) -> list[str]:
        """The base names in a folder, sorted; empty if there is none. Hidden and temporary names are left out."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = (info.base_name for info in self._ask(lambda: self.fs.get_file_info(selector)))
        return sorted(n for n in names if not n.startswith((".", "_")))

    def is_folder(self, *parts: str) -> bool:
        """Whether there is such a folder; in an object store, an object under that prefix."""
        return bool(self._ask(lambda: self.fs.get_file_info(self.path(*parts))).type == pyarrow.fs.FileType.Directory)

    def read_bytes(self, *parts: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

        def read() -> bytes:
            # Without compression: by default, pyarrow unpacks by the suffix of the name.
            with self.fs.open_input_stream(self.path(*parts), compression=None) as stream:
                return bytes(stream.read())

        return self._ask(read)

    def write_bytes(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write a file so that a reader meets the old one or the whole new one, never a part."""
        if self.is_local:
            with self._replacing(*parts) as file:
                file.write(data)
        else:
            self._put(data, *parts)

    def write_file(self, source: Path, *parts: str) -> None:
        """As `write_bytes` of a local file's content."""
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
        """Remove temporary files that killed processes left behind. Object stores have none to remove: see README."""
        folder = Path(self.path(TEMPORARY))
        if self.is_local and folder.is_dir():
            for file in folder.iterdir():
                with suppress(FileNotFoundError):  # another process sweeps, or has just finished its file
                    # Other nodes look for a mark as long as its run goes on.
                    longest_s = 30 * older_than_s if file.name.startswith(MARK) else older_than_s
                    if time.time() - file.stat().st_mtime > longest_s:
                        file.unlink()

    def delete(self, *parts: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self.fs.delete_file(self.path(*parts)))

    def discard(self, *parts: str) -> None:
        """Remove a folder, if it is there."""
        if self.exists(*parts):
            with suppress(FileNotFoundError):  # Google's says so of a folder that was but a prefix of names
                self._ask(lambda: self.fs.delete_dir(self.path(*parts)))

    def remove(self) -> None:
        """Remove the whole folder and all that is in it."""
        if self.is_local or "/" in self.root.strip("/"):
            self.discard()
        else:  # a bucket stays; pyarrow's delete_dir_contents of one tries again for minutes, at Google's
            for info in self._ask(lambda: self.fs.get_file_info(pyarrow.fs.FileSelector(self.root))):
                (self.discard if info.type == pyarrow.fs.FileType.Directory else self.delete)(info.base_name)

    def _put(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write one object in one call: pyarrow's stream cannot be aborted.

        Closed after an exception, or by the garbage collector, it would complete the object with what it has.
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
        """The store's response. Raises WorkspaceError where there is none, after all attempts."""
        try:
            return request()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if self.is_local:
                raise
            raise buckets.unreachable(self.uri, error) from error
