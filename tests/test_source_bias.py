"""Biases of data sets: what is planted is found, chance is not, and no fold's own labels have a part in it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_given import options, workspace_of

from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace
from mer_ray.training.source_bias import biases, of_folds


def catalog(seed: int, sizes: dict[str, int], shift: dict[str, float]) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    names = [name for name, n in sizes.items() for _ in range(n)]
    labels = rng.normal(0.5, 0.1, (len(names), 2))
    labels[:, 0] += [shift.get(name, 0.0) for name in names]
    return labels, names


def test_a_planted_bias_is_found_and_the_other_dimension_has_none():
    labels, names = catalog(0, {"a": 400, "b": 400, "c": 400}, {"a": -0.1, "b": 0.1})
    found = biases(labels, names)
    assert [found[name][0] for name in "abc"] == pytest.approx([-0.1, 0.1, 0.0], abs=0.02)
    assert np.abs([found[name][1] for name in "abc"]).max() < 0.015


def test_a_small_data_set_is_shrunk_and_one_alone_has_none():
    small, large = [], []
    for seed in range(50):
        shift = {"a": -0.05, "b": 0.05, "tiny": 0.3}
        labels, names = catalog(seed, {"a": 200, "b": 200, "tiny": 2}, shift)
        labels[-2:, 0] = 0.9
        mean = labels[-2:, 0].mean() - labels[:, 0].mean()
        small.append(biases(labels, names)["tiny"][0] / mean)
        large.append(biases(labels, names)["b"][0])
    assert 0 < np.mean(small) < 0.97
    assert np.mean(large) > 0.01
    labels, names = catalog(0, {"a": 50}, {})
    assert (biases(labels, names)["a"] == 0).all()
    assert (biases(np.concatenate([labels, labels[:1]]), [*names, "one track"])["one track"] == 0).all()


@given(st.integers(0, 1_000))
def test_equal_data_sets_have_hardly_any_bias_and_unknown_labels_no_part(seed):
    labels, names = catalog(seed, {"a": 60, "b": 60}, {})
    found = biases(labels, names)
    assert max(np.abs(values).max() for values in found.values()) < 0.05
    more = np.concatenate([labels, np.full((10, 2), np.nan)])
    again = biases(more, [*names, *["a"] * 10])
    assert all(np.allclose(again[name], found[name]) for name in "ab")


def test_a_track_s_bias_is_of_other_folds():
    labels, names = catalog(1, {"a": 60, "b": 60}, {"a": -0.1, "b": 0.1})
    fold = np.stack([np.arange(120) % 3, np.arange(120) % 2])
    found = of_folds(labels, names, fold)
    changed = labels.copy()
    changed[fold[0] == 1] = 0.99
    again = of_folds(changed, names, fold)
    assert np.array_equal(found[0, fold[0] == 1], again[0, fold[0] == 1])
    assert not np.array_equal(found[0, fold[0] == 0], again[0, fold[0] == 0])
    held_out = of_folds(labels, names, np.where(np.array(names) == "a", 0, 1)[None])
    assert (held_out == 0).all()  # nothing is known of a data set that was not trained on
    only_test = of_folds(labels, names, np.where(np.arange(120) % 2, 0, -1)[None])
    assert (only_test[0, ::2] == 0).all()
    assert np.abs(only_test[0, 1::2, 0]).min() > 0.05


def test_models_are_trained_without_the_biases_and_judged_with_and_without_them(ray_session, tmp_path, mer_ray):
    folder = workspace_of(tmp_path / "w")
    workspace = Workspace(folder)
    tracks = workspace.read("tracks").to_pylist()
    of = {r["track_id"]: "low" if i % 24 < 12 else "high" for i, r in enumerate(tracks)}
    for name, changed in {
        "tracks": [{**r, "dataset": of[r["track_id"]]} for r in tracks],
        "labels": [
            {**r, "valence": r["valence"] * 0.6 + 0.4 * (of[r["track_id"]] == "high")}
            for r in workspace.read("labels").to_pylist()
        ],
    }.items():
        schema = SCHEMAS["tracks"] if name == "tracks" else workspace.schema("labels")
        workspace.discard(name)
        workspace.append(name, pa.Table.from_pylist(changed, schema), "all")
    train = {"split": "groups", "folds": 3, "source_bias": True, "baselines": False}
    for arguments in (["train", *options(folder, **train)], ["report", "--workspace", folder]):
        code, out, err = mer_ray(*arguments)
        assert code == 0, out + err
    details = json.loads((folder / "runs" / "kernel-mfcc" / "model.json").read_text())
    as_it_is, added = (details["metrics"], details["details"]["with_biases"])
    assert added["valence"]["r2"] > as_it_is["valence"]["r2"] + 0.3
    assert added["arousal"]["r2"] == pytest.approx(as_it_is["arousal"]["r2"], abs=0.05)
    assert details["details"]["biases"]["high"][0] == pytest.approx(0.2, abs=0.05)
    report = (folder / "report" / "report.md").read_text()
    section = report.split("## Biases of data sets")[1]
    assert f"{added['valence']['r2']:.3f}" in section
    assert "| low | -0." in section
    by = report.split("## By data set")[1].split("\n## ")[0]
    assert by.count("| valence | kernel | MFCC |") == 2
    assert "| high | valence | kernel | MFCC | 26 |" in by
    assert "nothing new" in mer_ray("train", *options(folder, **train))[1]
    code, out, err = mer_ray("train", *options(folder, **train | {"split": "given"}))
    assert code == 0, out + err
    details = json.loads((folder / "runs" / "kernel-mfcc.test" / "model.json").read_text())["details"]
    inside = {t["track_id"] for t in tracks if t["split"] in ("train", "valid")}
    seen = [r for r in workspace.read("labels").to_pylist() if r["track_id"] in inside]
    labels = np.array([[np.nan if r[d] is None else r[d] for d in ("valence", "arousal")] for r in seen])
    for name, values in biases(labels, [of[r["track_id"]] for r in seen]).items():
        assert details["biases"][name] == pytest.approx(values)  # the labels of the test set have no part in them
    rows = [{**r, "dataset": "high"} for r in workspace.read("tracks").to_pylist()]
    workspace.discard("tracks")
    workspace.append("tracks", pa.Table.from_pylist(rows, SCHEMAS["tracks"]), "all")
    code, out, err = mer_ray("train", *options(folder, **train))
    assert code == 0, out + err
    assert "kernel-mfcc is trained again: its data changed" in out
    details = json.loads((folder / "runs" / "kernel-mfcc" / "model.json").read_text())["details"]
    assert details["biases"] == {"high": [0.0, 0.0]}
    code, _, err = mer_ray("train", *options(folder, **train | {"source_bias": False}))
    assert code == 2
    assert "train.source_bias was True" in err
