"""Folds in which no group (artist) stands on both sides.

Clips of one artist share singer, studio and style; a model that has heard the artist recognises it, and its error says
little about the next artist.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mer_ray.errors import InputError


def grouped_folds(groups: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """The fold (0..folds-1) of each row, shape (n,): every row of a group in the same fold, folds of about equal size.

    Raises InputError where there are fewer groups than folds.
    """
    names, index, sizes = np.unique(
        np.asarray(groups, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    if len(names) < folds:
        raise InputError(
            f"{len(names)} artists cannot make {folds} folds",
            f"set train.folds to at most {max(len(names), 2)}" if len(names) > 1 else "label tracks of more artists",
        )
    # Largest groups first, ties in random order; each into the fold that is smallest so far.
    order = np.lexsort((np.random.default_rng(seed).random(len(names)), -sizes))
    load = np.zeros(folds, int)
    fold_of = np.empty(len(names), int)
    for group in order:
        fold_of[group] = load.argmin()
        load[fold_of[group]] += sizes[group]
    return fold_of[index]


def grouped_holdout(groups: Sequence[str], share: float, seed: int) -> np.ndarray:
    """A mask, shape (n,), of about ``share`` of the rows, in whole groups: at least one group, and never all.

    Nothing where there is one group alone.
    """
    names, index, sizes = np.unique(
        np.asarray(groups, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    held = np.zeros(len(names), bool)
    if len(names) < 2:
        return held[index]
    taken = 0
    for group in np.random.default_rng(seed).permutation(len(names))[:-1]:
        if taken + sizes[group] / 2 <= share * sizes.sum():  # an artist with half of all tracks is passed over
            held[group] = True
            taken += sizes[group]
    if not taken:
        held[sizes.argmin()] = True
    return held[index]
