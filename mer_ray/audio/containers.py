"""A file's format, by its content, and how much of its announced audio is present.

Decoders silently read the beginning of a truncated file, and some of them stop at unexpected bytes between pages or
frames.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mer_ray.audio import mpeg, ogg

STREAMED = 0x7F000000
"""Sizes from this on are placeholders of programs that stream and cannot fill in the size."""

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11"
"""The first half of the identifier of ASF's object "file properties"."""

W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

VOC = b"Creative Voice File"

EBML = b"\x1aE\xdf\xa3"


@dataclass(frozen=True)
class Survey:
    """The structure of a file.

    Attributes:
        kind: ``wav``, ``flac``, ``ogg``, ``mpeg``, ``iso`` (MP4), ``matroska``, ``asf``, ``w64``, ``voc``; else ``""``.
        sound: No damage that could stop a decoder.
        announced_s: Announced seconds of audio; None if unknown.
        counted_s: Present seconds, if they can be counted without decoding; else None.
        share: Present share of the announced bytes; None if unknown.
        broken: The reason why the file is known to be incomplete, if the amount is unknown.
    """

    kind: str = ""
    sound: bool = True
    announced_s: float | None = None
    counted_s: float | None = None
    share: float | None = None
    broken: str = ""
    ogg: ogg.Ogg | None = None
    mpeg: mpeg.Mpeg | None = None


def survey(path: Path) -> Survey:
    """Read the structure of a non-empty file, which is much faster than decoding. Raises OSError, ValueError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = mpeg.after_tags(data)
        head = data[start : start + 40]
        if head[:4] == ogg.MARK:
            return _ogg(ogg.read(data, start))
        if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            return _wav(data, start)
        for mark, at, kind in _MARKS:
            if head[at : at + len(mark)] == mark:
                return Survey(kind, share=_SHARES[kind](data) if kind in _SHARES else None)
        for mark, share in _PLAIN:
            if start == 0 and head.startswith(mark):
                return Survey(_KINDS.get(mark, ""), share=share(data))
        if start == 0 and head.startswith(VOC):
            return _voc(data)
        if head.startswith(_OTHERS):
            return Survey()
        page = data.find(ogg.MARK, start, start + mpeg.SEARCHED)
        if page > 0 and (found := ogg.read(data, page)).links:
            return replace(_ogg(found), sound=False)
        frames = mpeg.read(data, start)
        return Survey() if frames is None else _mpeg(frames)


def _ogg(file: ogg.Ogg) -> Survey:
    broken = ""
    if file.broken:
        broken = "its last Ogg page is not complete"
    elif not file.ended:
        broken = "its last Ogg page is not marked as the last"
    return Survey("ogg", file.sound, file.announced_s, broken=broken, ogg=file)


def _mpeg(file: mpeg.Mpeg) -> Survey:
    return Survey("mpeg", file.is_one, file.announced_s, file.audio_s, mpeg=file)


def _chunks(
    data: mmap.mmap, start: int, size_bytes: int, order: Literal["little", "big"], align: int = 1
) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, announced size) of the chunks of a file, each after a name of 4 bytes and its size."""
    while start + 4 + size_bytes <= len(data):
        body = start + 4 + size_bytes
        size = int.from_bytes(data[start + 4 : body], order)
        yield data[start : start + 4], body, size
        start = body + size + -size % align


def _wav(data: mmap.mmap, start: int) -> Survey:
    long_size = 0
    for name, body, size in _chunks(data, start + 12, 4, "little", align=2):
        if name == b"ds64":
            long_size = int.from_bytes(data[body + 8 : body + 16], "little")
        if name == b"data":
            announced = long_size if size == 0xFFFFFFFF and long_size else 0 if size >= STREAMED else size
            # Without a size, the data extend to the end, which not every decoder supports.
            return Survey("wav", size != 0 or body >= len(data), share=_share(body, announced, len(data)))
    return Survey("wav")


def _share(start: int, announced: int, size: int) -> float | None:
    """The present share of the announced bytes from ``start`` on; None if their number is unknown."""
    return min(1.0, max(0, size - start) / announced) if announced > 0 else None


def _aiff(data: mmap.mmap) -> float | None:
    for name, body, size in _chunks(data, 12, 4, "big", align=2):
        if name == b"SSND":
            return _share(body, 0 if size >= STREAMED else size, len(data))
    return None


def _au(data: mmap.mmap) -> float | None:
    start, size = (int.from_bytes(data[a : a + 4], "big") for a in (4, 8))
    return _share(start, 0 if size >= STREAMED else size, len(data))


def _w64(data: mmap.mmap) -> float | None:
    offset = 40
    while offset + 24 <= len(data):
        size = int.from_bytes(data[offset + 16 : offset + 24], "little")
        if data[offset : offset + 4] == b"data" or size < 24:
            return _share(offset, 0 if size >= 1 << 62 else size, len(data))
        offset += size + -size % 8
    return None


def _caf(data: mmap.mmap) -> float | None:
    for name, body, size in _chunks(data, 8, 8, "big"):
        if name == b"data":
            return _share(body, 0 if size >= 1 << 63 else size, len(data))
    return None


def _asf(data: mmap.mmap) -> float | None:
    properties = data.find(ASF_PROPERTIES, 0, mpeg.SEARCHED)
    return (
        _share(0, int.from_bytes(data[properties + 40 : properties + 48], "little"), len(data)) if properties else None
    )


def _riff(data: mmap.mmap) -> float | None:
    size = int.from_bytes(data[4:8], "little")
    return _share(8, 0 if size >= STREAMED else size, len(data))


def _matroska(data: mmap.mmap) -> float | None:
    """By the size of its segment, which live recordings lack."""
    size, start = _vint(data, 4)
    offset = start + size
    if data[offset : offset + 4] != b"\x18\x53\x80\x67":
        return None
    size, start = _vint(data, offset + 4)
    return _share(start, size, len(data))


def _vint(data: mmap.mmap, offset: int) -> tuple[int, int]:
    """(the variable-length number at the offset, 0 for "unknown"; the offset after it)."""
    first = data[offset] if offset < len(data) else 0
    length = 9 - first.bit_length()
    value = int.from_bytes(data[offset : offset + length], "big") & ((1 << 7 * length) - 1)
    return (0 if value == (1 << 7 * length) - 1 else value), offset + length


def _voc(data: mmap.mmap) -> Survey:
    offset = int.from_bytes(data[20:22], "little")
    while offset + 4 <= len(data) and data[offset]:
        offset += 4 + int.from_bytes(data[offset + 1 : offset + 4], "little")
    return Survey("voc", broken="its last block is not complete" if offset > len(data) else "")


_MARKS = ((b"fLaC", 0, "flac"), (b"ftyp", 4, "iso"), (EBML, 0, "matroska"), (ASF, 0, "asf"))
_SHARES = {"matroska": _matroska, "asf": _asf}
_PLAIN = (
    (b"FORM", _aiff),
    (b".snd", _au),
    (W64, _w64),
    (b"caff", _caf),
    (b"RIFF", _riff),
)
_KINDS = {W64: "w64"}
_OTHERS = (
    *(b"\0\0\1\xba", b"FLV", b".RMF", b"TTA1", b"wvpk", b"MAC ", b"MPCK", b"MP+", b"tBaK", b"DSD "),
    *(b"\x0bw", b"\x7f\xfe\x80\x01", b"\xff\xf1", b"\xff\xf9", b"#!AMR"),
)
"""First bytes of other formats, whose content may look like MPEG frames."""
