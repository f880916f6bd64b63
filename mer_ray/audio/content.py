"""Recognises files that are not audio by their content: web pages, archives, pictures, MIDI, playlists, text.

Used before decoding, since some decoders find the first track of an archive; and after it failed, for a message that
says "a web page" and not "invalid data".
"""

from __future__ import annotations

import mmap
import re
import zlib
from pathlib import Path

from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line

HEAD = 4096  # bytes
ASF_HEAD = 1 << 16

CORRUPT, NOTES, PROTECTED = "corrupt", "needs_rendering", "protected"

_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "a ZIP archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"BZh91AY&SY", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a Microsoft Office document"),
    (0, b"\x89PNG\r\n", "a picture (PNG)"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)"),
    (0, b"GIF8", "a picture (GIF)"),
    (8, b"WEBP", "a picture (WebP)"),
    (0, b"II*\0", "a picture (TIFF)"),
    (0, b"MM\0*", "a picture (TIFF)"),
    (4, b"ftypheic", "a picture (HEIC)"),
    (4, b"ftypavif", "a picture (AVIF)"),
    (0, b"\0\x05\x16\x07", "a companion file of macOS (AppleDouble)"),
    (0, b"SQLite format 3\0", "a database (SQLite)"),
    (0, b"PAR1", "a table (Parquet)"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ\x90\0", "a program"),
    (8, b"sfbk", "a SoundFont"),
    (0, b"d8:announce", "a torrent"),
    (0, b"version https://git-lfs.github.com/", "a pointer of Git LFS to the file (`git lfs pull` gets it)"),
    (0, b"/annex/objects/", "a pointer of git-annex to the file (`git annex get` gets it)"),
    (0, b"#EXTM3U", "a playlist (M3U)"),
    (0, b"[playlist]", "a playlist (PLS)"),
)
"""(offset, bytes at it, name of the format)."""

_MODULES = [b"M.K.", b"M!K!", b"M&K!", b"FLT4", b"FLT8", b"OKTA", b"CD81", b"4CHN", b"6CHN", b"8CHN"]
_MODULES += [b"10CH", b"12CH", b"14CH", b"16CH", b"24CH", b"32CH"]
_NOTES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"MThd", "a MIDI file"),
    (8, b"RMID", "a MIDI file"),
    (8, b"XDIR", "a MIDI file"),
    (0, b"MUS\x1a", "a music file of Doom"),
    *((1080, mark, "a tracker module (MOD)") for mark in _MODULES),
    (0, b"Extended Module: ", "a tracker module (XM)"),
    (44, b"SCRM", "a tracker module (S3M)"),
    (0, b"IMPM", "a tracker module (IT)"),
    (20, b"!Scream!", "a tracker module (STM)"),
    (44, b"PTMF", "a tracker module (PTM)"),
    (0, b"MTM\x10", "a tracker module (MTM)"),
    *((0, mark, "a tracker module (MED)") for mark in (b"MMD0", b"MMD1", b"MMD2", b"MMD3")),
    (0, b"OKTASONG", "a tracker module (Oktalyzer)"),
    (0, b"DBM0", "a tracker module (DigiBooster)"),
    (0, b"FAR\xfe", "a tracker module (Farandole)"),
    (0, b"MAS_UTrack_V0", "a tracker module (UltraTracker)"),
    (0, b"THX\0", "a tracker module (AHX)"),
    (0, b"THX\1", "a tracker module (AHX)"),
    (0, b"HVL\0", "a tracker module (HivelyTracker)"),
    (0, b"HVL\1", "a tracker module (HivelyTracker)"),
    (0, b"MO3", "a tracker module (MO3)"),
    (0, b"\xc1\x83\x2a\x9e", "a package of Unreal with a tracker module"),
    (0, b"NESM\x1a", "music for the NES (NSF)"),
    (0, b"NSFE", "music for the NES (NSFe)"),
    (0, b"SNES-SPC700", "music for the SNES (SPC)"),
    (0, b"Vgm ", "music of an old console (VGM)"),
    (0, b"GBS\1", "music for the Game Boy (GBS)"),
    (0, b"HESM", "music for the PC Engine (HES)"),
    (0, b"KSCC", "music for the MSX (KSS)"),
    (0, b"KSSX", "music for the MSX (KSS)"),
    (0, b"ZXAYEMUL", "music for the ZX Spectrum (AY)"),
    (0, b"SAP\r\n", "music for the Atari (SAP)"),
    *((0, mark, "music for the Atari ST (YM)") for mark in (b"YM2!", b"YM3!", b"YM4!", b"YM5!", b"YM6!")),
    *((0, mark, "music for the Commodore 64 (SID)") for mark in (b"PSID\0", b"RSID\0")),
    *((0, b"PSF" + bytes([version]), "music of an old console (PSF)") for version in (1, 2, 17, 18, 33, 34, 35, 65)),
)

_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|script|title|meta)\b", re.IGNORECASE)
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!doctype|svg|rss|asx|playlist|error)\b", re.IGNORECASE)
_CUE = re.compile(r"^\s*TRACK\s+\d+\s+AUDIO\s*$", re.MULTILINE | re.IGNORECASE)
_JSON = re.compile(r"\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]\d])")

_CONTROL = frozenset(map(chr, range(32))) - set("\t\n\r\f\x1a\x1b") | {"\x7f"}

_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_ENCRYPTED = (
    b"\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e",
    b"\x14\xe6\x8a\x29\x22\x26\x17\x4c\xb9\x35\xda\xe0\x7e\xe9\x28\x9c",
)
"""The identifiers of the objects "content encryption" and "extended content encryption"."""

_ENCRYPTED = (b"drms", b"drmi", b"aavd", b"enca")
"""Sample entries of encrypted MP4: of iTunes, of Audible, and of Common Encryption (ISO/IEC 23001-7)."""
_BOXES = 10_000
"""Of an MP4 file that are looked at: a damaged one could have a hundred million empty ones."""


def refused(file: Path) -> TrackError | None:
    """The error of a file with the signature of another format; None if it may be audio. Raises OSError."""
    with file.open("rb") as handle:
        head = handle.read(HEAD)
        if head.startswith(_ASF):
            head += handle.read(ASF_HEAD)
    name = one_line(str(file), 300)
    for at, mark, what in _NOTES:
        if head.startswith(mark, at):
            return TrackError(NOTES, f"{name} is {what}: it says how to play, and holds no sound")
    if _is_encrypted(file, head):
        return TrackError(PROTECTED, f"{name} is encrypted by the shop that sold it (DRM)")
    if what := _other(head):
        if _unpacked(head).startswith(b"Vgm "):
            return TrackError(
                NOTES, f"{name} is music of an old console (VGZ): it says how to play, and holds no sound"
            )
        return TrackError(CORRUPT, f"{name} is {what}, no audio")
    return None


def looks_like(file: Path) -> str:
    """The probable format of a file that no decoder could open; empty if unknown. Raises OSError."""
    with file.open("rb") as handle:
        head = handle.read(HEAD)
        if not any(head):
            while block := handle.read(1 << 20):
                if any(block):
                    return "it begins with zeros, as after a download or a copy that broke off"
            return "it is filled with zeros, as after a download or a copy that broke off"
    if head[4:8] == b"ftyp":
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, end = _box(data, b"moov")
        return "" if end > start else "its index (moov) is missing, as after a download or a copy that broke off"
    what = _text_kind(head)
    return f"it is {what}, no audio" if what else ""


def text_kind(file: Path) -> str:
    """The kind of a text file; empty for binary files. Raises OSError."""
    with file.open("rb") as handle:
        return _text_kind(handle.read(HEAD))


def _text_kind(head: bytes) -> str:
    text = _text(head)
    if not text.strip():
        return ""
    if text.lstrip("\ufeff").lstrip().startswith("#EXTM3U"):
        return "a playlist (M3U)"
    if _JSON.match(text):
        return "JSON text"
    return "a cue sheet" if _CUE.search(text) else "text"


def _other(head: bytes) -> str:
    if _PAGE.match(head):
        return "a web page (HTML)"
    if _XML.match(head):
        return "a web page (HTML)" if b"<html" in head.lower() else "an XML file"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and _text(head):
        return "text"
    return next((what for at, mark, what in _KINDS if head.startswith(mark, at)), "")


def _text(head: bytes) -> str:
    """A file's beginning as text; empty for binary files, which have control characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", "replace")
        letters = sum(c.isascii() or c.isalpha() for c in text)
        return text if 10 * letters > 9 * len(text) and _CONTROL.isdisjoint(text) else ""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The end may be in the middle of a character; other errors mean another encoding.
        text = head.decode("utf-8" if error.start > len(head) - 4 else "latin-1", "ignore")
        if sum(byte > 127 for byte in head) > len(head) // 4:
            return ""
    return text if _CONTROL.isdisjoint(text) else ""


def _unpacked(head: bytes) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return b""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 16)
    except zlib.error:
        return b""


def _is_encrypted(file: Path, head: bytes) -> bool:
    if head.startswith(b"CTENFDAM"):  # sold by NetEase
        return True
    if head.startswith(_ASF):
        return any(mark in head for mark in _ASF_ENCRYPTED)
    if head[4:8] != b"ftyp":
        return False
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, end = _box(data, b"moov")
        # b"stsd", version and flags, number of entries, size of the first one, its type
        while (at := data.find(b"stsd", start, end)) >= 0:
            if data[at + 16 : at + 20] in _ENCRYPTED:
                return True
            start = at + 4
    return False


def _box(data: mmap.mmap, name: bytes) -> tuple[int, int]:
    """The first and last byte of an MP4 file's first box of that name, empty without one among the first `_BOXES`."""
    at = 0
    for _ in range(_BOXES):
        if at + 16 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:  # 1: the size is in the next 8 bytes after the name; 0: to the end of the file
            size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else len(data) - at
        if data[at + 4 : at + 8] == name:
            return at, min(at + size, len(data))
        at += max(size, 8)
    return len(data), len(data)


_AUDIO = (
    b"ID3",
    b"fLaC",
    b"OggS",
    b"RIFF",
    b"RF64",
    b"FORM",
    b".snd",
    b"caff",
    b"\x1aE\xdf\xa3",
    b"MAC ",
    b"wvpk",
    _ASF,
)


def is_audio(file: Path) -> bool:
    """Whether a file begins like a usual audio format, and not like text. Raises OSError."""
    with file.open("rb") as handle:
        head = handle.read(HEAD)
    # MPEG frames begin with eleven set bits. So does UTF-16, whose marks would mean the unusual Layer I.
    mpeg = head[:1] == b"\xff" and head[1:2] >= b"\xe0" and head[:2] not in (b"\xff\xfe", b"\xff\xff")
    return (mpeg or head.startswith(_AUDIO) or head[4:8] == b"ftyp") and not _text(head)


def is_parquet(file: Path) -> bool:
    """Whether a file is Parquet, by its first bytes. Raises OSError."""
    with file.open("rb") as handle:
        return handle.read(4) == b"PAR1"
