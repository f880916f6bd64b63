"""The bootstrap of whole groups: what it covers, and what it is of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.evaluation.bootstrap import difference, group_sizes, interval, resample, times_error, uneven
from mer_ray.evaluation.metrics import INDEX, METRICS, metrics

CHECKED = [INDEX[f] for f in ("mse", "r2", "ccc")]


def catalog(seed: int, n_groups: int, sizes=None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), two predictions (N,), groups (N,): artists differ in their music and in how well they are known.

    sizes: (number of groups, rng) → tracks of each; a geometric distribution, at most 30, without it.
    """
    rng = np.random.default_rng(seed)
    size = np.minimum(1 + rng.geometric(0.25, n_groups), 30) if sizes is None else sizes(n_groups, rng)
    group = np.repeat(np.arange(n_groups), size)
    n = len(group)

    def clustered(share: float, sd: float) -> np.ndarray:
        per_group = rng.normal(0, np.sqrt(share) * sd, n_groups)[group]
        return per_group + rng.normal(0, np.sqrt(1 - share) * sd, n)

    labels = 0.55 + clustered(0.4, 0.16)
    common = clustered(0.7, 0.06)
    a, b = (0.55 + k * (labels - 0.55) + common + clustered(0.7, 0.05) for k in (0.4, 0.3))
    return labels, a, b, group


def test_intervals_cover_the_truth_at_their_nominal_rate():
    """95 % within three binomial standard errors of 400 tries, 0.917 to 0.983; without groups, far below."""
    labels, a, b, _ = catalog(10**6, 200_000)
    truth, other = metrics(labels, a).values, metrics(labels, b).values
    held, apart, alone = (np.zeros(len(METRICS)) for _ in range(3))
    for seed in range(400):
        labels, a, b, group = catalog(seed, 100 + seed % 200)
        one, two = resample(labels, [a, b], group, draws=400, seed=seed)
        held += inside(truth, interval(one))
        apart += inside(truth - other, difference(one, two)[1])
        if seed % 4 == 0:
            [tracks] = resample(labels, [a], np.arange(len(labels)), draws=200, seed=seed)
            alone += inside(truth, interval(tracks))
    for figure in CHECKED:
        assert 0.917 <= held[figure] / 400 <= 0.983, list(METRICS)[figure]
        assert 0.917 <= apart[figure] / 400 <= 0.983, list(METRICS)[figure]
    assert alone[INDEX["mse"]] / 100 < 0.85


ZIPF = {
    "150, 75, 50, ...": (30, lambda n, rng: np.maximum(1, np.round(150 / np.arange(1, n + 1))).astype(int)),
    "drawn": (60, lambda n, rng: np.minimum(rng.zipf(1.5, n), 150)),
}


@pytest.mark.parametrize("kind", ZIPF)
def test_intervals_cover_the_truth_where_a_few_artists_have_most_tracks(kind):
    """At 400 tries, 0.95 has a standard error of 0.011; the same without the effective number is far below."""
    n_groups, sizes = ZIPF[kind]
    labels, a, b, _ = catalog(10**6, 200_000)
    truth, other = metrics(labels, a).values, metrics(labels, b).values
    held, apart, before = (np.zeros(len(METRICS)) for _ in range(3))
    for seed in range(400):
        labels, a, b, group = catalog(seed, n_groups, sizes)
        one, two = resample(labels, [a, b], group, draws=200, seed=seed)
        held += inside(truth, interval(one))
        apart += inside(truth - other, difference(one, two)[1])
        before += inside(truth, interval(replace(one, n_effective=float(one.n_groups))))
    for figure in CHECKED:
        assert 0.9 <= held[figure] / 400 <= 0.99, list(METRICS)[figure]
        assert apart[figure] / 400 >= 0.92, list(METRICS)[figure]
    assert before[INDEX["mse"]] / 400 < 0.88


def test_groups_of_one_size_count_as_they_are():
    labels = np.random.default_rng(0).uniform(size=60)
    [one] = resample(labels, [labels[::-1]], np.arange(60) // 3, draws=50)
    assert one.n_effective == one.n_groups == 20
    assert times_error(20, 20.0) == pytest.approx(scipy.stats.t.ppf(0.975, 19) * np.sqrt(20 / 19))
    assert uneven(60, **group_sizes(np.arange(60) // 3)) == ""


def test_a_reader_is_told_of_intervals_that_rest_on_few_groups():
    group = np.repeat(np.arange(5), [50, 30, 10, 5, 5])
    sizes = group_sizes(group)
    assert sizes["effective_groups"] == pytest.approx(100**2 / (50**2 + 30**2 + 10**2 + 2 * 5**2))
    message = uneven(100, **sizes)
    assert "the largest has 50 of 100 tracks" in message
    assert "the 5 count as 2.8 of one size" in message
    zipf = np.repeat(np.arange(100), np.maximum(1, 150 // np.arange(1, 101)))
    assert "the largest has 150 of" in uneven(len(zipf), **group_sizes(zipf))
    _, _, _, alike = catalog(0, 100)
    assert uneven(len(alike), **group_sizes(alike)) == ""


@pytest.mark.parametrize("sizes", [[1, 1], [1, 1_000], [1, 10**6, 1], [500, *[1] * 500]])
def test_an_interval_of_whatever_groups_is_a_number(sizes):
    rng = np.random.default_rng(0)
    n = min(sum(sizes), 3_000)
    group = np.repeat(np.arange(len(sizes)), sizes)[-n:]
    labels = rng.uniform(size=n)
    one, two = resample(labels, [rng.uniform(size=n), rng.uniform(size=n)], group, draws=100)
    known = np.isfinite(one.draws).sum(axis=0) > 1
    assert np.isfinite(times_error(one.n_groups, one.n_effective)) == (one.n_groups > 1)
    if one.n_groups > 1:
        assert np.isfinite(interval(one)[known]).all()
        assert np.isfinite(difference(one, two)[1][known]).all()


def inside(truth: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return (ends[:, 0] <= truth) & (truth <= ends[:, 1])


def test_the_figures_are_those_of_metrics_and_repeats_are_averaged():
    labels, a, b, group = catalog(1, 50)
    single, both = resample(labels, [a, np.stack([a, b])], group, draws=50)
    assert single.value == pytest.approx(metrics(labels, a).values, abs=1e-12)
    mean = (metrics(labels, a).values + metrics(labels, b).values) / 2
    assert both.value == pytest.approx(mean, abs=1e-12)
    ensemble = metrics(labels, (a + b) / 2)
    assert abs(both.value[0] - ensemble["mse"]) > 1e-4  # the mean of the predictions would be better than either


def test_a_draw_is_of_whole_groups():
    """Two groups, one with no error: a draw has both, or one of them twice."""
    labels = np.array([0.1, 0.9, 0.2, 0.8])
    predicted = labels + np.array([0, 0, 0.1, 0.1])
    [drawn] = resample(labels, [predicted], ["a", "a", "b", "b"], draws=200)
    assert set(drawn.draws[:, 0].round(12)) == {0.0, 0.005, 0.01}


def test_without_groups_the_width_is_that_of_the_textbook():
    labels, a, _, _ = catalog(2, 400)
    n = len(labels)
    [one] = resample(labels, [a], np.arange(n), draws=4_000)
    squares = (a - labels) ** 2
    assert one.draws[:, 0].std() == pytest.approx(squares.std() / np.sqrt(n), rel=0.05)


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same():
    labels, a, _, group = catalog(3, 60)
    first, again, other = (interval(resample(labels, [a], group, seed=s)[0]) for s in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).all()
    assert first == pytest.approx(other, rel=0.2, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_an_interval_holds_its_figure_and_stays_in_range(seed, n_groups, perfect):
    labels, a, b, group = catalog(seed, n_groups)
    one, two = resample(labels, [labels if perfect else a, b], group, draws=100)
    ends = interval(one)
    assert inside(one.value, ends).all()
    assert (ends[:3] >= 0).all()
    assert (ends[3:, 1] <= 1).all()
    assert (ends[4:, 0] >= -1).all()
    value, apart = difference(one, two)
    back, turned = difference(two, one)
    assert value == pytest.approx(-back)
    assert apart == pytest.approx(-turned[:, ::-1])
    assert (difference(one, one)[1] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_the_tracks_and_the_spelling_of_groups_do_not_matter(seed):
    labels, a, _, group = catalog(seed, 8)
    order = np.random.default_rng(seed).permutation(len(labels))
    [one] = resample(labels, [a], group, draws=50)
    [other] = resample(labels[order], [a[order]], [f"artist {g}" for g in group[order]], draws=50)
    assert other.draws == pytest.approx(one.draws, abs=1e-12)


def test_what_cannot_be_known_is_nan():
    labels, a, _, group = catalog(4, 5)
    [alone] = resample(labels, [a], np.zeros(len(labels)), draws=20)
    assert np.isnan(interval(alone)).all()
    same, flat = np.full(len(labels), 0.1), np.full(len(labels), 0.3)
    [no_labels] = resample(same, [a], group, draws=20)
    assert np.isnan(interval(no_labels)[3:]).all()
    assert np.isfinite(interval(no_labels)[:3]).all()
    [no_spread] = resample(labels, [flat], group, draws=20)
    ends = dict(zip(METRICS, interval(no_spread).tolist(), strict=True))
    assert np.isnan(ends["r"]).all()
    assert ends["ccc"] == [0, 0]
    assert np.isfinite(ends["r2"]).all()
