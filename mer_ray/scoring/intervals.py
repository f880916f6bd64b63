"""90 % prediction intervals: they contain the label in 9 of 10 cases, for tracks of new artists.

Conformal prediction on out-of-fold residuals, normalised by their expected size at the predicted V, A and D
(Papadopoulos et al. 2008, in Tools in Artificial Intelligence, 325-330; Lei et al. 2018, JASA 113(523), 1094-1111).
That size is a plane, fitted without the artists to whom it is applied. The level is `MARGIN` above 90 %, because other
music than the data set's has larger errors. Short audio has wider intervals, by the errors on excerpts of known tracks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mer_ray.models.regressor import N_TARGETS
from mer_ray.models.splits import grouped_folds

LEVEL = 0.9
"""Share of labels that the intervals are to contain."""
MARGIN = 0.02
"""By which the calibrated share is higher: for music of another kind than the data set's (benchmarks/RESULTS.md)."""
FOLDS = 5
RIDGE = 1.0
LEAST, MOST = 0.5, 2.0
"""Limits of a predicted size, relative to the mean size."""


@dataclass(frozen=True)
class Intervals:
    """Fitted intervals.

    Attributes:
        size: (4, 3), the plane: (1, V - 1/2, A - 1/2, D - 1/2) @ size predicts |residual| of each dimension.
        mean: (3,), mean |residual|.
        factor: (3,), by which the size is multiplied.
        seconds: (L,), ascending lengths of audio.
        growth: (L, 3), by which intervals of such short audio are wider; between them it is interpolated over the
            logarithm of the length, and 1 for the data set's own length and more, the last of ``seconds``.
    """

    size: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    seconds: np.ndarray = field(default_factory=lambda: np.ones(1))
    growth: np.ndarray = field(default_factory=lambda: np.ones((1, N_TARGETS)))

    def radius(self, predicted: np.ndarray, seconds: np.ndarray | None = None) -> np.ndarray:
        """Half-widths (N, 3) around predictions (N, 3) for so many seconds of audio (N,); None for enough."""
        radius = _size(self.size, self.mean, predicted) * self.factor
        if seconds is not None:
            at, known = np.log(np.maximum(seconds, 1e-3)), np.log(self.seconds)
            radius = radius * np.stack([np.interp(at, known, column) for column in self.growth.T], axis=1)
        return np.asarray(radius)

    def ends(self, predicted: np.ndarray, seconds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (N, 3), in 0..1; arguments as of `radius`."""
        radius = self.radius(predicted, seconds)
        return np.clip(predicted - radius, 0, 1), np.clip(predicted + radius, 0, 1)

    def to_json(self) -> dict[str, list[float] | list[list[float]]]:
        """For ``model.json``."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> Intervals:
        """The inverse of `to_json`. Raises KeyError or ValueError where it is none."""
        made = cls(**{name: np.asarray(value[name], float) for name in cls.__dataclass_fields__})
        shapes = (4, N_TARGETS), (N_TARGETS,), (N_TARGETS,), (len(made.seconds),), (len(made.seconds), N_TARGETS)
        found = tuple(array.shape for array in vars(made).values())
        if found != shapes:
            raise ValueError(f"intervals of the shapes {found}")
        return made


def intervals(labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0) -> Intervals:
    """Fit them to labels (N, 3) and out-of-fold predictions (R, N, 3) of tracks in groups (N,), such as artists."""
    ratio = np.empty_like(predicted)
    parts = _parts(groups, labels, seed)
    for out in parts:
        rest = ~out if len(parts) > 1 else out
        size, mean = _plane(labels[rest], predicted[:, rest])
        for r, values in enumerate(predicted):
            ratio[r, out] = np.abs(values[out] - labels[out]) / _size(size, mean, values[out])
    # Repeats of a track are not independent: the rank is that of N residuals, not of R N.
    factor = _upper(ratio.reshape(-1, labels.shape[1]), len(labels))
    return Intervals(*_plane(labels, predicted), factor)


def with_excerpts(
    known: Intervals, labels: np.ndarray, predicted: np.ndarray, excerpts: Mapping[float, np.ndarray], whole_s: float
) -> Intervals:
    """The same, wider for short audio.

    Args:
        known: Of whole tracks.
        labels: (N, 3).
        predicted: (N, 3), out-of-fold predictions of whole tracks.
        excerpts: Seconds → (N, 3), the same members' predictions of an excerpt of each track.
        whole_s: Seconds of audio from which on intervals are those of whole tracks.
    """
    whole = _upper(_relative(known, labels, predicted), len(labels))
    seconds, growth = [whole_s], [np.ones(labels.shape[1])]
    for length in sorted(excerpts, reverse=True):  # never narrower than for longer audio
        own = _upper(_relative(known, labels, excerpts[length]), len(labels)) / whole
        seconds.append(length)
        growth.append(np.maximum(own, growth[-1]))
    return replace(known, seconds=np.array(seconds[::-1]), growth=np.stack(growth[::-1]))


def _relative(known: Intervals, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(predicted - labels) / _size(known.size, known.mean, predicted))


def _upper(ratio: np.ndarray, n: int) -> np.ndarray:
    """The conformal quantile of ratios (M, 3) of n independent tracks: (3,)."""
    level = min(1.0, np.ceil((n + 1) * (LEVEL + MARGIN)) / n)
    return np.asarray(np.quantile(ratio, level, axis=0, method="higher"))


def coverage(
    labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0
) -> tuple[np.ndarray, float]:
    """The share (3,) of labels that lie in their intervals, and that of tracks whose three labels all do.

    The intervals are fitted without the tracks' own artists. NaN where there is one group only.
    """
    inside = np.zeros(predicted.shape, bool)
    for out in _parts(groups, labels, seed + 1):
        if out.all():
            return np.full(labels.shape[1], np.nan), np.nan
        known = intervals(labels[~out], predicted[:, ~out], [g for g, o in zip(groups, out, strict=True) if not o])
        for r, values in enumerate(predicted):
            inside[r, out] = np.abs(values[out] - labels[out]) <= known.radius(values[out])
    return inside.mean(axis=(0, 1)), float(inside.all(axis=2).mean())


def _parts(groups: Sequence[str], labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Masks (N,) of whole groups, each track in one of them."""
    folds = min(FOLDS, len(set(groups)))
    fold = grouped_folds(groups, folds, seed, labels)
    return [fold == k for k in range(folds)]


def _plane(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, 3) and the mean size (3,), by ridge regression."""
    residual = np.abs(predicted - labels).reshape(-1, labels.shape[1])
    x = _inputs(predicted.reshape(residual.shape))
    penalty = np.diag([0.0] + [RIDGE * len(predicted)] * (x.shape[1] - 1))
    mean = np.maximum(residual.mean(axis=0), 1e-9)
    return np.linalg.solve(x.T @ x + penalty, x.T @ residual), mean


def _inputs(predicted: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(predicted), 1)), predicted - 0.5], axis=1)


def _size(plane: np.ndarray, mean: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(_inputs(predicted) @ plane, LEAST * mean, MOST * mean))
