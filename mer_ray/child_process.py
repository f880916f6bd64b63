"""Where modules come from: the installed packages and what PYTHONPATH names, never the folder a command stands in.

Python puts that folder first for ``python -m``, and also where PYTHONPATH has an empty entry, as
``PYTHONPATH=$PYTHONPATH:x`` makes one. A folder of music may hold a ``random.py``.
"""

from __future__ import annotations

# Nothing more: it is imported before the current folder is left.
import os
import sys

VARIABLE = "PYTHONPATH"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
"""The folder that this very package was imported from."""


def child(*arguments: str) -> list[str]:
    """The command line of a Python that does not import from the current folder (``-P``, Python 3.11)."""
    return [sys.executable, "-P", *arguments]


def path(package: bool = True) -> str:
    """A PYTHONPATH for child processes: ours, absolute and without the entries that mean the current folder.

    package: put this package's own folder first, wherever the parent has it from.
    """
    here, entries = _here(), [ROOT] if package else []
    for entry in os.environ.get(VARIABLE, "").split(os.pathsep):
        if entry and (os.path.isabs(entry) or os.path.abspath(entry) != here):  # noqa: PTH100, PTH117
            entries.append(os.path.abspath(entry))  # noqa: PTH100
    return os.pathsep.join(dict.fromkeys(entries))


def leave_current_folder() -> None:
    """Import nothing more from the current folder, in this process and in those that it starts.

    It stays where this package itself comes from there, or where PYTHONPATH names it by its absolute path.
    """
    if VARIABLE in os.environ:
        os.environ[VARIABLE] = path(package=False)
    here = _here()
    if not from_here() and here not in os.environ.get(VARIABLE, "").split(os.pathsep):
        sys.path[:] = [entry for entry in sys.path if entry and entry != here]


def from_here() -> bool:
    """Whether this package itself was imported from the current folder."""
    return _here() == ROOT


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it has been removed
        return ""
