"""VGGish's input: log-mel patches of 0.96 s.

Hershey et al. (2017), "CNN architectures for large-scale audio classification", ICASSP, with the numbers of the
AudioSet VGGish release: 25 ms periodic-Hann frames every 10 ms, magnitude spectrum, 64 HTK mel bands, ln(mel + 0.01).
Nothing is padded or centred: a patch depends on its own 15,600 samples alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mer_ray.features.fourier import rfft
from mer_ray.features.stft import hann

SAMPLE_RATE_HZ = 16_000
FRAME = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
N_BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7_500.0
LOG_OFFSET = 0.01
PATCH_FRAMES = 96
PATCH_HOP = PATCH_FRAMES * HOP  # samples from patch to patch, 0.96 s
PATCH_SAMPLES = PATCH_HOP - HOP + FRAME  # samples of one patch: 15,600


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(n,) samples in [-1, 1] at 16 kHz → (T, 64) natural log of mel magnitude + 0.01, float32.

    T is 1 + (n - 400) // 160. Raises ValueError unless the samples are one-dimensional floats, at least 400 of them.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating) or samples.size < FRAME:
        raise ValueError(f"VGGish wants (n,) floats with n >= {FRAME}, found {samples.dtype} of shape {samples.shape}")
    window, mel = tables()
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    # In float64: beside a loud sine, a float32 FFT changes silent bands by up to 0.0004.
    spectrum = rfft(frames * window, N_FFT).astype(np.complex64)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2)  # faster than np.abs, which avoids overflow
    result: np.ndarray = np.log(magnitude @ mel + np.float32(LOG_OFFSET))
    return result


def patches(windows: np.ndarray) -> np.ndarray:
    """(n, 15600) samples → (n, 96, 64) float32. One by one, so that rounding does not depend on the neighbours."""
    result = np.empty((len(windows), PATCH_FRAMES, N_BANDS), np.float32)
    for patch, window in zip(result, windows, strict=True):
        patch[:] = log_mel(window)
    return result


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """The HTK mel scale."""
    return 1_127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


@lru_cache(maxsize=1)
def tables() -> tuple[np.ndarray, np.ndarray]:
    """The periodic Hann window (400,) in float64, and the mel matrix (257, 64) in float32."""
    bins = hz_to_mel(np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1))[:, None]
    edges = np.linspace(hz_to_mel(LOW_HZ), hz_to_mel(HIGH_HZ), N_BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    mel = np.maximum(0.0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
    mel[0] = 0.0  # as in HTK, no band includes the constant part
    return hann(FRAME), mel.astype(np.float32)
