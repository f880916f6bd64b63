"""Every registered model, by one contract: fitted, it predicts values and curves, and is stored as plain arrays."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from conftest import LONG

from mer_ray import models
from mer_ray.config import TrainConfig
from mer_ray.errors import InputError, ModelError
from mer_ray.models.regressor import Regressor, ensemble
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe, label_weights

EVERY = [*models.NETWORKS, *models.BASELINES]
each_model = pytest.mark.parametrize("name", EVERY)
HOP_S, WINDOW = 0.5, 8
LOSSES = [{}, {"loss": "ccc", "mixup": 0.3}, *([{"loss": "nll"}] if LONG else [])]


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


@each_model
@pytest.mark.parametrize("dimensions", [1, 2, 4] if LONG else [1, 4])
def test_any_number_of_dimensions_is_learnt_and_restored(name, dimensions):
    labels = np.column_stack([LABELS, LABELS.mean(axis=1)])[:, :dimensions]
    model = create(recipe(name)).fit(TRACKS, labels, ARTISTS, seed=3)
    again = restore(recipe(name), model.arrays, model.targets)
    again.check(TRACKS[0])
    fresh, truth, _ = planted(seed=1)
    truth = np.column_stack([truth, truth.mean(axis=1)])[:, :dimensions]
    found = again.predict(fresh)
    assert all(p.value.shape == (dimensions,) and p.curve.shape[1:] == (dimensions,) for p in found)
    r2 = 1 - np.square(np.stack([p.value for p in found]) - truth).mean(axis=0) / truth.var(axis=0)
    assert r2.min() > 0.3
    with pytest.raises(ModelError, match="another network"):
        restore(recipe(name), model.arrays, (*model.targets, 1, 1)).check(TRACKS[0])


PARTLY = np.where(np.stack([np.arange(60) % 6 < 4, np.arange(60) % 6 > 1, np.arange(60) > 29], axis=1), LABELS, np.nan)


@each_model
def test_a_catalog_of_mixed_labels_teaches_each_dimension_from_the_tracks_that_have_it(name):
    weights = label_weights(PARTLY, np.full((60, 3), 0.05))
    model = create(recipe(name)).fit(TRACKS, PARTLY, ARTISTS, weights=weights, seed=3)
    fresh, truth, _ = planted(seed=1)
    r2 = 1 - np.square(values(model, fresh) - truth).mean(axis=0) / truth.var(axis=0)
    assert r2.min() > 0.3
    assert np.isfinite(model.curve).all() or not len(model.curve)


@each_model
@pytest.mark.parametrize("settings", LOSSES, ids=lambda s: s.get("loss", "mse"))
def test_a_label_without_weight_is_never_seen(name, settings):
    """Whatever it is: the same bits, and those of a label that is not there."""
    if settings and not models.is_network(name):
        pytest.skip("one fit, without a loss to choose")
    known, rng = np.isfinite(PARTLY), np.random.default_rng(7)
    arrays = []
    for hidden in (LABELS, rng.uniform(0, 1, LABELS.shape), np.full(LABELS.shape, np.nan)):
        labels = np.where(known, LABELS, hidden)
        weights = np.where(known, 1.0, 0.0)
        arrays.append(create(recipe(name, epochs=2, **settings)).fit(TRACKS, labels, ARTISTS, weights=weights, seed=3))
    for other in arrays[1:]:
        assert all(np.array_equal(a, other.arrays[k]) for k, a in arrays[0].arrays.items())
        assert np.array_equal(arrays[0].curve, other.curve)
    without = create(recipe(name, epochs=2, **settings)).fit(TRACKS, PARTLY, ARTISTS, seed=3)
    assert all(np.array_equal(a, without.arrays[k]) for k, a in arrays[0].arrays.items())


@each_model
@pytest.mark.parametrize("rows", [[], [4], [3, 4, 5]], ids=["none", "one", "of one artist"])
def test_a_dimension_that_cannot_be_learnt_is_named(name, rows):
    if rows == [3, 4, 5] and name in models.BASELINES:
        rows = [4]  # they ask for no groups
    labels = LABELS.copy()
    labels[np.setdiff1d(np.arange(60), rows), 2] = np.nan
    with pytest.raises(InputError, match="tension cannot be learnt"):
        create(recipe(name, epochs=1)).fit(TRACKS, labels, ARTISTS, dimensions=("valence", "arousal", "tension"))


def test_weights_are_of_mean_one_over_the_labels_that_are_known():
    weights = label_weights(PARTLY, np.random.default_rng(0).uniform(0.02, 0.2, (60, 3)))
    known = np.isfinite(PARTLY)
    assert not weights[~known].any()
    for d in range(3):
        rows = np.flatnonzero(known[:, d])
        assert weights[rows, d].mean() == pytest.approx(1, abs=1e-6)
        alone = label_weights(LABELS[rows], np.random.default_rng(0).uniform(0.02, 0.2, (60, 3))[rows])
        assert np.array_equal(weights[rows, d], alone[:, d])
    assert np.array_equal(label_weights(PARTLY, None), known.astype(np.float32))


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
