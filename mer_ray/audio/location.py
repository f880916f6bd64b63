"""Where audio is, as text that fits a table: a path, or a URI."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

from mer_ray.errors import TrackError
from mer_ray.identity import one_line


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
def local_copy(uri: str) -> Iterator[Path]:
    """A local file with the audio at ``uri``: the file itself, or a temporary copy of an object in s3:// or gs://.

    Raises TrackError where the object cannot be read; whether a local file can be is for the reader to say.
    """
    if "://" not in uri or uri.startswith("file://"):
        yield to_path(uri)
        return
    import pyarrow as pa
    import pyarrow.fs

    try:
        fs, place = pyarrow.fs.FileSystem.from_uri(uri)
        with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
            copy = Path(folder) / f"audio{Path(place).suffix}"
            with fs.open_input_stream(place) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
            yield copy
    except (OSError, pa.ArrowInvalid) as error:
        raise TrackError(
            "unreadable", f"{one_line(uri, 300)} cannot be read ({one_line(str(error), 120)})", True
        ) from error
