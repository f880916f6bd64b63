"""Where audio is, as text that fits a table: a path, or a URI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from mer_ray.io import objects


def is_url(uri: str) -> bool:
    """Whether it is fetched over http(s)."""
    return uri.lower().startswith(("http://", "https://"))


def to_uri(path: str | Path) -> str:
    """A local path as text: itself, or a percent-encoded ``file:`` URI where its bytes are not UTF-8."""
    text = os.fspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return Path(text).absolute().as_uri()
    return text


def to_path(uri: str) -> Path:
    """The inverse of `to_uri`."""
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))
    return Path(uri)


@contextmanager
def local_copy(uri: str, timeout_s: float = 600.0, max_mb: float = 4_000.0) -> Iterator[Path]:
    """A local file with the audio at ``uri``: the file itself, or a temporary copy of an object in a store.

    timeout_s, max_mb: limits of such a copy, max_mb in megabytes (10^6 bytes). Raises TrackError where the object
    cannot be read; whether a local file can be is for the reader to say.
    """
    if objects.scheme(uri) in ("", "file"):
        yield to_path(uri)
        return
    with tempfile.TemporaryDirectory(prefix="mer-ray-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "audio"
        objects.copy(uri, copy, timeout_s, max_mb)
        yield copy
