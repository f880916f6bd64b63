"""Statistics of overlapping passages of a track: level, spread, and modulation of each coefficient.

Modulation spectra of cepstral coefficients separate genres and moods that means and deviations do not (Lee et al. 2009,
IEEE Transactions on Multimedia 11(4), 670-682). All passages of a track share one set of cumulative sums, so that a
curve takes no more time than one value: frames are grouped into atoms of half a second, or of one frame where the hop
is longer, and a passage is a run of atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mer_ray.features.fourier import rfft

POINT_S = 1.0
"""Approximate time between two points of a curve."""
TEXTURE_S = 0.5
MIN_STRIDE = 4
MODULATION_S = 6.0
MAX_BANDS = 10
MAX_COMPONENTS = 40
FLOOR = 1e-3
"""Added before a logarithm."""
VARIANCE = 1e-6
"""Added to every variance."""
SEGMENTS = 32
"""Segments whose spectra are computed together, to fit the processor's cache."""


def is_fine(hop_s: float) -> bool:
    """Whether half a second has enough frames for modulation: spectra and cepstra, not embeddings."""
    return round(TEXTURE_S / hop_s) >= MIN_STRIDE


def segment_frames(hop_s: float) -> int:
    """Length of the segments of the modulation spectrum: the power of 2 nearest to 6 s."""
    return int(2 ** round(np.log2(MODULATION_S / hop_s)))


def band_edges(segment: int) -> list[int]:
    """Limits, in bins, of the modulation spectrum's bands, each half an octave or one bin wide."""
    edges = np.unique(np.round(np.geomspace(1, segment // 2, MAX_BANDS + 1)).astype(int))
    return [int(e) for e in edges]


def n_components(n_dims: int, hop_s: float) -> int:
    """K, the principal components whose modulation is described; 0 for embeddings."""
    return min(n_dims, MAX_COMPONENTS) if is_fine(hop_s) else 0


def block_sizes(n_dims: int, hop_s: float) -> list[int]:
    """Widths of the blocks of `statistics`, of which P is the sum."""
    k = n_components(n_dims, hop_s)
    if not k:
        return [n_dims]
    return [n_dims, k, k, k, 3 * k, k * (len(band_edges(segment_frames(hop_s))) - 1)]


def level_blocks(features: Sequence[tuple[int, float]]) -> list[slice]:
    """The columns of `statistics` that tell level and spread, block by block; for novelty.

    features: width and hop of the frames of each feature, in their order. Those blocks are the mean of the frames, and
    mean and deviation of their components; of features without components, the mean of the frames, but only where no
    feature has components: a network's frames react to what it was trained for, not to how audio was recorded.
    """
    fine, coarse, start = list[slice](), list[slice](), 0
    for n_dims, hop_s in features:
        sizes = block_sizes(n_dims, hop_s)
        ends = start + np.cumsum(sizes)
        blocks = [slice(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]
        (fine if is_fine(hop_s) else coarse).extend(blocks[:3])
        start = int(ends[-1])
    return fine or coarse


@dataclass(frozen=True)
class Grid:
    """How a track of ``n_frames`` is cut: atoms of ``size`` frames, and passages, which are runs of them.

    first, last: (n,) atoms, a passage is [first, last). whole: (n,), whether it has its full length. n_points: points
    of the curve, one for each of the first passages. hop_s: between two points; point i is at (i + 1/2) hop_s.
    """

    n_frames: int
    size: int
    first: np.ndarray
    last: np.ndarray
    whole: np.ndarray
    n_points: int
    hop_s: float

    @property
    def counts(self) -> np.ndarray:
        """(A,) frames of each atom: ``size``, but for the last one."""
        first = self.size * np.arange(-(-self.n_frames // self.size))
        return np.asarray(np.minimum(self.n_frames - first, self.size))

    @property
    def first_frame(self) -> np.ndarray:
        """(n,)."""
        return np.asarray(self.first * self.size)

    @property
    def last_frame(self) -> np.ndarray:
        """(n,), exclusive."""
        return np.asarray(np.minimum(self.last * self.size, self.n_frames))


def grid(n_frames: int, window: int, hop_s: float) -> Grid:
    """Passages of about ``window`` frames around points about a second apart.

    The passages of the first and the last point have half the length. If none is whole, the complete track is added
    as a last passage.
    """
    size = _atom(hop_s)
    atoms = -(-n_frames // size)
    step = max(1, round(POINT_S / (size * hop_s)))
    length = max(step, round(window / size))
    n = max(1, round(atoms / step))
    middle = (np.arange(n) + 0.5) * step
    first = np.floor(middle - length / 2).astype(int)
    last = first + length
    whole = (first >= 0) & (last <= atoms)
    first, last = np.clip(first, 0, atoms - 1), np.clip(last, 1, atoms)
    if not whole.any():
        first, last, whole = np.append(first, 0), np.append(last, atoms), np.append(whole, True)
    return Grid(n_frames, size, first, last, whole, n, step * size * hop_s)


def one_passage(n_frames: int, hop_s: float) -> Grid:
    """All frames as one passage."""
    size = _atom(hop_s)
    first, last = np.array([0]), np.array([-(-n_frames // size)])
    return Grid(n_frames, size, first, last, np.array([True]), 1, n_frames * hop_s)


def aligned(passages: Grid, hop_s: float, n_frames: int, other_hop_s: float) -> Grid:
    """The same passages for another feature of the track, of ``n_frames`` frames.

    Their times are rounded to its atoms, at least one atom each. A passage that ends with the track ends with each
    feature. hop_s, other_hop_s: seconds between frames of the passages' own feature, and of the other one.
    """
    size = _atom(other_hop_s)
    atoms, ratio = -(-n_frames // size), passages.size * hop_s / (size * other_hop_s)
    first, last = (np.rint(ends * ratio).astype(int) for ends in (passages.first, passages.last))
    first = np.minimum(first, atoms - 1)
    last = np.where(passages.last == len(passages.counts), atoms, np.clip(last, first + 1, atoms))
    return replace(passages, n_frames=n_frames, size=size, first=first, last=last)


def _atom(hop_s: float) -> int:
    return max(1, round(TEXTURE_S / hop_s)) if is_fine(hop_s) else 1


def statistics(x: np.ndarray, components: np.ndarray, grid: Grid, hop_s: float) -> np.ndarray:
    """x (n_frames, F) standardised, components (F, K) → (n, P) float32, a row for each passage, blocks side by side.

    Mean of the frames; then of their principal components the mean, the log deviation, the log deviation of the
    differences of neighbouring frames, over half seconds the deviation of their means and the mean and deviation of
    their deviations, and the modulation spectrum. K = 0, for embeddings: mean of the frames.
    """
    weights = grid.counts / grid.size
    level = _means(x, grid.size)
    if not components.shape[1]:
        return _mean_sd(weights, level, None, grid)[0].astype(np.float32)
    y = x @ components
    inner, inner_spread = _means(y, grid.size), _variances(y, grid.size)
    mean, sd = _mean_sd(weights, inner, inner_spread, grid)
    _, level_sd = _mean_sd(weights, inner, None, grid)
    texture = np.sqrt(inner_spread + VARIANCE)
    spread_mean, spread_sd = _mean_sd(weights, texture, None, grid)
    out = [
        _mean_sd(weights, level, None, grid)[0],
        mean,
        np.log(sd + FLOOR),
        np.log(_delta_sd(y, grid) + FLOOR),
        level_sd,
        spread_mean,
        spread_sd,
        _modulation(y, grid, segment_frames(hop_s)),
    ]
    return np.concatenate(out, axis=1).astype(np.float32)


def _means(x: np.ndarray, size: int) -> np.ndarray:
    """Means (A, F) of every ``size`` frames; the last atom may have fewer."""
    whole = len(x) // size
    parts = [x[: whole * size].reshape(whole, size, x.shape[1]).mean(axis=1)]
    if whole * size < len(x):
        parts.append(x[whole * size :].mean(axis=0, keepdims=True))
    return np.concatenate(parts).astype(np.float64)


def _variances(x: np.ndarray, size: int) -> np.ndarray:
    """Variances (A, F) within every ``size`` frames."""
    return np.asarray(np.maximum(_means(np.square(x), size) - np.square(_means(x, size)), 0))


def _sums(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Sums of rows [first, last): values (A, ...) float64 → (n, ...)."""
    total = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    return np.asarray(total[last] - total[first])


def _mean_sd(
    weights: np.ndarray, mean: np.ndarray, variance: np.ndarray | None, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each passage, from its atoms' weights (A,), means (A, F) and variances."""
    weight = _sums(weights, grid.first, grid.last)[:, None]
    square = np.square(mean) if variance is None else np.square(mean) + variance
    first, second = (_sums(weights[:, None] * v, grid.first, grid.last) / weight for v in (mean, square))
    return first, np.sqrt(np.maximum(second - np.square(first), 0) + VARIANCE)


def _delta_sd(y: np.ndarray, grid: Grid) -> np.ndarray:
    """Deviation (n, K) of the differences of neighbouring frames that both lie in the passage."""
    steps = np.zeros_like(y)
    np.subtract(y[1:], y[:-1], out=steps[1:])
    frames = (grid.last_frame - grid.first_frame)[:, None]
    # An atom's first difference involves the atom before it, so the passage's first one is left out.
    into = steps[grid.first_frame].astype(np.float64)
    sums, squares = (
        _sums(grid.counts[:, None] * _means(v, grid.size), grid.first, grid.last) for v in (steps, np.square(steps))
    )
    total = np.maximum(frames - 1, 1e-6)
    sums, squares = sums - into, squares - np.square(into)
    return np.asarray(np.sqrt(np.maximum(squares / total - np.square(sums / total), 0) + VARIANCE))


def _modulation(y: np.ndarray, grid: Grid, segment: int) -> np.ndarray:
    """Log power of each component in bands of modulation frequency: y (n_frames, K) → (n, bands K).

    Welch's method (1967): Hann windows of ``segment`` frames, half overlapping, each without its mean. Segments lie on
    one grid from the start of the track. Those that the track's end truncates belong to the last passages, with a lower
    weight, which is near 0 below half of the length.
    """
    n, hop = len(y), segment // 2
    count = -(-n // hop)
    share = np.minimum(n - hop * np.arange(count), segment) / segment
    weight = np.maximum(share - 0.5, 0) + 1e-3 * share
    bands = np.concatenate([_power(y, j, min(j + SEGMENTS, count), segment) for j in range(0, count, SEGMENTS)])
    first = -(-grid.first_frame // hop)
    last = np.where(grid.last_frame == n, count, (grid.last_frame - segment) // hop + 1)
    # A passage shorter than a segment has the nearest one.
    nearest = np.clip(np.round(((grid.first_frame + grid.last_frame) / 2 - hop) / hop).astype(int), 0, count - 1)
    short = last <= first
    first, last = np.where(short, nearest, np.minimum(first, count - 1)), np.where(short, nearest + 1, last)
    total = np.maximum(_sums(weight, first, last), 1e-9)[:, None]
    mean = _sums(weight[:, None] * bands.reshape(count, -1), first, last) / total
    return np.asarray(np.log(np.maximum(mean, 0) + FLOOR))


def _power(y: np.ndarray, first: int, last: int, segment: int) -> np.ndarray:
    """Power (S, bands, K) of the segments first to last."""
    hop, n = segment // 2, len(y)
    piece = y[first * hop : (last - 1) * hop + segment]
    padded = np.zeros((y.shape[1], (last - first + 1) * hop), np.float32)
    padded[:, : len(piece)] = piece.T
    there = (np.arange(padded.shape[1]) + first * hop < n).astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view
    pieces, mask = cut(padded, segment, axis=1)[:, ::hop], cut(there, segment)[::hop]
    mean = (pieces.sum(axis=2) / mask.sum(axis=1))[:, :, None]
    taper = np.hanning(segment + 1)[:-1].astype(np.float32) * mask
    squares = rfft((pieces - mean) * taper, axis=2).view(np.float32)
    np.square(squares, out=squares)
    edges = band_edges(segment)
    # Real and imaginary parts are interleaved; the part after the last band is dropped.
    bands = np.add.reduceat(squares, 2 * np.array(edges), axis=2)[:, :, :-1]
    bands /= np.diff(edges).astype(np.float32)
    bands /= np.maximum(np.square(taper).sum(axis=1), 1e-6)[:, None]
    return np.ascontiguousarray(bands.transpose(1, 2, 0), np.float64)
