"""`kernel` on many tracks: exact, and with landmarks. CPU time and memory of a fit, R² on tracks that were held out.

    python benchmarks/kernel.py [--tracks 9000] [--json FILE]

Tracks of one passage each, whose log-mel statistics are made from the training passages of the packaged model `light`:
half of the variance is that of a passage drawn at random, half Gaussian with the passages' covariance. Labels: the
Gaussian kernels of the drawn tracks with these passages, times that model's coefficients, and noise, which leaves 60 %
of the variance to be explained. Each case is a process of its own; needs no music.
"""

from __future__ import annotations

import resource
import sys
import time

import common

common.one_thread()
HELD_OUT = 2_000
PREDICTABLE = 0.6


def case(support: int, n_tracks: int) -> None:
    """Print one fit's figures. support: passages that a model keeps at most."""
    import numpy as np

    from mer_ray.features.joined import Joined
    from mer_ray.models import gaussian, kernel, passages
    from mer_ray.scoring import model_folder

    arrays = model_folder.load("light").members[0].arrays
    sizes = passages.block_sizes(*arrays["network.components0"].shape[:1], 512 / 22_050)
    rng, heard = np.random.default_rng(0), arrays["network.support"][:, : sum(sizes)].astype(np.float32)
    drawn = heard[rng.integers(0, len(heard), n_tracks + HELD_OUT)]
    normal = rng.standard_normal((len(drawn), len(heard)), np.float32) @ (heard - heard.mean(axis=0))
    x = np.sqrt(0.5) * (drawn + normal / np.sqrt(len(heard)))
    ends, weights = np.cumsum(sizes)[:-1], np.sqrt(sizes)[:, None] * [0, 1, 0] / np.sqrt(sizes).sum()
    truth = gaussian.Kernels(arrays["network.medians"][: len(sizes)], weights[None])
    blocks = np.split(x, ends, axis=1)
    known = truth.of_tracks(blocks, np.ones(len(x), int), np.split(heard, ends, axis=1))[0]
    signal = known @ arrays["network.coefficients"]
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    noise = rng.standard_normal(signal.shape) * np.sqrt(1 / PREDICTABLE - 1)
    labels, hops = 0.5 + 0.08 * (signal + noise), (1.0,) * len(sizes)  # of so coarse frames, the statistic is the frame
    tracks = [Joined(tuple(block[i : i + 1] for block in blocks), hops) for i in range(len(x))]
    kernel.SUPPORT = support
    model, started = kernel.Kernel(1.0, 1, hops), time.process_time()
    model.fit(tracks[:n_tracks], labels[:n_tracks], [f"artist {i // 4}" for i in range(n_tracks)])
    fitted_s = time.process_time() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    started = time.process_time()
    found = np.stack([p.value for p in model.predict(tracks[n_tracks:])])
    predicted_s, wanted = time.process_time() - started, labels[n_tracks:]
    r2 = 1 - np.square(found - wanted).mean(axis=0) / wanted.var(axis=0)
    size_mb = sum(array.nbytes for array in model.arrays.values()) / 1e6
    print(fitted_s, peak_mb, predicted_s, size_mb, *r2)


def main() -> None:
    """Print the table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=int, default=9_000)
    options = parser.parse_args()
    from mer_ray.models.kernel import SUPPORT

    rows = []
    for name, support in (("exact", options.tracks), (f"{SUPPORT:,} landmarks", SUPPORT)):
        printed, clock = common.run(__file__, "case", support, options.tracks)
        rows.append([name, *map(float, printed.split()), clock.cpu_s])
    columns = ["", "fit CPU-s", "peak MB", f"{HELD_OUT:,} predicted CPU-s", "arrays MB"]
    columns += ["R² V", "R² A", "R² D", "CPU-s in all"]
    common.show(f"kernel on {options.tracks:,} tracks of one passage", columns, rows)
    common.save(options.json, {"rows": rows})


if __name__ == "__main__":
    if sys.argv[1:2] == ["case"]:
        case(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
