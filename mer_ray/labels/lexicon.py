"""Lexicons: words with a valence, an arousal and a dominance.

NRC VAD v1 (Mohammad 2018, ACL: "Obtaining reliable human ratings of valence, arousal, and dominance for 20,000 English
words") scores 0..1; v2 (Mohammad 2025) scores -1..1 and has phrases. Both are tab-separated text. They are free for
research and may not be redistributed, so the user brings the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_ray.errors import InputError
from mer_ray.identity import file_digest

DEMO = Path(__file__).parent / "data" / "demo_lexicon.txt"
"""The project's own ratings for its demo catalog. Not for research."""

_WORD = {"word", "term", "words", "terms", "lemma"}
_COLUMNS = {"valence": 0, "v": 0, "arousal": 1, "a": 1, "dominance": 2, "d": 2}
WHERE_TO_GET = "get NRC-VAD-Lexicon.txt from saifmohammad.com (free for research) and set label.lexicon to its path"


@dataclass(frozen=True)
class Lexicon:
    """name: file name and the first digits of its SHA-256. terms: folded term → (V, A, D), each in 0..1."""

    name: str
    terms: Mapping[str, tuple[float, float, float]]

    def __len__(self) -> int:
        return len(self.terms)


def fold(term: str) -> str:
    """The form in which terms and tags are compared: case-folded, outer and repeated spaces removed."""
    return " ".join(term.casefold().split())


def load(path: str | Path) -> Lexicon:
    """Read a lexicon file: NRC VAD v1 or v2, with or without a header line, separated by tabs (or commas in a .csv).

    The scale is taken from the values: any below 0 means -1..1 (NRC v2), which is mapped to 0..1 by (x + 1) / 2.
    Of a term that stands twice, the first entry counts. Raises InputError with file and line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"lexicon {file} does not exist", WHERE_TO_GET)
    terms: dict[str, tuple[float, float, float]] = {}
    for term, scores in _rows(file):
        terms.setdefault(term, scores)
    if not terms:
        raise InputError(f"lexicon {file} has no entries", WHERE_TO_GET)
    if min(min(scores) for scores in terms.values()) < 0:
        terms = {t: ((v + 1) / 2, (a + 1) / 2, (d + 1) / 2) for t, (v, a, d) in terms.items()}
    return Lexicon(f"{file.name}:{file_digest(file)[:12]}", terms)


def _rows(file: Path) -> Iterator[tuple[str, tuple[float, float, float]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            delimiter = "," if file.suffix.lower() == ".csv" else "\t"
            if delimiter == ",":
                yield from _parse(file, csv.reader(handle))
            else:  # terms are free text: here, a quotation mark is a character
                yield from _parse(file, csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"lexicon {file} cannot be read ({error})", "it must be UTF-8 text separated by tabs"
        ) from error


def _parse(file: Path, lines: Iterator[list[str]]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    order = (0, 1, 2, 3)
    for number, cells in enumerate(lines, start=1):
        if not cells or all(not c.strip() for c in cells):
            continue
        if number == 1 and cells[0].strip().casefold() in _WORD:
            order = _header(file, cells)
            continue
        try:
            values = [float(cells[i]) for i in order[1:]]
            v, a, d = values
        except (ValueError, IndexError) as error:
            raise InputError(
                f"lexicon {file}, line {number}: expected a term and three numbers, got {' | '.join(cells)[:120]!r}"
            ) from error
        if not all(-1.0 <= x <= 1.0 for x in values):
            raise InputError(
                f"lexicon {file}, line {number}: scores must lie in 0..1 (NRC v1) or -1..1 (NRC v2), got {values}"
            )
        term = fold(cells[order[0]])
        if term:
            yield term, (v, a, d)


def _header(file: Path, cells: list[str]) -> tuple[int, int, int, int]:
    found = {_COLUMNS[c.strip().casefold()]: i for i, c in enumerate(cells) if c.strip().casefold() in _COLUMNS}
    if set(found) != {0, 1, 2}:
        raise InputError(f"lexicon {file}, line 1: the header must name Valence, Arousal and Dominance, got {cells}")
    return 0, found[0], found[1], found[2]
