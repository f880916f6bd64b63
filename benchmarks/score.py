"""What scoring costs beside extracting: CPU time of the same files, once as log-mel features and once as scores.

    python benchmarks/score.py FOLDER [FOLDER ...]

Each case is a process of its own with its decoder, without Ray, so that all CPU time is seen; imports and start count.
Then mer_ray.score() on one file of about three minutes, cold and warm.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
CASE = """
import sys
from mer_ray import features
from mer_ray.config import load
from mer_ray.console import Summary
from mer_ray.scoring import catalog, predictor
from mer_ray.stages import blocks, extract, score_workers
from mer_ray.io.tables import Workspace
import pyarrow as pa
kind, place, *folders = sys.argv[1:]
rows = [row for piece in catalog.find(folders).windows(10_000) for row in piece.to_pylist()]
seconds = [r["planned_s"] for r in rows]
spec = predictor.load().model.feature
if kind == "extract":
    rows = [{**r, "wanted": [spec.name], "attempts": 0} for r in rows]
    arguments = {"specs": [spec.to_json()], "min_duration_s": 1.0, "gpus": 0.0}
    worker = extract._Extract
else:
    arguments = {"model": predictor.DEFAULT, "min_duration_s": 1.0, "gpus": 0.0, "keep_features": False}
    worker = score_workers.ScoreFiles
batches = blocks.by_duration(pa.Table.from_pylist(rows), seconds, 2, 180.0, 1_800.0)
done = 0.0
here = worker(workspace=Workspace(place), **arguments)
for batch in batches:
    done += here(batch).to_pylist()[0]["seconds"]
here.decoder.close()  # and waits for its process, or its CPU time would be nobody's
print(done)
"""
ONE = """
import sys, time
started = time.perf_counter()
import mer_ray
mer_ray.score(sys.argv[1])
cold = time.perf_counter() - started
model = mer_ray.load_model()
started = time.perf_counter()
mer_ray.score(sys.argv[1], model)
print(cold, time.perf_counter() - started)
"""


def run(code: str, *arguments: str) -> tuple[float, list[float]]:
    """CPU seconds of a Python process with its children, and the numbers that it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, [float(x) for x in said.split()]


def main(folders: list[str]) -> None:
    """Print the table."""
    found: dict[str, list[float]] = {"extract": [], "score": []}
    hours = 0.0
    for _ in range(2):
        for kind in found:
            with tempfile.TemporaryDirectory() as place:
                cpu, (seconds,) = run(CASE, kind, place, *folders)
            found[kind].append(cpu)
            hours = seconds / 3600
            print(f"{kind:8} {hours:.2f} h of audio, {cpu:.1f} CPU-s, {cpu / hours:.1f} an hour", flush=True)
    print(f"score / extract: {min(found['score']) / min(found['extract']):.3f}")
    files = [p for f in folders for p in Path(f).iterdir() if p.suffix in (".ogg", ".mp3", ".flac", ".wav")]
    middle = sorted(files, key=lambda p: p.stat().st_size)[len(files) // 2]
    started = time.perf_counter()
    _, (cold, warm) = run(ONE, str(middle))
    took = time.perf_counter() - started
    print(f"{middle.name}: {took:.1f} s with Python's own start, {cold:.1f} s cold, {warm:.2f} s warm")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
