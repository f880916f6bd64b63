"""Nested search: ranges, the inner split, Optuna's studies, and one that is interrupted."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import models
from mer_ray.config import SearchConfig
from mer_ray.errors import ConfigError, InputError, MerRayError, ServiceError
from mer_ray.io.tables import Workspace
from mer_ray.models.curves import Curve
from mer_ray.stages import tracking
from mer_ray.training import search
from mer_ray.training.checkpoint import Checkpoints
from mer_ray.training.data import Examples
from mer_ray.training.trial import Trial

STEPPED = sorted(name for name in models.NETWORKS if models.is_network(name))
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


def recipe_of(network: str = "lstm", **changes):
    from mer_ray.training.recipe import Recipe

    own = {k: v for k, v in models.defaults(network).items() if k in Recipe.__dataclass_fields__}
    return Recipe(**{"network": network, "hop_s": 0.5, "window": 8, "batch_size": 32, **own, **changes})


@pytest.mark.parametrize("network", STEPPED)
def test_ranges_are_of_recipes_and_hold_the_networks_own_settings(network):
    recipe = recipe_of(network)
    for name, choice in search.space(network).items():
        assert choice._contains(choice.to_internal_repr(getattr(recipe, name)))


def test_what_the_user_has_set_is_not_searched():
    assert "loss" not in search.space("cnn", ["loss", "folds"])
    with pytest.raises(MerRayError, match="nothing is left to search for cnn"):
        search.space("cnn", list(search.SPACE))


@settings(deadline=None)
@given(st.lists(st.floats(0, 5) | st.just(math.nan), min_size=1))
def test_a_score_never_falls_and_is_always_a_number(losses):
    curve = [[0.0, loss] for loss in losses]
    scores = [search.score(curve[: n + 1]) for n in range(len(curve))]
    assert scores == sorted(scores)
    assert all(math.isfinite(s) for s in scores)


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), min_size=12, max_size=60), st.integers(2, 5), st.integers(0, 2**31 - 1), st.data())
def test_a_search_sees_no_track_of_the_outer_fold_and_keeps_artists_whole(artists, folds, seed, data):
    from mer_ray.models.splits import grouped_folds

    groups = [f"artist {a}" for a in artists]
    labels = np.random.default_rng(seed).uniform(size=(len(groups), 3))
    if len(set(groups)) < folds + 1:
        return
    fold = grouped_folds(groups, folds, seed)
    number = data.draw(st.integers(0, folds - 1))
    if len({g for g, k in zip(groups, fold, strict=True) if k != number}) < 2:
        with pytest.raises(InputError, match="of one artist"):
            search.inner_split(groups, labels, fold, number, seed)
        return
    inside, held = search.inner_split(groups, labels, fold, number, seed)
    assert sorted(inside) == [i for i in range(len(groups)) if fold[i] != number]
    assert 0 < held.sum() < len(inside)
    outer = {g for g, k in zip(groups, fold, strict=True) if k == number}
    trained, judged = ({groups[i] for i in inside[mask]} for mask in (~held, held))
    assert trained.isdisjoint(judged)
    assert outer.isdisjoint(trained | judged)
    # The labels of the outer fold have no say in it.
    other = np.where((fold == number)[:, None], 1 - labels, labels)
    assert np.array_equal(held, search.inner_split(groups, other, fold, number, seed)[1])


# studies -----------------------------------------------------------------------------------------------------------

N, EPOCHS = 36, 9
RNG = np.random.default_rng(0)
LABELS = RNG.uniform(size=(N, 3))
TRACKS = [np.full((4, 2), i, np.float32) for i in range(N)]
GROUPS = [f"artist {i // 3}" for i in range(N)]
DATA = Examples(TRACKS, LABELS, GROUPS, np.full((N, 3), np.nan))
FOLD = np.arange(N) // 3 % 3
SLOT = search.Slot(0, 1, None)


class Pretended:
    """In the place of `Network`: the nearer the learning rate is to 4e-3, the better; one rate diverges."""

    def __init__(self, stops_at: int = -1, diverges: float = -1.0) -> None:
        self.calls, self.stops_at, self.diverges, self.seen = 0, stops_at, diverges, set()

    def __call__(self, recipe, on_epoch):
        self.recipe, self.on_epoch = recipe, on_epoch
        return self

    def fit(self, tracks, labels, groups, *, weights, seed, validation, dimensions, curves):
        self.calls += 1
        self.curves = curves
        self.seen |= {int(t[0, 0]) for t in tracks}
        if self.calls == self.stops_at:
            raise KeyboardInterrupt
        if self.recipe.learning_rate == self.diverges:
            raise InputError("the training diverged")
        for epoch in range(EPOCHS):
            self.on_epoch(epoch, 1.0, abs(math.log(self.recipe.learning_rate / 4e-3)) + 1 / (epoch + 1))


def chosen(folder, pretended, monkeypatch, trials=12, slot=SLOT, **config):
    monkeypatch.setattr(search, "Network", pretended)
    space = search.space("lstm", ["loss", "mixup"])
    of = SearchConfig(trials=trials, **{"grace_epochs": 1, **config})
    checkpoints = Checkpoints(Workspace(folder), "lstm-mfcc-0")
    return search.choose(slot, recipe_of(epochs=EPOCHS), space, of, 3, DATA, FOLD, checkpoints)


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
@pytest.mark.parametrize("method", ["random", "optuna"])
def test_a_study_that_is_interrupted_goes_on_to_the_same_choice(tmp_path, monkeypatch, method, scheduler):
    config = {"method": method, "scheduler": scheduler}
    whole = chosen(tmp_path / "whole", Pretended(), monkeypatch, **config)
    with pytest.raises(KeyboardInterrupt):
        chosen(tmp_path / "w", Pretended(stops_at=8), monkeypatch, **config)
    again = Pretended()
    assert chosen(tmp_path / "w", again, monkeypatch, **config) == whole
    assert again.calls == 12 - 7, "a trial was trained twice"
    assert chosen(tmp_path / "w", again, monkeypatch, **config) == whole
    assert again.calls == 12 - 7


def test_a_study_has_its_best_trial_and_what_came_of_the_others(tmp_path, monkeypatch):
    row = chosen(tmp_path, Pretended(), monkeypatch)
    assert (row["repeat"], row["fold"], row["target"]) == (0, 1, None)
    assert row["settings"].keys() == {"learning_rate", "weight_decay", "batch_size", "mask_share"}
    own = recipe_of()
    assert row["trials"][0]["settings"] == {k: getattr(own, k) for k in row["settings"]}
    assert any(t["stopped"] for t in row["trials"])
    assert all(t["epochs"] == EPOCHS or t["stopped"] for t in row["trials"])
    best = max((t for t in row["trials"] if not t["stopped"]), key=lambda t: t["score"])
    assert (row["settings"], row["score"]) == (best["settings"], best["score"])
    for trial in row["trials"]:
        for name, value in trial["settings"].items():
            choice = search.space("lstm")[name]
            assert choice._contains(choice.to_internal_repr(value))


def test_a_study_trains_on_no_track_of_the_outer_fold(tmp_path, monkeypatch):
    pretended = Pretended()
    chosen(tmp_path, pretended, monkeypatch, trials=1)
    assert pretended.seen == set(np.flatnonzero(SLOT.fold != FOLD).tolist())


def test_a_study_of_a_dimension_is_judged_on_the_tracks_that_have_it(tmp_path, monkeypatch):
    """Real networks: the scores do not depend on the other dimension, nor on tracks of the fold without a label."""
    config, checkpoints = SearchConfig(trials=1), [Checkpoints(Workspace(tmp_path / n), "x") for n in "ab"]
    recipe, labels = recipe_of(epochs=2), LABELS[:, :2].copy()
    labels[::3, 1] = np.nan
    rows = []
    for first, own in zip((labels[:, 0], 1 - labels[:, 0]), checkpoints, strict=True):
        data = Examples(TRACKS, np.column_stack([first, labels[:, 1]]), GROUPS, np.full((N, 2), np.nan))
        monkeypatch.setattr(search, "inner_split", lambda *_: (np.flatnonzero(FOLD != 1), np.arange(24) % 6 < 3))
        rows.append(search.choose(search.Slot(0, 1, 1), recipe, search.space("lstm"), config, 3, data, FOLD, own))
    assert math.isfinite(rows[0]["score"])
    assert rows[0]["score"] == rows[1]["score"] > search.WORST


@pytest.mark.parametrize("over_time", [False, True])
def test_a_study_is_of_labels_over_time_where_its_recipe_is(tmp_path, monkeypatch, over_time):
    monkeypatch.setattr(search, "Network", pretended := Pretended())
    curves = [Curve(np.arange(2.0), np.full((2, 3), i / N)) for i in range(N)]
    data = dataclasses.replace(DATA, curves=curves)
    recipe, own = recipe_of(epochs=EPOCHS, over_time=over_time), Checkpoints(Workspace(tmp_path), "x")
    search.choose(SLOT, recipe, search.space("lstm"), SearchConfig(trials=1), 3, data, FOLD, own)
    assert list(pretended.curves) == ([curves[i] for i in np.flatnonzero(SLOT.fold != FOLD)] if over_time else [])


def test_studies_of_other_folds_draw_other_settings(tmp_path, monkeypatch):
    rows = [chosen(tmp_path, Pretended(), monkeypatch, slot=search.Slot(0, k, t)) for k in (0, 1) for t in (0, None)]
    drawn = [row["trials"][1]["settings"]["learning_rate"] for row in rows]
    assert len(set(drawn)) == len(drawn)


def test_tpe_nears_the_optimum(tmp_path, monkeypatch):
    row = chosen(tmp_path, Pretended(), monkeypatch, trials=30, method="optuna", scheduler="none")
    scores = [t["score"] for t in row["trials"]]
    assert np.median(scores[-10:]) > np.median(scores[:10])


def test_a_trial_that_diverges_is_not_chosen_and_all_of_them_are_an_error(tmp_path, monkeypatch):
    pretended = Pretended(diverges=recipe_of().learning_rate)
    row = chosen(tmp_path, pretended, monkeypatch, trials=3, scheduler="none")
    assert row["trials"][0]["score"] == search.WORST
    assert row["settings"] != row["trials"][0]["settings"]
    with pytest.raises(MerRayError, match="the search for fold 0 found nothing"):
        chosen(tmp_path, pretended, monkeypatch, trials=1, slot=search.Slot(0, 0, None))


def test_each_part_of_a_cross_validation_gets_the_choice_of_its_fold():
    from mer_ray import features
    from mer_ray.features.mfcc import Params

    settings = {**models.defaults("lstm"), "folds": 2, "repeats": 2, "members": 3, "heads": "separate", "seed": 0}
    trial = Trial("fold", "lstm-mfcc", "lstm", features.resolve("mfcc", Params()), "", settings)
    plan = trial.full_plan
    slots = list(dict.fromkeys((p.repeat, p.fold, p.target) for p in plan))
    choices = [
        {"repeat": r, "fold": k, "target": t, "settings": {"learning_rate": 1e-3 * (n + 1)}}
        for n, (r, k, t) in enumerate(slots)
    ]
    rates = {(p.repeat, p.fold, p.target): trial.recipe(p, choices).learning_rate for p in plan}
    assert len(plan) == 3 * len(slots)
    assert sorted(rates.values()) == pytest.approx([1e-3 * (n + 1) for n in range(12)])
    assert dataclasses.replace(trial.recipe(plan[0], choices), learning_rate=2e-3) == trial.recipe(plan[0])


# where trials are logged -------------------------------------------------------------------------------------------


def test_credentials_leave_the_address_of_mlflow(tmp_path):
    uri, secrets = tracking.tracking_uri("https://me:s3%40cret@mlflow.example:8080/track")
    assert uri == "https://mlflow.example:8080/track"
    assert secrets == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3@cret"}
    assert tracking.tracking_uri(str(tmp_path / "runs"))[0] == f"sqlite:///{tmp_path / 'runs'}/mlflow.db"
    assert tracking.callbacks(None, "x") == []


@patch.dict(os.environ, {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
def test_an_mlflow_that_is_not_there_is_one_clear_error_without_its_password():
    expected = (ServiceError, "MLflow at http://127.0.0.1:9/") if HAS_MLFLOW else (ConfigError, r"mer-ray\[mlflow\]")
    with pytest.raises(expected[0], match=expected[1]) as caught:
        tracking.callbacks("http://me:secret@127.0.0.1:9/", "x")
    assert "secret" not in str(caught.value)
