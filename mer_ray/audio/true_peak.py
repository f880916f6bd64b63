"""True peak: the highest level between the samples too (ITU-R BS.1770-5, annex 2)."""

from __future__ import annotations

import math

import numpy as np

TAPS = 24
"""Of the interpolating filter, for each phase; the annex's example has 12."""
WIDE, BETA = 2.0, 7.0
"""Of its Kaiser window."""
WANTED_HZ = 192_000
"""The rate of interpolation, at least: the annex's four times 48 kHz."""
RUN = 24
"""Samples whose interpolated values one row of a matrix product gives."""
CHUNK = 32 * RUN
"""Samples that are interpolated, or left out, together."""


def phases(factor: int) -> np.ndarray:
    """(factor - 1, 24): a windowed sinc for each position between two samples, of unit gain at 0 Hz."""
    taps = np.arange(TAPS) - TAPS / 2 + 1
    distance = np.arange(1, factor)[:, None] / factor - taps
    window = np.i0(BETA * np.sqrt(np.maximum(0, 1 - np.square(WIDE * distance / TAPS))))
    filters = np.sinc(distance) * window
    return np.asarray(filters / filters.sum(axis=1, keepdims=True))


class TruePeak:
    """The true peak of samples that come in blocks.

    A chunk that cannot hold it, since the filter gains too little, is not interpolated; this changes no result.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._factor = math.ceil(WANTED_HZ / rate_hz)
        self._tail = np.zeros((channels, 0), np.float32)
        self.peak = 0.0
        """So far; full scale is 1."""
        if self._factor > 1:
            self._filters = filters = phases(self._factor)
            self._gain = float(np.abs(filters).sum(axis=1).max())
            matrix = np.zeros((RUN + TAPS - 1, RUN, self._factor - 1), np.float32)
            for i in range(RUN):
                matrix[i : i + TAPS, i] = filters.T
            self._matrix = matrix.reshape(len(matrix), -1)

    def add(self, samples: np.ndarray) -> None:
        """The next samples (n, channels), n > 0."""
        self.peak = max(self.peak, float(samples.max()), -float(samples.min()))
        if self._factor > 1:
            self._interpolate(np.concatenate([self._tail, samples.T], axis=1))

    def pause(self) -> None:
        """What follows does not continue what came before.

        Nothing is interpolated across such a cut, nor into silence before the beginning and after the end: the peaks
        that this would make are not those of the audio.
        """
        if self._tail.shape[1] >= TAPS:
            runs = np.lib.stride_tricks.sliding_window_view(self._tail, TAPS, axis=1)
            self.peak = max(self.peak, float(np.abs(runs @ self._filters.T).max()))
        self._tail = self._tail[:, :0]

    def _interpolate(self, joined: np.ndarray) -> None:
        """(channels, n) → the peak between them, but for the last ones, which are kept."""
        done = max(0, joined.shape[1] - TAPS + 1) // CHUNK * CHUNK
        self._tail = joined[:, done:].copy()
        if done == 0:
            return
        for channel in joined:
            chunks = channel[:done].reshape(-1, CHUNK)
            highest = np.maximum(chunks.max(axis=1), -chunks.min(axis=1))
            # The filter reads a little of the next chunk.
            next_one = np.append(highest, np.abs(channel[done:]).max())[1:]
            hot = np.flatnonzero(np.maximum(highest, next_one) * self._gain > self.peak)
            if len(hot):
                runs = np.lib.stride_tricks.sliding_window_view(channel, RUN + TAPS - 1)[:done:RUN]
                rows = runs.reshape(-1, CHUNK // RUN, runs.shape[1])[hot].reshape(-1, runs.shape[1])
                between = rows @ self._matrix
                self.peak = max(self.peak, float(between.max()), -float(between.min()))
