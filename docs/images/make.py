"""Makes explorer.png and explorer-dark.png: the explorer's page of the demo's own cues, as `mer-ray score` scores them.

    python docs/images/make.py [--scores FILE]

Composers and titles are invented. Takes some minutes on 2 cores; with --scores, the file is made if it is not
there, and read if it is. Needs playwright (of the extra "dev") and a chromium on the PATH.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mer_ray.audio.providers.demo import fetch
from mer_ray.sources.demo import names

SEED, CUES, SECONDS = 7, 320, 20
SIZE = {"width": 1440, "height": 900}
MOST_BYTES = 250_000
HERE = Path(__file__).resolve().parent


def score(target: Path) -> None:
    """Renders the cues, and scores them with the light model."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for index in range(CUES):
            artist, title, album = names.cue(SEED, index)
            path = Path(folder) / f"{index:04d}.flac"
            fetch(f"demo:{SEED}/{index}/{SECONDS}", path)
            rows.append({"path": path.name, "artist": artist, "title": title, "album": album or ""})
        with (Path(folder) / "cues.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["path", "artist", "title", "album"])
            writer.writeheader()
            writer.writerows(rows)
        command = [
            sys.executable,
            "-m",
            "mer_ray",
            "score",
            f"{folder}/cues.csv",
            "--out",
            str(target),
            "--model",
            "light",
        ]
        subprocess.run(command, check=True)


def shoot(page_file: Path) -> None:
    """The page with an arc, in light; with the list, and with filters of tempo and key, in dark."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme, name in (("light", "explorer.png"), ("dark", "explorer-dark.png")):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-ready]")
            if scheme == "light":
                page.click("#tab-arc")
                page.click("#arc-list .step >> nth=5")
            else:
                page.fill("#tempo-lowest", "90")
                page.click("#modes button >> nth=1")
                page.click("#list .row >> nth=3")
                page.evaluate("const f = document.getElementById('filters'); f.scrollTop = f.scrollHeight")
            page.wait_for_timeout(800)
            page.evaluate("document.getElementById('audio-note').textContent = ''")  # the music is not kept
            page.screenshot(path=HERE / name)
            page.close()
            _smaller(HERE / name)
        browser.close()


def _smaller(file: Path) -> None:
    """The picture without what it can do without: transparency, and, if it is still too large, all but 256 colours."""
    from PIL import Image

    with Image.open(file) as picture:
        whole = picture.convert("RGB")
    whole.save(file, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)
    if file.stat().st_size > MOST_BYTES:
        sys.exit(f"{file} has {file.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def main() -> None:
    """Makes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, metavar="FILE", help="the scores, .parquet")
    asked = parser.parse_args()
    from mer_ray.scoring.explorer import page

    with tempfile.TemporaryDirectory() as folder:
        scores = asked.scores or Path(folder) / "scores.parquet"
        if not scores.exists():
            score(scores)
        page.run(str(scores), f"{folder}/explore.html", "Demo soundtracks")
        shoot(Path(folder) / "explore.html")


if __name__ == "__main__":
    main()
