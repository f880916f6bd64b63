"""Cuts tracks of any length into windows of one length, so that a network is compiled for one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mer_ray.features.joined import Frames
from mer_ray.models.passages import POINT_S
from mer_ray.models.regressor import TrackPrediction


def window_frames(window_s: float, hop_s: float) -> int:
    """T, the frames in a window; at least 1."""
    return max(1, round(window_s / hop_s))


def starts(n_frames: int, window: int) -> np.ndarray:
    """First frames of a track's windows: half a window apart, the last flush with the end. One for a short track."""
    if n_frames <= window:
        return np.zeros(1, int)
    hop = max(1, window // 2)
    return np.unique(np.append(np.arange(0, n_frames - window, hop), n_frames - window))


def all_starts(tracks: Sequence[Frames], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every window: the index of its track (W,), and its first frame (W,)."""
    firsts = [starts(len(track), window) for track in tracks]
    return np.repeat(np.arange(len(tracks)), [len(f) for f in firsts]), np.concatenate(firsts)


def cut(
    tracks: Sequence[Frames],
    owner: np.ndarray,
    first: np.ndarray,
    window: int,
    scale: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Windows from frames first[b] of tracks[owner[b]] on: x (B, T, F) float32, zeros behind the end, and mask (B, T).

    scale: applied to each window's frames (n, F), so that no scaled copy of a track is stored.
    """
    x = np.zeros((len(owner), window, tracks[0].shape[1]), np.float32)
    mask = np.zeros(x.shape[:2], np.float32)
    for row, (i, start) in enumerate(zip(owner.tolist(), first.tolist(), strict=True)):
        piece = tracks[i][start : start + window]
        x[row, : len(piece)] = scale(piece)
        mask[row, : len(piece)] = 1
    return x, mask


def track_means(values: np.ndarray, owner: np.ndarray, n_tracks: int) -> np.ndarray:
    """Mean per track: values (W, D), owner (W,) → (n_tracks, D)."""
    sums = np.zeros((n_tracks, values.shape[1]))
    np.add.at(sums, owner, values)
    means: np.ndarray = sums / np.bincount(owner, minlength=n_tracks)[:, None]
    return means


def curve(values: np.ndarray, n_frames: int, window: int, hop_s: float) -> tuple[np.ndarray, float]:
    """A point about every second from the values (w, D) of a track's windows: (n, D), and the seconds between points.

    Interpolated between the windows' centres, and constant before the first and after the last.
    """
    n_points = max(1, round(n_frames * hop_s / POINT_S))
    point_s = n_frames * hop_s / n_points
    first = starts(n_frames, window)
    middles = (first + np.minimum(first + window, n_frames)) / 2 * hop_s
    points = (np.arange(n_points) + 0.5) * point_s
    return np.stack([np.interp(points, middles, column) for column in values.T], axis=1), point_s


def predictions(values: np.ndarray, tracks: Sequence[Frames], window: int, hop_s: float) -> list[TrackPrediction]:
    """From the values (W, D) of all windows, in the order of `all_starts`. A track's value is their mean."""
    owner, _ = all_starts(tracks, window)
    means = track_means(values, owner, len(tracks))
    return [
        TrackPrediction(means[i], *curve(values[owner == i], len(track), window, hop_s))
        for i, track in enumerate(tracks)
    ]
