"""The path or address in a manifest's cell → the address of the audio."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from mer_ray.errors import TrackError
from mer_ray.io import address
from mer_ray.io.address import is_url, to_path, to_uri
from mer_ray.io.identity import one_line

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "«": "»", "`": "`"}
_BLANK = " \t\r\n\v\f\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NO-BREAK SPACE}\N{LEFT-TO-RIGHT MARK}"
_FILE = re.compile(r"file:(?://(?P<host>[^/\\]*))?(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_OLD_MAC = re.compile(r"[^/\\:]{1,40}(?::[^/\\:]+){2,}")  # Macintosh HD:Users:me:a.mp3
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def resolve(cell: str, folder: Path) -> tuple[str, str]:
    """(the path or address as written, without surrounding quotes and blanks and with slashes; its address).

    A file with exactly the cell's name comes first, even if it has blanks, quotes or backslashes. Relative paths start
    at ``folder``. Raises TrackError (``bad_uri``) for what cannot be fetched.
    """
    try:
        if "\0" in cell:
            raise ValueError("it holds a NUL character")
        text = _bare(cell)
        if is_url(text) or address.is_object(text):
            urlsplit(text)
            text.encode()
            return text, text
        if text[:5].lower() == "file:":
            return text, to_uri(_from_uri(text, folder))
        if address.scheme(text) or address.has_credentials(text):
            known = ", ".join(("paths", "file", "http", "https", *address.OBJECT_SCHEMES))
            raise TrackError("bad_uri", f"{address.shown(text)}: only these can be fetched: {known}")
        return _path(cell, text, folder)
    except (ValueError, RuntimeError) as error:
        raise TrackError("bad_uri", f"{address.shown(cell)} is no address ({one_line(str(error), 120)})") from error


def title_of(uri: str) -> str:
    """A title for a track that has only an address: its file's name, without secrets."""
    if is_url(uri):
        return one_line(Path(unquote(address.bare(uri))).stem)
    return one_line(Path(address.bare(uri)).stem if address.is_object(uri) else to_path(uri).stem)


def _bare(cell: str) -> str:
    text = cell.strip(_BLANK)
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip(_BLANK)
    return text


def _path(cell: str, text: str, folder: Path) -> tuple[str, str]:
    slashed = text.replace("\\", "/") if "\\" in text else text
    for spelling in dict.fromkeys((cell, text)):
        if spelling != slashed or spelling.startswith("~"):
            literal = folder / spelling
            if _exists(literal):
                return spelling, to_uri(literal.absolute())
    if os.name != "nt" and _WINDOWS.match(text):
        raise _of_windows(text)
    if _OLD_MAC.fullmatch(text) and not _exists(folder / text):
        raise TrackError("bad_uri", f"{one_line(text, 200)} is a path of an old Mac: write /Users/... with slashes")
    path = Path(slashed).expanduser()
    return slashed, to_uri(_spelled(path if path.is_absolute() else (folder / path).absolute()))


def _from_uri(text: str, folder: Path) -> Path:
    found = _FILE.fullmatch(text)
    assert found is not None  # it starts with file:
    host, written = found["host"] or "", found["path"].replace("\\", "/")
    path = os.fsdecode(unquote_to_bytes(written.encode("utf-8", "surrogatepass")))
    if "\0" in path:
        raise ValueError("it holds a NUL character")
    if host.lower() not in ("", "localhost", "127.0.0.1"):
        beside = folder / host / path.lstrip("/")  # file://music/a.mp3 means file:music/a.mp3
        if not _exists(beside):
            raise TrackError(
                "bad_uri", f"{one_line(text, 200)} is on the machine {one_line(host, 60)}: give a path here"
            )
        return beside.absolute()
    if os.name != "nt" and re.match(r"/?[A-Za-z]:/", path):
        raise _of_windows(text)
    if path.startswith("/"):
        path = "/" + path.lstrip("/")
    as_written = folder / written
    chosen = as_written if path != written and not _exists(folder / path) and _exists(as_written) else folder / path
    return _spelled(chosen.absolute())


def _of_windows(text: str) -> TrackError:
    return TrackError(
        "bad_uri", f"{one_line(text, 200)} is a path of Windows: give it as this machine sees it, or relative"
    )


def _spelled(path: Path) -> Path:
    """The path in the Unicode form of the existing file: macOS decomposes names, others do not."""
    text = os.fspath(path)
    if text.isascii() or _exists(path):
        return path
    forms = (Path(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    return next((other for other in forms if other != path and _exists(other)), path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
