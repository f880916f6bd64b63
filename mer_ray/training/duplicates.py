"""Near-duplicates: the same recording in another encoding, at another level, cut differently, or part of another track.

Two such tracks have the same frames at some lag, whatever the feature is. So every pair is correlated at every lag:

1. A track becomes a sequence of points, four a second, of up to 32 numbers each. Frames are smoothed over half a
   second, so that frame boundaries do not matter; a high-pass removes changes slower than a few seconds, so that loud
   and soft parts alone are not similar; each dimension is standardised and clipped, so that none dominates; and the
   principal components are whitened, which separates different pieces of one style (the adaptive matched filter of
   Robey et al. 1992, IEEE TAES 28(1), 208-216).
2. The similarity of two tracks is the largest normalised cross-correlation, -1..1, over all lags at which they share
   `OVERLAP_S`. All pairs of a block are correlated together: the cross-spectra are one matrix product per frequency.

Every pair is compared. The time grows with the square of the catalogue and with the length of its tracks; the memory
is that of the sequences (15 kB for 30 s) and of two blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mer_ray.features.fourier import irfft, next_fast_len, rfft
from mer_ray.features.moving import moving_mean

THRESHOLD = 0.55
"""Of 472 real clips of 30 s, the most alike of different recordings reached 0.40 by MFCCs, 0.30 by log-mel, 0.43 by
chroma and 0.46 by spectral shape. Of 360 versions of them (MP3 at 64 and 128 kbit/s, Vorbis, half the level, 3 to 12 s
cut off, 10 s out of the middle, silence before them, 15 s of them before something else), each of these features found
all, the worst at 0.67, 0.66, 0.67 and 0.57. With hops of a second (YAMNet, VGGish), versions whose cuts differ by
half a frame can stay below: prefer a feature with a short hop."""

POINT_S = 0.25  # between two points of a sequence
SLOW_S = 4.0  # period of the slowest changes that count
SLOW_POINTS = 9  # the same in points, where frames are far apart
DIMS = 32  # at most
EXPLAINED = 0.95  # of the variance: the rest differs between encoders
CLIP = 3.0  # standard deviations
OVERLAP_S = 10.0
OVERLAP_SHARE = 0.8  # of the shorter track, where that is less than OVERLAP_S
OVERLAP_NUMBERS = 320  # points times dimensions at least: fewer are similar by chance
SAMPLE = 1000  # tracks from which the components are computed
SLACK = 1.1  # ratio of the lengths of a block's tracks, which are padded to one length
BLOCK = 128  # tracks
CELLS = 4_000_000  # pairs times lags of two blocks: 50 MB
SCREEN = 0.85  # of the threshold, as padding can lower a similarity by a tenth


class Duplicate(NamedTuple):
    """Tracks a < b by their positions in the list; similarity: threshold..1."""

    a: int
    b: int
    similarity: float


def near_duplicates(tracks: Sequence[np.ndarray], hop_s: float, threshold: float = THRESHOLD) -> list[Duplicate]:
    """The pairs whose similarity is at least ``threshold``, in order: frames (n_i, F), n_i > 0, ``hop_s`` apart.

    Tracks with fewer than 320 numbers (points times dimensions: 5 s of MFCCs) are not compared. 10,000
    tracks of 30 s take four to five minutes of one core; twice the tracks take four times as long.
    """
    point_s = hop_s * _frames_per_point(hop_s)
    projection = _learn(tracks, hop_s)
    if projection is None:
        return []
    sequences = [projection(_outline(t, hop_s)) for t in tracks]
    found = []
    for one, other in _block_pairs([len(s) for s in sequences]):
        for i, j in _screen([sequences[i] for i in one], [sequences[j] for j in other], point_s, SCREEN * threshold):
            a, b = sorted((one[i], other[j]))
            # A block with itself has each pair twice, and each track with itself.
            if a < b and (one is not other or one[i] == a):
                value = _similarity(sequences[a], sequences[b], point_s)
                if value >= threshold:
                    found.append(Duplicate(a, b, value))
    return sorted(found)


# tracks → sequences ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Projection:
    """scale: (F,), the inverse of each dimension's standard deviation. components: (F, D), whitened."""

    scale: np.ndarray
    components: np.ndarray

    def __call__(self, outline: np.ndarray) -> np.ndarray:
        """(n, F) → (n, D) float32."""
        projected: np.ndarray = _clipped(outline, self.scale) @ self.components
        return projected


def _frames_per_point(hop_s: float) -> int:
    return max(1, round(POINT_S / hop_s))


def _outline(track: np.ndarray, hop_s: float) -> np.ndarray:
    """Frames (n, F) → (m, F) float32, one row a point, band-passed."""
    step = _frames_per_point(hop_s)
    x = np.asarray(track, np.float64)  # the filters keep running sums
    if step > 1:
        for _ in range(2):  # a triangle two points wide
            x = moving_mean(x, step)
        x = x[step // 2 :: step]
    slow = max(SLOW_POINTS, round(SLOW_S / (step * hop_s)))
    fast: np.ndarray = (x - moving_mean(x, slow)).astype(np.float32)
    return fast


def _learn(tracks: Sequence[np.ndarray], hop_s: float) -> _Projection | None:
    """Compute the projection from tracks spread over the list; None where nothing varies."""
    chosen = np.unique(np.linspace(0, len(tracks) - 1, min(SAMPLE, len(tracks))).astype(int))
    outlines = [o for o in (_outline(tracks[i], hop_s) for i in chosen) if len(o)]
    if not outlines:
        return None
    n = sum(map(len, outlines))
    sd = np.sqrt(sum(np.square(o, dtype=np.float64).sum(axis=0) for o in outlines) / n)
    scale = np.divide(1, sd, out=np.zeros_like(sd), where=sd > 1e-9).astype(np.float32)
    covariance = np.zeros((len(sd), len(sd)))
    for outline in outlines:
        x = _clipped(outline, scale)
        covariance += x.T @ x / n
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:
        return None
    n_dims = min(DIMS, 1 + int(np.searchsorted(np.cumsum(values), EXPLAINED * values.sum())))
    return _Projection(scale, (vectors[:, :n_dims] / np.sqrt(values[:n_dims])).astype(np.float32))


def _clipped(outline: np.ndarray, scale: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(outline * scale, -CLIP, CLIP)
    return clipped


# pairs of sequences ------------------------------------------------------------------------------------------------


def _needed(shorter: int, n_dims: int, point_s: float) -> int:
    """Points that two tracks must share at a lag."""
    enough = min(round(OVERLAP_S / point_s), math.ceil(OVERLAP_SHARE * shorter))
    return max(math.ceil(OVERLAP_NUMBERS / n_dims), enough)


def _similarity(a: np.ndarray, b: np.ndarray, point_s: float) -> float:
    """The largest correlation of a (n, D) and b (m, D) over the lags."""
    needed = _needed(min(len(a), len(b)), a.shape[1], point_s)
    c, weight_a, weight_b = _correlations(a[None], b[None], needed)
    return float((c[:, 0, 0] * weight_a[:, 0] * weight_b[:, 0]).max())


def _screen(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray], point_s: float, threshold: float
) -> list[tuple[int, int]]:
    """Which pairs of two blocks can reach a similarity, with every track padded to the longest of its block."""
    needed = _needed(min(map(len, (*one, *other))), one[0].shape[1], point_s)
    c, weight_a, weight_b = _correlations(_padded(one), _padded(other), needed)
    best = np.zeros(c.shape[1:], np.float32)
    for lag in range(len(c)):
        layer = c[lag]
        layer *= weight_a[lag][:, None]
        layer *= weight_b[lag]
        np.maximum(best, layer, out=best)
    return list(zip(*(index.tolist() for index in np.nonzero(best >= threshold)), strict=True))


def _padded(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """(B, T, D), with zeros behind the shorter ones."""
    out = np.zeros((len(sequences), max(map(len, sequences)), sequences[0].shape[1]), np.float32)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return out


def _correlations(a: np.ndarray, b: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a (A, T, D), b (B, U, D) → products (L, A, B) at each of L lags, and the weights (L, A), (L, B) to norm them.

    A weight is one over the root of a track's energy in the shared part, or 0 where fewer than ``needed`` points are
    shared. Energy below half of a track's average counts as that half, so that two silences are not similar.
    """
    n, m = a.shape[1], b.shape[1]
    size = next_fast_len(n + m - 1)
    spectrum_a, spectrum_b = (rfft(x, size, axis=1).transpose(1, 0, 2) for x in (a, b))
    c = irfft(spectrum_a @ spectrum_b.conj().transpose(0, 2, 1), size, axis=0)
    lag = np.arange(size)
    lag = np.where(lag < n, lag, lag - size)  # a[t + lag] is paired with b[t]
    start, end = np.maximum(lag, 0), np.minimum(n, m + lag)
    usable = end - start >= needed
    start, end = np.where(usable, start, 0), np.where(usable, end, 0)
    shifts = (0, np.where(usable, lag, 0))
    weights = []
    for x, shift in zip((a, b), shifts, strict=True):
        energy = np.square(x, dtype=np.float64).sum(axis=2)
        sums = np.concatenate([np.zeros((len(x), 1)), energy.cumsum(axis=1)], axis=1)
        shared = sums[:, end - shift] - sums[:, start - shift]
        least = 0.5 * needed * energy.mean(axis=1, keepdims=True)
        root = np.sqrt(np.maximum(shared, least))
        weight = np.divide(1, root, out=np.zeros_like(root), where=usable & (root > 0))
        weights.append(np.ascontiguousarray(weight.T, dtype=np.float32))
    return c, weights[0], weights[1]


def _block_pairs(lengths: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs of blocks of tracks of similar lengths, which together contain every pair of tracks."""
    blocks: list[list[int]] = []
    for i in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: lengths[i]):
        block = blocks[-1] if blocks else []
        full = len(block) >= BLOCK or (block and lengths[i] > SLACK * lengths[block[0]])
        if not block or full or (len(block) + 1) ** 2 * 2 * lengths[i] > CELLS:
            blocks.append([i])
        else:
            block.append(i)
    for number, one in enumerate(blocks):
        for other in blocks[number:]:
            yield one, other
