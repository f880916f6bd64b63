"""Runs a function of a waveform on audio of any length, in overlapping pieces.

The function is a black box: (n,) float32 samples → (N, F) float32 frames. If its hop and the context of a frame are
known, pieces with enough overlap give the frames of the whole audio in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mer_ray.errors import ModelError

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Framing:
    """n_dims: F. hop: samples between the starts of two frames.

    context: hops before and after its own that a frame depends on: frame i depends on the samples
    [(i - context) * hop, (i + 1 + context) * hop) alone. None: on the whole audio; ``hop`` then has no effect.
    """

    n_dims: int
    hop: int
    context: int | None


class Pieces:
    """Runs the function on one track, in pieces of ``k`` frames and their context.

    The borders of pieces depend on the framing and ``k`` alone, so the frames do not depend on the blocks of `push`.
    """

    def __init__(self, run: Run, framing: Framing, k: int) -> None:
        self._run = run
        self._framing = framing
        self._context = framing.context or 0
        self._k = max(k, self._context + 1)
        self._done = 0  # leading frames of the buffered audio that are computed already: context for the next ones
        self._blocks: list[np.ndarray] = []
        self._size = 0
        self.n_samples = 0
        self._frames = [np.zeros((0, framing.n_dims), np.float32)]

    def push(self, samples: np.ndarray) -> None:
        """The next samples (n,), which are copied."""
        self._blocks.append(np.array(samples, np.float32))
        self._size += samples.size
        self.n_samples += samples.size
        if self._framing.context is not None and self._size >= self._needed():
            self._work()

    def finish(self) -> np.ndarray:
        """All frames, (N, F)."""
        rest = np.concatenate([*self._blocks, np.zeros(0, np.float32)])
        self._blocks = []
        if self.n_samples:
            self._frames.append(self._run(rest)[self._done :])
        return np.concatenate(self._frames)

    def _needed(self) -> int:
        # One hop more than the piece itself, so that at least one frame is left for the last run: a function would pad
        # or refuse a shorter rest.
        return (self._done + self._k + 1 + self._context) * self._framing.hop

    def _work(self) -> None:
        audio = np.concatenate(self._blocks)
        hop, start = self._framing.hop, 0
        while audio.size - start >= self._needed():
            frames = self._run(audio[start : start + self._needed() - hop])
            end = self._done + self._k
            if len(frames) < end:
                raise ModelError(f"made {len(frames)} frames of a piece that has {end}")
            self._frames.append(frames[self._done : end])
            start += (end - self._context) * hop
            self._done = self._context
        self._blocks = [audio[start:].copy()]
        self._size = audio.size - start
