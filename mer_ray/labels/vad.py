"""Tags → valence, arousal and dominance.

A label is the weighted mean of the scores of the terms that the tags match (see `terms`; with the recipe ``original``,
by exact match after case folding). Tags without a term count only in the coverage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.recipes import Reading
from mer_ray.labels.terms import Matcher

PRIOR_SD = 0.2
"""Prior SD (on 0..1) of the terms of one track, for moderated errors.

Pooled over tracks, V / A / D: 0.36 / 0.25 / 0.22 for 4,729 songs with Last.fm counts and NRC scores, and 0.14 / 0.17 /
0.17 for 380 clips with AllMusic moods and the demo lexicon; 0.2 is near the geometric mean of each dimension's two.
"""
PRIOR_TERMS = 2
"""Weight of that prior, in terms. Smyth's fit to those sets gave 1.3, 1.4, 2.2, and no bound for the other three.

The moderated error is 0.74-0.99 of the difference between random halves of a track's terms for the songs and 1.17-1.22
of it for the clips: no single prior fits both exactly.
"""
_ALONE = 1e-12  # if all other terms have less than this share, the spread cannot be estimated


@dataclass(frozen=True)
class Evidence:
    """One tag that counted: its term in the lexicon, its weight (> 0), and the term's (V, A, D) in 0..1."""

    tag: str
    term: str
    weight: float
    vad: tuple[float, float, float]


@dataclass(frozen=True)
class Label:
    """vad and se: (V, A, D), 0..1. coverage: matched weight / weight, 0..1. se: None if unknown."""

    vad: tuple[float, float, float]
    se: tuple[float, float, float] | None
    coverage: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Batch:
    """Labels of n tracks from m pieces of evidence, as arrays.

    vad and se: (n, 3) in 0..1, NaN where there is none. coverage: (n,) in 0..1. n_terms: (n,) ints. The evidence, in
    the order of tracks and of each track's tags: tag (m,) indices of the batch's names, term (m,) indices of
    ``terms``, weight (m,) > 0. scores: (len(terms), 3) in 0..1.
    """

    vad: np.ndarray
    se: np.ndarray
    coverage: np.ndarray
    n_terms: np.ndarray
    tag: np.ndarray
    term: np.ndarray
    weight: np.ndarray
    terms: Sequence[str]
    scores: np.ndarray


def from_tags(tags: Iterable[tuple[str, float]], lexicon: Lexicon | Matcher) -> Label | None:
    """The label from weighted tags, or None if none of them matches a term.

    tags: (name, weight) pairs; those without a positive, finite weight are ignored. A term of several tags counts once,
    with the sum of their weights and the first spelling. lexicon: without a matcher, the recipe is ``original``.
    """
    matcher = lexicon if isinstance(lexicon, Matcher) else Matcher(lexicon)
    pairs = list(tags)
    names = list(dict.fromkeys(name for name, _ in pairs))
    index = {name: i for i, name in enumerate(names)}
    codes = np.array([index[name] for name, _ in pairs], dtype=np.int64)
    weights = np.array([weight for _, weight in pairs], dtype=np.float64)
    readings = [matcher.read(name) for name in names]
    batch = combine(readings, codes, weights, np.array([len(pairs)]), matcher.reader.moderated)
    if not batch.n_terms[0]:
        return None
    return Label(
        vad=_triple(batch.vad[0]),
        se=None if np.isnan(batch.se[0]).any() else _triple(batch.se[0]),
        coverage=float(batch.coverage[0]),
        evidence=tuple(
            Evidence(names[tag], batch.terms[term], float(weight), _triple(batch.scores[term]))
            for tag, term, weight in zip(batch.tag, batch.term, batch.weight, strict=True)
        ),
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def combine(
    readings: Sequence[Reading],
    codes: np.ndarray,
    weights: np.ndarray,
    lengths: np.ndarray,
    moderated: bool = False,
    own: np.ndarray | None = None,
) -> Batch:
    """Labels of tracks from their tags.

    Args:
        readings: Of the batch's distinct tags.
        codes: (N,), the index of each tag's reading, track after track.
        weights: (N,).
        lengths: (n,), tags per track.
        moderated: See `weighted_means`.
        own: Mask (N,) of tags to ignore because they name their own track.
    """
    n = len(lengths)
    owner = np.repeat(np.arange(n), lengths)
    usable = np.isfinite(weights) & (weights > 0)
    weights = np.where(usable, weights, 0.0)
    scaled = _scaled(weights, lengths)
    counts = usable & np.array([r.counts for r in readings], dtype=bool)[codes]
    if own is not None:
        counts &= ~own
    total = np.bincount(owner[counts], scaled[counts], n)

    terms: dict[str, int] = {}
    scores: list[tuple[float, float, float]] = []
    matches = [m for r in readings for m in r.matches]
    term_of = np.empty(len(matches), dtype=np.int64)
    for i, m in enumerate(matches):
        term_of[i] = terms.setdefault(m.term, len(terms))
        if len(terms) > len(scores):
            scores.append(m.vad)
    share_of = np.array([m.share for m in matches])
    n_matches = np.array([len(r.matches) for r in readings], dtype=np.int64)
    first_match = np.cumsum(n_matches) - n_matches

    at = np.flatnonzero(counts & (n_matches[codes] > 0))
    matched = np.bincount(owner[at], scaled[at], n)
    times = n_matches[codes[at]]
    match = np.repeat(first_match[codes[at]] - (np.cumsum(times) - times), times) + np.arange(times.sum())
    at = np.repeat(at, times)
    term = term_of[match]
    at, term, light, heavy = _merge(at, owner, term, scaled[at] * share_of[match], weights[at] * share_of[match])

    n_terms = np.bincount(owner[at], minlength=n)
    table = np.array(scores).reshape(-1, 3)
    vad, se = np.full((n, 3), np.nan), np.full((n, 3), np.nan)
    some = n_terms > 0
    vad[some], se[some] = weighted_means(table[term], light, n_terms[some], moderated)
    with np.errstate(invalid="ignore"):
        coverage = np.minimum(1.0, np.where(total > 0, matched / total, 0.0))
    return Batch(vad, se, coverage, n_terms, codes[at], term, heavy, list(terms), table)


def _merge(
    at: np.ndarray, owner: np.ndarray, term: np.ndarray, light: np.ndarray, heavy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merge a track's pieces of evidence for the same term: the first one's tag, and the sum of their weights."""
    if not len(at):
        return at, term, light, heavy
    keys = owner[at] * (int(term.max()) + 1) + term
    in_order = np.sort(keys)
    if (in_order[1:] != in_order[:-1]).all():
        return at, term, light, heavy
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
    first = order[starts]
    light, heavy = np.add.reduceat(light[order], starts), np.add.reduceat(heavy[order], starts)
    back = np.argsort(first)
    first = first[back]
    return at[first], term[first], light[back], np.minimum(heavy[back], np.finfo(np.float64).max)


def _scaled(weights: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Weights with each track's largest scaled to 0.5..1, so that sums of huge ones do not overflow.

    By powers of two, so that products have the same digits as with the original weights.
    """
    some = lengths > 0
    if not len(weights):
        return weights
    _, exponent = np.frexp(np.maximum.reduceat(weights, (np.cumsum(lengths) - lengths)[some]))
    scaled: np.ndarray = np.ldexp(weights, -np.repeat(exponent, lengths[some]))
    return scaled


def weighted_means(
    values: np.ndarray, weights: np.ndarray, lengths: np.ndarray, moderated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means and their standard errors: values (m, 3), weights (m,) > 0, lengths (k,) >= 1 → two arrays (k, 3).

    The model of the error: a track's terms are independent draws around its value with the same variance s², and the
    weights w (which sum to 1) are fixed. Then Var(mean) = s² Σw², and Σw(x - mean)² / (1 - Σw²) estimates s²
    without bias. With equal weights it is SD/√n. A term of vanishing weight changes nothing. mean ± t·SE with n - 1
    degrees of freedom has the nominal coverage (tests/test_labels.py); the ratio estimator of Gatz & Smith (1995,
    Atmospheric Environment 29, 1185-1193) assumes random weights, and with weights as unequal as Last.fm's its 90 %
    intervals cover 68-88 %. NaN for fewer than two terms.

    moderated: s² is shrunk towards PRIOR_SD², as if PRIOR_TERMS more terms had been observed (Smyth 2004, Statistical
    Applications in Genetics and Molecular Biology 3(1), article 3), since the spread of two or three terms is mostly
    noise. Then a single term has an error, too, and the degrees of freedom are n - 1 + PRIOR_TERMS.

    The error measures how much the terms of a track disagree, not a bias of all of them.
    """
    if not len(weights):
        return np.zeros((0, 3)), np.zeros((0, 3))
    starts = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(len(lengths)), lengths)
    weights = _scaled(weights, lengths)
    total = np.add.reduceat(weights, starts)
    shares = weights / total[owner]
    squares = np.add.reduceat(shares**2, starts)
    alone = 1 - squares < _ALONE
    freedom = np.where(alone, 0, lengths - 1)
    mean, se = np.empty((len(lengths), 3)), np.empty((len(lengths), 3))
    for i in range(3):
        x = np.ascontiguousarray(values[:, i])
        # Rounding must not take a mean out of the range of its values.
        low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
        mean[:, i] = np.clip(np.add.reduceat(weights * x, starts) / total, low, high)
        spread = np.add.reduceat(shares * (x - mean[owner, i]) ** 2, starts)
        variance = np.where(alone, np.nan, spread / np.where(alone, 1.0, 1 - squares))
        if moderated:
            variance = np.where(alone, 0.0, variance)
            variance = (PRIOR_TERMS * PRIOR_SD**2 + freedom * variance) / (PRIOR_TERMS + freedom)
        se[:, i] = np.sqrt(variance * squares)
    return mean, se
