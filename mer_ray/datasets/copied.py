"""`Folder`: the files of a copy, found by their names, and the rows of its tables.

What a copy's tables say becomes no path outside it: files are looked up in an index of what is there, and the name of a
missing one is refused if it leads elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from mer_ray.errors import InputError
from mer_ray.io import delimited
from mer_ray.io.identity import file_digest, one_line

AUDIO = (".mp3", ".low.mp3", ".wav", ".flac", ".ogg", ".m4a")
"""Endings of audio files, in the order in which one is chosen. ``low``: MTG-Jamendo's smaller files."""


class Folder:
    """The files below a folder, but for hidden ones and what a Mac adds to archives.

    Attributes:
        read: The annotation files that were read, in that order.
        missing: The audio files that were looked for and are not there.
    """

    def __init__(self, root: str | Path, advice: str) -> None:
        """advice: what to do where a file is missing. Raises InputError where there is no such folder."""
        self.root, self.advice = Path(root).expanduser().resolve(), advice
        self.read: list[Path] = []
        self.missing: list[Path] = []
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder", f"give the folder of your copy: {advice}")
        self._files: dict[str, list[PurePosixPath]] = {}
        self._folders: dict[PurePosixPath, bool] = {}  # → whether there is audio in it
        seen: set[str] = set()
        for place, folders, files in os.walk(self.root, followlinks=True):
            here = PurePosixPath(Path(place).relative_to(self.root).as_posix())
            real = os.path.realpath(place)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            self._folders[here] = any(name.endswith(AUDIO) and not name.startswith(".") for name in files)
            for name in sorted(files):
                if not name.startswith("."):
                    self._files.setdefault(name, []).append(here / name)

    def find(self, *paths: str) -> Path | None:
        """The file whose path ends with the first of these that there is, as near to the root as possible."""
        for path in paths:
            wanted = PurePosixPath(path).parts
            found = [p for p in self._files.get(wanted[-1], []) if p.parts[-len(wanted) :] == wanted]
            if found:
                return self.root / min(found, key=_depth)
        return None

    def need(self, *paths: str) -> Path:
        """An annotation file; see `find`. Raises InputError where it is missing."""
        found = self.find(*paths)
        if found is None:
            raise InputError(f"{self.root} has no file {paths[0]}", self.advice)
        return found

    def beside(self, file: Path, name: str) -> Path:
        """Another annotation file in the folder of ``file``. Raises InputError where it is missing."""
        found = file.parent / name
        if not found.is_file():
            raise InputError(f"{file.parent} has no file {name}", self.advice)
        return found

    def audio_folder(self, *names: str) -> Path:
        """The first of these folders with audio in it; else the first that there is, or its place below the root."""
        found = [folder for name in names for folder in sorted(self._folders, key=_depth) if folder.name == name]
        return self.root / next((f for f in found if self._folders[f]), found[0] if found else names[0])

    def audio(self, stem: str, folder: Path | None = None) -> Path:
        """The audio file STEM.mp3 (or another of `AUDIO`) in a folder; without one, wherever its path ends so.

        Where there is none, the place where it should be, which is put into `missing`. Raises InputError for a stem
        that leads out of the copy.
        """
        wanted = PurePosixPath(stem)
        if wanted.is_absolute() or ".." in wanted.parts or "\\" in stem or not wanted.name:
            raise InputError(f"{self.read[-1]}: {one_line(repr(stem), 80)} is no file's name in the copy", self.advice)
        if folder is None and (named := self.find(*(stem + suffix for suffix in AUDIO))):
            return named
        for suffix in AUDIO if folder else ():
            if (found := (folder or self.root) / f"{stem}{suffix}").is_file():
                return found
        self.missing.append((folder or self.root) / f"{stem}{AUDIO[0]}")
        return self.missing[-1]

    def rows(
        self, file: Path, *needed: str, once: str = "", loose: bool = False
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """The rows of a table in delimited text: (number, from 1 below the header; cells by column).

        Names of columns are in lower case; blanks around names and cells are left out, and columns without a name.

        Args:
            needed: Columns that it must have, in lower case, and that every row must reach.
            once: One of them, with the track's id, which no two rows may share.
            loose: For tables that only describe tracks: rows that cannot be read are left out, and rows may be longer
                than the header.

        Raises:
            InputError: The file, or a row, is not as it should be.
        """
        first_of: dict[str, int] = {}
        if file not in self.read:
            self.read.append(file)
        how = delimited.encoding(file)
        try:
            first = next(delimited.lines(file, how), "")
            mark = max(",;\t", key=first.count)
            records = delimited.records(delimited.lines(file, how), mark)
            header = next(records, [])
            names = [] if isinstance(header, str) else [name.strip().casefold() for name in header]
            for name in needed:
                if names.count(name) != 1:
                    problem = "has no column" if name not in names else "has more than one column"
                    shown = one_line(", ".join(filter(None, names)), 200)
                    raise InputError(f"{file} {problem} {name}", f"its columns are {shown or 'none'}; {self.advice}")
            for number, record in enumerate(records, start=1):
                cells = [] if isinstance(record, str) else [cell.strip() for cell in record]
                if isinstance(record, str) or (len(cells) > len(names) and any(cells[len(names) :])):
                    if not loose:
                        what = record if isinstance(record, str) else f"has {len(cells)} cells, the header {len(names)}"
                        raise InputError(f"{file}, row {number}: {what}", self.advice)
                    if isinstance(record, str):
                        continue
                if not any(cells):
                    continue
                row = {n: one_line(c, 100_000) for n, c in zip(names, cells, strict=False) if n}
                if lost := next((name for name in needed if name not in row), None):
                    raise InputError(f"{file}, row {number}: ends before its {lost}", self.advice)
                if once and (before := first_of.setdefault(row[once], number)) != number:
                    same = f"has the {once} of row {before}, {one_line(row[once], 40)}"
                    raise InputError(f"{file}, row {number}: {same}", self.advice)
                yield number, row
        except (UnicodeError, csv.Error) as error:
            raise InputError(f"{file} cannot be read ({one_line(str(error), 120)})", self.advice) from error

    def number(self, file: Path, row: int, column: str, cell: str) -> float | None:
        """The number in a cell; None for a missing one. Raises InputError."""
        if delimited.is_missing(cell):
            return None
        try:
            return delimited.number(cell)
        except ValueError as error:
            raise InputError(
                f"{file}, row {row}: {column} is no number: {one_line(repr(cell), 40)}", self.advice
            ) from error

    def integer(self, file: Path, row: int, column: str, cell: str) -> int:
        """The whole number in a cell, as an id. Raises InputError."""
        number = self.number(file, row, column, cell)
        if number is None or number != int(number) or number < 0:
            raise InputError(
                f"{file}, row {row}: {column} is no number of a track: {one_line(repr(cell), 40)}", self.advice
            )
        return int(number)

    def check_archives(self, hashes: Mapping[str, str], source: str) -> list[str]:
        """Remarks on the archives that lie in the copy. Raises InputError where a hash differs from the stated one."""
        notes = []
        for name, stated in hashes.items():
            file = self.find(name)
            if file is None:
                continue
            kind, _, wanted = stated.partition(":")
            with file.open("rb") as handle:
                found = hashlib.file_digest(handle, kind).hexdigest()
            if found != wanted:
                raise InputError(
                    f"{file} has the {kind.upper()} {found}, and {source} states {wanted}",
                    "the download is damaged, or the release has changed: get it again, or remove the archive to use "
                    "what you unpacked",
                )
            notes.append(f"{file.name}: {kind.upper()} as {source} states it")
        return notes

    def digests(self) -> list[tuple[str, str]]:
        """(path in the copy, SHA-256) of each annotation file that was read."""
        return [(file.relative_to(self.root).as_posix(), file_digest(file)) for file in self.read]


def _depth(path: PurePosixPath) -> tuple[int, str]:
    return len(path.parts), path.as_posix()
