"""The centred frames of audio that comes block by block: librosa's frames, to the bit the same however it is cut."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.features import chroma, logmel, mfcc, spectral
from mer_ray.features.stft import Cutter, hann, magnitude

SHAPES = st.tuples(st.integers(64, 600), st.integers(1, 900)) | st.just((70_000, 40_000)) | st.just((512, 140_000))
SOUND = np.random.default_rng(1).uniform(-1, 1, 300_000).astype(np.float32)


def cut(samples: np.ndarray, borders: list[int]) -> list[np.ndarray]:
    """The samples in blocks that end at the borders."""
    return np.split(samples, sorted(b % (len(samples) + 1) for b in borders))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 40_000), st.lists(st.integers(0, 1 << 20), max_size=6), st.booleans())
def test_frames_are_those_of_the_padded_whole(shape, n, borders, edge):
    n_fft, hop = shape
    if n_fft > 60_000 or hop > 100_000:
        n = min(len(SOUND), n * 7)
    samples = SOUND[:n]
    cutter = Cutter(n_fft, hop, edge)
    rows = [frames.copy() for block in cut(samples, borders) for frames in cutter.push(block)]
    rows += [frames.copy() for frames in cutter.finish()]
    if n <= n_fft // 2:
        assert cutter.n_frames == 0
        return
    padded = np.pad(samples, n_fft // 2, mode="edge" if edge else "constant")
    wanted = librosa.util.frame(padded, frame_length=n_fft, hop_length=hop, axis=0)
    assert cutter.n_frames == len(wanted)
    assert np.array_equal(np.concatenate(rows), wanted)


@pytest.mark.parametrize("n", [64, 2_048, 441])
def test_the_window_and_the_magnitudes_are_librosa_s(n):
    assert np.allclose(hann(n), librosa.filters.get_window("hann", n), rtol=0, atol=1e-15)
    frames = np.lib.stride_tricks.sliding_window_view(SOUND[:5_000], n)[::100]
    wanted = np.abs(librosa.stft(SOUND[:5_000], n_fft=n, hop_length=100, center=False)).T
    assert np.allclose(magnitude(frames, hann(n)), wanted, rtol=1e-5, atol=1e-6)


EXTRACTORS = {
    "mfcc": mfcc.Params(n_fft=512, hop_length=200),
    "logmel": logmel.Params(n_fft=2_048, hop_length=3_000, n_mels=30),
    "chroma": chroma.Params(),
    "spectral": spectral.Params(hop_length=700),
}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(EXTRACTORS)),
    st.integers(0, len(SOUND)),
    st.lists(st.integers(0, 1 << 20), max_size=8),
    st.integers(0, 3),
)
def test_no_bit_depends_on_how_the_audio_was_cut(name, n, borders, loudness):
    extractor = features.load(features.resolve(name, EXTRACTORS[name]))
    samples = SOUND[:n] * np.float32(100.0**-loudness)
    (whole,) = extractor([samples])
    stream, other = extractor.start(), extractor.start()
    for block in cut(samples, borders):
        lent = block.copy()
        stream.push(lent)
        lent[:] = np.nan  # the block is the caller's again
        other.push(SOUND[:999])  # what another stream of the extractor gets is nobody else's business
    stream.finish()
    other.finish()
    assert whole.dtype == np.float32
    assert whole.shape == (0 if n <= EXTRACTORS[name].n_fft // 2 else len(whole), extractor.spec.n_dims)
    assert np.array_equal(stream.frames(), whole)
