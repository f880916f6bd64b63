"""The exceptions of mer-ray.

MerRayError            ends a command: one line, exit code 2, no traceback
├── ConfigError        a settings file, key or value
├── InputError         a file, folder or row that the user gave
├── WorkspaceError     a workspace made with other settings, or a table that a stage needs and is not there
├── ServiceError       a network service that refused, or did not respond in time
├── NodeError          a machine that cannot work: its temporary folder is full, say
├── MissingExtra       a package that comes with an extra of mer-ray; also an ImportError
├── TooManyFailed      a run whose share of failures is over the limit, once all is written: exit code 3
└── ModelError         a model folder that is damaged, or does not fit the features
TrackError             costs one track, not the batch: becomes one row in the table ``failures``
"""

from __future__ import annotations

import errno
import os


class MerRayError(Exception):
    """message: what happened. hint: what to do about it."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[MerRayError], tuple[str, str]]:
        # For Ray, which pickles exceptions: the default would lose the hint.
        return type(self), (self.message, self.hint)


class ConfigError(MerRayError):
    """A settings file, key or value."""


class InputError(MerRayError):
    """A file, folder or row that the user gave."""


class WorkspaceError(MerRayError):
    """A workspace made with other settings, or without a table that this stage needs."""


class ServiceError(MerRayError):
    """A network service that refused, or did not respond in time."""


class NodeError(MerRayError):
    """A machine that cannot work. A cluster goes on without it."""


class MissingExtra(MerRayError, ModuleNotFoundError):
    """A package that comes with an extra of mer-ray, and is not installed: see `extras`."""


class TooManyFailed(MerRayError):
    """More of a run's tracks failed than ``--max-lost`` allows; what could be done is written."""

    exit_code = 3


class ModelError(MerRayError):
    """A model folder that is damaged or does not fit the features at hand."""


class TrackError(Exception):
    """One track failed.

    reason: a short code for counting (``corrupt``, ``silent``, ``too_short``, ``no_known_tag``, ...).
    message: what happened, naming the file, row or address.
    transient: whether the next run retries (a time-out, but not a corrupt file).
    """

    def __init__(self, reason: str, message: str, transient: bool = False) -> None:
        super().__init__(reason, message, transient)
        self.reason = reason
        self.message = message
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a user's share of one, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def to_mer_ray_error(error: MerRayError | OSError) -> MerRayError:
    """The error; an OSError becomes a MerRayError with the path, the reason, and a hint."""
    if isinstance(error, MerRayError):
        return error
    paths = " and ".join(os.fsdecode(p) for p in (error.filename, error.filename2) if isinstance(p, str | bytes))
    message = error.strerror or str(error) or type(error).__name__
    return WorkspaceError(f"{paths}: {message}" if paths else message, hint(error))


def hint(error: OSError) -> str:
    """What to do about it, by its number."""
    return _HINTS.get(error.errno or 0, "see to that, then run the same command again")


_OTHER_LOCATION = "choose another place, then run the same command again"
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"free some space or {_OTHER_LOCATION}"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), f"allow it or {_OTHER_LOCATION}"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n), then run the same command again",
}
