"""What scoring costs beside extracting, with each packaged model: CPU time of the same files, in both.

    python benchmarks/score.py --music FOLDER [--models light default] [--json FILE]

Each case is a process of its own with its decoder, without Ray, so that all CPU time is seen; imports and start count.
Then mer_ray.score() on one file, of middle length or --file, cold and warm.
"""

from __future__ import annotations

from pathlib import Path

import common

common.one_thread()
CASE = """
import sys
import mer_ray
from mer_ray import features
from mer_ray.features import batch, joined
from mer_ray.scoring import predictor
kind, model, *paths = sys.argv[1:]
if kind == "score":
    assert len(mer_ray.score(paths, model)) == len(paths)
else:
    parts = joined.parts(predictor.load(model).model.feature)
    extractors = {spec.name: features.load(spec) for spec in parts}
    for first in range(0, len(paths), 8):
        done = batch.extract([(p, p, list(extractors)) for p in paths[first : first + 8]], extractors, 1.0)
        assert not done.errors, done.errors
"""
ONE = """
import sys, time
started = time.perf_counter()
import mer_ray
mer_ray.score(sys.argv[1], sys.argv[2])
cold = time.perf_counter() - started
model = mer_ray.load_model(sys.argv[2])
started = time.perf_counter()
mer_ray.score(sys.argv[1], model)
print(cold, time.perf_counter() - started)
"""


def main() -> None:
    """Print the figures."""
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--models", nargs="+", default=["light", "default"])
    parser.add_argument("--file", type=Path, help="the one that is scored alone")
    options = parser.parse_args()
    files = common.soundtracks(options.music)
    hours = sum(seconds for _, seconds in files) / 3600
    one = options.file or sorted(files, key=lambda file: file[1])[len(files) // 2][0]
    figures = {}
    for model in options.models:
        cpu_s: dict[str, list[float]] = {"extract": [], "score": []}
        for _ in range(2):
            for kind, found in cpu_s.items():
                found.append(common.run("-c", CASE, kind, model, *(path for path, _ in files))[1].cpu_s)
                each = f"{found[-1]:.1f} CPU-s, {found[-1] / hours:.1f} an hour"
                print(f"{model}: {kind:8} {hours:.2f} h, {each}", flush=True)
        print(f"{model}: score / extract: {min(cpu_s['score']) / min(cpu_s['extract']):.3f}")
        printed, clock = common.run("-c", ONE, one, model)
        cold, warm = map(float, printed.split())
        alone = f"{clock.wall_s:.1f} s with Python's own start, {cold:.1f} s cold, {warm:.2f} s warm"
        print(f"{model}: {one.name}: {alone}", flush=True)
        figures[model] = {"hours": hours, "cpu_s": cpu_s, "cold_s": cold, "warm_s": warm}
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
