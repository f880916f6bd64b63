"""``mer-ray duplicates``: versions of real files are found from their scores, and nothing else is."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import RATE, tune_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mer_ray
from mer_ray.scoring import same_recording
from mer_ray.scoring.repeats import best
from mer_ray.scoring.same_recording import CURVE, LEVEL, MOST_LEVEL_DB, OVERLAP, SOUND, candidates

VERSIONS = {
    "mp3": ["-b:a", "64k"],
    "opus": ["-b:a", "64k"],
    "short.mp3": ["-b:a", "192k", "-ss", "0.5"],
    "m4a": ["-af", "volume=-9dB"],
}


def piece(seed: int, seconds: float = 24.0) -> np.ndarray:
    """A tune with louder and softer notes: (n,) float32."""
    rng = np.random.default_rng(1000 + seed)
    notes = np.repeat(rng.uniform(0.05, 1.0, 200), RATE // 2)
    tune = np.concatenate([tune_of(10 * seed + i, 3.0) for i in range(8)])[: round(seconds * RATE)]
    louder: np.ndarray = tune * notes[: len(tune)]
    return louder


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of eight pieces; four versions and a copy of the first two."""
    folder = tmp_path_factory.mktemp("repeats")
    files = [sounds.write(folder / f"{i}.flac", piece(i).astype(np.float32)) for i in range(8)]
    for file in files[:2]:
        files += [sounds.ffmpeg(file, folder / f"{file.stem}.{kind}", *how) for kind, how in VERSIONS.items()]
        files.append(Path(shutil.copy(file, folder / f"{file.stem} copy.flac")))
    pq.write_table(mer_ray.score(files, "light"), folder / "s.parquet")
    return folder / "s.parquet"


def test_versions_are_found_and_other_pieces_are_not(mer_ray, scores, tmp_path):
    code, out, err = mer_ray("duplicates", scores, "--out", tmp_path / "g.csv")
    assert code == 0, err
    assert "10 of 18 tracks repeat another one, in 2 groups" in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "g.csv").read_text("utf-8-sig"))))
    found = {Path(r["uri"]).name: r for r in rows}
    for i in "01":
        names = {f"{i}.flac", f"{i} copy.flac", *(f"{i}.{kind}" for kind in VERSIONS)}
        assert {n for n, r in found.items() if r["group"] == found[f"{i}.flac"]["group"]} == names
        assert {n for n in names if found[n]["kind"] == "identical file"} == {f"{i}.flac", f"{i} copy.flac"}
        assert {n for n in names if found[n]["keep"] == "true"} == {f"{i}.flac"}
    assert all(0 <= float(r["distance"]) <= 1 for r in rows)
    assert mer_ray("duplicates", scores, "--out", tmp_path / "g.jsonl")[0] == 0
    assert mer_ray("duplicates", scores, "--out", tmp_path / "g.parquet")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "g.jsonl").read_text().splitlines()]
    assert [line["track_id"] for line in lines] == pq.read_table(tmp_path / "g.parquet")["track_id"].to_pylist()
    code, out, _ = mer_ray("duplicates", scores)
    assert (code, out.count("keep?"), out.count("identical file")) == (0, 2, 4)


def test_a_sheet_and_older_scores_are_compared_by_their_bytes(mer_ray, scores, tmp_path):
    table = pq.read_table(scores)
    older = [n for n in table.column_names if n not in ("sound", "waveform", "tempo", "loudness", "decoded_share")]
    titles = pa.array([f"\x1b[31m[red]\n=cmd({i})" for i in range(table.num_rows)])
    older = table.select(older).set_column(older.index("title"), "title", titles)
    pq.write_table(older, tmp_path / "older.parquet")
    code, out, err = mer_ray("duplicates", tmp_path / "older.parquet")
    assert code == 0, err
    assert "2 of 18 tracks repeat another one, in 2 groups" in out
    assert "of 18 tracks only the bytes are compared" in out
    assert "\x1b[31m" not in out
    assert mer_ray("duplicates", tmp_path / "older.parquet", "--out", tmp_path / "g.csv")[0] == 0
    assert "\n=cmd" not in (tmp_path / "g.csv").read_text()
    pq.write_table(older.slice(0, 0), tmp_path / "empty.parquet")
    assert "0 of 0 tracks" in mer_ray("duplicates", tmp_path / "empty.parquet")[1]
    assert mer_ray("duplicates", scores, "--out", tmp_path / "g.txt")[0] == 2
    assert mer_ray("duplicates", scores, "--out", tmp_path / "none" / "g.csv")[0] == 2


def test_tracks_that_cannot_be_compared_are_counted(mer_ray, scores, tmp_path):
    table = pq.read_table(scores)
    assert "are compared" not in mer_ray("duplicates", scores)[1]
    of_frames = table.drop_columns(["waveform", "sha256"]).slice(0, 3)
    even = pa.array([[100] * 600] * 2, table.schema.field("waveform").type)
    noises = table.slice(3, 2).set_column(table.column_names.index("waveform"), "waveform", even)
    mixed = pa.concat_tables([table.slice(5), noises, of_frames], promote_options="default")
    pq.write_table(mixed, tmp_path / "s.parquet")
    out = mer_ray("duplicates", tmp_path / "s.parquet")[1]
    assert "of 2 tracks only the bytes are compared" in out
    assert "3 tracks are compared with nothing" in out


def test_scores_are_not_written_over(mer_ray, scores, tmp_path):
    own = Path(shutil.copy(scores, tmp_path / "s.parquet"))
    csv_file = tmp_path / "s.csv"
    pacsv.write_csv(pq.read_table(own).drop_columns(["curve", "sound", "waveform"]), csv_file)
    before = own.read_bytes(), csv_file.read_bytes()
    for command in (("duplicates", own, "--out", own), ("duplicates", own, "--out", csv_file)):
        code, _, err = mer_ray(*command)
        assert (code, "holds scores, which would be lost" in err) == (2, True)
    code, _, err = mer_ray("playlist", own, "--cues", csv_file)
    assert (code, "--cues" in err, "holds scores" in err) == (2, True, True)
    assert (own.read_bytes(), csv_file.read_bytes()) == before
    for _ in range(2):
        assert mer_ray("duplicates", own, "--out", tmp_path / "g.csv")[0] == 0


def test_without_loudness_much_quieter_versions_are_missed(mer_ray, scores, tmp_path):
    table = pq.read_table(scores)
    nulls = pa.nulls(table.num_rows, pa.float64())
    unknown = table.set_column(table.column_names.index("loudness"), "loudness", nulls)
    for without in (table.drop_columns(["loudness"]), unknown):
        pq.write_table(without, tmp_path / "s.parquet")
        assert "8 of 18 tracks repeat another one, in 2 groups" in mer_ray("duplicates", tmp_path / "s.parquet")[1]


def test_tracks_of_other_models_are_not_compared(mer_ray, scores, tmp_path):
    table = pq.read_table(scores)
    models = pa.array([f"m{i}" for i in range(table.num_rows)])
    pq.write_table(table.set_column(table.column_names.index("model"), "model", models), tmp_path / "s.parquet")
    out = mer_ray("duplicates", tmp_path / "s.parquet")[1]
    assert "2 of 18 tracks repeat another one" in out
    assert "18 models are in SCORES" in out


@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 20), st.integers(0, 10))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_pairs_that_may_be_the_same_are_candidates_once(monkeypatch, n, d, leaf, seed):
    monkeypatch.setattr(same_recording, "_LEAF", leaf)
    monkeypatch.setattr(same_recording, "_CELLS", 7 * leaf)
    rng = np.random.default_rng(seed)
    points, values = 2 * rng.standard_normal((n, d)), rng.uniform(0.3, 0.7, (n, 2))
    loudness, duration = rng.choice([-30.0, -20, -19, -8, np.nan], n), rng.choice([30.0, 31, 39, 41, 300], n)
    blocks = list(candidates(points, loudness, values, duration))
    found = {(min(a, b), max(a, b)): far for i, j, f in blocks for a, b, far in zip(i, j, f, strict=True)}
    assert len(found) == sum(len(i) for i, _, _ in blocks)
    expected = {}
    for a in range(n):
        for b in range(a + 1, n):
            gain = abs(loudness[a] - loudness[b])
            explained = 0.0 if np.isnan(gain) else LEVEL * min(gain, MOST_LEVEL_DB)
            far = np.sqrt(max(0.0, np.square(points[a] - points[b]).sum() - explained**2))
            is_long = min(duration[a], duration[b]) >= OVERLAP * max(duration[a], duration[b])
            if far <= SOUND and is_long and np.sqrt(np.square(values[a] - values[b]).mean()) <= 2 * CURVE:
                expected[a, b] = far
    assert found == pytest.approx(expected)


def test_what_to_keep():
    track = {"uri": "/a.mp3", "duration_s": 100.0, "size": 5, "decoded_share": 1.0}
    assert best([track, track | {"uri": "/b.flac"}]) == 1
    assert best([track, track | {"uri": "/b.flac", "duration_s": 90.0}]) == 0
    assert best([track, track | {"uri": "/b.flac", "decoded_share": 0.5}]) == 0
    assert best([track, track | {"size": 6}, track | {"size": 6}]) == 1
    assert best([track, track | {"size": None, "decoded_share": None, "uri": ""}]) == 0
