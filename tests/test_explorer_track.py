"""The explorer's opened track: what is known of it, and its sound, in a real browser."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from browsers import expect, until
from explorer_pages import count, scores, titles

from mer_ray.io.schemas import SCHEMAS
from mer_ray.scoring.scores_table import clock


def test_one_track(view):
    page = view(scores(1, duration_s=[59.6]))
    assert count(page) == "1 track"
    page.click("#list .row")
    assert page.inner_text("#time") == f"0:00 / {clock(59.6)}" == "0:00 / 1:00"
    assert page.inner_text("#no-similar") == "There is no other track."


def test_no_track_says_what_to_do(view):
    page = view(scores(0))
    assert "mer-ray score" in page.inner_text("#empty")
    assert page.is_hidden("#main")


def test_what_is_not_known_is_left_out(view):
    curve = pa.array([None, []], SCHEMAS["scores"].field("curve").type)
    unknown = {name: [None, None] for name in ("in_distribution", "novelty", "sound", "waveform")}
    empty = {"artist": ["", ""], "uri": ["", ""], "title": ["", "B"], "duration_s": [float("nan"), 0.0]}
    page = view(scores(2, curve=curve, **unknown, **empty))
    assert page.is_hidden("#only")
    assert titles(page) == ["B", "(no title)"]
    for i in range(2):
        page.click(f"#list .row >> nth={i}")
        assert page.inner_text("#curve-empty") == "No curve is known of this track"
        assert page.is_disabled("#play")
        assert page.inner_text("#audio-note") == "No audio file is known of this track."


def test_the_audio_plays_through_its_link_and_a_click_in_the_curve_seeks(view, tmp_path):
    file = tmp_path / "mu sic" / "100 % #1? é'.wav"
    file.parent.mkdir()
    soundfile.write(file, 0.1 * np.sin(np.arange(4_800_000) / 5), 8_000)  # it is not to end while one looks
    page = view(scores(2, uri=[str(file)] * 2, duration_s=[600.0] * 2))
    page.click("#list .row")
    until(page, "document.getElementById('audio').readyState >= 1")
    assert page.evaluate("document.getElementById('audio').duration") == pytest.approx(600)
    page.click("#curve")  # in its middle
    until(page, "Math.abs(document.getElementById('audio').currentTime - 300) < 2")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Pause")
    until(page, "document.getElementById('audio').currentTime > 300.5")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Play")
    assert page.evaluate("document.getElementById('audio').paused")
    page.focus("#curve")
    page.keyboard.press("End")
    expect(page.locator("#curve")).to_have_attribute("aria-valuetext", "10:00 of 10:00")


def test_a_track_that_is_opened_starts_at_its_start_and_says_nothing_of_the_one_before(view, tmp_path):
    """One seeks in a track and plays it, and opens another, before the first has arrived."""
    file = tmp_path / "a.wav"
    soundfile.write(file, np.zeros(80_000), 8_000)
    page = view(scores(2, uri=[str(file)] * 2, duration_s=[10.0] * 2))
    page.evaluate(
        """() => {
          const [first, second] = document.querySelectorAll("#list .row"), curve = document.getElementById("curve");
          first.click();
          const box = curve.getBoundingClientRect();
          curve.dispatchEvent(new MouseEvent("click", {clientX: box.left + box.width / 2, bubbles: true}));
          document.getElementById("play").click();
          second.click();
        }"""
    )
    expect(page.locator("#t-title")).to_have_text("Tune 00001")
    until(page, "document.getElementById('audio').readyState >= 2")
    assert page.evaluate("document.getElementById('audio').currentTime") == 0
    assert page.inner_text("#audio-note") == ""
