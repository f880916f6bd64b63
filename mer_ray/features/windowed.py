"""Windows of several seconds, evenly spaced in time, for features that describe more than one frame.

Row i describes the ``window_s`` seconds around (i + 1/2) ``hop_s``. At the ends of the audio the window is moved
inwards, so that all are equally long; audio shorter than a window is described as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydantic import Field

from mer_ray.features import FeatureSpec
from mer_ray.features.stft import StftParams

BATCH = 16
"""Windows that are described together, to fit the processor's cache."""


class WindowParams(StftParams):
    """Settings of the windows, in seconds. ``hop_length`` is that of the short-time Fourier transform."""

    window_s: float = Field(10.0, ge=2, le=600)
    """Length of the windows that a row describes, in seconds."""
    hop_s: float = Field(1.0, ge=0.25, le=600)
    """Seconds between two rows."""

    @property
    def rate_hz(self) -> float:
        """Frames of the short-time Fourier transform in a second."""
        return self.sample_rate_hz / self.hop_length

    def window_spec(self, name: str, version: int, n_dims: int) -> FeatureSpec:
        """The feature's spec, with a row every ``hop_s``."""
        return replace(self.spec(name, version, n_dims), hop_s=self.hop_s)


def rows(
    values: np.ndarray, n_samples: int, params: WindowParams, describe: Callable[[np.ndarray], np.ndarray], n_dims: int
) -> np.ndarray:
    """values (T, C), a row for each frame of the transform → (n, n_dims) float32, one for each window.

    n is the duration over ``hop_s``, rounded, and at least 1; 0 where T is 0.
    describe: (N, C, W) windows → (N, n_dims).
    """
    if len(values) == 0:
        return np.zeros((0, n_dims), np.float32)
    first, width = _windows(len(values), n_samples / params.sample_rate_hz, params)
    windows = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(values.T), width, axis=1).swapaxes(0, 1)
    parts = [describe(np.ascontiguousarray(windows[first[i : i + BATCH]])) for i in range(0, len(first), BATCH)]
    return np.concatenate(parts).astype(np.float32)


def _windows(n_frames: int, duration_s: float, params: WindowParams) -> tuple[np.ndarray, int]:
    """The first frame of each window, and their length."""
    width = min(n_frames, max(1, round(params.window_s * params.rate_hz)))
    centres_s = (np.arange(max(1, round(duration_s / params.hop_s))) + 0.5) * params.hop_s
    first = np.round(centres_s * params.rate_hz - (width - 1) / 2).astype(int)
    return np.clip(first, 0, n_frames - width), width
