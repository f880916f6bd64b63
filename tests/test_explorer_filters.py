"""Filters, search and order of the explorer's tracks, in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from explorer_pages import count, measured, saved_rows, scores, settled, slide, titles

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.scoring import standing
from mer_ray.scoring.playlist import choose


def test_ten_thousand_tracks_open_filter_search_and_sort(view):
    page = view(scores(10_000))
    assert count(page) == "10,000 tracks"
    assert page.is_visible("#dense")  # a density, until one zooms in
    assert page.is_hidden("#marks")
    for _ in range(3):
        page.click("#zoom-in")
    settled(page)
    assert page.is_hidden("#dense")
    assert page.is_visible("#marks")
    assert page.locator("#list .row").count() < 60
    slide(page, "valence-highest", 0.1)
    assert re.fullmatch(r"1,0\d\d of 10,000 tracks", count(page))
    page.check("#only-like")
    assert re.fullmatch(r"9\d\d of 10,000 tracks", count(page))
    page.fill("#search", "TUNE 0050 artíst")
    assert count(page) == "10 of 10,000 tracks"  # 00050, 00500 to 00508; 00509 is out of distribution
    page.click("#columns [data-key=valence]")
    page.click("#columns [data-key=valence]")
    assert titles(page)[0] == "Tune 00508"
    page.click("#reset")
    assert count(page) == "10,000 tracks"
    page.fill("#search", "no such tune")
    assert count(page) == "0 of 10,000 tracks"
    assert page.is_visible("#nothing")


def test_a_narrow_catalog_fills_the_plane_and_is_filtered_by_its_moods(view):
    n = 100
    angle = np.arange(n) * 2 * np.pi / n
    away = np.where(np.arange(n) % 4 == 0, 0.005, 0.048)
    vad = {"valence": 0.5 + away * np.cos(angle), "arousal": 0.4 + away * np.sin(angle), "dominance": 0.5 + 0 * angle}
    table = scores(n, **{d: pa.array(values) for d, values in vad.items()})
    expected = standing.added(table)
    page = view(table, whole=False)
    words = dict(zip(standing.WORDS, page.locator("#moods button").all_inner_texts(), strict=True))
    moods = expected["mood"].to_pylist()
    assert {w: re.sub(r"\D", "", text) for w, text in words.items()} == {w: f"{moods.count(w)}" for w in words}
    assert "0.45 – 0.55" in page.inner_text("#sliders .range >> nth=0")
    page.click("#moods button >> text=calm")
    page.click("#moods button >> text=sad")
    matching = [i for i, mood in enumerate(moods) if mood in ("calm", "sad")]
    assert count(page) == f"{len(matching)} of 100 tracks"
    page.click("#all")
    rows = saved_rows(page)
    assert {row["mood"] for row in rows} == {"calm", "sad"}
    percentile = dict(zip(expected["title"].to_pylist(), expected["valence_percentile"].to_pylist(), strict=True))
    for row in rows:
        assert float(row["valence_percentile"]) == percentile[row["title"]]
    for k in range(5):  # all at a half: 12.5
        page.click(f"#list .row >> nth={k}")
        opened = page.inner_text("#t-title")
        assert page.inner_text("#numbers tr >> nth=0").split("\t")[2] == f"{int(percentile[opened] + 0.5)}"
    assert re.fullmatch("(calm|sad), in this catalog", page.inner_text("#t-mood"))
    page.click("#reset")
    assert count(page) == "100 tracks"
    slide(page, "valence-lowest", 0.51)
    above = sum(v >= 0.5095 for v in vad["valence"])
    assert count(page) == f"{above} of 100 tracks"
    assert f"percentile {100 - above} – 100" in page.inner_text("#sliders .range >> nth=0")


def test_the_search_finds_what_people_type(view):
    """Without marks, in capitals, with the letters that a keyboard has; right to left, Japanese, Korean; pasted."""
    asked = {
        "Für Élise": "fur elise",
        "Ça ira – Straße": "CA IRA STRASSE",
        "Οδύσσεια": "ΟΔΥΣ",
        "Iğdır": "igdir",
        "Ørsted": "orsted",
        "Łódź": "lodz",
        "Sigur Rós: Með suð": "med sud",
        "שיר ערש": "שיר",
        "می\u200cخواهم": "می\u200cخواهم",
        "夜明けの歌": "夜明け",
        "한국의 노래": "한국",
        "ﾊﾝｶｸ": "ハンカク",
        "<b>&amp;</b>": "<B>&amp;",
    }
    page = view(scores(len(asked), title=list(asked), artist=[""] * len(asked)), "Film " * 60)
    assert page.evaluate("document.documentElement.scrollWidth") == 1400
    for row, text in enumerate(asked.values()):
        page.fill("#search", text)
        assert page.locator("#list .row:visible").count() == 1, text
        page.click("#list .row")
        assert page.evaluate("document.getElementById('audio').src").endswith(f"/music/{row}.flac")


def test_what_is_measured_is_filtered_shown_and_saved(view):
    page = view(measured(40), whole=False)
    names = page.locator("#sliders .range .head > span").all_inner_texts()
    assert names[-2:] == ["Tempo (BPM)", "Loudness (LUFS)"]
    assert page.is_hidden("#tempo-unknown")
    slide(page, "tempo-highest", 69)
    assert count(page) == "8 of 40 tracks"  # 60 to 69, without those of 63 and 67
    page.check("#tempo-unknown")
    assert count(page) == "18 of 40 tracks"
    page.click("#reset")
    assert count(page) == "40 tracks"
    assert page.is_hidden("#tempo-unknown")
    slide(page, "loudness-lowest", -25)
    assert count(page) == "15 of 40 tracks"
    page.click("#reset")
    page.click("#tonics button >> text=A")
    page.click("#modes button >> text=minor")
    rows = [i for i in range(40) if i % 4 != 3 and i % 3 == 2 and i % 2]
    assert count(page) == f"{len(rows)} of 40 tracks"
    page.check("#key-unknown")
    assert count(page) == f"{len(rows) + 10} of 40 tracks"
    page.uncheck("#key-unknown")
    page.click("#columns [data-key=tempo]")
    assert [title.removesuffix(" ×") for title in titles(page)] == [f"Tune {i:05d}" for i in rows]
    assert page.locator("#list .row:visible .facts").first.inner_text().endswith(f" · {60 + rows[0]} BPM · A minor")
    page.click("#list .row >> nth=0")
    assert (
        page.inner_text("#t-facts") == f"{60 + rows[0]} BPM (confidence 0.50) · A minor · −{30 - rows[0] / 4:.1f} LUFS"
    )
    page.click("#all")
    saved = saved_rows(page)
    assert [(float(r["tempo"]), r["key"], r["mode"]) for r in saved] == [(60.0 + i, "A", "minor") for i in rows]
    assert [float(r["loudness"]) for r in saved] == [-30 + i / 4 for i in rows]


def test_a_filter_chooses_what_the_same_condition_of_a_playlist_does(view):
    rng = np.random.default_rng(5)
    vad = {d: rng.normal(0.5, 0.1, 900).clip(0, 1) for d in DIMENSIONS}
    vad["valence"][:4] = 0.449996, 0.45, 0.55, 0.550004
    ends = {f"lower_{d}": v - rng.uniform(0, 0.1, 900) for d, v in vad.items()} | {
        f"upper_{d}": v for d, v in vad.items()
    }
    table = measured(
        900,
        loudness=np.round(rng.normal(-16, 3, 900), 2).tolist(),
        **{name: pa.array(v.clip(0, 1)) for name, v in (vad | ends).items()},
    )
    page = view(table)
    for where, ends in (
        ("valence between 0.45 and 0.55", {"valence-lowest": 0.45, "valence-highest": 0.55}),
        ("loudness between -18.5 and -14", {"loudness-lowest": -18.5, "loudness-highest": -14}),
        ("width / 2 between 0.02 and 0.03", {"width-lowest": 0.02, "width-highest": 0.03}),
    ):
        page.click("#reset")
        for end, value in ends.items():
            slide(page, end, value)
        assert page.inner_text("#count") == f"{len(choose(table, where))} of 900 tracks"
