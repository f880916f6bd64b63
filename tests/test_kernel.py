"""The kernel model: its statistics, its Gaussian kernels, and the closed form that fits it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import cross_validate

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models import gaussian, kernel, passages
from mer_ray.models.gaussian import LENGTH_SCALES, Kernels
from mer_ray.models.kernel import RIDGE_ALPHAS, Kernel, interquartile_mean
from mer_ray.models.regressor import Regressor
from mer_ray.models.splits import grouped_folds
from mer_ray.training.fit import restore
from mer_ray.training.recipe import Recipe

HOP_S, N_DIMS = 0.05, 4
RECIPE = Recipe("kernel", HOP_S, 160)


def planted(n: int = 72, n_frames: int = 200, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Valence is the level of a coefficient, arousal how fast another one beats, dominance nothing that is heard."""
    rng = np.random.default_rng(seed)
    labels, t = rng.uniform(0.2, 0.8, (n, 3)), np.arange(n_frames) * HOP_S
    tracks = []
    for valence, arousal, _ in labels:
        frames = rng.standard_normal((n_frames, N_DIMS))
        frames[:, 0] += 4 * valence
        frames[:, 1] += 2 * np.sin(2 * np.pi * (8 * arousal * t + rng.random()))
        tracks.append(frames.astype(np.float32))
    return tracks, labels, [f"artist {i // 4}" for i in range(n)]


TRACKS, LABELS, ARTISTS = planted()


def same(a: Regressor, b: Regressor) -> bool:
    return all(np.array_equal(v, b.arrays[k]) for k, v in a.arrays.items())


# kernels and the closed form ---------------------------------------------------------------------------------------


def by_formula(x: list[np.ndarray], support: list[np.ndarray], kernels: Kernels) -> np.ndarray:
    """The sums over blocks and length scales of exp(-d² / 2 (l m)²), in double precision."""
    out = np.zeros((len(kernels.mixtures), len(x[0]), len(support[0])))
    for b, (one, other) in enumerate(zip(x, support, strict=True)):
        squared = np.square(one.astype(float)[:, None] - other.astype(float)[None]).sum(axis=2)
        for k, scale in enumerate(LENGTH_SCALES):
            values = np.exp(-squared / (2 * (scale * float(kernels.medians[b])) ** 2))
            out += kernels.mixtures[:, b, k, None, None] * values
    return out


def blocks(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, width)).astype(np.float32) for width in (3, 40)]


def some_kernels() -> Kernels:
    mixtures = np.random.default_rng(5).uniform(0.1, 1, (2, 2, len(LENGTH_SCALES)))
    mixtures[0, 1] = mixtures[1, :, 1] = 0  # neither has all blocks and scales
    return Kernels(np.float32([2.0, 8.5]), mixtures)


def test_kernels_are_the_written_out_gaussians():
    x, support, kernels = blocks(23), blocks(31, seed=1), some_kernels()
    assert kernels(x, support) == pytest.approx(by_formula(x, support, kernels), abs=1e-5)


def test_the_unit_of_distance_is_the_median_between_passages():
    from scipy.spatial.distance import cdist

    x = blocks(60)
    assert gaussian.median_distances(x) == pytest.approx([np.median(cdist(b, b)) for b in x], rel=1e-5)
    assert gaussian.median_distances([np.ones((4, 3))])[0] > 0  # alike, yet something to divide by


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 20))
def test_a_tracks_kernel_is_the_mean_over_its_passages(counts, together):
    """However many passages are compared together."""
    counts, kernels = np.array(counts), some_kernels()
    x, support = blocks(counts.sum()), blocks(9, seed=1)
    mean = np.repeat(np.eye(len(counts)) / counts, counts, axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaussian, "ROWS", together)
        across, among = kernels.of_tracks(x, counts, support), kernels.of_tracks(x, counts, x, counts)
    assert across == pytest.approx(mean @ by_formula(x, support, kernels), abs=1e-5)
    assert among == pytest.approx(mean @ by_formula(x, x, kernels) @ mean.T, abs=1e-5)


def problem(n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A Gram matrix, targets, and weights of tracks."""
    rng = np.random.default_rng(1)
    gram = by_formula(x := blocks(n), x, some_kernels())[0]
    return gram, rng.standard_normal(n), rng.uniform(0.1, 5, n)


def test_ridge_is_scikit_learns():
    from sklearn.kernel_ridge import KernelRidge

    gram, y, weight = problem()
    theirs = KernelRidge(alpha=0.7, kernel="precomputed").fit(gram, y, sample_weight=weight)
    assert gaussian.ridge(gram, y, weight, 0.7) == pytest.approx(theirs.dual_coef_, abs=1e-9)


def test_the_path_of_penalties_is_ridge_with_each_around_the_weighted_mean():
    gram, _, _ = problem()
    rng, known, alphas = np.random.default_rng(3), np.arange(40) % 4 > 0, (0.1, 0.8)
    y = rng.standard_normal((40, 3)) + 2
    for weights in (np.ones((40, 3)), rng.uniform(0.1, 5, (40, 3))):
        found = gaussian.ridge_path(gram, y, weights, known, alphas)
        for j, alpha in enumerate(alphas):
            for d in range(3):
                w, mean = weights[known, d], np.average(y[known, d], weights=weights[known, d])
                coefficients = gaussian.ridge(gram[np.ix_(known, known)], y[known, d] - mean, w, alpha)
                assert found[j, :, d] == pytest.approx(gram[np.ix_(~known, known)] @ coefficients + mean, abs=1e-8)


def test_landmarks_that_are_all_passages_give_the_exact_solution():
    gram, y, weight = problem()
    exact = gram @ gaussian.ridge(gram, y, weight, 0.7)
    assert gram @ gaussian.ridge_on_landmarks(gram, gram, y, weight, 0.7) == pytest.approx(exact, abs=2e-3)


def test_more_landmarks_come_closer_to_the_exact_solution():
    gram, y, weight = problem(200)
    exact = gram @ gaussian.ridge(gram, y, weight, 0.7)
    missed = []
    for n in (10, 50, 150):
        own = gaussian.ridge_on_landmarks(gram[:, :n], gram[:n, :n], y, weight, 0.7)
        missed.append(np.square(gram[:, :n] @ own - exact).mean() / exact.var())
    assert missed[0] > missed[1] > missed[2]
    assert missed[2] < 0.1


def values(model: Regressor, tracks: list[np.ndarray]) -> np.ndarray:
    return np.stack([p.value for p in model.predict(tracks)])


def test_beyond_its_support_a_model_predicts_nearly_the_same(monkeypatch):
    """With landmarks instead of all passages, which are 3 a track here."""
    fresh, truth, _ = planted(seed=4)
    exact = Kernel(HOP_S, 80).fit(TRACKS, LABELS, ARTISTS)
    n_windows = len(exact.arrays["network.support"])
    assert n_windows >= 2 * len(TRACKS)
    monkeypatch.setattr(kernel, "SUPPORT", 100)
    few = Kernel(HOP_S, 80).fit(TRACKS, LABELS, ARTISTS)
    assert len(few.arrays["network.support"]) == len(few.arrays["network.coefficients"]) == 100 < n_windows
    assert few.chosen == exact.chosen
    both = values(exact, fresh), values(few, fresh)
    for d in (0, 1):
        assert np.corrcoef(both[0][:, d], both[1][:, d])[0, 1] > 0.97
        errors = [np.square(found[:, d] - truth[:, d]).mean() for found in both]
        assert errors[1] < 1.25 * errors[0]
    again = Kernel(HOP_S, 80).fit(TRACKS, LABELS, ARTISTS)
    assert same(few, again)
    assert not same(few, Kernel(HOP_S, 80).fit(TRACKS, LABELS, ARTISTS, seed=1))


@pytest.mark.parametrize("support", [4_096, 40], ids=["exact", "landmarks"])
def test_what_a_fit_has_fitted_is_what_its_arrays_predict(monkeypatch, support):
    """Of tracks that are one passage each, whose error the fit reports."""
    monkeypatch.setattr(kernel, "SUPPORT", support)
    model = Kernel(HOP_S, 200).fit(TRACKS, LABELS, ARTISTS)
    again = restore(Recipe("kernel", HOP_S, 200), model.arrays, model.targets)
    errors = np.square((values(again, TRACKS) - LABELS) / LABELS.std(axis=0))
    assert errors.mean() == pytest.approx(model.curve[0, 0], rel=0.01)


def test_with_one_artist_nothing_is_selected_and_it_learns_all_the_same():
    model = Kernel(HOP_S, 160).fit(TRACKS, LABELS, ["one"] * len(TRACKS))
    for chosen in model.chosen.values():
        assert chosen["ridge_alpha"] == kernel.DEFAULT_ALPHA
        assert len(chosen["length_scales"]) == len(LENGTH_SCALES)
    fresh, truth, _ = planted(seed=4)
    assert np.corrcoef(values(model, fresh)[:, 0], truth[:, 0])[0, 1] > 0.7


def test_blocks_weigh_by_the_root_of_their_width_and_those_of_coarse_features_three_times():
    from mer_ray.features.joined import Joined

    rng = np.random.default_rng(0)
    tracks = [Joined((t, rng.standard_normal((10, 9), np.float32)), (HOP_S, 1.0)) for t in TRACKS]
    model = Kernel(HOP_S, 160, hops=(HOP_S, 1.0)).fit(tracks, LABELS, ARTISTS)
    weights = model.arrays["network.mixtures"].sum(axis=2)
    sizes = passages.block_sizes(N_DIMS, HOP_S)
    wanted = np.array([*np.sqrt(sizes), 3 * np.sqrt(9)])
    for own in weights:
        assert own == pytest.approx(wanted / wanted.sum(), rel=1e-5)


@pytest.fixture(scope="module")
def crossed():
    """Two folds of planted tracks, and the same where the tracks of fold 0 are another music under other labels."""
    fold = grouped_folds(ARTISTS, 2, 0)
    other, truth, _ = planted(seed=9)
    mixed = [o if f == 0 else t for o, t, f in zip(other, TRACKS, fold, strict=True)]
    labels = np.where(fold[:, None] == 0, truth, LABELS)
    return [
        cross_validate(RECIPE, tracks, of, ARTISTS, fold[None], 2) for tracks, of in [(TRACKS, LABELS), (mixed, labels)]
    ]


def test_level_and_tempo_are_learnt_and_noise_is_not(crossed):
    r2 = 1 - ((crossed[0].predicted[0] - LABELS) ** 2).mean(axis=0) / LABELS.var(axis=0)
    assert r2[:2].min() > 0.5
    assert -0.3 < r2[2] < 0.3
    assert len(crossed[0].members) == 2  # one per fold, however many were asked for
    train, valid = crossed[0].members[0].curve[0]
    assert 0 < train < valid < 1.2


def test_the_tracks_that_judge_have_no_say_in_what_is_chosen(crossed):
    first, second = (result.members[0] for result in crossed)
    assert same(first, second)
    assert np.array_equal(first.arrays["scaler.x_mean"], second.arrays["scaler.x_mean"])
    assert not same(crossed[0].members[1], crossed[1].members[1])


def test_the_same_call_gives_the_same_bits_whatever_it_does_not_use(crossed):
    """Such as a loss that would want a wider answer."""
    changed = replace(RECIPE, epochs=9, batch_size=4, learning_rate=0.3, loss="nll", mask_share=0.2, mixup=0.4, ema=0.5)
    again = cross_validate(changed, TRACKS, LABELS, ARTISTS, crossed[0].fold, 2, separate=True)
    assert np.array_equal(again.predicted, crossed[0].predicted)
    assert all(same(a, b) for a, b in zip(again.members, crossed[0].members, strict=True))


def test_it_says_what_it_has_chosen(crossed):
    for member in crossed[0].members:
        assert list(member.chosen) == list(DIMENSIONS)
        mixtures = member.arrays["network.mixtures"]
        for d, chosen in enumerate(member.chosen.values()):
            assert chosen["ridge_alpha"] in RIDGE_ALPHAS
            used = [round(s, 4) for k, s in enumerate(LENGTH_SCALES) if mixtures[d, :, k].any()]
            assert chosen["length_scales"] == used
    assert crossed[0].members[0].chosen == crossed[1].members[0].chosen


def test_heavy_labels_count_more():
    tracks, labels = TRACKS[:24] * 2, np.concatenate([LABELS[:24], 1 - LABELS[:24]])
    right = np.repeat([[20.0], [1.0]], 24, axis=0) * np.ones(3)
    for weights, truth in ((right, LABELS[:24]), (right[::-1], 1 - LABELS[:24])):
        model = Kernel(HOP_S, 160).fit(tracks, labels, ARTISTS[:24] * 2, weights=weights / weights.mean(axis=0))
        values = np.stack([p.value for p in model.predict(TRACKS[:24])])
        assert np.corrcoef(values[:, 0], truth[:, 0])[0, 1] > 0.7


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 1))
def test_one_outlier_in_eight_or_more_points_does_not_move_the_mean_beyond_the_others(values, outlier):
    column = np.array(values)[:, None]
    assert column.min() - 1e-12 <= interquartile_mean(column)[0] <= column.max() + 1e-12
    if len(values) >= 8:
        moved = interquartile_mean(np.append(column, [[outlier]], axis=0))[0]
        assert column.min() - 1e-12 <= moved <= column.max() + 1e-12


def test_a_curve_follows_the_music():
    """Half of the track quiet and slow, half the other way round: the curve steps in between, and only there."""
    model = Kernel(HOP_S, 160).fit(TRACKS, LABELS, ARTISTS)
    low, high = LABELS[:, 0].argmin(), LABELS[:, 0].argmax()
    (p,) = model.predict([np.concatenate([TRACKS[low]] * 5 + [TRACKS[high]] * 5)])
    half, apart = len(p.curve) // 2, round(160 * HOP_S)
    first, second = p.curve[: half - apart, 0], p.curve[half + apart :, 0]
    assert second.mean() - first.mean() > 3 * max(first.std(), second.std())


# dimensions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("support", [4_096, 100], ids=["exact", "landmarks"])
@pytest.mark.parametrize("seed", range(3))
def test_valence_and_arousal_do_not_depend_on_whether_there_is_dominance(monkeypatch, support, seed):
    monkeypatch.setattr(kernel, "SUPPORT", support)
    tracks, labels, artists = planted(seed=seed)
    some = labels.copy()
    some[np.arange(len(labels)) % 3 > 0, 2] = np.nan
    fold, weights = grouped_folds(artists, 3, seed, labels), np.random.default_rng(seed).uniform(0.5, 1.5, labels.shape)
    for weighted in (None, weights):
        found = []
        for own in (labels, labels[:, :2], some):
            d = own.shape[1]
            assert np.array_equal(fold, grouped_folds(artists, 3, seed, own))
            inside = np.flatnonzero(fold != 0)
            model = Kernel(HOP_S, 80).fit(
                [tracks[i] for i in inside],
                own[inside],
                [artists[i] for i in inside],
                weights=None if weighted is None else weighted[inside, :d],
                seed=seed,
                dimensions=DIMENSIONS[:d],
            )
            found.append(values(model, [tracks[i] for i in np.flatnonzero(fold == 0)]))
            assert list(model.chosen) == list(DIMENSIONS[:d])
        assert found[1].shape == (24, 2)
        assert found[0][:, :2] == pytest.approx(found[1], abs=1e-6)
        assert found[2][:, :2] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("support", [4_096, 100], ids=["exact", "landmarks"])
def test_a_dimension_is_fitted_on_the_tracks_that_have_it(monkeypatch, support):
    """Its predictions are those of a model that is given these tracks alone, up to the units of what is heard."""
    monkeypatch.setattr(kernel, "SUPPORT", support)
    known, fresh = np.arange(len(TRACKS)) % 8 < 4, planted(seed=4)
    some = np.where(np.stack([np.ones(len(TRACKS), bool), known], axis=1), LABELS[:, :2], np.nan)
    mixed = Kernel(HOP_S, 80).fit(TRACKS, some, ARTISTS)
    rows = np.flatnonzero(known)
    alone = Kernel(HOP_S, 80).fit([TRACKS[i] for i in rows], LABELS[rows, :2], [ARTISTS[i] for i in rows])
    found = [values(m, fresh[0])[:, 1] for m in (mixed, alone)]
    assert np.corrcoef(*found)[0, 1] > 0.9
    errors = [np.square(f - fresh[1][:, 1]).mean() for f in found]
    assert errors[0] < 1.15 * errors[1]
    if support == 4_096:
        owner = np.repeat(known, len(mixed.arrays["network.support"]) // len(TRACKS))
        assert not mixed.arrays["network.coefficients"][~owner, 1].any()
        assert mixed.arrays["network.coefficients"][owner, 1].all()


# statistics --------------------------------------------------------------------------------------------------------


def frames(n: int, n_dims: int = 24) -> np.ndarray:
    return (0.3 * np.random.default_rng(n).standard_normal((n, n_dims)).cumsum(axis=0)).astype(np.float32)


def components(n_dims: int, hop_s: float) -> np.ndarray:
    shape = n_dims, passages.n_components(n_dims, hop_s)
    return (0.3 * np.random.default_rng(1).standard_normal(shape)).astype(np.float32)


def by_hand(x: np.ndarray, projection: np.ndarray, hop_s: float) -> list[np.ndarray]:
    """The statistics of all frames as one passage, but for the modulation spectrum, from their definitions."""

    def sd(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        mean = np.average(values, axis=0, weights=weights)
        return np.sqrt(np.average(np.square(values - mean), axis=0, weights=weights) + passages.VARIANCE)

    x = x.astype(float)
    if not passages.is_fine(hop_s):
        return [x.mean(axis=0)]
    y, step = x @ projection, round(passages.TEXTURE_S / hop_s)
    pieces = [y[i : i + step] for i in range(0, len(y), step)]
    weights = np.array([len(piece) for piece in pieces])
    level, texture = np.stack([p.mean(axis=0) for p in pieces]), np.stack([sd(p) for p in pieces])
    moved = sd(np.diff(y, axis=0)) if len(y) > 1 else np.full(y.shape[1], np.sqrt(passages.VARIANCE))
    logs = np.log(sd(y) + passages.FLOOR), np.log(moved + passages.FLOOR)
    of_texture = np.average(texture, axis=0, weights=weights), sd(texture, weights)
    return [x.mean(axis=0), y.mean(axis=0), *logs, sd(level, weights), *of_texture]


MFCC_S = 512 / 22_050


@pytest.mark.parametrize(("hop_s", "n_dims"), [(MFCC_S, 24), (MFCC_S, 60), (0.96, 16)], ids=["few", "many", "slow"])
@pytest.mark.parametrize("n", [1, 7, 22, 130, 500])
def test_a_passage_has_the_statistics_of_its_frames(n, hop_s, n_dims):
    x, projection = frames(n, n_dims), components(n_dims, hop_s)
    found = passages.statistics(x, projection, passages.one_passage(n, hop_s), hop_s)
    assert found.shape == (1, sum(passages.block_sizes(n_dims, hop_s)))
    assert np.isfinite(found).all()
    wanted = np.concatenate(by_hand(x, projection, hop_s))
    # Of a single frame there is no deviation but rounding, and its logarithm is what is left of it.
    assert found[0, : len(wanted)] == pytest.approx(wanted, abs=2e-4 if n > 1 else 0.02)


def test_a_passage_in_the_middle_has_the_statistics_of_its_own_frames():
    """But for the modulation spectrum, whose segments lie as they do from the start of the track."""
    x, projection = frames(2_000), components(24, MFCC_S)
    grid = passages.grid(len(x), 500, MFCC_S)
    found = passages.statistics(x, projection, grid, MFCC_S)
    n_exact = sum(passages.block_sizes(24, MFCC_S)[:-1])
    for i in (0, 13, len(grid.first) - 1):
        piece = x[grid.first_frame[i] : grid.last_frame[i]]
        (own,) = passages.statistics(piece, projection, passages.one_passage(len(piece), MFCC_S), MFCC_S)
        assert found[i, :n_exact] == pytest.approx(own[:n_exact], abs=2e-4)
        assert np.corrcoef(found[i, n_exact:], own[n_exact:])[0, 1] > 0.9


@settings(max_examples=60)
@given(st.integers(1, 4_000), st.integers(1, 2_000), st.sampled_from([MFCC_S, 0.1, 0.5, 0.96, 2.0]))
def test_points_are_about_a_second_apart_and_every_passage_holds_its_point(n, window, hop_s):
    grid = passages.grid(n, window, hop_s)
    points = grid.n_points
    assert points >= 1
    assert grid.whole.any()
    assert (grid.first >= 0).all()
    assert (grid.first < grid.last).all()
    assert (grid.last_frame <= n).all()
    assert abs(points * grid.hop_s - n * hop_s) <= grid.hop_s
    if hop_s <= 0.5:
        assert 0.65 <= grid.hop_s <= 1.35
    at = np.minimum((np.arange(points) + 0.5) * grid.hop_s / hop_s, n - 1)
    assert (grid.first_frame[:points] <= at + grid.size).all()
    assert (at <= grid.last_frame[:points] + grid.size).all()


SEGMENT = passages.segment_frames(HOP_S)
EDGES = passages.band_edges(SEGMENT)


def bands(x: np.ndarray) -> np.ndarray:
    """Power in the bands of modulation: x (T, F) → (K, F)."""
    identity = np.eye(x.shape[1], dtype=np.float32)
    found = passages.statistics(x.astype(np.float32), identity, passages.one_passage(len(x), HOP_S), HOP_S)[0]
    n = (len(EDGES) - 1) * x.shape[1]
    return np.exp(found[-n:].astype(float)).reshape(-1, x.shape[1]) - passages.FLOOR


@pytest.mark.parametrize("rate_hz", [0.35, 1.0, 4.0, 8.0])
def test_a_beat_is_found_in_its_band(rate_hz):
    t = np.arange(5 * SEGMENT) * HOP_S
    beat = np.sin(2 * np.pi * rate_hz * t)
    power = bands(np.stack([beat, np.full_like(t, 7.0)], axis=1))
    edges_hz = np.array(EDGES) / (SEGMENT * HOP_S)
    assert np.searchsorted(edges_hz, rate_hz, side="right") - 1 == power[:, 0].argmax()
    assert np.abs(power[:, 1]).max() < 1e-4  # what stands still has no rate


def test_bands_are_those_of_welchs_method():
    from scipy.signal import welch

    x = np.random.default_rng(3).standard_normal((5 * SEGMENT, 2))
    hz, density = welch(x, 1 / HOP_S, "hann", SEGMENT, detrend="constant", axis=0)
    assert len(hz) == SEGMENT // 2 + 1
    theirs = np.stack([density[a:b].mean(axis=0) / HOP_S / 2 for a, b in pairwise(EDGES)])
    assert np.allclose(bands(x), theirs, rtol=0.01)


def test_an_artist_with_more_tracks_than_the_selection_takes_does_not_stop_it(monkeypatch):
    monkeypatch.setattr(kernel, "MAX_SELECTION", 24)
    for groups in (["one"] * 40 + ARTISTS[40:], ["one"] * 36 + ["two"] * 36):
        for seed in range(6):
            model = Kernel(HOP_S, 160).fit(TRACKS, LABELS, groups, seed=seed)
            assert np.isfinite(model.predict(TRACKS[:1])[0].value).all()
