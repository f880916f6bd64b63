"""Compares the candidates of one dimension: the best, those that are as good, and those not better than the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mer_ray.evaluation.bootstrap import Resampled, difference, interval, resample
from mer_ray.evaluation.metrics import (
    INDEX,
    Metrics,
    constant_mean,
    constant_median,
    labelled,
    metrics,
    spread,
)

CONSTANTS = {"constant mean": constant_mean, "constant median": constant_median}
BASELINES = ("ridge", "svr")
FLAT = 0.05
"""Predictions that vary by less than this share of the labels' SD count as constant."""

MSE, R2 = INDEX["mse"], INDEX["r2"]


@dataclass(frozen=True)
class Candidate:
    """Predictions of one dimension (R, N) and their folds (R, N), by the names in the settings."""

    network: str
    feature: str
    predicted: np.ndarray
    fold: np.ndarray


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        network: A network, a baseline (ridge, svr) or a constant.
        feature: "-" for a constant.
        intervals: 95 %, (M, 2) in the order of `METRICS`.
        spread: SD of the predictions within folds over the labels' SD.
        best: Has the highest R².
        near_best: Another row is best, and the interval of the difference in MSE includes 0.
        beats_mean: The interval of the difference in MSE from the constant mean is below 0; None for the constants.
        over_svr: R² minus the R² of the SVR on the same feature, and the ends of its interval; None without an SVR.
    """

    network: str
    feature: str
    metrics: Metrics
    intervals: np.ndarray
    spread: float = 1.0
    best: bool = False
    near_best: bool = False
    beats_mean: bool | None = None
    over_svr: tuple[float, float, float] | None = None

    @property
    def constant(self) -> bool:
        """Whether it is one of `CONSTANTS`."""
        return self.network in CONSTANTS

    @property
    def flat(self) -> bool:
        """Whether it is a model that predicts the mean."""
        return not self.constant and self.spread < FLAT

    @property
    def verdict(self) -> str:
        """The result of the comparisons in words, or ""."""
        words = ["best"] if self.best else ["≈ best"] if self.near_best else []
        if self.flat:
            words.append("predicts the mean")
        elif self.beats_mean is False:
            words.append("not better than the mean")
        return "; ".join(words)


def judge(
    labels: np.ndarray, groups: Sequence[str], candidates: Sequence[Candidate], values: Sequence[float] | None = None
) -> list[Row]:
    """Rows for the constants and then for each candidate: labels (N,), groups (N,).

    Tracks without a label (NaN) are left out. Every comparison is paired, by the same draws of groups.

    values: of the `CONSTANTS`, where the training tracks are others; None for those of the first candidate's folds.
    """
    names = np.asarray(groups, dtype=object)
    pairs = [column for c in candidates for column in (c.predicted, c.fold)]
    labels, names, *columns = labelled(labels, names, *pairs)
    candidates = [
        replace(c, predicted=p, fold=f) for c, p, f in zip(candidates, columns[::2], columns[1::2], strict=True)
    ]
    fold = candidates[0].fold
    constants = [
        Candidate(name, "-", np.stack([constant(labels, f) for f in fold]), fold)
        for name, constant in (CONSTANTS if values is None else {}).items()
    ]
    for name, value in zip(CONSTANTS, values or (), strict=False):
        constants.append(Candidate(name, "-", np.full(fold.shape, value), fold))
    rows = [*constants, *candidates]
    resampled = resample(labels, [c.predicted for c in rows], names)
    r2 = np.array([r.value[R2] for r in resampled])
    best = None if np.isnan(r2).all() else int(np.nanargmax(r2))
    svr = {c.feature: r for c, r in zip(rows, resampled, strict=True) if c.network == "svr"}
    out = []
    for i, (row, own) in enumerate(zip(rows, resampled, strict=True)):
        model = row.network not in CONSTANTS
        out.append(
            Row(
                row.network,
                row.feature,
                metrics(labels, row.predicted),
                interval(own),
                spread(labels, row.predicted, row.fold),
                best=i == best,
                near_best=best is not None and i != best and includes_0(difference(own, resampled[best])[1][MSE]),
                beats_mean=bool(difference(own, resampled[0])[1][MSE, 1] < 0) if model else None,
                over_svr=_over(own, svr.get(row.feature)) if model and row.network not in BASELINES else None,
            )
        )
    return out


def includes_0(ends: Sequence[float] | np.ndarray) -> bool:
    """Whether an interval includes 0, or is NaN."""
    return not (ends[0] > 0 or ends[1] < 0)


def _over(own: Resampled, svr: Resampled | None) -> tuple[float, float, float] | None:
    if svr is None:
        return None
    value, ends = difference(own, svr)
    return float(value[R2]), float(ends[R2, 0]), float(ends[R2, 1])
