"""The forms in which the recipe ``careful`` compares tags, terms and names."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_MARKS = str.maketrans(dict.fromkeys("’‘`´ʼ＇", "'") | dict.fromkeys("‐‑‒–—―−", "-"))
# All ASCII marks but apostrophe and hyphen separate words.
_SEPARATORS = str.maketrans(dict.fromkeys('_/+.&,;:|~*\\"!?#@$%^=<>()[]{}', " "))
_AND = ("and", "n")
_FUNCTION_WORDS = (
    "a an the i me my we you your he she it its is are am be was at as by for from in into of on or so to that this "
    "with and n but very too really all just music song songs"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words without a mood of their own, which are not joined with the next word at the start of a phrase."""


def normal(text: str) -> str:
    """NFKC, case-folded; separators (``_ / + . &`` ...) become blanks, apostrophes and hyphens the ASCII ones."""
    if text.isascii():
        text = text.casefold()
        if text.replace(" ", "").isalnum():  # most texts have no marks
            return " ".join(text.split())
    else:
        # Marks first: NFKC would split the acute accent, often typed for an apostrophe, into a blank and a mark.
        text = unicodedata.normalize("NFKC", text.translate(_MARKS)).casefold()
        text = unicodedata.normalize("NFKC", text).translate(_MARKS)
        text = "".join(c if unicodedata.category(c)[0] in "LMN" or c in "'-_" or c.isascii() else " " for c in text)
    words = text.translate(_SEPARATORS).split()
    if "'" in text or "-" in text:
        words = [w for w in (word.strip("'-") for word in words) if w]
    return " ".join(words)


def spaced(form: str) -> str:
    """A normal form with blanks for its hyphens: feel-good → feel good."""
    return " ".join(form.replace("-", " ").split()) if "-" in form else form


def joined(form: str) -> str:
    """A normal form in one piece and without accents: feel good, feel-good → feelgood; rock and roll → rockroll."""
    words = spaced(form).split()
    if len(words) > 2:
        words = [words[0], *(w for w in words[1:-1] if w not in _AND), words[-1]]
    text = "".join(words).replace("'", "")
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    """The dictionary form of an English word, from simplemma's table: happier → happy. Unknown words stay unchanged."""
    import simplemma

    return str(simplemma.lemmatize(word, lang="en")).casefold() if word else ""


_DECADE = re.compile(
    r"(?:(?:early|mid|late|the|best of the) )*(?:(?:19|20)?\d0 ?'?s|(?:19|20)\d\d"
    r"|(?:twenties|thirties|forties|fifties|sixties|seventies|eighties|nineties|noughties))(?: (?:music|songs|hits))?"
)


def is_time(form: str) -> bool:
    """Whether a normal form with blanks for hyphens names a year or a decade: 1984, 80s, late 1990's, the sixties."""
    return _DECADE.fullmatch(form) is not None
