"""Folds in which no group (an artist, and all that hangs together with one: see `training.groups`) is on both sides.

Clips of one artist share singer, studio and style; a model that has heard the artist recognises it, and its error says
little about the next artist. Where labels are given, the folds are stratified as well: each gets its part of the low,
middle and high values of each dimension, so that one fold's error compares with another's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mer_ray.errors import InputError

BINS = 5
"""Classes of about equal size into which each dimension's labels are cut."""
CANDIDATES = 16
"""Holdouts that are drawn, of which the one is taken whose labels are most like the whole's."""


def grouped_folds(groups: Sequence[str], folds: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """The fold (0..folds-1) of each row, shape (n,): every row of a group in the same fold, folds of about equal size.

    groups (n,); labels (n, 3), for folds whose labels are alike. Two folds differ in size by at most the largest group.
    Large groups come first, each into the fold that gains most from it: Sechidis et al.'s (2011, ECML PKDD, 145-158)
    stratification of several targets, on whole groups. Another seed is another partition.
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
    """The fold of each of n rows, shape (n,), as if no two rows had anything in common.

    For one purpose: to show what that hides. See `training.leakage`. Raises InputError where n is below ``folds``.
    """
    if n < folds:
        raise InputError(f"{n} tracks cannot make {folds} folds", "label more tracks, or lower train.folds")
    return _spread(np.ones(n, int), _group_sums(np.arange(n), n, labels), folds, seed)


def grouped_holdout(groups: Sequence[str], share: float, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """A mask, shape (n,), of about ``share`` of the rows, in whole groups: at least one group, and never all.

    Nothing where there is one group alone. With labels (n, 3): of several holdouts the one whose means and standard
    deviations are nearest to the whole's.
    """
    index, sizes = _numbered(groups)
    if labels is None:
        held: np.ndarray = _holdout(sizes, share, np.random.default_rng(seed))[index]
        return held
    masks: list[np.ndarray] = [
        _holdout(sizes, share, np.random.default_rng([seed, k]))[index] for k in range(CANDIDATES)
    ]
    return min(masks, key=lambda mask: _distance(labels, mask))


def _numbered(groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's group (n,), and the groups' sizes (G,)."""
    names = np.asarray(groups, dtype=object).astype(str)
    _, index, sizes = np.unique(names, return_inverse=True, return_counts=True)
    return index, sizes


def _group_sums(index: np.ndarray, n_groups: int, labels: np.ndarray | None) -> np.ndarray:
    """Per group: its rows, once for each dimension, and how many of them are in each class of each: (G, C)."""
    columns = [np.bincount(index, minlength=n_groups) * (1 if labels is None else labels.shape[1])]
    for values in () if labels is None else labels.T:
        edges = np.quantile(values, np.arange(1, BINS) / BINS)
        classes = np.searchsorted(edges, values)
        columns += [np.bincount(index, classes == c, n_groups) for c in range(BINS)]
    return np.stack(columns, axis=1).astype(float)


def _spread(sizes: np.ndarray, sums: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each group (G,)."""
    rng = np.random.default_rng(seed)
    # Groups of about one size in random order: by size alone, a seed could not move those whose size no other has.
    order = np.lexsort((rng.random(len(sizes)), -np.floor(np.log2(sizes))))
    weight = 1 / np.maximum(sums.sum(axis=0), 1) ** 2
    load, held = np.zeros(folds, int), np.zeros((folds, sums.shape[1]))
    fold_of = np.empty(len(sizes), int)
    for done, group in enumerate(order):
        # No fold gets further ahead of the smallest one than the largest group is big.
        open_to = load <= load.min() + sizes.max() - sizes[group]
        if len(sizes) - done <= (load == 0).sum():
            open_to &= load == 0
        # What the sum of the squares of all folds' shares grows by, but for what is the same in each fold.
        cost = (held * sums[group] * weight).sum(axis=1)
        candidates = rng.permutation(np.flatnonzero(open_to))
        chosen = candidates[cost[candidates].argmin()]
        fold_of[group] = chosen
        load[chosen] += sizes[group]
        held[chosen] += sums[group]
    return fold_of


def _holdout(sizes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A mask of groups (G,)."""
    held = np.zeros(len(sizes), bool)
    if len(sizes) < 2:
        return held
    taken = 0
    for group in rng.permutation(len(sizes))[:-1]:
        if taken + sizes[group] / 2 <= share * sizes.sum():  # an artist with half of all tracks is passed over
            held[group] = True
            taken += sizes[group]
    if not taken:
        held[sizes.argmin()] = True
    return held


def _distance(labels: np.ndarray, mask: np.ndarray) -> float:
    """How far the labels' means and deviations under the mask are from all labels', in units of the deviation."""
    if not mask.any():
        return 0.0
    sd = labels.std(axis=0)
    part = labels[mask]
    apart = np.stack([part.mean(axis=0) - labels.mean(axis=0), part.std(axis=0) - sd])
    return float(np.square(np.divide(apart, sd, out=np.zeros_like(apart), where=sd > 0)).sum())
