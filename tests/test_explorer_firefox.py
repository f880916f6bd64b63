"""The explorer in Firefox."""

from __future__ import annotations

import firefoxes
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from explorer_pages import SETTLED, measured, write

from mer_ray.io.schemas import DIMENSIONS


def test_firefox_opens_filters_plays_and_saves(tmp_path):
    pytest.importorskip("aiohttp")
    command = firefoxes.found() or pytest.skip("no Firefox on the PATH")
    rng = np.random.default_rng(6)
    file = tmp_path / "mu sic" / "100 % #1?.wav"
    file.parent.mkdir()
    soundfile.write(file, 0.1 * np.sin(np.arange(80_000) / 5), 8_000)
    table = measured(200, uri=[str(file)] * 200, **{d: pa.array(rng.random(200)) for d in DIMENSIONS})
    page = firefoxes.Firefox(command, tmp_path / "firefox")
    try:
        page.open(write(tmp_path, table).as_uri())
        page.wait("!!document.documentElement.dataset.ready")
        page.run(SETTLED)
        assert page.text("#count") == "200 tracks"
        inside = (
            "[...document.getElementById('base').getContext('2d').getImageData(100, 100, 300, 300).data]"
            ".filter((v) => v).length"
        )
        drawn = page.run(inside)
        page.run(
            "(e => { e.value = 100; e.dispatchEvent(new Event('input', {bubbles: true})); })"
            "(document.getElementById('tempo-highest'))"
        )
        assert page.text("#count") == "31 of 200 tracks"
        page.run(SETTLED)
        assert 0 < page.run(inside) < drawn
        title = page.text("#list .row .title").removesuffix(" ×")
        page.click("#list .row")
        page.shows("#t-title", title)
        page.wait("document.getElementById('audio').readyState >= 1")
        assert page.run("document.querySelectorAll('#curve .line').length") == 3
        page.click("#from-here")
        page.wait("document.querySelectorAll('#arc-list li').length === 12")
        assert page.text("#arc-said").startswith(f"{title} → tense: 12 tracks")
        page.click("#arc-playlist")
        assert page.saved(".m3u8").count("\n#EXTINF:60,Artist ") == 12
        page.press("/", *"00199")
        page.shows("#count", "0 of 200 tracks")
        assert page.run("document.getElementById('nothing').hidden") is False
        assert page.wrong == []
    finally:
        page.close()
