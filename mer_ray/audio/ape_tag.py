"""APEv2 tags, which WavPack, Monkey's Audio and Musepack have at the end of their files, and some MP3s too.

The format is described at https://wiki.hydrogenaud.io/index.php?title=APEv2_specification
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MARK = b"APETAGEX"
FOOTER = 32  # bytes
ID3V1 = 128
LARGEST = 1 << 24
"""Of a tag in bytes, with its pictures; the size of a larger one is taken for damage."""


def texts(path: Path) -> dict[str, str]:
    """Text by key in lower case, of several values the first; empty without a tag. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for end in (size, size - ID3V1):
            if end < FOOTER:
                continue
            file.seek(end - FOOTER)
            footer = file.read(FOOTER)
            length = int.from_bytes(footer[12:16], "little")  # of the items and the footer
            if footer.startswith(MARK) and FOOTER <= length <= min(end, LARGEST):
                file.seek(end - length)
                return dict(_items(file.read(length - FOOTER)))
    return {}


def _items(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while (key_end := data.find(b"\0", at + 8)) > 0:
        size, flags = (int.from_bytes(data[a : a + 4], "little") for a in (at, at + 4))
        key, at = data[at + 8 : key_end], key_end + 1 + size
        if flags & 6 == 0:  # neither binary nor a link
            value = data[key_end + 1 : at].partition(b"\0")[0]
            yield key.decode("ascii", "replace").lower(), value.decode("utf-8", "replace")
