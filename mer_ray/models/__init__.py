"""Networks: one file each, a complete model in a screenful.

A network reads frames ``x`` (B, T, F), standardised, with ``mask`` (B, T), 1 for a real frame and 0 for padding, and
answers (B, 3): valence, arousal and dominance, standardised. Dropout is on where ``rngs`` is given. Every network has
to give the same answer whatever stands in the padding.

To add one: write ``models/NAME.py`` with ``build(n_dims, hop_s, rngs, outputs)``, ``DEFAULTS`` and ``USES``, and add it
to `NETWORKS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flax import nnx

NETWORKS = {
    "cnn": "mer_ray.models.cnn",
    "lstm": "mer_ray.models.lstm",
    "kernel": "mer_ray.models.kernel",
}
N_TARGETS = 3
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
"""What a network that says nothing else is trained with."""
SPLITS = ("folds", "repeats", "seed")
"""Settings of ``train`` that come into whatever is trained."""
STEPPED = (*DEFAULTS, "members", "heads", "weigh_labels", "search", "workers")
"""Those that a network uses which is trained step by step, besides `SPLITS`."""


def build(network: str, n_dims: int, hop_s: float, seed: int, outputs: int = N_TARGETS) -> nnx.Module:
    """A network with fresh weights.

    n_dims: F, the width of a frame. hop_s: seconds between frames, from which a network takes its strides. outputs:
    width of the answer, 3 or what the loss needs (`training.losses.outputs`).
    """
    from flax import nnx

    module: nnx.Module = importlib.import_module(NETWORKS[network]).build(n_dims, hop_s, nnx.Rngs(seed), outputs)
    return module


def is_solved(network: str) -> bool:
    """Whether the network's weights are a closed form (`models.solve`), not the end of many small steps."""
    return bool(getattr(importlib.import_module(NETWORKS[network]), "SOLVED", False))


def uses(network: str) -> frozenset[str]:
    """The settings of ``train`` that come into the network: `SPLITS`, and those that its module lists in ``USES``."""
    return frozenset([*SPLITS, *importlib.import_module(NETWORKS[network]).USES])


def fingerprint(network: str) -> str:
    """8 hexadecimal digits of the network's own code: what was trained by another must not be continued."""
    import inspect

    from mer_ray.io.identity import digest

    return digest(inspect.getsource(importlib.import_module(NETWORKS[network])).encode())[:8]


def defaults(network: str) -> dict[str, Any]:
    """The network's own settings, for those that train.* leaves open: window_s, epochs, learning_rate, ..."""
    return {**DEFAULTS, **importlib.import_module(NETWORKS[network]).DEFAULTS}
