"""Decoding: every way in which audio is bad has its reason, and good audio comes out as it is."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sounds
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.audio.decode import EXTENSIONS, decode, probe, resample
from mer_ray.audio.location import is_url, local_copy, to_path, to_uri
from mer_ray.errors import TrackError

BAD = {
    "missing.wav": (lambda path: path, "missing", "missing"),
    "folder.mp3": (lambda path: path.mkdir(), "missing", "missing"),
    "link.wav": (sounds.broken_link, "missing", "missing"),
    "pipe.wav": (os.mkfifo, "missing", "missing"),
    "zero.ogg": (sounds.empty, "empty", "empty"),
    "header.wav": (sounds.header_only, "empty", "empty"),
    "text.mp3": (sounds.text, "corrupt", "corrupt"),
    "cut.flac": (sounds.truncated, None, "corrupt"),
    "cut.ogg": (partial(sounds.truncated, share=0.1), "corrupt", "corrupt"),
    "cut.mp3": (partial(sounds.truncated, share=0.02), "corrupt", "corrupt"),
    "boast.flac": (sounds.boastful_flac, None, "corrupt"),
    "nan.wav": (sounds.not_finite, None, "not_finite"),
    "inf.wav": (partial(sounds.not_finite, value=np.inf), None, "not_finite"),
    "short.wav": (lambda path: sounds.write(path, sounds.tone(seconds=0.2)), None, "too_short"),
    "silent.wav": (lambda path: sounds.write(path, np.zeros(sounds.RATE)), None, "silent"),
    "hush.wav": (lambda path: sounds.write(path, sounds.tone(peak=5e-4)), None, "silent"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_its_reason(tmp_path, name):
    make, probed, decoded = BAD[name]
    make(tmp_path / name)
    for read, reason in ((probe, probed), (partial(decode, min_duration_s=0.5), decoded)):
        if reason is None:
            read(tmp_path / name)  # the header alone looks sound
            continue
        with pytest.raises(TrackError) as caught:
            read(tmp_path / name)
        assert caught.value.reason == reason
        assert name in caught.value.message
        assert caught.value.message.isprintable()
        assert not caught.value.transient


@pytest.mark.parametrize("name", ["nul\0.wav", "x" * 300 + ".wav", "\ud800.wav"])
def test_a_name_that_no_disk_takes_is_a_track_error(name):
    with pytest.raises(TrackError) as caught:
        decode(name)
    assert caught.value.reason in ("missing", "unreadable")
    assert caught.value.message.isprintable()


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = sounds.write(tmp_path / "secret.wav", sounds.tone())

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TrackError, match=r"unreadable: .*secret\.wav cannot be opened .*Permission denied"):
        decode(path)


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_of_a_stream_that_breaks_off_the_beginning_is_used(tmp_path, suffix):
    samples, rate = decode(sounds.truncated(tmp_path / f"cut{suffix}", 0.6))
    assert 1.0 < len(samples) / rate < 3.5
    assert np.isfinite(samples).all()
    assert 0.05 < samples.std() < 0.2


@pytest.mark.parametrize("suffix", sorted(sounds.FORMATS))
def test_a_tone_survives_every_container(tmp_path, suffix):
    path = sounds.write(tmp_path / f"tone{suffix}", sounds.tone(440, 2.0))
    assert suffix in EXTENSIONS
    probed = probe(path)
    samples, rate = decode(path)
    assert (probed.sample_rate, probed.channels, rate) == (sounds.RATE, 1, sounds.RATE)
    assert probed.duration_s == pytest.approx(2.0, abs=0.06)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(2 * sounds.RATE, abs=2_500)
    assert dominant_hz(samples, rate) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_mono_is_the_mean_of_the_channels(tmp_path, channels):
    written = sounds.noise(0.3, channels=channels)
    samples, _ = decode(sounds.write(tmp_path / "x.wav", written, subtype="FLOAT"))
    assert np.allclose(samples, written.mean(axis=1), atol=1e-7)
    assert samples.flags.c_contiguous
    assert probe(tmp_path / "x.wav").channels == channels


def test_samples_beyond_full_scale_stay(tmp_path):
    samples, _ = decode(sounds.write(tmp_path / "hot.wav", 3 * sounds.tone(), subtype="FLOAT"))
    assert samples.max() == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("wanted", [16_000, 22_050])
def test_resampling_keeps_length_and_pitch(tmp_path, rate, wanted):
    path = sounds.write(tmp_path / "x.wav", sounds.tone(1_000, 1.5, rate), rate)
    out = resample(*decode(path), wanted)
    assert out.dtype == np.float32
    assert abs(len(out) - 1.5 * wanted) <= 1
    assert dominant_hz(out, wanted) == pytest.approx(1_000, abs=1)
    assert np.abs(out[500:-500]).max() == pytest.approx(0.5, abs=0.01)


def test_resampling_lets_nothing_fold_back():
    above = sounds.chirp(12_000, 20_000, 1.0, 48_000)
    assert np.abs(resample(above, 48_000, 16_000)[200:-200]).max() < 0.01


def test_the_same_rate_is_left_alone():
    samples = sounds.tone()
    assert resample(samples, 22_050, 22_050) is samples


def dominant_hz(samples: np.ndarray, rate: int) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(power.argmax() * rate / (8 * len(samples)))


# where audio is ----------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_any_path_survives_as_text_that_can_be_stored(parts):
    names = [p.replace(b"/", b"_").replace(b"\0", b"_") for p in parts]
    path = Path(os.fsdecode(b"/" + b"/".join(names)))
    uri = to_uri(path)
    assert uri.encode("utf-8")
    assert to_path(uri) == path
    assert not is_url(uri)


def test_hostile_names_are_decoded(tmp_path):
    for path in sounds.hostile_names(tmp_path):
        with local_copy(to_uri(path)) as local:
            samples, _ = decode(local)
            assert len(samples) == sounds.RATE
            assert probe(local).duration_s == 1.0


@pytest.mark.parametrize("uri", ["http://x/a.mp3", "HTTPS://x", "http://[broken"])
def test_web_addresses_are_told_from_paths(uri):
    assert is_url(uri)
    assert not is_url(f"/music/{uri}")
    assert not is_url(f"file:///{uri}")


def test_what_an_object_store_does_not_give_may_come_later():
    with pytest.raises(TrackError) as caught, local_copy("mock:///nothing/there.ogg"):
        pass
    assert caught.value.transient
    assert caught.value.reason == "unreadable"
