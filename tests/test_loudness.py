"""Loudness and true peak, beside FFmpeg's and beside sounds whose level is known."""

from __future__ import annotations

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import sounds
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.audio.decode import stream
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.isolated import Decoder
from mer_ray.audio.loudness import Loudness, Meter
from mer_ray.audio.true_peak import TAPS, TruePeak, phases


def measured(samples: np.ndarray, rate: int = 48_000, block: int = 1 << 17, layout: str = "") -> Loudness:
    meter = Meter(rate, samples.shape[1], layout)
    for start in range(0, len(samples), block):
        meter.add(samples[start : start + block])
    return meter.result()


def of_ffmpeg(path) -> tuple[float, float]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostats", "-i", str(path), "-af", "ebur128=peak=true"]
    said = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    summary = said[said.rindex("Summary") :]
    return tuple(float(re.search(rf"{name}:\s+(\S+) ", summary)[1]) for name in ("I", "Peak"))


def swelling(channels: int, rate: int, seconds: float = 3.0) -> np.ndarray:
    """Another tone in each channel, louder and softer, and noise: (n, channels) float32."""
    time = np.arange(round(seconds * rate)) / rate
    swell = (1 + np.sin(2 * np.pi * 0.6 * time)) / 2
    tones = [0.04 * (k + 1) * np.sin(2 * np.pi * 210 * (k + 1) * time) * swell for k in range(channels)]
    return (np.stack(tones, axis=1) + 0.2 * sounds.noise(seconds, rate, channels)).astype(np.float32)


FILES = [
    ("a.wav", 1, 8_000, ()),
    ("b.flac", 2, 44_100, ()),
    ("c.wav", 2, 192_000, ()),
    ("d.flac", 6, 48_000, ()),
    ("e.ogg", 2, 48_000, ()),
    ("f.ogg", 6, 48_000, ()),  # Vorbis has another order of channels
    ("g.m4a", 6, 48_000, ()),
    ("h.opus", 2, 48_000, ()),
    ("i.mp3", 1, 22_050, ()),
    ("j.mka", 8, 48_000, ("-c:a", "flac")),
]


@pytest.mark.parametrize(("name", "channels", "rate", "options"), FILES, ids=[f[0] for f in FILES])
def test_files_are_as_loud_as_ffmpeg_says(tmp_path, name, channels, rate, options):
    source = sounds.write(tmp_path / "source.wav", swelling(channels, rate), rate, "FLOAT")
    path = source if name.endswith("wav") else sounds.ffmpeg(source, tmp_path / name, *options)
    *_, last = stream(path, [22_050], loudness=True)
    loudness, peak = of_ffmpeg(path)
    assert last.loudness.integrated == pytest.approx(loudness, abs=0.1)
    assert last.loudness.true_peak == pytest.approx(peak, abs=0.15)


@given(gain=st.floats(-20, 20), channels=st.integers(1, 2))
@settings(max_examples=10, deadline=None)
def test_a_gain_in_decibels_adds_to_both(gain, channels):
    samples = swelling(channels, 48_000, 1.0)
    before, after = measured(samples), measured(samples * np.float32(10 ** (gain / 20)))
    assert after.integrated - before.integrated == pytest.approx(gain, abs=0.015)
    assert after.true_peak - before.true_peak == pytest.approx(gain, abs=1e-3)


@given(block=st.integers(1_000, 60_000))
@settings(max_examples=8, deadline=None)
def test_blocks_do_not_matter(block):
    samples = swelling(2, 48_000, 1.0)
    one, other = measured(samples, block=block), measured(samples)
    assert one.integrated == other.integrated
    assert one.true_peak == pytest.approx(other.true_peak, abs=1e-5)


def test_a_full_scale_tone_is_as_loud_as_the_recommendation_says():
    tone = sounds.tone(997.0, 2.0, 48_000, peak=1.0)[:, None]
    assert measured(tone).integrated == pytest.approx(-3.01, abs=0.02)
    assert measured(np.repeat(tone, 2, axis=1)).integrated == pytest.approx(0.0, abs=0.02), "two channels: 3 LU more"
    surround = np.zeros((len(tone), 6), np.float32)
    surround[:, 3:4] = tone
    assert measured(surround).integrated is None, "the channel of low effects does not count"
    surround[:, 4:5] = surround[:, 3:4]
    assert measured(surround).integrated == pytest.approx(-3.01 + 10 * np.log10(1.41), abs=0.05)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_a_peak_between_samples_is_found(rate):
    tone = np.sin(2 * np.pi * (np.arange(rate) / 4 + 1 / 8))[:, None].astype(np.float32)
    assert np.abs(tone).max() == pytest.approx(10 ** (-3.01 / 20), abs=1e-3)
    faded = tone * np.minimum(1, np.minimum(np.arange(rate), np.arange(rate)[::-1]) / 500)[:, None].astype(np.float32)
    assert measured(faded, rate).true_peak == pytest.approx(0.0, abs=0.12)


@given(seed=st.integers(0, 1_000), channels=st.integers(1, 3), n=st.integers(1, 5_000))
@settings(max_examples=25, deadline=None)
def test_what_is_left_out_holds_no_peak(seed, channels, n):
    drawn = np.random.default_rng(seed)
    samples = (drawn.standard_normal((n, channels)) * drawn.uniform(0, 1, (n, 1)) ** 4).astype(np.float32)
    found = TruePeak(48_000, channels)
    found.add(samples)
    found.pause()
    between = [
        np.convolve(channel, taps[::-1], "valid") if n >= TAPS else np.zeros(1)
        for channel in samples.T.astype(np.float64)
        for taps in phases(4)
    ]
    assert found.peak == pytest.approx(max(np.abs(samples).max(), *(np.abs(b).max() for b in between)), rel=1e-4)


@pytest.mark.parametrize(("cycles", "degrees"), [(1 / 4, 0), (1 / 4, 45), (1 / 6, 60), (1 / 8, 67.5)])
def test_the_true_peaks_of_ebu_tech_3341(cycles, degrees):
    """Its cases 15 to 18: -6.0 dBTP, +0.2 and -0.4 dB. The tones begin and end abruptly."""
    tone = 0.5 * np.sin(2 * np.pi * np.arange(48_000) * cycles + np.radians(degrees))
    peak = measured(np.stack([tone, tone], axis=1).astype(np.float32)).true_peak
    assert -6.4 <= peak <= -5.8
    twice = TruePeak(48_000, 1)
    for place in (tone[:10_001], tone[20_003:30_000]):
        twice.add(place[:, None].astype(np.float32))
        twice.pause()
    assert 20 * np.log10(twice.peak) == pytest.approx(-6.02, abs=0.02), "a cut makes no peak"


def test_silence_and_what_is_too_short_have_no_loudness():
    assert measured(np.zeros((48_000, 2), np.float32)) == Loudness(None, None)
    short = measured(swelling(2, 48_000, 0.3))
    assert short.integrated is None
    assert short.true_peak < 0
    assert measured(swelling(12, 48_000, 1.0)).integrated is None, "nobody knows where twelve channels are"


def test_the_child_process_sends_it_and_only_when_asked(tmp_path):
    path = sounds.write(tmp_path / "a.flac", swelling(2, 44_100), 44_100)
    with Decoder() as decoder:
        *others, last = decoder.stream(path, [22_050], loudness=True)
        assert last.loudness == [*stream(path, [22_050], loudness=True)][-1].loudness
        assert all(block.loudness is None for block in others)
        assert [*decoder.stream(path, [22_050])][-1].loudness is None


def test_an_excerpt_is_measured_alone(tmp_path):
    samples = np.concatenate([swelling(2, 44_100, 2.0), 0.01 * swelling(2, 44_100, 2.0)])
    path = sounds.write(tmp_path / "a.flac", samples, 44_100)
    whole, middle = ([*stream(path, [22_050], e, loudness=True)][-1].loudness for e in (None, Excerpt(1.0)))
    expected = measured(samples[66_150:110_250], 44_100)
    assert whole.integrated > middle.integrated
    assert middle.integrated == pytest.approx(expected.integrated, abs=0.2)
