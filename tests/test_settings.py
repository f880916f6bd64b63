"""Settings that a chosen network leaves aside are said, and come into nothing."""

from __future__ import annotations

import pytest

from mer_ray import config, models
from mer_ray.config import TrainConfig
from mer_ray.training.settings import unused, used


def train(*assignments: str) -> TrainConfig:
    return config.load(None, [f"train.{a}" for a in assignments]).train


def test_nobody_is_told_of_defaults():
    assert unused(TrainConfig()) == []
    assert unused(train("networks=kernel", "folds=3", "seed=1", "repeats=2", "window_s=20", "weigh_labels=false")) == []
    assert unused(train("networks=kernel", "loss=null")) == []
    assert unused(train("networks=cnn,lstm", "loss=nll", "members=3", "search.trials=4", "heads=separate")) == []


KERNEL_IGNORES = {
    "loss": "nll",
    "learning_rate": 0.1,
    "members": 2,
    "heads": "separate",
    "mixup": 0.2,
    "mask_share": 0.1,
    "epochs": 9,
    "patience": 3,
    "batch_size": 16,
    "weight_decay": 0,
    "ema": 0.9,
    "workers": 2,
    "search.trials": 3,
}


@pytest.mark.parametrize("name", KERNEL_IGNORES)
def test_what_kernel_leaves_aside_is_said(name):
    given = f"{name}={KERNEL_IGNORES[name]}"
    assert unused(train("networks=kernel", given)) == [f"train.{name} is not used by kernel"]
    assert unused(train(given)) == [f"train.{name} is not used by kernel"], "others use it, kernel still does not"


def test_it_is_said_once_for_all_of_them():
    message = unused(train("networks=cnn,kernel", "loss=nll", "epochs=9", "search.trials=3", "search.method=optuna"))
    assert message == ["train.loss, train.epochs, train.search.trials and train.search.method are not used by kernel"]


def test_a_search_that_is_not_made_needs_no_method():
    assert unused(train("search.method=optuna")) == ["train.search.method is not used: train.search.trials is 0"]
    assert unused(train("networks=kernel", "search.trials=0")) == []


def test_a_trial_follows_from_the_settings_that_its_network_uses():
    one, other = train("loss=nll", "members=5", "mixup=0.3"), train("search.trials=4")
    assert used(one, "kernel") == used(other, "kernel") == used(TrainConfig(), "kernel")
    assert used(one, None) == used(other, None) == {"folds": 5, "repeats": 1, "seed": 0}
    assert used(one, "cnn")["loss"] == "nll"
    assert used(one, "lstm")["epochs"] == models.defaults("lstm")["epochs"]
    assert used(train("window_s=7"), "kernel")["window_s"] == 7
