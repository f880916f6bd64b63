"""Near-duplicates: real encodings, levels and cuts of one recording are found, other music of its style is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.audio.providers import demo
from mer_ray.features.mfcc import Params
from mer_ray.training import duplicates
from mer_ray.training.duplicates import THRESHOLD, near_duplicates

SPEC = features.resolve("mfcc", Params())
CUES = 10
SECONDS = 24


def through(path: Path, samples: np.ndarray, rate: int, *options: str) -> np.ndarray:
    """Samples as they come back from a file in the format that its name says."""
    wav = path.with_suffix(".in.wav")
    soundfile.write(wav, samples, rate)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(wav), *options, str(path)]
    subprocess.run(command, check=True)
    decoded, found = soundfile.read(path, dtype="float32")
    assert found == rate
    return decoded


@pytest.fixture(scope="module")
def cues() -> list[np.ndarray]:
    """Cues of the demo catalogue, four by each composer."""
    rendered = [demo.render(f"demo:7/{index}/{SECONDS}") for index in range(CUES)]
    assert {rate for _, rate in rendered} == {SPEC.sample_rate_hz}
    return [samples for samples, _ in rendered]


@pytest.fixture(scope="module")
def versions(cues, tmp_path_factory) -> dict[str, np.ndarray]:
    """Of the first cue."""
    folder, rate, cue = tmp_path_factory.mktemp("versions"), SPEC.sample_rate_hz, cues[0]
    return {
        "mp3": through(folder / "a.mp3", cue, rate, "-b:a", "128k"),
        "ogg": through(folder / "a.ogg", cue, rate, "-q:a", "2"),
        "quieter": 0.5 * cue,
        "trimmed": cue[round(3.07 * rate) :],
        "inside": through(folder / "b.mp3", cue[round(5.51 * rate) : round(17.51 * rate)], rate, "-b:a", "96k"),
        "later": np.concatenate([np.zeros(round(4.63 * rate), np.float32), 0.7 * cue]),
        "overlapping": np.concatenate([cue[round(9.9 * rate) :], cues[1][: 8 * rate]]),
    }


@pytest.fixture(scope="module")
def frames(cues, versions) -> list[np.ndarray]:
    return features.load(SPEC)([np.asarray(x, np.float32) for x in (*cues, *versions.values())])


def test_one_recording_is_found_in_each_of_its_versions(frames, versions):
    found = {(d.a, d.b): d.similarity for d in near_duplicates(frames, SPEC.hop_s)}
    missed = [name for place, name in enumerate(versions, CUES) if (0, place) not in found]
    assert missed == []
    assert max(found.values()) <= 1 + 1e-6


def test_other_music_of_the_style_is_not_found(frames):
    assert near_duplicates(frames[:CUES], SPEC.hop_s) == []
    closest = max(d.similarity for d in near_duplicates(frames[:CUES], SPEC.hop_s, threshold=0.0))
    assert closest < THRESHOLD - 0.1


# synthetic frames --------------------------------------------------------------------------------------------------


def walk(n: int, seed: int, n_dims: int = 12) -> np.ndarray:
    """Frames (n, F) that change as slowly as music's do."""
    steps = np.random.default_rng(seed).standard_normal((n + 20, n_dims)).cumsum(axis=0)
    return (steps[20:] - steps[:-20]).astype(np.float32)


HOP_S = 0.1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 300), st.integers(150, 300), st.floats(0.1, 10), st.floats(-50, 50), st.integers(0, 99))
def test_any_cut_gain_and_offset_is_found(start, length, gain, offset, seed):
    tracks = [walk(600, 1_000 * seed + k) for k in range(6)]
    tracks.append(gain * tracks[2][start : start + length] + offset)
    found = near_duplicates(tracks, HOP_S)
    assert [(d.a, d.b) for d in found] == [(2, 6)]
    assert near_duplicates(tracks, HOP_S) == found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2_000), max_size=40))
def test_every_pair_of_tracks_meets_once(lengths):
    met: list[tuple[int, int]] = []
    for one, other in duplicates._block_pairs(lengths):
        pairs = [(a, b) for a in one for b in other]
        met += [(min(p), max(p)) for p in pairs if one is not other or p[0] < p[1]]
        # Padded to one length, tracks of a block are hardly longer than they are.
        assert all(
            max(lengths[i] for i in block) <= duplicates.SLACK * min(lengths[i] for i in block)
            for block in (one, other)
        )
    long_enough = [i for i, n in enumerate(lengths) if n]
    assert sorted(met) == [(a, b) for a in long_enough for b in long_enough if a < b]


def test_long_and_short_tracks_meet():
    whole = walk(3_000, 0)
    tracks = [walk(3_000, 1), whole[2_500:2_750], walk(300, 2), whole[40:360], whole]
    assert {(d.a, d.b) for d in near_duplicates(tracks, HOP_S)} == {(1, 4), (3, 4)}


def test_frames_a_second_apart_will_do():
    tracks = [walk(120, k, n_dims=24)[::4] for k in range(8)]
    assert [(d.a, d.b) for d in near_duplicates([*tracks, tracks[3][2:]], 0.96)] == [(3, 8)]


@pytest.mark.parametrize(
    "tracks",
    [
        [],
        [walk(300, 0)],
        [walk(5, 0), walk(5, 0)],
        [np.zeros((300, 4), np.float32)] * 2,
        [np.full((300, 4), 7.0, np.float16)] * 2,
    ],
    ids=["nothing", "one", "too short", "silence", "constant"],
)
def test_what_has_nothing_to_compare_has_no_duplicates(tracks):
    assert near_duplicates(tracks, HOP_S) == []


def test_two_silences_in_music_are_not_alike():
    music = [walk(300, k) for k in range(6)]
    quiet = [np.concatenate([m[:80], np.repeat(m[79:80], 400, axis=0)]) for m in music]
    assert near_duplicates(quiet, HOP_S) == []


def test_blocks_are_bounded(monkeypatch):
    tracks = [walk(200 + k, k) for k in range(12)]
    tracks += [tracks[3][20:], tracks[7]]
    whole = near_duplicates(tracks, HOP_S)
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    assert all(max(len(a), len(b)) <= 3 for a, b in duplicates._block_pairs([len(t) for t in tracks]))
    again = near_duplicates(tracks, HOP_S)
    assert [(d.a, d.b) for d in again] == [(d.a, d.b) for d in whole] == [(3, 12), (7, 13)]
    np.testing.assert_allclose([d.similarity for d in again], [d.similarity for d in whole], atol=1e-5)
