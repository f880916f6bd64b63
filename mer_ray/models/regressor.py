"""The interface of all models: fitted as in scikit-learn, stored as named arrays, predicting a value and a curve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mer_ray.errors import InputError, ModelError
from mer_ray.features.joined import Frames
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models.curves import Curve
from mer_ray.models.statistics import PassageStatistics

NOT_LEARNT = "label tracks of more artists with it, or leave it out of collect.dimensions"
NOT_IN_AUDIO = (
    "no label over time of the training tracks lies within their audio",
    "look at the times in collect.curves: they are seconds from the start of the audio",
)
OF_ANOTHER = ("the model's weights are of another network", "train it again with this version")


@dataclass(frozen=True)
class TrackPrediction:
    """value: (D,), of the track. curve: (n, D), point i at (i + 1/2) hop_s seconds. Both in 0..1.

    statistics: (P,), the track's mean standardised statistics, if the model uses them.
    """

    value: np.ndarray
    curve: np.ndarray
    hop_s: float
    statistics: np.ndarray | None = None

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """The curve at times (n,): (n, D), interpolated between its points and constant beyond them."""
        points = (np.arange(len(self.curve)) + 0.5) * self.hop_s
        return np.stack([np.interp(time_s, points, column) for column in self.curve.T], axis=1)


class Regressor(ABC):
    """A model of D dimensions of affect, such as valence and arousal, on the frames of one feature, or of several.

    Attributes:
        hop_s: Seconds between frames (of the finest feature).
        hops: Seconds between the frames of each feature.
        window: Length of the model's windows or passages, in frames.
        arrays: Fitted arrays by name, stored in a model folder like ``targets`` and ``chosen``.
        targets: (D,), 1 for each dimension that the model was trained on, 0 for the others; empty before the fit.
        chosen: Settings that the fit selected for each dimension (JSON values).
        curve: (E, 2), training and validation loss by epoch, if any; not stored.
    """

    def __init__(self, hop_s: float = 1.0, window: int = 1, hops: Sequence[float] = ()) -> None:
        self.hop_s, self.window, self.hops = hop_s, window, tuple(hops) or (hop_s,)
        self.arrays: dict[str, np.ndarray] = {}
        self.targets: tuple[int, ...] = ()
        self.chosen: dict[str, Any] = {}
        self.curve = np.zeros((0, 2))

    @abstractmethod
    def fit(
        self,
        tracks: Sequence[Frames],
        labels: np.ndarray,
        groups: Sequence[str],
        *,
        weights: np.ndarray | None = None,
        seed: int = 0,
        dimensions: Sequence[str] = (),
        curves: Sequence[Curve | None] = (),
    ) -> Self:
        """Fit to tracks. A dimension is learnt from the tracks that have a label of it.

        Args:
            tracks: frames (n_i, F), n_i >= 1; they may be read-only views, and are not copied as a whole.
            labels: (N, D) in 0..1, NaN where a track has no label of a dimension.
            groups: (N,), such as artists: tracks of one group must not be on both sides of an inner split.
            weights: (N, D), weights of the labels, of mean 1 over the known ones, 0 where a label is not to be used;
                None for equal weights.
            seed: of random numbers. The same arguments give the same bits on the same machine.
            dimensions: (D,), their names, see `names`.
            curves: (N,), labels over time, None of a track without: windows of a track then have the mean of its curve
                as their label. Models that have no windows ignore them.

        Raises:
            InputError: See `known_labels`.
        """

    @abstractmethod
    def predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        """Predict tracks of frames (n_i, F), n_i >= 1, each independently of the others."""

    @property
    def statistics(self) -> PassageStatistics | None:
        """The statistics of `TrackPrediction.statistics`; None where the model computes none."""
        return None

    def check(self, track: Frames) -> None:
        """Raises ModelError where the arrays' names or shapes are not this model's, for frames such as the track's."""
        try:
            value = self.predict([track])[0].value
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ModelError(*OF_ANOTHER) from error
        if value.shape != (len(self.targets),):
            raise ModelError(*OF_ANOTHER)


def names(dimensions: Sequence[str], n: int) -> tuple[str, ...]:
    """The names of n dimensions; without any given, those of three are V, A and D, others are numbered."""
    if dimensions:
        return tuple(dimensions)
    return DIMENSIONS if n == len(DIMENSIONS) else tuple(f"dimension {d + 1}" for d in range(n))


def known_labels(
    labels: np.ndarray, weights: np.ndarray | None, groups: Sequence[str] = (), dimensions: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and weights (N, D) of `Regressor.fit`, with NaN and 0 wherever a label is unknown or has no weight.

    Raises InputError where only some tracks have a label of a dimension, and they are fewer than two or all of one
    group among several.
    """
    known = np.isfinite(labels) if weights is None else np.isfinite(labels) & (weights > 0)
    for d in np.flatnonzero(~known.all(axis=0)).tolist():
        rows = np.flatnonzero(known[:, d]).tolist()
        if len(rows) < 2 or (len(groups) and len({groups[i] for i in rows}) < min(2, len(set(groups)))):
            raise InputError(
                f"{names(dimensions, labels.shape[1])[d]} cannot be learnt: only {len(rows)} of {len(labels)} training "
                "tracks have a label of it, or all of them are of one artist",
                NOT_LEARNT,
            )
    return np.where(known, labels, np.nan), np.where(known, 1.0 if weights is None else weights, 0)


def ensemble(members: Sequence[Regressor], tracks: Sequence[Frames]) -> list[TrackPrediction]:
    """The mean of the members' predictions; for each dimension, of the members that were trained on it."""
    targets = np.array([m.targets for m in members], float)
    shares = targets / targets.sum(axis=0)
    out = []
    for of_track in zip(*(m.predict(tracks) for m in members), strict=True):
        value = sum(p.value * share for p, share in zip(of_track, shares, strict=True))
        curve = sum(p.curve * share for p, share in zip(of_track, shares, strict=True))
        out.append(TrackPrediction(value, curve, of_track[0].hop_s, of_track[0].statistics))
    return out
