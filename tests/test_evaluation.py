"""Figures agree with scikit-learn's, and tables say what the figures say."""

from __future__ import annotations

import csv
import io

import matplotlib.image
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mer_ray import features
from mer_ray.evaluation.card import card
from mer_ray.evaluation.metrics import Metrics, constant_mean, interval_radius, metrics
from mer_ray.evaluation.plots import predicted_against_labelled
from mer_ray.evaluation.tables import CONSTANT, Row, Table, display, markdown, to_csv
from mer_ray.features.mfcc import Params
from mer_ray.scoring.store import Model
from mer_ray.tables import DIMENSIONS

values = st.floats(0, 1).map(lambda x: round(x, 6))


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=values)] * 2)))
def test_figures_are_scikit_learn_s(pair):
    true, predicted = pair
    got = metrics(true, predicted)
    assert got.mse == pytest.approx(sklearn.metrics.mean_squared_error(true, predicted), abs=1e-9)
    assert got.mae == pytest.approx(sklearn.metrics.mean_absolute_error(true, predicted), abs=1e-9)
    if np.ptp(true) > 0:
        assert got.r2 == pytest.approx(sklearn.metrics.r2_score(true, predicted), rel=1e-6, abs=1e-9)
    else:
        assert np.isnan(got.r2)
    assert got.n == len(true)
    assert got.label_sd == pytest.approx(true.std(), abs=1e-12)


def test_a_model_that_says_the_mean_has_no_r2():
    true = np.random.default_rng(0).uniform(size=500)
    assert metrics(true, np.full(500, true.mean())).r2 == pytest.approx(0, abs=1e-12)
    assert metrics(true, true) == Metrics(0.0, 0.0, 1.0, 500, true.std())
    fold = np.arange(500) % 5
    baseline = metrics(true, constant_mean(true, fold))
    assert -0.02 < baseline.r2 < 0
    assert baseline.mse == pytest.approx(true.var(), rel=0.02)


@pytest.mark.parametrize("label", [0.1, 1 / 3, 0.7])
def test_labels_that_do_not_vary_have_no_r2(label):
    assert np.isnan(metrics(np.full(10, label), np.linspace(0, 1, 10)).r2)


def test_the_constant_mean_has_not_seen_its_fold():
    true, fold = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 2])
    assert constant_mean(true, fold).tolist() == pytest.approx([0.75, 0.75, 0.4, 0.3])


@pytest.mark.parametrize("n", [30, 100, 1_000])
def test_an_interval_covers_nine_in_ten(n):
    rng = np.random.default_rng(n)
    inside = [
        (np.abs(rng.standard_normal((500, 3))) <= interval_radius(rng.standard_normal((n, 3)))).mean()
        for _ in range(40)
    ]
    assert 0.885 < np.mean(inside) < 0.935


def test_an_interval_of_few_residuals_is_their_largest():
    residuals = np.array([[0.1, -0.2, 0.0], [-0.3, 0.1, 0.0]])
    assert interval_radius(residuals).tolist() == [0.3, 0.2, 0.0]


# tables ------------------------------------------------------------------------------------------------------------


def table(*figures: tuple[float, float, float]) -> Table:
    names = [(CONSTANT, "-"), ("cnn", "mfcc"), ("lstm", "vggish")]
    rows = [
        Row(*name, Metrics(mse, mae, r2, 96, 0.123456789)) for name, (mse, mae, r2) in zip(names, figures, strict=False)
    ]
    return Table("valence", rows, "96 tracks.")


def bold(made: Table) -> list[tuple[int, int]]:
    return [(i, c) for i, row in enumerate(made.cells()) for c, (_, is_bold) in enumerate(row) if is_bold]


def test_the_best_figures_are_bold():
    assert bold(table((0.03, 0.1, 0.0), (0.02, 0.2, 0.5), (0.01, 0.3, 0.4))) == [(0, 3), (1, 4), (2, 2)]


def test_all_that_share_the_best_figure_as_shown_are_bold():
    assert bold(table((0.02, 0.1, -0.0001), (0.020004, 0.1, 0.0), (0.03, 0.2, 0.0004))) == [
        (0, 2),
        (0, 3),
        (0, 4),
        (1, 2),
        (1, 3),
        (1, 4),
        (2, 4),
    ]


def test_no_figure_is_never_the_best():
    assert bold(table((0.02, 0.1, float("nan")), (0.03, 0.2, -3.0))) == [(0, 2), (0, 3), (1, 4)]
    assert bold(table((0.02, 0.1, float("nan")))) == [(0, 2), (0, 3)]


def test_markdown_has_the_columns_and_names_of_the_settings():
    lines = markdown(table((0.03, 0.1, -0.01), (0.02, 0.2, 0.5), (0.01, 0.3, 0.4))).splitlines()
    assert lines[0] == "### Valence"
    assert lines[2] == "| Network | Feature | MSE | MAE | R² |"
    assert lines[4] == "| constant mean | - | 0.0300 | **0.1000** | -0.010 |"
    assert lines[6] == "| LSTM | VGGish | **0.0100** | 0.3000 | 0.400 |"
    assert lines[-1] == "96 tracks."
    assert display("mfcc") == "MFCC"


def test_the_csv_has_exactly_the_promised_columns_in_full_precision():
    made = [table((1 / 3, 0.1, float("nan")), (0.02, 0.2, 0.5))]
    rows = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert list(rows[0]) == ["dimension", "network", "feature", "mse", "mae", "r2", "n", "label_sd"]
    assert float(rows[0]["mse"]) == 1 / 3
    assert rows[1] == {
        "dimension": "valence",
        "network": "cnn",
        "feature": "mfcc",
        "mse": "0.02",
        "mae": "0.2",
        "r2": "0.5",
        "n": "96",
        "label_sd": "0.123456789",
    }


@pytest.mark.parametrize("models", [1, 2, 4, 5])
def test_a_plot_is_a_picture(models):
    rng = np.random.default_rng(0)
    labelled = rng.uniform(size=50)
    panels = [(f"model {i}", np.clip(labelled + rng.normal(0, 0.1, 50), 0, 1), 0.5) for i in range(models)]
    picture = predicted_against_labelled("arousal", labelled, panels, "50 tracks by 9 artists, $100 and _odd_ text")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(io.BytesIO(picture))
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.01  # something is drawn


def test_the_card_says_what_the_model_is_and_how_good():
    feature = features.resolve("mfcc", Params())
    figures = {d: {"mse": 0.0123, "mae": 0.1, "r2": 0.4567, "n": 96, "label_sd": 0.17} for d in DIMENSIONS}
    settings = {"members": 2, "folds": 5, "seed": 11, "window_s": 5.0}
    details = {"settings": settings, "n_tracks": 1_096, "n_artists": 24, "data": "0123abcd", "trained_at": "2026-01-01"}
    text = card(Model("cnn-mfcc", "cnn", feature, 215, [], [0.1, 0.2, 0.333], figures, details))
    for said in (
        "# CNN on MFCC",
        "1,096 tracks by 24 artists",
        feature.fingerprint,
        "Seed 11",
        "0.0123",
        "0.457",
        "± 0.333",
    ):
        assert said in text
    assert "Note:" not in text
