"""How fast the explorer's page opens and filters, with 100,000 tracks, in headless Chromium without a GPU.

    python benchmarks/explorer.py --tracks 100000

Open: from the start of the navigation to the first drawn frame with all tracks and the list. Filter: from the slider's
input event to the drawn frame with the tracks that are left, the median of ten settings. Search: likewise, of ten
letters, the first of which finds the texts prepared. Arc: 20 tracks among all. Open a track: from the click to the
frame with its curve. CPU seconds are those of all of Chromium's processes from the start of the navigation until the
page rests. Needs playwright (of the extra "dev") and a chromium on the PATH.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import common
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.scoring.explorer import page as explorer
from mer_ray.scoring.measures.pitches import KEYS

if TYPE_CHECKING:
    import psutil

DRAWN = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))))"
FILTER = f"""async (value) => {{
  const slider = document.getElementById('valence-highest'), start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event('input'));
  return {DRAWN};
}}"""
SEARCH = f"""async (text) => {{
  const search = document.getElementById('search'), start = performance.now();
  search.value = text;
  search.dispatchEvent(new Event('input'));
  return {DRAWN};
}}"""
OPEN = f"""async (row) => {{
  const start = performance.now();
  document.querySelectorAll('#list .row')[row].click();
  return {DRAWN};
}}"""
ARC = f"""async () => {{
  document.getElementById('arc-n').value = 20;
  const start = performance.now();
  document.getElementById('tab-arc').click();
  return {DRAWN};
}}"""
ROWS = 10_000


def made(n: int) -> pa.Table:
    """n scores, with tempo, key and loudness."""
    import numpy as np

    table = pa.concat_tables(common.scores(i, min(n, i + ROWS), 180, "cnn") for i in range(0, n, ROWS))
    rng = np.random.default_rng(0)
    columns = {
        "tempo": pa.array(
            np.where(rng.random(n) < 0.1, np.nan, rng.normal(110, 25, n).clip(40, 220)), from_pandas=True
        ),
        "key": pa.array(np.array(KEYS)[rng.integers(0, 12, n)]),
        "mode": pa.array(np.where(rng.random(n) < 0.5, "major", "minor")),
        "loudness": pa.array(rng.normal(-16, 4, n)),
    }
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return table


def main() -> None:
    """Prints the table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5, help="how often the page is opened")
    parser.add_argument("--page", type=Path, metavar="FILE", help="keep the page there; if it is there, it is not made")
    asked = parser.parse_args()
    import psutil
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on the PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scores, html, making = (
            Path(folder) / "scores.parquet",
            asked.page or Path(folder) / "explore.html",
            float("nan"),
        )
        if not html.exists():
            pq.write_table(made(asked.tracks), scores)
            started = time.process_time()
            explorer.run(str(scores), str(html), "Benchmark")
            making = time.process_time() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        own, opens, spent = psutil.Process(), [], []
        for _ in range(asked.repeats):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            before = _cpu_s(own)
            page.goto(html.absolute().as_uri(), timeout=120_000)
            page.wait_for_selector("html[data-ready]", timeout=120_000)
            page.wait_for_timeout(1_000)
            opens.append(float(page.get_attribute("html", "data-ready") or "nan"))
            spent.append(_cpu_s(own) - before)
            if len(opens) < asked.repeats:
                page.close()
        filters = [page.evaluate(FILTER, round(0.9 - 0.05 * i, 2)) for i in range(10)]
        page.evaluate("document.getElementById('reset').click()")
        searches = [page.evaluate(SEARCH, "cue number"[: i + 1]) for i in range(10)]
        tracks = [page.evaluate(OPEN, i) for i in range(5)]
        page.evaluate("document.getElementById('reset').click()")
        arc = page.evaluate(ARC)
        rows = page.locator("#list .row").count()
        browser.close()
        size = html.stat().st_size / 1e6
    figures = {
        "make the page, CPU s": making,
        "page, MB": size,
        "open, ms, median": statistics.median(opens),
        "open, ms, slowest": max(opens),
        "open, CPU s, median": statistics.median(spent),
        "filter, ms, median": statistics.median(filters),
        "filter, ms, slowest": max(filters),
        "search, ms, median": statistics.median(searches),
        "search, ms, slowest": max(searches),
        "open a track, ms, median": statistics.median(tracks),
        "arc of 20, ms": arc,
        "rows in the document": rows,
        "load of the machine, 1 min": os.getloadavg()[0],
    }
    common.show(f"The explorer, {asked.tracks:,} tracks", ["what", "figure"], list(figures.items()))
    common.save(asked.json, {"tracks": asked.tracks, **figures})


def _cpu_s(root: psutil.Process) -> float:
    """CPU seconds of a process's children so far."""
    cpu: dict[int, float] = {}
    list(common.family(root, cpu))
    return sum(s for pid, s in cpu.items() if pid != root.pid)


if __name__ == "__main__":
    main()
