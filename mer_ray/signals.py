"""How a command ends that cannot go on: with one line on standard error, and an exit code for the reason.

2 for what the user can mend (a MerRayError, or an OSError: a full disk, a missing permission), 128 + n for signal n.
SIGTERM and SIGHUP become the KeyboardInterrupt that Ctrl-C is, so that all is cleared up that has to be.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TextIO, TypeVar

from mer_ray.errors import MerRayError, as_ours

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
GRACE_S = 6.0
"""What clearing up may take after a signal; then the process ends as it is."""
STOPPED = "stopped; the same command goes on from here"
at_worst: list[Callable[[], None]] = []
"""What is still to be done before a signal ends the process."""
_T = TypeVar("_T")


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end."""


@dataclass
class _Signals:
    """armed: the signals we handle. received: the first one. ignored: it was raised, or the command is over."""

    last: bool = False
    armed: tuple[signal.Signals, ...] = ()
    received: int | None = None
    ignored: bool = False
    reported: bool = False
    timer: threading.Timer | None = None


_now = _Signals()


@contextmanager
def signals(last: bool = False) -> Iterator[None]:
    """Within this context, `SIGNALS` raise `Stopped` in the main thread. One that is ignored (nohup) stays so.

    last: nothing comes after it, so that a signal ends the process where the context ends, without delay, since Ray and
    Python take the handlers away while they shut down.
    """
    global _now
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.getsignal(s) for s in SIGNALS}
    _now = _Signals(last, tuple(s for s, handler in before.items() if handler not in (signal.SIG_IGN, None)))
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable
    rearm()
    try:
        yield
    finally:
        if stopping():
            _end_now()
        if _now.timer is not None:
            _now.timer.cancel()
        _now = _Signals()
        sys.unraisablehook = hook
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def rearm() -> None:
    """Take back the signals' handlers from a library that has set its own."""
    if threading.current_thread() is threading.main_thread():
        for number in _now.armed:
            signal.signal(number, _handle)


def armed() -> bool:
    """Whether `signals` is in force."""
    return bool(_now.armed)


def stopping() -> bool:
    """Whether this process is about to end, on a signal."""
    return _now.last and _now.received is not None


def _handle(signum: int, frame: FrameType | None) -> None:
    if _now.received is None:
        _now.received = signum
        if _now.last:  # a library may swallow the exception, or wait for a thread that waits for the network
            _now.timer = threading.Timer(GRACE_S, _end_now)
            _now.timer.daemon = True
            _now.timer.start()
    if _now.ignored:
        return
    while frame is not None:
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):  # libraries in C++ abort if that fails
            _again(signum)
            return
        frame = frame.f_back
    _now.ignored = True
    raise Stopped(signum)


def _unraisable(unraised: Any) -> None:
    """For a signal that came while an object was freed, where no exception gets out."""
    if isinstance(unraised.exc_value, Stopped):
        _now.ignored = False
        _again(unraised.exc_value.args[0])
    else:
        sys.__unraisablehook__(unraised)


def _again(signum: int) -> None:
    """The signal once more, a moment later."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()


def _end_now() -> None:
    """End the process as it is. Its files are whole at any moment."""
    if not _now.reported:
        _say(STOPPED)
    for last in at_worst:
        with suppress(Exception):
            last()
    with suppress(OSError, ValueError):
        _flush()
    os._exit(128 + (_now.received or signal.SIGINT))


def open_streams() -> None:
    """Give this process the standard streams that it was started without (``>&-``): a file would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                while os.open(os.devnull, os.O_RDWR) < number:
                    pass
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115, PTH123


def run(work: Callable[[], _T], clear_up: Callable[[], None] = lambda: None, debug: bool = False) -> _T:
    """The result of ``work``; an error becomes one line and SystemExit. debug: a traceback instead of the line.

    clear_up: called at the end in any case; no signal interrupts it.
    """
    try:
        try:
            result = work()
        except SystemExit:
            _flush()
            raise
        _flush()
        return result
    except MerRayError as error:
        if debug:
            raise
        _end(f"error: {error}", 2)
    except KeyboardInterrupt:
        # Libraries may raise one of their own for ours.
        _end(STOPPED, 128 + (_now.received or signal.SIGINT))
    except OSError as error:
        if debug:
            raise
        if not _flush_fails():
            _end(f"error: {as_ours(error)}", 2)
        if error.errno == errno.EPIPE:
            raise SystemExit(1) from None  # who read it has seen enough
        _end(f"error: cannot write to standard output: {error.strerror}", 2)
    finally:
        _now.ignored = True
        clear_up()


def _end(message: str, code: int) -> NoReturn:
    _say(message)
    raise SystemExit(code) from None


def _say(message: str) -> None:
    _now.reported = True
    try:
        print(f"mer-ray: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _flush_fails() -> bool:
    """Whether standard output takes nothing. What waits for it is dropped, or Python would complain as it ends."""
    try:
        _flush()
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, 0)
        if not any(events & select.POLLERR for _, events in poll.poll(0)):  # a pipe that nobody reads
            return False
    except (ValueError, AttributeError):  # there is none
        return False
    except OSError:
        pass
    _drop(sys.stdout)
    return True


def _drop(stream: TextIO) -> None:
    """Send to nowhere what waits for a stream that takes nothing."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
