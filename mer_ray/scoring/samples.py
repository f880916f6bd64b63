"""Checks of samples that callers pass, since wrong ones would give plausible but wrong scores."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from mer_ray.audio.reader import HIGHEST_RATE_HZ
from mer_ray.errors import InputError, TrackError

HIGH, MOST_HIGH, HIGHEST = 1.5, 1e-3, 2.4
"""Full scale is 1, and unscaled integers go far beyond. But decoded MP3s of loud masters exceed it, too: of 472 clips
of 30 s, 92 go beyond ±1.5, in up to 0.6 of 1,000 samples, and one to 2.2. So values beyond ±1.5 are refused if they are
more than 1 of 1,000, and any beyond ±2.4."""

LOWEST_RATE_HZ = 1_000

WANTED = "give mono floating-point samples of shape (n,), full scale 1"


def checked(samples: Any, rate: Any) -> tuple[np.ndarray, int]:
    """(samples (n,) as float32, rate in hertz).

    Raises InputError for anything but mono audio at full scale 1 (integers, values beyond ±`HIGH`, another shape, a
    rate in kHz), and TrackError (too_short, not_finite).
    """
    return _samples(samples), _rate(rate)


def _samples(value: Any) -> np.ndarray:
    if isinstance(value, str | bytes | os.PathLike):
        raise InputError("samples are a name, not audio", "mer_ray.score(path) scores files")
    try:
        samples = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"samples make no array ({type(error).__name__}: {error})", WANTED) from error
    if samples.ndim != 1:
        raise InputError(f"samples must be mono, of shape (n,), not {samples.shape}", _to_mono(samples.shape))
    if len(samples) == 0:
        raise TrackError("too_short", "there are no samples: the array is empty")
    if samples.dtype.kind in "iu":
        raise InputError(f"samples are integers ({samples.dtype})", _to_full_scale(samples))
    if samples.dtype.kind != "f":
        raise InputError(f"samples are {samples.dtype}, not floating-point numbers", WANTED)
    if not np.isfinite(samples).all():
        raise TrackError("not_finite", "the samples hold NaN or infinite values")
    if (peak := _peak(samples)) > HIGHEST or (peak > HIGH and np.mean(np.abs(samples) > HIGH) > MOST_HIGH):
        raise InputError(f"samples reach {peak:,.6g}, and full scale is 1", _to_full_scale(samples))
    return samples.astype(np.float32, copy=False)


def _to_mono(shape: tuple[int, ...]) -> str:
    if len(shape) != 2:
        return WANTED
    axis = 0 if shape[0] < shape[1] else 1
    return f"take the mean of the channels, samples.mean(axis={axis})"


def _to_full_scale(samples: np.ndarray) -> str:
    """How to scale integers, or floating-point numbers made from integers, to full scale 1."""
    if samples.dtype == np.uint8:
        return "subtract 128, then divide by 128: (samples.astype('float32') - 128) / 128"
    bits = {"int8": 8, "int16": 16}.get(str(samples.dtype))
    if bits is None:
        peak = _peak(samples)
        bits = next((b for b in (16, 24, 32) if 2 ** (b - 8) < peak <= 2 ** (b - 1)), None)
    if bits is None:
        return "divide by the full scale of what they were made from (32768 for 16 bits), or by their peak"
    return f"divide by {2 ** (bits - 1)} if they were made from {bits} bits: samples / {2 ** (bits - 1)}"


def _peak(samples: np.ndarray) -> float:
    return max(float(samples.max()), -float(samples.min()))


def _rate(value: Any) -> int:
    try:
        rate = math.nan if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        return round(rate)
    hint = "give samples a second, as 44_100"
    if LOWEST_RATE_HZ <= 1_000 * rate <= 768_000 and rate >= 4:
        hint = f"it is meant in hertz, not kHz: {1_000 * rate:.0f}"
    raise InputError(f"rate {value!r} is no sample rate in hertz", hint)
