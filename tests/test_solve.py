"""The kernel network: its statistics, its waves, and the closed form that fits it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models import functionals, kernel, layout
from mer_ray.models.solve import SMOOTHING, ridge
from mer_ray.models.splits import grouped_folds
from mer_ray.training.crossval import cross_validate
from mer_ray.training.fit import Recipe, fit
from mer_ray.training.forward import forward, track_means
from mer_ray.training.member import Member

HOP_S, N_DIMS = 0.05, 4
RECIPE = Recipe("kernel", HOP_S, 160, epochs=1, patience=1, batch_size=1, learning_rate=1.0, weight_decay=0.0)


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


def solved(tracks: list[np.ndarray], labels: np.ndarray, groups: list[str], **more: object) -> Member:
    return fit(RECIPE, tracks, labels, np.zeros(len(tracks), bool), 0, groups=groups, **more)


def answers(member: Member, tracks: list[np.ndarray]) -> np.ndarray:
    values, owner = forward("kernel", tracks[0].shape[1], HOP_S, RECIPE.window).windows(member, tracks)
    return track_means(values, owner, len(tracks))


def same(a: Member, b: Member) -> bool:
    return all(np.array_equal(v, b.parameters[k]) for k, v in a.parameters.items())


# the closed form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 70), (70, 30), (40, 40)])
def test_ridge_is_scikit_learns(shape):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(1)
    x, y, weight = rng.standard_normal(shape), rng.standard_normal(shape[0]) + 3, rng.uniform(0.1, 5, shape[0])
    coefficients, bias = ridge(x, y, weight, 0.7)
    theirs = Ridge(alpha=0.7, fit_intercept=False, solver="cholesky").fit(x, y - bias, sample_weight=weight)
    assert bias == pytest.approx(np.average(y, weights=weight))
    assert np.allclose(coefficients, theirs.coef_, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def crossed():
    """Two folds of planted tracks, and the same where the tracks of fold 0 are another music under other labels."""
    fold = grouped_folds(ARTISTS, 2, 0)
    other, truth, _ = planted(seed=9)
    mixed = [o if f == 0 else t for o, t, f in zip(other, TRACKS, fold, strict=True)]
    labels = np.where(fold[:, None] == 0, truth, LABELS)
    return [
        cross_validate(RECIPE, tracks, of, ARTISTS, fold[None], 2, 0)
        for tracks, of in [(TRACKS, LABELS), (mixed, labels)]
    ]


def test_level_and_tempo_are_learnt_and_noise_is_not(crossed):
    r2 = 1 - ((crossed[0].predicted[0] - LABELS) ** 2).mean(axis=0) / LABELS.var(axis=0)
    assert r2[:2].min() > 0.5
    assert -0.3 < r2[2] < 0.3
    assert len(crossed[0].members) == 2  # one per fold, however many were asked for
    train, valid = crossed[0].curves[0][0]
    assert 0 < train < valid < 1.2


def test_the_tracks_that_judge_have_no_say_in_what_is_chosen(crossed):
    first, second = (result.members[0] for result in crossed)
    assert same(first, second)
    assert np.array_equal(first.scaler.x_mean, second.scaler.x_mean)
    assert not same(crossed[0].members[1], crossed[1].members[1])


def test_the_same_call_gives_the_same_bits(crossed):
    again = cross_validate(RECIPE, TRACKS, LABELS, ARTISTS, crossed[0].fold, 2, 0)
    assert np.array_equal(again.predicted, crossed[0].predicted)
    assert all(same(a, b) for a, b in zip(again.members, crossed[0].members, strict=True))


def test_what_it_does_not_use_changes_nothing(crossed):
    """Least of all a loss that would want a wider answer."""
    changed = replace(RECIPE, epochs=9, batch_size=4, learning_rate=0.3, loss="nll", mask_share=0.2, mixup=0.4, ema=0.5)
    again = cross_validate(changed, TRACKS, LABELS, ARTISTS, crossed[0].fold, 2, 0, separate=True)
    assert np.array_equal(again.predicted, crossed[0].predicted)
    assert all(same(a, b) for a, b in zip(again.members, crossed[0].members, strict=True))


def test_it_says_what_it_has_chosen(crossed):
    for member in crossed[0].members:
        assert list(member.chosen) == list(DIMENSIONS)
        head = member.parameters["head.kernel"].reshape(6, len(layout.BANDWIDTHS), -1, 3)
        for d, chosen in enumerate(member.chosen.values()):
            assert chosen["smoothing"] in SMOOTHING
            assert chosen["bandwidths"] == [b for k, b in enumerate(layout.BANDWIDTHS) if head[:, k, :, d].any()]
    assert crossed[0].members[0].chosen == crossed[1].members[0].chosen


def test_heavy_labels_count_more():
    tracks, labels = TRACKS[:24] * 2, np.concatenate([LABELS[:24], 1 - LABELS[:24]])
    groups = ARTISTS[:24] * 2
    right = np.repeat([[20.0], [1.0]], 24, axis=0) * np.ones(3)
    one, other = (solved(tracks, labels, groups, weights=w / w.mean(axis=0)) for w in (right, right[::-1]))
    for member, truth in ((one, LABELS[:24]), (other, 1 - LABELS[:24])):
        told = answers(member, TRACKS[:24])
        assert np.corrcoef(told[:, 0], truth[:, 0])[0, 1] > 0.7


SMALL = {
    "a constant coefficient": ([t * [0, 1, 1, 0] for t in TRACKS[:12]], 12),
    "nothing but silence": ([t * 0 for t in TRACKS[:6]], 6),
    "one artist": (TRACKS[:8], 1),
    "one track": (TRACKS[:1], 1),
    "less than a second": ([t[: 1 + i] for i, t in enumerate(TRACKS[:12])], 6),
    "values without measure": ([t * np.float32(1e12) for t in TRACKS[:8]], 4),
}


@pytest.mark.parametrize("case", SMALL)
def test_little_or_strange_music_can_be_trained_on(case):
    tracks, artists = SMALL[case]
    tracks = [t.astype(np.float32) for t in tracks]
    member = solved(tracks, LABELS[: len(tracks)], [str(i % artists) for i in range(len(tracks))])
    assert all(np.isfinite(v).all() for v in member.parameters.values())
    told = answers(member, [*tracks, TRACKS[20], TRACKS[21][:1]])
    assert np.isfinite(told).all()
    assert np.abs(told - 0.5).max() < 1, "far from all music, the answer is about the mean"


# the waves ---------------------------------------------------------------------------------------------------------


def miss(n_waves: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Mean absolute difference of the waves' products and the Gaussian kernels of each bandwidth."""
    monkeypatch.setattr(kernel, "N_WAVES", n_waves)
    module = kernel.build(6, 1.0, nnx.Rngs(0))  # frames a second apart: two blocks, of means and deviations
    reach = 3.0
    module.reach[...] = jnp.full(2, reach)
    values = np.random.default_rng(2).standard_normal((40, 12)).astype(np.float32)
    waves = np.asarray(module.waves(jnp.asarray(values)), float)
    products = np.einsum("ibkw,jbkw->bkij", waves, waves)
    out = np.zeros(len(layout.BANDWIDTHS))
    for block, part in enumerate(np.split(values.astype(float), 2, axis=1)):
        squared = np.square(part[:, None] - part[None]).sum(axis=2)
        for k, bandwidth in enumerate(layout.BANDWIDTHS):
            out[k] += np.abs(products[block, k] - np.exp(-bandwidth * squared / reach**2)).mean() / 2
    return out


def test_products_of_waves_are_gaussian_kernels(monkeypatch):
    few, some, all_of_them = (miss(n, monkeypatch) for n in (40, 400, kernel.N_WAVES))
    assert (few > some).all()
    assert (some > all_of_them).all()
    assert (all_of_them < 0.02).all()


# the statistics ----------------------------------------------------------------------------------------------------

ROOM, LONGER = 96, 160
_statistics = jax.jit(lambda x, mask: jnp.concatenate(functionals.functionals(x, mask, HOP_S), axis=-1))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, ROOM), st.sampled_from([-1e4, -3.0, 0.5, 1e4]))
def test_what_stands_in_the_padding_and_how_much_of_it_makes_no_difference(length, junk):
    x = np.zeros((1, ROOM, 3), np.float32)
    x[0, :length] = np.random.default_rng(length).standard_normal((length, 3))
    mask = (np.arange(ROOM) < length).astype(np.float32)[None]
    plain = np.asarray(_statistics(x, mask))
    filled = np.where(mask[:, :, None] > 0, x, np.float32(junk))
    assert np.isfinite(plain).all()
    assert np.allclose(_statistics(filled, mask), plain, atol=2e-4)
    more = LONGER - ROOM
    longer = _statistics(np.pad(x, ((0, 0), (0, more), (0, 0))), np.pad(mask, ((0, 0), (0, more))))
    assert np.allclose(longer, plain, atol=2e-4)


def bands(x: np.ndarray) -> np.ndarray:
    """Power in the bands of modulation: x (T, F) → (K, F)."""
    out = _modulation(x[None].astype(np.float32), np.ones((1, len(x)), np.float32))
    return np.exp(np.asarray(out, float)).reshape(-1, x.shape[1]) - functionals.FLOOR


SEGMENT = layout.segment_frames(HOP_S)
EDGES = layout.band_edges(SEGMENT)
_modulation = jax.jit(lambda x, mask: functionals.modulation(x, mask, SEGMENT))


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
