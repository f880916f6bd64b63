"""Networks: one file each, a complete model in a screenful.

A network reads frames ``x`` (B, T, F), standardised, with ``mask`` (B, T), 1 for a real frame and 0 for padding, and
answers (B, 3): valence, arousal and dominance, standardised. Dropout is on where ``rngs`` is given. Every network has
to give the same answer whatever stands in the padding.

To add one: write ``models/NAME.py`` with ``build(n_dims, hop_s, rngs)`` and add it to `NETWORKS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flax import nnx

NETWORKS = {"cnn": "mer_ray.models.cnn", "lstm": "mer_ray.models.lstm"}
N_TARGETS = 3


def build(network: str, n_dims: int, hop_s: float, seed: int) -> nnx.Module:
    """A network with fresh weights.

    n_dims: F, the width of a frame. hop_s: seconds between frames, from which a network takes its strides.
    """
    from flax import nnx

    module: nnx.Module = importlib.import_module(NETWORKS[network]).build(n_dims, hop_s, nnx.Rngs(seed))
    return module
