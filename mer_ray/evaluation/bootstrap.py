"""Confidence intervals of metrics, by a bootstrap of whole groups of tracks.

A model's errors on tracks of one artist are correlated, so N tracks are worth fewer than N independent ones. So groups
are drawn with replacement, with all their tracks (the cluster bootstrap: Davison and Hinkley 1997, Bootstrap Methods
and their Application, 3.8). A metric needs only a group's sums (`metrics.moments`); a resample is a weighted sum of
groups, and all resamples are one matrix product.

The interval is Efron and Tibshirani's (1993, An Introduction to the Bootstrap, 12-13) standard interval: the
bootstrap's standard error times a quantile of Student's t, on a scale on which the metric is about normal: log(MSE),
log(MAE), log(1 - R²), Fisher's z of r and CCC; a difference of two predictions is not transformed. It stays within the
metric's range and contains the metric itself.

If a small number of groups has most of the tracks, the draws vary too little, and their variance is a rough estimate.
So the error is scaled, and t's degrees of freedom are set, by the effective number of groups E = (Σn)² / Σn² (Kish
1965, Survey Sampling, 11.7) of G groups of n tracks each: the error by √(E / (E - 1)), with (E - 1) √(E / G) degrees of
freedom. For groups of equal size that is the usual √(G / (G - 1)) with G - 1. The root is empirical: of 17 forms in a
simulation it is the only one that works in all cases. Coverage of nominal 95 % on other simulated catalogues (in
brackets, without E; `benchmarks/intervals.py`):

    sizes of the groups        groups    E  MSE          R²           CCC          difference in MSE
    one size, 5 tracks             20   20  0.92 (0.92)  0.94 (0.94)  0.94 (0.94)  0.95 (0.95)
    5 on average, at most 30       20   14  0.91 (0.90)  0.94 (0.93)  0.94 (0.92)  0.95 (0.94)
    5 on average, at most 30      100   68  0.93 (0.92)  0.95 (0.95)  0.95 (0.95)  0.96 (0.95)
    150, 75, 50, 37, ...           30   10  0.92 (0.84)  0.97 (0.91)  0.96 (0.87)  0.98 (0.92)
    150, 75, 50, 37, ...          100   17  0.93 (0.87)  0.96 (0.90)  0.95 (0.89)  0.97 (0.92)
    Zipf's law, 1.5, at most 150   60   11  0.92 (0.83)  0.97 (0.89)  0.97 (0.87)  0.98 (0.90)
    Zipf's law, 1.5, at most 150  300   53  0.92 (0.90)  0.94 (0.93)  0.94 (0.93)  0.95 (0.94)

So with groups of very different sizes, intervals of paired differences are rather too wide than too narrow. (True R²
0.40; near 0, intervals of R² are too wide.)

The variance of the training is not included: the predictions are fixed, only tracks are resampled. No unbiased
estimate of the variance of cross-validation exists (Bengio and Grandvalet 2004, JMLR 5, 1089-1105).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.evaluation.metrics import METRICS, labelled, mean_over_repeats, moments

DRAWS = 2_000
LEVEL = 0.95
MIN_EFFECTIVE, MIN_EFFECTIVE_SHARE = 10, 0.5
"""With fewer effective groups than this, or than this share of the groups, a remark is shown: in simulation, coverage
was 0.83 to 0.93 without the correction by E, and with it differs from 0.95 by some percent."""
_CHUNK = 4_000_000  # drawn groups in memory


@dataclass(frozen=True)
class Resampled:
    """One prediction's metrics: value (M,), and draws (B, M) of resampled groups, in the order of `METRICS`.

    n_effective: see `effective`.
    """

    value: np.ndarray
    draws: np.ndarray
    n_groups: int
    n_effective: float


def resample(
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    groups: Sequence[str] | np.ndarray,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Resampled]:
    """Draw groups with replacement: labels (N,), predictions (N,) or (R_i, N) each, groups (N,).

    Tracks without a label (NaN) are left out, with the groups that have no other ones.
    All predictions have the same draws, so that any two of one call can be compared by `difference`. A metric of
    repeats is its mean over them, in every draw.
    """
    labels, names, *known = labelled(labels, np.asarray(groups, dtype=object), *predictions)
    columns = [moments(labels, p) for p in known]  # of (R_i, N, 9)
    repeats = [len(c) for c in columns]
    sums = _group_sums(np.concatenate(columns), names)  # (G, all repeats, 9)
    n_groups, n_effective = len(sums), effective(sums[:, 0, 0])
    drawn = draw(sums.reshape(n_groups, -1), draws, seed).reshape(draws, -1, sums.shape[-1])
    whole = sums.sum(axis=0)
    out, start = [], 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for r in repeats:
            part = slice(start, start + r)
            figures = mean_over_repeats(whole[part]), mean_over_repeats(drawn[:, part])
            out.append(Resampled(*figures, n_groups, n_effective))
            start += r
    return out


def effective(sizes: np.ndarray) -> float:
    """Kish's effective number of groups of these sizes (G,): G if all sizes are equal."""
    return float(np.square(sizes.sum()) / np.square(sizes).sum())


def group_sizes(groups: Sequence[str]) -> dict[str, float]:
    """Of groups (N,): ``n_groups``, the tracks of the ``largest_group``, and ``effective_groups``."""
    _, sizes = np.unique(np.asarray(groups, dtype=object).astype(str), return_counts=True)
    return {"n_groups": len(sizes), "largest_group": int(sizes.max()), "effective_groups": effective(sizes)}


def uneven(n_tracks: int, n_groups: float, largest_group: float, effective_groups: float) -> str:
    """A remark on intervals from a small effective number of groups (`group_sizes`); else ""."""
    if n_groups < 2 or effective_groups >= max(MIN_EFFECTIVE, MIN_EFFECTIVE_SHARE * n_groups):
        return ""
    return (
        f"The intervals rest on few groups: the largest has {largest_group:,} of {n_tracks:,} tracks, and the "
        f"{n_groups:,} count as {effective_groups:.1f} of one size. They allow for it, and are rough."
    )


def times_error(n_groups: int, n_effective: float, level: float = LEVEL) -> float:
    """Half the width of an interval in standard errors of a bootstrap over groups; NaN for fewer than two groups."""
    from scipy.special import stdtrit

    if n_groups < 2:
        return float("nan")
    freedom = max(1.0, (n_effective - 1) * np.sqrt(n_effective / n_groups))
    return float(stdtrit(freedom, (1 + level) / 2) * np.sqrt(n_effective / max(n_effective - 1, 0.5)))


def interval(of: Resampled, level: float = LEVEL) -> np.ndarray:
    """Lower and upper end for each metric, (M, 2). NaN if the metric is NaN, or for fewer than two groups."""
    scaled, draws = _to_scale(of.value), _to_scale(of.draws)
    ends = scaled[:, None] + _half_width(draws, of, level)[:, None] * np.array([-1, 1])
    ends = np.sort(_from_scale(ends.T).T, axis=1)  # log(1 - R²) falls as R² rises
    # Rounding of the transformations must not leave the metric outside.
    return np.stack([np.minimum(ends[:, 0], of.value), np.maximum(ends[:, 1], of.value)], axis=1)


def difference(a: Resampled, b: Resampled, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """a minus b, two results of one `resample`: (M,), and the interval of each, (M, 2)."""
    value = a.value - b.value
    half = _half_width(a.draws - b.draws, a, level)
    return value, np.stack([value - half, value + half], axis=1)


def _half_width(draws: np.ndarray, of: Resampled, level: float) -> np.ndarray:
    # A metric can be undefined in a draw (equal labels), which is left out.
    known = np.isfinite(draws)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, draws, 0).sum(axis=0) / n
        variance = np.where(known, (draws - mean) ** 2, 0).sum(axis=0) / (n - 1)
    half: np.ndarray = times_error(of.n_groups, of.n_effective, level) * np.sqrt(variance)
    return half


def _to_scale(values: np.ndarray) -> np.ndarray:
    """(..., M) → each metric on the scale of its intervals."""
    return np.stack([m.scale.forward(values[..., i]) for i, m in enumerate(METRICS.values())], axis=-1)


def _from_scale(values: np.ndarray) -> np.ndarray:
    return np.stack([m.scale.back(values[..., i]) for i, m in enumerate(METRICS.values())], axis=-1)


def _group_sums(columns: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(R, N, 9) → (G, R, 9), the groups in the order of their names."""
    _, index = np.unique(groups.astype(str), return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    sums: np.ndarray = np.add.reduceat(columns[:, order], starts, axis=1).transpose(1, 0, 2)
    return sums


def draw(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums (G, C) → sums of G groups that were drawn with replacement, (draws, C)."""
    n_groups = len(sums)
    rng = np.random.default_rng(seed)
    out = np.empty((draws, sums.shape[1]))
    step = max(1, _CHUNK // n_groups)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        chosen = rng.integers(0, n_groups, (size, n_groups)) + np.arange(size)[:, None] * n_groups
        counts = np.bincount(chosen.ravel(), minlength=size * n_groups).reshape(size, n_groups)
        out[start : start + size] = counts.astype(float) @ sums
    return out
