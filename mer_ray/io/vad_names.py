"""The dimension of a column's name: ``valence``, ``Mean(Valence)``, ``ValMn``, ``static_valence``, ``V.Mean.Sum``.

Only columns of means and single ratings count, not of standard deviations, extremes or counts.
"""

from __future__ import annotations

import re
import unicodedata

_FILLER = (
    "(?:meansum|mean|mn|avg|average|static|overall|scores?|ratings?|values?|labels?|annotations?|song|clip|gt|the|of)*"
)
_WORDS = (
    ("valence", "pleasure", "pleasantness", "valenz"),
    ("arousal",),
    ("dominance", "dominanz"),
)
_SHORT = (("val", "v"), ("aro", "ar", "a"), ("dom", "d"))
_RANGE = re.compile(r"[(\[]\s*[-+−\d.,\s]+(?:-|–|\.\.|to|,|;|:)\s*[-+−\d.\s]+[)\]]")
_MEANT = [
    re.compile(f"{_FILLER}(?:{'|'.join((*words, *short))}){_FILLER}")
    for words, short in zip(_WORDS, _SHORT, strict=True)
]


def key(name: str) -> str:
    """A column's name without case, blanks and punctuation, in one Unicode form."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())


def dimension(name: str) -> int | None:
    """0, 1 or 2 for a column of valence, arousal or dominance, else None."""
    bare = key(_RANGE.sub("", name))
    return next((i for i, pattern in enumerate(_MEANT) if pattern.fullmatch(bare)), None)


def is_spelled_out(name: str) -> bool:
    """Whether it contains the dimension's whole name, not only an abbreviation."""
    return any(word in key(name) for words in _WORDS for word in words)
