"""The explorer's arcs, in a real browser, beside those of `mer-ray playlist`."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from browsers import until
from explorer_pages import saved_playlist, saved_rows, scores

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.scoring import arc, standing


@pytest.mark.parametrize(("n", "n_artists", "steps"), [(400, 60, 20), (60, 4, 14), (60, 2, 9)])
def test_an_arc_is_that_of_the_playlists(view, n, n_artists, steps):
    rng = np.random.default_rng(3)
    names = [f"Artist {i}" for i in rng.integers(0, n_artists, n)]
    vad = {d: pa.array(rng.random(n)) for d in DIMENSIONS}
    table = scores(n, artist=names, **vad)
    page = view(table)
    page.click("#tab-arc")
    page.select_option("#arc-from", "sad")
    page.select_option("#arc-to", "excited")
    page.fill("#arc-n", str(steps))
    until(page, f"document.querySelectorAll('#arc-list li').length === {steps}")
    saved = saved_rows(page, "#arc-csv")
    whole = standing.added(table)
    rows, remark = arc.choose(whole, np.arange(n), "sad-excited", None, None, steps)
    goal = arc.path(np.array([arc.place("sad"), arc.place("excited")]), steps)
    plane = np.stack([whole[f"{d}_percentile"].to_numpy() for d in ("valence", "arousal")], axis=1)
    own = [whole["title"].to_pylist().index(row["title"]) for row in saved]
    off = ((plane[own] - goal) ** 2).sum(), ((plane[rows] - goal) ** 2).sum()
    assert off[0] == pytest.approx(off[1], rel=1e-3)
    assert len(set(own)) == steps
    artists = [row["artist"] for row in saved]
    assert len(set(artists)) == min(steps, n_artists)
    assert not any(a == b for a, b in itertools.pairwise(artists))
    assert remark.split(": ")[1].split(" percentile")[0] in page.inner_text("#arc-said")
    text = saved_playlist(page, "#arc-playlist").splitlines()
    assert [line.split(" - ")[1] for line in text if line.startswith("#EXTINF")] == [row["title"] for row in saved]


def test_an_arc_goes_from_track_to_track_within_the_filters(view):
    rng = np.random.default_rng(4)
    page = view(
        scores(60, artist=[f"Artist {i}" for i in range(60)], **{d: pa.array(rng.random(60)) for d in DIMENSIONS})
    )
    page.fill("#search", "Tune 0001")
    page.click("#list .row >> nth=0")
    first = page.inner_text("#t-title")
    page.click("#from-here")
    assert page.is_visible("#arc-list")
    assert page.locator("#arc-list .title").first.inner_text() == first
    assert page.inner_text("#arc-said").startswith(f"{first} → tense: 11 tracks, 11:00; ")
    assert "no more match the filters" in page.inner_text("#arc-said")
    other = page.locator("#arc-list .title").nth(4).inner_text()
    page.click("#arc-list .other >> nth=3")
    assert other not in page.locator("#arc-list .title").all_inner_texts()
    page.click("#arc-back")
    assert other in page.locator("#arc-list .title").all_inner_texts()
    page.select_option("#arc-via", "happy")
    assert page.inner_text("#arc-said").startswith(f"{first} → happy → tense")
    page.click("#arc-pick")
    page.click("#tab-list")
    assert page.inner_text("#picked") == "11 selected"
    page.fill("#search", "nothing like this")
    page.click("#tab-arc")
    assert page.inner_text("#arc-said") == "Fewer than two tracks match the filters."
    assert page.is_disabled("#arc-playlist")
