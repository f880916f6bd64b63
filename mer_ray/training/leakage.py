"""Leakage: by how much a split with the same artists in training and test tracks overestimates R².

The same model is cross-validated in folds that keep groups whole and in random folds. The difference of the two R² is
due to knowing the artist (or the recording itself, if it is duplicated), not to skill. See Flexer and
Schnitzer 2010, Computer Music Journal 34(3), 20-28, on artist and album effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer_ray import models
from mer_ray.evaluation.bootstrap import DRAWS, difference, resample
from mer_ray.evaluation.metrics import INDEX
from mer_ray.io.identity import normalise
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models.splits import random_folds
from mer_ray.training.duplicates import Duplicate


@dataclass(frozen=True)
class Leakage:
    """R² of the SVR on pooled statistics, mean over the repeats; each array (D,).

    leak: random minus grouped. leak_lower, leak_upper: its 95 % interval, from a bootstrap of whole groups
    (`evaluation.bootstrap`).
    """

    grouped_r2: np.ndarray
    random_r2: np.ndarray
    leak: np.ndarray
    leak_lower: np.ndarray
    leak_upper: np.ndarray

    def to_json(
        self,
        feature: str,
        fingerprint: str,
        data: str,
        ids: Sequence[str],
        artists: Sequence[str],
        duplicates: Sequence[Duplicate],
        notes: Sequence[str] = (),
        dimensions: Sequence[str] = DIMENSIONS,
    ) -> dict[str, Any]:
        """The content of ``baselines/FEATURE.json``.

        Args:
            feature: Its name.
            fingerprint: Of the feature.
            data: `Dataset.fingerprint`.
            ids: (N,), to which the indices in ``duplicates`` refer.
            artists: (N,). Two tracks without an artist have different ones.
            duplicates: Of `training.duplicates`.
            notes: Of `baselines.Baselines`.
            dimensions: Names of the D elements of each array.
        """
        pairs = [
            {
                "a": ids[d.a],
                "b": ids[d.b],
                "similarity": d.similarity,
                "same_artist": normalise(artists[d.a]) == normalise(artists[d.b]) != "",
            }
            for d in duplicates
        ]
        return {
            "feature": feature,
            "fingerprint": fingerprint,
            "data": data,
            "model": "svr",
            "dimensions": list(dimensions),
            **{name: values.tolist() for name, values in vars(self).items()},
            "notes": list(notes),
            "duplicates": pairs,
            "n_duplicates_across_artists": sum(not p["same_artist"] for p in pairs),
        }


def out_of_fold(
    name: str, x: np.ndarray, labels: np.ndarray, fold: np.ndarray, seed: int = 0, seeds: Sequence[int] = ()
) -> np.ndarray:
    """Pooled statistics (N, P), labels (N, D) in 0..1, folds (R, N) → out-of-fold predictions (R, N, D).

    name: of a `PooledRegressor`. Labels may be NaN, as are predictions of tracks whose fold is below 0. seeds: of the
    repeats, where they are listed.
    """
    out = np.full((*fold.shape, labels.shape[1]), np.nan)
    for r, folds in enumerate(fold):
        for k in np.unique(folds[folds >= 0]):
            inside = folds != k
            rng = np.random.default_rng([seeds[r], 0, int(k)] if seeds else [seed, r, int(k)])
            model = models.module(name).REGRESSOR().fit_pooled(x[inside], labels[inside], rng)
            out[r, ~inside] = model.predict_pooled(x[~inside])
    return out


def leakage(
    grouped: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    fold: np.ndarray,
    seed: int,
    draws: int = DRAWS,
    seeds: Sequence[int] = (),
) -> Leakage:
    """The SVR's gain from random folds, which separate tracks of one artist.

    Args:
        grouped: its predictions (R, N, D) in the grouped folds (R, N), `fold`.
        x: pooled statistics (N, P).
        labels: (N, D) in 0..1, NaN where unknown.
        groups: (N,), from which the bootstrap draws.
        seed: the random folds of repeat r have the seed + r.
        draws: bootstrap samples.
        seeds: of the random folds, where they are listed.
    """
    repeats, n = fold.shape
    own = seeds or range(seed, seed + repeats)
    mixed = np.stack([random_folds(n, int(fold.max()) + 1, s, labels) for s in own])
    random = out_of_fold("svr", x, labels, mixed, seed, seeds)
    r2 = INDEX["r2"]
    columns = []
    for d in range(labels.shape[1]):
        with_leak, without = resample(labels[:, d], [random[..., d], grouped[..., d]], groups, draws, seed)
        value, ends = difference(with_leak, without)
        columns.append((without.value[r2], with_leak.value[r2], value[r2], *ends[r2]))
    return Leakage(*np.array(columns).T)
