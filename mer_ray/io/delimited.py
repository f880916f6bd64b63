"""Delimited text from spreadsheets and scripts: its encoding, delimiter, records and numbers.

The meaning of columns is not known here. The standard library's `csv` parses; this module detects what `csv` silently
accepts (a quotation mark that swallows the rows below it, bytes of another encoding).
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mer_ray.errors import InputError

DELIMITERS = ",;\t|"
MAX_LINE = 1 << 24  # characters
MISSING = frozenset(
    ["", "-", "–", "—", ".", "?", "na", "n/a", "#n/a", "#na", "nan", "-nan", "null", "#null!", "none", "nil", "missing"]
)
"""Numeric cells without a number, in lower case."""

_BOMS = (  # UTF-32's first: it begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", "is a workbook (Excel, LibreOffice, Numbers) or another ZIP file", "save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", "save it as CSV (UTF-8)"),
    (b"\x1f\x8b", "is compressed", "unpack it first"),
    (b"PAR1", "is Parquet", "let its name end in .parquet"),
    (b"%PDF", "is a PDF", "export the table as CSV"),
    (b"SQLite format 3", "is an SQLite database", "export the table as CSV"),
)
_ESCAPED = re.compile("[\udc80-\udcff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_LETTERS = "À-ÖØ-öø-ÿŠŽšžŒœŸ"
_SIGNS = "ƒˆ†‡‰‹›‚¢¤¥¦¬±²³µ¶¸¹¼½¾×÷¨¯\N{SOFT HYPHEN}"
_STRANGE = re.compile(f"[{_LETTERS}{_SIGNS}§©®ªº«»°·]{{3,}}|[{_SIGNS}]|[§©®ª](?=[A-Za-z{_LETTERS}])")
"""Other encodings read as Windows-1252: three such characters in a row, or signs that are unusual in titles."""
_NOT_WESTERN = re.compile("ÿþ|þÿ|ÿ(?![A-Za-z])")
_SEP = re.compile(r'"?sep=(\\t|.)"?[,;|\s]*', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


class File(Protocol):
    """A path, or an object that opens like one; its text names it in messages."""

    @property
    def open(self) -> Callable[..., Any]:
        """As `Path.open`."""


@dataclass(frozen=True)
class Encoding:
    """name, errors: arguments of `open`. note: a remark for the user, if the encoding was guessed.

    dirty: whether there are rows with NUL characters, or with undecodable bytes (as lone surrogates).
    """

    name: str
    errors: str = "strict"
    note: str = ""
    dirty: bool = False


def encoding(file: File) -> Encoding:
    """Strict UTF-8 first; UTF-16 and UTF-32 by their mark or their NULs; else Windows-1252. Reads the whole file.

    In a file that is UTF-8 except for some bytes, those become lone surrogates. Raises InputError for binary data, and
    for text that is recognised as another encoding.
    """
    with file.open("rb") as handle:
        head = handle.read(1 << 16)
        for magic, what, hint in _NOT_TEXT:
            if head.startswith(magic):
                raise InputError(f"{file} {what}", hint)
        for bom, name in _BOMS:
            if head.startswith(bom):
                if name != "utf-8-sig":
                    return Encoding(name)
                break
        else:
            if wide := _wide(head):
                return Encoding(wide, note=f"read as {wide.upper()}: it has no byte order mark")
        handle.seek(0)
        return _eight_bits(file, iter(lambda: handle.read(1 << 20), b""))


def _wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, by the positions of NULs in each four bytes."""
    if b"\0" not in head:
        return ""
    n = max(1, len(head) // 4)
    share = [head[i::4].count(0) / n for i in range(4)]
    for name, full, free in (
        ("utf-32-le", (2, 3), (0,)),
        ("utf-32-be", (0, 1), (3,)),
        ("utf-16-le", (1, 3), (0, 2)),
        ("utf-16-be", (0, 2), (1, 3)),
    ):
        least = 0.9 if "32" in name else 0.1
        if min(share[i] for i in full) >= least and max(share[i] for i in free) < 0.01:
            return name
    return ""


def _eight_bits(file: File, chunks: Iterator[bytes]) -> Encoding:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    wide = bad = nuls = 0
    for chunk in chunks:
        text = decoder.decode(chunk)
        nuls += text.count("\0")
        if not text.isascii():
            escaped = len(_ESCAPED.findall(text))
            bad += escaped
            wide += len(_NOT_ASCII.findall(text)) - escaped
    bad += len(decoder.decode(b"", final=True))
    wide -= wide > 0 and _has_mark(file)
    if not bad:
        return Encoding("utf-8-sig", dirty=nuls > 0)
    hint = "save it as UTF-8"
    if wide < bad and wide:
        raise InputError(f"{file} is no UTF-8, and no Windows-1252 either", hint)
    if wide:  # one bad byte must not make Ã© of every é
        note = f"it is UTF-8 but for {bad:,} bytes: the rows that have these are lost"
        return Encoding("utf-8-sig", "surrogateescape", note, dirty=True)
    high = strange = 0
    try:
        with file.open(encoding="cp1252", newline="") as handle:
            while text := handle.read(1 << 20):
                high += len(_NOT_ASCII.findall(text))
                strange += sum(len(run) for run in _STRANGE.findall(text))
                if _NOT_WESTERN.search(text):
                    raise InputError(f"{file} is no UTF-8, and no Windows-1252 either", hint)
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no UTF-8, and no Windows-1252 either", hint) from error
    if strange > max(2, high / 2):
        raise InputError(f"{file} is no UTF-8, and Windows-1252 makes no words of it", hint)
    return Encoding("cp1252", note="read as Windows-1252 (Western European): it is not UTF-8", dirty=nuls > 0)


def _has_mark(file: File) -> bool:
    with file.open("rb") as handle:
        return bool(handle.read(3) == codecs.BOM_UTF8)


def lines(file: File, how: Encoding) -> Iterator[str]:
    """The lines of a file, with their ends (LF, CRLF or CR). Raises InputError for one that does not end."""
    with file.open(encoding=how.name, errors=how.errors, newline="") as handle:
        while line := handle.readline(MAX_LINE):
            if len(line) == MAX_LINE and line[-1] not in "\r\n":
                raise InputError(f"{file} has a line of over {MAX_LINE:,} characters", "it is no table of text")
            yield line


def after_sep(source: Iterator[str]) -> tuple[str, Iterator[str]]:
    """(the delimiter that Excel's line ``sep=;`` names, or "", the lines from the first that is not blank)."""
    for line in source:
        if not line.strip():
            continue
        named = _SEP.fullmatch(line.strip("\r\n"))
        if named is None:
            return "", _chain(line, source)
        rest = next((text for text in source if text.strip()), "")
        return "\t" if named[1] == "\\t" else named[1], _chain(rest, source)
    return "", iter(())


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def delimiter(line: str, known: Callable[[Sequence[str]], int], candidates: str = DELIMITERS) -> str:
    """The delimiter with the most ``known`` cells in a line, then the one with the most cells, then the first."""

    def merit(mark: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=mark, skipinitialspace=mark != "\t"), [])
        return known(cells), len(cells)

    return max(candidates, key=merit)


def records(source: Iterator[str], mark: str) -> Iterator[list[str] | str]:
    """The cells of each record, or its error.

    An unclosed quotation mark makes only its own line bad, not the lines up to the next mark. In text separated by
    tabs, it is then a character.
    """
    pending: deque[str] = deque()
    taken: list[str] = []
    n = 0

    def feed() -> Iterator[str]:
        while True:
            line = pending.popleft() if pending else next(source, None)
            if line is None:
                return
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=mark, strict=True)
    while True:
        taken.clear()
        try:
            cells = next(reader)
            if mark != "\t" and (f'{mark} "' in taken[0] or f"{mark}\t" in taken[0]):
                bare = [re.sub(rf'{re.escape(mark)} *\t[ \t]*"(?!")', f'{mark}"', line) for line in taken]
                cells = next(csv.reader(bare, delimiter=mark, skipinitialspace=True, strict=True))
            if len(taken) > 1 and _are_rows(taken, mark, n):
                raise csv.Error("a quotation mark is not closed")
        except StopIteration:
            return
        except csv.Error as error:
            first = taken[0]
            pending.extendleft(reversed(taken[1:]))
            reader = csv.reader(feed(), delimiter=mark, strict=True)
            if mark == "\t":
                yield first.rstrip("\r\n").split("\t")
            else:
                yield f"has a quotation mark that is not closed, or not doubled inside a cell ({error})"
            continue
        n = n or len(cells)
        yield cells


def _are_rows(lines: Sequence[str], mark: str, n: int) -> bool:
    """Whether lines joined by a quotation mark look like separate rows of n cells, including the first one."""
    whole = [line.count(mark) >= n - 1 for line in lines]
    return n > 1 and whole[0] and any(whole[1:])


def is_missing(text: str) -> bool:
    """Whether a numeric cell has no number, in the spelling of spreadsheets, R and pandas."""
    return text.strip().casefold() in MISSING


def number(text: str, thousands: bool = False) -> float:
    """A number with a decimal point or comma. Raises ValueError, also for two kinds of separators.

    thousands: whether numbers can be so large that ``1,234`` is ambiguous, and refused.
    """
    bare = text.strip().replace("\N{MINUS SIGN}", "-")
    if not _NUMBER.fullmatch(bare):
        raise ValueError(f"{text!r} is not a number")
    if thousands and _THOUSANDS.fullmatch(bare):
        raise ValueError(f"{text!r} could be a thousand or a fraction")
    return float(bare.replace(",", "."))
