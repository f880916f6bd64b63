"""Labels over time: windows have labels of their own, models follow what changes, and metrics are those by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mer_ray import models
from mer_ray.errors import InputError
from mer_ray.evaluation import dynamic
from mer_ray.evaluation.dynamic import CurvePredictions
from mer_ray.evaluation.metrics import INDEX
from mer_ray.models.curves import Curve, OverTime
from mer_ray.models.regressor import TrackPrediction
from mer_ray.training.fit import create
from mer_ray.training.recipe import Recipe

HOP_S, WINDOW = 0.25, 16
LEARNERS = list(models.NETWORKS)
each_learner = pytest.mark.parametrize("name", LEARNERS)


# labels of windows ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 30))
def test_a_window_has_the_mean_of_the_labels_in_it(seed, dimensions, n):
    rng = np.random.default_rng(seed)
    time_s = np.unique(rng.uniform(0, 20, n).round(1))
    values = np.where(rng.random((len(time_s), dimensions)) < 0.3, np.nan, rng.random((len(time_s), dimensions)))
    labels = rng.random((2, dimensions))
    own = OverTime(labels, [Curve(time_s, values), None])
    start = rng.uniform(0, 20, 8).round(1)
    found = own.of(np.repeat([0, 1], 4), start, start + 3)
    assert np.array_equal(found[4:], labels[[1] * 4]), "a track without a curve has its label"
    for w in range(4):
        for d in range(dimensions):
            inside = values[(time_s >= start[w]) & (time_s < start[w] + 3), d]
            known = inside[np.isfinite(inside)]
            if not np.isfinite(values[:, d]).any():
                assert found[w, d] == labels[0, d]
            elif len(known):
                assert found[w, d] == pytest.approx(known.mean())
            else:
                assert np.isnan(found[w, d])


def test_a_label_that_is_unknown_has_no_curve_either():
    own = OverTime(np.array([[0.5, np.nan]]), [Curve(np.array([1.0]), np.array([[0.2, 0.9]]))])
    np.testing.assert_allclose(own.of(np.zeros(1, int), np.zeros(1), np.full(1, 2.0)), [[0.2, np.nan]])


def test_a_predicted_curve_is_read_at_the_times_of_labels():
    curve = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    found = TrackPrediction(curve[0], curve, 2.0).at(np.array([0.0, 1.0, 2.0, 3.0, 9.0]))
    assert found == pytest.approx(np.array([[0, 1], [0, 1], [0.5, 0.5], [1, 0], [0.5, 0.5]]))


# models --------------------------------------------------------------------------------------------------------------


def changing(n: int = 40, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, list[str], list[Curve]]:
    """Tracks whose first coefficients say valence and arousal of every second, which change twice."""
    rng = np.random.default_rng(seed)
    tracks, curves = [], []
    for _ in range(n):
        parts = rng.integers(6, 12, 3)
        values = np.repeat(rng.uniform(0.1, 0.9, (3, 2)), parts, axis=0)
        frames = rng.standard_normal((len(values) * 4, 4))
        frames[:, :2] += 6 * np.repeat(values, 4, axis=0)
        tracks.append(frames.astype(np.float32))
        curves.append(Curve(np.arange(len(values)) + 0.5, values))
    return tracks, np.stack([c.values.mean(axis=0) for c in curves]), [f"artist {i // 2}" for i in range(n)], curves


TRACKS, LABELS, ARTISTS, CURVES = changing()


def recipe(name: str, **changes: object) -> Recipe:
    return Recipe(name, HOP_S, WINDOW, **{"epochs": 15, "learning_rate": 1e-2, "batch_size": 16, **changes})


def fitted(name: str, curves, labels=LABELS, **changes: object):
    return create(recipe(name, **changes)).fit(TRACKS, labels, ARTISTS, seed=1, curves=curves)


def per_track_r(model, fresh) -> np.ndarray:
    tracks, _, _, curves = fresh
    r = []
    for curve, p in zip(curves, model.predict(tracks), strict=True):
        found = p.at(curve.time_s)
        r.append([stats.pearsonr(found[:, d], curve.values[:, d])[0] for d in range(2)])
    return np.mean(r, axis=0)


@each_learner
def test_curves_of_new_tracks_follow_what_changes(name):
    assert per_track_r(fitted(name, CURVES), changing(12, seed=5)).min() > 0.7


@each_learner
def test_without_curves_nothing_is_otherwise(name):
    plain, given_none = fitted(name, (), epochs=2), fitted(name, [None] * len(TRACKS), epochs=2)
    assert all(np.array_equal(a, given_none.arrays[k]) for k, a in plain.arrays.items())
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(plain.arrays.values(), fitted(name, CURVES, epochs=2).arrays.values(), strict=False)
    )


@each_learner
def test_some_tracks_have_curves_others_a_label_and_parts_are_unlabelled(name):
    """And a dimension that is over time in some tracks only, and one whose labels are behind the end of the audio."""
    curves: list[Curve | None] = [None if i % 4 == 0 else c for i, c in enumerate(CURVES)]
    for i in range(1, 40, 3):
        if (own := curves[i]) is not None:
            hidden = own.values.copy()
            hidden[:, 1] = np.nan
            curves[i] = Curve(own.time_s + (1_000 if i == 1 else 0), hidden)
    cut = [c and Curve(c.time_s[8:], c.values[8:]) for c in curves]
    model = fitted(name, cut)
    assert all(np.isfinite(a).all() for a in model.arrays.values())
    assert np.isfinite(model.curve).all()
    assert per_track_r(model, changing(12, seed=5)).min() > 0.5


@each_learner
def test_values_of_unlabelled_times_and_of_labels_without_weight_are_never_seen(name):
    rng = np.random.default_rng(0)
    weights = np.ones(LABELS.shape)
    weights[::3, 1] = 0
    arrays = []
    for hidden in (np.nan, 0.9):
        curves = [Curve(c.time_s, c.values.copy()) for c in CURVES]
        for i in range(0, 40, 3):
            curves[i].values[:, 1] = hidden if np.isnan(hidden) else rng.random(len(curves[i].values))
        model = create(recipe(name, epochs=2)).fit(TRACKS, LABELS, ARTISTS, seed=1, weights=weights, curves=curves)
        arrays.append(model.arrays)
    assert all(np.array_equal(a, arrays[1][k]) for k, a in arrays[0].items())


@each_learner
def test_labels_behind_the_end_of_all_audio_are_an_error(name):
    with pytest.raises(InputError, match="within their audio"):
        fitted(name, [Curve(c.time_s + 1_000, c.values) for c in CURVES])


@pytest.mark.parametrize("limits", [{"SUPPORT": 60}, {"SUPPORT": 60, "MAX_LABELLED": 150}], ids=["landmarks", "part"])
def test_the_kernel_learns_from_more_passages_than_it_compares_with(monkeypatch, limits):
    from mer_ray.models import kernel

    for name, value in limits.items():
        monkeypatch.setattr(kernel, name, value)
    model = fitted("kernel", CURVES)
    assert len(model.arrays["network.support"]) == 60
    assert per_track_r(model, changing(12, seed=5)).min() > 0.6


# metrics -------------------------------------------------------------------------------------------------------------


def ccc(t: np.ndarray, p: np.ndarray) -> float:
    return 2 * np.cov(t, p, bias=True)[0, 1] / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_metrics_are_those_of_scipy_and_scikit_learn(seed):
    from sklearn.metrics import root_mean_squared_error as rmse

    rng = np.random.default_rng(seed)
    labels = [rng.random(n) for n in (5, 9, 30, 12)]
    predicted = [np.clip(t + 0.3 * rng.standard_normal((2, len(t))), 0, 1) for t in labels]
    labels[3][::4] = np.nan
    (judged,) = dynamic.judge(labels, [predicted], ["a", "b", "a", "c"])
    known = [np.isfinite(t) for t in labels]
    t, p = [t[k] for t, k in zip(labels, known, strict=True)], [p[:, k] for p, k in zip(predicted, known, strict=True)]
    for name, of in (("rmse", rmse), ("r", lambda a, b: stats.pearsonr(a, b)[0]), ("ccc", ccc)):
        alone = np.mean([np.mean([of(a, q) for q in b]) for a, b in zip(t, p, strict=True)])
        assert judged.figure(name, pooled=False)[0] == pytest.approx(alone)
        together = np.mean([of(np.concatenate(t), np.concatenate([b[r] for b in p])) for r in (0, 1)])
        value, lower, upper = judged.figure(name, pooled=True)
        assert value == pytest.approx(together)
        assert lower <= value <= upper


def test_a_track_whose_labels_stand_still_has_no_r_and_one_predicted_as_still_has_none_to_show():
    t = np.array([0.2, 0.4, 0.6])
    assert np.isnan(dynamic.of_track(np.full(3, 0.5), t[None])[INDEX["r"]])
    assert dynamic.of_track(t, np.full((2, 3), 0.5))[INDEX["r"]] == 0
    half = dynamic.of_track(t, np.stack([t, np.full(3, 0.5)]))
    assert half[INDEX["r"]] == pytest.approx(0.5)
    (one,) = dynamic.judge([t, np.full(3, 0.5)], [[t[None], t[None]]], ["a", "b"])
    assert one.figure("r", pooled=False)[0] == 1, "the mean is over the tracks that have one"
    assert one.figure("rmse", pooled=False)[0] == pytest.approx(np.sqrt(np.mean((t - 0.5) ** 2)) / 2)


def test_intervals_cover_the_mean_over_tracks_about_as_often_as_they_say():
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = [rng.random(20) for _ in range(40)]
        scale = np.repeat(rng.uniform(0.05, 0.3, 20), 2)  # artists are easy or hard
        predicted = [(t + s * rng.standard_normal(20))[None] for t, s in zip(labels, scale, strict=True)]
        (judged,) = dynamic.judge(labels, [predicted], [f"{i // 2}" for i in range(40)])
        _, lower, upper = judged.figure("rmse", pooled=False)
        held += lower <= 0.175 <= upper  # the mean of the scales
    assert held >= 50


def predictions() -> CurvePredictions:
    rng = np.random.default_rng(0)
    n = [4, 7]
    labels = [rng.random((k, 2)) for k in n]
    labels[1][2, 0] = np.nan
    return CurvePredictions(
        ("valence", "tension"),
        ["a", "b"],
        [np.arange(k) * 0.5 for k in n],
        labels,
        [rng.random((3, k, 2)) for k in n],
        rng.random((2, 3, 2)),
    )


def test_predicted_curves_come_back_from_their_table():
    own = predictions()
    table = own.table()
    assert table.column_names[:5] == ["track_id", "repeat", "time_s", "valence", "predicted_valence"]
    back = dynamic.from_table(table.take([5, 0, 3, 1, 4, 2]), "x")
    assert (back.ids, back.dimensions) == (own.ids, own.dimensions)
    for name in ("time_s", "labels", "predicted", "constant"):
        for a, b in zip(getattr(own, name), getattr(back, name), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [0, 0, 1, 3, 4, 5]], ids=["a row too few", "a row twice"])
def test_an_incomplete_table_is_refused(rows):
    with pytest.raises(dynamic.WorkspaceError, match="each track once in each repeat"):
        dynamic.from_table(predictions().table().take(rows), "runs/x/curves_predicted.parquet")
    with pytest.raises(dynamic.WorkspaceError, match="has no constant_valence"):
        dynamic.from_table(predictions().table().drop_columns(["constant_valence"]), "x")
