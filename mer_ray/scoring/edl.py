"""An edit decision list (CMX 3600): passages of files, one after the other, as a timeline that editors import.

An event is a line of number, reel (AX: a file, no tape), channels (AA: stereo), C (a cut), and four timecodes: in and
out in the file, in and out on the timeline, where an out is the first frame that is not played. Comments name the clip,
its file, and a marker (LOC, as Avid writes it). The format has no frame rate: who reads it has to know.

Sources: the example events in Blackmagic Design, "DaVinci Resolve 18 Reference Manual", "Conforming EDL Files"; and
the reader of OpenTimelineIO's adapter ``cmx_3600``, which the tests use.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line

RATES = {
    "23.976": Fraction(24_000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30_000, 1001),
    "30": Fraction(30),
}
"""Frames in a second, by the names that editors use. All are counted without dropped frame numbers."""
MOST_EVENTS = 999
_START_H = 1  # of the timeline, by custom
_DAY_H = 24


@dataclass(frozen=True)
class Event:
    """A passage of a file.

    Attributes:
        name: Of the file, without its folder.
        file: Its path or address.
        start_s: In the file, seconds.
        end_s: In the file, seconds, after ``start_s``.
        color: Of the marker: RED, GREEN, BLUE, CYAN, MAGENTA, YELLOW, BLACK or WHITE.
        note: The marker's text.
    """

    name: str
    file: str
    start_s: float
    end_s: float
    color: str
    note: str


def edit_list(title: str, events: Sequence[Event], rate: str) -> str:
    """The list as text. rate: of `RATES`. Raises InputError for what the format cannot say."""
    if len(events) > MOST_EVENTS:
        raise InputError(
            f"{len(events):,} passages are too many for an .edl, which has {MOST_EVENTS} events at most",
            f"choose {MOST_EVENTS // 2} tracks at most (-n {MOST_EVENTS // 2}), or give a .csv",
        )
    per_second = RATES[rate]
    base = round(per_second)  # frame numbers of a timecode's second
    lines = [f"TITLE: {one_line(title, 70)}", "FCM: NON-DROP FRAME"]
    at = _START_H * 3600 * base
    for number, event in enumerate(events, start=1):
        first = round(Fraction(event.start_s) * per_second)
        last = max(first + 1, round(Fraction(event.end_s) * per_second))
        if max(last, at + last - first) >= _DAY_H * 3600 * base:
            raise InputError(
                f"{one_line(event.file)}: a timecode ends at {_DAY_H} h", "choose fewer tracks, or give a .csv"
            )
        codes = (timecode(frames, base) for frames in (first, last, at, at + last - first))
        lines += [
            "",
            f"{number:03d}  AX       AA    C        {' '.join(codes)}",
            f"* FROM CLIP NAME: {_line(event.name)}",
            f"* FROM FILE: {_line(event.file)}",
            f"* LOC: {timecode(at, base)} {event.color:7} {one_line(event.note)}",
        ]
        at += last - first
    return "\n".join(lines) + "\n"


def _line(name: str) -> str:
    """A file's name as it is, but for what no line of text can hold: line breaks, and bytes that are not UTF-8."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in name)


def timecode(frames: int, base: int) -> str:
    """hh:mm:ss:ff of a frame's number, at ``base`` numbers in a second."""
    seconds, frame = divmod(frames, base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"
