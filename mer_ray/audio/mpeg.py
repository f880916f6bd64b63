"""The frames of an MPEG audio file (layers I to III): their positions, and the number that the first one announces."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import NamedTuple

SEARCHED = 1 << 20
"""Bytes in which a first frame is searched."""

ZEROS = 1 << 12
"""A run of so many zeros between frames is a gap of an incomplete download."""

_RATES = (44_100, 48_000, 32_000)
_KBITS = {  # (MPEG 1, layer) → kbit/s by index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Kind(NamedTuple):
    """Properties that all frames of a piece share."""

    version: int
    layer: int
    rate: int
    mono: bool


class Frame(NamedTuple):
    """size: in bytes. samples: their number. side: bytes of side information (layer III)."""

    size: int
    kind: Kind
    samples: int
    side: int


@dataclass
class Mpeg:
    """The frames of a file, which may consist of several joined pieces.

    Attributes:
        kinds: Of its pieces, in order.
        frames: Present frames.
        audio_s: Their duration in seconds.
        audio_bytes: Their size.
        gap_bytes: Between frames, without tags.
        announced: Announced frames; None if unknown.
        announced_bytes: Their size.
        headers: Number of headers that announce frames.
        discarded: Samples of the announced frames that are not to be played.
        tagged: Whether a tag follows the last frame, which shows that the file is complete.
    """

    kinds: list[Kind]
    frames: int = 0
    audio_s: float = 0.0
    audio_bytes: int = 0
    gap_bytes: int = 0
    announced: int | None = None
    announced_bytes: int = 0
    discarded: int = 0
    headers: int = 0
    tagged: bool = False

    @property
    def is_one(self) -> bool:
        """Whether it is one piece with about the announced number of frames, which any decoder can read."""
        slack = max(2, self.frames // 1000)
        extra = 0 if self.announced is None else self.frames - self.announced
        return len(self.kinds) == 1 and self.headers <= 1 and extra <= slack and not self.gap_bytes

    @property
    def announced_s(self) -> float | None:
        """Announced seconds; None if unknown.

        Programs that cut a file may leave the number of frames unchanged: it is ignored if the announced bytes are
        present, or a tag ends the file.
        """
        if not self.frames:
            return None
        frame_s, frame_bytes = self.audio_s / self.frames, self.audio_bytes / self.frames
        holes_s = self.gap_bytes / frame_bytes * frame_s
        if self.announced is None:
            return self.audio_s + holes_s if self.gap_bytes else None
        cut_short = self.announced > self.frames and not self.gap_bytes
        if cut_short and (self.tagged or 0 < self.announced_bytes <= self.audio_bytes * 1.01):
            return self.audio_s
        discarded_s = self.discarded / self.kinds[0].rate
        return max(self.announced * frame_s - discarded_s, self.audio_s + holes_s if holes_s else 0.0)


def after_tags(data: mmap.mmap, offset: int = 0) -> int:
    """The offset after one or several ID3 tags and their padding."""
    while data[offset : offset + 3] == b"ID3" and len(data) >= offset + 10:
        size = 0
        for byte in data[offset + 6 : offset + 10]:
            size = size << 7 | byte & 0x7F
        offset += 10 + size + (10 if data[offset + 5] & 0x10 else 0)
    return offset


def read(data: mmap.mmap, start: int) -> Mpeg | None:
    """Read the headers of all frames from ``start`` on; None where there are none."""
    found = first_frame(data, start)
    if found is None:
        return None
    offset, frame = found
    file, size = Mpeg([frame.kind]), len(data)
    _read_info(file, data[offset : offset + frame.size], frame)
    begun, found_first = offset, offset + frame.size
    if file.announced is not None:  # the frame with the header has no audio
        offset += frame.size
    while True:
        kind, samples, n = frame.kind, frame.samples, 0
        known: dict[bytes, int] = {}
        while offset < size:
            head = data[offset : offset + 4]
            length = known.get(head)
            if length is None:
                following = parse(head)
                if following is None or following.kind != kind:
                    break
                length = known[head] = following.size
            if offset + length > size:
                break
            offset += length
            n += 1
        file.frames += n
        file.audio_s += n * samples / kind.rate
        file.audio_bytes += offset - begun
        tag = _tag(data, offset)
        found = _next(data, tag, size)
        if found is None:
            file.tagged = tag > offset
            file.gap_bytes += _zeros(data, tag)
            break
        file.gap_bytes += found[0] - tag
        begun = offset = found[0]
        frame = found[1]
        if frame.kind != kind:
            file.kinds.append(frame.kind)
    if file.announced is not None and file.frames > file.announced:
        _read_more(file, data, found_first)
    return file


def first_frame(data: mmap.mmap, start: int) -> tuple[int, Frame] | None:
    """The first frame after an offset, and its offset."""
    return _next(data, start, min(len(data), start + SEARCHED))


def parse(head: bytes) -> Frame | None:
    """Parse a frame's header of four bytes; None if it is invalid."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kbits in (0, 15) or rate == 3 or head[3] & 3 == 2:
        return None
    first, mono, padding = version == 3, head[3] >> 6 == 3, head[2] >> 1 & 1
    hertz = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    bits = 1000 * _KBITS[first, layer][kbits]
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    size = (12 * bits // hertz + padding) * 4 if layer == 1 else samples // 8 * bits // hertz + padding
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(size, Kind(version, layer, hertz, mono), samples, side)


def _next(data: mmap.mmap, offset: int, end: int) -> tuple[int, Frame] | None:
    """The next frame that is followed by frames of the same kind or by the file's end."""
    while 0 <= offset < end:
        frame = parse(data[offset : offset + 4])
        if frame is not None and _follows(data, offset + frame.size, frame.kind):
            return offset, frame
        offset = data.find(b"\xff", offset + 1)
    return None


def _follows(data: mmap.mmap, offset: int, kind: Kind) -> bool:
    """Whether two more frames, or the file's end, follow."""
    for _ in range(2):
        if offset >= len(data) - 4:
            return offset == len(data)
        following = parse(data[offset : offset + 4])
        if following is None:
            return _tag(data, offset) > offset
        if following.kind != kind:
            return False
        offset += following.size
    return True


def _tag(data: mmap.mmap, offset: int) -> int:
    """The offset after ID3, APE and Lyrics tags."""
    while True:
        after, head = after_tags(data, offset), data[offset : offset + 8]
        if head[:3] == b"TAG":
            after = offset + 128
        elif head == b"APETAGEX":
            size, flags = (int.from_bytes(data[a : a + 4], "little") for a in (offset + 12, offset + 20))
            after = offset + 32 + (size if flags >> 29 & 1 else 0)
        elif head == b"LYRICSBE":
            end = data.find(b"LYRICS200", offset)
            after = end + 9 if end > 0 else offset
        if after <= offset:
            return offset
        offset = min(after, len(data))


def _zeros(data: mmap.mmap, offset: int) -> int:
    """The number of bytes to the end, if they are at least `ZEROS` zeros."""
    n = len(data) - offset
    return n if n >= ZEROS and not data[offset : offset + ZEROS].strip(b"\0") else 0


def _read_info(file: Mpeg, data: bytes, frame: Frame) -> None:
    """Add the numbers of a Xing, Info or VBRI header in a piece's first frame to those of earlier pieces."""
    offset = 4 + frame.side
    if data[offset : offset + 4] in (b"Xing", b"Info"):
        flags = data[offset + 7] if len(data) > offset + 7 else 0
        offset += 8
        if flags & 1:
            file.announced = (file.announced or 0) + int.from_bytes(data[offset : offset + 4], "big")
            file.headers += 1
            offset += 4
        if flags & 2:
            file.announced_bytes += int.from_bytes(data[offset : offset + 4], "big")
            offset += 4
        offset += (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
        if data[offset : offset + 4] in (b"LAME", b"Lavf", b"Lavc"):
            gaps = int.from_bytes(data[offset + 21 : offset + 24], "big")
            file.discarded += (gaps >> 12) + (gaps & 0xFFF)
    elif data[36:40] == b"VBRI":
        file.announced = (file.announced or 0) + int.from_bytes(data[50:54], "big")
        file.announced_bytes += int.from_bytes(data[46:50], "big")


def _read_more(file: Mpeg, data: mmap.mmap, start: int) -> None:
    """Read the headers of the pieces that begin after ``start``, also without a gap."""
    for mark in (b"Xing", b"Info"):
        offset = data.find(mark, start)
        while offset > 0:
            for side in (9, 17, 32):
                begun = offset - side - 4
                frame = parse(data[begun : begun + 4])
                if frame is not None and frame.side == side:
                    _read_info(file, data[begun : begun + frame.size], frame)
            offset = data.find(mark, offset + 1)
