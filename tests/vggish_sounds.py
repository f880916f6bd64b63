"""Sounds and weights that the tests of VGGish share."""

from __future__ import annotations

import numpy as np

from mer_ray.errors import MerRayError
from mer_ray.features import vggish_network

RATE = 16_000


def sine(hertz: float, seconds: float, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seconds: float, seed: int, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def music(seconds: float, seed: int) -> np.ndarray:
    """Decaying harmonic notes on a noise floor: crude, but it changes from patch to patch as music does."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    x = 0.002 * rng.standard_normal(t.size)
    for start in np.arange(0, seconds, 0.4):
        pitch, loudness, age = 110 * 2 ** (rng.integers(0, 36) / 12), rng.uniform(0.02, 0.2), t - start
        note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in (1, 2, 3))
        x += (age >= 0) * loudness * np.exp(-4 * np.maximum(age, 0)) * note
    return x.astype(np.float32)


def windows(samples: np.ndarray) -> np.ndarray:
    """(n,) → (patches, 15600)."""
    return np.lib.stride_tricks.sliding_window_view(samples, 15_600)[::15_360].copy()


def weights_with_biases(seed: int) -> dict[str, np.ndarray]:
    """Full size, with biases that are not zero, so that a forgotten or misplaced one is seen."""
    result = vggish_network.random_weights(seed)
    for index, (name, array) in enumerate(result.items()):
        if array.ndim == 1:
            result[name] = np.random.default_rng(index).uniform(-0.2, 0.2, array.shape).astype(np.float32)
    return result


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, in SDs of what is wanted."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / wanted.std())


def assert_names_the_ways(error: MerRayError) -> None:
    """An error about missing weights says how to get some, in one line."""
    text = str(error)
    assert "\n" not in text
    for way in ("tfhub.dev", "extract.vggish.weights", "SavedModel folder", "vggish_model.ckpt", "TFHUB_CACHE_DIR"):
        assert way in text
