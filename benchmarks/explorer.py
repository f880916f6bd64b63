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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import arguments, save, show

from mer_ray.io.schemas import DIMENSIONS, SCHEMAS
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


def catalog(n: int, seconds: int = 180) -> pa.Table:
    """n made-up scores with curves of one point a second."""
    rng = np.random.default_rng(7)
    vad = np.clip(rng.normal(0.5, 0.15, (n, 3)), 0, 1)
    curves = rng.random((n, seconds, 3), np.float32)
    columns: dict[str, object] = {
        "track_id": [f"{i:016x}" for i in range(n)],
        "artist": [f"Artist {i % 400}" for i in range(n)],
        "title": [f"Cue number {i}" for i in range(n)],
        "album": [f"Film {i % 900}" for i in range(n)],
        "uri": [f"/music/Artist {i % 400}/{i}.flac" for i in range(n)],
        "duration_s": [float(seconds)] * n,
        "decoded_share": [1.0] * n,
        "in_distribution": rng.random(n) > 0.05,
        "novelty": rng.random(n),
        "curve": pa.ListArray.from_arrays(
            np.arange(n + 1, dtype=np.int32) * seconds, pa.FixedSizeListArray.from_arrays(curves.reshape(-1), 3)
        ),
        "curve_hop_s": [1.0] * n,
        "sound": list(rng.normal(size=(n, 16)).astype(np.float32)),
        "waveform": list(rng.integers(0, 256, (n, 300), np.uint8)),
        "model": ["cnn"] * n,
    }
    for k, d in enumerate(DIMENSIONS):
        columns |= {d: vad[:, k], f"lower_{d}": vad[:, k] * 0.9, f"upper_{d}": vad[:, k] * 0.9 + 0.1}
    return pa.table(columns).select(SCHEMAS["scores"].names).cast(SCHEMAS["scores"])


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5, help="how often the page is opened")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on the PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scores, html = Path(folder) / "scores.parquet", Path(folder) / "explore.html"
        pq.write_table(catalog(asked.tracks), scores)
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
    show(f"The explorer, {asked.tracks:,} tracks", ["what", "figure"], list(figures.items()))
    save(asked.json, {"tracks": asked.tracks, **figures})


if __name__ == "__main__":
    main()
