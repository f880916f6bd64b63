"""The main job from end to end at toy size, on a real local Ray."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import tune_of, write_tunes
from parts import raw_ids, sets

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace

TOY = sets(
    *("collect.demo.cues=16", "collect.demo.seconds=3", "extract.vggish.weights=random"),
    *("train.folds=2", "train.epochs=2", "train.members=1", "train.batch_size=8"),
)


@pytest.fixture(scope="module")
def toy(ray_session, tmp_path_factory) -> Path:
    """Where the toy run's workspace is; the first test makes it."""
    return tmp_path_factory.mktemp("toy") / "workspace"


@pytest.fixture
def finished(toy, mer_ray) -> Path:
    """The toy workspace, finished."""
    code, out, err = mer_ray("run", "--workspace", toy, *TOY)
    assert code == 0, out + err
    return toy


def test_the_whole_way_makes_three_tables_of_twelve_rows(toy, mer_ray):
    code, out, err = mer_ray("run", "--workspace", toy, *TOY)
    assert code == 0, out + err
    with (toy / "report" / "metrics.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    figures = ["mse", "mae", "rmse", "r2", "r", "ccc"]
    assert list(rows[0])[: 5 + len(figures)] == ["dimension", "network", "feature", *figures, "n", "label_sd"]
    assert [(r["network"], r["feature"]) for r in rows if r["dimension"] == "arousal"] == [
        ("constant mean", "-"),
        ("constant median", "-"),
        *((n, f) for n in ("ridge", "svr", "cnn", "lstm", "kernel") for f in ("mfcc", "vggish")),
    ]
    assert Counter(r["dimension"] for r in rows) == dict.fromkeys(DIMENSIONS, 12)
    assert {int(r["n"]) for r in rows} == {16}
    for dimension in DIMENSIONS:
        assert dimension.capitalize() in out
        assert (toy / "report" / f"{dimension}.png").read_bytes().startswith(b"\x89PNG")
    assert "seeded random weights (seed 0)" in out
    markdown = (toy / "report" / "report.md").read_text()
    assert markdown.count("| constant mean |") == 3
    assert "16 tracks by 4 artists" in markdown
    assert "seeded random weights" in markdown


def test_every_table_has_every_track_once(finished):
    workspace = Workspace(finished)
    ids = Counter(workspace.ids("tracks"))
    assert len(ids) == 16
    for table in ("labels", "audio", "features/mfcc", "features/vggish", "scores"):
        assert raw_ids(finished, table) == ids, table
    assert workspace.failures() == []
    assert not [p for p in finished.rglob("*") if p.is_file() and p.parent.name == ".tmp"]


def test_a_run_folder_is_a_model_without_pickles(finished):
    runs = sorted(p.name for p in (finished / "runs").iterdir())
    assert runs == sorted(f"{n}-{f}" for n in ("cnn", "lstm", "kernel") for f in ("mfcc", "vggish"))
    for name in runs:
        files = {p.name for p in (finished / "runs" / name).iterdir()}
        assert files == {"model.json", "weights.safetensors", "predictions.parquet", "curves.parquet", "README.md"}
    described = json.loads((finished / "runs" / "lstm-vggish" / "model.json").read_text())
    assert described["feature"]["weights"] == {"kind": "random", "seed": 0}
    predictions = pq.read_table(finished / "runs" / "cnn-mfcc" / "predictions.parquet").to_pylist()
    assert len(predictions) == 16
    artists = {r["artist"]: set() for r in predictions}
    for row in predictions:
        artists[row["artist"]].add(row["fold"])
    assert all(len(folds) == 1 for folds in artists.values())


def test_every_trial_has_tensorboard_events(finished):
    folders = {p.parent.name.rsplit("-", 1)[0] for p in (finished / "tune").rglob("events.out.tfevents.*")}
    trials = {f"baselines-{f}" for f in ("mfcc", "vggish")}
    for run in (f"{n}-{f}" for n in ("cnn", "lstm", "kernel") for f in ("mfcc", "vggish")):
        trials |= {f"{run}-repeat0-fold{k}" for k in range(2)} | {f"{run}-assemble"}
        trials |= {f"{run}-whole"} if run.startswith("kernel") else set()
    assert folders == trials


def test_run_again_finds_everything_done(finished, mer_ray):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    code, out, _ = mer_ray("run", "--workspace", finished, *TOY)
    assert code == 0
    assert "everything was done already" in out
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")} == before


def test_scores_lie_in_their_intervals(finished):
    for row in Workspace(finished).read("scores").to_pylist():
        for d in DIMENSIONS:
            assert 0 <= row[f"lower_{d}"] <= row[d] <= row[f"upper_{d}"] <= 1
        assert row["curve"]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("train.folds=3", "train.folds was 2, now 3"),
        ("collect.demo.seed=8", "collect.seed was 7, now 8"),
        ("extract.mfcc.n_mfcc=13", "extract:mfcc.n_dims was 20, now 13"),
    ],
)
def test_a_workspace_made_with_other_settings_is_refused(finished, mer_ray, setting, named):
    code, out, err = mer_ray("run", "--workspace", finished, *TOY, "--set", setting)
    assert code == 2
    assert named in err
    assert "choose another --workspace" in err
    assert err.count("\n") == 1 + err.count("Ray:")
    assert "Traceback" not in out + err


def test_status_counts_rows_and_models(finished, mer_ray):
    code, out, _ = mer_ray("status", "--workspace", finished)
    assert code == 0
    assert "features/vggish" in out
    assert all(f"{network}-{feature}" in out for network in ("cnn", "lstm", "kernel") for feature in ("mfcc", "vggish"))
    assert "No failures" in out


def test_scoring_a_folder_gives_a_row_a_file_and_keeps_what_failed(finished, mer_ray, tmp_path):
    music = tmp_path / "music"
    write_tunes(music, 5)
    (music / "broken.mp3").write_text("this is no music")
    (music / "empty.wav").touch()
    for name in ("scores.csv", "scores.parquet"):
        target = tmp_path / name
        code, out, err = mer_ray("score", music, "--model", finished / "runs" / "cnn-mfcc", "--out", target)
        assert code == 0, out + err
        assert "5 tracks" in out
        assert "2 failed" in out
        assert not (tmp_path / f"{name}.parts").exists()
    with (tmp_path / "scores.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert all(0 <= float(r[d]) <= 1 for r in rows for d in DIMENSIONS)
    assert [r["uri"] for r in rows] == [str(p) for p in sorted(music.glob("tune*"))]
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table["valence"].to_pylist() == pytest.approx([float(r["valence"]) for r in rows], abs=1e-6)
    failures = pq.read_table(tmp_path / "scores.failures.parquet").to_pylist()
    assert {(Path(f["message"].split(" ")[0]).name.rstrip(":"), f["reason"]) for f in failures} == {
        ("broken.mp3", "corrupt"),
        ("empty.wav", "empty"),
    }


def test_the_python_interface_scores_the_same_without_ray(finished, mer_ray, tmp_path):
    import mer_ray as package

    paths = write_tunes(tmp_path / "music", 2)
    model = finished / "runs" / "lstm-mfcc"
    code, out, err = mer_ray("score", tmp_path / "music", "--model", model, "--out", tmp_path / "s.parquet")
    assert code == 0, out + err
    by_command = pq.read_table(tmp_path / "s.parquet")
    by_function = package.score(paths, model)
    assert by_function["uri"].to_pylist() == by_command["uri"].to_pylist()
    for d in DIMENSIONS:
        assert by_function[d].to_pylist() == pytest.approx(by_command[d].to_pylist(), abs=1e-6)
    prediction = package.load_model(model).predict(tune_of(0), 22_050)
    assert prediction.vad == pytest.approx([by_command[d][0].as_py() for d in DIMENSIONS], abs=1e-3)


def test_a_foreign_model_folder_is_refused(finished, mer_ray, tmp_path):
    write_tunes(tmp_path / "music", 1)
    code, _, err = mer_ray("score", tmp_path / "music", "--model", tmp_path, "--out", tmp_path / "s.csv")
    assert code == 2
    assert "is not a model folder" in err
