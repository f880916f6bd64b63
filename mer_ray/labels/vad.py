"""Tags → valence, arousal and dominance.

The recipe ``original`` is the weighted mean of the lexicon's scores over the tags that the lexicon has, by exact match
after case folding; tags that it does not have count only in the coverage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mer_ray.labels.lexicon import Lexicon, fold


@dataclass(frozen=True)
class Evidence:
    """One tag that counted: its term in the lexicon, its weight (> 0), and the term's (V, A, D) in 0..1."""

    tag: str
    term: str
    weight: float
    vad: tuple[float, float, float]


@dataclass(frozen=True)
class Label:
    """vad and se: (V, A, D), 0..1. coverage: matched weight / weight, 0..1. se is None under two terms."""

    vad: tuple[float, float, float]
    se: tuple[float, float, float] | None
    coverage: float
    evidence: tuple[Evidence, ...]


def from_tags(tags: Iterable[tuple[str, float]], lexicon: Lexicon) -> Label | None:
    """The label that weighted tags give, or None if the lexicon has none of them.

    tags: (name, weight) pairs. Weights that are not positive, finite numbers are left out. A term that several tags
    spell counts with the sum of their weights.
    """
    total = 0.0
    found: dict[str, Evidence] = {}
    for name, weight in tags:
        if not (np.isfinite(weight) and weight > 0):
            continue
        total += weight
        term = fold(name)
        if term in lexicon.terms:
            before = found[term].weight if term in found else 0.0
            found[term] = Evidence(name, term, before + weight, lexicon.terms[term])
    if not found:
        return None
    evidence = tuple(found.values())
    mean, se = weighted_mean(np.array([e.vad for e in evidence]), np.array([e.weight for e in evidence]))
    return Label(
        vad=(float(mean[0]), float(mean[1]), float(mean[2])),
        se=None if se is None else (float(se[0]), float(se[1]), float(se[2])),
        coverage=min(1.0, sum(e.weight for e in evidence) / total),
        evidence=evidence,
    )


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Weighted mean and its standard error over rows: values (n, 3), weights (n,) > 0 → two vectors (3,).

    The error is the ratio-estimator form of Cochran (1977, Sampling Techniques, ch. 6) that Gatz & Smith (1995,
    Atmospheric Environment 29, 1185-1193) found closest to the bootstrap; None under two rows.
    """
    shares = weights / weights.max()  # weights of 1e-308 or 1e308 must neither vanish nor overflow in the sums
    shares = shares / shares.sum()
    mean = shares @ values
    # A mean lies inside the hull of its values; rounding must not take it out.
    mean = np.clip(mean, values.min(axis=0), values.max(axis=0))
    n = len(values)
    if n < 2:
        return mean, None
    # With shares that sum to 1, the mean share is 1/n, and the three terms of the estimator fold into squares.
    deviation = shares[:, None] * values - mean / n
    spread = shares - 1 / n
    variance = (deviation**2).sum(0) - 2 * mean * (spread @ deviation) + mean**2 * (spread @ spread)
    return mean, np.sqrt(np.maximum(n / (n - 1) * variance, 0.0))
