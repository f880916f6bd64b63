"""Every registered model, by one contract: fitted, it predicts values and curves, and is stored as plain arrays."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from mer_ray import models
from mer_ray.config import TrainConfig
from mer_ray.errors import ModelError
from mer_ray.models.regressor import Regressor, ensemble
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe

EVERY = [*models.NETWORKS, *models.BASELINES]
each_model = pytest.mark.parametrize("name", EVERY)
HOP_S, WINDOW = 0.5, 8


def planted(n: int = 60, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Tracks whose first three coefficients lie where their labels say; read-only, as Ray's object store gives them."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0.2, 0.8, (n, 3))
    tracks = []
    for label in labels:
        frames = rng.standard_normal((int(rng.integers(3, 20)), 4)) * 2 + 100
        frames[:, :3] += 40 * (label - 0.5)
        tracks.append(frames.astype(np.float32))
        tracks[-1].flags.writeable = False
    return tracks, labels, [f"artist {i // 3}" for i in range(n)]


TRACKS, LABELS, ARTISTS = planted()


def recipe(name: str, **settings: object) -> Recipe:
    return Recipe(name, HOP_S, WINDOW, **{"epochs": 30, "learning_rate": 1e-2, "batch_size": 16, **settings})


@cache
def fitted(name: str) -> Regressor:
    return create(recipe(name)).fit(TRACKS, LABELS, ARTISTS, seed=3)


def values(model: Regressor, tracks: list[np.ndarray]) -> np.ndarray:
    return np.stack([p.value for p in model.predict(tracks)])


@each_model
def test_a_planted_signal_is_learnt(name):
    fresh, truth, _ = planted(seed=1)
    r2 = 1 - np.square(values(fitted(name), fresh) - truth).mean(axis=0) / truth.var(axis=0)
    assert r2.min() > 0.4


@each_model
def test_values_and_a_point_a_second_lie_in_0_1(name):
    wild = [np.full((6, 4), v, np.float32) for v in (-1e9, 1e9)]
    for track, p in zip([*TRACKS, *wild], fitted(name).predict([*TRACKS, *wild]), strict=True):
        assert p.value.shape == (3,)
        assert p.curve.shape == (max(1, round(len(track) * HOP_S)), 3)
        assert len(p.curve) * p.hop_s == pytest.approx(len(track) * HOP_S, abs=1)
        for numbers in p.value, p.curve:
            assert ((numbers >= 0) & (numbers <= 1)).all()


@each_model
def test_a_track_is_predicted_without_regard_to_the_others(name):
    model = fitted(name)
    for track, together in zip(TRACKS[:5], model.predict(TRACKS), strict=False):
        (alone,) = model.predict([track])
        assert alone.value == pytest.approx(together.value, abs=1e-6)
        assert alone.curve == pytest.approx(together.curve, abs=1e-6)
    assert model.predict([]) == []
    (one,) = model.predict([TRACKS[0][:1]])
    assert np.isfinite(one.value).all()


@each_model
def test_the_same_call_gives_the_same_arrays(name):
    one, other = (create(recipe(name, epochs=1)).fit(TRACKS, LABELS, ARTISTS, seed=3) for _ in range(2))
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(a, other.arrays[k]) for k, a in one.arrays.items())
    assert one.chosen == other.chosen


@each_model
def test_arrays_alone_restore_a_model_and_others_are_refused(name):
    from safetensors.numpy import load, save

    model = fitted(name)
    stored = load(save({k: np.ascontiguousarray(v) for k, v in model.arrays.items()}))
    again = restore(recipe(name), stored, model.targets)
    again.check(TRACKS[0])
    for mine, its in zip(model.predict(TRACKS), again.predict(TRACKS), strict=True):
        assert np.array_equal(mine.value, its.value)
        assert np.array_equal(mine.curve, its.curve)
    with pytest.raises(ModelError, match="another network"):
        again.check(np.zeros((1, 5), np.float32))
    with pytest.raises(ModelError, match="another network"):
        restore(recipe(name), {}, model.targets).check(TRACKS[0])
    other = fitted(EVERY[EVERY.index(name) - 1])
    with pytest.raises(ModelError, match="another network"):
        restore(recipe(name), other.arrays, model.targets).check(TRACKS[0])


SMALL = {
    "a constant coefficient": ([t * np.float32([0, 1, 1, 0]) for t in TRACKS[:12]], 12),
    "nothing but silence": ([t * 0 for t in TRACKS[:6]], 6),
    "one artist": (TRACKS[:8], 1),
    "one track": (TRACKS[:1], 1),
    "a frame or two": ([t[: 1 + i // 6] for i, t in enumerate(TRACKS[:12])], 6),
    "huge numbers": ([t * np.float32(1e12) for t in TRACKS[:8]], 4),
}


@each_model
@pytest.mark.parametrize("case", SMALL)
def test_little_or_strange_music_can_be_trained_on(name, case):
    tracks, artists = SMALL[case]
    groups = [str(i % artists) for i in range(len(tracks))]
    batch = 16 if len(tracks) == 1 else 1  # more than there are, which makes a batch of 1, too: one compilation
    model = create(recipe(name, epochs=1, batch_size=batch)).fit(tracks, LABELS[: len(tracks)], groups)
    assert all(np.isfinite(v).all() for v in model.arrays.values())
    assert np.isfinite(values(model, [*tracks, TRACKS[20], TRACKS[21][:1]])).all()


def test_an_ensemble_is_the_mean_of_those_that_were_trained_on_a_dimension():
    a, b = fitted("ridge"), fitted("svr")
    mean = ensemble([a, b], TRACKS)
    assert mean[0].value == pytest.approx((values(a, TRACKS[:1])[0] + values(b, TRACKS[:1])[0]) / 2)
    heads = [restore(recipe(m), fitted(m).arrays, t) for m, t in (("ridge", (1, 1, 0)), ("svr", (0, 1, 1)))]
    apart, both = ensemble(heads, TRACKS), values(a, TRACKS) + values(b, TRACKS)
    for i, p in enumerate(apart):
        assert p.value == pytest.approx([values(a, TRACKS)[i, 0], both[i, 1] / 2, values(b, TRACKS)[i, 2]])


@pytest.mark.parametrize("name", models.NETWORKS)
def test_a_model_says_which_settings_affect_it(name):
    uses = models.uses(name)
    assert uses <= set(TrainConfig.model_fields)
    assert uses >= {"folds", "repeats", "seed", "window_s"}
    stepped = {"loss", "learning_rate", "epochs", "members", "heads", "mixup", "mask_share", "search", "ema", "workers"}
    assert stepped & uses == (stepped if models.is_network(name) else set())
