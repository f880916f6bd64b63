"""Progress: bars on a terminal, or periodic lines in a log."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_FIRST_S, LOG_EVERY_S = 3.0, 15.0
"""Times of the first line in a log of a stage, and between the next ones."""

out = Console(highlight=False, emoji=False, soft_wrap=True)
"""Results, on standard output."""
err = Console(highlight=False, emoji=False, soft_wrap=True, stderr=True)
"""Progress and errors, on standard error."""


@contextmanager
def quietly(quiet: bool = True, answers: bool = False) -> Iterator[None]:
    """Within this context, if ``quiet``, no progress is shown, and without ``answers`` no results either."""
    before = out.quiet, err.quiet
    out.quiet, err.quiet = (quiet and not answers) or before[0], quiet or before[1]
    try:
        yield
    finally:
        out.quiet, err.quiet = before


@dataclass
class Summary:
    """A stage's result: rows done before, rows made, tracks failed, changed, gone, and remarks.

    lost: what failed, if it was more than ``max_lost`` of the run's tracks; else empty.
    """

    stage: str
    unit: str = "tracks"
    done_before: int = 0
    made: int = 0
    failed: int = 0
    changed: int = 0
    gone: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    lost: str = ""

    def __str__(self) -> str:
        total = self.done_before + self.made
        parts = [f"{total:,} {self.unit}"]
        if not (self.made or self.changed or self.gone) and (total or not self.failed):
            parts.append("nothing new, found everything done")
        elif self.made and self.done_before:
            parts.append(f"{self.made:,} new")
        parts += [f"{n:,} {what}" for n, what in ((self.changed, "changed"), (self.gone, "gone")) if n]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        parts.append(f"{self.seconds:.1f} s")
        return f"{self.stage:<8} " + " · ".join(parts)


def problem(message: str) -> None:
    """Print a line on standard error, also within `quietly`."""
    before, err.quiet = err.quiet, False
    err.print(escape(message))
    err.quiet = before


def show(summary: Summary) -> None:
    """Print a stage's summary line and its remarks."""
    out.print(escape(str(summary)))
    for note in summary.notes:
        out.print(f"         [dim]{escape(note)}[/dim]")


def duration(seconds: float) -> str:
    """Readable: ``45 s``, ``12 min``, ``2 h 05 min``, ``3 d 4 h``. seconds: >= 0."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def pace(per_s: float) -> str:
    """A rate with significant digits: ``25.0/s``, ``1.8/min``, ``2.5/h``. per_s: >= 0."""
    if per_s >= 0.1:
        return f"{per_s:.1f}/s"
    return f"{60 * per_s:.1f}/min" if per_s >= 0.1 / 60 else f"{3600 * per_s:.1f}/h"


class Ticker:
    """Counts progress: ``advance`` adds finished items, a note on the current one, and their work.

    total: number of items, if known. work: total work in any unit, to estimate the time left if items differ in size.
    now: a clock in seconds.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        bar: Progress | None = None,
        work: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.count, self.note = what, total, 0, ""
        self._work, self._worked = work, 0.0
        self._bar, self._now, self._start = bar, now, now()
        if bar is not None:
            self._task = bar.add_task(escape(what), total=total if work is None else work, note="", **self._counts())

    def advance(self, n: int = 1, note: str = "", work: float = 0.0) -> None:
        """Add n finished items."""
        self.count += n
        self._worked += work
        self.note = note
        if self._bar is not None:
            done = self.count if self._work is None else self._worked
            self._bar.update(self._task, completed=done, note=escape(note), **self._counts())

    def _counts(self) -> dict[str, Any]:
        rate = self.count / max(1e-3, self._now() - self._start)
        return {"count": self._of(), "rate": f"{rate:.1f}/s" if self.count else ""}

    def _of(self, between: str = "/") -> str:
        return f"{self.count:,}" + (f"{between}{self.total:,}" if self.total else "")

    def line(self) -> str:
        """A line for a log: count, rate, time so far, and estimated time left."""
        elapsed = self._now() - self._start
        parts = [f"{self.what}: {self._of(' of ')}"]
        if self.count:
            parts.append(pace(self.count / max(1e-3, elapsed)))
        parts.append(f"{duration(elapsed)} so far")
        done, all_of_it = (self.count, self.total) if self._work is None else (self._worked, self._work)
        if all_of_it and 0 < done < all_of_it and math.isfinite(left := (all_of_it - done) / done * elapsed):
            parts.append(f"about {duration(left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


@contextmanager
def progress(what: str, total: int | None = None, work: float | None = None) -> Iterator[Ticker]:
    """A bar with count, rate and ETA where standard error is a terminal, else a log line every quarter of a minute.

    Lines are printed also while nothing is finished, to show that the process is alive.
    work: see `Ticker`.
    """
    if not sys.stderr.isatty() or err.is_dumb_terminal:
        ticker = Ticker(what, total, None, work)
        with _logged(ticker):
            yield ticker
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=True, speed_estimate_period=300) as bar:
        yield Ticker(what, total, bar, work)


@contextmanager
def _logged(ticker: Ticker) -> Iterator[None]:
    """Lines in the log by a thread, and one last line if there were any."""
    ended = threading.Event()
    printed = False

    def print_lines() -> None:
        nonlocal printed
        wait_s = LOG_FIRST_S
        while not ended.wait(wait_s):
            err.print(escape(ticker.line()))
            printed, wait_s = True, LOG_EVERY_S

    thread = threading.Thread(target=print_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if printed:
            err.print(escape(ticker.line()))
