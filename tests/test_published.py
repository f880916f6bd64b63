"""Published rows, the unit of the ratings, and what is said of several data sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mer_ray.datasets import DATASETS
from mer_ray.evaluation import by_dataset, published, units
from mer_ray.evaluation.comparison import Comparison, Run
from mer_ray.evaluation.metrics import METRICS, metrics
from mer_ray.evaluation.predictions import Predictions
from mer_ray.io.schemas import is_dimension
from mer_ray.io.store import Store

NAMES = [f"t{i:03d}" for i in range(60)]


def compared(datasets: dict[str, str] | None = None) -> Comparison:
    rng = np.random.default_rng(0)
    labels = rng.uniform(size=(60, 2))
    labels[:20, 1] = np.nan
    predicted = np.clip(np.nan_to_num(labels, nan=0.5) + rng.normal(0, 0.1, (2, 60, 2)), 0, 1)
    fold = np.tile(np.arange(60) % 5, (2, 1))
    made = Predictions(NAMES, NAMES, NAMES, NAMES, labels, fold, predicted, ("valence", "arousal"))
    details = {"settings": {"folds": 5, "seed": 0}}
    described = {"details": details, "feature": {"note": ""}, "dimensions": ["valence", "arousal"]}
    return Comparison.make([Run("cnn", "mfcc", made, described)], "here")


def test_every_published_row_says_what_it_is_of_and_where_it_comes_from():
    rows = published.rows()
    assert {r["dataset"] for r in rows} <= {*DATASETS, "any"}
    for row in rows:
        assert row.keys() == {"dataset", "name", "protocol", "metrics", "source", "year"}
        assert all(row[k].strip() for k in ("name", "protocol", "source"))
        assert 2000 < row["year"] < 2100
        for dimension, figures in row["metrics"].items():
            assert is_dimension(dimension)
            assert figures
            for name, value in figures.items():
                assert name in METRICS
                assert -1 <= value <= 1
    keys = [(r["dataset"], r["name"], r["protocol"]) for r in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["emomusic", "deam", "pmemo"])
def test_a_known_data_set_has_published_rows_beside_ours(name):
    own = compared()
    assert published.dataset(own, dict.fromkeys(NAMES, name.upper())) == name
    text = published.markdown(name, own, [own.table(d) for d in own.dimensions])
    assert "Music2Emo (published)" in text
    assert "CNN on MFCC" in text
    assert "this report" in text
    assert "**" not in text


def test_other_tracks_have_none():
    own = compared()
    tables = [own.table(d) for d in own.dimensions]
    mixed = {i: "emomusic" if k else "deam" for k, i in enumerate(NAMES)}
    for dataset_of in ({}, mixed, dict.fromkeys(NAMES[1:], "emomusic"), dict.fromkeys(NAMES, "mine")):
        assert published.markdown(published.dataset(own, dataset_of), own, tables) == ""


def test_each_data_set_has_figures_of_its_own_tracks():
    own = compared()
    dataset_of = {i: "a|b" if k < 30 else "c" for k, i in enumerate(NAMES)}
    text = by_dataset.markdown(own, dataset_of)
    made = own.runs[0].predictions
    wanted = metrics(made.labels[:30, 1], made.predicted[:, :30, 1])
    [row] = [line for line in text.splitlines() if line.startswith(r"| a\|b | arousal |")]
    assert f"| 10 | {wanted['rmse']:.4f} | {wanted['r2']:.3f} [" in row
    assert by_dataset.markdown(own, dict.fromkeys(NAMES, "c")) == ""
    assert by_dataset.markdown(own, {}) == ""
    assert "(none named)" in by_dataset.markdown(own, dict.fromkeys(NAMES[:20], "c"))


@pytest.mark.parametrize(
    ("scale", "found"),
    [
        ([1, 9], [1, 9]),
        ([-1.0, 1.0], [-1, 1]),
        ([0, 1], None),
        (None, None),
        ({"a.csv": [1, 9], "b.csv": [1.0, 9.0]}, [1, 9]),
        ({"a.csv": [1, 9], "b.csv": [0, 1]}, None),
    ],
)
def test_the_scale_is_that_of_all_manifests_or_none(tmp_path, scale, found):
    collect = {"source": "manifest", **({} if scale is None else {"scale": scale})}
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "source.json").write_text(json.dumps({"collect": collect}))
    assert units.of_source(Store(str(tmp_path))) == found
    assert units.of_source(Store(str(tmp_path / "elsewhere"))) is None


def test_an_error_on_the_scale_is_the_error_of_the_ratings():
    rng = np.random.default_rng(0)
    ratings, predicted = rng.uniform(1, 9, 50), rng.uniform(1, 9, 50)
    inside = metrics((ratings - 1) / 8, (predicted - 1) / 8)
    assert units.error(inside["rmse"], [1, 9]) == f"{np.sqrt(np.mean((ratings - predicted) ** 2)):.3f}"
    assert units.error(inside["mae"], [1, 9]) == f"{np.abs(ratings - predicted).mean():.3f}"
    assert units.error(float("nan"), [1, 9]) == "–"
