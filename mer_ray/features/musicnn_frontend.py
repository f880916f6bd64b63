"""musicnn's input: log-mel patches of 3 s.

Pons & Serra (2019), with the numbers of the release (extractor.py): ``librosa.feature.melspectrogram`` at 16 kHz, with
periodic-Hann frames of 512 samples every 256, centred and padded by reflection, power in 96 of Slaney's mel bands,
rounded to float16, then log10(10000 x + 1).

Audio that is shorter than a patch is repeated, as log-mel frames: so the networks' training did ("repeat-pad" in the
release's config.json), while its extractor gives nothing. An incomplete patch after complete ones is dropped, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from mer_ray.features.fourier import rfft
from mer_ray.features.mel import slaney_bank
from mer_ray.features.musicnn_network import N_BANDS, PATCH_FRAMES
from mer_ray.features.stft import hann

SAMPLE_RATE_HZ = 16_000
N_FFT, HOP = 512, 256
PAD = N_FFT // 2  # samples of reflection at both ends
PATCH_HOP = PATCH_FRAMES * HOP  # samples from patch to patch: 47,872, 2.992 s
PATCH_SAMPLES = PATCH_HOP - HOP + N_FFT  # samples that one patch reads
LARGEST = float(np.finfo(np.float16).max)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The window (512,) and the bands' weights (257, 96), float32."""
    bank = slaney_bank(SAMPLE_RATE_HZ, N_FFT, N_BANDS, 0.0, SAMPLE_RATE_HZ / 2)
    return hann(N_FFT).astype(np.float32), np.ascontiguousarray(bank.T)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(n,) float32 samples at 16 kHz, padded, n >= 512 → (1 + (n - 512) // 256, 96) float32."""
    window, bank = _tables()
    frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
    spectrum = rfft(frames * window, axis=1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) @ bank
    np.minimum(power, LARGEST, out=power)
    rounded = power.astype(np.float16).astype(np.float32)
    result: np.ndarray = np.log10(rounded * np.float32(10_000) + np.float32(1))
    return result


class Patches:
    """Audio in blocks → the samples of each patch, padded. One buffer of one patch.

    every: patches to advance by: 2 leaves out one of two.
    """

    def __init__(self, every: int = 1) -> None:
        self._hop = every * PATCH_HOP
        self._window = np.zeros(PATCH_SAMPLES, np.float32)
        self._filled = PAD  # of the window; negative where samples are to be left out
        self._last = np.zeros(0, np.float32)  # the last samples, for the reflection at the end
        self._n_patches = 0

    def push(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """The next samples, of shape (n,) → the log-mel patches (187, 96) that are complete now.

        Exhaust it before the next call.
        """
        if samples.size:
            self._last = np.concatenate([self._last, samples[-PAD - 1 :]])[-PAD - 1 :]
        yield from self._feed(samples)

    def finish(self) -> Iterator[np.ndarray]:
        """End of the audio → the patches that it completes; a repeated one for audio that is shorter than a patch.

        None at all for up to 256 samples (16 ms), which have no reflection.
        """
        if self._last.size <= PAD:
            return
        yield from self._feed(self._last[-2::-1])
        if not self._n_patches:
            self._reflect()
            yield np.resize(log_mel(self._window[: self._filled]), (PATCH_FRAMES, N_BANDS))

    def _feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        while samples.size:
            left_out = min(max(-self._filled, 0), samples.size)
            self._filled += left_out
            samples = samples[left_out:]
            part = samples[: PATCH_SAMPLES - max(self._filled, 0)]
            self._window[self._filled : self._filled + part.size] = part
            self._filled += part.size
            samples = samples[part.size :]
            if self._filled == PATCH_SAMPLES:
                self._reflect()
                self._n_patches += 1
                yield log_mel(self._window)
                kept = max(PATCH_SAMPLES - self._hop, 0)
                self._window[:kept] = self._window[PATCH_SAMPLES - kept :]
                self._filled -= self._hop

    def _reflect(self) -> None:
        """Pad the start of the first patch, once its samples are there."""
        if self._n_patches == 0:
            self._window[:PAD] = self._window[2 * PAD : PAD : -1]
