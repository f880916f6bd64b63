"""VGGish's view of sound: log-mel patches of 0.96 s.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP, with the numbers of the
AudioSet VGGish release: 25 ms periodic-Hann frames every 10 ms, magnitude spectrum, 64 HTK mel bands, ln(mel + 0.01).
Nothing is padded or centred: a patch depends on its own 15,600 samples alone, and long audio can be worked in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

SAMPLE_RATE_HZ = 16_000
FRAME = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
N_BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7_500.0
LOG_OFFSET = 0.01
PATCH_FRAMES = 96
PATCH_HOP = PATCH_FRAMES * HOP  # samples from patch to patch, 0.96 s
PATCH_SAMPLES = PATCH_HOP - HOP + FRAME  # samples that one patch sees: 15,600


def n_patches(n_samples: int) -> int:
    """Whole patches in ``n_samples`` samples at 16 kHz; 0 under 15,600."""
    n_frames = 1 + (n_samples - FRAME) // HOP if n_samples >= FRAME else 0
    return n_frames // PATCH_FRAMES


def piece(samples: np.ndarray, first: int, count: int) -> np.ndarray:
    """The samples that patches ``first`` to ``first + count - 1`` see: just enough for ``count`` patches."""
    start = first * PATCH_HOP
    return samples[start : start + (count - 1) * PATCH_HOP + PATCH_SAMPLES]


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(n,) samples in [-1, 1] at 16 kHz → (T, 64) natural log of mel magnitude + 0.01, float32.

    T is 1 + (n - 400) // 160. Raises ValueError unless the samples are one-dimensional floats, at least 400 of them.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating) or samples.size < FRAME:
        raise ValueError(f"VGGish wants (n,) floats with n >= {FRAME}, found {samples.dtype} of shape {samples.shape}")
    window, mel = _tables()
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    spectrum = np.fft.rfft(frames * window, N_FFT)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2)  # np.abs guards against overflow, and is slower for it
    result: np.ndarray = np.log(magnitude.astype(np.float32, copy=False) @ mel + np.float32(LOG_OFFSET))
    return result


def patches(samples: np.ndarray, first: int, count: int) -> np.ndarray:
    """Patches ``first`` to ``first + count - 1`` of (n,) samples: (count, 96, 64) float32."""
    return log_mel(piece(samples, first, count)).reshape(count, PATCH_FRAMES, N_BANDS)


def blocks(batch: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """All patches of all pieces of audio, in order, in blocks of ``size``; the last may be smaller.

    batch: samples of shapes (n_i,). Yields float32 arrays (size, 96, 64). Memory does not grow with the length of the
    audio.
    """
    block = np.empty((size, PATCH_FRAMES, N_BANDS), np.float32)
    filled = 0
    for samples in batch:
        done, n = 0, n_patches(samples.size)
        while done < n:
            count = min(size - filled, n - done)
            block[filled : filled + count] = patches(samples, done, count)
            done += count
            filled += count
            if filled == size:
                yield block
                block = np.empty_like(block)  # the network may still be reading the other one
                filled = 0
    if filled:
        yield block[:filled]


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """The HTK mel scale."""
    return 1_127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The periodic Hann window (400,) and the mel matrix (257, 64), float32."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
    bins = hz_to_mel(np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1))[:, None]
    edges = np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), N_BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    mel = np.maximum(0.0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
    mel[0] = 0.0  # as in HTK, the constant part belongs to no band
    return window.astype(np.float32), mel.astype(np.float32)
