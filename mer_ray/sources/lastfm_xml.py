"""Parsers of Last.fm's responses: pure functions from the XML documented at https://www.last.fm/api to plain values.

pylast parses each response twice into DOM trees; these parsers take seconds for 9,000 cached responses. Each raises
ValueError where the text is not the expected response.
"""

from __future__ import annotations

import html
import html.entities
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from xml.etree import ElementTree

from mer_ray.io.track import Track

Tags = tuple[tuple[str, float], ...]

_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""Characters that XML 1.0 forbids."""
_REFERENCE = re.compile(
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&(?:#(?P<decimal>[0-9]+);|#x(?P<hex>[0-9A-Fa-f]+);|(?P<name>\w+);)?",
    re.DOTALL,
)
_XML_NAMES = {"amp", "lt", "gt", "quot", "apos"}
_BYTE_ORDER = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})["']""")


@dataclass(frozen=True)
class Page:
    """A page of a listing. pages, total: of the whole listing, None if unknown."""

    tracks: tuple[Track, ...]
    pages: int | None
    total: int | None


@dataclass(frozen=True)
class Details:
    """A track's details from track.getInfo. duration_s > 0."""

    album: str | None
    mbid: str | None
    duration_s: float | None


def decode(body: bytes, charset: str | None = None) -> str:
    """A response's text: UTF-8 if it is valid, else by its XML declaration or ``charset`` (HTTP's).

    If all fail, invalid bytes become U+FFFD.
    """
    ordered = [name for start, name in _BYTE_ORDER if body.startswith(start)]
    declared = [found[1].decode()] if (found := _DECLARED.match(body)) else []
    for encoding in (*ordered, "utf-8", *declared, charset or "utf-8"):
        with suppress(LookupError, UnicodeError):  # an unknown name, or bytes that are invalid in it
            return str(body, encoding)
    return body.decode("utf-8", "replace")


def clean(text: str) -> str:
    """The text without characters, and references to characters, that XML 1.0 forbids.

    An ``&`` that begins no reference becomes ``&amp;``, and HTML's named references become characters.
    """
    text = _FORBIDDEN.sub("", text).lstrip("\ufeff\t\n\r ")
    return _REFERENCE.sub(_repaired, text) if "&" in text else text


def _repaired(found: re.Match[str]) -> str:
    if not found[0].startswith("&"):  # in CDATA and comments, it is a plain character
        return found[0]
    if number := found["decimal"] or found["hex"]:
        number = number.lstrip("0") or "0"
        code = int(number, 10 if found["decimal"] else 16) if len(number) <= 7 else math.inf
        return "" if code > 0x10FFFF or _FORBIDDEN.match(chr(int(code))) else found[0]
    if name := found["name"]:
        known = name not in _XML_NAMES and f"{name};" in html.entities.html5
        return html.escape(html.unescape(found[0])) if known else found[0]
    return "&amp;"


def error(text: str) -> tuple[str, str] | None:
    """(code, message) if the response is one of Last.fm's errors."""
    root = _root(text)
    if root.get("status") == "ok":
        return None
    node = root.find("error")
    if node is None:
        raise ValueError("an error without its code")
    return node.get("code", ""), _own(node)


def page(text: str) -> Page:
    """tag.getTopTracks: the tracks without their tags."""
    listing = _part(text, "tracks", "toptracks")
    return Page(
        tuple(_listed(node) for node in listing.findall("track")),
        _count(listing, "totalPages"),
        _count(listing, "total"),
    )


def tags(text: str) -> Tags:
    """track.getTopTags: (name, weight), without weights of 0; the others are 1..100."""
    pairs = ((_text(node, "name"), _number(_text(node, "count"))) for node in _part(text, "toptags").findall("tag"))
    return tuple((name, weight) for name, weight in pairs if name and weight > 0)


def details(text: str) -> Details:
    """track.getInfo, whose duration is in milliseconds."""
    track = _part(text, "track")
    album = track.find("album")
    title = _text(album, "title") if album is not None else ""
    return Details(title or None, _text(track, "mbid") or None, _number(_text(track, "duration")) / 1000 or None)


def _listed(node: ElementTree.Element) -> Track:
    artist = node.find("artist")
    name = "" if artist is None else _text(artist, "name") or _own(artist)
    duration_s = _number(_text(node, "duration")) or None
    return Track(name, _text(node, "name"), mbid=_text(node, "mbid") or None, duration_s=duration_s)


def _root(text: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(clean(text))  # noqa: S314 - expat bounds the growth of entities since 2.4.1
    except ElementTree.ParseError as broken:
        raise ValueError(f"broken XML ({broken})") from None
    if root.tag != "lfm":
        raise ValueError("the answer is not Last.fm's XML")
    return root


def _part(text: str, *names: str) -> ElementTree.Element:
    root = _root(text)
    found = next((node for name in names if (node := root.find(name)) is not None), None)
    if found is None:
        raise ValueError(f"the answer has no <{names[0]}>")
    return found


def _text(node: ElementTree.Element, name: str) -> str:
    """The text of a direct child, so that an artist's mbid is not taken for the track's."""
    child = node.find(name)
    return "" if child is None else _own(child)


def _own(node: ElementTree.Element) -> str:
    return html.unescape(node.text or "").strip()  # Last.fm escapes twice


def _count(node: ElementTree.Element, name: str) -> int | None:
    text = node.get(name) or node.get(name.lower()) or ""
    return int(text) if text.isascii() and text.isdigit() else None


def _number(text: str) -> float:
    """A positive, finite number; 0 for anything else."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
