"""Splits and folds that the source gives: what is trained on what, what is said of it, and the same by hand."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sklearn.metrics

from mer_ray import config, features
from mer_ray.errors import ConfigError, InputError
from mer_ray.evaluation import overlap_report, protocol
from mer_ray.evaluation.dynamic import FILE as CURVES_FILE
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import SCHEMAS, features_schema, labels_schema, ragged_column
from mer_ray.io.tables import Workspace, now
from mer_ray.models import is_network
from mer_ray.models.windows import window_frames
from mer_ray.scoring import model_folder, model_list, unfinished
from mer_ray.training import data, given
from mer_ray.training.crossval import partitions, parts
from mer_ray.training.data import Dataset
from mer_ray.training.duplicates import Duplicate
from mer_ray.training.fit import create
from mer_ray.training.recipe import Recipe, label_weights
from mer_ray.training.search import Slot

DIMENSIONS = ("valence", "arousal")
MFCC = {"sample_rate_hz": 8_000, "hop_length": 4_000, "n_mels": 16, "n_mfcc": 8}
N = 62
ARTISTS = [f"Artist {i % 12}" for i in range(60)] + ["Artist 0", "Artist 20"]
SPLITS = ["train" if i % 12 < 7 else "valid" if i % 12 < 9 else "test" for i in range(60)] + ["test", ""]
FOLDS = [f"{(1, 2, 10)[i % 12 % 3]}" for i in range(60)] + ["2", ""]


def options(workspace: Path, **train: object) -> list[object]:
    own = {"networks": "[kernel]", "window_s": 4.0, "split": "given", **train}
    values = {f"extract.mfcc.{k}": v for k, v in MFCC.items()} | {f"train.{k}": v for k, v in own.items()}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["--workspace", workspace, "--set", "collect.source=folder", "--set", "extract.features=mfcc", *sets]


def workspace_of(folder: Path) -> Path:
    """62 tracks of two dimensions: a split by artist, but for one test track; another track is in no split."""
    workspace, rng = Workspace(folder), np.random.default_rng(0)
    ids, labels = [f"{i:016x}" for i in range(N)], rng.uniform(0.2, 0.8, (N, 2))
    labels[:10, 1] = np.nan
    about = {"source": "folder", "fetched_at": now(), "tags": []}
    tracks = [
        {"track_id": t, "artist": a, "title": t, "split": s or None, "fold": f or None, "dataset": "emomusic", **about}
        for t, a, s, f in zip(ids, ARTISTS, SPLITS, FOLDS, strict=True)
    ]
    workspace.append("tracks", pa.Table.from_pylist(tracks, SCHEMAS["tracks"]), "all")
    more = {"evidence": [], "n_matched": 0, "lexicon": "manifest"}
    rows = [
        {"track_id": t, "valence": v, "arousal": None if np.isnan(a) else a, **more}
        for t, (v, a) in zip(ids, labels, strict=True)
    ]
    workspace.append("labels", pa.Table.from_pylist(rows, labels_schema(DIMENSIONS)), "all")
    workspace.write_json({"collect": {"source": "folder", "scale": [1, 9]}}, "settings", "source.json")
    spec = features.resolve("mfcc", Params(**MFCC))
    frames = rng.standard_normal((N, 30, spec.n_dims)).astype(np.float32)
    frames[:, :, :2] += 6 * np.nan_to_num(labels, nan=0.5)[:, None].astype(np.float32)
    columns = [pa.array(ids), ragged_column(list(frames), spec.n_dims), pa.array([spec.hop_s] * N)]
    columns.append(pa.array([spec.fingerprint] * N))
    workspace.append("features/mfcc", pa.Table.from_arrays(columns, schema=features_schema(spec.n_dims)), "all")
    return folder


@pytest.fixture(scope="module")
def seed(tmp_path_factory) -> Path:
    return workspace_of(tmp_path_factory.mktemp("seed"))


@pytest.fixture(scope="module")
def dataset(seed) -> Dataset:
    return data.load(Workspace(seed), features.resolve("mfcc", Params(**MFCC)))


# partitions ----------------------------------------------------------------------------------------------------------


def test_a_given_split_is_a_partition_of_its_own_tracks(dataset):
    assert given.kind(dataset) == protocol.TEST
    own = given.within(dataset, protocol.TEST)
    assert (own.ids, own.splits) == (dataset.ids[:-1], SPLITS[:-1])
    assert len(own.frames) == len(own.labels) == len(own.groups) == 61
    assert own.frames[3] is dataset.frames[3]
    values = {"train": given.TRAIN, "valid": given.VALID, "test": 0}
    assert given.partition(own, protocol.TEST).tolist() == [values[s] for s in SPLITS[:-1]]


def test_given_folds_are_taken_as_they_are_named(dataset):
    bare = replace(dataset, splits=[""] * N)
    assert given.kind(bare) == protocol.FOLDS
    own = given.within(bare, protocol.FOLDS)
    assert given.fold_names(own) == ["1", "2", "10"]
    assert given.partition(own, protocol.FOLDS).tolist() == [["1", "2", "10"].index(f) for f in FOLDS[:-1]]
    with pytest.raises(InputError, match="no labelled track has a split or a fold"):
        given.kind(replace(bare, given_folds=[""] * N))


@pytest.mark.parametrize(("gone", "said"), [("test", "0 test tracks have a label of valence"), ("train", "0 training")])
def test_a_split_that_lacks_a_side_is_named(dataset, gone, said):
    splits = ["" if s == gone or (s == "valid" and gone == "train") else s for s in dataset.splits]
    own = given.within(replace(dataset, splits=splits), protocol.TEST)
    with pytest.raises(InputError, match=said):
        given.check(own, given.partition(own, protocol.TEST))


def test_a_dimension_that_no_test_track_has_is_named(dataset):
    own = given.within(dataset, protocol.TEST)
    labels, fold = own.labels.copy(), given.partition(own, protocol.TEST)
    given.check(own, fold)
    labels[fold == 0, 1] = np.nan
    with pytest.raises(InputError, match="0 test tracks have a label of arousal"):
        given.check(replace(own, labels=labels), fold)


def test_what_is_on_both_sides_is_counted(dataset):
    own = given.within(dataset, protocol.TEST)
    fold = given.partition(own, protocol.TEST)
    tests = np.flatnonzero(fold == 0)
    pairs = [Duplicate(0, int(tests[0]), 0.9), Duplicate(0, 1, 0.9), Duplicate(int(tests[1]), int(tests[2]), 0.9)]
    found = given.overlap(own, fold, pairs)
    assert np.flatnonzero(found.artist).tolist() == np.flatnonzero(found.group).tolist() == [60]
    assert np.flatnonzero(found.duplicate).tolist() == [tests[0]]
    assert found.to_json() == {"tested": 16, "artist": 1, "duplicate": 1, "group": 1, "apart": 14}
    [said] = overlap_report.warning(found.to_json(), protocol.TEST)
    assert "of 16 test tracks, 1 are by an artist of training tracks" in said
    nothing = dict.fromkeys(("artist", "duplicate", "group"), 0)
    assert overlap_report.warning({**nothing, "tested": 16}, protocol.TEST) == []


def test_an_artist_without_a_name_is_nobody_s():
    fold = np.array([0, given.TRAIN, 0, given.VALID])
    named = [["", "", "Björk", "BJORK"][i] for i in range(4)]
    one = Dataset(
        [np.zeros((1, 1))] * 4, np.zeros((4, 3)), list("abcd"), np.zeros((4, 3)), list("abcd"), named, *[[""] * 4] * 3,
        [], *[[""] * 4] * 4,
    )  # fmt: skip
    assert given.overlap(one, fold, []).artist.tolist() == [False, False, True, False]


# seeds ---------------------------------------------------------------------------------------------------------------


def test_a_repeat_of_a_listed_seed_is_the_run_that_has_it_alone():
    rng = np.random.default_rng(0)
    labels, groups = rng.uniform(size=(60, 2)), [f"g{i // 2}" for i in range(60)]
    several = partitions(groups, labels, 3, [0, 7, 42])
    for own, number in zip(several, (0, 7, 42), strict=True):
        assert np.array_equal(own, partitions(groups, labels, 3, [number])[0])
    plan = parts("lstm", 3, 3, 2, 0, 0, (0, 7, 42))
    assert [p.seed for p in plan if p.repeat == 1] == [p.seed for p in parts("lstm", 3, 1, 2, 0, 7)]
    assert [p.number for p in plan] == list(range(18))
    assert len({p.seed for p in plan}) == 18
    for use in ("draw", "split", "train"):
        assert Slot(1, 2, None, (0, 7, 42)).seed(0, use) == Slot(0, 2, None).seed(7, use)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.seeds=[0, 7]", "train.repeats=3"], "seeds .* and repeats 3 contradict"),
        (["train.seeds=[0, 7]", "train.seed=7"], "seeds .* and seed 7 contradict"),
        (["train.seeds=[0, 0]"], "different numbers"),
        (["train.seeds=[-1]"], "train.seeds"),
        (["train.seeds=seven"], "train.seeds"),
        (["train.seeds=[]"], "train.seeds"),
    ],
)
def test_seeds_that_contradict_something_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        config.load(None, settings)


def test_seeds_decide_the_repeats():
    train = config.load(None, ["train.seeds=[5, 1]", "train.repeats=2", "train.seed=5"]).train
    assert (train.seeds, train.seed, train.repeats) == ([5, 1], 5, 2)
    assert protocol.in_words([3]) == "seed 3"
    assert protocol.in_words([3, 4, 5]) == "seeds 3 to 5"
    assert protocol.in_words([0, 7, 42]) == "seeds 0, 7 and 42"


# runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(ray_session, seed, tmp_path_factory) -> tuple[Path, str]:
    """A workspace with runs of the given test set, of the given folds and of folds by groups, and what was printed."""
    from click.testing import CliRunner

    from mer_ray import cli
    from mer_ray.stages import session

    folder = Path(shutil.copytree(seed, tmp_path_factory.mktemp("trained") / "w"))
    printed = []
    cnn = {"networks": "[kernel,cnn]", "epochs": 25, "patience": 25, "members": 1, "batch_size": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "close", lambda: None)
        for arguments in (
            ["train", *options(folder, **cnn, seeds="[4, 9]")],
            ["train", *options(folder, split="groups", folds=3)],
            ["report", "--workspace", folder],
        ):
            result = CliRunner().invoke(cli.main, [str(a) for a in arguments], env={"COLUMNS": "200"})
            assert result.exit_code == 0, result.output
            printed.append(result.output)
    return folder, "\n".join(printed)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "report" / "metrics.csv").open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_table_is_that_of_training_on_train_and_scoring_test_by_hand(trained, seed):
    """To 1e-9, with the models alone and scikit-learn's measures. Closed-form models train on valid, too."""
    spec = features.resolve("mfcc", Params(**MFCC))
    workspace = Workspace(trained[0])
    tracks = {r["track_id"]: r for r in workspace.read("tracks").to_pylist()}
    rows = [r for r in workspace.read("labels").to_pylist() if tracks[r["track_id"]]["split"]]
    frames_of = {r["track_id"]: np.array(r["frames"], np.float32) for r in workspace.read("features/mfcc").to_pylist()}
    frames = [frames_of[r["track_id"]] for r in rows]
    labels = np.array([[r[d] if r[d] is not None else np.nan for d in DIMENSIONS] for r in rows])
    test = np.array([tracks[r["track_id"]]["split"] == "test" for r in rows])
    train = np.flatnonzero(~test)
    artists = [tracks[rows[i]["track_id"]]["artist"].lower() for i in train]
    found = {(r["network"], r["dimension"]): r for r in rows_of(trained[0]) if r["split"] == "test"}
    inside, outside = ([frames[i] for i in k] for k in (train, np.flatnonzero(test)))
    for network in ("kernel", "ridge", "svr"):
        recipe, values = Recipe(network, spec.hop_s, window_frames(4.0, spec.hop_s)), []
        for number in (4, 9):  # the repeats of a given split differ in random numbers alone
            weights = label_weights(labels[train], None)
            model = create(recipe).fit(inside, labels[train], artists, weights=weights, seed=number * 10_000)
            values.append(np.stack([p.value for p in model.predict(outside)]))
        for i, dimension in enumerate(DIMENSIONS):
            known = np.isfinite(labels[test, i])
            pairs = [(labels[test, i][known], value[known, i]) for value in values]
            row = found[network, dimension]
            r2, mse = (
                np.mean([measure(*pair) for pair in pairs])
                for measure in (sklearn.metrics.r2_score, sklearn.metrics.mean_squared_error)
            )
            assert float(row["r2"]) == pytest.approx(r2, abs=1e-9), network
            assert float(row["mse"]) == pytest.approx(mse, abs=1e-9)
            assert float(row["r"]) == pytest.approx(np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs]), abs=1e-9)
            assert int(row["n"]) == known.sum()
    for i, dimension in enumerate(DIMENSIONS):
        labelled = labels[train, i][np.isfinite(labels[train, i])]
        own = labels[test, i][np.isfinite(labels[test, i])]
        constant = float(found["constant mean", dimension]["mse"])
        assert constant == pytest.approx(np.mean((own - labelled.mean()) ** 2), abs=1e-12)
        constant = float(found["constant median", dimension]["mae"])
        assert constant == pytest.approx(np.mean(np.abs(own - np.median(labelled))), abs=1e-12)


def test_test_tracks_have_no_part_in_a_model_nor_in_its_reference(trained, seed, tmp_path, mer_ray):
    """With other labels and other sound of the test tracks, and of the track in no split, the weights are the same."""
    folder, rng = Path(shutil.copytree(seed, tmp_path / "w")), np.random.default_rng(1)
    workspace = Workspace(folder)
    seen = {r["track_id"] for r in workspace.read("tracks").to_pylist() if r["split"] in ("train", "valid")}
    labels, frames = workspace.read("labels").to_pylist(), workspace.read("features/mfcc").to_pylist()
    for row in labels:
        row |= {} if row["track_id"] in seen else {"valence": float(rng.random())}
    for row in frames:
        row |= {} if row["track_id"] in seen else {"frames": rng.standard_normal(np.shape(row["frames"])).tolist()}
    for name, rows in (("labels", labels), ("features/mfcc", frames)):
        schema = workspace.read(name).schema
        workspace.discard(name)
        workspace.append(name, pa.Table.from_pylist(rows, schema), "all")
    code, out, err = mer_ray("train", *options(folder, seeds="[4, 9]", baselines=False))
    assert code == 0, out + err
    runs = [path / "runs" / "kernel-mfcc.test" for path in (folder, trained[0])]
    weights = [(run / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    one, other = (pq.read_table(run / "predictions.parquet") for run in runs)
    assert not one["predicted_valence"].equals(other["predicted_valence"])


def test_a_network_stops_by_the_given_validation_set(trained, dataset):
    own = given.within(dataset, protocol.TEST)
    fold = given.partition(own, protocol.TEST)
    inside = own.of(np.flatnonzero(fold != 0))
    described = json.loads((trained[0] / "runs" / "cnn-mfcc.test" / "model.json").read_text())
    model = model_folder.load(str(trained[0] / "runs" / "cnn-mfcc.test"))
    assert is_network("cnn")
    assert len(model.members) == 2
    recipe = Recipe("cnn", model.feature.hop_s, model.window, epochs=25, patience=25, batch_size=8)
    again = create(
        replace(recipe, **{k: described["details"]["settings"][k] for k in ("learning_rate", "ema", "mixup")})
    )
    again.fit(
        inside.frames, inside.labels, inside.groups, seed=4 * 10_000, validation=fold[fold != 0] == given.VALID,
        weights=np.isfinite(inside.labels).astype(np.float32),
    )  # fmt: skip
    for name, values in model.members[0].arrays.items():
        np.testing.assert_allclose(again.arrays[name], values, atol=1e-5)


def test_both_protocols_have_tables_of_their_own(trained):
    folder, printed = trained
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["cnn-mfcc.test", "kernel-mfcc", "kernel-mfcc.test"]
    text = (folder / "report" / "report.md").read_text()
    heads = [line for line in text.splitlines() if line.startswith(("# ", "### "))]
    assert heads == [
        *("# Metrics", "### Valence", "### Arousal", "# Metrics on the given test set"),
        *("### Valence, given test set", "### Arousal, given test set"),
    ]
    groups, test = text.split("# Metrics on the given test set")
    assert "out-of-fold, 3 folds, seed 0" in groups
    assert "16 tracks by 4 artists" in test
    assert "given test set, other tracks: 35 of train and 10 of valid; means over 2 repeats (seeds 4 and 9)" in test
    assert "none on both sides" in groups
    assert "none on both sides" not in test
    assert "CNN" in test
    assert "CNN" not in groups
    assert {(r["split"], r["n"]) for r in rows_of(folder) if r["dimension"] == "valence"} == {
        ("groups", "62"),
        ("test", "16"),
    }
    for picture in ("valence.png", "valence.test.png", "arousal.test-calibration.png", "learning-curves.test.png"):
        assert (folder / "report" / picture).read_bytes().startswith(b"\x89PNG")
    assert "Valence, given test set" in printed
    assert model_folder.best(Workspace(folder)).endswith("kernel-mfcc")
    listed = model_list.models(Workspace(folder))
    assert (listed[0]["name"], listed[0]["best"]) == ("kernel-mfcc", True)
    assert not any(m["best"] for m in listed[1:])
    rows = {(r["network"], r["dimension"], r["split"]): float(r["r2"]) for r in rows_of(folder)}
    for name, split in (("kernel-mfcc", "groups"), ("kernel-mfcc.test", "test")):
        card = (folder / "runs" / name / "README.md").read_text()
        assert f"| {rows['ridge', 'valence', split]:.3f} | {rows['svr', 'valence', split]:.3f} |" in card


def test_leakage_of_the_split_is_said_everywhere_and_forbids_nothing(trained):
    folder, printed = trained
    said = "of 16 test tracks, 1 are by an artist of training tracks, 1 share an artist, album, composer or recording"
    report = (folder / "report" / "report.md").read_text()
    card = (folder / "runs" / "kernel-mfcc.test" / "README.md").read_text()
    printed = " ".join(printed.split())
    assert printed.count(said) >= 2  # by train and by report
    assert said in report
    assert said in " ".join(card.split())
    assert "1 of 62 tracks have no given split and are left out" in printed
    assert "the source gives a split, which is not used: train.split=given does" in printed  # by the other training
    described = json.loads((folder / "runs" / "kernel-mfcc.test" / "model.json").read_text())
    apart = described["details"]["overlap"]
    assert (apart["tested"], apart["apart"], apart["metrics"]["valence"]["n"]) == (16, 15, 15)
    assert f"{apart['metrics']['valence']['r2']:.3f}" in report.split("## On both sides of the split")[1]
    assert said not in (folder / "runs" / "kernel-mfcc" / "README.md").read_text()


def test_errors_are_also_on_the_scale_of_the_ratings(trained):
    folder, _ = trained
    text = (folder / "report" / "report.md").read_text()
    assert text.count("## On the scale 1..9") == 2
    for row in rows_of(folder):
        assert row["scale"] == "1..9"
        assert float(row["rmse_on_scale"]) == pytest.approx(8 * float(row["rmse"]))
        assert float(row["mae_on_scale"]) == pytest.approx(8 * float(row["mae"]))
        assert f"{8 * float(row['rmse']):.3f}" in text
    card = (folder / "runs" / "kernel-mfcc" / "README.md").read_text()
    assert "On the ratings' own scale 1..9, RMSE and MAE are: valence " in card


def test_published_rows_stand_beside_ours_and_are_not_bold(trained):
    text = (trained[0] / "report" / "report.md").read_text()
    section = text.split("## Published")[1].split("\n## ")[0]
    [row] = [line for line in section.splitlines() if "Music2Emo" in line]
    assert "(published)" in row
    assert "| 0.651 |" in row
    assert "| 0.762 |" in row
    assert "AMAAI-Lab/Music2Emotion" in row
    assert "kernel on MFCC" in section
    assert "**" not in section


def test_once_more_it_was_done_and_other_seeds_are_another_run(trained, mer_ray):
    cnn = {"networks": "[kernel,cnn]", "epochs": 25, "patience": 25, "members": 1, "batch_size": 8}
    code, out, err = mer_ray("train", *options(trained[0], **cnn, seeds="[4, 9]"))
    assert code == 0, out + err
    assert "found everything done" in out
    for other in ({"seeds": "[4, 8]"}, {"seed": 4, "repeats": 2}):
        code, out, err = mer_ray("train", *options(trained[0], **cnn, **other))
        assert code == 2
        assert "train.seeds was [4, 9]" in err


def changed(folder: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Workspace:
    """A copy of the workspace in which ``change`` was applied to each track."""
    workspace = Workspace(Path(shutil.copytree(folder, target)))
    rows = workspace.read("tracks").to_pylist()
    workspace.discard("tracks")
    workspace.append("tracks", pa.Table.from_pylist([change(dict(r)) for r in rows], SCHEMAS["tracks"]), "all")
    return workspace


def waiting(workspace: Workspace, *settings: str) -> set[str]:
    """The runs and baselines that `mer-ray train` would make."""
    train = config.load(None, ["train.networks=[kernel]", "train.window_s=4.0", *settings]).train
    specs = {"mfcc": features.resolve("mfcc", Params(**MFCC))}
    return {trial.run for trial in unfinished.trials(train, workspace, specs).trials}


TEST, GROUPS = ("train.split=given", "train.seeds=[4, 9]"), ("train.split=groups", "train.folds=3")


def test_another_split_concerns_the_runs_on_it_alone(trained, tmp_path):
    moved = changed(trained[0], tmp_path / "a", lambda r: r | {"split": {"valid": "train"}.get(r["split"], r["split"])})
    assert waiting(moved, *GROUPS) == set()
    assert waiting(moved, *TEST) == {"kernel-mfcc.test", "baselines-mfcc.test"}
    outdated = {m["name"]: m["outdated"] for m in model_list.models(moved)}
    assert outdated == {"kernel-mfcc": False, "kernel-mfcc.test": True, "cnn-mfcc.test": True}
    # A track in no split and the folds, which are not used, are no part of a run on a test set.
    other = changed(trained[0], tmp_path / "b", lambda r: r | {"fold": None, "dataset": "other"})
    assert waiting(other, *GROUPS) == waiting(other, *TEST) == set()
    labels = other.read("labels").filter(pc.field("track_id") != f"{N - 1:016x}")
    other.discard("labels")
    other.append("labels", labels, "all")
    assert waiting(other, *GROUPS) == {"kernel-mfcc", "baselines-mfcc"}


def test_a_run_of_other_dimensions_does_not_stop_training_and_report(trained, tmp_path, mer_ray):
    """Labels were made again for other dimensions, and one network trained on them; other runs are still there."""
    folder = Path(shutil.copytree(trained[0], tmp_path / "w"))
    workspace = Workspace(folder)
    rows = [{**r, "tension": r["valence"]} for r in workspace.read("labels").to_pylist()]
    workspace.discard("labels")
    workspace.append("labels", pa.Table.from_pylist(rows, labels_schema(("tension",))), "all")
    cnn = {"networks": "[cnn]", "epochs": 1, "members": 1, "split": "groups", "folds": 2}
    for arguments in (["train", *options(folder, **cnn)], ["report", "--workspace", folder]):
        code, out, err = mer_ray(*arguments)
        assert code == 0, out + err
    card = (folder / "runs" / "kernel-mfcc" / "README.md").read_text()
    assert "| – | – | ±" in card  # the baselines are of tension now
    published = (folder / "report" / "report.md").read_text().split("## Published")[1].split("\n## ")[0]
    assert "| kernel on MFCC |" in published
    assert "CNN" not in published


def test_given_folds_are_cross_validated(ray_session, seed, tmp_path, mer_ray):
    folder = Path(shutil.copytree(seed, tmp_path / "w"))
    workspace = Workspace(folder)
    rows = workspace.read("tracks").to_pylist()
    workspace.discard("tracks")
    without = [{**r, "split": None} for r in rows]
    workspace.append("tracks", pa.Table.from_pylist(without, SCHEMAS["tracks"]), "all")
    for arguments in (["train", *options(folder, folds=7)], ["report", "--workspace", folder]):
        code, out, err = mer_ray(*arguments)
        assert code == 0, out + err
        said = "of 61 tracks, 6 are by an artist of tracks of other folds"
        assert said in " ".join(out.split())
        if arguments[0] == "train":
            assert "train.folds is not used: train.split is given" in out
    assert [p.name for p in (folder / "runs").iterdir()] == ["kernel-mfcc.folds"]
    found = workspace.read_bytes("runs", "kernel-mfcc.folds", "predictions.parquet")
    made = pq.read_table(io.BytesIO(found)).to_pylist()
    fold_of = {r["track_id"]: r["fold"] for r in rows}
    assert {(fold_of[r["track_id"]], r["fold"]) for r in made} == {("1", 0), ("2", 1), ("10", 2)}
    assert len(made) == 61
    text = (folder / "report" / "report.md").read_text()
    assert "out-of-fold, 3 given folds, seed 0" in text
    assert "# Metrics in the given folds" in text


def test_a_search_judges_by_the_given_validation_set(dataset):
    from mer_ray.training.search import inner_split

    own = given.within(dataset, protocol.TEST)
    fold = given.partition(own, protocol.TEST)
    inside, holdout = inner_split(own.groups, own.labels, fold, 0, seed=1)
    assert [own.splits[i] for i in inside[holdout]] == ["valid"] * 10
    assert [own.splits[i] for i in inside[~holdout]] == ["train"] * 35


def test_labels_over_time_of_a_given_test_set_are_judged_on_its_tracks_alone(ray_session, tmp_path, mer_ray):
    folder = workspace_of(tmp_path / "w")
    workspace = Workspace(folder)
    rows = workspace.read("labels").to_pylist()
    times = np.arange(0.5, 14.0, 0.5)
    for i, row in enumerate(rows):
        values = np.clip(row["valence"] + 0.1 * np.sin(times + i), 0, 1)
        row["curves"] = [{"dimension": "valence", "time_s": times.tolist(), "value": values.tolist()}]
    schema = workspace.schema("labels")
    workspace.discard("labels")
    workspace.append("labels", pa.Table.from_pylist(rows, schema), "all")
    for arguments in (
        ["train", *options(folder, targets="curve", baselines=False)],
        ["report", "--workspace", folder],
    ):
        code, out, err = mer_ray(*arguments)
        assert code == 0, out + err
    made = pq.read_table(io.BytesIO(workspace.read_bytes("runs", "kernel-mfcc.test", CURVES_FILE)))
    tests = {f"{i:016x}" for i, s in enumerate(SPLITS) if s == "test"}
    assert set(made["track_id"].to_pylist()) == tests
    report = (folder / "report" / "report.md").read_text()
    assert "over time" in report.split("# Metrics on the given test set")[1].lower()
