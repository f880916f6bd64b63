"""Labels over time: windows have labels of their own, curves follow planted changes, and metrics are those by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from dataset_copies import Song, write_deam
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import sets
from scipy import stats

from mer_ray import models
from mer_ray.audio.providers import demo
from mer_ray.evaluation import dynamic
from mer_ray.evaluation.dynamic import CurvePredictions
from mer_ray.evaluation.metrics import INDEX
from mer_ray.models.curves import Curve, OverTime, curve_at
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
    found = curve_at(TrackPrediction(curve[0], curve, 2.0), np.array([0.0, 1.0, 2.0, 3.0, 9.0]))
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
        found = curve_at(p, curve.time_s)
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


# songs whose affect changes ------------------------------------------------------------------------------------------


def song(number: int, seed: int = 3) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """Samples, their rate, every second (n,), and valence and arousal at it (n, 2) in 0..1."""
    rng = np.random.default_rng([seed, number])
    n = int(rng.integers(3, 6))
    seconds, centre = rng.uniform(8, 14, n), 0.5 * rng.normal(size=3)
    affect = 1 / (1 + np.exp(-1.3 * (centre + rng.normal(size=(n, 3)))))
    samples, rate = demo.render_sections(
        [(tuple(a), float(s)) for a, s in zip(affect, seconds, strict=True)], 3, number
    )
    time_s = np.arange(0.5, seconds.sum())
    at = np.minimum(np.searchsorted(np.cumsum(seconds), time_s, side="right"), n - 1)
    return samples, rate, time_s, affect[at, :2]


def test_a_song_of_sections_is_as_long_as_they_are_and_the_same_again():
    one = demo.render_sections([((0.9, 0.9, 0.5), 3.0), ((0.1, 0.1, 0.5), 2.5)], 7, 0)
    other = demo.render_sections([((0.9, 0.9, 0.5), 3.0), ((0.1, 0.1, 0.5), 2.5)], 7, 0)
    assert np.array_equal(one[0], other[0])
    assert len(one[0]) == round(5.5 * one[1])
    loud, soft = (np.sqrt(np.mean(part**2)) for part in (one[0][: 3 * one[1]], one[0][4 * one[1] :]))
    assert loud > 1.5 * soft


N_SONGS = 60


@pytest.fixture(scope="module")
def deam(tmp_path_factory) -> Path:
    """A DEAM in miniature, in the layout of the real one: 60 songs, of 30 artists, with labels from 5 s on."""
    folder, songs = tmp_path_factory.mktemp("deam"), []
    for number in range(1, N_SONGS + 1):
        samples, rate, time_s, affect = song(number)
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format="MP3")
        later = time_s > 5
        curves = {
            name: {round(1000 * t): round(2 * v - 1, 4) for t, v in zip(time_s[later], affect[later, d], strict=True)}
            for d, name in enumerate(("valence", "arousal"))
        }
        valence, arousal = 1 + 8 * affect.mean(axis=0)
        names = f"Artist {number // 2}", f"Song {number}"
        songs.append(Song(number, *names, (valence, 1.0), (arousal, 1.0), curves, file.getvalue()))
    write_deam(folder / "copy", songs)
    return folder


def test_two_commands_give_static_and_dynamic_tables_and_the_curve_follows_what_is_planted(ray_session, deam, mer_ray):
    code, out, err = mer_ray("dataset", "deam", deam / "copy", "--out", deam / "made")
    assert code == 0, out + err
    workspace = deam / "work"
    own = sets("train.split=groups", "train.targets=curve", "train.networks=[lstm, kernel]", "train.folds=3")
    more = sets("train.members=1", "train.epochs=25", "train.baselines=false", "extract.features=[mfcc]")
    code, out, err = mer_ray("run", "-c", deam / "made" / "config.yaml", "--workspace", workspace, *own, *more)
    assert code == 0, out + err
    report = (workspace / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Labels over time" in report
    assert "Network | Feature | MSE" in report
    for name in ("valence", "arousal"):
        assert (workspace / "report" / f"{name}-over-time.png").read_bytes().startswith(b"\x89PNG")
    with (workspace / "report" / "curves.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5
    followed = [r for r in rows if r["prediction"] == "curve"]
    assert {(r["dimension"], r["network"]) for r in followed} == {
        (d, n) for d in ("valence", "arousal") for n in ("lstm", "kernel")
    }
    for row in followed:
        assert int(row["tracks"]) == N_SONGS
        assert float(row["per_track_r"]) >= 0.6, row
        assert float(row["pooled_r"]) >= 0.6, row
        assert float(row["less_rmse_lower"]) > 0, row
    constant = next(r for r in rows if r["network"] == "constant mean")
    assert float(constant["pooled_rmse"]) > max(float(r["pooled_rmse"]) for r in followed)

    # The figures follow from the table of predictions.
    table = pq.read_table(workspace / "runs" / "kernel-mfcc" / "curves_predicted.parquet")
    assert table.num_rows == N_SONGS
    r = [
        stats.pearsonr(a, b)[0]
        for a, b in zip(table["valence"].to_pylist(), table["predicted_valence"].to_pylist(), strict=True)
    ]
    wanted = next(r for r in followed if (r["dimension"], r["network"]) == ("valence", "kernel"))
    assert np.mean(r) == pytest.approx(float(wanted["per_track_r"]))

    # Nothing is trained twice, and other targets are other settings.
    again = ["-c", deam / "made" / "config.yaml", "--workspace", workspace, *more]
    code, out, err = mer_ray("train", *again, *own)
    assert code == 0, out + err
    assert "found everything done" in out
    code, out, err = mer_ray("train", *again, *own, *sets("train.targets=track"))
    assert code == 2
    assert "train.targets was 'curve', now None" in err


def test_curves_are_wanted_but_there_are_none(ray_session, tmp_path, mer_ray):
    small = sets("collect.demo.cues=8", "collect.demo.seconds=2", "extract.features=[mfcc]", "train.folds=2")
    code, out, err = mer_ray("run", "--workspace", tmp_path, *small, *sets("train.targets=curve"))
    assert code == 2, out
    assert "no labelled track has labels over time" in err
