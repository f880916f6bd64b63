"""The explorer's page, driven in a real browser, from real files."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import firefoxes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mer_ray.cli import main
from mer_ray.errors import InputError
from mer_ray.io.cells import guard
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, scores_schema
from mer_ray.scoring import arc, standing
from mer_ray.scoring.explorer import page as explorer
from mer_ray.scoring.explorer.pack import CURVE_BYTES, averaged, detail, links, peaks, quantise, script_json
from mer_ray.scoring.playlist import choose

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{data}} &lt;b&gt; \"quoted\" 'quoted'",
    "=cmd()|'/c calc'!A1",
    "@SUM(1)",
    "\"'\u3000＝1+1;-2",
    "\u202eright to left\u202c שלום",
    "two\nlines\r\n#EXTM3U",
]


def scores(n: int, dimensions: tuple[str, ...] = DIMENSIONS, **own: list[object] | pa.Array) -> pa.Table:
    """n scores on a diagonal of the plane, with short curves; ``own`` columns instead of the usual ones."""
    at, size = (np.arange(n) + 0.5) / max(1, n), len(dimensions)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(at, 4 * size).astype(np.float32)), size)
    curve = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * 4, flat)
    columns: dict[str, object] = {
        "track_id": [f"{i:016x}" for i in range(n)],
        "artist": [f"Artist {i % 7}" for i in range(n)],
        "title": [f"Tune {i:05d}" for i in range(n)],
        "album": [None] * n,
        "uri": [f"/music/{i}.flac" for i in range(n)],
        "duration_s": [60.0] * n,
        "decoded_share": [1.0] * n,
        "in_distribution": [i % 10 != 9 for i in range(n)],
        "novelty": [0.5] * n,
        "curve": curve,
        "curve_hop_s": [15.0] * n,
        **dict.fromkeys(("size", "mtime_ms", "sha256", "decoded_share"), [None] * n),
        "sound": [[float(i), 1.0] for i in range(n)],
        "waveform": [[0, 128, 255]] * n,
        "model": ["cnn 1a2b"] * n,
        **{
            end + d: np.clip(at + by, 0, 1)
            for end, by in (("", 0), ("lower_", -0.1), ("upper_", 0.1))
            for d in dimensions
        },
    }
    schema = scores_schema(dimensions)
    arrays = {**columns, **own}
    return pa.Table.from_arrays(
        [a if isinstance(a := arrays.get(f.name, [None] * n), pa.Array) else pa.array(a, f.type) for f in schema],
        schema=schema,
    )


def write(folder: Path, table: pa.Table, title: str = "Library") -> Path:
    pq.write_table(table, folder / "scores.parquet")
    explorer.run(str(folder / "scores.parquet"), str(folder / "explore.html"), title)
    return folder / "explore.html"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
        )
        yield found
        found.close()


@pytest.fixture
def view(browser, tmp_path):
    """Shows a table's page and its whole plane. At the end: no dialog, no error, no request but for local files."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)

    def show(table: pa.Table, title: str = "Library", whole: bool = True):
        page = context.new_page()
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda m: wrong.append(m.text) if m.type == "error" and "ERR_FILE_NOT_FOUND" not in m.text else None,
        )
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "blob:", "data:")) else None)
        page.goto(write(tmp_path, table, title).as_uri())
        page.wait_for_selector("html[data-ready]")
        if whole and len(table):
            page.click("#zoom-all")
        return page

    yield show
    context.close()
    assert wrong == []


def count(page) -> str:
    return page.inner_text("#count")


def titles(page) -> list[str]:
    return page.locator("#list .row:visible .title").all_inner_texts()


def downloaded(page, button: str) -> str:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes().decode("utf-8")


def slide(page, slider: str, value: float) -> None:
    page.eval_on_selector(
        f"#{slider}", "(el, v) => { el.value = v; el.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def spot(page, valence: float, arousal: float) -> tuple[float, float]:
    """Where a value is on the screen, while the whole plane is shown."""
    box = page.locator("#overlay").bounding_box()
    x, y = ((value + 0.03) / 1.06 for value in (valence, arousal))
    return box["x"] + x * box["width"], box["y"] + (1 - y) * box["height"]


def inked(page, valence: float, arousal: float) -> bool:
    """Whether something is drawn there above the tracks, while the whole plane is shown."""
    at = [(valence + 0.03) / 1.06, 1 - (arousal + 0.03) / 1.06]
    return page.evaluate(
        """([x, y]) => {
          const c = document.getElementById('overlay'), ctx = c.getContext('2d');
          return ctx.getImageData(x * c.width - 12, y * c.height - 12, 24, 24).data.some((v, i) => i % 4 === 3 && v);
        }""",
        at,
    )


def until(page, condition: str) -> None:
    """Waits for a condition in the page (playwright's own way needs the eval that the page forbids)."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {condition}")


def point_at(page, value: float, title: str) -> None:
    """The mouse goes to where V = A = value, once the plane has found its size."""
    for _ in range(100):
        page.mouse.move(*spot(page, value, value))
        if page.is_visible("#hover") and page.inner_text("#hover strong") == title:
            return
        page.mouse.move(0, 0)
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {title} at {value}")


def click(page) -> None:
    page.mouse.down()
    page.mouse.up()


def open_at(page, value: float, title: str) -> None:
    """Clicks on the track where V = A = value until it is the opened one: the plane may be about to change its size."""
    for _ in range(20):
        point_at(page, value, title)
        click(page)
        for _ in range(20):
            if page.inner_text("#t-title") == title:
                return
            page.wait_for_timeout(100)
    raise AssertionError(f"never opened: {title} at {value}")


def test_ten_thousand_tracks_open_filter_search_and_sort(view):
    page = view(scores(10_000))
    assert count(page) == "10,000 tracks"
    assert page.is_visible("#dense")  # a density, until one zooms in
    assert page.is_hidden("#marks")
    for _ in range(3):
        page.click("#zoom-in")
    until(page, "document.getElementById('dense').hidden")
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


def test_a_click_on_the_plane_opens_the_track_with_its_curve_and_similar_tracks(view):
    page = view(scores(5))
    point_at(page, 0.5, "Tune 00002")
    assert inked(page, 0.5, 0.6)  # its interval
    assert not inked(page, 0.3, 0.3)
    open_at(page, 0.5, "Tune 00002")
    for _ in range(100):  # a ring around a similar track, once the plane has found its new size
        if inked(page, 0.3, 0.3):
            break
        page.wait_for_timeout(100)
    assert inked(page, 0.3, 0.3)
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
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").removeprefix("\ufeff"))))
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
    box = page.locator("#overlay").bounding_box()
    low = (0.5 if novelty else 0.5 * 1) / (3.0 if novelty else 1.0)
    for _ in range(100):  # the plane finds its size
        page.mouse.move(box["x"] + box["width"] * 0.28 / 1.06, box["y"] + box["height"] * (1.03 - low) / 1.06)
        if page.is_visible("#hover"):
            break
        page.mouse.move(0, 0)
        page.wait_for_timeout(100)
    assert page.inner_text("#hover strong") == "Tune 00000"
    assert page.inner_text("#hover .figures").split() == ["Tension", "0.25", "0.15", "–", "0.35", "P25"]
    assert inked(page, 0.25, low)
    click(page)
    assert page.inner_text("#t-title") == "Tune 00000"
    assert ("novelty 1" in page.inner_text(".legend")) == novelty


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
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").removeprefix("\ufeff"))))
    assert {row["mood"] for row in rows} == {"calm", "sad"}
    percentile = dict(zip(expected["title"].to_pylist(), expected["valence_percentile"].to_pylist(), strict=True))
    for row in rows:
        assert float(row["valence_percentile"]) == pytest.approx(percentile[row["title"]], abs=0.01)
    page.click("#list .row >> nth=0")
    opened = page.inner_text("#t-title")
    assert page.inner_text("#numbers tr >> nth=0").split("\t")[2] == f"{percentile[opened]:.0f}"
    assert re.fullmatch("(calm|sad), in this catalog", page.inner_text("#t-mood"))
    page.click("#reset")
    assert count(page) == "100 tracks"
    slide(page, "valence-lowest", 0.51)
    above = sum(v >= 0.5095 for v in vad["valence"])
    assert count(page) == f"{above} of 100 tracks"
    assert f"percentile {100 - above} – 100" in page.inner_text("#sliders .range >> nth=0")


def test_the_plane_fits_to_the_tracks_and_back_to_the_whole(view):
    page = view(scores(2, valence=pa.array([0.48, 0.52]), arousal=pa.array([0.5, 0.5])), whole=False)
    box = page.locator("#overlay").bounding_box()
    middle = box["y"] + box["height"] / 2
    for _ in range(100):  # the plane finds its size
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.02 / 0.1), middle)
        if page.is_visible("#hover"):
            break
        page.wait_for_timeout(100)
    assert page.inner_text("#hover strong") == "Tune 00001"
    page.click("#zoom-all")
    page.mouse.move(box["x"] + box["width"] * 0.7, middle)
    assert page.is_hidden("#hover")


def test_hostile_text_stays_text_everywhere(view):
    n = len(HOSTILE)
    uris = [*(f"/music/{h}.mp3" for h in HOSTILE[:-1]), "https://example.invalid/<b>.mp3"]
    page = view(
        scores(n, title=HOSTILE, artist=HOSTILE, album=HOSTILE, uri=uris, model=HOSTILE),
        "</title><script>alert(1)</script>",
    )
    plain = [" ".join("".join(c if c.isprintable() else " " for c in h).split()) for h in HOSTILE]
    assert page.title() == "</title><script>alert(1)</script>"
    assert sorted(re.sub(" ×$", "", t) for t in titles(page)) == sorted(plain)
    for i, text in enumerate(plain):
        open_at(page, (i + 0.5) / n, text)
    assert page.locator("main img, main b > *, main script").count() == 0
    page.click("#all")
    lines = downloaded(page, "#playlist").split("\n")
    assert lines[0] == "#EXTM3U"
    assert len(lines) == 2 + 2 * n + 1
    assert [line for line in lines[2:-1:2] if not line.startswith("#EXTINF:60,")] == []
    assert {f"#EXTINF:60,{t} - {t}" for t in plain} == set(lines[2:-1:2])
    assert not [line for line in lines[3::2] if line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").removeprefix("\ufeff"))))
    assert sorted(row["title"] for row in rows) == sorted(map(guard, plain))


def test_the_selection_becomes_a_playlist_and_a_table(view, tmp_path):
    own = [(tmp_path / "mu sic" / f"{i} %.flac").as_posix() for i in range(5)]
    page = view(scores(6, uri=[*own, ""]))
    page.click("[data-tool=box]")
    page.mouse.move(*spot(page, 0.02, 0.02))
    page.mouse.down()
    page.mouse.move(*spot(page, 0.3, 0.3), steps=4)
    page.mouse.up()
    until(page, "document.getElementById('picked').textContent === '2 selected'")
    page.locator("#list .row", has_text="Tune 00005").locator(".box").click()
    assert page.inner_text("#picked") == "3 selected"
    text = downloaded(page, "#playlist")
    assert text.splitlines() == [
        "#EXTM3U", "#PLAYLIST:Library",
        "#EXTINF:60,Artist 0 - Tune 00000", Path(own[0]).as_uri(),
        "#EXTINF:60,Artist 1 - Tune 00001", Path(own[1]).as_uri(),
    ]  # fmt: skip
    assert "1 left out" in page.inner_text("#picked")
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").removeprefix("\ufeff"))))
    assert [row["title"] for row in rows] == ["Tune 00000", "Tune 00001", "Tune 00005"]
    assert float(rows[0]["valence"]) == pytest.approx(1 / 12, abs=1e-4)
    page.click("#none")
    assert page.is_disabled("#playlist")


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


def measured(n: int, **own: list[object] | pa.Array) -> pa.Table:
    """n scores with tempo, key and loudness; every fourth is unknown."""
    gaps = [i % 4 == 3 for i in range(n)]
    made: dict[str, list[object] | pa.Array] = {
        "tempo": [None if gap else 60.0 + i for i, gap in enumerate(gaps)],
        "tempo_confidence": [0.5] * n,
        "key": [None if gap else ("C", "F#", "A")[i % 3] for i, gap in enumerate(gaps)],
        "mode": [None if gap else ("major", "minor")[i % 2] for i, gap in enumerate(gaps)],
        "loudness": [None if gap else -30.0 + i / 4 for i, gap in enumerate(gaps)],
    }
    return scores(n, **{**made, **own})


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
    saved = list(csv.DictReader(io.StringIO(downloaded(page, "#csv").removeprefix("\ufeff"))))
    assert [(float(r["tempo"]), r["key"], r["mode"]) for r in saved] == [(60.0 + i, "A", "minor") for i in rows]
    assert [float(r["loudness"]) for r in saved] == [-30 + i / 4 for i in rows]


def test_a_filter_chooses_what_the_same_condition_of_a_playlist_does(view):
    rng = np.random.default_rng(5)
    vad = {d: rng.normal(0.5, 0.1, 900).clip(0, 1) for d in DIMENSIONS}
    table = measured(
        900, loudness=np.round(rng.normal(-16, 3, 900), 2).tolist(), **{d: pa.array(v) for d, v in vad.items()}
    )
    page = view(table)
    for where, ends in (
        ("valence between 0.45 and 0.55", {"valence-lowest": 0.45, "valence-highest": 0.55}),
        ("loudness between -18.5 and -14", {"loudness-lowest": -18.5, "loudness-highest": -14}),
    ):
        page.click("#reset")
        for end, value in ends.items():
            slide(page, end, value)
        assert page.inner_text("#count") == f"{len(choose(table, where))} of 900 tracks"


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
    saved = list(csv.DictReader(io.StringIO(downloaded(page, "#arc-csv").removeprefix("\ufeff"))))
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
    text = downloaded(page, "#arc-playlist").splitlines()
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


def test_on_a_phone_the_opened_track_hides_nothing_that_is_needed(view):
    page = view(scores(40), whole=False)
    page.set_viewport_size({"width": 320, "height": 800})
    page.click("#list .row >> nth=2")
    page.click("#tab-arc")
    page.click("#from-here")
    assert not page.is_visible("#track")
    assert page.evaluate("document.activeElement.id") == "arc-from"
    box = page.locator("#arc-from").bounding_box()
    assert 0 <= box["y"] < 800
    assert page.evaluate("document.documentElement.scrollWidth") == 320


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
    for k, at in enumerate([(0.4, 0.4), (0.8, 0.6), (0.8, 0.8), (0.6, 0.8), (0.4, 0.6)]):
        page.mouse.move(*spot(page, *at), steps=3)
        if not k:
            page.mouse.down()
    page.mouse.up()
    assert page.inner_text("#picked") == "3 selected"
    with page.expect_download() as download:
        page.click("#png")
    with Image.open(download.value.path()) as picture:
        assert picture.size[0] > 800
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_paper_shows_what_was_chosen(view):
    page = view(measured(40), whole=False)
    slide(page, "tempo-highest", 69)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    lines = page.inner_text("#paper").splitlines()
    assert lines[0] == "8 tracks · Tempo (BPM) 60 – 69"
    assert page.locator("#paper tbody tr").count() == 8
    assert page.is_hidden("#list")
    assert page.pdf().startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("#paper tr").count() == 0


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
        page.wait_for_timeout(200)  # until colours have changed
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


def test_one_track(view):
    page = view(scores(1))
    assert count(page) == "1 track"
    page.click("#list .row")
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
    soundfile.write(file, 0.1 * np.sin(np.arange(80_000) / 5), 8_000)
    page = view(scores(1, uri=[str(file)], duration_s=[10.0]))
    page.click("#list .row")
    until(page, "document.getElementById('audio').readyState >= 1")
    assert page.evaluate("document.getElementById('audio').duration") == pytest.approx(10)
    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    until(page, "Math.abs(document.getElementById('audio').currentTime - 5) < 0.1")
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').currentTime > 5.2")
    assert page.inner_text("#play") == "Pause"
    page.keyboard.press("Space")
    until(page, "document.getElementById('audio').paused")
    page.focus("#curve")
    page.keyboard.press("End")
    assert page.get_attribute("#curve", "aria-valuetext") == "0:10 of 0:10"


# in Firefox ----------------------------------------------------------------------------------------------------------


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
        page.wait(f"{inside} < {drawn}")
        page.click("#list .row")
        title = page.text("#t-title")
        page.wait("document.getElementById('audio').readyState >= 1")
        assert page.run("document.querySelectorAll('#curve .line').length") == 3
        page.click("#from-here")
        assert page.text("#arc-said").startswith(f"{title} → tense: 12 tracks")
        page.click("#arc-playlist")
        assert page.saved(".m3u8").count("\n#EXTINF:60,Artist ") == 12
        page.press("/", *"00199")
        page.wait("document.getElementById('count').textContent === '0 of 200 tracks'")
        assert page.run("document.getElementById('nothing').hidden") is False
        assert page.wrong == []
    finally:
        page.close()


# without a browser --------------------------------------------------------------------------------------------------


def test_the_page_allows_its_own_scripts_and_no_network(tmp_path):
    text = write(tmp_path, scores(3)).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"unsafe|https?:|\*|connect-src", policy)
    assert not re.search(r"<(script|link|img|iframe|audio|form)[^>]*\s(src|href|action)=", text)


def test_the_command_writes_a_page_that_names_no_absolute_path(tmp_path):
    pq.write_table(scores(3, uri=[str(tmp_path / "a.wav")] * 3), tmp_path / "scores.parquet")
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        main, ["explore", str(tmp_path / "scores.parquet"), "--out", str(page), "--title", "A & B"]
    )
    assert done.exit_code == 0, done.output
    assert f"{page}: 3 tracks" in done.output
    text = page.read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text
    assert str(tmp_path) not in text


def test_only_a_page_is_written(tmp_path):
    pq.write_table(scores(1), tmp_path / "scores.parquet")
    with pytest.raises(InputError, match=r"must end in \.html"):
        explorer.run(str(tmp_path / "scores.parquet"), str(tmp_path / "scores.parquet"), "x")


@settings(max_examples=30)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_a_script_is_the_same_value_and_holds_no_markup(value):
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=500), st.integers(1, 120))
def test_a_shorter_curve_keeps_mean_and_range(values, points):
    curve = np.array(values)[:, None]
    short = averaged(curve, points)
    assert len(short) == min(points, len(curve))
    assert short.mean() == pytest.approx(curve.mean(), abs=1e-9)
    assert curve.min() - 1e-9 <= short.min() <= short.max() <= curve.max() + 1e-9
    assert np.abs(quantise(curve, "u1") / 254 - curve).max() <= 0.5 / 254 + 1e-12
    highest = peaks((curve[:, 0] * 255).astype("u1"), points)
    assert highest.max() == (curve * 255).astype("u1").max()


@given(st.integers(0, 10**7), st.integers(1, 10))
def test_the_curves_of_a_large_catalog_are_coarser_and_those_of_a_small_one_are_not(n, n_dimensions):
    points, waveform = detail(n, n_dimensions)
    assert (8, 16) <= (points, waveform) <= (120, 200)
    size = n * (points * n_dimensions + waveform)
    assert size <= CURVE_BYTES or points == 8 or waveform == 16
    assert (points, waveform) == (120, 200) or size > 0.7 * CURVE_BYTES


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_a_link_leads_back_to_its_file(parts):
    path = Path("/music", *parts)
    (link,) = links([str(path)], Path("/pages/here"))
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", link)
    if not {".", ".."} & set(parts):
        assert Path("/pages/here", unquote(link)).as_posix().replace("/pages/here/../..", "") == path.as_posix()
