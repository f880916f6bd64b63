"""Ends a command after an error or signal: with one line on standard error, and an exit code.

2 for what the user can fix (a MerRayError, or an OSError: a full disk, a missing permission), 3 if too many tracks
failed, 128 + n for signal n.
SIGTERM and SIGHUP raise KeyboardInterrupt, like Ctrl-C, so that cleanup code runs.
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

from mer_ray import extras
from mer_ray.errors import MerRayError, to_mer_ray_error

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
GRACE_S = 6.0
"""Time for cleanup after a signal; then the process ends immediately."""
STOPPED = "stopped; the same command goes on from here"
at_worst: list[Callable[[], None]] = []
"""Functions to call before a signal ends the process."""
_T = TypeVar("_T")


class Stopped(KeyboardInterrupt):
    """A signal to end this process."""


@dataclass
class _Signals:
    """armed: the handled signals. received: the first one. ignored: it was raised, or the command has ended."""

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

    last: the process ends after the context. A received signal then ends it there immediately, since Ray and Python
    remove the handlers during shutdown.
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
    """Set the handlers again after a library has replaced them."""
    if threading.current_thread() is threading.main_thread():
        for number in _now.armed:
            signal.signal(number, _handle)


def armed() -> bool:
    """Whether a `signals` context is active."""
    return bool(_now.armed)


def handled() -> None:
    """Go on after a signal: it was what the command waited for."""
    if _now.timer is not None:
        _now.timer.cancel()
    _now.received, _now.ignored, _now.timer = None, False, None


def stopping() -> bool:
    """Whether this process is ending because of a signal."""
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
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):  # C++ libraries abort if an import fails
            _again(signum)
            return
        frame = frame.f_back
    _now.ignored = True
    raise Stopped(signum)


def _unraisable(unraised: Any) -> None:
    """Handle a signal during an object's deallocation, where exceptions are not propagated."""
    if isinstance(unraised.exc_value, Stopped):
        _now.ignored = False
        _again(unraised.exc_value.args[0])
    else:
        sys.__unraisablehook__(unraised)


def _again(signum: int) -> None:
    """Send the signal again after a short delay."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()


def _end_now() -> None:
    """End the process immediately. Its files are complete at any time."""
    if not _now.reported:
        _say(STOPPED)
    for last in at_worst:
        with suppress(Exception):
            last()
    with suppress(OSError, ValueError):
        _flush()
    os._exit(128 + (_now.received or signal.SIGINT))


def open_streams() -> None:
    """Open standard streams that are closed (``>&-``), or another file would get their descriptors."""
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
        _end(f"error: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        if debug or (missing := extras.explained(error)) is None:
            raise
        _end(f"error: {missing}", missing.exit_code)
    except KeyboardInterrupt:
        # Libraries may raise their own KeyboardInterrupt instead.
        _end(STOPPED, 128 + (_now.received or signal.SIGINT))
    except OSError as error:
        if debug:
            raise
        if not _flush_fails():
            _end(f"error: {to_mer_ray_error(error)}", 2)
        if error.errno == errno.EPIPE:
            raise SystemExit(1) from None  # the reader has closed the pipe
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
    """Whether standard output cannot be written. Its buffer is then dropped, else Python reports an error at exit."""
    try:
        _flush()
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, 0)
        if not any(events & select.POLLERR for _, events in poll.poll(0)):  # a pipe without a reader
            return False
    except (ValueError, AttributeError):  # no stream
        return False
    except OSError:
        pass
    _drop(sys.stdout)
    return True


def _drop(stream: TextIO) -> None:
    """Drop the buffer of a stream that cannot be written."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
