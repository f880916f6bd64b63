"""How a command ends that cannot go on: with one line on standard error, and an exit code that tells why.

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
from types import FrameType
from typing import Any, NoReturn, TextIO, TypeVar

from mer_ray.errors import MerRayError, as_ours

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
GRACE_S = 6.0
"""What clearing up may take after a signal; then the process ends as it is. Its files are whole at any moment."""
STOPPED = "stopped; the same command goes on from here"
at_worst: list[Callable[[], None]] = []
"""What is still to be done then: see `GRACE_S`."""
_T = TypeVar("_T")
_armed: tuple[signal.Signals, ...] = ()
_received: int | None = None
_closing = False
_timer: threading.Timer | None = None


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.code = 128 + signum


@contextmanager
def signals(last: bool = False) -> Iterator[None]:
    """Within this context, `SIGNALS` raise `Stopped` in the main thread. One that is ignored (nohup) stays so.

    last: the process ends after it, and so after a signal it ends soon, see `GRACE_S`, and takes no second one.
    """
    global _armed, _received, _closing, _timer
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.getsignal(s) for s in SIGNALS}
    _received, _closing = None, False
    _armed = tuple(s for s, handler in before.items() if handler not in (signal.SIG_IGN, None))
    rearm()
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if _received is None or not last:
            _armed = ()
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
            if _timer is not None:
                _timer.cancel()
            _timer = None


def rearm() -> None:
    """Take back the signals' handlers from a library that has set its own."""
    if threading.current_thread() is threading.main_thread():
        for number in _armed:
            signal.signal(number, _handle)


def _handle(signum: int, frame: FrameType | None) -> None:
    global _received, _timer
    if _closing:
        return  # it ends already, and what it clears up is not to be interrupted
    if _received is None:
        _received = signum
        # Somewhere, an exception may be swallowed, and a library may wait for a thread that waits for the network.
        _timer = threading.Timer(GRACE_S, _end_now, (128 + signum,))
        _timer.daemon = True
        _timer.start()
    while frame is not None:
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):  # libraries in C++ abort if that fails
            _again(signum)
            return
        frame = frame.f_back
    raise Stopped(signum)


def _again(signum: int) -> None:
    """The signal once more, a moment later."""
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()


def armed() -> bool:
    """Whether `signals` is in force."""
    return bool(_armed)


def open_streams() -> None:
    """Give this process the standard streams that it was started without (``>&-``): a file would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                while os.open(os.devnull, os.O_RDWR) < number:
                    pass
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115, PTH123


def _end_now(code: int) -> None:
    if not _closing:
        with suppress(SystemExit):
            _end(STOPPED, code)
    for last in at_worst:
        with suppress(Exception):
            last()
    os._exit(code)


def _unraisable(lost: Any) -> None:
    """For a signal that came while an object was freed, where no exception gets out."""
    if isinstance(lost.exc_value, Stopped):
        _again(lost.exc_value.code - 128)
    else:
        sys.__unraisablehook__(lost)


def run(work: Callable[[], _T], clear_up: Callable[[], None] = lambda: None, debug: bool = False) -> _T:
    """What ``work`` answers; where it cannot go on, one line and SystemExit. debug: a traceback instead of the line.

    clear_up: called at the end in any case; no signal interrupts it.
    """
    global _closing
    try:
        try:
            try:
                answer = work()
            except SystemExit:
                _flush()
                raise
            _flush()
            return answer
        finally:
            _closing = True
            clear_up()
    except MerRayError as error:
        if debug:
            raise
        _end(f"error: {error}", 2)
    except KeyboardInterrupt as stop:
        _end(STOPPED, _code(stop))
    except OSError as error:
        if debug:
            raise
        if not _flush_fails():
            _end(f"error: {as_ours(error)}", 2)
        if error.errno == errno.EPIPE:
            raise SystemExit(1) from None  # who read it has seen enough
        _end(f"error: cannot write to standard output: {error.strerror}", 2)


def _code(stop: KeyboardInterrupt) -> int:
    """Libraries may raise a KeyboardInterrupt of their own for ours."""
    return stop.code if isinstance(stop, Stopped) else 128 + (_received or signal.SIGINT)


def _end(message: str, code: int) -> NoReturn:
    try:
        print(f"mer-ray: {' '.join(message.split())}", file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
    raise SystemExit(code) from None


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
