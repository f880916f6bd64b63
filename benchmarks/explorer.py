"""How fast the explorer's page opens and filters, with 10,000 tracks, in headless Chromium without a GPU.

    python benchmarks/explorer.py --tracks 10000

Open: from the start of the navigation to the first drawn frame with all tracks. Filter: from the slider's input event
to the drawn frame with the tracks that are left, the median of ten settings. Open a track: from the click to the frame
with its curve. Needs playwright (of the extra "dev") and a chromium on the PATH.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import common
import pyarrow.parquet as pq

from mer_ray.scoring.explorer import page as explorer

FILTER = """async (value) => {
  const slider = document.getElementById('valence-highest'), view = [...Bokeh.index.roots][0];
  const painted = new Promise((done) => view.repainted.connect(done)), start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event('input'));
  await painted;
  return new Promise((done) => setTimeout(() => done(performance.now() - start)));
}"""
OPEN = """async (row) => {
  const start = performance.now();
  document.querySelectorAll('#list .row')[row].click();
  return new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));
}"""


def main() -> None:
    """Prints the table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5, help="how often the page is opened")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on the PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scores, html = Path(folder) / "scores.parquet", Path(folder) / "explore.html"
        pq.write_table(common.scores(0, asked.tracks, 180, "cnn"), scores)
        started = time.process_time()
        explorer.run(str(scores), str(html), "Benchmark")
        made = time.process_time() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opens = []
        for _ in range(asked.repeats):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(html.as_uri())
            page.wait_for_selector("html[data-ready]", timeout=120_000)
            opens.append(float(page.get_attribute("html", "data-ready") or "nan"))
            if len(opens) < asked.repeats:
                page.close()
        filters = [page.evaluate(FILTER, round(0.9 - 0.05 * i, 2)) for i in range(10)]
        tracks = [page.evaluate(OPEN, i) for i in range(5)]
        rows = page.locator("#list .row").count()
        browser.close()
        size = html.stat().st_size / 1e6
    figures = {
        "make the page, CPU s": made,
        "page, MB": size,
        "open, ms, median": statistics.median(opens),
        "open, ms, slowest": max(opens),
        "filter, ms, median": statistics.median(filters),
        "filter, ms, slowest": max(filters),
        "open a track, ms, median": statistics.median(tracks),
        "rows in the document": rows,
    }
    common.show(f"The explorer, {asked.tracks:,} tracks", ["what", "figure"], list(figures.items()))
    common.save(asked.json, {"tracks": asked.tracks, **figures})


if __name__ == "__main__":
    main()
