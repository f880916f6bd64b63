"""ID3v2 frames of others, as the bytes that they are.

mutagen reads a frame into an object and writes that anew: what it cannot read is gone, of two frames with one key one
is left, or both are joined. So its classes are used for mer-ray's own frames only, and every other frame is a
`BinaryFrame`: its content is written as it was read, in the file's order. Frames that are encrypted or in a group keep
their flags, too; compressed ones are written uncompressed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any

from mutagen import id3
from mutagen.id3 import BitPaddedInt

CODECS = ("latin-1", "utf-16", "utf-16-be", "utf-8")
"""By the first byte of a text frame."""
_MIMES = {"PNG": "image/png", "JPG": "image/jpeg"}  # as in ID3v2.2
_FLAGS_KEPT = {3: 0x60, 4: 0x44}
"""By version of ID3v2: group and encryption, which say that the content begins with more than itself."""


def frames(is_own: Callable[[str], bool]) -> dict[str, type[id3.Frame]]:
    """``known_frames`` for mutagen. is_own: whether ``TXXX:`` and a description is a field of mer-ray's, as TMOO is."""
    return _Known(is_own)


class _Known(dict[str, type[id3.Frame]]):
    """A class for every frame ID, made when it is needed."""

    def __init__(self, is_own: Callable[[str], bool]) -> None:
        super().__init__(TMOO=id3.TMOO)
        self.is_own, self.numbers = is_own, itertools.count()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and len(name) == 4 and name.isascii() and name.isalnum() and name.isupper()

    def __missing__(self, name: str) -> type[id3.Frame]:
        if name not in self:
            raise KeyError(name)
        return self.setdefault(name, type(name, (_Kept,), {"known": self}))


class _Kept(id3.BinaryFrame):  # type: ignore[misc]
    known: _Known
    key = ""

    @classmethod
    def _fromData(cls, header: Any, flags: int, data: bytes) -> id3.Frame:
        if flags & _FLAGS_KEPT[header.version[1]]:
            if header.f_unsynch:
                raise id3.error("a frame in a group, or encrypted, in an unsynchronised tag")
            raise NotImplementedError  # mutagen then keeps it whole
        frame = super()._fromData(header, flags, data)
        if cls.__name__ == "TXXX" and (texts := _texts(frame.data)) and cls.known.is_own(f"TXXX:{texts[0]}"):
            return id3.TXXX(encoding=3, desc=texts[0], text=texts[1:])
        frame.key = str(next(cls.known.numbers))
        return frame

    @property
    def HashKey(self) -> str:
        """Each frame has its own."""
        return self.key


def settle(tags: id3.ID3, version: int) -> None:
    """Hand over the frames of others to ``unknown_frames``, which mutagen writes as they are, in their order."""
    kept = [frame for frame in tags.values() if isinstance(frame, _Kept)]
    for frame in kept:
        del tags[frame.key]
    tags.unknown_frames[:0] = [_whole(type(frame).__name__, frame.data, version) for frame in kept]


def _whole(name: str, data: bytes, version: int) -> bytes:
    size: bytes = BitPaddedInt.to_str(len(data), width=4, bits=7 if version == 4 else 8)
    return name.encode() + size + b"\0\0" + data


def named(tags: id3.ID3) -> dict[str, bytes]:
    """The frames of others, by ID, and number from the second of an ID on."""
    counts, out = Counter[str](), {}
    for frame in tags.unknown_frames:
        name = frame[:4].decode("ascii", "replace")
        counts[name] += 1
        out[name if counts[name] == 1 else f"{name}:{counts[name]}"] = frame
    return out


def converted(tags: id3.ID3, version: int, is_own: Callable[[str], bool]) -> None:
    """Put into the tags, of ID3v1 or ID3v2.2, the frames that they have in ID3v2.3 or 2.4, as `frames` reads them."""
    plain, made = id3.ID3(), BytesIO()
    for frame in tags.values():
        if isinstance(frame, id3.APIC):
            frame.mime = _MIMES.get(frame.mime, frame.mime)
        plain.add(frame)
    plain.save(made, v2_version=version, v23_sep=None)
    made.seek(0)
    again = id3.ID3(made, known_frames=frames(is_own), translate=False, load_v1=False)
    settle(again, version)
    tags.clear()
    for frame in again.values():
        tags.add(frame)
    tags.unknown_frames = again.unknown_frames
    tags._unknown_v2_version = version  # without this, mutagen would leave them out


def _texts(data: bytes) -> list[str]:
    """The texts of a TXXX frame's content, of which the first is its description; empty where it is none."""
    if not data or data[0] >= len(CODECS):
        return []
    codec, rest = CODECS[data[0]], data[1:]
    width = 2 if codec.startswith("utf-16") else 1
    ends = [i for i in range(0, len(rest), width) if rest[i : i + width] == bytes(width)]
    parts = [rest[a:b] for a, b in zip([0, *(i + width for i in ends)], [*ends, len(rest)], strict=True)]
    try:
        texts = [part.decode(codec).removeprefix("\ufeff") for part in parts]
    except UnicodeDecodeError:
        return []
    while len(texts) > 2 and not texts[-1]:
        texts.pop()
    return texts if len(texts) > 1 else []
