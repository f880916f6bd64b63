"""Nested search: ranges, draws, the inner split, the winner, and a real one through Ray Tune."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray import models
from mer_ray.config import TrainConfig
from mer_ray.errors import ConfigError, InputError, MerRayError, ServiceError
from mer_ray.features import FeatureSpec
from mer_ray.io.tables import Workspace
from mer_ray.stages import tracking
from mer_ray.training import search

STEPPED = sorted(name for name in models.NETWORKS if models.is_network(name))
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None


def recipe_of(network: str = "lstm", **changes):
    from mer_ray.training.recipe import Recipe

    own = {k: v for k, v in models.defaults(network).items() if k != "window_s"}
    return Recipe(**{"network": network, "hop_s": 0.5, "window": 8, "batch_size": 32, **own, **changes})


@settings(deadline=None)
@given(st.sampled_from(STEPPED), st.integers(1, 10_000), st.integers(0, 2**31 - 1))
def test_draws_lie_in_their_ranges_and_follow_from_number_and_seed(network, number, seed):
    space = search.space(network)
    drawn = search.sample(space, number, seed)
    assert drawn.keys() == space.keys()
    assert all(drawn[name] in space[name] for name in space)
    assert drawn == search.sample(space, number, seed)
    recipe = recipe_of(network)
    assert search.RandomSampler(space, recipe, seed).draw(0) == {name: getattr(recipe, name) for name in space}


@pytest.mark.parametrize("network", STEPPED)
def test_ranges_are_of_recipes_and_hold_the_networks_own_settings(network):
    recipe = recipe_of(network)
    assert all(getattr(recipe, name) in choice for name, choice in search.space(network).items())


def test_what_the_user_has_set_is_not_searched():
    assert "loss" not in search.space("cnn", ["loss", "folds"])
    with pytest.raises(MerRayError, match="nothing is left to search for cnn"):
        search.space("cnn", list(search.SPACE))


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(-5, 1) | st.just(math.nan) | st.just(search.WORST), min_size=1))
def test_the_best_trial_wins_and_of_equals_the_earlier_one(scores):
    usable = [s for s in scores if s is not None and math.isfinite(s) and s > search.WORST]
    if usable:
        best = search.winner(scores)
        assert scores[best] == max(usable)
        assert scores[best] not in scores[:best]
    else:
        with pytest.raises(InputError, match="none of the"):
            search.winner(scores)


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


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(search.SAMPLERS)))
def test_draws_do_not_depend_on_the_order_in_which_trials_end(random, method):
    def draws(pick):
        trials = search.Trials(search.SAMPLERS[method](search.space("lstm"), recipe_of(), 3), 14)
        running = []
        while not trials.complete:
            while (drawn := trials.draw()) is not None:
                running.append(drawn)
            number, own = running.pop(pick(len(running)))
            score = None if number == 4 else -abs(math.log(own["learning_rate"] / 1e-3))
            trials.end(number, score, 1, False)
        return [t.settings for t in trials.history]

    assert draws(lambda n: random.randrange(n)) == draws(lambda n: 0)


def test_tpe_stays_in_the_ranges_and_nears_the_optimum():
    space = search.space("lstm")
    trials = search.Trials(search.TpeSampler(space, recipe_of(), 0), 30)
    while (drawn := trials.draw()) is not None:
        number, own = drawn
        assert all(own[name] in space[name] for name in own)
        trials.end(number, -abs(math.log(own["learning_rate"] / 4e-3)), 1, False)
    late = [t.score for t in trials.history[-10:]]
    early = [t.score for t in trials.history[:10]]
    assert trials.history[0].settings["learning_rate"] == recipe_of().learning_rate
    assert np.median(late) > np.median(early)


def test_each_part_of_a_cross_validation_gets_the_choice_of_its_fold():
    from mer_ray.training.crossval import parts

    places = search.places(2, 2, separate=True)
    choices = [{**dataclasses.asdict(p), "settings": {"learning_rate": 1e-3 * (n + 1)}} for n, p in enumerate(places)]
    of = search.recipes(recipe_of(), choices)
    plan = parts("lstm", 2, 2, 3, True, 0)
    rates = {(p.repeat, p.fold, p.target): of(p).learning_rate for p in plan}
    assert len(plan) == 3 * len(places)
    assert sorted(rates.values()) == pytest.approx([1e-3 * (n + 1) for n in range(12)])
    assert search.recipes(recipe_of(), [])(plan[0]) == recipe_of()


def test_credentials_leave_the_address_of_mlflow(tmp_path):
    uri, secrets = tracking.tracking_uri("https://me:s3%40cret@mlflow.example:8080/track")
    assert uri == "https://mlflow.example:8080/track"
    assert secrets == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3@cret"}
    assert tracking.redacted("postgresql://me:secret@db/x?password=secret") == "postgresql://db/x"
    assert tracking.tracking_uri(str(tmp_path / "runs"))[0] == f"sqlite:///{tmp_path / 'runs'}/mlflow.db"
    assert tracking.callbacks(None, "x") == []


@patch.dict(os.environ, {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
def test_an_mlflow_that_is_not_there_is_one_clear_error_without_its_password():
    expected = (ServiceError, "MLflow at http://127.0.0.1:9/") if HAS_MLFLOW else (ConfigError, r"mer-ray\[mlflow\]")
    with pytest.raises(expected[0], match=expected[1]) as caught:
        tracking.callbacks("http://me:secret@127.0.0.1:9/", "x")
    assert "secret" not in str(caught.value)


# a real one ------------------------------------------------------------------------------------------------------

N, DIMS = 36, 4


def dataset():
    """Tracks whose frames tell their labels, three by each artist."""
    from mer_ray.training.data import Dataset

    rng = np.random.default_rng(0)
    labels = rng.uniform(size=(N, 3))
    frames = [(rng.normal(size=(12, DIMS)) + 4 * y[[0, 1, 2, 0]]).astype(np.float32) for y in labels]
    ids, artists = [f"{i:016x}" for i in range(N)], [f"artist {i // 3}" for i in range(N)]
    unknown = np.full((N, 3), np.nan)
    return Dataset(ids, artists, ids, [""] * N, [""] * N, artists, labels, unknown, ["demo"], frames)


class Interrupted(Exception):
    """An error, not Ctrl-C: with that, Tune leaves its actors to the end of the process."""


def interruption(after: int):
    """A Tune callback that ends the experiment when so many trials have ended."""
    from ray import tune

    class Interruption(tune.Callback):
        def on_step_begin(self, iteration, trials, **_):
            if sum(t.status == "TERMINATED" for t in trials) >= after:
                raise Interrupted

    return Interruption()


@patch.dict(os.environ)
def test_a_search_that_is_interrupted_goes_on_to_the_same_choices(long_tests, ray_session, tmp_path, monkeypatch):
    from mer_ray.stages import session
    from mer_ray.stages import tuning as stage
    from mer_ray.training.crossval import partitions

    data = dataset()
    fold = partitions(data.groups, data.labels, 2, 1, 0)
    feature = FeatureSpec(name="mfcc", n_dims=DIMS, hop_s=0.5, sample_rate_hz=22_050, params={}, version=1)
    recipe = recipe_of(epochs=4, patience=4, batch_size=16, mixup=0.0)
    # One at a time, so that ASHA is exact as well; and only what needs no second compilation is open.
    train = TrainConfig(
        folds=2,
        cpus_per_trial=session.n_cpus(),
        search={"trials": 2, "grace_epochs": 1},
        **{k: getattr(recipe, k) for k in search.SPACE if k != "learning_rate"},
    )

    def choose(place, **changes):
        return stage.choose(
            Workspace(place), "lstm-mfcc", feature, recipe, train.model_copy(update=changes), data, fold
        )

    whole = choose(tmp_path / "whole", mlflow=str(tmp_path / "ml") if HAS_MLFLOW else None)
    assert [(c["repeat"], c["fold"], c["target"]) for c in whole] == [(0, 0, None), (0, 1, None)]
    for row in whole:
        assert row["settings"].keys() == {"learning_rate"}
        assert row["score"] == max(t["score"] for t in row["trials"])
        assert row["trials"][0]["settings"] == {"learning_rate": recipe.learning_rate}
        assert all(t["epochs"] == 4 or t["stopped"] for t in row["trials"])
    assert json.loads((tmp_path / "whole" / "search" / "lstm-mfcc.json").read_text())["choices"] == whole
    assert not (tmp_path / "whole" / "search" / "lstm-mfcc").exists()

    folders = sorted((tmp_path / "whole" / "tune").glob("search-*/repeat*"))
    assert len(folders) == 4
    for folder in folders:
        rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
        assert [r["epoch"] for r in rows] == list(range(len(rows)))
        assert all(r["score"] == 1 - min(x["valid_loss"] for x in rows[: r["epoch"] + 1]) for r in rows)
        assert (folder / "progress.csv").read_text().count("\n") == len(rows) + 1
        events = next(folder.glob("events.out.tfevents.*")).read_bytes()
        for figure in (b"train_loss", b"valid_loss", b"score"):
            assert events.count(b"ray/tune/" + figure) >= len(rows)
    if HAS_MLFLOW:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path}/ml/mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name = 'mer-ray search lstm-mfcc'")
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 4
        logged = client.get_metric_history(runs[0].info.run_id, "valid_loss")
        assert 1 <= len(logged) <= 4
        assert {frozenset(r.data.params) for r in runs} == {frozenset({"repeat", "fold", "learning_rate"})}
        written = [f.read_bytes() for f in (tmp_path / "whole" / "tune").rglob("*") if f.is_file()]
        assert not any(str(tmp_path / "ml").encode() in content for content in written)

    place = tmp_path / "interrupted"
    with monkeypatch.context() as patched:
        patched.setattr(tracking, "callbacks", lambda uri, experiment: [interruption(3)])
        with pytest.raises(Interrupted):
            choose(place)
    assert [c["fold"] for c in json.loads((place / "search" / "lstm-mfcc.json").read_text())["choices"]] == [0]
    assert choose(place) == whole
    continued = sorted((place / "tune").glob("search-*"))[-1]
    assert {f.name[:13] for f in continued.glob("repeat*")} == {"repeat0-fold1"}

    # What is there is not searched again; other data are another search.
    experiments = len(list((place / "tune").iterdir()))
    assert choose(place) == whole
    assert len(list((place / "tune").iterdir())) == experiments
