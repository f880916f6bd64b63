"""The explorer for everyone: by keyboard, on a phone, in both colour schemes, by the rules of WCAG."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from browsers import expect, launched, until
from explorer_pages import count, measured, scores, settled, shown, slide

from mer_ray.io.schemas import DIMENSIONS


def test_everything_is_done_without_a_mouse(view):
    page = view(scores(40))
    page.keyboard.press("/")
    page.keyboard.type("0001")
    assert count(page) == "11 of 40 tracks"
    for key in ("Enter", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert page.inner_text("#t-title") == "Tune 00015"
    active = page.get_attribute("#list", "aria-activedescendant")
    assert page.inner_text(f"#{active} .title") == "Tune 00015"
    page.keyboard.press("x")
    assert page.inner_text("#picked") == "1 selected"
    page.keyboard.press("Escape")
    assert page.is_hidden("#track")
    page.keyboard.press("Escape")
    assert page.inner_text("#picked") == "Nothing selected"
    page.keyboard.press("Escape")
    assert count(page) == "40 tracks"
    page.keyboard.press("End")
    assert page.locator("#list .row.active .title").inner_text().startswith("Tune")


def test_with_text_twice_as_large_nothing_is_cut_or_overlaps(browser, tmp_path):
    """As of a user who has set so in the browser, without zoom: the layout is that of a screen half as wide."""
    with launched(browser.browser_type, "--blink-settings=defaultFontSize=32") as large, shown(large, tmp_path) as show:
        page = show(scores(40, title=[f"Tune {i:05d} {'gjpqy' * 9}" for i in range(40)]), whole=False)
        assert not page.evaluate("document.getElementById('filters').open")
        assert page.evaluate("document.documentElement.scrollWidth") == 1400
        page.click("#list .row >> nth=2")
        rows = page.evaluate(
            """[...document.querySelectorAll("#list .row:not([hidden])")].map((row) =>
              [row, ...row.querySelectorAll(".name > span")].flatMap((el) =>
                [el.getBoundingClientRect().top, parseFloat(getComputedStyle(el).fontSize)]))"""
        )
        assert {round(below[0] - row[0]) for row, below in itertools.pairwise(rows)} == {108}
        for row, _, title, title_size, artist, artist_size in rows:
            assert (title_size, artist_size) == (30, 26)
            assert row < title < title + title_size <= artist < artist + artist_size <= row + 108
        track = page.locator("#track").bounding_box()
        assert track["y"] > 300  # a sheet, above which the list is seen


def test_on_a_phone_the_opened_track_hides_nothing_that_is_needed(view):
    page = view(scores(40), whole=False)
    page.set_viewport_size({"width": 320, "height": 800})
    until(page, "innerWidth === 320")
    settled(page)
    page.click("#list .row >> nth=2")
    page.click("#tab-arc")
    page.click("#from-here")
    assert not page.is_visible("#track")
    assert page.evaluate("document.activeElement.id") == "arc-from"
    box = page.locator("#arc-from").bounding_box()
    assert 0 <= box["y"] < 800
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_phone_that_is_turned_shows_the_filters(view):
    page = view(scores(3), whole=False)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.is_hidden("#sliders")
    page.set_viewport_size({"width": 844, "height": 390})
    expect(page.locator("#sliders")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_wcag_a_and_aa_is_broken(view, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rng = np.random.default_rng(2)
    page = view(measured(60, **{d: pa.array(rng.random(60)) for d in DIMENSIONS}), whole=False)
    page.select_option("#theme", scheme)
    rules = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    if scheme == "dark":  # the rest does not depend on the colours
        rules = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

    def check(state: str) -> None:
        settled(page)  # colours change for a while
        found = axe.run(page, options={"runOnly": rules})
        assert found.response["violations"] == [], (state, found.generate_report())
        assert len(found.response["passes"]) >= (1 if scheme == "dark" else 15)

    check("start")
    slide(page, "tempo-highest", 80)
    page.click("#moods button:not(:disabled) >> nth=0")
    page.click("#all")
    page.click("#modes button >> nth=0")
    page.check("#key-unknown")
    check("filtered")
    page.click("#reset")
    page.click("#list .row >> nth=0")
    check("opened")
    page.click("#tab-arc")
    check("arc")
    page.click("#help-open")
    check("help")


def test_the_colours_follow_the_system_or_the_switch(view):
    page = view(scores(3))
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.select_option("#theme", "light")
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="light")
    page.select_option("#theme", "dark")
    assert page.evaluate(ground) == dark


def test_what_is_pressed_chosen_and_written_is_seen_in_forced_colours(view):
    page = view(scores(40), whole=False)
    page.emulate_media(forced_colors="active", color_scheme="dark")
    page.click("#moods button:not(:disabled) >> nth=0")
    page.click("#list .box >> nth=0")
    page.mouse.move(0, 0)
    settled(page)
    look = "(el) => { const { color, backgroundColor } = getComputedStyle(el); return color + backgroundColor; }"
    for on, off in (
        ("#moods [aria-pressed=true]", "#moods [aria-pressed=false]"),
        ("[data-tool=move]", "[data-tool=box]"),
        ("#tab-list", "#tab-arc"),
        (".row[aria-selected=true] .box", ".row[aria-selected=false] .box"),
        ("#playlist", "#csv"),
        (".track i", ".track"),
    ):
        assert page.eval_on_selector(on, look) != page.eval_on_selector(off, look), on
    assert "gradient" in page.eval_on_selector("#gradient", "(el) => getComputedStyle(el).backgroundImage")
    bright = page.evaluate(
        """() => {
          const c = document.getElementById("base"), frame = document.getElementById("overlay");
          const corner = c.getContext("2d").getImageData(frame.offsetLeft + 8, frame.offsetTop + 5, 80, 14).data;
          return corner.filter((v, i) => i % 4 === 1 && v > 200).length / (80 * 14);
        }"""
    )
    assert 0.1 < bright < 0.5  # words, and no bar
