"""Models: a file each, with one interface, ``fit(tracks, labels, groups)`` and ``predict(tracks)``.

A closed-form model is a `mer_ray.models.regressor.Regressor`; its module names the class in ``REGRESSOR``. A network is
an ``nnx.Module`` that its module's ``build(n_dims, hop_s, rngs, outputs)`` makes; `mer_ray.training.network` trains
them all with one loop. It reads standardised frames ``x`` (B, T, F) with ``mask`` (B, T), 1 for a real frame and 0 for
padding, and returns (B, outputs), the first D being the dimensions that it is trained on (such as valence and arousal),
standardised. Dropout is on where ``rngs`` is given. Padding must not change the result.

Either module may have ``DEFAULTS``, its own training settings, ``CURVE_DEFAULTS``, those for labels over time, and
``USES``, the settings of ``train`` that affect it.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

from mer_ray.io.identity import digest

NETWORKS = {
    "cnn": "mer_ray.models.cnn",
    "lstm": "mer_ray.models.lstm",
    "kernel": "mer_ray.models.kernel",
}
"""The names that ``train.networks`` accepts."""
BASELINES = {
    "ridge": "mer_ray.models.ridge",
    "svr": "mer_ray.models.svr",
}
"""Models with which every other model is compared, on the same folds."""
DEFAULTS: dict[str, Any] = {
    "window_s": 5.0,
    "epochs": 40,
    "patience": 8,
    "batch_size": 32,
    "loss": "mse",
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "mask_share": 0.0,
    "mixup": 0.0,
    "ema": 0.98,
}
"""Training settings of a model without its own."""
SPLITS = ("folds", "repeats", "seed")
"""Settings of ``train`` that affect every model."""
CLOSED_FORM = ("window_s", "weigh_labels", "targets")
"""Settings besides `SPLITS` that affect a closed-form model."""
STEPPED = (*DEFAULTS, "members", "heads", "weigh_labels", "targets", "search", "workers")
"""Settings besides `SPLITS` that affect a network, which is trained by gradient steps."""


def module(name: str) -> ModuleType:
    """The module of a registered model."""
    return importlib.import_module((NETWORKS | BASELINES)[name])


def is_network(name: str) -> bool:
    """Whether the shared training loop fits the model."""
    return hasattr(module(name), "build")


def uses(name: str) -> frozenset[str]:
    """The settings of ``train`` that affect the model."""
    own = STEPPED if is_network(name) else CLOSED_FORM
    return frozenset([*SPLITS, *getattr(module(name), "USES", own)])


def defaults(name: str, targets: str = "track") -> dict[str, Any]:
    """The model's own values of the settings that ``train`` leaves open: window_s, epochs, learning_rate, ...

    targets: of ``train``; ``curve`` for labels over time.
    """
    own = getattr(module(name), "DEFAULTS", {})
    return {**DEFAULTS, **own, **(getattr(module(name), "CURVE_DEFAULTS", {}) if targets == "curve" else {})}


def fingerprint(name: str) -> str:
    """8 hexadecimal digits: a hash of the module's code, so that checkpoints of other code are not resumed."""
    return digest(inspect.getsource(module(name)).encode())[:8]
