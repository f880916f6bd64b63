"""Searches a folder and its subfolders for audio, follows links, and counts ignored files.

Each folder is searched once: by its own path if it is below the searched folder, else by the first link by name. A link
to a parent folder is not followed. Names that start with a dot are hidden and ignored, but not with several dots, as in
titles ("...And Justice for All"); so are folders of operating systems, such as their trash.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mer_ray.audio.extensions import EXTENSIONS, NOTES
from mer_ray.errors import InputError
from mer_ray.io.identity import one_line

SYSTEM_FOLDERS = frozenset(
    [
        "#recycle",
        "$recycle.bin",
        "@eadir",
        "@recycle",
        "__macosx",
        "lost+found",
        "recycler",
        "system volume information",
    ]
)
"""In lower case."""

SUCH_AS = "looked for names that end in .mp3, .flac, .wav, .ogg, .opus, .m4a and the like"
MOST_ENDINGS = 6
"""Suffixes that are listed with their counts at most."""

LONGEST_ENDING = 10
"""Longer text after a dot is a part of a title."""


@dataclass
class Skipped:
    """The ignored files of a search: counts by kind, with the first of each, and of other files by suffix."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, which: str | os.PathLike[str], why: str = "") -> None:
        """Count one. what: its kind in the singular, such as "hidden file"."""
        self.counts[what] += 1
        self.first.setdefault(what, one_line(os.fspath(which), 200) + (f", {why}" if why else ""))

    def merge(self, other: Skipped) -> None:
        """Add the counts of another search."""
        self.counts += other.counts
        self.endings += other.endings
        self.first = other.first | self.first

    def __bool__(self) -> bool:
        return bool(self.counts or self.endings)

    def __str__(self) -> str:
        """One line; empty if nothing was ignored."""
        parts = []
        for what, (several, names) in _WORDS.items():
            if n := self.counts[what]:
                which = f" ({'first: ' if n > 1 else ''}{self.first[what]})" if names else ""
                parts.append(f"{n:,} {what if n == 1 else several}{which}")
        if n := self.endings.total():
            listed = self.endings.most_common(MOST_ENDINGS)
            rest = n - sum(count for _, count in listed)
            counts = ", ".join(f"{ending} {count:,}" for ending, count in listed) + (
                f", others {rest:,}" if rest else ""
            )
            parts.append(f"{n:,} {'file' if n == 1 else 'files'} not named as audio ({counts})")
        return f"skipped {', '.join(parts)}" if parts else ""


class NoAudio(InputError):
    """A folder without files with an audio suffix. skipped: what it has instead."""

    def __init__(self, message: str, hint: str = "", skipped: Skipped | None = None) -> None:
        super().__init__(message, hint)
        self.skipped = skipped or Skipped()


HIDDEN, HIDDEN_FOLDER, SYSTEM = "hidden file", "hidden folder", "system folder"
UNREADABLE, EMPTY = "folder that cannot be read", "folder without audio"
BROKEN, ABOVE, AGAIN = "link that leads nowhere", "link to a folder around it", "link to a file that is found anyway"
_WORDS = {
    HIDDEN: ("hidden files", False),
    HIDDEN_FOLDER: ("hidden folders", True),
    SYSTEM: ("system folders", True),
    UNREADABLE: ("folders that cannot be read", True),
    EMPTY: ("folders without audio", True),
    BROKEN: ("links that lead nowhere", True),
    ABOVE: ("links to folders around them", True),
    AGAIN: ("links to files that are found anyway", False),
}
"""Kinds of ignored files: the plural, and whether the first is named."""


def search(folder: str | os.PathLike[str]) -> tuple[list[Path], Skipped]:
    """Files with a suffix of audio or notes (`extensions`), sorted by the bytes of their paths, and the ignored ones.

    They may include broken links and pipes. Raises InputError if there is no such folder, and NoAudio if there is no
    such file in it.
    """
    root = Path(folder).expanduser().absolute()  # the paths go into tables that other processes read
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
        os.scandir(root).close()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        is_folder = False
    except OSError as error:
        raise InputError(f"folder {root} cannot be read ({error.strerror})", "check its rights and its disk") from error
    if not is_folder:
        raise InputError(f"folder {root} does not exist", "give the path of a folder with audio files")
    walk = _Walk(root)
    found = walk.files()
    if not found:
        hint = "; ".join(filter(None, [SUCH_AS, str(walk.skipped)]))
        raise NoAudio(f"folder {root} holds no audio files", hint, walk.skipped)
    return found, walk.skipped


def named_as_audio(path: str, skipped: Skipped) -> bool:
    """Whether a search includes a file, by its path below the searched folder; if not, it is counted."""
    *folders, name = path.split("/")
    for folder in filter(None, folders):
        if what := _ignored_as(folder):
            skipped.add(what, folder)
            return False
    if _hidden(name):
        skipped.add(HIDDEN, path)
        return False
    ending = _ending(name)
    if ending in EXTENSIONS or ending in NOTES:
        return True
    short = len(ending) <= LONGEST_ENDING and " " not in ending
    skipped.endings[one_line(ending) if ending and short else "without ending"] += 1
    return False


def _ending(name: str) -> str:
    """The suffix in lower case, ten times as fast as `pathlib`."""
    dot = name.rfind(".")
    return name[dot:].strip().lower() if 0 < dot < len(name) - 1 else ""


def _hidden(name: str) -> bool:
    return name.startswith(".") and not name.startswith("..")


def _ignored_as(folder: str) -> str | None:
    """The kind of an ignored folder, by its name; None if it is searched."""
    if folder.lower() in SYSTEM_FOLDERS:
        return SYSTEM
    return HIDDEN_FOLDER if _hidden(folder) else None


class _Walk:
    """Searches folders first, then links one after the other. Without recursion, as folders may be deeply nested."""

    def __init__(self, root: Path) -> None:
        self.skipped = Skipped()
        self._root = os.path.realpath(root)
        self._searched: set[str] = set()  # by their real paths
        self._folders = [(os.fspath(root), self._root)]  # to search, each with its real path
        self._links: list[tuple[bytes, str, str]] = []  # a heap: each with the real path of its folder
        self._files: list[tuple[str, str]] = []  # each with the real path of its folder
        self._file_links: list[str] = []

    def files(self) -> list[Path]:
        while self._folders or self._links:
            if self._folders:
                self._search(*self._folders.pop())
            else:
                self._follow(*heapq.heappop(self._links)[1:])
        found = [path for path, _ in self._files]
        if self._file_links:
            there = {os.path.join(real, os.path.basename(path)) for path, real in self._files}  # noqa: PTH118, PTH119
            for link in sorted(self._file_links, key=os.fsencode):
                real = os.path.realpath(link)
                if real in there:
                    self.skipped.add(AGAIN, link)
                else:
                    there.add(real)
                    found.append(link)
        return [Path(path) for path in sorted(found, key=os.fsencode)]

    def _search(self, folder: str, real: str) -> None:
        if real in self._searched:
            return
        self._searched.add(real)
        for entry in self._entries(folder):
            is_link = entry.is_symlink()
            if is_link and _hidden(entry.name):
                self.skipped.add(HIDDEN, entry.path)
                continue
            is_folder = self._is_folder(entry)
            if is_folder and (what := _ignored_as(entry.name)):
                self.skipped.add(what, entry.path)
            elif is_folder and is_link:
                heapq.heappush(self._links, (os.fsencode(entry.path), entry.path, real))
            elif is_folder:
                self._folders.append((entry.path, os.path.join(real, entry.name)))  # noqa: PTH118
            elif is_folder is not None and named_as_audio(entry.name, self.skipped):
                if is_link:
                    self._file_links.append(entry.path)
                else:
                    self._files.append((entry.path, real))

    def _follow(self, link: str, base: str) -> None:
        real = os.path.realpath(link)
        if real in self._searched:
            return
        if any(_holds(real, inner) for inner in (base, self._root)):
            self.skipped.add(ABOVE, link)
        else:
            self._folders.append((link, real))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except OSError as error:
            self.skipped.add(UNREADABLE, folder, error.strerror or str(error))

    def _is_folder(self, entry: os.DirEntry[str]) -> bool | None:
        """Whether an entry is a folder, or a link to one; None for one that was counted instead."""
        try:
            return stat.S_ISDIR(os.stat(entry.path).st_mode) if entry.is_symlink() else entry.is_dir()  # noqa: PTH116
        except OSError as error:
            if _ending(entry.name) in EXTENSIONS:
                return False  # an error is reported when it is opened
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self.skipped.add(BROKEN, entry.path)
            else:
                self.skipped.add(UNREADABLE, entry.path, error.strerror or str(error))
            return None


def _holds(folder: str, inner: str) -> bool:
    """Whether a folder is ``inner`` or one of its parents. Both are real paths."""
    return inner == folder or inner.startswith(folder.rstrip(os.sep) + os.sep)
