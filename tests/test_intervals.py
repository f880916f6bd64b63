"""Prediction intervals: they hold what they promise, and are wide where the model errs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer_ray.scoring.intervals import LEVEL, MARGIN, Intervals, coverage, intervals, with_excerpts


def catalog(seed: int, n: int = 300, repeats: int = 2) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, predictions whose errors grow with predicted valence and are shared within artists, and artists."""
    rng = np.random.default_rng(seed)
    artist = rng.integers(0, n // 2, n)
    truth = rng.uniform(0.2, 0.8, (n, 3))
    shared = rng.standard_normal((n, 3))[artist] * 0.5 + rng.standard_normal((n, 3))
    labels = truth + 0.15 * (0.3 + truth[:, :1]) * shared
    return labels, np.stack([truth + 0.005 * rng.standard_normal((n, 3)) for _ in range(repeats)]), artist.astype(str)


def of_dimensions(labels: np.ndarray, predicted: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n of six dimensions: the catalog's three, twice."""
    return np.tile(labels, 2)[:, :n], np.tile(predicted, 2)[..., :n]


def test_nine_in_ten_labels_of_new_artists_lie_inside_and_a_margin():
    found, message = [], []
    for seed in range(12):
        labels, predicted, groups = catalog(seed)
        made = intervals(labels, predicted, groups)
        new_labels, new_predicted, _ = catalog(seed + 1_000)
        found.append((np.abs(new_predicted[0] - new_labels) <= made.radius(new_predicted[0])).mean(axis=0))
        message.append(coverage(labels, predicted, groups)[0])
    assert np.mean(found, axis=0) == pytest.approx(LEVEL + MARGIN, abs=0.02)
    assert np.mean(message, axis=0) == pytest.approx(LEVEL + MARGIN, abs=0.02)


def test_intervals_are_wider_where_errors_are_larger():
    labels, predicted, groups = catalog(0, 2_000)
    made = intervals(labels, predicted, groups)
    low, high = made.radius(np.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]]))
    assert (high / low > 1.4).all()
    # In each half of the predictions, too, nine in ten lie inside.
    inside = np.abs(predicted[0] - labels) <= made.radius(predicted[0])
    upper_half = predicted[0, :, 0] > 0.5
    assert inside[upper_half].mean() == pytest.approx(LEVEL + MARGIN, abs=0.03)
    assert inside[~upper_half].mean() == pytest.approx(LEVEL + MARGIN, abs=0.03)


@given(arrays(float, (5, 3), elements=st.floats(0, 1)), st.integers(0, 5))
def test_ends_enclose_the_prediction_and_stay_on_the_scale(predicted, seed):
    made = intervals(*catalog(seed, 40))
    lower, upper = made.ends(predicted)
    assert (lower >= 0).all()
    assert (upper <= 1).all()
    assert (lower <= predicted).all()
    assert (predicted <= upper).all()
    assert (made.radius(predicted) > 0).all()


def test_they_are_the_same_after_a_way_through_json():
    made = intervals(*catalog(1, 50))
    again = Intervals.from_json(made.to_json())
    x = np.random.default_rng(0).uniform(size=(10, 3))
    assert (again.radius(x) == made.radius(x)).all()


@pytest.mark.parametrize("n", [1, 2, 4])
def test_they_are_of_as_many_dimensions_as_the_labels(n):
    labels, predicted, groups = catalog(3)
    own = of_dimensions(labels, predicted, n)
    made = intervals(*own, groups)
    assert (made.size.shape, made.mean.shape, made.growth.shape) == ((1 + n, n), (n,), (1, n))
    lower, upper = made.ends(own[1][0])
    assert lower.shape == upper.shape == (300, n)
    assert coverage(*own, groups)[0] == pytest.approx(np.full(n, LEVEL + MARGIN), abs=0.05)
    again = Intervals.from_json(made.to_json())
    assert (again.radius(own[1][0]) == made.radius(own[1][0])).all()
    with pytest.raises(ValueError, match="of the shapes"):
        Intervals.from_json({**made.to_json(), "factor": [1.0] * (n + 1)})


def test_a_dimension_s_intervals_are_those_of_the_tracks_with_a_label():
    """The labels that are taken away were wrong: had they any part, the intervals would be wider."""
    labels, predicted, groups = catalog(5, 600)
    few = np.random.default_rng(0).uniform(size=600) < 0.5
    masked, wrong = labels.copy(), labels.copy()
    masked[few, 2] = np.nan
    wrong[few, 2] = 1 - wrong[few, 2]
    made, whole, misled = (intervals(of, predicted, groups) for of in (masked, labels, wrong))
    at = predicted[0]
    assert made.radius(at)[:, :2] == pytest.approx(whole.radius(at)[:, :2], rel=0.05)
    assert made.radius(at)[:, 2] == pytest.approx(whole.radius(at)[:, 2], rel=0.25)
    assert (misled.radius(at)[:, 2] > 1.3 * made.radius(at)[:, 2]).all()
    held, at_once = coverage(masked, predicted, groups)
    assert held == pytest.approx(np.full(3, LEVEL + MARGIN), abs=0.04)
    assert 0.6 < at_once < 0.9
    heard = {2.0: at + 0.1 * np.random.default_rng(1).standard_normal(at.shape)}
    short = with_excerpts(made, masked, at, heard, 30.0)
    inside = np.abs(heard[2.0] - labels) <= short.radius(at, np.full(600, 2.0))
    assert inside[~few].mean(axis=0) == pytest.approx(np.full(3, LEVEL + MARGIN), abs=0.04)


def test_a_dimension_of_one_artist_s_tracks_has_intervals_nevertheless():
    labels, predicted, _ = catalog(6, 60)
    groups = [f"artist {i // 10}" for i in range(60)]
    labels[10:, 2] = np.nan
    made = intervals(labels, predicted, groups)
    assert np.isfinite(made.radius(predicted[0])).all()
    held, at_once = coverage(labels, predicted, groups)
    others, both = coverage(labels[:, :2], predicted[..., :2], groups)
    assert np.isfinite(others).all()
    assert 0 < both < 1
    # Whether they hold for other artists cannot be told, which is not that they never do.
    assert np.isnan([held[2], at_once]).all()


def test_one_artist_alone_has_intervals_and_no_coverage():
    labels, predicted, _ = catalog(2, 20)
    assert (intervals(labels, predicted, ["a"] * 20).radius(predicted[0]) > 0).all()
    assert np.isnan(coverage(labels, predicted, ["a"] * 20)[0]).all()


def test_short_audio_has_wider_intervals_that_hold_as_well():
    labels, predicted, groups = catalog(4, 1_500)
    rng = np.random.default_rng(1)
    noise = {seconds: 0.3 * rng.standard_normal(labels.shape) / seconds**0.5 for seconds in (1.0, 5.0, 15.0)}
    heard = {seconds: predicted[0] + errors for seconds, errors in noise.items()}
    made = with_excerpts(intervals(labels, predicted, groups), labels, predicted[0], heard, 30.0)
    for seconds, values in heard.items():
        inside = np.abs(values - labels) <= made.radius(values, np.full(len(labels), seconds))
        assert inside.mean(axis=0) == pytest.approx(LEVEL + MARGIN, abs=0.02)
    one = np.full((6, 3), 0.5)
    radius = made.radius(one, np.array([0.2, 1, 3, 10, 30, 900]))
    assert (np.diff(radius, axis=0) <= 0).all()
    assert (radius[0] == radius[1]).all()  # no shorter excerpt was measured
    assert (radius[-1] == radius[-2]).all()
    assert (radius[-1] == made.radius(one[:1])[0]).all()
    again = Intervals.from_json(made.to_json())
    assert (again.radius(one, np.full(6, 2.0)) == made.radius(one, np.full(6, 2.0))).all()
