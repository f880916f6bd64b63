"""Lexicons: words with valence, arousal and dominance.

These are recognised by their layout:

- NRC VAD v1 (Mohammad 2018, ACL: "Obtaining reliable human ratings of valence, arousal, and dominance for 20,000
  English words"), 0..1, and v2 (Mohammad 2025), -1..1 and with phrases: tab-separated text, with or without a header,
  the bilingual files (``English Word``) too.
- Warriner, Kuperman and Brysbaert (2013, Behavior Research Methods 45, 1191-1207: "Norms of valence, arousal, and
  dominance for 13,915 English lemmas"), 1..9: a CSV file with the columns Word, V.Mean.Sum, A.Mean.Sum, D.Mean.Sum.
- ANEW (Bradley and Lang 1999 and 2010), 1..9: Word or Description, and ValMn, AroMn, DomMn or Valence Mean and so on.
- Any other table with a header that names a term and the three dimensions, on a scale that the user declares.

They are free for research and may not be redistributed, so the user brings the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.errors import ConfigError, InputError
from mer_ray.io import delimited
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.vad_names import dimension, key

DEMO = Path(__file__).parent / "data" / "demo_lexicon.txt"
"""The project's own ratings for its demo catalog. Not for research."""

_TERMS = (
    "word",
    "words",
    "term",
    "terms",
    "lemma",
    "lemmas",
    "englishword",
    "englishterm",
    "tag",
    "token",
    "description",
)
_WARRINER = ("vmeansum", "ameansum", "dmeansum")
_ANEW = (("valmn", "aromn", "dommn"), ("valencemean", "arousalmean", "dominancemean"))
_1_TO_9 = (1.0, 9.0)
_WANTED = (
    "wanted are a column of terms (Word, Term, English Word or Lemma) and Valence, Arousal, Dominance (or V, A, D;"
    " ValMn, AroMn, DomMn; Valence Mean and so on; V.Mean.Sum and so on)"
)
WHERE_TO_GET = "get NRC-VAD-Lexicon.txt from saifmohammad.com (free for research) and set label.lexicon to its path"

Scores = tuple[float, float, float]
Scale = tuple[float, float]


def check_dimensions(dimensions: Sequence[str]) -> None:
    """Raises ConfigError where labels from tags, which are of valence, arousal and dominance, would be empty."""
    if not set(dimensions) & set(DIMENSIONS):
        raise ConfigError(
            f"labels from tags are of {', '.join(DIMENSIONS)}, and collect.dimensions is {', '.join(dimensions)}",
            "leave out label.lexicon (label.source=manifest), or add one of them to collect.dimensions",
        )


@dataclass(frozen=True)
class Lexicon:
    """name: file name and the first digits of its SHA-256. terms: folded term → (V, A, D), each in 0..1.

    scale: (lowest, highest) of the file's scores.
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
    """Read a lexicon file and map its scores to 0..1; tabs, commas or semicolons separate its columns.

    scale: (lowest, highest) of the file's scores. Without one, it is 1..9 for the columns of Warriner and of ANEW (for
    these only if there is a score over 1), -1..1 if any score is below 0 (NRC v2), else 0..1. Of a duplicated
    term, the first entry counts. Raises InputError with file and line, and ConfigError if the scale is reversed.
    """
    file = Path(path).expanduser()
    if scale is not None and not scale[0] < scale[1]:
        raise ConfigError(f"label.scale {list(scale)} is not a scale", "give [lowest, highest]")
    if not file.is_file():
        raise InputError(f"lexicon {file} does not exist", WHERE_TO_GET)
    try:
        terms, scale = _read(file, scale)
    except (UnicodeError, csv.Error, OSError) as error:
        raise InputError(
            f"lexicon {file} cannot be read ({error})", "it must be text separated by tabs, commas or semicolons"
        ) from error
    if not terms:
        raise InputError(f"lexicon {file} has no entries", WHERE_TO_GET)
    low, width = scale[0], scale[1] - scale[0]
    if scale != (0.0, 1.0):
        terms = {t: ((v - low) / width, (a - low) / width, (d - low) / width) for t, (v, a, d) in terms.items()}
    return Lexicon(f"{file.name}:{file_digest(file)[:12]}", terms, (float(scale[0]), float(scale[1])))


@dataclass(frozen=True)
class _Layout:
    """order: the columns of term, V, A, D. n: of columns, if there is a header. implied: the scale that it implies."""

    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    n: int | None = None
    implied: Scale | None = None
    is_anew: bool = False

    def scale(self, declared: Scale | None, lowest: float, highest: float) -> tuple[Scale, str]:
        """(the scale of scores from lowest to highest, its name in messages)."""
        scale = declared or self.implied
        if scale:
            return scale, f"{scale[0]:g}..{scale[1]:g}"
        if self.is_anew and highest > 1:
            return _1_TO_9, "1..9 (ANEW)"
        return ((-1.0, 1.0) if lowest < 0 or highest > 1 else (0.0, 1.0)), "0..1 (NRC v1) or -1..1 (NRC v2)"


def _read(file: Path, declared: Scale | None) -> tuple[dict[str, Scores], Scale]:
    """The terms with the file's unscaled scores, and their scale."""
    layout = _Layout()
    entries: list[tuple[int, str, Scores]] = []
    for line, cells in _lines(file):
        if not entries and layout.n is None and (header := _header(file, cells)) is not None:
            layout = header
        else:
            entries.append((line, *_entry(file, line, cells, layout)))
    scores = [x for _, _, vad in entries for x in vad]
    scale, named = layout.scale(declared, min(scores, default=0.0), max(scores, default=0.0))
    terms: dict[str, Scores] = {}
    for line, term, vad in entries:
        if not all(scale[0] <= x <= scale[1] for x in vad):  # nan is outside too
            raise InputError(
                f"lexicon {file}, line {line}: scores must lie in {named}, got {list(vad)}",
                "declare another scale as label.scale=[lowest, highest]",
            )
        if term:
            terms.setdefault(term, vad)
    return terms, scale


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line, or of each record where cells are quoted."""
    how = delimited.encoding(file)
    if how.dirty:
        raise InputError(f"lexicon {file} holds bytes that are no text", "save it as UTF-8")
    declared, source = delimited.after_sep(delimited.lines(file, how))
    first = next(source, "")
    is_csv = file.suffix.lower() == ".csv"
    separator = declared or delimited.delimiter(first, _merit, ",;\t" if is_csv else "\t;,")
    names = [name.strip() for name in first.rstrip("\r\n").split(separator)]
    is_quoted = separator != "\t" or is_csv or all(len(n) > 1 and n[0] == n[-1] == '"' for n in names)
    if is_quoted:
        reader = csv.reader(delimited.lines(file, how), delimiter=separator, strict=True)
        numbered = ((reader.line_num, cells) for cells in reader)
    else:  # terms are free text, in which a quotation mark is a character
        lines = enumerate(delimited.lines(file, how), start=1)
        numbered = ((i, text.rstrip("\r\n").split(separator)) for i, text in lines)
    try:
        for line, cells in numbered:
            if any(c.strip() for c in cells) and not (declared and line == 1):
                yield line, cells
    except csv.Error as error:
        raise InputError(f"lexicon {file}, line {reader.line_num}: a quotation mark is not closed ({error})") from error


def _merit(cells: Sequence[str]) -> int:
    """How likely the cells of a line, split at one separator, are a header or an entry."""
    if len(cells) >= 4 and all(_is_number(c) for c in cells[1:4]):
        return 4
    return sum(key(c) in _TERMS or dimension(c) is not None for c in cells)


def _entry(file: Path, line: int, cells: list[str], layout: _Layout) -> tuple[str, Scores]:
    try:
        v, a, d = (_score(cells[i]) for i in layout.order[1:])
        term = fold(cells[layout.order[0]])
        while len(cells) > (layout.n or 4) and not cells[-1].strip():
            cells = cells[:-1]
        if layout.n is not None and len(cells) > layout.n:
            raise ValueError
        if layout.n is None and any(_is_number(c) for c in cells[4:]):  # decimal commas in a file separated by commas
            raise ValueError
    except (ValueError, IndexError) as error:
        raise InputError(
            f"lexicon {file}, line {line}: expected a term and three numbers, got {' | '.join(cells)[:120]!r}",
            "" if layout.n is not None else f"or a header: {_WANTED}",
        ) from error
    return term, (v, a, d)


def _score(cell: str) -> float:
    try:
        return delimited.number(cell)
    except ValueError:
        return float(cell)  # nan and inf: outside every scale


def _is_number(cell: str) -> bool:
    try:
        delimited.number(cell)
    except ValueError:
        return False
    return True


def _header(file: Path, cells: list[str]) -> _Layout | None:
    """The layout that a header declares; None for a line with numbers, which is not a header."""
    if any(_is_number(c) for c in cells):
        return None
    keys = [key(c) for c in cells]
    words = [keys.index(k) for k in _TERMS if k in keys]
    exact = [[i for i, k in enumerate(keys) if k == d] for d in DIMENSIONS]
    meant = [[i for i, c in enumerate(cells) if dimension(c) == d and i not in words[:1]] for d in DIMENSIONS]
    found = [e or m for e, m in zip(exact, meant, strict=True)]
    if not words or any(len(columns) != 1 for columns in found):
        both = next((columns for columns in found if len(columns) > 1), [])
        what = (
            f"{' and '.join(cells[i] for i in both)} could both be meant" if both else "the header has not all columns"
        )
        got = one_line(", ".join(cells), 200)
        raise InputError(f"lexicon {file}, line 1: {what}: {got}", _WANTED)
    (v,), (a,), (d,) = found
    own = (keys[v], keys[a], keys[d])
    return _Layout((words[0], v, a, d), len(cells), _1_TO_9 if own == _WARRINER else None, own in _ANEW)
