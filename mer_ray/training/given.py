"""Splits and folds that the source gives: which tracks they are of, and what test and training tracks share.

A given test set is scored by models that were trained on the other tracks of the split: closed-form models on those
of ``train`` and ``valid``, since nothing in them stops early; networks on ``train``, with ``valid`` as their validation
set, where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mer_ray.errors import InputError
from mer_ray.evaluation.protocol import FOLDS, GROUPS, TEST
from mer_ray.io.identity import normalise
from mer_ray.training.data import Dataset
from mer_ray.training.duplicates import Duplicate

TRAIN, VALID = -1, -2
"""Values of a partition for tracks that are in no fold: they are only trained on."""
_SPLITS = {"train": TRAIN, "valid": VALID, "test": 0}
_COLUMNS = ("ids", "artists", "titles", "albums", "composers", "audio", "datasets", "splits", "given_folds")


def kind(dataset: Dataset) -> str:
    """`FOLDS` or `TEST`. Raises InputError where the source gives no split."""
    if any(dataset.splits):
        return TEST
    if any(dataset.given_folds):
        return FOLDS
    raise InputError(
        "train.split is given, but no labelled track has a split or a fold",
        "add a column split (train, valid, test) or fold to the manifest, or leave train.split out",
    )


def within(dataset: Dataset, split: str) -> Dataset:
    """The tracks that the given split or the given folds are of; all, of folds of groups."""
    if split == GROUPS:
        return dataset
    return rows(dataset, np.flatnonzero([bool(value) for value in _column(dataset, split)]))


def rows(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """Some of the tracks, by their indices (n,), as a `Dataset`; their frames are not copied."""
    if len(chosen) == len(dataset.ids):
        return dataset
    own = dataset.of(chosen)
    columns: dict[str, Any] = {name: [getattr(dataset, name)[i] for i in chosen] for name in _COLUMNS}
    columns |= {name: getattr(own, name) for name in ("frames", "labels", "groups", "errors", "curves")}
    return replace(dataset, **columns)


def _column(dataset: Dataset, split: str) -> list[str]:
    return dataset.splits if split == TEST else dataset.given_folds


def partition(dataset: Dataset, split: str) -> np.ndarray:
    """The fold of each track, (N,), of `within`: 0 for the test set; `TRAIN` and `VALID` for the rest of its split."""
    if split == TEST:
        return np.array([_SPLITS[value] for value in dataset.splits])
    names = fold_names(dataset)
    return np.array([names.index(value) for value in dataset.given_folds])


def fold_names(dataset: Dataset) -> list[str]:
    """The given folds, numbers in their order before words."""
    return sorted(set(dataset.given_folds) - {""}, key=lambda name: (not name.isdecimal(), len(name), name))


def check(dataset: Dataset, fold: np.ndarray) -> None:
    """Raises InputError where a partition (N,) leaves nothing to train on or to test, of any dimension."""
    numbers = sorted(set(fold[fold >= 0].tolist()))
    for name, labels in zip(dataset.dimensions, dataset.labels.T, strict=True):
        known = np.isfinite(labels)
        for k in numbers or [0]:
            for what, rows in (("test", known & (fold == k)), ("training", known & (fold != k))):
                if rows.sum() < 2:
                    raise InputError(
                        f"of the given split, {rows.sum()} {what} tracks have a label of {name}, and two are needed",
                        "complete the split, or leave train.split, or the dimension in collect.dimensions, out",
                    )


@dataclass(frozen=True)
class Overlap:
    """Of each track (N,), whether it has something in common with those that the model of its fold was trained on.

    Attributes:
        tested: Whether it is in a fold at all.
        artist: It has the artist of one of those.
        duplicate: It is a near-duplicate of one of those.
        group: It is in the group of one of those: artist, album, composer, near-duplicate.
    """

    tested: np.ndarray
    artist: np.ndarray
    duplicate: np.ndarray
    group: np.ndarray

    @property
    def apart(self) -> np.ndarray:
        """The tested tracks that have nothing in common with training tracks, (N,)."""
        return np.asarray(self.tested & ~(self.group | self.artist | self.duplicate))

    def to_json(self) -> dict[str, int]:
        """How many tested tracks there are, and how many have each in common."""
        return {name: int(values.sum()) for name, values in {**vars(self), "apart": self.apart}.items()}


def overlap(dataset: Dataset, fold: np.ndarray, duplicates: Sequence[Duplicate]) -> Overlap:
    """What given folds (N,) have on both sides."""
    artists = [normalise(artist) for artist in dataset.artists]
    duplicate = np.zeros(len(fold), bool)
    for pair in duplicates:
        for one, other in ((pair.a, pair.b), (pair.b, pair.a)):
            duplicate[one] |= bool(fold[one] >= 0 and fold[other] != fold[one])
    return Overlap(fold >= 0, _on_both_sides(artists, fold), duplicate, _on_both_sides(list(dataset.groups), fold))


def _on_both_sides(names: Sequence[str], fold: np.ndarray) -> np.ndarray:
    """Of each track (N,) that is in a fold, whether a track outside of the fold has the same name, which is not ""."""
    folds: dict[str, set[int]] = {}
    for name, k in zip(names, fold.tolist(), strict=True):
        folds.setdefault(name, set()).add(k)
    own = (bool(name) and k >= 0 and len(folds[name]) > 1 for name, k in zip(names, fold.tolist(), strict=True))
    return np.array(list(own), bool)
