"""Passages as an edit list, as OpenTimelineIO reads it."""

from __future__ import annotations

import opentimelineio as otio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.scoring.edl import RATES, Event, edit_list

HOUR_S = 3600


def clips(text: str, rate: str) -> list[otio.schema.Clip]:
    """The clips on the left channel; both have the same."""
    left, right = otio.adapters.read_from_string(text, "cmx_3600", rate=round(RATES[rate])).tracks
    assert (left.kind, [c.name for c in left]) == ("Audio", [c.name for c in right])
    return list(left)


def event(start_s: float = 10.0, end_s: float = 30.0, name: str = "a.wav") -> Event:
    return Event(name, f"/music/{name}", start_s, end_s, "RED", "tense")


passages = st.tuples(st.floats(0, 3 * HOUR_S), st.floats(0.001, 600))


@given(st.lists(passages, min_size=1, max_size=8), st.sampled_from(sorted(RATES)))
def test_every_passage_is_a_clip_to_half_a_frame_and_none_overlap(found, rate):
    events = [event(start, start + length, f"{i}.wav") for i, (start, length) in enumerate(found)]
    read, per_second = clips(edit_list("x", events, rate), rate), float(RATES[rate])
    assert [c.name for c in read] == [e.name for e in events]  # without gaps, which would be items between them
    for clip, of in zip(read, events, strict=True):
        start, frames = clip.source_range.start_time.value, clip.source_range.duration.value
        assert start == pytest.approx(of.start_s * per_second, abs=0.5001)
        assert frames >= 1
        assert start + frames == pytest.approx(of.end_s * per_second, abs=1.5001 if frames == 1 else 0.5001)


@pytest.mark.parametrize(
    "name", ["a  b.wav", " é 音楽　.wav", "* LOC: x.wav", "001  AX  V  C.wav", "#1 %41?.wav", "-x.wav"]
)
def test_files_keep_their_names(name):
    (clip,) = clips(edit_list("x", [event(name=name)], "25"), "25")
    assert (clip.name, clip.media_reference.target_url) == (name.strip(), f"/music/{name}")


def test_what_no_line_can_hold_makes_no_other_line():
    evil = "a\n002  AX       AA    C        00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00\r\x85\u2028\udce9.wav"
    text = edit_list(f"t\n{evil}", [Event(evil, evil, 1, 2, "RED", evil)], "24")
    assert (len(text.encode().splitlines()), len(clips(text, "24"))) == (7, 1)


def test_what_the_format_cannot_say_is_refused():
    assert len(clips(edit_list("x", [event()] * 999, "30"), "30")) == 999
    for events, rate, message in (
        ([event()] * 1000, "30", "999 events at most"),
        ([event(24 * HOUR_S - 5, 24 * HOUR_S)], "25", "a timecode ends at 24 h"),
        ([event(0, 4 * HOUR_S)] * 6, "29.97", "a timecode ends at 24 h"),
    ):
        with pytest.raises(InputError, match=message):
            edit_list("x", events, rate)
