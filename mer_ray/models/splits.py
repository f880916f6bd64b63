"""Folds and holdouts of whole groups (an artist and related tracks: see `training.groups`).

Clips of one artist share singer, studio and style, so the error on artists that are in the training tracks is too low
for new artists. With labels, the folds are stratified, too: each gets its share of the low, middle and high values of
the first dimensions, so that the errors of folds are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mer_ray.errors import InputError

BINS = 5
"""Classes of about equal size into which each dimension's labels are binned."""
STRATIFIED = 2
"""The first dimensions decide the folds (valence and arousal, which nearly all data sets have), so that the folds of a
catalog do not depend on whether it has others. A label that is unknown (NaN) belongs to no class."""
CANDIDATES = 16
"""Random holdouts, of which the one with the most representative labels is taken."""


def grouped_folds(groups: Sequence[str], folds: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """The fold (0..folds-1) of each row, shape (n,): every row of a group in the same fold, folds of about equal size.

    groups (n,); labels (n, D), for stratified folds. Two folds differ in size by at most the largest group. Large
    groups are assigned first, each to the fold that lacks its labels most: the multi-label stratification of Sechidis
    et al. (2011, ECML PKDD, 145-158), on whole groups. Another seed gives another partition.
    Raises InputError where there are fewer groups than folds.
    """
    index, sizes = _numbered(groups)
    if len(sizes) < folds:
        raise InputError(
            f"{len(sizes)} artists cannot make {folds} folds",
            f"set train.folds to at most {max(len(sizes), 2)}" if len(sizes) > 1 else "label tracks of more artists",
        )
    fold: np.ndarray = _spread(sizes, _group_sums(index, len(sizes), labels), folds, seed)[index]
    return fold


def random_folds(n: int, folds: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """The fold of each of n rows, shape (n,), without groups. Only to measure `training.leakage`.

    Raises InputError where n is below ``folds``.
    """
    if n < folds:
        raise InputError(f"{n} tracks cannot make {folds} folds", "label more tracks, or lower train.folds")
    return _spread(np.ones(n, int), _group_sums(np.arange(n), n, labels), folds, seed)


def grouped_holdout(groups: Sequence[str], share: float, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """A mask, shape (n,), of about ``share`` of the rows, in whole groups: at least one group, and never all.

    Empty if there is only one group. With labels (n, D), NaN where unknown: of several holdouts the one whose means and
    standard deviations are nearest to those of all rows, among those that leave labels of every dimension on both
    sides, if any do.
    """
    index, sizes = _numbered(groups)
    if labels is None:
        mask: np.ndarray = _holdout(sizes, share, np.random.default_rng(seed))[index]
        return mask
    masks: list[np.ndarray] = [
        _holdout(sizes, share, np.random.default_rng([seed, k]))[index] for k in range(CANDIDATES)
    ]
    return min(masks, key=lambda mask: _distance(labels, mask))


def _numbered(groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The index of each row's group (n,), and the groups' sizes (G,)."""
    names = np.asarray(groups, dtype=object).astype(str)
    _, index, sizes = np.unique(names, return_inverse=True, return_counts=True)
    return index, sizes


def _group_sums(index: np.ndarray, n_groups: int, labels: np.ndarray | None) -> np.ndarray:
    """Per group: its number of rows and their number in each class of each dimension: (G, C)."""
    strata = np.zeros((0, 0)) if labels is None else labels.T[:STRATIFIED]
    columns = [np.bincount(index, minlength=n_groups) * max(1, len(strata))]
    for values in strata:
        known = np.isfinite(values)
        if known.any():
            edges = np.quantile(values[known], np.arange(1, BINS) / BINS)
            classes = np.where(known, np.searchsorted(edges, values), BINS)
            columns += [np.bincount(index, classes == c, n_groups) for c in range(BINS)]
    return np.stack(columns, axis=1).astype(float)


def _spread(sizes: np.ndarray, sums: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each group (G,)."""
    rng = np.random.default_rng(seed)
    # By magnitude of size, random within: by size alone, the seed would not affect groups of unique sizes.
    order = np.lexsort((rng.random(len(sizes)), -np.floor(np.log2(sizes))))
    weight = 1 / np.maximum(sums.sum(axis=0), 1) ** 2
    load, assigned = np.zeros(folds, int), np.zeros((folds, sums.shape[1]))
    fold_of = np.empty(len(sizes), int)
    for done, group in enumerate(order):
        # No fold exceeds the smallest one by more than the largest group.
        open_to = load <= load.min() + sizes.max() - sizes[group]
        if len(sizes) - done <= (load == 0).sum():
            open_to &= load == 0
        # The growth of the sum of all folds' squared shares, up to a constant.
        cost = (assigned * sums[group] * weight).sum(axis=1)
        candidates = rng.permutation(np.flatnonzero(open_to))
        chosen = candidates[cost[candidates].argmin()]
        fold_of[group] = chosen
        load[chosen] += sizes[group]
        assigned[chosen] += sums[group]
    return fold_of


def _holdout(sizes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A mask of groups (G,)."""
    mask = np.zeros(len(sizes), bool)
    if len(sizes) < 2:
        return mask
    taken = 0
    for group in rng.permutation(len(sizes))[:-1]:
        if taken + sizes[group] / 2 <= share * sizes.sum():  # skips an artist with half of all tracks
            mask[group] = True
            taken += sizes[group]
    if not taken:
        mask[sizes.argmin()] = True
    return mask


def _distance(labels: np.ndarray, mask: np.ndarray) -> tuple[int, int, float]:
    """How many dimensions have labels in the mask only, and outside only; and how far the masked labels are from all.

    The last is the distance of the means and deviations of the first dimensions, in standard deviations.
    """
    known = np.isfinite(labels)
    there, inside, outside = known.any(axis=0), known[mask].any(axis=0), known[~mask].any(axis=0)
    apart = 0.0
    for d in np.flatnonzero(inside[:STRATIFIED]).tolist():
        every, part = labels[known[:, d], d], labels[known[:, d] & mask, d]
        if (sd := every.std()) > 0:
            apart += float(((part.mean() - every.mean()) / sd) ** 2 + ((part.std() - sd) / sd) ** 2)
    return int((there & ~outside).sum()), int((there & ~inside).sum()), apart
