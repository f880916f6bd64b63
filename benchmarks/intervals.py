"""How often 95 % intervals hold the truth, on simulated catalogues of artists of like and unlike sizes.

    python benchmarks/intervals.py [--json FILE] [--catalogues 2000] [--seed 1000]

Needs numpy, scipy, and this repository's files. About 5 minutes on one core.

A catalogue has G artists. Labels and errors have a part that all tracks of an artist share (0.4 and 0.7 of their
variance), and two models predict it, of true R² 0.40 and 0.34. Sizes: "even" 5 tracks each; "geometric" 5 on average
and 30 at most; "rank" 150, 75, 50, ...; "zipf a" drawn from Zipf's law with that exponent, 150 at most. The truth is
that of 600,000 artists with a track each. "now" is `mer_ray.evaluation.bootstrap`, "before" the same with every group
counted as one, whatever its size. The form of "now" was chosen with seeds 1, 7 and 21.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import common
import numpy as np

CASES = [
    ("even", 8),
    ("even", 20),
    ("geometric", 20),
    ("geometric", 100),
    ("geometric", 300),
    ("rank", 15),
    ("rank", 30),
    ("rank", 100),
    ("zipf 1.5", 60),
    ("zipf 1.5", 300),
    ("zipf 2", 100),
]
SHOWN = ("mse", "r2", "r", "ccc")
DRAWS = 400


def sizes(kind: str, n_groups: int, rng: np.random.Generator) -> np.ndarray:
    """Tracks of each artist (G,)."""
    if kind == "even":
        return np.full(n_groups, 5)
    if kind == "geometric":
        return np.minimum(1 + rng.geometric(0.25, n_groups), 30)
    if kind == "rank":
        return np.maximum(1, np.round(150 / np.arange(1, n_groups + 1))).astype(int)
    return np.minimum(rng.zipf(float(kind.split()[1]), n_groups), 150)


def catalogue(size: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), two predictions (N,) and groups (N,)."""
    group = np.repeat(np.arange(len(size)), size)

    def clustered(share: float, sd: float) -> np.ndarray:
        own = rng.normal(0, np.sqrt(share) * sd, len(size))[group]
        return own + rng.normal(0, np.sqrt(1 - share) * sd, len(group))

    labels, common_error = 0.55 + clustered(0.4, 0.16), clustered(0.7, 0.06)
    one, other = (0.55 + k * (labels - 0.55) + common_error + clustered(0.7, 0.05) for k in (0.4, 0.3))
    return labels, one, other, group


def coverage(kind: str, n_groups: int, n: int, seed: int) -> tuple[float, dict[str, np.ndarray]]:
    """(median effective number of groups, of each kind of interval the share (6,) that held the truth)."""
    from mer_ray.evaluation.bootstrap import difference, interval, resample
    from mer_ray.evaluation.metrics import metrics

    labels, one, other, _ = catalogue(np.ones(600_000, int), np.random.default_rng(99))
    first, second = metrics(labels, one).values, metrics(labels, other).values
    share: dict[str, np.ndarray] = {}
    numbers = []
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        labels, one, other, group = catalogue(sizes(kind, n_groups, rng), rng)
        now = resample(labels, [one, other], group, DRAWS, number)
        numbers.append(now[0].n_effective)
        for name, (a, b) in {"now": now, "before": [replace(r, n_effective=float(r.n_groups)) for r in now]}.items():
            for what, truth, ends in (
                ("figure", first, interval(a)),
                ("difference", first - second, difference(a, b)[1]),
            ):
                inside = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
                share[f"{what} {name}"] = share.get(f"{what} {name}", 0) + inside / n
    return float(np.median(numbers)), share


def main() -> None:
    parser = common.arguments(__doc__, music=False)
    parser.add_argument("--catalogues", type=int, default=2_000, help="of each row")
    parser.add_argument("--seed", type=int, default=1_000)
    options = parser.parse_args()
    common.one_thread()
    from mer_ray.evaluation.metrics import INDEX

    rows: list[list[Any]] = []
    figures: dict[str, Any] = {}
    for kind, n_groups in CASES:
        effective, share = coverage(kind, n_groups, options.catalogues, options.seed)
        figures[f"{kind}, {n_groups}"] = {"effective": effective, **{k: v.tolist() for k, v in share.items()}}
        cells = [
            f"{share[f'{what} now'][i]:.3f} ({share[f'{what} before'][i]:.3f})"
            for what, names in (("figure", SHOWN), ("difference", ("mse", "r2")))
            for i in map(INDEX.get, names)
        ]
        rows.append([kind, n_groups, round(effective, 1), *cells])
    heads = ("MSE", "R²", "r", "CCC", "difference in MSE", "difference in R²")
    title = f"Share of 95 % intervals that hold the truth, now (before), {options.catalogues:,} catalogues a row"
    common.show(title, ("sizes", "groups", "effective", *heads), rows)
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
