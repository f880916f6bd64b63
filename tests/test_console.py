"""What people and logs see while a stage works."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray import console
from mer_ray.console import Ticker, duration, pace, progress


class Clock:
    """Stands still until it is told the time."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (754, "13 min"),
        (3_599, "1 h 00 min"),
        (7_500, "2 h 05 min"),
        (86_399, "1 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds, message):
    assert duration(seconds) == message


@pytest.mark.parametrize(("per_s", "message"), [(25, "25.0/s"), (0.1, "0.1/s"), (0.03, "1.8/min"), (0.0007, "2.5/h")])
def test_a_slow_rate_is_no_zero(per_s, message):
    assert pace(per_s) == message


def test_a_log_line_has_count_rate_and_the_time_that_is_left():
    clock = Clock()
    ticker = Ticker("acquire", 9_000, now=clock)
    assert ticker.line() == "acquire: 0 of 9,000, 0 s so far"
    clock.s = 60
    ticker.advance(1_500)
    assert ticker.line() == "acquire: 1,500 of 9,000, 25.0/s, 1 min so far, about 5 min left"
    clock.s = 360
    ticker.advance(7_500)
    assert ticker.line() == "acquire: 9,000 of 9,000, 25.0/s, 6 min so far"


def test_what_is_left_follows_the_work_where_the_things_differ_in_size():
    clock = Clock()
    ticker = Ticker("extract", 10, work=3_600.0, now=clock)
    clock.s = 40
    ticker.advance(9, "2.00 h of audio", work=360.0)  # nine short ones: a tenth of the work
    assert ticker.line() == "extract: 9 of 10, 0.2/s, 40 s so far, about 6 min left, 2.00 h of audio"


@given(
    steps=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e6)), max_size=20),
    total=st.none() | st.integers(0, 10**8),
    work=st.none() | st.floats(0, 1e9),
)
def test_a_line_is_one_line_whatever_comes(steps, total, work):
    clock = Clock()
    ticker = Ticker("score", total, work=work, now=clock)
    for n, s in steps:
        clock.s += s
        ticker.advance(n, work=s)
        line = ticker.line()
        assert line.startswith(f"score: {ticker.count:,}")
        assert line.isprintable()
        assert "nan" not in line
        assert "inf" not in line


@pytest.fixture
def in_haste(monkeypatch):
    """Lines at once, so that no test waits."""
    monkeypatch.setattr(console, "LOG_FIRST_S", 0.01)
    monkeypatch.setattr(console, "LOG_EVERY_S", 0.01)


def test_a_log_hears_of_a_stage_also_while_nothing_is_finished(in_haste, capsys):
    seen = ""
    with progress("extract", 9_000):
        while not seen:
            seen = capsys.readouterr().err
    assert re.match(r"extract: 0 of 9,000, \d+ s so far\n", seen)


def test_a_log_that_heard_of_a_stage_hears_its_end_even_of_one_that_breaks_off(in_haste, capsys):
    def work():
        seen = ""
        with progress("score", 3) as ticker:
            while "score" not in seen:
                seen = capsys.readouterr().err
            ticker.advance(2, "[red]1.00 h[/red] of Dvořák")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("score: 2 of 3, ")
    assert last.endswith("[red]1.00 h[/red] of Dvořák")  # what comes from outside is no markup


def test_a_stage_of_a_moment_leaves_no_line_in_a_log(capsys):
    with progress("label", 5) as ticker:
        ticker.advance(5)
    assert capsys.readouterr().err == ""


def test_a_log_has_no_escapes_and_no_redrawn_bars(in_haste, capsys):
    seen = ""
    with progress("train", 4) as ticker:
        while seen.count("\n") < 3:
            ticker.advance(0, "cnn-mfcc")
            seen += capsys.readouterr().err
    assert "\x1b" not in seen
    assert "\r" not in seen


@pytest.mark.parametrize(("terminal", "redraws"), [("dumb", False), ("xterm", True)])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines_too(terminal, redraws):
    code = (
        "from mer_ray import console\nconsole.LOG_FIRST_S = 0.01\n"
        "with console.progress('train', 4): input()"  # until this test has seen enough
    )
    ours, its = pty.openpty()
    environment = {"TERM": terminal, "PATH": ""}
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=its, env=environment)
    seen = ""
    while "train" not in seen:
        seen += os.read(ours, 1000).decode(errors="replace")
    child.communicate(b"\n", timeout=240)
    os.close(its)
    os.close(ours)
    assert child.returncode == 0
    assert ("\x1b" in seen) == redraws


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_title_stops_a_command_whatever_its_log_can_hold(encoding):
    """A summary line has a middle dot, and a file name may hold bytes that are no text."""
    code = (
        "import click; from mer_ray import cli; from mer_ray.console import out, err\n"
        "@cli.main.command()\ndef say():\n    out.print('Þórr · \\udcff'); err.print('Þórr · \\udcff')\n"
        "cli.main(['say'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": encoding, "PATH": ""}, timeout=240
    )
    assert done.returncode == 0, done.stderr.decode()
    for stream in (done.stdout, done.stderr):
        text = io.TextIOWrapper(io.BytesIO(stream), encoding).read()
        assert text.rstrip().endswith(r"\udcff")
        assert ("Þ" in text) == (encoding != "ascii")
