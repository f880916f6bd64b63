"""What a file is, by its first bytes, and how much its structure announces, held against what is there.

Decoders play what they find: of a WAV, Ogg or MP3 file that breaks off they read the beginning and say nothing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

STREAMED = 0x7F000000
"""A size from here on was written by a program that could not go back to fill it in."""

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11"
"""The first halves of the identifiers of an ASF file's header and of its object "file properties"."""

LARGEST_OGG_PAGE = 27 + 255 + 255 * 255


@dataclass(frozen=True)
class Extent:
    """announced, held: in ``unit``; None where the file does not say. duration_s: of MPEG frames, by counting them.

    ended: False where the last page of an Ogg stream does not say that it is the last.
    """

    unit: str = "bytes"
    announced: int | None = None
    held: int = 0
    duration_s: float | None = None
    ended: bool = True

    @property
    def breaks_off(self) -> bool:
        """Whether less is there than was announced. Counts of frames differ by a few between encoders."""
        slack = max(2, self.held // 1000) if self.unit == "frames" else 0
        return self.announced is not None and self.announced > self.held + slack


def extent(path: Path) -> Extent:
    """What a WAV, AIFF, AU, Ogg, ASF or MP3 file announces and holds; others say nothing. Raises OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = data[:12]
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _chunk(data, b"data", "little")
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _chunk(data, b"SSND", "big")
        if head[:4] == b".snd":
            return _bytes(int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big"), len(data))
        if head[:4] == b"OggS":
            return _last_page(data)
        if head[:8] == ASF:
            return _asf(data)
        return _mpeg(data) if kind(path) in ("mp3", "") else Extent()


def _bytes(start: int, announced: int, size: int) -> Extent:
    if announced == 0 or announced >= STREAMED:
        return Extent()
    return Extent("bytes", announced, min(announced, max(0, size - start)))


def _chunk(data: mmap.mmap, wanted: bytes, order: Literal["little", "big"]) -> Extent:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], order)
        if data[place : place + 4] == wanted:
            return _bytes(place + 8, size, len(data))
        place += 8 + size + size % 2
    return Extent()


def _last_page(data: mmap.mmap) -> Extent:
    start = data.rfind(b"OggS", max(0, len(data) - LARGEST_OGG_PAGE))
    if start < 0:
        return Extent()
    held = len(data) - start
    segments = data[start + 26] if held > 26 else 0
    needed = 27 + segments + sum(data[start + 27 : start + 27 + segments])
    return Extent("bytes", needed, min(held, needed), ended=held > 5 and bool(data[start + 5] & 4))


def _asf(data: mmap.mmap) -> Extent:
    properties = data.find(ASF_PROPERTIES, 0, SEARCHED)
    size = int.from_bytes(data[properties + 40 : properties + 48], "little") if properties > 0 else 0
    return _bytes(0, size, len(data))


def kind(path: Path) -> str:
    """``wav``, ``flac``, ``vorbis``, ``ogg`` (other Ogg), ``mp3``, ``iso`` (MP4), ``matroska``, ``asf``; else ``""``.

    A file with an ID3 tag counts as what comes behind the tag, and as MP3 where that is unknown. Raises OSError.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _after_tags(data)
        head = data[start : start + 64]
        if head[:4] == b"OggS":
            return _ogg_kind(data, start)
        for mark, at, name in _MARKS:
            if head[at : at + len(mark)] == mark:
                return name
        layer_3 = _frame(head[:4]) is not None
        return "mp3" if layer_3 or start > 0 else ""


_MARKS = (
    (b"fLaC", 0, "flac"),
    (b"WAVE", 8, "wav"),
    (b"ftyp", 4, "iso"),
    (b"\x1aE\xdf\xa3", 0, "matroska"),
    (ASF, 0, "asf"),
)


def _ogg_kind(data: mmap.mmap, start: int) -> str:
    packet = start + 27 + data[start + 26] if len(data) > start + 26 else start
    # Several streams, one after the other or side by side, are nothing for a decoder that knows only one.
    last = data.rfind(b"OggS", max(0, len(data) - LARGEST_OGG_PAGE))
    single = data[last + 14 : last + 18] in (data[start + 14 : start + 18], b"")
    if single and data[packet : packet + 7] == b"\x01vorbis":
        return "vorbis"
    return "flac" if single and data[packet : packet + 5] == b"\x7fFLAC" else "ogg"


def announces_length(path: Path) -> bool:
    """Whether an MP3 file's first frame says how many there are. Raises OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place, first = next(_frames(data, _after_tags(data)), (0, None))
        return first is not None and _announced(data[place : place + first.size], first) is not None


# MPEG layer III ----------------------------------------------------------------------------------------------------

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
SEARCHED = 1 << 20
"""Bytes in which a first frame is looked for."""


class _Frame(NamedTuple):
    size: int  # bytes
    kind: tuple[int, int]  # version and sample rate, the same in all of a file's frames
    samples: int
    side: int  # bytes of the side information


def _mpeg(data: mmap.mmap) -> Extent:
    """Count the frames; a Xing, Info or VBRI header in the first one announces how many there are."""
    start = _after_tags(data)
    frames = _frames(data, start)
    first = next(frames, None)
    if first is None:
        return Extent()
    place, frame = first
    announced = _announced(data[place : place + frame.size], frame)
    n = sum(1 for _ in frames) + (announced is None)
    return Extent("frames", announced, n, n * frame.samples / frame.kind[1])


def _after_tags(data: mmap.mmap) -> int:
    place = 0
    while data[place : place + 3] == b"ID3" and len(data) >= place + 10:
        size = 0
        for byte in data[place + 6 : place + 10]:
            size = size << 7 | byte & 0x7F
        place += 10 + size + (10 if data[place + 5] & 0x10 else 0)
    return place


def _frames(data: mmap.mmap, start: int) -> Iterator[tuple[int, _Frame]]:
    """The whole frames, with their places; between them may be what is no audio."""
    size, place, end = len(data), start, min(len(data), start + SEARCHED)
    kind: tuple[int, int] | None = None
    in_step = False
    while 0 <= place < end:
        frame = _frame(data[place : place + 4])
        if frame is None or (kind is not None and frame.kind != kind):
            in_step = False
        elif in_step or _follows(data, place + frame.size, frame.kind):
            if place + frame.size > size:
                return
            kind, in_step, end = frame.kind, True, size
            yield place, frame
            place += frame.size
            continue
        place = data.find(b"\xff", place + 1)


def _follows(data: mmap.mmap, place: int, kind: tuple[int, int]) -> bool:
    if place >= len(data) - 4:
        return place == len(data)
    following = _frame(data[place : place + 4])
    return following is not None and following.kind == kind


def _frame(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    first = version == 3
    mono = head[3] >> 6 == 3
    hertz = _RATES[version][rate]
    bits = 1000 * (_KBITS_1 if first else _KBITS_2)[kbits]
    size = (144 if first else 72) * bits // hertz + (head[2] >> 1 & 1)
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, (version, hertz), 1152 if first else 576, side)


def _announced(data: bytes, frame: _Frame) -> int | None:
    place = 4 + frame.side
    if data[place : place + 4] in (b"Xing", b"Info"):
        has_count = data[place + 7 : place + 8] != b"" and data[place + 7] & 1
        return int.from_bytes(data[place + 8 : place + 12], "big") if has_count else None
    if data[36:40] == b"VBRI":
        return int.from_bytes(data[50:54], "big")
    return None
