"""Transforms, moving windows and assignments without SciPy, beside SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.optimize import linear_sum_assignment

from mer_ray.features import fourier, moving
from mer_ray.features.logmel import Params as LogMel
from mer_ray.features.logmel import load, resolve
from mer_ray.features.rhythm import Params as RhythmParams
from mer_ray.features.rhythm import Rhythm
from mer_ray.features.rhythm import resolve as resolve_rhythm
from mer_ray.features.tonal import Params as TonalParams
from mer_ray.features.tonal import Tonal
from mer_ray.features.tonal import resolve as resolve_tonal
from mer_ray.models import passages
from mer_ray.scoring.assignment import assigned

seeds = st.integers(0, 2**32 - 1)


def numpys(monkeypatch):
    monkeypatch.setattr(fourier, "_library", lambda: np.fft)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis", "n"), [((64, 2048), 1, None), ((7, 33, 3), 1, 40), ((5, 100), -1, 64)])
def test_both_libraries_transform_alike_and_keep_the_precision(shape, axis, n, dtype, monkeypatch):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    spectrum = fourier.rfft(x, n, axis)
    length = n or shape[axis]
    back = fourier.irfft(spectrum, length, axis)
    numpys(monkeypatch)
    ours, returned = fourier.rfft(x, n, axis), fourier.irfft(spectrum, length, axis)
    assert ours.dtype == spectrum.dtype == np.result_type(dtype, np.complex64)
    assert returned.dtype == back.dtype == dtype
    assert np.abs(ours - spectrum).max() <= 1e-6 * np.abs(spectrum).max()
    assert np.abs(returned - back).max() <= 1e-6 * np.abs(back).max()
    power = np.square(np.abs(spectrum))
    assert fourier.irfft(power, length, axis).dtype == dtype


def test_features_and_statistics_are_the_same_to_a_millionth(monkeypatch):
    """Of their range: what a model reads, with one library and with the other."""
    sound = np.random.default_rng(1).standard_normal(22_050 * 12).astype(np.float32) * 0.1
    sound *= (np.arange(len(sound)) % 11_025 < 3_000).astype(np.float32) + 0.1  # a beat

    def made():
        rows = []
        for extractor in (
            load(resolve(LogMel())),
            Rhythm(resolve_rhythm(RhythmParams())),
            Tonal(resolve_tonal(TonalParams())),
        ):
            stream = extractor.start()
            stream.push(sound)
            stream.finish()
            rows.append(stream.frames())
        x = np.random.default_rng(2).standard_normal((500, 20)).astype(np.float32)
        rows.append(passages.statistics(x, np.eye(20, 8, dtype=np.float32), passages.grid(500, 100, 0.023), 0.023))
        return rows

    with_scipy = made()
    numpys(monkeypatch)
    for ours, theirs in zip(made(), with_scipy, strict=True):
        assert ours.dtype == theirs.dtype
        assert np.abs(ours - theirs).max() <= 1e-6 * np.ptp(theirs)


@given(st.integers(1, 100_000))
def test_a_fast_length_is_scipys(n):
    assert fourier.next_fast_len(n) == scipy.fft.next_fast_len(n, real=True)


@given(st.integers(0, 60), st.integers(1, 90), seeds)
def test_moving_windows_are_scipys(n, size, seed):
    x = np.random.default_rng(seed).standard_normal((n, 3))
    mean, largest = moving.moving_mean(x, size), moving.moving_max(x, size)
    if not n:
        assert len(mean) == len(largest) == 0
        return
    np.testing.assert_allclose(mean, uniform_filter1d(x, size, axis=0, mode="nearest"), atol=1e-9)
    assert (largest == maximum_filter1d(x, size, axis=0, mode="nearest")).all()


@given(st.integers(1, 12), st.integers(0, 12), st.booleans(), seeds)
def test_no_assignment_costs_less_than_ours(n, more, ties, seed):
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 4, (n, n + more)).astype(float) if ties else rng.random((n, n + more)) * 1e4
    costs[rng.random(costs.shape) < 0.2] += 1e9
    ours = assigned(costs)
    assert len(set(ours.tolist())) == n
    rows, columns = linear_sum_assignment(costs)
    assert costs[np.arange(n), ours].sum() == pytest.approx(costs[rows, columns].sum(), rel=1e-12)
