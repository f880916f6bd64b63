"""Random windows of the training tracks, batch after batch, from where the frames lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mer_ray.training.placement import Placement
from mer_ray.training.windows import cut

RESIDENT_BYTES = 6 * 2**30
"""Frames up to this size are copied to the device, where a batch is cut by one compiled call."""
ON_CPU_BYTES = 2**28
"""The same where the device is the CPU: the copy would lie beside the frames that all trials of a node share."""


class Feed:
    """Batches of windows: ``cut(rows, rng)`` → x (B, T, F) and mask (B, T), a random window of each of those tracks.

    tracks: frames (n_i, F), as they come. scale: what standardises them. The frames lie on the device, end to end,
    where they fit and one device trains; otherwise each process cuts its own rows of the batch on its host. Both give
    the same numbers.
    """

    def __init__(
        self,
        tracks: Sequence[np.ndarray],
        window: int,
        placement: Placement,
        scale: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
    ) -> None:
        self.window, self.placement, self.scale = window, placement, scale
        self.lengths = np.array([len(t) for t in tracks])
        self.tracks: Sequence[np.ndarray] | None = tracks
        n_dims = tracks[0].shape[1]
        # The last track's window may reach beyond it.
        shape = (int(self.lengths.sum()) + window, n_dims)
        limit = min(RESIDENT_BYTES, ON_CPU_BYTES) if jax.default_backend() == "cpu" else RESIDENT_BYTES
        if placement.mesh is None and shape[0] * n_dims * 4 <= limit:
            self.first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
            frames = np.zeros(shape, np.float32)
            for first, track in zip(self.first, tracks, strict=True):
                frames[first : first + len(track)] = scale(track)
            self.frames = jnp.asarray(frames)
            self.tracks = None

    def cut(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Any, Any]:
        """rows: (B,) indices of tracks. Every process draws the same numbers."""
        starts = rng.integers(0, np.maximum(1, self.lengths[rows] - self.window + 1))
        if self.tracks is None:
            x, mask = _cut(self.frames, self.first[rows] + starts, self.lengths[rows] - starts, self.window)
            return x, mask
        mine = self.placement.rows(len(rows))
        pairs = [
            cut(self.scale(self.tracks[i][s : s + self.window]), 0, self.window)
            for i, s in zip(rows[mine], starts[mine], strict=True)
        ]
        return (
            self.placement.batch(np.stack([x for x, _ in pairs])),
            self.placement.batch(np.stack([mask for _, mask in pairs])),
        )


@partial(jax.jit, static_argnums=3)
def _cut(frames: jax.Array, first: jax.Array, left: jax.Array, window: int) -> tuple[jax.Array, jax.Array]:
    step = jnp.arange(window)
    mask = (step[None, :] < left[:, None]).astype(jnp.float32)
    # Whole windows are copied; the frames of the next track that a short one's window reaches are set to 0.
    x = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(frames, start, window))(first)
    return x * mask[:, :, None], mask
