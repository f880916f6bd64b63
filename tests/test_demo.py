"""The demo catalog: it is there without a network, it is music, and what its listeners tag is what it plays."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.audio.providers.demo import composition, fetch, render, style
from mer_ray.audio.providers.demo.affect import affect, stream
from mer_ray.errors import TrackError
from mer_ray.io.track import Track
from mer_ray.sources import demo

SEED = 7
CUES = 96
AFFECT = np.array([affect(SEED, index) for index in range(CUES)])


def lexicon() -> dict[str, np.ndarray]:
    text = files("mer_ray.labels").joinpath("data", "demo_lexicon.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return {word: np.array(scores, dtype=float) for word, *scores in rows}


def label(track: Track, words: dict[str, np.ndarray]) -> np.ndarray:
    known = [(words[tag], weight) for tag, weight in track.tags if tag in words]
    return np.average([place for place, _ in known], axis=0, weights=[weight for _, weight in known])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


@lru_cache(maxsize=1)
def spectra() -> tuple[list[np.ndarray], np.ndarray]:
    """Power spectrograms (frames, bins) of short cues, and the bins' frequencies in Hz."""
    found = []
    for index in range(CUES):
        samples, rate = render(f"demo:{SEED}/{index}/4")
        frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256]
        found.append(np.abs(np.fft.rfft(frames * np.hanning(1024))) ** 2)
    return found, np.fft.rfftfreq(1024, 1 / rate)


# catalog -----------------------------------------------------------------------------------------------------------


def test_tracks_name_their_audio_and_come_from_several_composers() -> None:
    tracks = list(demo.tracks(cues=40, seconds=20.0, seed=SEED))
    assert [t.uri for t in tracks[:2]] == ["demo:7/0/20", "demo:7/1/20"]
    assert len({t.artist for t in tracks}) == 10
    assert any(t.album for t in tracks)
    assert any(t.album is None for t in tracks)


def test_no_track_comes_twice() -> None:
    ids = [t.id for t in demo.tracks(cues=1200, seconds=20.0, seed=SEED)]
    assert len(set(ids)) == len(ids)


def test_a_track_does_not_depend_on_how_many_are_asked_for() -> None:
    assert list(demo.tracks(5, 20.0, SEED)) == list(demo.tracks(50, 20.0, SEED))[:5]
    assert list(demo.tracks(0, 20.0, SEED)) == []


def test_another_seed_is_another_catalog() -> None:
    one, other = ({t.id for t in demo.tracks(40, 20.0, seed)} for seed in (1, -1))
    assert len(one & other) == 0
    assert affect(1, 0) != affect(-1, 0)


def test_affects_are_broad_within_and_across_composers() -> None:
    drawn = np.array([affect(3, index) for index in range(800)])
    assert np.all(drawn.std(axis=0) > 0.17)
    assert np.all(drawn.std(axis=0) < 0.25)
    assert np.all(drawn.reshape(200, 4, 3).std(axis=1).mean(axis=0) > 0.1)
    assert np.all(np.abs(np.corrcoef(drawn.T)[np.triu_indices(3, 1)]) < 0.35)


# tags --------------------------------------------------------------------------------------------------------------


def test_lexicon_is_a_table_of_words_and_three_scores() -> None:
    text = files("mer_ray.labels").joinpath("data", "demo_lexicon.txt").read_text(encoding="utf-8")
    header, *rows = text.splitlines()
    assert header == "Word\tValence\tArousal\tDominance"
    assert all(row.count("\t") == 3 for row in rows)
    words = lexicon()
    assert len(words) == len(rows) >= 140
    scores = np.array(list(words.values()))
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert {"soundtrack", "instrumental", "seen live", "2010s"}.isdisjoint(words)


def test_tags_are_weighted_like_lastfm_counts() -> None:
    words = lexicon()
    for track in demo.tracks(200, 20.0, SEED):
        names, weights = zip(*track.tags, strict=True)
        assert len(set(names)) == len(names)
        assert 4 <= sum(name in words for name in names) <= 9
        assert max(weights) == weights[0] == 100
        assert min(weights) >= 1
    plain = {name for track in demo.tracks(200, 20.0, SEED) for name, _ in track.tags} - set(words)
    assert {"soundtrack", "instrumental", "seen live", "2010s"} <= plain


@pytest.mark.parametrize("seed", [1, SEED])
def test_tags_tell_the_hidden_affect(seed: int) -> None:
    words = lexicon()
    labels = np.array([label(track, words) for track in demo.tracks(200, 20.0, seed)])
    drawn = np.array([affect(seed, index) for index in range(200)])
    for dimension in range(3):
        assert np.corrcoef(labels[:, dimension], drawn[:, dimension])[0, 1] > 0.85
        assert labels[:, dimension].std() > 0.13


# audio -------------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(-(10**9), 10**9), index=st.integers(0, 10**6), seconds=st.sampled_from([0.1, 1.3, 2.0]))
def test_any_cue_is_sound_within_bounds(seed: int, index: int, seconds: float) -> None:
    assert all(0 <= value <= 1 for value in affect(seed, index))
    samples, rate = render(f"demo:{seed}/{index}/{seconds:g}")
    assert samples.dtype == np.float32
    assert samples.shape == (round(seconds * rate),)
    assert np.all(np.isfinite(samples))
    assert 0.05 <= np.abs(samples).max() <= 0.99


def test_the_same_uri_is_the_same_sound() -> None:
    first, _ = render("demo:7/3/3")
    render("demo:7/4/3")
    again, _ = render("demo:7/3/3")
    np.testing.assert_array_equal(first, again)


def test_fetch_writes_what_render_gives(tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "cue"
    fetch("demo:7/0/2.5", path)
    samples, rate = render("demo:7/0/2.5")
    read, read_rate = soundfile.read(path, dtype="float32")
    assert read_rate == rate
    np.testing.assert_allclose(read, samples, atol=1e-4)


@pytest.mark.parametrize(
    "uri",
    ["", "demo:", "demo:7/1", "demo:7/-1/20", "demo:7/1/0", "demo:7/1/nan", "demo:7/1/99999", "demo:7/1/20/", "file:a"],
)
def test_a_malformed_uri_costs_one_track(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackError) as caught:
        fetch(uri, tmp_path / "cue.flac")
    assert caught.value.reason == "no_audio"
    assert repr(uri) in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_importing_the_catalog_is_cheap() -> None:
    modules = "mer_ray.audio.providers.demo, mer_ray.sources.demo"
    code = f"import sys, {modules}; print(sorted({{'scipy', 'soundfile', 'librosa', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# composition -------------------------------------------------------------------------------------------------------


def test_loudness_differs_between_cues() -> None:
    power, _ = spectra()
    level = np.array([10 * np.log10(p.mean()) for p in power])
    assert level.std() > 1.5
    # Louder when aroused, yet not so much that loudness alone would tell.
    assert 0.3 < rank_correlation(level, AFFECT[:, 1]) < 0.85


def test_aroused_cues_are_faster_and_brighter() -> None:
    rates = []
    for index in range(CUES):
        manner = style.choose(affect(SEED, index), "flute", stream(SEED, index, "style"))
        notes = composition.compose(manner, 20.0, stream(SEED, index, "score"))
        rates.append(len(notes.parts["lead"]) + len(notes.parts["ostinato"]))
    assert rank_correlation(np.array(rates), AFFECT[:, 1]) > 0.7
    power, hz = spectra()
    onsets = np.array([np.maximum(np.diff(np.log(p + 1e-6), axis=0), 0).mean() for p in power])
    treble = np.array([p[:, hz > 4500].sum() / p.sum() for p in power])
    assert rank_correlation(onsets, AFFECT[:, 1]) > 0.5
    assert rank_correlation(treble, AFFECT[:, 1]) > 0.6


def test_dominant_cues_have_more_bass() -> None:
    power, hz = spectra()
    bass = np.array([p[:, hz < 160].sum() / p.sum() for p in power])
    assert rank_correlation(bass, AFFECT[:, 2]) > 0.6


def test_pleasant_cues_are_in_brighter_modes() -> None:
    modes = np.array(
        [style.MODES.index(style.choose(a, "flute", stream(1, i, "style")).mode) for i, a in enumerate(AFFECT)]
    )
    assert np.corrcoef(modes, AFFECT[:, 0])[0, 1] > 0.8


@pytest.mark.parametrize(("dimension", "name"), list(enumerate(("valence", "arousal", "dominance"))))
def test_every_dimension_can_be_heard_in_the_spectrum(dimension: int, name: str) -> None:
    """A ridge regression on band levels, trained on half of the composers, finds the affect of the others' cues."""
    power, hz = spectra()
    edges = np.geomspace(60, 10_000, 21)
    bands = [(hz >= low) & (hz < high) for low, high in pairwise(edges)]
    used = [band for band in bands if band.any()]
    levels = [np.log(np.stack([p[:, band].mean(axis=1) for band in used], axis=1) + 1e-9) for p in power]
    x = np.array([np.concatenate([level.mean(axis=0), level.std(axis=0)]) for level in levels])
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = AFFECT[:, dimension] - AFFECT[:, dimension].mean()
    seen = np.arange(CUES) // 4 % 2 == 0
    weights = np.linalg.solve(x[seen].T @ x[seen] + 10 * np.eye(x.shape[1]), x[seen].T @ y[seen])
    assert np.corrcoef(x[~seen] @ weights, y[~seen])[0, 1] > 0.6, name


def test_the_music_ends_on_the_tonic() -> None:
    manner = style.choose((0.8, 0.5, 0.5), "horn", stream(0, 0, "style"))
    notes = composition.compose(manner, 30.0, stream(0, 0, "score"))
    last = max(notes.parts["bass"], key=lambda note: note.start_s)
    assert (last.pitch - manner.tonic) % 12 == 0
    assert all(note.duration_s > 0 and note.start_s >= 0 for part in notes.parts.values() for note in part)
