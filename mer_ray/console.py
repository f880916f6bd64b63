"""What people see while it works: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

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
    """Counts up. ``advance`` may be told how many, and a word on what is happening."""

    def __init__(self, what: str, total: int | None, bar: Progress | None) -> None:
        self.what, self.total, self.count = what, total, 0
        self._bar, self._start = bar, time.monotonic()
        self._said = self._start
        self._task = bar.add_task(escape(what), total=total, note="") if bar is not None else None

    def advance(self, n: int = 1, note: str = "") -> None:
        """n more are done."""
        self.count += n
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=n, note=escape(note))
            return
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_S:
            self._said = now
            err.print(escape(self._line(now - self._start, note)))

    def _line(self, elapsed: float, note: str) -> str:
        rate = self.count / elapsed
        line = f"{self.what}: {self.count:,}" + (f" of {self.total:,}" if self.total else "") + f", {rate:.1f}/s"
        if self.total and self.count:
            line += f", about {(self.total - self.count) / rate:.0f} s left"
        return f"{line} {note}".rstrip()


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Ticker]:
    """A bar with count, rate and ETA where standard error is a terminal, else a log line every quarter of a minute."""
    if not sys.stderr.isatty():
        yield Ticker(what, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        yield Ticker(what, total, bar)
