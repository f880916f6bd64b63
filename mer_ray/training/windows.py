"""Tracks of any length as windows of one length, so that a network is compiled for one shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def window_frames(window_s: float, hop_s: float) -> int:
    """T, the frames in a window; at least 1."""
    return max(1, round(window_s / hop_s))


def starts(n_frames: int, window: int) -> np.ndarray:
    """Where the windows of a track begin: half a window apart, the last one flush with the end. One if it is short."""
    if n_frames <= window:
        return np.zeros(1, int)
    hop = max(1, window // 2)
    return np.unique(np.append(np.arange(0, n_frames - window, hop), n_frames - window))


def cut(frames: np.ndarray, start: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """One window: frames (n, F) → (T, F) padded with zeros at its end, and its mask (T,)."""
    piece = frames[start : start + window]
    x = np.zeros((window, frames.shape[1]), np.float32)
    mask = np.zeros(window, np.float32)
    x[: len(piece)] = piece
    mask[: len(piece)] = 1
    return x, mask


def random_cuts(tracks: Sequence[np.ndarray], window: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A window of each track at a random place: (B, T, F) and mask (B, T)."""
    pairs = [cut(t, int(rng.integers(0, max(1, len(t) - window + 1))), window) for t in tracks]
    return np.stack([x for x, _ in pairs]), np.stack([m for _, m in pairs])


def all_cuts(tracks: Sequence[np.ndarray], window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every window of every track: (N, T, F), mask (N, T), and the track that each belongs to (N,)."""
    pairs, owner = [], []
    for index, track in enumerate(tracks):
        for start in starts(len(track), window):
            pairs.append(cut(track, int(start), window))
            owner.append(index)
    return np.stack([x for x, _ in pairs]), np.stack([m for _, m in pairs]), np.array(owner)
