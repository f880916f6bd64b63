"""Identities of tracks, hashes, and text that is safe to show."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache
from pathlib import Path

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_APOSTROPHES = dict.fromkeys(map(ord, "’‘`´"), "'")
_SPACES = re.compile(r"\s+")


def normalise(text: str) -> str:
    """Fold differences of spelling: Unicode form, case, accents, dashes, blanks.

    Accents are folded on Latin and Greek letters only. In other scripts a mark makes another letter: は, ば; и, й.
    """
    # Apostrophes first: NFKD splits the acute accent, often typed for one, into a blank and a mark.
    text = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).translate(_DASHES).translate(_APOSTROPHES)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _without_accents(text))
    return _SPACES.sub(" ", text.casefold()).strip()


def _without_accents(text: str) -> str:
    """Decomposed text without the combining marks on Latin and Greek letters, and on other characters than letters."""
    folded, foldable = [], True
    for c in text:
        if unicodedata.combining(c):
            if foldable:
                continue
        else:
            foldable = _takes_accents(c)
        folded.append(c)
    return "".join(folded)


@cache
def _takes_accents(c: str) -> bool:
    return not c.isalpha() or unicodedata.name(c, "").startswith(("LATIN ", "GREEK "))


def track_id(artist: str, title: str, album: str | None = None) -> str:
    """A stable 16-digit id of a piece of music: a hash of its normalised artist, title and, if it has one, album."""
    parts = [artist, title, *([album] if album and normalise(album) else [])]
    return digest("\x1f".join(map(normalise, parts)).encode())[:16]


def digest(data: bytes) -> str:
    """SHA-256, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(text: str, limit: int = 500) -> str:
    """Untrusted text made safe for a table cell, a log line or a terminal: no control characters, bounded length.

    Lone surrogates (file names that are not UTF-8) become ``\\udcXX`` escapes, so that the result can be encoded.
    """
    text = "".join(c if c.isprintable() else " " for c in text.encode("utf-8", "backslashreplace").decode("utf-8"))
    text = _SPACES.sub(" ", text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"
