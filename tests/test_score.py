"""``mer-ray score``: catalogs of all kinds into a file or a folder, again, after a kill; a workspace's own tracks."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import spoil, write_tunes
from parts import even_intervals, wide_reference
from ray import cloudpickle

import mer_ray as mer_ray_module
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import parts
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, catalog_scores_schema, ragged_column, scores_schema
from mer_ray.io.tables import Workspace
from mer_ray.models.kernel import Kernel
from mer_ray.scoring import model_folder, predictor, scores_table
from mer_ray.scoring import workers as score_workers
from mer_ray.scoring.catalog import file_id
from mer_ray.scoring.measures import display
from mer_ray.stages import score as stage
from mer_ray.stages.score import SMALL_ROWS
from mer_ray.stages.task import TRIES

Typed = Callable[..., tuple[int, str, str]]
N_DIMS = 4
SPEC = FeatureSpec("vggish", 1, 16_000, 0.96, N_DIMS)
FLAT = [n for n in catalog_scores_schema().names if n not in ("curve", "sound", "waveform")]


@cache
def packaged() -> predictor.Predictor:
    return predictor.load()


def save_model(
    folder: Path,
    seed: int = 0,
    r2: float = 0.5,
    spec: FeatureSpec = SPEC,
    dimensions: tuple[str, ...] = DIMENSIONS,
) -> Path:
    """A small model of noise, on frames of one feature."""
    rng = np.random.default_rng(seed)
    tracks = [rng.standard_normal((8, spec.n_dims)).astype(np.float32) for _ in range(12)]
    member = Kernel(spec.hop_s, 5).fit(tracks, rng.random((12, len(dimensions))), [str(i) for i in range(12)])
    basis = rng.standard_normal((len(member.statistics.shift), 3)).astype(np.float32)
    metrics = {d: {"r2": r2} for d in dimensions}
    widths = packaged().model.intervals if dimensions == DIMENSIONS else even_intervals([0.2] * len(dimensions))
    model = model_folder.Model(
        folder.name, "kernel", spec, 5, [member], widths,
        wide_reference(member.statistics, basis), metrics, {"seed": seed}, dimensions,
    )  # fmt: skip
    model_folder.save(model, Workspace(folder))
    return folder


def frames_of(seed: int, spec: FeatureSpec = SPEC, n: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, spec.n_dims)).astype(np.float32)


def frames_table(rows: Sequence[tuple[str, np.ndarray]], spec: FeatureSpec = SPEC) -> pa.Table:
    """Rows of ``features/NAME``."""
    return pa.table(
        {
            "track_id": [i for i, _ in rows],
            "frames": ragged_column([f for _, f in rows], spec.n_dims),
            "hop_s": [spec.hop_s] * len(rows),
            "fingerprint": [spec.fingerprint] * len(rows),
        }
    )


def many_frames(n: int) -> pa.Table:
    return frames_table([(f"{i:016x}", frames_of(i)) for i in range(n)])


def score(mer_ray: Typed, *arguments: object) -> str:
    """What the command says when all goes well, or as much as can."""
    code, out, err = mer_ray("score", *arguments, "--max-lost", 1)
    assert code == 0, out + err
    return out


def refused(mer_ray: Typed, *arguments: object) -> str:
    """The one line that it says when it does not."""
    code, out, err = mer_ray("score", *arguments)
    assert (code, out) == (2, ""), out + err
    (line,) = [line for line in err.splitlines() if not line.startswith("Ray:")]
    return line


def values(table: pa.Table) -> dict[str, np.ndarray]:
    """V, A, D by track_id, each of them there once."""
    ids = table["track_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, np.stack([table[d].to_numpy() for d in DIMENSIONS], axis=1), strict=True))


def same(one: pa.Table, other: pa.Table) -> bool:
    a, b = values(one), values(other)
    return a.keys() == b.keys() and all(np.abs(a[i] - b[i]).max() < 1e-6 for i in a)


def around(target: Path) -> set[str]:
    """The names beside a file, hidden ones too."""
    return {p.name for p in target.parent.iterdir() if p.name.lstrip(".").startswith(target.stem)}


# all kinds of catalogs -----------------------------------------------------------------------------------------------


def test_a_row_or_a_reason_for_everything_that_is_listed(mer_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    music = Path("music")
    (a, b) = write_tunes(music, 2)
    sounds.write(music / "album" / "c.ogg", sounds.chirp(200, 2_000, 3.0))
    (music / "broken.mp3").write_text("this is no music")
    (music / "empty.wav").touch()
    sounds.write(music / "silent.wav", np.zeros(30_000, np.float32))
    single = sounds.write(Path("single.wav"), sounds.noise(2.0))
    Path("lists").mkdir()
    listed = Path("lists") / "list.csv"  # it has a file of the folder, spelled otherwise, and its paths start at itself
    listed.write_text(f"artist,title,path\nX,Again,../{b}\nX,Gone,gone.wav\n,Other,{Path('../single.wav')}\nX,None,\n")
    spec = parts(packaged().model.feature)[0]
    model = save_model(tmp_path / "model", spec=spec)
    ready = tmp_path / "ready"
    frames = packaged().features[spec.name]([sounds.noise(4.0)[:, 0]])[0]
    Workspace(ready).append("frames", frames_table([("f" * 16, frames), ("e" * 16, frames[:0])], spec), "x")
    out = score(
        mer_ray, music, single, listed, ready / "frames", "music/../single.wav", "--model", model, "--out", "out"
    )
    assert "5 tracks" in out
    assert "6 failed" in out
    rows = pq.read_table("out/scores").to_pylist()
    expected = [tmp_path / p for p in (a, b, music / "album" / "c.ogg", single)]
    assert Counter(r["uri"] for r in rows) == Counter([*map(str, expected), ""])
    assert {r["track_id"] for r in rows} == {*(file_id(str(p)) for p in expected), "f" * 16}
    failed = Workspace("out").failures()
    reasons = {"broken.mp3": "corrupt", "empty.wav": "empty", "silent.wav": "silent", "gone.wav": "missing"}
    reasons |= {"Gone": "", "None": "no_audio", "e" * 16: "too_short"}
    found = {name: f["reason"] for f in failed for name in reasons if name in f["message"]}
    assert found == {n: r for n, r in reasons.items() if r}
    assert len(failed) == 6
    assert all(str(tmp_path) in f["message"] for f in failed if f["reason"] != "no_audio")


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "folder"])
def test_the_same_command_again_finds_all_done_and_new_files_are_added(mer_ray, tmp_path, name):
    music, target = tmp_path / "music", tmp_path / "out" / name
    target.parent.mkdir()
    write_tunes(music, 2, seconds=1.2)
    (music / "bad.flac").write_text("no music")
    assert "2 tracks · 1 failed" in score(mer_ray, music, "--out", target)
    first = around(target)
    again = score(mer_ray, music, "--out", target)
    assert "2 tracks · nothing new, found everything done · 1 failed" in again
    write_tunes(music, 4, seconds=1.2)
    sounds.write(music / "bad.flac", sounds.noise(1.5))
    third = score(mer_ray, music, "--out", target)
    assert "5 tracks · 3 new" in third
    assert "failed" not in third
    assert around(target) == {n for n in first if "failures" not in n}
    if name == "folder":
        made = {p.name: pq.read_metadata(p).num_rows for p in (target / "scores").iterdir()}
        assert sorted(made.values()) == [2, 3]
        assert not list((target / ".tmp").iterdir())


def test_files_and_folders_hold_the_same(mer_ray, tmp_path):
    music = tmp_path / "music"
    write_tunes(music, 2)
    for name in ("s.parquet", "s.csv", "folder"):
        score(mer_ray, music, "--out", tmp_path / name)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.equals(catalog_scores_schema(), check_metadata=False)
    assert all(f.metadata[b"unit"] for f in table.schema)
    assert same(table, pq.read_table(tmp_path / "folder" / "scores"))
    with (tmp_path / "s.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == FLAT
    for mine, other in zip(rows, table.to_pylist(), strict=True):
        assert [mine["uri"], mine["model"]] == [other["uri"], packaged().name]
        assert all(float(mine[c]) == pytest.approx(other[c], abs=6e-7) for c in ("duration_s", *DIMENSIONS))
    assert around(tmp_path / "s.csv") == {"s.csv", "s.parquet", "s.rollups.csv"}
    texts = [(tmp_path / name).read_text() for name in ("s.rollups.csv", "folder/rollups.csv")]
    rolled, again = (list(csv.reader(text.splitlines())) for text in texts)
    assert rolled[-1][:3] == ["folder", str(music), "2"]
    assert [len(row) for row in rolled] == [len(row) for row in again]
    for mine, its in zip(rolled[1:], again[1:], strict=True):
        assert mine[:2] == its[:2]
        # The order of the rows may decide how a figure in the middle between two is rounded.
        assert [float(x) for x in mine[2:]] == pytest.approx([float(x) for x in its[2:]], abs=1.1e-6)


def test_a_row_says_what_is_in_the_file(mer_ray, tmp_path):
    envelope = np.repeat(np.float32([0.9, 0.3, 0.0, 0.6]), 44_100 * 3)
    wave = sounds.tone(440, 12.0, 44_100, peak=1.0) * envelope
    path = sounds.write(tmp_path / "a.wav", wave, 44_100)
    score(mer_ray, path, "--out", tmp_path / "s.parquet")
    (row,) = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert row["duration_s"] == pytest.approx(12.0, abs=1e-3)
    assert len(row["waveform"]) <= 300
    middles = np.array(row["waveform"])[(np.array([1, 3, 5, 7]) * len(row["waveform"])) // 8]
    assert middles / 255 == pytest.approx([0.9, 0.3, 0.0, 0.6], abs=0.02)
    assert len(row["curve"]) == pytest.approx(12, abs=1)
    assert row["curve_hop_s"] * len(row["curve"]) == pytest.approx(12, abs=0.6)
    assert len(row["sound"]) == 16
    assert row["in_distribution"] is (row["novelty"] <= 1)
    assert all(0 <= row[f"lower_{d}"] <= row[d] <= row[f"upper_{d}"] <= 1 for d in DIMENSIONS)


def test_features_that_are_kept_score_the_same(mer_ray, tmp_path):
    music, first, second = tmp_path / "music", tmp_path / "first", tmp_path / "second"
    write_tunes(music, 2, seconds=3)
    spec = parts(packaged().model.feature)[0]
    model = save_model(tmp_path / "model", spec=spec)
    score(mer_ray, music, "--model", model, "--out", first)
    score(mer_ray, music, "--model", model, "--out", first, "--keep-features")  # what is scored lacks them
    kept = Workspace(first).read(f"features/{spec.name}")
    assert set(kept["fingerprint"].to_pylist()) == {spec.fingerprint}
    score(mer_ray, first / "features" / spec.name, "--model", model, "--out", second)
    assert same(Workspace(first).read("scores"), Workspace(second).read("scores"))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "xlsx"])
def test_another_model_does_not_replace_scores_of_other_files(mer_ray, tmp_path, suffix):
    first, second, target = tmp_path / "first", tmp_path / "second", tmp_path / f"s.{suffix}"
    write_tunes(first, 2)
    write_tunes(second, 1)
    score(mer_ray, first, "--model", "light", "--out", target)
    before, there = target.read_bytes(), sorted(tmp_path.iterdir())
    text = refused(mer_ray, second, "--model", "default", "--out", target)
    assert "of 2 tracks that are not in CATALOG" in text
    assert "kernel-logmel+rhythm+tonal:" in text
    assert (target.read_bytes(), sorted(tmp_path.iterdir())) == (before, there)
    next(first.iterdir()).unlink()
    assert "held 2 scores by kernel" in score(mer_ray, first, "--model", "default", "--out", target)
    assert scores_table.read(target).num_rows == 1


def test_another_model_makes_a_file_anew_and_does_not_mix_in_a_folder(mer_ray, tmp_path):
    one, other = save_model(tmp_path / "one"), save_model(tmp_path / "other", seed=1)
    few, more = tmp_path / "few.parquet", tmp_path / "more.parquet"
    pq.write_table(many_frames(2), few)
    pq.write_table(many_frames(5), more)
    for target in (tmp_path / "s.parquet", tmp_path / "folder"):
        score(mer_ray, few, "--model", one, "--out", target)
        assert "5 tracks · 3 new" in score(mer_ray, more, "--model", one, "--out", target)
    out = score(mer_ray, few, "--model", other, "--out", tmp_path / "s.parquet")
    assert "2 tracks ·" in out
    assert "held 5 scores by one:" in out
    (name,) = set(pq.read_table(tmp_path / "s.parquet")["model"].to_pylist())
    assert name.startswith("other:")
    text = refused(mer_ray, few, "--model", other, "--out", tmp_path / "folder")
    assert "holds scores by one:" in text
    assert "choose another folder" in text
    assert len(Workspace(tmp_path / "folder").read("scores")) == 5


OTHERS = [("valence", "arousal"), ("tension", "energy"), ("arousal",), ("joy", "fear", "anger", "sad", "tender")]


@pytest.mark.parametrize("dimensions", OTHERS)
def test_a_model_of_other_dimensions_fills_its_own_columns_and_every_command_reads_them(mer_ray, tmp_path, dimensions):
    spec = parts(packaged().model.feature)[0]
    model = save_model(tmp_path / "model", spec=spec, dimensions=dimensions)
    music = write_tunes(tmp_path / "music", 12)
    loaded = predictor.load(str(model))
    assert loaded.dimensions == dimensions
    expected = mer_ray_module.score(music, loaded)
    assert expected.schema == catalog_scores_schema(dimensions)
    for name in ("s.parquet", "s.csv", "s.xlsx", "folder"):
        target = tmp_path / name
        text = score(mer_ray, tmp_path / "music", "--model", model, "--out", target)
        heads = next(line for line in text.splitlines() if line.strip().startswith("Track "))
        mood = ["Mood"] if {"valence", "arousal"} <= set(dimensions) else []
        measured = [head for head in heads.split() if head in display.HEADS]  # where there is room for them
        assert measured in ([], [*display.HEADS])
        assert heads.split() == ["Track", *(d.capitalize() for d in dimensions), *mood, *measured, "Time"]
        found = scores_table.read(target).sort_by("uri")
        assert found.schema == scores_schema(dimensions)
        for column in (c for c in found.column_names if c.endswith(dimensions)):
            assert found[column].to_pylist() == pytest.approx(expected[column].to_pylist(), abs=1e-6)
        playlist = "playlist", target, "--where", f"{dimensions[-1]} <= 1 and width > 0", "--sort", f"-{dimensions[0]}"
        code, out, err = mer_ray(*playlist, "--out", tmp_path / "l.m3u8")
        assert (code, err) == (0, "")
        assert "12 of 12 tracks" in out
        code, _, err = mer_ray("playlist", target, "--where", "dominance > 0.5")
        assert (code, f"these scores have no dominance: their dimensions are: {', '.join(dimensions)}" in err) == (
            2,
            True,
        )
        code, out, err = mer_ray("neighbours", target, "tune003", "--by", "feeling")
        assert (code, err) == (0, "")
        assert f"{dimensions[0]} 0." in out
        assert mer_ray("explore", target, "--out", tmp_path / "e.html")[0] == 0
    with (tmp_path / "s.rollups.csv").open(encoding="utf-8-sig") as file:
        heads = next(csv.reader(file))
    assert [h.removeprefix("mean_") for h in heads if h.startswith("mean_")] == list(dimensions)
    for name in ("s.parquet", "s.xlsx"):  # the roll-ups beside them would be of another model
        (tmp_path / name).unlink()
    out = score(
        mer_ray,
        tmp_path / "music",
        "--model",
        save_model(tmp_path / "other", spec=spec),
        "--out",
        target.parent / "s.csv",
    )
    assert "held 12 scores by model:" in out
    assert scores_table.read(tmp_path / "s.csv").schema == SCHEMAS["scores"]


def test_frames_are_scored_by_models_of_other_dimensions(mer_ray, tmp_path):
    pq.write_table(many_frames(5), tmp_path / "f.parquet")
    model = save_model(tmp_path / "model", dimensions=("tension", "energy"))
    score(mer_ray, tmp_path / "f.parquet", "--model", model, "--out", tmp_path / "folder")
    found = Workspace(tmp_path / "folder").read("scores")
    assert found.schema.equals(scores_schema(("tension", "energy")))
    said = predictor.load(str(model)).predict_frames([frames_of(i) for i in range(5)])
    assert np.stack([p.value for p in said]) == pytest.approx(
        np.stack([found.sort_by("track_id")[d].to_numpy() for d in ("tension", "energy")], axis=1)
    )
    assert said[0].curve.shape[1] == len(said[0].lower) == len(said[0].upper) == 2


def test_what_a_killed_run_of_another_model_left_does_not_count(mer_ray, tmp_path):
    one, other = save_model(tmp_path / "one"), save_model(tmp_path / "other", seed=1)
    pq.write_table(many_frames(3), tmp_path / "f.parquet")
    score(mer_ray, tmp_path / "f.parquet", "--model", one, "--out", tmp_path / "folder")
    (tmp_path / "folder").rename(tmp_path / "s.parquet.parts")  # as if before the file was written
    code, _, said = mer_ray("score", tmp_path / "f.parquet", "--model", other, "--out", tmp_path / "s.parquet")
    assert code == 0
    assert "s.parquet.parts held 3 scores by one:" in " ".join(said.split())
    assert len(pq.read_table(tmp_path / "s.parquet")) == 3
    assert around(tmp_path / "s.parquet") == {"s.parquet", "s.rollups.csv"}


def test_what_a_killed_run_has_scored_is_not_lost_to_a_model_that_scores_something_else(mer_ray, tmp_path):
    music, one = write_tunes(tmp_path / "music", 2)[0].parent, write_tunes(tmp_path / "one", 1)[0]
    score(mer_ray, music, "--model", "light", "--out", tmp_path / "folder")
    parts_of = (tmp_path / "folder").rename(tmp_path / "s.csv.parts")  # as if before the file was written
    assert "s.csv.parts holds scores by kernel-" in refused(mer_ray, one, "--out", tmp_path / "s.csv")
    assert len(Workspace(parts_of).read("scores")) == 2


def test_bad_requests_are_one_line(mer_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    music = sounds.write(tmp_path / "music" / "a.wav", sounds.noise(1.5)).parent
    (tmp_path / "none").mkdir()
    Path("notes.csv").write_text("one,two\n1,2\n")
    assert "catalog gone does not exist" in refused(mer_ray, "gone")
    text = refused(mer_ray, "https://me:secret@example.org/a.mp3?key=k")
    assert "is a web address" in text
    assert "secret" not in text
    assert "holds no audio files" in refused(mer_ray, "none")
    assert "must end in .parquet or .csv or .xlsx" in refused(mer_ray, music, "--out", "scores.ods")
    assert "folder nowhere for --out does not exist" in refused(mer_ray, music, "--out", "nowhere/s.csv")
    Path("notes").touch()
    assert "notes must end in .parquet or .csv" in refused(mer_ray, music, "--out", "notes")
    assert "--keep-features needs a folder" in refused(mer_ray, music, "--out", "s.csv", "--keep-features")
    assert "notes.csv" in refused(mer_ray, music, "--out", "notes.csv")  # somebody's own file is not written over
    assert "--out needs a CATALOG" in refused(mer_ray, "--out", "s.csv")
    assert Path("notes.csv").read_text() == "one,two\n1,2\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["music", "none", "notes", "notes.csv"]


def test_passwords_are_not_told(mer_ray, tmp_path):
    for name in ("gone.wav?v=sesame", "gone.mp3#sesame"):
        text = refused(mer_ray, f"memory://bucket/{name}", "--out", tmp_path / "s.csv")
        assert "memory://bucket/gone" in text
        assert "sesame" not in text + (tmp_path / "s.failures.csv").read_text()


def test_nothing_that_can_be_scored_is_an_error_that_says_why(mer_ray, tmp_path):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_text("no music")
    text = refused(mer_ray, tmp_path / "music", "--out", tmp_path / "s.csv")
    assert "none of the 1 tracks" in text
    assert "(corrupt)" in text
    assert around(tmp_path / "s.csv") == {"s.failures.csv"}


# tables of frames ----------------------------------------------------------------------------------------------------


def test_rows_without_frames_become_failures_and_stay_them(mer_ray, tmp_path):
    model, target = save_model(tmp_path / "model"), tmp_path / "folder"
    rows = [{"track_id": f"{i}", "frames": frames_of(i).tolist(), "fingerprint": SPEC.fingerprint} for i in range(6)]
    rows[1]["frames"], rows[2]["frames"], rows[4]["frames"] = None, [], [[0.5, None, 1.0, float("nan")]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=2)
    assert "3 tracks · 3 failed" in score(mer_ray, tmp_path / "f.parquet", "--model", model, "--out", target)
    failed = {f["track_id"]: f["reason"] for f in Workspace(target).failures()}
    assert failed == {"1": "too_short", "2": "too_short", "4": "not_finite"}
    again = score(mer_ray, tmp_path / "f.parquet", "--model", model, "--out", target)
    assert "3 tracks · nothing new, found everything done · 3 failed" in again
    rows[1]["frames"] = frames_of(1).tolist()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=2)
    mended = score(mer_ray, tmp_path / "f.parquet", "--model", model, "--out", target)
    assert "4 tracks · 1 new · 2 failed" in mended


@pytest.mark.parametrize("column", ["frames", "track_id"])
def test_a_row_group_that_is_damaged_is_one_failure_and_the_rest_is_scored(mer_ray, tmp_path, column):
    model, file = save_model(tmp_path / "model"), tmp_path / "f.parquet"
    pq.write_table(many_frames(6), file, row_group_size=2)
    whole = file.read_bytes()
    spoil(file, 1, column)
    arguments = (file, "--model", model, "--out")
    for target in (tmp_path / "folder", tmp_path / "s.parquet"):
        assert "4 tracks · 1 failed" in score(mer_ray, *arguments, target)
        again = score(mer_ray, *arguments, target)
        assert "4 tracks · nothing new, found everything done · 1 failed" in again
    (failed,) = pq.read_table(tmp_path / "s.failures.parquet").to_pylist()
    assert failed["reason"] == "unreadable"
    assert f"{file}, row group 1 (2 rows) cannot be read" in failed["message"]

    # A folder remembers it, until it is asked for.
    folder = Workspace(tmp_path / "folder")
    assert [f["attempts"] for f in folder.failures()] == [1]
    assert "4 tracks · nothing new" in score(mer_ray, *arguments, folder.uri, "--retry-failed")
    assert [f["attempts"] for f in folder.failures()] == [2]
    file.write_bytes(whole)
    assert "nothing new, found everything done · 1 failed" in score(mer_ray, *arguments, folder.uri)
    assert [f["attempts"] for f in folder.failures()] == [2]
    mended = score(mer_ray, *arguments, folder.uri, "--retry-failed")
    assert "6 tracks · 2 new" in mended
    assert "failed" not in mended
    assert "6 tracks · 2 new" in score(mer_ray, *arguments, tmp_path / "s.parquet")
    assert same(folder.read("scores"), pq.read_table(tmp_path / "s.parquet"))


@pytest.mark.parametrize("name", ["folder", "s.parquet"])
def test_a_track_that_is_listed_twice_is_scored_once_and_told(mer_ray, tmp_path, name):
    model, rows = save_model(tmp_path / "model"), [("a", frames_of(0)), ("b", frames_of(1))]
    rows += [("a", frames_of(2)), ("c", frames_of(3))]
    pq.write_table(frames_table(rows), tmp_path / "f.parquet", row_group_size=2)
    pq.write_table(frames_table([("b", frames_of(4)), ("d", frames_of(5))]), tmp_path / "g.parquet")
    places = [tmp_path / "f.parquet", tmp_path / "g.parquet", tmp_path / "f.parquet"]
    for text in ("4 tracks · 2 failed", "4 tracks · nothing new, found everything done · 2 failed"):
        assert text in score(mer_ray, *places, "--model", model, "--out", tmp_path / name)
        read = pq.read_table if name == "s.parquet" else None
        failed = read(tmp_path / "s.failures.parquet").to_pylist() if read else Workspace(tmp_path / name).failures()
        messages = sorted(f["message"] for f in failed)
        assert [f["reason"] for f in failed] == ["duplicate"] * 2
        assert f"{places[0]}, row 3: its track_id, a, is that of an earlier row" in messages[0]
        assert f"{places[1]}, row 1: its track_id, b, is that of an earlier row" in messages[1]
    one = score(mer_ray, tmp_path / "g.parquet", "--model", model, "--out", tmp_path / name)
    assert "nothing new" in one
    assert "failed" not in one


def test_frames_that_the_model_cannot_read_are_refused(mer_ray, tmp_path):
    model, good = save_model(tmp_path / "model"), many_frames(2)
    wide = frames_table([("a", frames_of(0, replace(SPEC, n_dims=5)))], replace(SPEC, n_dims=5))
    other = pa.array(["feedfacefeedface"] * 2)
    cases = {
        "fingerprint": (good.set_column(3, "fingerprint", other), "holds frames of feedfacefeedface"),
        "no fingerprint": (good.drop_columns("fingerprint"), "no column fingerprint"),
        "null id": (good.set_column(0, "track_id", pa.array(["a", None])), "rows without track_id"),
        "no id": (good.drop_columns("track_id"), "no column track_id"),
        "width": (wide.set_column(3, "fingerprint", pa.array([SPEC.fingerprint])), "not 4 numbers wide"),
        "title": (good.append_column("title", pa.array([["x"], ["y"]])), "must be text"),
        "null frame": (good.set_column(1, "frames", pa.array([[[0.5] * 4, None], []])), "some are null"),
        "kind": (good.set_column(1, "frames", pa.array(["x", "y"])), "not 4 numbers wide"),
    }
    for name, (table, text) in cases.items():
        file = tmp_path / f"{name}.parquet"
        pq.write_table(table, file)
        line = refused(mer_ray, file, "--model", model, "--out", tmp_path / "s.parquet")
        assert text in line
        assert str(file) in line
    assert not around(tmp_path / "s.parquet")


@pytest.mark.usefixtures("ray_session")
def test_many_frames_are_shared_out(mer_ray, tmp_path):
    model, n = save_model(tmp_path / "model"), SMALL_ROWS + 100
    table = many_frames(n)
    pq.write_table(table.slice(0, 1_500), tmp_path / "a.parquet")  # more in a row group than are scored at once
    pq.write_table(table.slice(1_500), tmp_path / "b.parquet", row_group_size=200)
    places = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "a.parquet"]
    assert f"{n:,} tracks" in score(mer_ray, *places, "--model", model, "--out", tmp_path / "s.parquet")
    found = values(pq.read_table(tmp_path / "s.parquet"))
    assert len(found) == n
    chosen = [0, 1_023, 1_024, 1_499, 1_500, n - 1]
    expected = predictor.load(model).predict_frames([frames_of(i) for i in chosen])
    for i, e in zip(chosen, expected, strict=True):
        assert found[f"{i:016x}"] == pytest.approx(e.vad, abs=1e-6)
    again = score(mer_ray, *places, "--model", model, "--out", tmp_path / "s.parquet")
    assert f"{n:,} tracks · nothing new" in again


class Deadly(score_workers.ScoreFrames):
    """Ends at the row group whose first row is the fourth."""

    def _score(self, unit, there):
        if unit["start"] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._score(unit, there)


def test_a_row_group_that_ends_every_worker_is_one_failure(ray_session, mer_ray, tmp_path, monkeypatch):
    model, file = save_model(tmp_path / "model"), tmp_path / "f.parquet"
    pq.write_table(many_frames(9), file, row_group_size=3)
    arguments = (file, "--model", model, "--out", tmp_path / "out", "--set", "score.workers=1")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not see this folder
    with monkeypatch.context() as patched:
        patched.setattr(stage, "SMALL_ROWS", 0)
        patched.setattr(score_workers, "ScoreFrames", Deadly)
        assert "6 tracks · 1 failed" in score(mer_ray, *arguments)
    (failed,) = Workspace(tmp_path / "out").failures()
    assert (failed["reason"], failed["attempts"]) == ("worker_died", 1)
    assert failed["message"].startswith(f"{file}, row group 1 (3 rows): {TRIES} workers ended on it alone")
    assert "nothing new, found everything done · 1 failed" in score(mer_ray, *arguments)
    mended = score(mer_ray, *arguments, "--retry-failed")
    assert "9 tracks · 3 new" in mended
    assert "failed" not in mended


# kills ---------------------------------------------------------------------------------------------------------------


def kill_once_there_are(shards: int, folder: Path, *arguments: object) -> None:
    """Start the command, and kill it when so much of its work is there (or it has ended, on a fast machine)."""
    command = [sys.executable, "-m", "mer_ray", "score", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        give_up = time.monotonic() + 150
        while process.poll() is None and time.monotonic() < give_up:
            with contextlib.suppress(FileNotFoundError):
                if len(list(folder.iterdir())) >= shards:
                    break
            time.sleep(0.002)
        process.kill()
    assert time.monotonic() < give_up


def test_frames_whose_scoring_was_killed_are_scored_once_each(mer_ray, tmp_path):
    model, n = save_model(tmp_path / "model"), 1_200
    rows = [(f"{i:016x}", frames_of(i)[: 0 if i % 100 == 7 else 3]) for i in range(n)]
    pq.write_table(frames_table(rows), tmp_path / "f.parquet", row_group_size=20)
    target = tmp_path / "s.parquet"
    arguments = (tmp_path / "f.parquet", "--model", model, "--out", target)
    kill_once_there_are(12, tmp_path / "s.parquet.parts" / "scores", *arguments)
    assert f"{n - 12:,} tracks" in score(mer_ray, *arguments)
    score(mer_ray, *arguments[:-1], tmp_path / "undisturbed.parquet")
    table = pq.read_table(target)
    assert len(values(table)) == n - 12
    assert table.equals(pq.read_table(tmp_path / "undisturbed.parquet"))
    failed = pq.read_table(tmp_path / "s.failures.parquet")["track_id"].to_pylist()
    assert sorted(failed) == [f"{i:016x}" for i in range(7, n, 100)]
    assert around(target) == {"s.parquet", "s.rollups.csv", "s.failures.parquet"}


def test_files_whose_scoring_was_killed_are_scored_once_each(mer_ray, tmp_path):
    music = tmp_path / "music"
    for i in range(40):
        sounds.write(music / f"{i}.wav", sounds.noise(2.0, 48_000, channels=4, seed=i), 48_000)  # 5 or so to a shard
    (music / "bad.wav").write_text("no music")
    target = tmp_path / "s.parquet"
    kill_once_there_are(2, tmp_path / "s.parquet.parts" / "scores", music, "--out", target)
    assert "40 tracks" in score(mer_ray, music, "--out", target)
    table = pq.read_table(target)
    assert sorted(table["uri"].to_pylist()) == sorted(str(music / f"{i}.wav") for i in range(40))
    assert len(values(table)) == 40
    assert pq.read_table(tmp_path / "s.failures.parquet")["reason"].to_pylist() == ["corrupt"]
    assert around(target) == {"s.parquet", "s.rollups.csv", "s.failures.parquet"}


# the workspace's own tracks ------------------------------------------------------------------------------------------


def test_a_workspace_scores_what_is_new_and_anew_with_a_better_model(mer_ray, tmp_path):
    workspace = Workspace(tmp_path / "w")
    assert "no trained model" in refused(mer_ray, "--workspace", workspace.uri)
    save_model(tmp_path / "w" / "runs" / "good", 0, r2=0.3)
    assert "no features/vggish" in refused(mer_ray, "--workspace", workspace.uri)
    table = many_frames(5)
    workspace.append("features/vggish", table.slice(0, 3), "first")
    track = {"track_id": f"{1:016x}", "artist": "A", "title": "T", "album": "L", "tags": [], "source": "folder"}
    tracks = pa.Table.from_pylist([{**track, "fetched_at": 0}], schema=SCHEMAS["tracks"])
    workspace.append("tracks", tracks, "x")
    audio = {"track_id": f"{1:016x}", "uri": "/m/1.mp3", "provider": "folder", "sha256": "", "duration_s": 1.0}
    audio |= {"sample_rate": 1, "channels": 1, "tried": []}
    workspace.append("audio", pa.Table.from_pylist([audio], schema=SCHEMAS["audio"]), "x")
    out = score(mer_ray, "--workspace", workspace.uri)
    assert "3 tracks" in out
    rows = {r["track_id"]: r for r in workspace.read("scores").to_pylist()}
    named = rows.pop(f"{1:016x}")
    assert [named[c] for c in ("artist", "title", "album", "uri")] == ["A", "T", "L", "/m/1.mp3"]
    assert {(r["artist"], r["title"], r["album"], r["uri"], r["waveform"]) for r in rows.values()} == {
        ("", "", None, "", None)
    }
    before = set(workspace.names("scores"))
    assert "nothing new" in score(mer_ray, "--workspace", workspace.uri)
    workspace.append("features/vggish", table.slice(2, 2), "second")
    workspace.append("features/vggish", table.slice(3), "third")  # another process had the fourth one too
    message = score(mer_ray, "--workspace", workspace.uri)
    assert "5 tracks · 2 new" in message
    assert "failed" not in message
    assert before < set(workspace.names("scores"))
    save_model(tmp_path / "w" / "runs" / "better", 1, r2=0.4)
    assert "5 tracks ·" in score(mer_ray, "--workspace", workspace.uri)
    assert {m.split(":")[0] for m in workspace.read("scores")["model"].to_pylist()} == {"better"}
    (tmp_path / "w").rename(tmp_path / "moved")
    assert "5 tracks · nothing new" in score(mer_ray, "--workspace", tmp_path / "moved")


# what is lost --------------------------------------------------------------------------------------------------------


def test_more_lost_tracks_than_allowed_end_with_exit_code_3_after_all_is_written(mer_ray, tmp_path):
    paths = write_tunes(tmp_path / "music", 3, 2.0)
    listed = tmp_path / "list.csv"
    listed.write_text("path\n" + "".join(f"{p}\n" for p in paths) + f"{tmp_path}/gone.flac\n")
    arguments = ("score", listed, "--out", tmp_path / "s.csv")
    code, _, err = mer_ray(*arguments)
    assert code == 3
    assert "score: 1 of 4 tracks could not be worked on (1 missing), more than 20%; the rest is written" in err
    assert "--max-lost" in err
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 4
    assert mer_ray(*arguments)[0] == 3, "the same, when nothing is left to do"
    assert mer_ray(*arguments, "--max-lost", 0.25)[0] == 0
    code, _, err = mer_ray(*arguments, "--max-lost", 2)
    assert code == 2
    assert "max_lost" in err


def test_each_row_of_a_manifest_is_a_score_a_failure_or_a_repetition(mer_ray, tmp_path, monkeypatch):
    """Failures have the user's own id where it is free, and else one of the row's: none hides behind a scored row."""
    monkeypatch.chdir(tmp_path)
    a, b = write_tunes(tmp_path, 2, seconds=1.2)
    lines = [f"1;{a}", f"1;{a}", f"2;{b}", "2;", "3;", "3;", "3;C:\\b.mp3", "4;gone.mp3", "4;gone.mp3", ";"]
    rows = "".join(f"{line};Ä;T\n" for line in lines)
    Path("m.csv").write_text(f"ID;File Path;Artist;Title\n{rows}", encoding="utf-8-sig")
    code, out, err = mer_ray("score", "m.csv", "--out", "s.parquet")
    assert (code, err) == (0, ""), out + err
    assert "2 tracks · 6 failed" in out
    assert "listed more than once: 2; each file is scored once" in out
    assert set(pq.read_table("s.parquet")["track_id"].to_pylist()) == {"1", "2"}
    failed = {f["track_id"]: (f["reason"], f["message"]) for f in pq.read_table("s.failures.parquet").to_pylist()}
    assert len(failed) == 6
    assert failed["3"] == ("no_audio", "m.csv, row 5: Ä – T has no path or uri")
    assert failed["4"][0] == "missing"
    others = sorted(message for i, (_, message) in failed.items() if i not in "34")
    assert [message.split(":")[0] for message in others] == [f"m.csv, row {n}" for n in (10, 4, 6, 7)]


def test_a_manifest_without_files_and_a_workbook_say_what_to_do(mer_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("Datei;Artist;Title\na.mp3;A;T\n")
    assert "m.csv has no column with the files: call it path; its columns are Datei," in refused(mer_ray, "m.csv")
    Path("m.xlsx").write_bytes(b"PK\3\4" + bytes(99))
    assert "save the workbook as CSV (UTF-8)" in refused(mer_ray, "m.xlsx")
