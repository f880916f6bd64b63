"""What people see while it works: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY_S = 15.0

out = Console(highlight=False, soft_wrap=True)
"""Results, on standard output."""
err = Console(highlight=False, soft_wrap=True, stderr=True)
"""Progress and errors, on standard error."""


@dataclass
class Summary:
    """What a stage did: rows that were there before, rows made, tracks lost, and remarks for people."""

    stage: str
    unit: str = "tracks"
    done_before: int = 0
    made: int = 0
    failed: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = self.done_before + self.made
        parts = [f"{total:,} {self.unit}"]
        if self.made == 0:
            parts.append("nothing new, found everything done")
        elif self.done_before:
            parts.append(f"{self.made:,} new")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        parts.append(f"{self.seconds:.1f} s")
        return f"{self.stage:<8} " + " · ".join(parts)


def show(summary: Summary) -> None:
    """Print a stage's summary line and its remarks."""
    out.print(escape(str(summary)))
    for note in summary.notes:
        out.print(f"         [dim]{escape(note)}[/dim]")


class Ticker:
    """Counts up. ``advance`` may be told how many, a word on what is happening, and how much work that was.

    total: how many there are, if that is known. work: all the work there is, in any unit, where the things differ so
    much in size that their number says little of the time that is left.
    """

    def __init__(self, what: str, total: int | None, bar: Progress | None, work: float | None = None) -> None:
        self.what, self.total, self.count = what, total, 0
        self._work, self._worked = work, 0.0
        self._bar, self._start = bar, time.monotonic()
        self._said = self._start
        if bar is not None:
            self._task = bar.add_task(escape(what), total=total if work is None else work, note="", **self._counts())

    def advance(self, n: int = 1, note: str = "", work: float = 0.0) -> None:
        """n more are done."""
        self.count += n
        self._worked += work
        if self._bar is not None:
            done = self.count if self._work is None else self._worked
            self._bar.update(self._task, completed=done, note=escape(note), **self._counts())
            return
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_S:
            self._said = now
            err.print(escape(self._line(now - self._start, note)))

    def _counts(self) -> dict[str, Any]:
        rate = self.count / max(1e-3, time.monotonic() - self._start)
        return {
            "count": f"{self.count:,}" + (f"/{self.total:,}" if self.total else ""),
            "rate": f"{rate:.1f}/s" if self.count else "",
        }

    def _line(self, elapsed: float, note: str) -> str:
        rate = self.count / elapsed
        line = f"{self.what}: {self.count:,}" + (f" of {self.total:,}" if self.total else "") + f", {rate:.1f}/s"
        done, all_of_it = (self.count, self.total) if self._work is None else (self._worked, self._work)
        if all_of_it and done:
            line += f", about {max(0.0, all_of_it - done) / done * elapsed:.0f} s left"
        return f"{line}, {note}" if note else line


@contextmanager
def progress(what: str, total: int | None = None, work: float | None = None) -> Iterator[Ticker]:
    """A bar with count, rate and ETA where standard error is a terminal, else a log line every quarter of a minute.

    work: see `Ticker`.
    """
    if not sys.stderr.isatty():
        yield Ticker(what, total, None, work)
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
