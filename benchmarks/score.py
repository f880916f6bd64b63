"""What scoring costs beside extracting: CPU time of the same files, once as log-mel features and once as scores.

    python benchmarks/score.py --music FOLDER [--json FILE]

Each case is a process of its own with its decoder, without Ray, so that all CPU time is seen; imports and start count.
Then mer_ray.score() on one file of middle length, cold and warm.
"""

from __future__ import annotations

import common

common.one_thread()
CASE = """
import sys
import mer_ray
from mer_ray import features
from mer_ray.features import batch
from mer_ray.scoring import predictor
kind, *paths = sys.argv[1:]
if kind == "score":
    assert len(mer_ray.score(paths)) == len(paths)
else:
    spec = predictor.load().model.feature
    extractors = {spec.name: features.load(spec)}
    for first in range(0, len(paths), 8):
        done = batch.extract([(p, p, [spec.name]) for p in paths[first : first + 8]], extractors, 1.0)
        assert not done.errors, done.errors
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


def main() -> None:
    """Print the figures."""
    options = common.arguments(__doc__ or "").parse_args()
    files = common.soundtracks(options.music)
    hours = sum(seconds for _, seconds in files) / 3600
    cpu_s: dict[str, list[float]] = {"extract": [], "score": []}
    for _ in range(2):
        for kind, found in cpu_s.items():
            found.append(common.run("-c", CASE, kind, *(path for path, _ in files))[1].cpu_s)
            print(f"{kind:8} {hours:.2f} h, {found[-1]:.1f} CPU-s, {found[-1] / hours:.1f} an hour", flush=True)
    print(f"score / extract: {min(cpu_s['score']) / min(cpu_s['extract']):.3f}")
    middle = sorted(files, key=lambda file: file[1])[len(files) // 2][0]
    printed, clock = common.run("-c", ONE, middle)
    cold, warm = map(float, printed.split())
    print(f"{middle.name}: {clock.wall_s:.1f} s with Python's own start, {cold:.1f} s cold, {warm:.2f} s warm")
    common.save(options.json, {"hours": hours, "cpu_s": cpu_s, "cold_s": cold, "warm_s": warm})


if __name__ == "__main__":
    main()
