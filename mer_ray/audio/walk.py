"""A folder searched for audio with all that lies below it, links followed, and what was passed over counted.

Each folder is searched once, however many links lead to it: a path below the folder itself comes before a link to it,
and of several links the first by name is followed. A link that leads to a folder around it is not. What starts with a
dot is hidden and passed over, but not what starts with two, as titles do ("...And Justice for All"); so are the folders
in which systems keep what they threw away or made for themselves.
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
"""So many are listed with their counts."""

LONGEST_ENDING = 10
"""Of what follows a dot, more is part of a title."""


@dataclass
class Skipped:
    """What a search passed over. Counts by what it was, with the first of each; and of other files by their endings."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, which: str | os.PathLike[str], why: str = "") -> None:
        """One more. what: in the singular, "hidden file"."""
        self.counts[what] += 1
        self.first.setdefault(what, one_line(os.fspath(which), 200) + (f", {why}" if why else ""))

    def merge(self, other: Skipped) -> None:
        """Take in what another search passed over."""
        self.counts += other.counts
        self.endings += other.endings
        self.first = other.first | self.first

    def __bool__(self) -> bool:
        return bool(self.counts or self.endings)

    def __str__(self) -> str:
        """One line; empty if nothing was passed over."""
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
    """A folder with nothing in it that is named as audio. skipped: what there is instead."""

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
"""What is passed over: the plural, and whether the first is named."""


def search(folder: str | os.PathLike[str]) -> tuple[list[Path], Skipped]:
    """Files named as audio or as notes (`extensions`), sorted by the bytes of their paths, and what was passed over.

    A link to nothing and a pipe are among them where they are named so: to tell is for those who open them.
    Raises InputError if there is no such folder, and NoAudio if there is no such file in it.
    """
    root = Path(folder).expanduser().absolute()  # what is found goes into tables that other processes read
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
    """Whether a search takes a file by its path below the folder that is searched; if not, it is counted."""
    *folders, name = path.split("/")
    for folder in filter(None, folders):
        if what := _passed_over(folder):
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
    """As `pathlib` has it, ten times as fast, in lower case."""
    dot = name.rfind(".")
    return name[dot:].strip().lower() if 0 < dot < len(name) - 1 else ""


def _hidden(name: str) -> bool:
    return name.startswith(".") and not name.startswith("..")


def _passed_over(folder: str) -> str | None:
    """As what a folder is passed over, by its name; None if it is not."""
    if folder.lower() in SYSTEM_FOLDERS:
        return SYSTEM
    return HIDDEN_FOLDER if _hidden(folder) else None


class _Walk:
    """Own folders first; then link after link, each with its own folders. Without recursion: folders may lie deep."""

    def __init__(self, root: Path) -> None:
        self.skipped = Skipped()
        self._root = os.path.realpath(root)
        self._searched: set[str] = set()  # by their real paths
        self._folders = [(os.fspath(root), self._root)]  # to search, each with its real path
        self._links: list[tuple[bytes, str, str]] = []  # a heap: to folders, each with the real path that it lies in
        self._files: list[tuple[str, str]] = []  # each with the real path of the folder that it lies in
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
            if is_folder and (what := _passed_over(entry.name)):
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
                return False  # whoever opens it says what is wrong
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self.skipped.add(BROKEN, entry.path)
            else:
                self.skipped.add(UNREADABLE, entry.path, error.strerror or str(error))
            return None


def _holds(folder: str, inner: str) -> bool:
    """Whether a folder is ``inner`` or around it. Both are real paths."""
    return inner == folder or inner.startswith(folder.rstrip(os.sep) + os.sep)
