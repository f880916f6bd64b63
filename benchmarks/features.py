"""What each feature costs beside log-mel spectra: CPU time of the same files, decoded once for all.

    python benchmarks/features.py --music FOLDER [--hours N] [--json FILE]

Each case is a process of its own with one thread; imports, start-up and decoding count. The best of three rounds, in
turn. Bar: rhythm and tonal together cost at most 0.35 of `mer-ray score` with log-mel alone (`benchmarks/score.py`).
"""

from __future__ import annotations

import common

common.one_thread()
CASES = [["logmel"], ["logmel", "rhythm"], ["logmel", "tonal"], ["logmel", "rhythm", "tonal"], ["rhythm"], ["tonal"]]
CASE = """
import sys
from mer_ray import features
from mer_ray.features import batch
names, *paths = sys.argv[1:]
settings = {"logmel": {"fmax": 7_500}}
extractors = {}
for name in names.split(","):
    params = features.params_model(name)(**settings.get(name, {}))
    extractors[name] = features.load(features.resolve(name, params))
for first in range(0, len(paths), 8):
    done = batch.extract([(p, p, list(extractors)) for p in paths[first : first + 8]], extractors, 1.0)
    assert not done.errors, done.errors
"""


def main() -> None:
    """Print the figures."""
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--hours", type=float, default=1.0, help="of music (default: 1)")
    options = parser.parse_args()
    files = common.soundtracks(options.music, options.hours)
    hours = sum(seconds for _, seconds in files) / 3600
    cpu_s: dict[str, float] = {}
    for _ in range(3):
        for names in map(",".join, CASES):
            spent = common.run("-c", CASE, names, *(path for path, _ in files))[1].cpu_s / hours
            cpu_s[names] = min(spent, cpu_s.get(names, spent))
    alone = cpu_s["logmel"]
    rows = [
        [names.replace(",", " + "), f"{spent:.1f}", f"{spent - alone:+.1f}", f"{spent / alone:.2f}"]
        for names, spent in cpu_s.items()
    ]
    common.show(f"{len(files)} files, {hours:.2f} h", ["features", "CPU-s an hour", "beside log-mel", "ratio"], rows)
    common.save(options.json, {"hours": hours, "cpu_s_an_hour": cpu_s})


if __name__ == "__main__":
    main()
