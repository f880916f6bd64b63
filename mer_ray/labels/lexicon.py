"""Lexicons: words with a valence, an arousal and a dominance.

Read are, by their layout:

- NRC VAD v1 (Mohammad 2018, ACL: "Obtaining reliable human ratings of valence, arousal, and dominance for 20,000
  English words"), 0..1, and v2 (Mohammad 2025), -1..1 and with phrases: tab-separated text, with or without a header.
- Warriner, Kuperman and Brysbaert (2013, Behavior Research Methods 45, 1191-1207: "Norms of valence, arousal, and
  dominance for 13,915 English lemmas"), 1..9: a CSV file with the columns Word, V.Mean.Sum, A.Mean.Sum, D.Mean.Sum.
- Any other table with a header that names a term and the three dimensions, on a scale that the user declares.

They are free for research and may not be redistributed, so the user brings the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_ray.errors import ConfigError, InputError
from mer_ray.identity import file_digest

DEMO = Path(__file__).parent / "data" / "demo_lexicon.txt"
"""The project's own ratings for its demo catalog. Not for research."""

_WORD = {"word", "term", "words", "terms", "lemma"}
_COLUMNS = {"valence": 0, "v": 0, "arousal": 1, "a": 1, "dominance": 2, "d": 2}
_WARRINER = {"v.mean.sum": 0, "a.mean.sum": 1, "d.mean.sum": 2}
_WARRINER_SCALE = (1.0, 9.0)
WHERE_TO_GET = "get NRC-VAD-Lexicon.txt from saifmohammad.com (free for research) and set label.lexicon to its path"

Scores = tuple[float, float, float]
Scale = tuple[float, float]


@dataclass(frozen=True)
class Lexicon:
    """name: file name and the first digits of its SHA-256. terms: folded term → (V, A, D), each in 0..1.

    scale: (lowest, highest) of the file's own scores.
    """

    name: str
    terms: Mapping[str, Scores]
    scale: Scale = (0.0, 1.0)

    def __len__(self) -> int:
        return len(self.terms)


def fold(term: str) -> str:
    """The form in which terms and tags are compared: case-folded, outer and repeated spaces removed."""
    return " ".join(term.casefold().split())


def load(path: str | Path, scale: Scale | None = None) -> Lexicon:
    """Read a lexicon file and map its scores to 0..1; commas separate the columns of a .csv, tabs those of any other.

    scale: (lowest, highest) of the file's scores. Without one, it is 1..9 for Warriner's columns, -1..1 if any score is
    below 0 (NRC v2), else 0..1. Of a term that stands twice, the first entry counts. Raises InputError with file and
    line, and ConfigError if the scale is upside down.
    """
    file = Path(path).expanduser()
    if scale is not None and not scale[0] < scale[1]:
        raise ConfigError(f"label.scale {list(scale)} is not a scale", "give [lowest, highest]")
    if not file.is_file():
        raise InputError(f"lexicon {file} does not exist", WHERE_TO_GET)
    terms: dict[str, Scores] = {}
    for term, scores, detected in _rows(file, scale):
        terms.setdefault(term, scores)
        scale = scale or detected
    if not terms:
        raise InputError(f"lexicon {file} has no entries", WHERE_TO_GET)
    if scale is None:
        scale = (-1.0, 1.0) if min(min(scores) for scores in terms.values()) < 0 else (0.0, 1.0)
    low, width = scale[0], scale[1] - scale[0]
    if scale != (0.0, 1.0):
        terms = {t: ((v - low) / width, (a - low) / width, (d - low) / width) for t, (v, a, d) in terms.items()}
    return Lexicon(f"{file.name}:{file_digest(file)[:12]}", terms, (float(scale[0]), float(scale[1])))


def _rows(file: Path, scale: Scale | None) -> Iterator[tuple[str, Scores, Scale | None]]:
    """Term, scores as they stand in the file, and the scale that the header tells."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            if file.suffix.lower() == ".csv":
                reader = csv.reader(handle)
            else:  # terms are free text: here, a quotation mark is a character
                reader = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            order, first = (0, 1, 2, 3), True
            for cells in reader:
                if not any(c.strip() for c in cells):
                    continue
                if first and _is_header(cells):
                    order, told = _header(file, cells)
                    scale = scale or told
                else:
                    term, scores = _entry(file, reader.line_num, cells, order, scale)
                    if term:
                        yield term, scores, scale
                first = False
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(
            f"lexicon {file} cannot be read ({error})",
            "it must be UTF-8 text separated by tabs, or by commas in a .csv",
        ) from error


def _entry(
    file: Path, line: int, cells: list[str], order: tuple[int, int, int, int], scale: Scale | None
) -> tuple[str, Scores]:
    try:
        v, a, d = (float(cells[i]) for i in order[1:])
        term = fold(cells[order[0]])
    except (ValueError, IndexError) as error:
        raise InputError(
            f"lexicon {file}, line {line}: expected a term and three numbers, got {' | '.join(cells)[:120]!r}"
        ) from error
    low, high = scale or (-1.0, 1.0)
    if not all(low <= x <= high for x in (v, a, d)):  # nan is outside too
        allowed = f"{low:g}..{high:g}" if scale else "0..1 (NRC v1) or -1..1 (NRC v2)"
        raise InputError(
            f"lexicon {file}, line {line}: scores must lie in {allowed}, got {[v, a, d]}",
            "declare another scale as label.scale=[lowest, highest]",
        )
    return term, (v, a, d)


def _is_header(cells: list[str]) -> bool:
    return any(c.strip().casefold() in _WORD for c in cells) and not any(_is_number(c) for c in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().casefold() not in ("nan", "inf", "infinity")  # they are words too


def _header(file: Path, cells: list[str]) -> tuple[tuple[int, int, int, int], Scale | None]:
    names = [c.strip().casefold() for c in cells]
    word = next(i for i, name in enumerate(names) if name in _WORD)
    for known, scale in ((_WARRINER, _WARRINER_SCALE), (_COLUMNS, None)):
        found = {known[name]: i for i, name in enumerate(names) if name in known}
        if set(found) == {0, 1, 2}:
            return (word, found[0], found[1], found[2]), scale
    raise InputError(f"lexicon {file}, line 1: the header must name Valence, Arousal and Dominance, got {cells}")
