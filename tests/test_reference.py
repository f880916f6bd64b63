"""Whether a track is like the training tracks, and which sound alike."""

from __future__ import annotations

import numpy as np
import pytest

from mer_ray.models import passages
from mer_ray.models.statistics import PassageStatistics
from mer_ray.training import reference

HOP_S, N_DIMS, WINDOW = 0.05, 12, 200
BLOCKS = passages.level_blocks([(N_DIMS, HOP_S)])


def tracks(n: int, seed: int = 0, level: float = 0.0, beat: float = 1.0) -> list[np.ndarray]:
    """Frames with a level and a beat of their own."""
    rng = np.random.default_rng(seed)
    t = np.arange(500) * HOP_S
    made = []
    for _ in range(n):
        own = level + rng.standard_normal(N_DIMS)
        wave = beat * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t)[:, None] * rng.standard_normal(N_DIMS)
        made.append((own + wave + 0.3 * rng.standard_normal((500, N_DIMS))).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def fitted() -> tuple[PassageStatistics, reference.Reference]:
    known = tracks(120)
    own = PassageStatistics.fit(known, np.random.default_rng(0).uniform(size=(120, 3)), WINDOW, HOP_S, 0)
    means = np.stack([own.mean(t, WINDOW, HOP_S) for t in known])
    return own, reference.fit(own, means, [str(i // 2) for i in range(120)], 0, BLOCKS)


def novelty(fitted: tuple[PassageStatistics, reference.Reference], some: list[np.ndarray]) -> np.ndarray:
    own, known = fitted
    means = np.stack([own.mean(t, WINDOW, HOP_S) for t in some])
    return known.novelty(means)


def test_new_tracks_of_the_kind_are_like_the_training_tracks(fitted):
    assert (novelty(fitted, tracks(200, seed=1)) > 1).mean() <= 0.05


def test_tracks_that_move_much_more_are_new(fitted):
    assert (novelty(fitted, tracks(40, seed=2, beat=12.0)) > 1).mean() >= 0.9


def test_embeddings_at_another_place_are_new():
    hop_s, known = 0.96, tracks(120)
    own = PassageStatistics.fit(known, np.full((120, 3), 0.5), 31, hop_s, 0)
    means, others = (
        np.stack([own.mean(t, 31, hop_s) for t in some]) for some in (known, tracks(40, seed=2, level=8.0))
    )
    blocks = passages.level_blocks([(N_DIMS, hop_s)])
    made = reference.fit(own, means, [str(i) for i in range(120)], 0, blocks)
    assert (made.novelty(others) > 1).mean() >= 0.9


def test_coordinates_have_variance_one_over_the_training_tracks(fitted):
    own, known = fitted
    means = np.stack([own.mean(t, WINDOW, HOP_S) for t in tracks(120)])
    coordinates = known.coordinates(means)
    assert coordinates.shape == (120, reference.N_SOUND)
    assert coordinates.std(axis=0) == pytest.approx(1, abs=0.15)


def test_a_piece_of_a_track_sounds_like_the_rest_of_it(fitted):
    own, known = fitted
    some = tracks(30, seed=3)
    first, second = (
        known.coordinates(np.stack([own.mean(t[part], WINDOW, HOP_S) for t in some]))
        for part in (slice(0, 250), slice(250, 500))
    )
    apart = np.square(first[:, None] - second[None]).sum(axis=2)
    assert (apart.argmin(axis=1) == np.arange(30)).mean() > 0.8


def test_a_handful_of_tracks_is_enough_to_fit():
    known = tracks(5)
    own = PassageStatistics.fit(known, np.full((5, 3), 0.5), WINDOW, HOP_S, 0)
    means = np.stack([own.mean(t, WINDOW, HOP_S) for t in known])
    for groups in (["a"] * 5, list("abcde")):
        made = reference.fit(own, means, groups, 0, BLOCKS)
        assert np.isfinite(made.novelty(means)).all()


def test_what_no_training_track_has_is_new(fitted):
    """Some dimensions silent, or a steady noise over everything: both lie near the usual in most directions."""
    some = tracks(40, seed=4)
    band = [np.where(np.arange(N_DIMS) < N_DIMS // 2, t, -6).astype(np.float32) for t in some]
    rng = np.random.default_rng(6)
    steady = [(0.1 * t + 0.05 * rng.standard_normal(t.shape)).astype(np.float32) for t in some]
    assert (novelty(fitted, some) > 1).mean() <= 0.05
    assert (novelty(fitted, band) > 1).mean() >= 0.9
    assert (novelty(fitted, steady) > 1).mean() >= 0.9


def test_levels_and_spreads_of_the_features_with_components_are_looked_at():
    fine, coarse = (40, 0.023), (20, 1.0)
    size = sum(passages.block_sizes(*fine))
    assert passages.level_blocks([fine, coarse]) == [slice(0, 40), slice(40, 80), slice(80, 120)]
    assert passages.level_blocks([coarse, fine])[0] == slice(20, 60)
    assert passages.level_blocks([coarse, coarse]) == [slice(0, 20), slice(20, 40)]
    assert size > 120
