"""Whether mutagen reads all of a file's Vorbis comments, and of the other blocks of FLAC.

What is not UTF-8, and what has no name or a wrong one, it changes or drops as it reads, so that afterwards nothing
shows what there was.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

_BESIDE = 1 << 20
"""Bytes at the start of an Ogg file that are no comments: headers, and the first pages of streams beside."""


def are_exact(file: Any, path: Path) -> bool:
    """Whether what mutagen has read, as it would write it, stands in the file. Raises OSError."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"OggS":
            return all(data.find(block.write()) >= 0 for block in file.metadata_blocks)
        comments = file.tags.write(framing=False)
        return any(comments in stream for stream in _starts(data, len(comments) + _BESIDE))


def _starts(data: Any, size: int) -> list[bytes]:
    """The first packets of each stream, joined."""
    from mutagen.ogg import OggPage, error

    streams, n = defaultdict[int, list[bytes]](list), 0
    data.seek(0)
    with suppress(EOFError, error):
        while n < size:
            page = OggPage(data)
            streams[page.serial] += page.packets
            n += sum(map(len, page.packets))
    return [b"".join(packets) for packets in streams.values()]
