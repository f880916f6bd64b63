"""Kernel ridge regression on statistics of passages, with a sum of Gaussian kernels.

The kernels are approximated by random Fourier features (Rahimi & Recht 2007, NeurIPS), so that the model is a linear
layer with a closed-form solution, and its size does not depend on the number of tracks. For each dimension, the length
scale and the ridge penalty are selected on the training tracks, by folds that keep artists apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np

from mer_ray.features.joined import Frames, span
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models import passages
from mer_ray.models.regressor import N_TARGETS, Regressor, TrackPrediction
from mer_ray.models.scaling import Scaler
from mer_ray.models.splits import grouped_folds
from mer_ray.models.statistics import PassageStatistics
from mer_ray.models.windows import starts

DEFAULTS = {"window_s": 30.0}
SELECTS = (
    "the length scale l of the kernels exp(-d² / 2 (l m)²), m the median distance of passages, of several the mean, "
    "and the ridge penalty."
)
"""Describes `Kernel.chosen` in the model card."""

LENGTH_SCALES = (1.0, 0.5**0.5, 0.5)
"""l of the kernels exp(-d² / 2 (l m)²): d the distance of two passages in one block of statistics, m its median."""
N_RANDOM_FEATURES = 5_120
"""Pairs of cosine and sine for each length scale, of all blocks together."""
RIDGE_ALPHAS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Noise variance of a label, as a multiple of the variance that the kernel describes."""
DEFAULT_ALPHA = 0.8
"""Used if there is only one group, so that none can be selected."""
CLIP = 5.0
"""Statistics are clipped to so many standard deviations from the training tracks' mean."""
INNER_FOLDS = 5
MAX_SELECTION = 2_048
"""Training tracks for the selection at most, in whole groups: its time grows with the cube of their number."""
ROWS = 32
"""Passages or tracks whose random features are computed together, to fit the processor's cache."""
MEDIAN_OF = 1_000
"""Windows from which median distances are estimated."""


PREFIX = "network."
"""Of the names of the model's own arrays."""


class Kernel(Regressor):
    """Statistics in blocks → random features of each block and length scale → ridge regression."""

    def fit(
        self,
        tracks: Sequence[Frames],
        labels: np.ndarray,
        groups: Sequence[str],
        *,
        weights: np.ndarray | None = None,
        seed: int = 0,
    ) -> Self:
        """See `Regressor.fit`. ``curve`` is one row: the error on the training tracks, and that of the inner folds."""
        scaler = Scaler.of(tracks, labels)
        y = scaler.labels(labels).astype(np.float64)
        weights = np.ones(y.shape) if weights is None else weights
        statistics, values, counts = self._window_statistics(scaler, tracks, seed)
        self.arrays = self._with(statistics)
        blocks = self._blocks(values)
        medians = np.array([_median_distance(b[:: max(1, len(b) // MEDIAN_OF)]) for b in blocks], np.float32)

        def inputs(scales: Sequence[int], rows: np.ndarray) -> np.ndarray:
            windows = np.isin(np.repeat(np.arange(len(counts)), counts), rows)
            return _track_features([b[windows] for b in blocks], counts[rows], medians, scales)

        everything = np.arange(len(tracks))
        sample = _whole_groups(groups, MAX_SELECTION, seed)
        of_sample = y[sample], weights[sample], [groups[i] for i in sample]
        selected, inner_error = _select(lambda scales: inputs(scales, sample), *of_sample, seed)
        bias, fitted = np.average(y, axis=0, weights=weights), np.empty_like(y)
        head = np.zeros((len(blocks), len(LENGTH_SCALES), 2 * (N_RANDOM_FEATURES // len(blocks)), N_TARGETS))
        for scales in {s.scales for s in selected}:
            x = inputs(scales, everything)
            for d in (d for d, s in enumerate(selected) if s.scales == scales):
                coefficients = ridge(x, y[:, d] - bias[d], weights[:, d], selected[d].ridge_alpha)
                fitted[:, d] = x @ coefficients + bias[d]
                share = np.sqrt(len(blocks) * len(scales))
                head[..., d][:, scales] = coefficients.reshape(len(blocks), len(scales), -1) / share
        self.arrays = {
            **self._with(statistics),
            "network.reach": medians,
            "network.head.kernel": head.reshape(-1, N_TARGETS).astype(np.float32),
            "network.head.bias": bias.astype(np.float32),
        }
        self.curve = np.array([[np.mean(np.square(fitted - y)), inner_error]])
        self.chosen = {name: s.to_json() for name, s in zip(DIMENSIONS, selected, strict=True)}
        return self

    def predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        """See `Regressor.predict`. The prediction is the interquartile mean over the complete passages."""
        together = range(0, len(tracks), ROWS)  # statistics of all tracks may be as large as their frames
        return [p for i in together for p in self._predict(tracks[i : i + ROWS])]

    def _predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        grids = [passages.grid(len(track), self.window, self.hop_s) for track in tracks]
        own = self.statistics
        raw = [own.raw(track, grid, self.hop_s) for track, grid in zip(tracks, grids, strict=True)]
        statistics = own.standardised(np.concatenate(raw))
        blocks = self._blocks(statistics)
        head, bias = self.arrays["network.head.kernel"], self.arrays["network.head.bias"]
        rows = [slice(i, i + ROWS) for i in range(0, len(statistics), ROWS)]
        outputs = [random_features([b[r] for b in blocks], self.arrays["network.reach"]) @ head for r in rows]
        values = Scaler.from_arrays(self.arrays).vad(np.concatenate(outputs) + bias)
        out, start = [], 0
        for grid in grids:
            points = slice(start, start + grid.n_points)
            value = interquartile_mean(values[start : start + len(grid.first)][grid.whole])
            out.append(TrackPrediction(value, values[points], grid.hop_s, statistics[points].mean(axis=0)))
            start += len(grid.first)
        return out

    @property
    def statistics(self) -> PassageStatistics:
        """The statistics that are the model's input."""
        return PassageStatistics.from_arrays(self.arrays, PREFIX)

    @property
    def block_parts(self) -> list[int]:
        """The feature (0, 1, ...) that each block of the statistics is of."""
        return [part for part, _ in self._block_sizes]

    @property
    def _block_sizes(self) -> list[tuple[int, int]]:
        """The feature and the width of each block."""
        features = enumerate(zip(self.statistics.components, self.hops, strict=True))
        return [(i, size) for i, (c, hop_s) in features for size in passages.block_sizes(len(c), hop_s)]

    @staticmethod
    def _with(statistics: PassageStatistics) -> dict[str, np.ndarray]:
        """The arrays of `statistics`."""
        scaler = statistics.scaler.arrays()
        own = {PREFIX + name: array for name, array in statistics.arrays().items() if name not in scaler}
        return {**own, **scaler}

    def _window_statistics(
        self, scaler: Scaler, tracks: Sequence[Frames], seed: int
    ) -> tuple[PassageStatistics, np.ndarray, np.ndarray]:
        """The statistics fitted to the windows of all tracks; their values (W, P); and how many each track has (N,)."""
        unscaled = PassageStatistics.unscaled(scaler, tracks, self.hop_s, seed)
        raw, counts = [], []
        for track in tracks:
            first = starts(len(track), self.window)
            counts.append(len(first))
            for piece in (span(track, f, f + self.window) for f in first.tolist()):
                raw.append(unscaled.raw(piece, passages.one_passage(len(piece), self.hop_s), self.hop_s))
        values = np.concatenate(raw)
        statistics = unscaled.standardised_by(values)
        return statistics, statistics.standardised(values), np.array(counts)

    def _blocks(self, statistics: np.ndarray) -> list[np.ndarray]:
        """Standardised statistics (n, P), clipped, as their blocks."""
        ends = np.cumsum([size for _, size in self._block_sizes])[:-1]
        return np.split(np.clip(statistics, -CLIP, CLIP), ends, axis=1)


def random_features(
    blocks: Sequence[np.ndarray], medians: np.ndarray, scales: Sequence[int] = range(len(LENGTH_SCALES))
) -> np.ndarray:
    """Statistics (n, P_i) of each block → (n, blocks x scales x 2 W) float32.

    Products of the features of one block and length scale approximate that kernel. medians: (blocks,), the median
    distance of two windows in each block.
    """
    width = N_RANDOM_FEATURES // len(blocks)
    out = np.empty((len(blocks[0]), len(blocks), len(scales), 2, width), np.float32)
    for k, block in enumerate(blocks):
        angle = block @ directions(k, block.shape[1], width)
        for j, scale in enumerate(scales):
            scaled = angle * np.float32(1 / LENGTH_SCALES[scale] / medians[k])
            np.cos(scaled, out=out[:, k, j, 0])
            np.sin(scaled, out=out[:, k, j, 1])
    out /= np.float32(np.sqrt(width))
    return out.reshape(len(out), -1)


def _track_features(
    blocks: Sequence[np.ndarray], counts: np.ndarray, medians: np.ndarray, scales: Sequence[int]
) -> np.ndarray:
    """Each track's mean over its windows, in which the head is linear: (N, P), whose products are the mean kernel.

    blocks: of all windows, track after track. counts: (N,), windows of each track.
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    out = np.empty((len(counts), len(blocks) * len(scales) * 2 * (N_RANDOM_FEATURES // len(blocks))), np.float32)
    for i in range(0, len(counts), ROWS):
        rows = slice(i, min(i + ROWS, len(counts)))
        first, last = ends[rows], ends[rows.stop]
        features = random_features([b[first[0] : last] for b in blocks], medians, scales)
        np.divide(np.add.reduceat(features, first - first[0]), counts[rows, None], out=out[rows], casting="same_kind")
    out /= np.float32(np.sqrt(len(blocks) * len(scales)))
    return out


@dataclass(frozen=True)
class _Selected:
    """scales: indices of `LENGTH_SCALES` whose kernels are averaged. ridge_alpha: one of `RIDGE_ALPHAS`."""

    scales: tuple[int, ...]
    ridge_alpha: float

    def to_json(self) -> dict[str, Any]:
        return {
            "length_scales": [round(LENGTH_SCALES[s], 4) for s in self.scales],
            "ridge_alpha": self.ridge_alpha,
        }


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """(n, 3) → (3,), a mean that is robust against a fade or one loud bar."""
    n = len(values)
    cut = n // 4
    return np.asarray(np.sort(values, axis=0)[cut : n - cut].mean(axis=0))


def ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float) -> np.ndarray:
    """Coefficients (P,) that minimise the weighted squared error plus alpha times their squared norm.

    x (N, P), y and weight (N,). Solved in the primal or dual form, whichever is smaller; in float64.
    """
    from scipy.linalg import cho_factor, cho_solve

    dual = len(x) <= x.shape[1]
    weighted = x if dual else x * weight[:, None]
    gram = (x @ x.T if dual else weighted.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += alpha / weight if dual else alpha
    # The transpose, an equal matrix, has LAPACK's memory order, which avoids a copy.
    solved = cho_solve(cho_factor(gram.T, overwrite_a=True), y if dual else weighted.T @ y)
    return np.asarray(x.T @ solved if dual else solved)


def _select(
    inputs: Callable[[Sequence[int]], np.ndarray],
    y: np.ndarray,
    weights: np.ndarray,
    groups: Sequence[str],
    seed: int,
) -> tuple[list[_Selected], float]:
    """Each dimension's choice with the smallest error over inner folds, and the mean of those errors."""
    every = tuple(range(len(LENGTH_SCALES)))
    choices = [*((scale,) for scale in every), every]
    folds = min(INNER_FOLDS, len(set(groups)))
    if folds < 2:
        return [_Selected(choices[-1], DEFAULT_ALPHA)] * y.shape[1], float("nan")
    fold = grouped_folds(groups, folds, seed, y)
    error = np.zeros((len(choices), len(RIDGE_ALPHAS), y.shape[1]))
    for i, scales in enumerate(choices):
        x = inputs(scales)
        gram = (x @ x.T).astype(np.float64)
        for f in range(folds):
            out = fold == f
            for j, predicted in enumerate(_ridge_path(gram, y, weights, ~out)):
                error[i, j] += (np.square(predicted - y[out]) * weights[out]).sum(axis=0)
    best = [np.unravel_index(error[:, :, d].argmin(), error.shape[:2]) for d in range(y.shape[1])]
    mean = float(np.mean([error[i, j, d] for d, (i, j) in enumerate(best)] / weights.sum(axis=0)))
    return [_Selected(choices[i], RIDGE_ALPHAS[j]) for i, j in best], mean


def _ridge_path(gram: np.ndarray, y: np.ndarray, weights: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Predictions (alphas, M, 3) for the tracks where ``known`` is False, for each of `RIDGE_ALPHAS`.

    gram (N, N), y and weights (N, 3), known (N,). One eigendecomposition serves all penalties, and all dimensions with
    equal weights.
    """
    inside, across = gram[np.ix_(known, known)], gram[np.ix_(~known, known)]
    alike = bool(np.all(weights == weights[:, :1]))
    out = np.empty((len(RIDGE_ALPHAS), len(across), y.shape[1]))
    for columns in [slice(None)] if alike else [slice(d, d + 1) for d in range(y.shape[1])]:
        root, target = np.sqrt(weights[known, columns][:, 0]), y[known, columns]
        mean = np.average(target, axis=0, weights=root**2)
        values, vectors = np.linalg.eigh(inside * root[:, None] * root[None, :])
        left, right = (across * root) @ vectors, vectors.T @ ((target - mean) * root[:, None])
        for j, alpha in enumerate(RIDGE_ALPHAS):
            out[j][:, columns] = left @ (right / (values + alpha)[:, None]) + mean
    return out


def _median_distance(block: np.ndarray) -> float:
    block = block.astype(np.float64)
    norm = np.square(block).sum(axis=1)
    return float(np.sqrt(max(np.median(norm[:, None] + norm[None, :] - 2 * block @ block.T), 1e-6)))


def _whole_groups(groups: Sequence[str], limit: int, seed: int) -> np.ndarray:
    """Indices of all tracks, or of about ``limit`` tracks in whole, randomly drawn groups."""
    if len(groups) <= limit:
        return np.arange(len(groups))
    names, index, sizes = np.unique(np.asarray(groups, object).astype(str), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = order[np.cumsum(sizes[order]) <= limit]
    return np.flatnonzero(np.isin(index, taken))


@lru_cache(maxsize=32)
def directions(seed: int, size: int, count: int) -> np.ndarray:
    """(size, count) float32: normal directions, orthogonalised in blocks, which approximates a kernel better (Yu et al.
    2016, NeurIPS). From the bits of a counter-based generator, which are the same in all versions of NumPy."""
    bits = np.random.Philox(key=seed)

    def uniform(n: int) -> np.ndarray:
        return (np.asarray(bits.random_raw(n) >> np.uint64(11), float) + 0.5) / 2.0**53

    def normal(n: int) -> np.ndarray:  # Box & Muller 1958
        drawn: np.ndarray = np.sqrt(-2 * np.log(uniform(n))) * np.cos(2 * np.pi * uniform(n))
        return drawn

    parts = []
    for first in range(0, count, size):
        q, _ = np.linalg.qr(normal(size * size).reshape(size, size))
        lengths = np.sqrt(np.square(normal(size * size)).reshape(size, size).sum(axis=0))
        parts.append((q * lengths)[:, : count - first])
    made: np.ndarray = np.concatenate(parts, axis=1).astype(np.float32)
    return made


REGRESSOR = Kernel
