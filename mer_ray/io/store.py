"""Files in a folder, at a local path or in an object store: whole or not at all. Stores are opened by `stores`."""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs

from mer_ray.errors import InputError, WorkspaceError
from mer_ray.io import buckets
from mer_ray.io.identity import one_line

TEMPORARY = ".tmp"
"""The folder of what is to be gone when a run has ended."""
MARK = "here"
"""How the names of files begin by which nodes find out whether they see the same folder."""
REACHED_S = 5.0
"""What one machine has written may take so long to be seen by another, in a folder that they share."""
_T = TypeVar("_T")


def check_lasting(path: str, option: str) -> None:
    """Raises InputError for a place in the copy of the code in which Ray runs a job, and which it throws away."""
    if {"runtime_resources", "working_dir_files"} <= set(Path(path).parts):
        raise InputError(
            f"{option} {path} is in the job's copy of the code, which Ray throws away when the job has ended",
            "give an absolute path that all nodes reach, or a bucket (s3://, gs://)",
        )


class Storage:
    """A folder of files, at a local path or in an object store (s3://, gs://).

    Cheap to make and to send to another process: it holds only its URI and a file system that others share.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        """Raises WorkspaceError, within seconds, where the URI makes no sense or the store does not let us in."""
        text = os.fspath(uri)
        kind = buckets.scheme(text)
        self.is_local = kind in ("", "file")
        if not self.is_local:
            buckets.check_workspace(text, kind)
            self.fs, root = buckets.knock(text)
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
        """The path or URI of a place inside the folder, as other processes open it."""
        if self.is_local:
            return self.path(*parts)
        base, mark, query = self.uri.partition("?")
        return "/".join([base.rstrip("/"), *map(quote, parts)]) + mark + query

    def check_reached(self, *parts: str) -> None:
        """Raises WorkspaceError where this machine does not see what another one has put at that place.

        A folder of the network may take a moment to show it.
        """
        give_up = time.monotonic() + REACHED_S
        while self.is_local and not self.exists(*parts):
            if time.monotonic() > give_up:
                raise WorkspaceError(
                    f"{socket.gethostname()}, a node of the cluster, does not see {self.path(*parts)}",
                    "all nodes have to reach the workspace: give a folder that they share, at the same path, or a "
                    "bucket (s3://, gs://)",
                )
            time.sleep(0.2)

    def exists(self, *parts: str) -> bool:
        """Whether there is a file or folder at that place."""
        return bool(self._asked(lambda: self.fs.get_file_info(self.path(*parts))).type != pyarrow.fs.FileType.NotFound)

    def stamp(self, *parts: str) -> tuple[int | None, int | None]:
        """(when it was written, in ns; bytes) of a file, by which one that took its place is known; Nones for none."""
        info = self._asked(lambda: self.fs.get_file_info(self.path(*parts)))
        return info.mtime_ns, info.size

    def names(self, *parts: str) -> list[str]:
        """The base names in a folder, sorted; empty if there is none. Hidden and temporary names are left out."""
        selector = pyarrow.fs.FileSelector(self.path(*parts), allow_not_found=True)
        names = (info.base_name for info in self._asked(lambda: self.fs.get_file_info(selector)))
        return sorted(n for n in names if not n.startswith((".", "_")))

    def is_folder(self, *parts: str) -> bool:
        """Whether there is a folder at that place; in a store, an object under it."""
        return bool(self._asked(lambda: self.fs.get_file_info(self.path(*parts))).type == pyarrow.fs.FileType.Directory)

    def read_bytes(self, *parts: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError."""

        def read() -> bytes:
            # As it is: by default, pyarrow unpacks and packs by the ending of the name.
            with self.fs.open_input_stream(self.path(*parts), compression=None) as stream:
                return bytes(stream.read())

        return self._asked(read)

    def write_bytes(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """Write a file so that a reader meets the old one or the whole new one, never a part."""
        if self.is_local:
            with self._replacing(*parts) as file:
                file.write(data)
        else:
            self._put(data, *parts)

    def write_file(self, source: Path, *parts: str) -> None:
        """Write a copy of a local file, as `write_bytes` would write what is in it."""
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
                    # A mark is looked for as long as its run goes on.
                    longest_s = 30 * older_than_s if file.name.startswith(MARK) else older_than_s
                    if time.time() - file.stat().st_mtime > longest_s:
                        file.unlink()

    def delete(self, *parts: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._asked(lambda: self.fs.delete_file(self.path(*parts)))

    def discard(self, *parts: str) -> None:
        """Remove a folder, if it is there."""
        if self.exists(*parts):
            with suppress(FileNotFoundError):  # Google's says so of a folder that was but a prefix of names
                self._asked(lambda: self.fs.delete_dir(self.path(*parts)))

    def remove(self) -> None:
        """Remove the whole folder and all that is in it."""
        if self.is_local or "/" in self.root.strip("/"):
            self.discard()
        else:  # a bucket stays; pyarrow's delete_dir_contents of one tries again for minutes, at Google's
            for info in self._asked(lambda: self.fs.get_file_info(pyarrow.fs.FileSelector(self.root))):
                (self.discard if info.type == pyarrow.fs.FileType.Directory else self.delete)(info.base_name)

    def _put(self, data: bytes | pa.Buffer, *parts: str) -> None:
        """One object. All of it has to be at hand: pyarrow's stream cannot be given up.

        Closed by an exception, or by nobody, it would complete the object with what it has got so far.
        """
        target = self.path(*parts)
        try:
            stream = self.fs.open_output_stream(target, compression=None)
            stream.write(data)
            stream.close()
        except (OSError, pa.ArrowException) as error:
            raise buckets.unreachable(self.at(*parts), error) from error

    @contextmanager
    def _replacing(self, *parts: str) -> Iterator[BinaryIO]:
        """A local file to write to, which takes the place of ``parts`` once all is well."""
        target, temporary = Path(self.path(*parts)), Path(self.path(TEMPORARY, uuid.uuid4().hex))
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(str(target), error) from error
            raise

    def _asked(self, question: Callable[[], _T]) -> _T:
        """What the store answers. Raises WorkspaceError where it does not, after all attempts."""
        try:
            return question()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if self.is_local:
                raise
            raise buckets.unreachable(self.uri, error) from error


def _unwritable(place: str, error: OSError) -> WorkspaceError:
    said = error.strerror or one_line(str(error), 200)
    return WorkspaceError(
        f"cannot write {place}: {said}", "free some space or choose another --workspace, then run again"
    )
