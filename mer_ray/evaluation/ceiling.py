"""How well labels made from tags can be predicted at all: their reliability, from random halves of each track's tags.

A track's tags are taken for a random sample of those that listeners could have given it: label = value + error, where
the error is that of the sample. Of every track the tags are drawn into two halves, tags with their weights; each half
gives a label. The correlation r of the two over the tracks is the reliability of half a label (Spearman 1910, Brown
1910, British Journal of Psychology 3, 271-295 and 296-322), and that of the whole label is

    k r / (1 + (k - 1) r),

where k says how much less error the whole has than a half: 2 for an even number of tags of equal weight. In general the
error of a weighted mean is proportional to Σw², for weights w that sum to 1 (`labels.vad.weighted_means`), so k is the
mean Σw² of the halves over that of the whole labels: a tag with nearly all the weight makes a label no better than that
tag alone.

The reliability is the squared correlation of label and value (Lord and Novick 1968, Statistical Theories of Mental Test
Scores): the R² of a model that knows every track's value exactly, and so the highest R² that one can expect
against these labels. What all tags of a track have in common, whether it is of the music or not (a lexicon's error, an
artist's reputation), counts as value here; so a model of the music alone may stay below this ceiling for good.

A track has a tag once, so the halves never share one, and are less alike than independent samples would be. With few
different tags that matters, and the ceiling is a lower bound: `Ceiling.chance` is the correlation that halves of random
tags would have (4,729 songs with 27 words: -0.19; 472 clips with 178 words: -0.02).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.evaluation.bootstrap import DRAWS, draw, effective, times_error
from mer_ray.io.schemas import DIMENSIONS

SPLITS, FEWEST_SPLITS = 200, 10
SPLIT_TAGS = 3_000_000
"""Tags that are drawn in all splits together: for more tags there are fewer splits, which then vary less."""
FEWEST = 30
"""Tracks with two tags at least: with fewer there is no ceiling."""


@dataclass(frozen=True)
class Evidence:
    """The tags that labels are weighted means of.

    tags: (m,) codes of their names. values: (m, 3) in 0..1. weights: (m,) > 0. lengths: (N,) tags per track, 0 where a
    label was given.
    """

    tags: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Evidence:
        """A column ``evidence`` of ``labels``. The terms of one tag are one piece: they are not drawn separately."""
        owner = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy())
        tag, weight, *vad = (pc.struct_field(pc.list_flatten(column), n) for n in ("tag", "weight", *DIMENSIONS))
        codes = pc.index_in(tag, value_set=pc.unique(tag)).to_numpy().astype(np.int64)
        weights = weight.to_numpy()
        keys, piece = np.unique(owner * (codes.max(initial=0) + 1) + codes, return_inverse=True)
        owners, tags = np.divmod(keys, codes.max(initial=0) + 1)
        total = np.bincount(piece, weights, len(keys))
        means = [np.bincount(piece, weights * values.to_numpy(), len(keys)) / total for values in vad]
        return cls(tags, np.stack(means, axis=1), total, np.bincount(owners, minlength=len(column)))


@dataclass(frozen=True)
class Ceiling:
    """halves: r between two halves, (3,). reliability: of the whole labels, (3,) in 0..1; interval: 95 %, (3, 2).

    n: labels with two tags at least, of n_labels from tags. factor: k in this module's description. chance: r between
    halves of random tags, none of them twice. splits: number of random splits.
    """

    halves: np.ndarray
    reliability: np.ndarray
    interval: np.ndarray
    factor: float
    chance: float
    n: int
    n_labels: int
    splits: int


def ceiling(evidence: Evidence, groups: Sequence[str], seed: int = 0) -> Ceiling | None:
    """The ceiling of R², with an interval by a bootstrap over groups (N,); None with fewer than `FEWEST` tracks.

    Labels from a single tag cannot be halved; they count in k alone.
    """
    some = evidence.lengths > 0
    two = evidence.lengths > 1
    if two.sum() < FEWEST:
        return None
    splits = int(np.clip(SPLIT_TAGS // len(evidence.tags), FEWEST_SPLITS, SPLITS))
    sums = np.zeros((len(two), 9))
    halved = np.zeros(len(two))
    sums[two], halved[two] = _halves(evidence, two, splits, np.random.default_rng(seed))
    columns = np.column_stack([two, sums, halved, some, _error(evidence)])
    _, index = np.unique(np.asarray(groups, dtype=object).astype(str)[some], return_inverse=True)
    by_group = np.zeros((index.max() + 1, columns.shape[1]))
    np.add.at(by_group, index, columns[some])
    r, reliability, factor = _figures(by_group.sum(axis=0))
    _, drawn, _ = _figures(draw(by_group, DRAWS, seed))
    half = times_error(len(by_group), effective(by_group[:, 0])) * np.nanstd(np.arctanh(_inside(drawn)), axis=0, ddof=1)
    ends = np.tanh(np.arctanh(_inside(reliability))[:, None] + half[:, None] * np.array([-1, 1]))
    inside = np.maximum(reliability, 0.0), np.maximum(ends, 0.0)
    return Ceiling(r, *inside, float(factor), _chance(evidence, two), int(two.sum()), int(some.sum()), splits)


def _chance(evidence: Evidence, two: np.ndarray) -> float:
    """Of two disjoint samples of m from K, the means' correlation is -m / (K - m); K: inverse of Simpson's index."""
    different = effective(np.bincount(evidence.tags))
    half = np.minimum(evidence.lengths[two], different) / 2
    return float(-np.mean(half / (different - half)))


def _halves(
    evidence: Evidence, two: np.ndarray, splits: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Means over the splits, for tracks of two tags at least: of the half labels' mean, of their mean square and of
    their product, (n, 9), and of Σw² of a half, (n,)."""
    mine = np.repeat(two, evidence.lengths)
    values, weights, lengths = evidence.values[mine] - 0.5, evidence.weights[mine], evidence.lengths[two]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    weights = weights / np.maximum.reduceat(weights, starts)[owner]  # so that no sum overflows
    sums, halved = np.zeros((len(lengths), 9)), np.zeros(len(lengths))
    for _ in range(splits):
        order = np.lexsort((rng.random(len(owner)), owner))
        rank = np.arange(len(owner)) - starts[owner]
        odd = rng.integers(0, 2, len(lengths))  # which half gets the larger number of tags
        w, x = weights[order], values[order]
        both = []
        for half in (0, 1):
            own = np.where((rank + odd[owner]) % 2 == half, w, 0.0)
            total = np.bincount(owner, own)
            label = np.stack([np.bincount(owner, own * x[:, i]) for i in range(3)], axis=1) / total[:, None]
            both.append((label, np.bincount(owner, own**2) / total**2))
        (a, error_a), (b, error_b) = both
        sums += np.hstack([(a + b) / 2, (a**2 + b**2) / 2, a * b])
        halved += (error_a + error_b) / 2
    return sums / splits, halved / splits


def _error(evidence: Evidence) -> np.ndarray:
    """Σw² of each whole label, (N,); 0 where there are no tags."""
    n = len(evidence.lengths)
    owner = np.repeat(np.arange(n), evidence.lengths)
    largest = np.zeros(n)
    np.maximum.at(largest, owner, evidence.weights)
    weights = evidence.weights / largest[owner]
    total = np.bincount(owner, weights, n)
    squares: np.ndarray = np.bincount(owner, weights**2, n) / np.where(total > 0, total, 1.0) ** 2
    return squares


def _figures(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums (..., 13) over tracks → r (..., 3), reliability (..., 3), k (...); by chance, r may be below 0."""
    n, n_labels = sums[..., 0], sums[..., 11]
    mean, square, product = (sums[..., i : i + 3] / n[..., None] for i in (1, 4, 7))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (product - mean**2) / (square - mean**2)
        k = (sums[..., 10] / n) / (sums[..., 12] / n_labels)
    return r, k[..., None] * r / (1 + (k[..., None] - 1) * r), k


def _inside(reliability: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(reliability, -1 + 1e-9, 1 - 1e-9)
    return clipped
