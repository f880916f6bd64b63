"""The code blocks of a page, a shell and a Python that run them in order, and what is compared with what is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = "120"
"""Columns of the terminal in which the shown outputs were printed."""

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:,\d{3})+|-?\d+(?:\.\d+)?")
_VARYING = [
    (re.compile(r"\d[\d.,]* (CPU-s|s|h)\b"), r"N \1"),
    (re.compile(r"\d[\d.,]*x real time"), "Nx real time"),
    (re.compile(r"\d[\d.,]* ([kMG]?B)\b"), r"N \1"),
    (re.compile(r":[0-9a-f]{12}\b"), ":HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d)?"), "DATE"),
]
"""Times, sizes, hashes of models that another machine makes in other bits, and dates."""
_DRIVER = """
import contextlib, io, json, sys
own = {"__name__": "__main__"}
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(json.loads(line), "a block", "exec"), own)
    print(json.dumps(printed.getvalue()), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the ``text`` block that follows it at once, if any."""

    language: str
    text: str
    shown: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order, without those that show an output."""
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    out = []
    for this, after in zip_longest(found, found[1:]):
        if this[2] == "text":
            continue
        follows = after is not None and after[2] == "text" and not text[this.end() : after.start()].strip()
        out.append(Block(this[2], this[3], after[3] if follows else None))
    return out


class Session:
    """One shell and one Python in a folder of their own, with ``~`` beside it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        home.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = kept | {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": WIDTH}
        self._errors = (folder.parent / "errors.log").open("w+", encoding="utf-8")
        common = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": folder, "env": environment}
        self._shell = subprocess.Popen(["bash", "--norc", "-e"], stderr=self._errors, **common)
        self._python = subprocess.Popen([sys.executable, "-c", _DRIVER], stderr=self._errors, **common)

    def bash(self, text: str) -> str:
        """Type a block: what it prints. The shell ends at a command that fails, which is an AssertionError."""
        script = self.folder.parent / "block.sh"
        script.write_text(text, encoding="utf-8")
        return self._asked(self._shell, f"source '{script}' </dev/null; echo '# end'\n", "# end\n")

    def python(self, text: str) -> str:
        """Run a block after the ones before: what it prints."""
        return str(json.loads(self._asked(self._python, json.dumps(text) + "\n", None)))

    def _asked(self, process: subprocess.Popen[str], line: str, end: str | None) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        out = ""
        for said in iter(process.stdout.readline, ""):
            if said == end:
                return out
            out += said
            if end is None:
                return out
        self._errors.seek(0)
        raise AssertionError(f"{line}{out}{self._errors.read()[-3000:]}")

    def close(self) -> None:
        for process in (self._shell, self._python):
            process.communicate()
        self._errors.close()


def differences(shown: str, printed: str, folder: Path) -> list[str]:
    """Lines that are shown and were not printed, in this order. A line ``...`` stands for any lines.

    Numbers may differ by 0.02 and 2 %; what varies from run to run counts as equal.
    """
    expected = [_plain(line) for line in shown.splitlines()]
    got = [_plain(line.replace(f"{folder}/", "")) for line in printed.splitlines()]
    got = [line for line in got if line]
    at, free, missing = 0, False, []
    for line in filter(None, expected):
        if line == "...":
            free = True
            continue
        where = range(at, len(got)) if free else range(at, min(at + 1, len(got)))
        found = next((i for i in where if _alike(line, got[i])), None)
        if found is None:
            missing.append(line)
        else:
            at, free = found + 1, False
    if not free and at < len(got):
        missing += [f"(not shown) {line}" for line in got[at:]]
    return missing


def _plain(line: str) -> str:
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return " ".join(re.sub("[─━]{3,}", "", line).split())


def _alike(shown: str, printed: str) -> bool:
    if shown.endswith(" ..."):
        shown = shown.removesuffix(" ...")
        printed = printed[: len(shown)]
    if _NUMBER.sub("N", shown) != _NUMBER.sub("N", printed):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    numbers = ((float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)
    return all(abs(a - b) <= 0.02 + 0.02 * abs(b) for a, b in numbers)
