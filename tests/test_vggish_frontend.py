"""VGGish's log-mel patches, against their definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from vggish_sounds import RATE, music, noise, sine, windows

from mer_ray.features import vggish_frontend, vggish_network


def reference_log_mel(samples: np.ndarray) -> np.ndarray:
    """The definition, in float64, with loops and a discrete Fourier transform written out."""
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / 400) for i in range(400)])
    dft = np.exp(-2j * math.pi * np.outer(np.arange(400), np.arange(257)) / 512)
    mel = [1127 * math.log(1 + k * RATE / 512 / 700) for k in range(257)]
    low, high = 1127 * math.log(1 + 125 / 700), 1127 * math.log(1 + 7500 / 700)
    step = (high - low) / 65
    weights = np.zeros((257, 64))
    for k in range(1, 257):
        for band in range(64):
            weights[k, band] = max(0.0, 1 - abs(mel[k] - (low + (band + 1) * step)) / step)
    rows = []
    for start in range(0, samples.size - 399, 160):
        rows.append(np.log(np.abs((samples[start : start + 400].astype(np.float64) * window) @ dft) @ weights + 0.01))
    return np.array(rows)


SOUNDS = [noise(1.3, 1), noise(1, 2, 1e-4), sine(440, 1.1), music(2, 3), np.zeros(RATE, np.float32)]


@pytest.mark.parametrize("sound", SOUNDS)
def test_log_mel_is_its_definition(sound: np.ndarray) -> None:
    found = vggish_frontend.log_mel(sound)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference_log_mel(sound), atol=1e-6)


@pytest.mark.parametrize("sound", SOUNDS)
def test_log_mel_in_jax_is_the_same(sound: np.ndarray) -> None:
    found = np.asarray(vggish_network.log_mel(windows(sound)))
    np.testing.assert_allclose(found, vggish_frontend.patches(windows(sound)), atol=1e-3)  # its FFT is float32


def test_a_patch_is_the_log_mel_of_its_own_samples() -> None:
    sound = music(5, 4)
    found = vggish_frontend.patches(windows(sound))
    np.testing.assert_allclose(found.reshape(-1, 64), vggish_frontend.log_mel(sound)[: 96 * 5], atol=2e-5)
    np.testing.assert_array_equal(vggish_frontend.patches(windows(sound)[[4, 1]]), found[[4, 1]])
    assert vggish_frontend.patches(windows(sound)[:0]).shape == (0, 96, 64)


def test_a_sine_lights_the_band_that_its_frequency_lies_in() -> None:
    # Periodic Hann windows of 400 sum to 200, and 1 kHz is bin 32 of 512 exactly: its magnitude is 100.
    mel = np.exp(vggish_frontend.log_mel(sine(1_000, 3)).astype(np.float64)) - 0.01
    position = (1127 * math.log(1 + 1_000 / 700) - 1127 * math.log(1 + 125 / 700)) / (
        (1127 * math.log(1 + 7_500 / 700) - 1127 * math.log(1 + 125 / 700)) / 65
    )  # in bands, from the lower edge of band 0; band b peaks at b + 1
    below = int(position) - 1
    assert set(mel.mean(0).argsort()[-2:]) == {below, below + 1}
    assert mel.shape == (298, 64)
    assert np.allclose(mel, mel[0], atol=0.02)  # 10 ms are ten whole periods
    share = position - int(position)
    assert mel[0, below] > 100 * (1 - share)
    assert mel[0, below + 1] > 100 * share


def test_silence_is_the_logarithm_of_the_offset() -> None:
    assert np.all(vggish_frontend.log_mel(np.zeros(RATE, np.float32)) == np.float32(np.log(np.float32(0.01))))


def test_magnitude_not_power() -> None:
    quiet, loud = (np.exp(vggish_frontend.log_mel(noise(1, 4, a)).astype(np.float64)) - 0.01 for a in (0.1, 0.2))
    np.testing.assert_allclose(loud, 2 * quiet, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("shape", "dtype"), [((RATE,), np.int16), ((RATE, 2), np.float32), ((399,), np.float32)])
def test_log_mel_refuses_what_is_no_mono_waveform(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match="floats"):
        vggish_frontend.log_mel(np.zeros(shape, dtype))
