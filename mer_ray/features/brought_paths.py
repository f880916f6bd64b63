"""Which path in the user's table means which track's file."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Container, Mapping
from pathlib import Path

from mer_ray.errors import TrackError
from mer_ray.io.address import scheme, shown, to_path
from mer_ray.io.identity import one_line


def match(wanted: Mapping[str, str], paths: Container[str], root: str) -> dict[str, str | TrackError]:
    """track_id → the path (of those in ``paths``) that means its file; tracks without one are left out.

    A path means the file whose path it is, or whose path it is from the folder ``root``. One that means no file in
    this way means the one whose path ends with it, component by component: ``b/c.mp3`` is ``/music/a/b/c.mp3``. Where
    several would do, the answer is a TrackError (``ambiguous``) that names two.
    Paths must be `plain`.
    """
    files: dict[str, list[str]] = {}
    for track_id, uri in wanted.items():
        files.setdefault(plain(uri if scheme(uri) else str(Path(uri).absolute())), []).append(track_id)
    exact = {file: [p for p in dict.fromkeys((file, _relative(file, root))) if p in paths] for file in files}
    taken = {path for hits in exact.values() for path in hits}
    ends = {f: [p for p in _ends(f) if p in paths and p not in taken] for f, hits in exact.items() if not hits}
    claims: dict[str, list[str]] = {}
    for file, hits in ends.items():
        for path in hits:
            claims.setdefault(path, []).append(file)
    result: dict[str, str | TrackError] = {}
    for file, ids in files.items():
        hits = exact[file] or ends[file]
        rivals = next((claims[p] for p in hits if len(claims.get(p, ())) > 1), [])
        if len(hits) > 1:
            what = f"{named(hits[0])!r} and {named(hits[1])!r} both fit {named(file)!r}"
        elif rivals:
            what = f"{named(hits[0])!r} fits {named(rivals[0])!r} and {named(rivals[1])!r}"
        elif hits:
            result |= dict.fromkeys(ids, hits[0])
            continue
        else:
            continue
        result |= {i: TrackError("ambiguous", f"{what}; give more of the paths, or track_id") for i in ids}
    return result


def plain(path: str) -> str:
    """One spelling of a path or URI: no ``.``, ``..`` or doubled slashes, composed Unicode, ``file:`` URIs as paths."""
    text = os.fspath(to_path(path)) if path.startswith("file://") else path
    head = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|/*", text)
    assert head is not None  # it may be empty
    start, rest = head[0] if ":" in head[0] else head[0][:1], text[head.end() :].lstrip("/")
    if start:
        rest = posixpath.normpath(f"/{rest}")[1:]
    elif rest:
        rest = posixpath.normpath(rest)
    return unicodedata.normalize("NFC", start + rest)


def _ends(path: str) -> list[str]:
    """``/a/b/c`` → ``a/b/c``, ``b/c``, ``c``."""
    parts = [part for part in path.split("/") if part]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _relative(path: str, root: str) -> str:
    """The path from a folder to a file."""
    if scheme(path) or scheme(root):
        return path.removeprefix(f"{root}/")
    return posixpath.relpath(path, root)


def named(path: str) -> str:
    """A path or URI for messages, without what may be secret."""
    return shown(path) if scheme(path) else one_line(path, 300)
