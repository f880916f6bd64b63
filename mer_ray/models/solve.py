"""The closed form of networks whose last layer is all that is learnt: kernel ridge regression in their own waves.

What is chosen (the bandwidth, and how much to smooth, for each dimension its own) is chosen inside the
training tracks, by folds that keep artists apart; the tracks that the model is judged on have no say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models import N_TARGETS
from mer_ray.models.kernel import Kernel
from mer_ray.models.layout import BANDWIDTHS, CLIP
from mer_ray.models.splits import grouped_folds
from mer_ray.models.statistics import components
from mer_ray.training.forward import flat, split
from mer_ray.training.member import Member, Scaler
from mer_ray.training.windows import cut, starts

SMOOTHING = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Variance of a label around its expectation, as a multiple of the variance of what the kernel describes."""
INNER_FOLDS = 5
MAX_CHOICE = 2_048
"""Choices are made on at most so many of the training tracks, whole artists: they take the cube of the number."""
BATCH = 32
CHUNK = 64


@dataclass(frozen=True)
class Choice:
    """bandwidths: mask over `BANDWIDTHS` of the kernels that are averaged. smoothing: one of `SMOOTHING`."""

    bandwidths: np.ndarray
    smoothing: float

    def to_json(self) -> dict[str, Any]:
        """As `Member.chosen` has it of a dimension."""
        return {"bandwidths": np.array(BANDWIDTHS)[self.bandwidths].tolist(), "smoothing": self.smoothing}


def solve(
    network: str,
    hop_s: float,
    window: int,
    tracks: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    seed: int,
    on_epoch: Callable[[int, float, float], None],
    weights: np.ndarray,
) -> Member:
    """A `Kernel` network fitted to tracks (n_i, F), labels (N, 3) in 0..1 and their weights (N, 3).

    groups: (N,), artists. on_epoch is called once, with the error on the training tracks and that of the inner folds,
    both MSEs of standardised labels.
    """
    scaler = Scaler.of(tracks, labels)
    targets = scaler.labels(labels).astype(np.float64)
    graph, state, rest = split(network, tracks[0].shape[1], hop_s, seed)
    module: Kernel = nnx.merge(graph, state, rest)
    scaled = [scaler.frames(t) for t in tracks]
    if module.n_components:
        module.components[...] = jnp.asarray(components(scaled, module.n_components, seed))
    values, owner = _statistics(module, scaled, window)
    _standardise(module, values)
    waves = _track_waves(module, values, owner, len(tracks))

    sample = _whole_groups(groups, MAX_CHOICE, seed)
    chosen, inner_error = _choose(waves[sample], targets[sample], weights[sample], [groups[i] for i in sample], seed)
    head, bias, fitted = np.zeros((*waves.shape[1:], N_TARGETS)), np.zeros(N_TARGETS), np.zeros_like(targets)
    for d, choice in enumerate(chosen):
        inputs = _inputs(waves, choice.bandwidths)
        coefficients, bias[d] = ridge(inputs, targets[:, d], weights[:, d], choice.smoothing)
        fitted[:, d] = inputs @ coefficients + bias[d]
        part = waves[0][:, choice.bandwidths]
        head[..., d][:, choice.bandwidths] = coefficients.reshape(part.shape) / np.sqrt(part[..., 0].size)
    module.head.kernel[...] = jnp.asarray(head.reshape(-1, N_TARGETS), jnp.float32)
    assert module.head.bias is not None
    module.head.bias[...] = jnp.asarray(bias, jnp.float32)
    on_epoch(0, float(np.mean(np.square(fitted - targets))), inner_error)
    told = {name: choice.to_json() for name, choice in zip(DIMENSIONS, chosen, strict=True)}
    return Member(flat(nnx.state(module, nnx.Param)), scaler, chosen=told)


def ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, smoothing: float) -> tuple[np.ndarray, float]:
    """Coefficients (P,) and bias that make the weighted squared error plus smoothing times their norm small.

    x (N, P), y and weight (N,). Solved over tracks or over inputs, whichever are fewer.
    """
    from scipy.linalg import cho_factor, cho_solve

    mean = float(np.average(y, weights=weight))
    if len(x) <= x.shape[1]:
        gram = (x @ x.T).astype(np.float64) + np.diag(smoothing / weight)
        return x.T @ cho_solve(cho_factor(gram), y - mean), mean
    weighted = x * weight[:, None]
    gram = (weighted.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += smoothing
    return cho_solve(cho_factor(gram), weighted.T @ (y - mean)), mean


def _choose(
    waves: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: Sequence[str], seed: int
) -> tuple[list[Choice], float]:
    """The choice of the smallest error over inner folds for each dimension, and the mean of those errors."""
    n = len(BANDWIDTHS)
    masks = [*np.eye(n, dtype=bool), np.ones(n, bool)]
    folds = min(INNER_FOLDS, len(set(groups)))
    if folds < 2:
        return [Choice(masks[-1], 0.8)] * targets.shape[1], float("nan")
    fold = grouped_folds(groups, folds, seed, targets)
    error = np.zeros((len(masks), len(SMOOTHING), targets.shape[1]))
    for i, mask in enumerate(masks):
        inputs = _inputs(waves, mask)
        gram = (inputs @ inputs.T).astype(np.float64)
        for f in range(folds):
            out = fold == f
            for j, predicted in enumerate(_smoothed(gram, targets, weights, ~out)):
                error[i, j] += (np.square(predicted - targets[out]) * weights[out]).sum(axis=0)
    best = [np.unravel_index(error[:, :, d].argmin(), error.shape[:2]) for d in range(targets.shape[1])]
    mean = float(np.mean([error[i, j, d] for d, (i, j) in enumerate(best)] / weights.sum(axis=0)))
    return [Choice(masks[i], SMOOTHING[j]) for i, j in best], mean


def _inputs(waves: np.ndarray, bandwidths: np.ndarray) -> np.ndarray:
    """(N, P) whose products are the mean of the blocks' kernels: waves (N, blocks, bandwidths, 2 W)."""
    chosen = waves[:, :, bandwidths]
    return chosen.reshape(len(waves), -1) / np.float32(np.sqrt(chosen.shape[1] * chosen.shape[2]))


def _smoothed(gram: np.ndarray, targets: np.ndarray, weights: np.ndarray, known: np.ndarray) -> list[np.ndarray]:
    """Predictions (M, 3) of the tracks that are not known, for each of `SMOOTHING`.

    gram (N, N), targets and weights (N, 3), known (N,). One eigendecomposition serves all; so it does all dimensions
    where these are weighted alike.
    """
    inside, across = gram[np.ix_(known, known)], gram[np.ix_(~known, known)]
    alike = bool(np.all(weights == weights[:, :1]))
    out = np.empty((len(SMOOTHING), len(across), targets.shape[1]))
    for columns in [slice(None)] if alike else [slice(d, d + 1) for d in range(targets.shape[1])]:
        root, y = np.sqrt(weights[known, columns][:, 0]), targets[known, columns]
        mean = np.average(y, axis=0, weights=root**2)
        values, vectors = np.linalg.eigh(inside * root[:, None] * root[None, :])
        left, right = (across * root) @ vectors, vectors.T @ ((y - mean) * root[:, None])
        for j, smoothing in enumerate(SMOOTHING):
            out[j][:, columns] = left @ (right / (values + smoothing)[:, None]) + mean
    return list(out)


def _statistics(module: Kernel, tracks: Sequence[np.ndarray], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics (W, P) of every window, and the track that each belongs to."""
    graph, state = nnx.split(module)
    places = [(i, int(s)) for i, track in enumerate(tracks) for s in starts(len(track), window)]
    out = []
    for first in range(0, len(places), BATCH):
        pairs = [cut(tracks[i], s, window) for i, s in places[first : first + BATCH]]
        pairs += [pairs[-1]] * (BATCH - len(pairs))
        out.append(np.asarray(_blocks(graph, state, np.stack([x for x, _ in pairs]), np.stack([m for _, m in pairs]))))
    return np.concatenate(out)[: len(places)], np.array([i for i, _ in places])


@partial(jax.jit, static_argnums=0)
def _blocks(graph: Any, state: Any, x: jax.Array, mask: jax.Array) -> jax.Array:
    module: Kernel = nnx.merge(graph, state)
    return jnp.concatenate(module.blocks(x, mask), axis=-1)


@partial(jax.jit, static_argnums=0)
def _waves(graph: Any, state: Any, values: jax.Array) -> jax.Array:
    module: Kernel = nnx.merge(graph, state)
    return module.waves(values)


def _standardise(module: Kernel, values: np.ndarray) -> None:
    """Sets shift, scale and each block's median distance from statistics (W, P)."""
    sd = values.std(axis=0)
    module.shift[...] = jnp.asarray(values.mean(axis=0))
    module.scale[...] = jnp.asarray(np.where(sd > 1e-6, sd, 1))
    scaled = np.clip((values - np.asarray(module.shift)) / np.asarray(module.scale), -CLIP, CLIP)
    some = scaled[:: max(1, len(scaled) // 1_000)].astype(np.float64)
    reach = []
    for block in np.split(some, module.ends, axis=1):
        norm = np.square(block).sum(axis=1)
        distances = norm[:, None] + norm[None, :] - 2 * block @ block.T
        reach.append(np.sqrt(max(np.median(distances), 1e-6)))
    module.reach[...] = jnp.asarray(reach, jnp.float32)


def _track_waves(module: Kernel, values: np.ndarray, owner: np.ndarray, n_tracks: int) -> np.ndarray:
    """Each track's mean over its windows: (N, blocks, bandwidths, 2 W) float32. The head's answer is linear in it."""
    graph, state = nnx.split(module)
    total: np.ndarray | None = None
    for first in range(0, len(values), CHUNK):
        part = values[first : first + CHUNK]
        made = np.asarray(_waves(graph, state, np.pad(part, ((0, CHUNK - len(part)), (0, 0)))))
        total = np.zeros((n_tracks, *made.shape[1:]), np.float32) if total is None else total
        for row, track in zip(made, owner[first : first + CHUNK], strict=False):
            total[track] += row
    assert total is not None
    return total / np.bincount(owner, minlength=n_tracks)[:, None, None, None].astype(np.float32)


def _whole_groups(groups: Sequence[str], limit: int, seed: int) -> np.ndarray:
    """Indices of all tracks, or of those of as many randomly drawn groups as make about ``limit``."""
    if len(groups) <= limit:
        return np.arange(len(groups))
    names, index, sizes = np.unique(np.asarray(groups, object).astype(str), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = order[np.cumsum(sizes[order]) <= limit]
    return np.flatnonzero(np.isin(index, taken))
