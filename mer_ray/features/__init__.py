"""Features: audio in, frames out. One file per feature; this one holds what they have in common.

A feature has two lives. In the driver, ``resolve`` turns settings into a `FeatureSpec`: plain data that says exactly
what will be computed, cheap to make, and stored beside everything made with it. In a worker, `load` turns the spec
into an `Extractor`: the thing with weights and tables that does the work.

To add a feature: write ``features/NAME.py`` with a ``Params`` model, ``resolve`` and ``load``; add its name to
`MODULES` and its ``Params`` to ``ExtractConfig`` in ``mer_ray/config.py``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from mer_ray.identity import digest

MODULES = {"mfcc": "mer_ray.features.mfcc", "vggish": "mer_ray.features.vggish"}


@dataclass(frozen=True)
class FeatureSpec:
    """What a feature computes, exactly. JSON-able.

    name: its key in `MODULES`. version: raised when the same parameters give other numbers than before.
    sample_rate_hz: the rate of the mono samples it wants. hop_s: seconds between the starts of two frames.
    n_dims: F, the width of a frame. params: JSON values. weights: where they come from (``kind``, ``location``,
    ``sha256``), None for a feature without weights. note: what a reader of its results has to know, or "". runtime: how
    the work is done (batch sizes, time limits), which changes no number.
    """

    name: str
    version: int
    sample_rate_hz: int
    hop_s: float
    n_dims: int
    params: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    note: str = ""
    runtime: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ whenever the numbers would; where the weights lie does not matter."""
        return digest(json.dumps(self.identity, sort_keys=True).encode())[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is of."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("weights", "note", "runtime")}
        return {**kept, "weights": {k: v for k, v in (self.weights or {}).items() if k != "location"}}

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the fingerprint."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_json`."""
        return cls(**{k: v for k, v in value.items() if k != "fingerprint"})


class Extractor(Protocol):
    """A loaded feature."""

    spec: FeatureSpec

    def __call__(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of each piece of audio.

        batch: mono float32 samples of shapes (n_i,), in [-1, 1], at ``spec.sample_rate_hz``.
        Returns float32 matrices of shapes (n_frames_i, ``spec.n_dims``); n_frames_i is 0 where the audio is too short.
        """
        ...


def resolve(name: str, params: BaseModel, demo: bool = False) -> FeatureSpec:
    """Settings → spec, in the driver. ``demo`` permits seeded random weights where there are no real ones.

    Raises ConfigError or ServiceError saying how to get the weights.
    """
    spec: FeatureSpec = importlib.import_module(MODULES[name]).resolve(params, demo)
    return spec


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor, in a worker. Raises ModelError if the weights are gone or are others."""
    extractor: Extractor = importlib.import_module(MODULES[spec.name]).load(spec)
    return extractor
