"""Import paths: installed packages and PYTHONPATH, never the current folder.

Python puts the current folder first for ``python -m``, and also for an empty entry of PYTHONPATH, as in
``PYTHONPATH=$PYTHONPATH:x``. A folder of music may contain a ``random.py``.
"""

from __future__ import annotations

# Nothing more: this module is imported before the current folder is removed from the path.
import os
import sys

VARIABLE = "PYTHONPATH"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
"""The folder from which this package was imported."""


def child(*arguments: str) -> list[str]:
    """The command line of a Python that does not import from the current folder (``-P``, Python 3.11)."""
    return [sys.executable, "-P", *arguments]


def path(package: bool = True) -> str:
    """A PYTHONPATH for child processes: this process's, absolute and without the current folder.

    package: put this package's folder first.
    """
    here, entries = _here(), [ROOT] if package else []
    for entry in os.environ.get(VARIABLE, "").split(os.pathsep):
        if entry and (os.path.isabs(entry) or os.path.abspath(entry) != here):  # noqa: PTH100, PTH117
            entries.append(os.path.abspath(entry))  # noqa: PTH100
    return os.pathsep.join(dict.fromkeys(entries))


def leave_current_folder() -> None:
    """Remove the current folder from the import path of this process and its children.

    It stays if this package was imported from it, or if PYTHONPATH has its absolute path.
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
