"""The pages of an Ogg file: which are intact, the links of its chain, and their announced audio."""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

MARK = b"OggS"
HEADER = 27
BEGINS, ENDS = 2, 4
"""Flags of a stream's first and last page."""

NO_POSITION = (1 << 64) - 1
"""The granule position of a page on which no packet ends."""

LIVE_S = 2.0
"""A stream whose first page ends later than this was recorded from a running broadcast."""

LONGEST_PAGE_S = 10

_FLAGS = (0, 1, ENDS, ENDS | 1)
"""Of pages after the first: whether it continues a packet, and whether it is the last."""

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """offset: of its start. size: in bytes. payload: offset of its packets."""

    offset: int
    size: int
    payload: int
    flags: int
    granule: int
    serial: int
    number: int


class Packet(NamedTuple):
    """The first packet of a stream. discarded: samples at the start that are not to be played."""

    codec: str
    rate: int = 0
    channels: int = 0
    discarded: int = 0


NO_AUDIO = Packet("")


@dataclass
class Link:
    """One of the streams, or groups of multiplexed streams, that follow each other in a file.

    Attributes:
        ranges: (first byte, byte after the last) of its intact pages, in order, and the bytes of repaired pages.
        audio: Its first packet.
        serials: Of its streams, the audio's first.
        first: The first granule position of its pages.
        last: The last granule position.
    """

    audio: Packet = NO_AUDIO
    serials: list[int] = field(default_factory=list)
    ranges: list[tuple[int, int] | bytes] = field(default_factory=list)
    first: int | None = None
    last: int = 0

    @property
    def announced_s(self) -> float:
        """Its length by its granule positions; 0 if unknown."""
        if not self.audio.rate or self.first is None:
            return 0.0
        start = self.audio.discarded if self.first < LIVE_S * self.audio.rate else self.first
        return max(0, self.last - start) / self.audio.rate

    def add(self, page: Page, repaired: bytes | None) -> None:
        """Add a page. repaired: its bytes, if it was damaged."""
        before = self.ranges[-1] if self.ranges else b""
        if repaired is not None:
            self.ranges.append(repaired)
        elif isinstance(before, tuple) and before[1] == page.offset:
            self.ranges[-1] = (before[0], page.offset + page.size)
        else:
            self.ranges.append((page.offset, page.offset + page.size))
        # Signed, as a first page may start before zero.
        if page.serial == self.serials[0] and page.granule != NO_POSITION and 0 < page.granule < 1 << 63:
            self.first = page.granule if self.first is None else self.first
            self.last = max(self.last, page.granule)


@dataclass
class Ogg:
    """A file's links.

    Attributes:
        sound: No page is damaged, and nothing is between pages.
        ended: The last page has the flag of a last page.
        broken: The file ends in the middle of a page.
        n_bytes: Of its pages.
        missing_bytes: Of damaged or missing pages, which make the length uncertain.
    """

    links: list[Link] = field(default_factory=list)
    sound: bool = True
    ended: bool = False
    broken: bool = False
    n_bytes: int = 0
    missing_bytes: int = 0

    @property
    def announced_s(self) -> float | None:
        """Its length by its granule positions; None if unknown."""
        each = [link.announced_s for link in self.links]
        return sum(each) * (1 + self.missing_bytes / self.n_bytes) if each and all(each) else None


def read(data: mmap.mmap, start: int = 0) -> Ogg:
    """Read every page from ``start`` on. Checksums are verified unless all of them are wrong."""
    found = _read(data, start, True)
    if found.links or found.sound:
        return found
    return _read(data, start, False)


def _read(data: mmap.mmap, start: int, strict: bool) -> Ogg:
    file, offset, end = Ogg(), start, len(data)
    in_headers, numbers = False, dict[int, int]()
    ended_at = good_end = 0
    while offset < end:
        page = _page(data, offset)
        whole = page is not None and page.offset + page.size <= end
        repaired = None
        if page is None or not whole or (strict and not _intact(data[offset : offset + page.size])):
            audio = file.links[-1] if file.links else Link()
            if audio.serials and audio.serials[0] in numbers:
                repaired = _repaired(data, offset, audio, numbers[audio.serials[0]])
            page = _page(repaired, 0) if repaired is not None else page
            file.sound = file.sound and repaired is None
        if page is not None and repaired is not None:
            page = page._replace(offset=offset)
        elif page is None or not whole or (strict and not _intact(data[offset : offset + page.size])):
            following = data.find(MARK, offset + 1)
            if page is not None and whole and page.flags & ENDS:
                ended_at = offset + page.size  # a damaged last page
            if following < 0:
                file.broken = page is not None and not whole
                # A tag or padding may follow the last page, but not an incomplete page.
                file.sound = file.sound and (page is None or file.broken) and ended_at <= offset
                break
            file.sound = False
            offset = following
            continue
        if page.flags & BEGINS:
            if not in_headers:
                file.links.append(Link())
                numbers.clear()
            in_headers = True
            packet = first_packet(data[page.payload : page.payload + 64])
            link = file.links[-1]
            is_audio = bool(packet.codec and not link.audio.codec)
            link.serials.insert(0 if is_audio else len(link.serials), page.serial)
            link.audio = packet if is_audio else link.audio
        else:
            in_headers = False
        if not file.links or page.serial not in file.links[-1].serials:  # its first page is damaged or missing
            file.sound = False
            file.missing_bytes += page.size
            offset += page.size
            continue
        if page.number != numbers.get(page.serial, page.number):
            file.sound = False
            if page.number + 1 == numbers[page.serial]:  # a repeated page
                offset += page.size
                continue
        numbers[page.serial] = page.number + 1 & 0xFFFFFFFF
        link = file.links[-1]
        link.add(page, repaired)
        file.n_bytes += page.size
        if page.serial == link.serials[0]:
            file.ended = bool(page.flags & ENDS)
        offset = good_end = offset + page.size
    if not file.ended and not file.sound:
        file.missing_bytes += end - good_end
    file.ended = file.ended or (ended_at > 0 and ended_at >= end - HEADER)
    return file


def _page(data: mmap.mmap | bytes, offset: int) -> Page | None:
    """The page at an offset, which may be truncated by the file's end; None if there is none."""
    head = data[offset : offset + HEADER]
    if head[:4] != MARK or len(head) < HEADER or head[4] != 0:
        return Page(offset, 1 << 17, offset, 0, NO_POSITION, 0, 0) if head and MARK.startswith(head[:4]) else None
    lacing = data[offset + HEADER : offset + HEADER + head[26]]
    payload = offset + HEADER + head[26]
    numbers = (int.from_bytes(head[a:b], "little") for a, b in ((6, 14), (14, 18), (18, 22)))
    return Page(offset, HEADER + head[26] + sum(lacing), payload, head[5], *numbers)


def _intact(page: bytes) -> bool:
    """Whether a page's checksum is right."""
    return _checksum(page) == page[22:26]


def _checksum(page: bytes) -> bytes:
    """Ogg's checksum: zlib's CRC with reversed bits, and without inversions."""
    turned = page.translate(_REVERSED)
    crc = zlib.crc32(turned[26:], zlib.crc32(b"\0\0\0\0", zlib.crc32(turned[:22], 0xFFFFFFFF)))
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED)


def _repaired(data: mmap.mmap, offset: int, link: Link, number: int) -> bytes | None:
    """The page at an offset with its header restored, if the checksum confirms it.

    If the granule position is damaged, too, its lower half is computed from the checksum.
    """
    head = data[offset : offset + HEADER]
    lacing = data[offset + HEADER : offset + HEADER + head[26]] if len(head) == HEADER else b""
    size = HEADER + len(lacing) + sum(lacing)
    if not lacing or offset + size > len(data) or data[offset + size : offset + size + 4] not in (MARK, b""):
        return None
    page, highest = bytearray(data[offset : offset + size]), link.last + LONGEST_PAGE_S * link.audio.rate
    page[:5], page[14:18], page[18:22] = (
        MARK + b"\0",
        link.serials[0].to_bytes(4, "little"),
        number.to_bytes(4, "little"),
    )
    stored, granule = bytes(page[6:14]), int.from_bytes(page[6:14], "little")
    if page[:HEADER] == head and head[5] in _FLAGS and (link.last <= granule <= highest or granule == NO_POSITION):
        return None  # its header is intact, so its payload is damaged
    for flags in _FLAGS:
        page[5], page[6:14] = flags, stored
        if _intact(bytes(page)):
            return bytes(page)
        page[6:14] = bytes(4) + (link.last >> 32).to_bytes(4, "little")
        wrong = int.from_bytes(_checksum(bytes(page)), "little") ^ int.from_bytes(page[22:26], "little")
        page[6:10] = _crc_before(wrong, size - 6).to_bytes(4, "big")
        if link.last < int.from_bytes(page[6:14], "little") < highest and _intact(bytes(page)):
            return bytes(page)
    return None


def _crc_before(crc: int, n: int) -> int:
    """The state of Ogg's checksum from which n zeros lead to this one."""
    for _ in range(n):
        index = _INDEX[crc & 0xFF]
        crc = (crc ^ _TABLE[index]) >> 8 | index << 24
    return crc


def _entry(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


_TABLE = [_entry(byte) for byte in range(256)]
_INDEX = {entry & 0xFF: index for index, entry in enumerate(_TABLE)}


def first_packet(head: bytes) -> Packet:
    """Parse the beginning of a stream's first packet; without a codec if it is not known audio."""
    if head[:7] == b"\x01vorbis" and len(head) >= 16:
        return Packet("vorbis", int.from_bytes(head[12:16], "little"), head[11])
    if head[:8] == b"OpusHead" and len(head) >= 12:
        return Packet("opus", 48_000, head[9], int.from_bytes(head[10:12], "little"))
    if head[:5] == b"\x7fFLAC" and len(head) >= 30:
        # STREAMINFO follows nine bytes of the mapping, four of the mark and four of a block's header
        rate_and_channels = int.from_bytes(head[27:30], "big")
        return Packet("flac", rate_and_channels >> 4, (rate_and_channels >> 1 & 7) + 1)
    if head[:8] == b"Speex   " and len(head) >= 52:
        return Packet("speex", int.from_bytes(head[36:40], "little"), int.from_bytes(head[48:52], "little"))
    return NO_AUDIO
