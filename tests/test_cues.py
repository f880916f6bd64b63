"""Calm and tense passages: where they lie, and the files that say so."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_edl import clips
from test_playlist import SCHEMA, table, typed

from mer_ray.scoring.cues import passages

unit = st.floats(0, 1, width=32)


@given(
    st.lists(st.tuples(unit, unit), min_size=1, max_size=40),
    st.floats(0.05, 5),
    st.floats(1, 60),
    st.none() | st.floats(0.1, 200),
)
def test_passages_lie_within_the_track(points, hop_s, seconds, duration_s):
    cues = passages(np.array(points), hop_s, seconds, duration_s)
    end = min(len(points) * hop_s, duration_s or math.inf)
    assert [cue.word for cue in cues] == ["calm", "tense"]
    for cue in cues:
        assert 0 <= cue.start_s < cue.end_s <= end
        assert cue.end_s - cue.start_s <= max(hop_s, seconds + hop_s / 2) + 1e-9
    calm, tense = sorted(cues, key=lambda cue: cue.start_s)
    assert calm.end_s <= tense.start_s + 1e-9 or math.ceil(end / hop_s - 1e-6) == 1


@given(st.lists(st.tuples(unit, unit), min_size=2, max_size=30), st.integers(1, 20))
def test_passages_are_the_best_pair_that_does_not_overlap(points, seconds):
    plane = np.array(points)
    width = max(1, min(seconds, len(plane) // 2))
    means = [plane[i : i + width].mean(0) for i in range(len(plane) - width + 1)]
    to_calm, to_tense = (np.array([math.cos(a), math.sin(a)]) for a in np.radians([316, 93]))
    pairs = ((a, b) for i, a in enumerate(means) for j, b in enumerate(means) if abs(i - j) >= width)
    calm, tense = passages(plane, 1.0, seconds)
    found = to_calm @ [calm.valence, calm.arousal] + to_tense @ [tense.valence, tense.arousal]
    assert found == pytest.approx(max(a @ to_calm + b @ to_tense for a, b in pairs), abs=1e-6)


def test_where_valence_and_arousal_rise_together_one_passage_is_not_both():
    plane = np.full((40, 2), 0.45)
    plane[20:] = 0.65, 0.6
    cues = passages(plane, 1.0, 20.0, 40.0)
    assert [(c.word, c.start_s, c.end_s) for c in cues] == [("calm", 0, 20), ("tense", 20, 40)]


def test_a_planted_passage_is_found():
    plane = np.full((240, 2), 0.5)
    plane[40:60] = 0.7, 0.2
    plane[150:170] = 0.3, 0.9
    calm, tense = passages(plane, 1.0, 20.0, 240.0)
    assert (calm.start_s, calm.end_s, tense.start_s, tense.end_s) == (40, 60, 150, 170)
    assert (tense.valence, tense.arousal) == pytest.approx((0.3, 0.9))
    assert passages(plane[:0], 1.0) == passages(plane * np.nan, 1.0) == passages(plane, 0.0) == []


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """Three tracks of 61.7 s, of which the last has no curve."""
    monkeypatch.chdir(tmp_path)
    rows = table([(0.2, 0.8, "a.mp3"), (0.3, 0.7, "b.mp3"), (0.9, 0.1, "c.mp3")]).to_pylist()
    for row, at in zip(rows, (10, 30), strict=False):
        row["curve"] = [[0.3, 0.9, 0.5] if at <= i < at + 15 else [0.5, 0.5, 0.5] for i in range(62)]
    rows[0]["title"], rows[0]["artist"] = "=cmd()|'/..\\x\t\n", "../../é:"
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), "s.parquet")
    return "s.parquet"


def test_cues_as_a_table_in_the_order_of_the_list(scores):
    query = ["playlist", scores, "--sort", "arousal", "--cues", "c.csv", "--cue-seconds", 15]
    code, out, err = typed(*query)
    assert (code, err) == (0, "")
    assert "c.csv: calm and tense passages; without a curve: 1" in out
    rows = list(csv.DictReader(io.StringIO(Path("c.csv").read_bytes().decode("utf-8-sig"))))
    at = [(row["uri"], row["word"], float(row["start_s"]), float(row["end_s"])) for row in rows]
    assert at[:2] == [("b.mp3", "calm", 0, 15), ("b.mp3", "tense", 30, 45)]
    assert [at[2][:2], at[3]] == [("a.mp3", "calm"), ("a.mp3", "tense", 10, 25)]
    assert rows[2]["title"].startswith("'=cmd()")
    assert float(rows[1]["arousal"]) == pytest.approx(0.9)
    assert list(rows[0]) == ["uri", "track_id", "artist", "title", "word", "start_s", "end_s", "valence", "arousal"]
    assert typed("playlist", scores, "-n", 1, "--out", "l.m3u8", "--cues", "one.csv")[0] == 0
    assert Path("one.csv").read_text(encoding="utf-8-sig").count("a.mp3") == 2


def test_labels_for_audacity_are_a_file_a_track_in_a_folder(scores, tmp_path):
    query = ["playlist", scores, "--cues", "marks.txt", "--cue-seconds", 15]
    assert "marks: passages as labels, a file for each of 2 tracks; without a curve: 1" in typed(*query)[1]
    assert sorted(p.name for p in (tmp_path / "marks").iterdir()) == ["1 é cmd x.txt", "2 A T1.txt"]
    lines = (tmp_path / "marks" / "2 A T1.txt").read_text().splitlines()
    assert lines[1] == "30.000000\t45.000000\ttense (valence 0.30, arousal 0.90)"
    assert [len(line.split("\t")) for line in lines] == [3, 3]
    code, _, err = typed(*query)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "marks, which is there already" in err


def test_an_edit_list_is_a_timeline_of_the_list(scores, tmp_path):
    rows = pq.read_table(scores).to_pylist()
    options = ["--sort", "arousal", "--cues", "c.edl", "--cue-seconds", 15, "--cue-rate", "23.976"]
    code, out, err = typed("playlist", scores, *options)
    assert (code, err) == (0, "")
    assert "c.edl: calm and tense passages; without a curve: 1" in out
    read = clips((tmp_path / "c.edl").read_text(), "23.976")
    assert [c.name for c in read] == ["b.mp3", "b.mp3", "a.mp3", "a.mp3"]
    assert read[0].media_reference.target_url == str(tmp_path / "b.mp3")
    assert read[1].source_range.start_time.value == round(30 * 24_000 / 1001)
    (marker,) = read[1].markers
    assert marker.color == "RED"
    assert marker.name.startswith(f"tense (valence 0.30, arousal 0.90) {rows[1]['artist']} – {rows[1]['title']}")


def test_scores_without_curves_say_what_to_do(scores, tmp_path):
    flat = pq.read_table(scores)
    flat = flat.select([f.name for f in flat.schema if not pa.types.is_nested(f.type)])
    pa.csv.write_csv(flat, "s.csv")
    for options, message in (
        (["s.csv", "--cues", "c.csv"], "score into Parquet"),
        ([scores, "--cues", "c.wav"], "must end in .csv, in .edl for video editors, or in .txt"),
        ([scores, "--cues", "gone/c.csv"], "gone for --cues does not exist"),
    ):
        code, out, err = typed("playlist", *options)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "c.csv").exists()
