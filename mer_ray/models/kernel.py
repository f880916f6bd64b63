"""Kernel ridge regression on statistics of passages, with a sum of Gaussian kernels.

The model compares each passage of a track with the passages of its training tracks. It is exact for up to `SUPPORT`
training passages; beyond, they are represented by `SUPPORT` landmarks among them. For each dimension, the length scale
and the ridge penalty are selected on the training tracks that have a label of it, by folds that keep artists apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mer_ray.errors import InputError
from mer_ray.features.joined import Frames, span
from mer_ray.models import gaussian, passages
from mer_ray.models.curves import Curve, OverTime
from mer_ray.models.gaussian import LENGTH_SCALES, Kernels
from mer_ray.models.regressor import NOT_IN_AUDIO, Regressor, TrackPrediction, known_labels, names
from mer_ray.models.scaling import Scaler
from mer_ray.models.splits import grouped_folds
from mer_ray.models.statistics import PassageStatistics
from mer_ray.models.windows import all_starts, starts

DEFAULTS = {"window_s": 30.0}
CURVE_DEFAULTS = {"window_s": 6.0}
"""For labels over time, which longer passages average out; the modulation spectrum takes 6 s."""
SELECTS = (
    "the length scale l of the kernels exp(-d² / 2 (l m)²), m the median distance of passages, of several the mean, "
    "and the ridge penalty."
)
"""Describes `Kernel.chosen` in the model card."""

MAX_LABELLED = 8_192
"""Passages with labels of their own that are fitted at most, as memory grows with their number."""
SUPPORT = 4_096
"""Training passages with which a passage is compared at most."""
COARSE = 3.0
"""Weight of a coarse feature's only block (its frames are too far apart for modulation), relative to other blocks."""
RIDGE_ALPHAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Noise variance of a label, as a multiple of the variance that the kernel describes."""
DEFAULT_ALPHA = 0.4
"""Used if there is only one group, so that none can be selected."""
CLIP = 5.0
"""Statistics are clipped to so many standard deviations from the training tracks' mean."""
INNER_FOLDS = 5
MAX_SELECTION = 1_024
"""Training tracks for the selection at most, in whole groups: its time grows with the cube of their number."""
ROWS = 32
"""Tracks that are predicted together."""
EVERY = tuple(range(len(LENGTH_SCALES)))
PREFIX = "network."
"""Of the names of the model's own arrays."""


class Kernel(Regressor):
    """Statistics in blocks → kernels of each block and length scale → ridge regression."""

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
        """See `Regressor.fit`. ``curve`` is one row: the error on the training tracks, and that of the inner folds.

        With curves, each passage has a label of its own and is fitted as a track of one passage.
        """
        labels, weights = known_labels(labels, weights, groups, dimensions)
        over_time, used = OverTime(labels, curves), None
        if over_time:
            labels, owner, used = self._passage_labels(over_time, tracks, seed)
            weights, groups = weights[owner], [groups[i] for i in owner.tolist()]
            labels, weights = known_labels(labels, weights, groups, dimensions)
        scaler, known = Scaler.of(tracks, labels), np.isfinite(labels)
        y = np.nan_to_num(scaler.labels(labels).astype(np.float64))  # their weight is 0
        statistics, values, counts = self._window_statistics(scaler, tracks, seed)
        self.arrays = self._with(statistics)
        stored = np.clip(values, -CLIP, CLIP).astype(np.float16)  # half precision, as the model stores them
        if used is not None:
            stored, counts = stored[used], np.ones(len(used), int)
        medians = gaussian.median_distances(self._blocks(stored))
        selected, inner_errors = [_Selected(EVERY, DEFAULT_ALPHA)] * y.shape[1], np.full(y.shape[1], np.nan)
        for of_mask in np.unique(known, axis=1).T:  # one selection for all dimensions that the same tracks have
            rows, own = np.flatnonzero(of_mask), np.flatnonzero((known == of_mask[:, None]).all(axis=0))
            sample = rows[_whole_groups([groups[i] for i in rows.tolist()], MAX_SELECTION, seed)]
            of_sample = [groups[i] for i in sample.tolist()]
            if (folds := min(INNER_FOLDS, len(set(of_sample)))) > 1:
                fold = grouped_folds(of_sample, folds, seed, np.where(known, y, np.nan)[sample])
                grams, of_own = self._grams(medians, stored, counts, sample), np.ix_(sample, own)
                choices, inner_errors[own] = _select(grams, y[of_own], weights[of_own], fold)
                for d, choice in zip(own.tolist(), choices, strict=True):
                    selected[d] = choice
        self.arrays |= {
            "network.medians": medians,
            "network.mixtures": np.stack([self._mixture(s.scales) for s in selected]).astype(np.float32),
            "network.head.bias": np.average(y, axis=0, weights=weights).astype(np.float32),
        }
        fitted = self._solve(stored, counts, y, weights, [s.ridge_alpha for s in selected], seed)
        self.targets = (1,) * y.shape[1]
        self.curve = np.array([[np.mean(np.square(fitted - y)[known]), np.mean(inner_errors)]])
        of_names = zip(names(dimensions, y.shape[1]), selected, strict=True)
        self.chosen = {name: choice.to_json() for name, choice in of_names}
        return self

    def _passage_labels(
        self, over_time: OverTime, tracks: Sequence[Frames], seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The labels (n, D) of the passages that have any, `MAX_LABELLED` at most; their tracks; and their indices."""
        owner, first = all_starts(tracks, self.window)
        labels = over_time.of(owner, first * self.hop_s, (first + self.window) * self.hop_s)
        used = np.flatnonzero(np.isfinite(labels).any(axis=1))
        if not len(used):
            raise InputError(*NOT_IN_AUDIO)
        if len(used) > MAX_LABELLED:
            used = np.sort(np.random.default_rng(seed).choice(used, MAX_LABELLED, replace=False))
        return labels[used], owner[used], used

    def _grams(self, medians: np.ndarray, values: np.ndarray, counts: np.ndarray, sample: np.ndarray) -> np.ndarray:
        """The kernels of each length scale between some tracks: (scales, n, n). values (W, P), sample (n,)."""
        windows = self._blocks(values[np.isin(np.repeat(np.arange(len(counts)), counts), sample)])
        of_scales = Kernels(medians, np.stack([self._mixture((scale,)) for scale in EVERY]))
        return of_scales.of_tracks(windows, counts[sample], windows, counts[sample])

    def _solve(
        self,
        values: np.ndarray,
        counts: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        alphas: Sequence[float],
        seed: int,
    ) -> np.ndarray:
        """Store the support and its coefficients (W, D); the fitted values (N, D). values: (W, P), of all passages.

        A track that has no label of a dimension (weight 0) has no part in it: its coefficients are 0.
        """
        kernels, of_dimension = self._kernels
        bias, windows = self.arrays["network.head.bias"].astype(np.float64), self._blocks(values)
        fitted, exact = np.empty_like(y), len(values) <= SUPPORT
        chosen = np.arange(len(values))
        if not exact:
            chosen = np.sort(np.random.default_rng(seed).choice(chosen, SUPPORT, replace=False))
        support = self._blocks(values[chosen])
        coefficients = np.empty((len(chosen), y.shape[1]))
        for m in range(len(kernels.mixtures)):
            one = Kernels(kernels.medians, kernels.mixtures[m : m + 1])
            across = one.of_tracks(windows, counts, support, counts if exact else None)[0]
            among = across if exact else one.of_tracks(support, np.ones(len(chosen), int), support)[0]
            for d in np.flatnonzero(of_dimension == m).tolist():
                known = weights[:, d] > 0
                of_known = y[known, d] - bias[d], weights[known, d], alphas[d]
                if exact:
                    own = np.zeros(len(y))
                    own[known] = gaussian.ridge(across[np.ix_(known, known)], *of_known)
                    coefficients[:, d] = np.repeat(own / counts, counts)
                else:
                    own = gaussian.ridge_on_landmarks(across[known], among, *of_known)
                    coefficients[:, d] = own
                fitted[:, d] = across @ own + bias[d]
        self.arrays |= {"network.support": values[chosen], "network.coefficients": coefficients.astype(np.float32)}
        return fitted

    def predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        """See `Regressor.predict`. The prediction is the interquartile mean over the complete passages."""
        together = range(0, len(tracks), ROWS)  # statistics of all tracks may be as large as their frames
        return [p for i in together for p in self._predict(tracks[i : i + ROWS])]

    def _predict(self, tracks: Sequence[Frames]) -> list[TrackPrediction]:
        grids = [passages.grid(len(track), self.window, self.hop_s) for track in tracks]
        own = self.statistics
        raw = [own.raw(track, grid, self.hop_s) for track, grid in zip(tracks, grids, strict=True)]
        statistics = own.standardised(np.concatenate(raw))
        values = Scaler.from_arrays(self.arrays).vad(self._outputs(self._blocks(statistics)))
        out, start = [], 0
        for grid in grids:
            points = slice(start, start + grid.n_points)
            value = interquartile_mean(values[start : start + len(grid.first)][grid.whole])
            out.append(TrackPrediction(value, values[points], grid.hop_s, statistics[points].mean(axis=0)))
            start += len(grid.first)
        return out

    def _outputs(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Blocks (n, P_b) → (n, D), standardised."""
        kernels, of_dimension = self._kernels
        support, coefficients = self._blocks(self.arrays["network.support"]), self.arrays["network.coefficients"]
        out = np.empty((len(blocks[0]), coefficients.shape[1]), np.float32)
        for i in range(0, len(out), gaussian.ROWS):
            rows = slice(i, i + gaussian.ROWS)
            values = kernels([b[rows] for b in blocks], support)
            for d, m in enumerate(of_dimension):
                out[rows, d] = values[m] @ coefficients[:, d]
        return np.asarray(out + self.arrays["network.head.bias"])

    @property
    def _kernels(self) -> tuple[Kernels, np.ndarray]:
        """The distinct kernels of the dimensions, and which of them each dimension has (D,)."""
        distinct, of_dimension = np.unique(self.arrays["network.mixtures"], axis=0, return_inverse=True)
        return Kernels(self.arrays["network.medians"], distinct), of_dimension.reshape(-1)

    def _mixture(self, scales: Sequence[int]) -> np.ndarray:
        """The weights (blocks, scales) of the mean of some length scales."""
        share = np.isin(EVERY, scales) / len(scales)
        return np.asarray(self._block_weights[:, None] * share)

    @property
    def statistics(self) -> PassageStatistics:
        """The statistics that are the model's input."""
        return PassageStatistics.from_arrays(self.arrays, PREFIX)

    @property
    def _block_sizes(self) -> list[tuple[int, float]]:
        """The width of each block, and the hop of its feature."""
        features = zip(self.statistics.components, self.hops, strict=True)
        return [(size, hop_s) for c, hop_s in features for size in passages.block_sizes(len(c), hop_s)]

    @property
    def _block_weights(self) -> np.ndarray:
        """(blocks,): by the square root of their widths; the one block of a coarse feature counts `COARSE` times."""
        weights = [size**0.5 * (1 if passages.is_fine(hop_s) else COARSE) for size, hop_s in self._block_sizes]
        return np.asarray(np.array(weights) / sum(weights))

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
        ends = np.cumsum([size for size, _ in self._block_sizes])[:-1]
        return np.split(np.clip(statistics, -CLIP, CLIP), ends, axis=1)


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
    """(n, D) → (D,), a mean that is robust against a fade or one loud bar."""
    n = len(values)
    cut = n // 4
    return np.asarray(np.sort(values, axis=0)[cut : n - cut].mean(axis=0))


def _select(
    grams: np.ndarray, y: np.ndarray, weights: np.ndarray, fold: np.ndarray
) -> tuple[list[_Selected], np.ndarray]:
    """Each dimension's choice with the smallest error over inner folds, and those errors (D,).

    grams: (scales, N, N), of each length scale. y, weights: (N, D), of dimensions that all tracks have. fold: (N,).
    """
    choices = [*((scale,) for scale in EVERY), EVERY]
    error = np.zeros((len(choices), len(RIDGE_ALPHAS), y.shape[1]))
    for i, scales in enumerate(choices):
        gram = grams[list(scales)].mean(axis=0, dtype=np.float64)
        for f in range(fold.max() + 1):
            out = fold == f
            for j, predicted in enumerate(gaussian.ridge_path(gram, y, weights, ~out, RIDGE_ALPHAS)):
                error[i, j] += (np.square(predicted - y[out]) * weights[out]).sum(axis=0)
    best = [np.unravel_index(error[:, :, d].argmin(), error.shape[:2]) for d in range(y.shape[1])]
    errors = np.array([error[i, j, d] for d, (i, j) in enumerate(best)]) / weights.sum(axis=0)
    return [_Selected(choices[i], RIDGE_ALPHAS[j]) for i, j in best], errors


def _whole_groups(groups: Sequence[str], limit: int, seed: int) -> np.ndarray:
    """Indices of all tracks, or of at most ``limit``: whole, randomly drawn groups that fit, else the tracks of any."""
    if len(groups) <= limit:
        return np.arange(len(groups))
    names, index, sizes = np.unique(np.asarray(groups, object).astype(str), return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    taken, total = list[int](), 0
    for group in rng.permutation(len(names)).tolist():
        if total + sizes[group] <= limit:
            taken, total = [*taken, group], total + sizes[group]
    if not taken:  # each group has more tracks
        return np.sort(rng.choice(len(groups), limit, replace=False))
    return np.flatnonzero(np.isin(index, taken))


REGRESSOR = Kernel
