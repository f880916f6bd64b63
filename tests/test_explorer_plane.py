"""The explorer's plane of tracks, driven in a real browser by mouse and keys."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from browsers import expect
from explorer_pages import count, downloaded, drag, inked, open_at, point_at, saved_rows, scores, settled, slide, spot
from PIL import Image

from mer_ray.io.schemas import DIMENSIONS


def test_a_click_on_the_plane_opens_the_track_with_its_curve_and_similar_tracks(view):
    page = view(scores(5))
    point_at(page, "Tune 00002", 0.5, 0.5)
    assert inked(page, 0.5, 0.6)  # its interval
    assert not inked(page, 0.3, 0.3)
    open_at(page, "Tune 00002", 0.5, 0.5)
    assert inked(page, 0.3, 0.3)  # a ring around a similar track
    assert page.locator("#curve .line").count() == 3
    assert page.locator("#curve .wave").count() == 1
    assert page.locator("#ticks span").all_inner_texts()[-1] == "1:00"
    assert "0.40 – 0.60" in page.inner_text("#numbers")
    assert page.locator("#similar li").count() == 4
    page.click("#similar li >> nth=0")
    assert page.inner_text("#t-title") in ("Tune 00001", "Tune 00003")


@pytest.mark.parametrize(
    ("dimensions", "axes"),
    [
        (("valence", "arousal"), ["Valence", "Arousal"]),
        (("tension", "energy"), ["Tension", "Energy"]),
        (("dominance", "arousal", "valence"), ["Valence", "Arousal"]),
        (("arousal",), ["Arousal", "Novelty"]),
        (("joyful_activation", "power", "tension", "wonder", "order"), ["Joyful activation", "Power"]),
    ],
)
def test_the_page_shows_the_dimensions_that_there_are_and_no_others(view, dimensions, axes):
    table = scores(20, dimensions)
    names = [d.replace("_", " ").capitalize() for d in dimensions]
    page = view(table, whole=False)
    assert page.locator("#sliders .range .head span").all_inner_texts() == [*names, "Uncertainty"]
    page.click("#list .row >> nth=3")
    assert page.locator("#numbers th").all_inner_texts() == names
    assert [t.split(" 0.")[0] for t in page.locator("#readout > span").all_inner_texts()] == names
    assert page.locator("#curve .line").count() == len(dimensions)
    colours = page.eval_on_selector_all("#curve .line", "lines => lines.map((l) => getComputedStyle(l).stroke)")
    assert len(set(colours)) == len(dimensions)
    seen = page.get_attribute("#plane", "aria-label")
    assert seen.startswith(f"Scatter plot: {axes[0].lower()} across, {axes[1].lower()} up")
    assert page.is_visible("#moods") == ({"valence", "arousal"} <= set(dimensions))
    assert page.is_visible("#scale") == (len(dimensions) > 2)
    heads = page.locator("#columns button").all_inner_texts()
    letters = set(dimensions) <= set(DIMENSIONS)
    plane = [a for a in axes if a != "Novelty"]
    listed = [*plane, *(n for n in names if n not in plane)][:3]
    assert heads == ["Title", "Artist", *(n[0] if letters else n for n in listed), "±"]
    slide(page, f"{dimensions[-1]}-highest", 0.5)
    assert count(page) == "10 of 20 tracks"
    page.click("#columns button >> nth=2")
    page.click("#all")
    rows = saved_rows(page)
    of_dimensions = [
        f"{a}{d}{b}" for d in dimensions for a, b in (("", ""), ("lower_", ""), ("upper_", ""), ("", "_percentile"))
    ]
    mood = ["mood"] if {"valence", "arousal"} <= set(dimensions) else []
    assert list(rows[0]) == ["artist", "title", "album", *of_dimensions, *mood, "in_distribution", "duration_s", "file"]
    assert [float(r[dimensions[0]]) for r in rows] == pytest.approx([(i + 0.5) / 20 for i in range(10)], abs=1e-4)
    text = page.inner_text("body")
    assert not re.search(r"undefined|NaN|\{\{", text)
    others = [d for d in DIMENSIONS if d not in dimensions]
    assert not [d for d in others if re.search(d, text, re.IGNORECASE)]


@pytest.mark.parametrize("novelty", [True, False])
def test_one_dimension_is_shown_against_novelty_or_as_a_strip(view, novelty):
    novelties = [0.5, 3.0] if novelty else [0.5, None]
    page = view(scores(2, ("tension",), novelty=novelties), whole=True)
    low = 0.5 / (3.0 if novelty else 1.0)
    point_at(page, "Tune 00000", 0.25, low)
    assert page.inner_text("#hover .figures").split() == ["Tension", "0.25", "0.15", "–", "0.35", "P25"]
    assert inked(page, 0.25, low)
    open_at(page, "Tune 00000", 0.25, low)
    assert ("novelty 1" in page.inner_text(".legend")) == novelty


def test_the_plane_fits_to_the_tracks_and_back_to_the_whole(view):
    page = view(scores(2, valence=pa.array([0.48, 0.52]), arousal=pa.array([0.5, 0.5])), whole=False)
    place = spot(page, 0.52, 0.5, 0.45, 0.55)
    point_at(page, "Tune 00001", 0.52, 0.5, 0.45, 0.55)
    page.click("#zoom-all")
    point_at(page, "Tune 00001", 0.52, 0.5)
    page.mouse.move(*place)
    expect(page.locator("#hover")).to_be_hidden()


def test_the_plane_by_keyboard_lasso_and_picture(view):
    page = view(scores(5))
    page.focus("#plane")
    page.keyboard.press("ArrowRight")  # the nearest to the middle first
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#hover strong") == "Tune 00003"
    assert page.inner_text("#spoken").startswith("Tune 00003; Artist 3; Valence 0.70, percentile 70; ")
    for key in ("ArrowDown", "ArrowLeft", "x", "Enter"):
        page.keyboard.press(key)
    assert page.inner_text("#t-title") == "Tune 00001"
    assert page.inner_text("#picked") == "1 selected"
    page.click("#close")
    page.click("[data-tool=lasso]")
    drag(page, (0.4, 0.4), (0.8, 0.6), (0.8, 0.8), (0.6, 0.8), (0.4, 0.6))
    expect(page.locator("#picked")).to_have_text("3 selected")
    with Image.open(downloaded(page, "#png")) as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


@pytest.mark.parametrize("place", ["plane", "panel", "similar tracks"])
def test_a_double_click_opens_one_track(view, place):
    """What was under the mouse is elsewhere after the first click: its panel takes room, or lists other tracks."""
    at = np.concatenate([[0.5], np.linspace(0.1, 0.9, 400)])
    page = view(scores(401, valence=pa.array(np.full(401, 0.5)), arousal=pa.array(at)))
    if place != "similar tracks":
        target = spot(page, 0.5, 0.8 if place == "plane" else 0.1)
    else:
        page.click("#list .row >> nth=0")
        box = page.locator("#similar button >> nth=1").bounding_box()
        target = box["x"] + 9, box["y"] + box["height"] / 2
        settled(page)
    page.mouse.move(*target)
    page.mouse.click(*target)
    first = page.inner_text("#t-title")
    settled(page)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    assert page.inner_text("#t-title") == first
    assert page.evaluate("getSelection().toString()") == ""
    if place != "panel":
        page.mouse.click(*target)
        assert page.inner_text("#t-title") != first
