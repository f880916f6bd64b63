"""90 % prediction intervals: they contain the label in 9 of 10 cases, for tracks of new artists.

Conformal prediction on out-of-fold residuals, normalised by their expected size at the predicted values (Papadopoulos
et al. 2008, in Tools in Artificial Intelligence, 325-330; Lei et al. 2018, JASA 113(523), 1094-1111).
That size is a plane, fitted without the artists to whom it is applied. The level is `MARGIN` above 90 %, because other
music than the data set's has larger errors. Short audio has wider intervals, by the errors on excerpts of known tracks.

Labels may be NaN: each dimension's intervals are those of the tracks that have a label of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
        size: (1 + D, D), the plane: (1, predictions - 1/2) @ size predicts |residual| of each dimension.
        mean: (D,), mean |residual|.
        factor: (D,), by which the size is multiplied.
        seconds: (L,), ascending lengths of audio.
        growth: (L, D), by which intervals of such short audio are wider; between them it is interpolated over the
            logarithm of the length, and 1 for the data set's own length and more, the last of ``seconds``.
    """

    size: np.ndarray
    mean: np.ndarray
    factor: np.ndarray
    seconds: np.ndarray
    growth: np.ndarray

    @classmethod
    def of_whole(cls, size: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> Intervals:
        """The same for audio of any length."""
        return cls(size, mean, factor, np.ones(1), np.ones((1, len(mean))))

    def radius(self, predicted: np.ndarray, seconds: np.ndarray | None = None) -> np.ndarray:
        """Half-widths (N, D) around predictions (N, D) for so many seconds of audio (N,); None for enough."""
        radius = _size(self.size, self.mean, predicted) * self.factor
        if seconds is not None:
            at, known = np.log(np.maximum(seconds, 1e-3)), np.log(self.seconds)
            radius = radius * np.stack([np.interp(at, known, column) for column in self.growth.T], axis=1)
        return np.asarray(radius)

    def ends(self, predicted: np.ndarray, seconds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (N, D), in 0..1; arguments as of `radius`."""
        radius = self.radius(predicted, seconds)
        return np.clip(predicted - radius, 0, 1), np.clip(predicted + radius, 0, 1)

    def to_json(self) -> dict[str, list[float] | list[list[float]]]:
        """For ``model.json``."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: dict[str, list[float]]) -> Intervals:
        """The inverse of `to_json`. Raises KeyError or ValueError where it is none."""
        made = cls(**{name: np.asarray(value[name], float) for name in cls.__dataclass_fields__})
        n, lengths = len(made.mean), len(made.seconds)
        shapes = (1 + n, n), (n,), (n,), (lengths,), (lengths, n)
        found = tuple(array.shape for array in vars(made).values())
        if found != shapes:
            raise ValueError(f"intervals of the shapes {found}")
        return made


def intervals(
    labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0, level: float = LEVEL + MARGIN
) -> Intervals:
    """Fit them to labels (N, D) and out-of-fold predictions (R, N, D) of tracks in groups (N,), such as artists.

    level: the share of labels that they are calibrated to contain.
    """
    ratio = np.empty_like(predicted)
    parts, whole = _parts(groups, labels, seed), _plane(labels, predicted)
    for out in parts:
        rest = ~out if len(parts) > 1 else out
        size, mean = _plane(labels[rest], predicted[:, rest])
        unknown = np.isnan(mean)  # dimensions of which only the left-out groups have labels
        size[:, unknown], mean[unknown] = whole[0][:, unknown], whole[1][unknown]
        for r, values in enumerate(predicted):
            ratio[r, out] = np.abs(values[out] - labels[out]) / _size(size, mean, values[out])
    # Repeats of a track are not independent: the rank is that of N residuals, not of R N.
    factor = _upper(ratio.reshape(-1, labels.shape[1]), np.isfinite(labels).sum(axis=0), level)
    return Intervals.of_whole(*whole, factor)


def with_excerpts(
    known: Intervals, labels: np.ndarray, predicted: np.ndarray, excerpts: Mapping[float, np.ndarray], whole_s: float
) -> Intervals:
    """The same, wider for short audio.

    Args:
        known: Of whole tracks.
        labels: (N, D).
        predicted: (N, D), out-of-fold predictions of whole tracks.
        excerpts: Seconds → (N, D), the same members' predictions of an excerpt of each track.
        whole_s: Seconds of audio from which on intervals are those of whole tracks.
    """
    n = np.isfinite(labels).sum(axis=0)
    whole = _upper(_relative(known, labels, predicted), n)
    seconds, growth = [whole_s], [np.ones(labels.shape[1])]
    for length in sorted(excerpts, reverse=True):  # never narrower than for longer audio
        own = _upper(_relative(known, labels, excerpts[length]), n) / whole
        seconds.append(length)
        growth.append(np.fmax(own, growth[-1]))
    return replace(known, seconds=np.array(seconds[::-1]), growth=np.stack(growth[::-1]))


def _relative(known: Intervals, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(predicted - labels) / _size(known.size, known.mean, predicted))


def _upper(ratio: np.ndarray, n: np.ndarray, share: float = LEVEL + MARGIN) -> np.ndarray:
    """The conformal quantile of ratios (M, D), NaN where unknown, of n (D,) independent tracks: (D,), NaN for none."""
    out = np.full(len(n), np.nan)
    for d in np.flatnonzero(n):
        level, column = min(1.0, np.ceil((n[d] + 1) * share) / n[d]), ratio[:, d]
        out[d] = np.quantile(column[np.isfinite(column)], level, method="higher")
    return out


def coverage(
    labels: np.ndarray, predicted: np.ndarray, groups: Sequence[str], seed: int = 0, level: float = LEVEL + MARGIN
) -> tuple[np.ndarray, float]:
    """The share (D,) of labels that lie in their intervals, and that of tracks with all D labels whose labels all do.

    The intervals are fitted without the tracks' own artists, so labels of a dimension that no other artist has are left
    out. NaN where none are left, or there is one group only.
    """
    inside = np.full(predicted.shape, np.nan)
    for out in _parts(groups, labels, seed + 1):
        if out.all():
            return np.full(labels.shape[1], np.nan), np.nan
        rest = [g for g, o in zip(groups, out, strict=True) if not o]
        made = intervals(labels[~out], predicted[:, ~out], rest, level=level)
        for r, values in enumerate(predicted):
            beyond = np.abs(values[out] - labels[out]) - made.radius(values[out])
            inside[r, out] = np.where(np.isnan(beyond), np.nan, beyond <= 0)
    known = np.isfinite(inside).all(axis=0)
    shares = [inside[:, k, d].mean() if k.any() else np.nan for d, k in enumerate(known.T)]
    every = known.all(axis=1)
    return np.array(shares), float(inside[:, every].all(axis=2).mean()) if every.any() else np.nan


def _parts(groups: Sequence[str], labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Masks (N,) of whole groups, each track in one of them."""
    folds = min(FOLDS, len(set(groups)))
    fold = grouped_folds(groups, folds, seed, labels)
    return [fold == k for k in range(folds)]


def _plane(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1 + D, D) and the mean size (D,), by ridge regression; NaN for a dimension without labels."""
    residual = np.abs(predicted - labels).reshape(-1, labels.shape[1])
    x, known = _inputs(predicted.reshape(residual.shape)), np.isfinite(residual)
    penalty = np.diag([0.0] + [RIDGE * len(predicted)] * (x.shape[1] - 1))
    if known.all():
        return np.linalg.solve(x.T @ x + penalty, x.T @ residual), np.maximum(residual.mean(axis=0), 1e-9)
    size, mean = np.full((x.shape[1], labels.shape[1]), np.nan), np.full(labels.shape[1], np.nan)
    for d in np.flatnonzero(known.any(axis=0)):
        own, y = x[known[:, d]], residual[known[:, d], d]
        size[:, d], mean[d] = np.linalg.solve(own.T @ own + penalty, own.T @ y), max(y.mean(), 1e-9)
    return size, mean


def _inputs(predicted: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(predicted), 1)), predicted - 0.5], axis=1)


def _size(plane: np.ndarray, mean: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(_inputs(predicted) @ plane, LEAST * mean, MOST * mean))
