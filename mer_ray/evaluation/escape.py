"""Escapes untrusted text, so that nothing in a title or a name is read as Markdown, HTML or LaTeX."""

from __future__ import annotations

import re
import unicodedata

from mer_ray.io.identity import one_line

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~$!^@]|:(?=//)|(?<=www)\.)")  # the last two would begin a link
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "²": "$^2$",
    "≈": r"$\approx$",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    **{c: f"\\{c}" for c in "#$%&_{}"},
}


def markdown_text(text: str, limit: int = 200) -> str:
    """One line without markup for a cell of a Markdown table or within a paragraph."""
    text = _MARKDOWN.sub(r"\\\1", one_line(text, limit))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex_text(text: str, limit: int = 2_000) -> str:
    """One line for LaTeX with any engine: markup escaped, accents dropped if necessary, the rest as [U+4E2D]."""
    return "".join(_LATEX.get(c) or (c if c.isascii() else _foreign(c)) for c in one_line(text, limit))


def _foreign(character: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii() and c.isalnum())
    return plain or f"[U+{ord(character):04X}]"
