"""The meaning of a column's name: ``valence``, ``Mean(Valence)``, ``ValMn``, ``V.Mean.Sum``, ``tension_rating``.

A column can hold the means or single ratings of a dimension (``value``), their standard errors (``se``), the SD over
raters (``sd``) or the number of raters (``n``). Extremes and ends of intervals mean nothing here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from mer_ray.io.schemas import DIMENSIONS

_FILLER = (
    "(?:meansum|mean|mn|avg|average|static|overall|scores?|ratings?|values?|labels?|annotations?|song|clip|gt|the|of)*"
)
_WORDS = {
    "valence": ("valence", "pleasure", "pleasantness", "valenz"),
    "arousal": ("arousal",),
    "dominance": ("dominance", "dominanz"),
}
_SHORT = {"valence": ("val", "v"), "arousal": ("aro", "ar", "a"), "dominance": ("dom", "d")}
_RANGE = re.compile(r"[(\[]\s*[-+−\d.,\s]+(?:-|–|\.\.|to|,|;|:)\s*[-+−\d.\s]+[)\]]")
_ENDS = re.compile(r"([-+−]?\d+(?:[.,]\d+)?)\s*(?:-|–|\.\.|to|,|;|:)\s*([-+−]?\d+(?:[.,]\d+)?)")
_RATERS = "raters|annotators|annotations|ratings|participants|subjects|workers|votes|responses"
_KINDS = {
    "se": "(?:sem?|stderr(?:or)?|standarderror)",
    "sd": "(?:sd|std|stdev|stddev|standarddeviation)",
    "n": f"(?:(?:n|num|number|count)(?:of)?(?:{_RATERS})?|raters|annotators|participants|votes)",
}
RATERS = re.compile(f"(?:n|num|number|count)(?:of)?(?:the)?(?:{_RATERS})|raters|annotators")
"""Keys of columns with the number of raters, of all dimensions."""


def key(name: str) -> str:
    """A column's name without case, blanks and punctuation, in one Unicode form."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def scale(name: str) -> tuple[float, float] | None:
    """The lowest and highest value that a column's name states in brackets, as in ``arousal (1-9)``; else None."""
    stated = _RANGE.search(name)
    ends = _ENDS.search(stated[0]) if stated else None
    if ends is None:
        return None
    low, high = (float(end.replace("−", "-").replace(",", ".")) for end in ends.groups())
    return (low, high) if low < high else None


def meaning(name: str, dimensions: Sequence[str] = DIMENSIONS) -> tuple[str, str] | None:
    """(its dimension, ``value`` | ``se`` | ``sd`` | ``n``) for a column of labels or their errors, else None."""
    bare = key(_RANGE.sub("", name))
    if exact := next((d for d in dimensions if key(d) == bare), None):
        return exact, "value"
    return next(
        ((d, kind) for kind in ("value", *_KINDS) for d in dimensions if _pattern(d, kind).fullmatch(bare)), None
    )


def dimension(name: str, dimensions: Sequence[str] = DIMENSIONS) -> str | None:
    """The dimension whose means or ratings the column holds, else None."""
    found = meaning(name, dimensions)
    return found[0] if found is not None and found[1] == "value" else None


@cache
def _pattern(dimension: str, kind: str) -> re.Pattern[str]:
    words = [*_WORDS.get(dimension, (re.escape(key(dimension)),)), *_SHORT.get(dimension, ())]
    if kind == "value":
        return re.compile(f"{_FILLER}(?:{'|'.join(words)}){_FILLER}")
    # A count beside a single letter would be a word: NA.
    word, own = "|".join(w for w in words if kind != "n" or len(w) > 1), _KINDS[kind]
    return re.compile(f"{_FILLER}(?:{own}{_FILLER}(?:{word})|(?:{word}){_FILLER}{own}){_FILLER}")


def is_spelled_out(name: str, dimensions: Sequence[str] = DIMENSIONS) -> bool:
    """Whether it contains a dimension's whole name, not only an abbreviation."""
    return any(word in key(name) for d in dimensions for word in _WORDS.get(d, (key(d),)))
