"""Pages of the explorer for tests: scores to show, and what one does and sees there in a real browser."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from browsers import context, expect
from playwright.sync_api import Browser, Page

from mer_ray.io.schemas import DIMENSIONS, scores_schema
from mer_ray.scoring.explorer import page as explorer

SETTLED = """new Promise((done) => {
  const plane = document.getElementById("plane"), base = document.getElementById("base");
  let still = 0;
  const look = () => {
    const drawn = plane.clientWidth === base.width && plane.clientHeight === base.height;
    still = drawn && !document.getAnimations().length ? still + 1 : 0;
    if (still === 3) done();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""
"""JavaScript: a promise that is kept once all that was done is drawn: the plane at its size, and no colour on its way.

What is drawn may make the legend longer and so the plane lower, which is seen, and drawn, a frame later.
"""


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


def write(folder: Path, table: pa.Table, title: str = "Library") -> Path:
    pq.write_table(table, folder / "scores.parquet")
    explorer.run(str(folder / "scores.parquet"), str(folder / "explore.html"), title)
    return folder / "explore.html"


@contextmanager
def shown(browser: Browser, folder: Path) -> Iterator[Callable[..., Page]]:
    """Shows a table's page and its whole plane. At the end: no dialog, no error, no request but for local files."""
    wrong: list[str] = []
    with context(browser, viewport={"width": 1400, "height": 900}, color_scheme="light") as opened:

        def show(table: pa.Table, title: str = "Library", whole: bool = True) -> Page:
            page = opened.new_page()
            page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "console",
                lambda m: wrong.append(m.text) if m.type == "error" and "ERR_FILE_NOT_FOUND" not in m.text else None,
            )
            page.on(
                "request",
                lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "blob:", "data:")) else None,
            )
            page.goto(write(folder, table, title).as_uri())
            page.wait_for_selector("html[data-ready]")
            if len(table):
                if whole:
                    page.click("#zoom-all")
                settled(page)
            return page

        yield show
    assert wrong == []


def settled(page: Page) -> None:
    """Waits until all that was done is drawn."""
    page.evaluate(SETTLED)


def count(page: Page) -> str:
    return page.inner_text("#count")


def titles(page: Page) -> list[str]:
    return page.locator("#list .row:visible .title").all_inner_texts()


def downloaded(page: Page, button: str) -> Path:
    """The file that a button saves."""
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path())


def saved_playlist(page: Page, button: str = "#playlist") -> str:
    """The text of the playlist that a button saves, with its ends of lines."""
    return downloaded(page, button).read_bytes().decode()


def saved_rows(page: Page, button: str = "#csv") -> list[dict[str, str]]:
    """The rows of the table that a button saves."""
    with downloaded(page, button).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def slide(page: Page, slider: str, value: float) -> None:
    page.eval_on_selector(
        f"#{slider}", "(el, v) => { el.value = v; el.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def spot(page: Page, valence: float, arousal: float, low: float = -0.03, high: float = 1.03) -> tuple[float, float]:
    """Where a value is on the screen, while the plane shows those from low to high: by default the whole plane."""
    settled(page)
    box = page.locator("#overlay").bounding_box()
    assert box is not None
    x, y = ((value - low) / (high - low) for value in (valence, arousal))
    return box["x"] + x * box["width"], box["y"] + (1 - y) * box["height"]


def inked(page: Page, valence: float, arousal: float) -> bool:
    """Whether something is drawn there above the tracks, while the whole plane is shown."""
    settled(page)
    at = [(valence + 0.03) / 1.06, 1 - (arousal + 0.03) / 1.06]
    drawn: bool = page.evaluate(
        """([x, y]) => {
          const c = document.getElementById('overlay'), ctx = c.getContext('2d');
          return ctx.getImageData(x * c.width - 12, y * c.height - 12, 24, 24).data.some((v, i) => i % 4 === 3 && v);
        }""",
        at,
    )
    return drawn


def point_at(page: Page, title: str, *at: float) -> None:
    """Moves the mouse to a track's place, as in `spot`, and waits until the page names it there."""
    page.mouse.move(0, 0)
    page.mouse.move(*spot(page, *at))
    expect(page.locator("#hover strong")).to_have_text(title)


def drag(page: Page, *places: tuple[float, float]) -> None:
    """Moves the mouse with its button held from place to place of the whole plane."""
    first, *rest = [spot(page, *at) for at in places]
    page.mouse.move(*first)
    page.mouse.down()
    for at in rest:
        page.mouse.move(*at, steps=4)
    page.mouse.up()


def click(page: Page) -> None:
    """Presses the mouse's button where it is."""
    page.mouse.down()
    page.mouse.up()


def open_at(page: Page, title: str, *at: float) -> None:
    """Clicks on a track in the plane, and waits until it is the opened one."""
    point_at(page, title, *at)
    click(page)
    expect(page.locator("#t-title")).to_have_text(title)
