"""Tempo, key and mode: of sounds whose own are known, of the demo's cues, and as columns of scores."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import write_tunes
from hypothesis import given, settings
from hypothesis import strategies as st

import mer_ray as package
from mer_ray.audio.decode import resample
from mer_ray.audio.providers import demo
from mer_ray.features import Extractor, logmel, rhythm
from mer_ray.features.batch import extract
from mer_ray.io.schemas import MEASURES
from mer_ray.scoring import playlist, predictor, scores_table
from mer_ray.scoring.measures import display
from mer_ray.scoring.measures.beat import Beat, tempo
from mer_ray.scoring.measures.pitches import KEYS, Pitches, key

RATE = sounds.RATE
SPEC = rhythm.resolve(rhythm.Params())
BEAT, PITCHES = Beat(SPEC, []), Pitches(SPEC)


def tempo_of(samples: np.ndarray, by: Beat = BEAT) -> tuple[float, float] | tuple[None, None]:
    return tempo(by([samples.astype(np.float32)])[0], by.frame_rate_hz)


def key_of(samples: np.ndarray) -> tuple:
    return key(PITCHES([samples.astype(np.float32)])[0])


def clicks(bpm: float, seconds: float = 12.0, rate: int = RATE) -> np.ndarray:
    out, click = np.zeros(round(seconds * rate)), np.exp(-np.arange(400) / 80) * sounds.noise(1.0, RATE)[:400, 0]
    for start in np.arange(0.2, seconds - 0.1, 60 / bpm):
        out[round(start * rate) : round(start * rate) + 400] += 3 * click
    return out


CHORDS = {
    "major": [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)],
    "minor": [(0, 3, 7), (5, 8, 12), (7, 10, 14), (0, 3, 7)],
}


def cadence(tonic: float, mode: str, a4: float = 440.0) -> np.ndarray:
    """Four chords with their bass; tonic in semitones from C."""
    out, time = [], np.arange(RATE) / RATE
    for chord in CHORDS[mode]:
        pitches = [chord[0] + 36, *(60 + p for p in chord)]
        hertz = [a4 * 2 ** ((p + tonic - 69) / 12) for p in pitches]
        out.append(sum(0.05 / k * np.sin(2 * np.pi * k * hz * time) for hz in hertz for k in range(1, 5)))
    return np.concatenate(out)


def within_an_octave(found: float | None, planted: float) -> bool:
    return found is not None and min(abs(found / (planted * k) - 1) for k in (0.5, 1, 2)) < 0.04


@pytest.mark.parametrize("bpm", [87.3, 120.0, 133.0])
def test_clicks_have_their_tempo(bpm):
    found, confidence = tempo_of(clicks(bpm))
    assert found == pytest.approx(bpm, rel=0.001)
    assert confidence > 0.95


@pytest.mark.parametrize("bpm", [150, 216])
def test_a_pulse_over_180_is_given_as_half_with_less_confidence(bpm):
    rate_hz, lags_s = BEAT.frame_rate_hz, np.arange(250) / BEAT.frame_rate_hz
    fading = np.cos(2 * np.pi * lags_s * bpm / 60) * np.exp(-lags_s)
    found, confidence = tempo(np.concatenate([[1], fading])[None], rate_hz)
    assert found == pytest.approx({150: 150, 216: 108}[bpm], rel=0.01)
    assert (confidence < 0.5) == (bpm == 216)


def test_two_tempi_at_once_are_less_sure_than_one():
    alone, both = (tempo_of(samples)[1] for samples in (clicks(90), clicks(90) + clicks(132)))
    assert 1 - both > 10 * (1 - alone)


@given(bpm=st.floats(70, 140), stretch=st.floats(0.8, 1.25))
@settings(max_examples=8, deadline=None)
def test_a_stretch_divides_the_tempo(bpm, stretch):
    plain, stretched = (tempo_of(clicks(b))[0] for b in (bpm, bpm / stretch))
    octaves = np.log2(plain / stretched / stretch)
    assert octaves == pytest.approx(round(octaves), abs=0.02)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_tempo_is_the_same_at_another_rate(rate):
    other = Beat(rhythm.resolve(rhythm.Params(sample_rate_hz=rate)), [])
    samples = resample(clicks(110).astype(np.float32), RATE, rate)
    assert tempo_of(samples, other)[0] == pytest.approx(110, rel=0.005)


@given(steps=st.integers(0, 11), mode=st.sampled_from(["major", "minor"]))
@settings(max_examples=12, deadline=None)
def test_transposition_moves_the_key(steps, mode):
    tonic, found, confidence = key_of(cadence(steps, mode))
    assert (tonic, found) == (KEYS[steps], mode)
    assert confidence > 0.5


@pytest.mark.parametrize("a4", [432.0, 436.0, 446.0, 450.0])
def test_another_tuning_is_the_same_key(a4):
    assert key_of(cadence(2, "minor", a4))[:2] == ("D", "minor")


@pytest.mark.parametrize("colour", ["white", "random clicks", "silence"])
def test_noise_has_neither(colour):
    drawn = np.random.default_rng(1)
    samples = {"white": sounds.noise(12.0)[:, 0], "silence": np.zeros(12 * RATE), "random clicks": np.zeros(12 * RATE)}
    for start in drawn.integers(0, 12 * RATE - 400, 40):
        samples["random clicks"][start : start + 400] += 0.1 * drawn.standard_normal(400)
    assert tempo_of(samples[colour]) == (None, None)
    assert key_of(samples[colour]) == (None, None, None)


def test_a_drone_has_no_tempo_and_little_audio_neither():
    assert tempo_of(sounds.tone(110.0, 12.0)) == (None, None)
    assert tempo_of(clicks(120, 2.0)) == (None, None)
    assert key_of(np.zeros(0)) == (None, None, None)


def test_the_demo_is_in_the_tempo_and_key_that_it_was_composed_in():
    tempi, keys, majors = [], [], ("mixolydian", "ionian", "lydian")
    for index in range(16):
        uri = f"demo:21/{index}/20"
        style, (samples, _) = demo.planted(uri), demo.render(uri)
        tempi.append(within_an_octave(tempo_of(samples)[0], style.tempo_bpm))
        expected = KEYS[style.tonic % 12], "major" if style.mode in majors else "minor"
        keys.append(key_of(samples)[:2] == expected)
    assert np.mean(tempi) >= 0.85, "0.96 of 200 longer ones"
    assert np.mean(keys) >= 0.65, "0.80 of 200 longer ones"


def test_pieces_of_a_track_are_one_track():
    samples = clicks(100, 24.0).astype(np.float32)
    halves = np.concatenate(BEAT([samples[: len(samples) // 2], samples[len(samples) // 2 :]]))
    assert tempo(halves, BEAT.frame_rate_hz)[0] == pytest.approx(100, rel=0.005)


def test_the_spectra_are_shared_with_the_model(tmp_path):
    own: dict[str, Extractor] = {"logmel": logmel.load(logmel.resolve(logmel.Params(fmax=7_500)))}
    beat = Beat(SPEC, own.values())
    assert beat.spectra is own["logmel"].spectra
    path = sounds.write(tmp_path / "a.wav", clicks(90))
    alone = extract([("a", str(path), ["beat"])], {"beat": BEAT}, 0.0)
    beside = extract([("a", str(path), ["logmel", "beat"])], {**own, "beat": beat}, 0.0)
    assert np.array_equal(alone.frames["beat"]["a"], beside.frames["beat"]["a"])


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> pa.Table:
    folder = tmp_path_factory.mktemp("music")
    for index in range(2):
        demo.fetch(f"demo:5/{index}/12", folder / f"{index}.flac")
    write_tunes(folder, 1)
    return package.score([folder], predictor.load("light"))


def test_scores_have_the_columns(scores):
    names = [field.name for field in MEASURES]
    rows = scores.select(names).to_pylist()
    assert all(row["loudness"] < 0 and row["true_peak"] < 1 for row in rows)
    assert all(0 <= row[f"{name}_confidence"] <= 1 for row in rows[:2] for name in ("tempo", "key"))
    assert all(row["key"] in KEYS and row["mode"] in ("major", "minor") for row in rows[:2])


def test_conditions_name_them_and_unknown_values_come_last(scores, tmp_path):
    nulls = pa.array([None, 100.0, 90.0])
    table = scores.set_column(scores.column_names.index("tempo"), "tempo", nulls)
    where = f"tempo between 90 and 110 and key = '{table['key'][1]}' and mode = '{table['mode'][1]}' and loudness > -70"
    assert 1 in playlist.choose(table, where)
    assert 0 not in playlist.choose(table, "tempo < 1000")
    assert playlist.choose(table, sort="tempo").tolist() == [2, 1, 0]
    assert playlist.choose(table, sort="-tempo").tolist() == [1, 2, 0]
    lines = [json.loads(line) for line in playlist.json_lines(table, [0, 1]).splitlines()]
    assert lines[0]["tempo"] is None
    assert lines[1]["tempo"] == 100
    assert lines[1]["key"] == table["key"][1].as_py()


def test_every_format_holds_them_and_rows_of_before_stay_as_they_are(mer_ray, tmp_path):
    music, names = tmp_path / "music", [field.name for field in MEASURES]
    write_tunes(music, 2)
    read = {}
    for suffix in ("parquet", "csv", "xlsx"):
        code, out, err = mer_ray("score", music, "--model", "light", "--out", tmp_path / f"s.{suffix}")
        assert code == 0, err
        read[suffix] = scores_table.read(tmp_path / f"s.{suffix}").sort_by("uri").select(names)
    assert read["csv"] == read["xlsx"] == read["parquet"]
    assert read["csv"]["loudness"].null_count == 0
    older = pq.read_table(tmp_path / "s.parquet").drop_columns(names)
    pq.write_table(older, tmp_path / "s.parquet")
    write_tunes(music, 3)
    code, out, err = mer_ray("score", music, "--model", "light", "--out", tmp_path / "s.parquet")
    assert code == 0, err
    assert "of 3 tracks, 2 not measured" in " ".join(out.split())
    assert scores_table.read(tmp_path / "s.parquet")["loudness"].null_count == 2


def test_a_condition_on_what_is_unknown_says_so(mer_ray, tmp_path):
    music, names = tmp_path / "music", [field.name for field in MEASURES]
    write_tunes(music, 2)
    code, _, err = mer_ray("score", music, "--model", "light", "--out", tmp_path / "s.parquet")
    assert code == 0, err

    def said(*arguments: object) -> str:
        code, out, err = mer_ray(*arguments)
        assert code == 0, err
        return " ".join(out.split())

    new, old = tmp_path / "s.parquet", tmp_path / "old.parquet"
    scores = pq.read_table(new)
    without = scores.drop_columns(names)
    mixed = pa.concat_tables([scores.slice(0, 1), without.slice(1, 1)], promote_options="default")
    for table, unknown, measured in ((without, "all", "none"), (mixed, "1 of", "1 not")):
        pq.write_table(table, old)
        for options in (("--where", "LOUDNESS > 90 or true_peak > 90"), ("--sort", "-loudness")):
            line = said("playlist", old, *options)
            assert f"loudness is unknown for {unknown} 2" in line
            assert f"of 2 tracks, {measured} measured" in line
    for options in (("--where", "valence >= 0"), ("--where", "title like '%tempos%' or title = 'tempo'")):
        assert "unknown" not in said("playlist", old, *options)
    assert "of 2 tracks, 1 not measured" in said("explore", old, "--out", tmp_path / "e.html")
    assert "unknown" not in said("playlist", new, "--where", "loudness > 900")
    for condition in ("album = 'x'", "album is null or loudness < 0"):
        assert said("playlist", new, "--where", condition).endswith("album is unknown for all 2 tracks")
    assert "mood is unknown for all 2" in said("playlist", new, "--where", "mood = 'calm'", "--out", tmp_path / "m.nsp")


def test_a_line_tells_of_files_that_were_not_measured():
    assert display.without([pa.table({"true_peak": [-1.0]})]) == display.without([]) == ""
    some = pa.table({"true_peak": pa.array([None, -3.0, None], pa.float64())})
    assert display.without([some, some]).startswith("of 6 tracks, 4 not measured")
    assert display.without([some.slice(0, 1)]).startswith("of 1 tracks, none measured")
