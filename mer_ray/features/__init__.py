"""Features: audio in, frames out. One file per feature; this one has what they share.

In the driver, ``resolve`` turns settings into a `FeatureSpec`: plain data that defines the feature exactly, cheap to
make, and stored beside everything made with it. In a worker, `load` turns the spec into an `Extractor`, which has the
weights and tables. It starts a `FrameStream` for each piece of audio, which takes samples block by block, so that ten
hours need no more memory than three minutes.

To add a feature: write ``features/NAME.py`` with a ``Params`` model, ``resolve`` and ``load``, and add its name to
`MODULES`. Its settings are then ``extract.NAME.*``, and ``tests/test_extractors.py`` tests it.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from mer_ray.io.identity import digest

MODULES = {
    "mfcc": "mer_ray.features.mfcc",
    "logmel": "mer_ray.features.logmel",
    "chroma": "mer_ray.features.chroma",
    "spectral": "mer_ray.features.spectral",
    "rhythm": "mer_ray.features.rhythm",
    "tonal": "mer_ray.features.tonal",
    "vggish": "mer_ray.features.vggish",
    "musicnn": "mer_ray.features.musicnn",
}
"""Built-in features."""

FAMILIES = {"hub": "mer_ray.features.hub", "precomputed": "mer_ray.features.precomputed"}
"""Modules of features that the user names: ``extract.hub.NAME`` for example."""

JOINED = "joined"
"""The family of several features that a model reads together: `mer_ray.features.joined`."""

OLDER_NAMES = {"precomputed": "brought"}
"""What a family was called before, in settings and in the specs of tables and models; both are still read."""


@dataclass(frozen=True)
class FeatureSpec:
    """The exact definition of a feature. JSON-able.

    Attributes:
        name: A key of `MODULES`, or the user's name for a feature of a family.
        version: Increased when the same parameters give other numbers than before.
        sample_rate_hz: The rate of its mono samples; 0 for precomputed frames.
        hop_s: Seconds between the starts of two frames.
        n_dims: F, the width of a frame.
        params: JSON values.
        weights: Their source (``kind``, ``location``, ``sha256``); None for a feature without weights.
        note: A remark for readers of its results, or "".
        runtime: Settings that change no number (batch sizes, time limits).
        family: A key of `FAMILIES`, `JOINED`, or "".
        excerpt: The part of each track that is used (``audio.excerpt.Excerpt.to_json``); None for all of it.
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
    family: str = ""
    excerpt: dict[str, Any] | None = None

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ whenever the numbers would, whatever the location of the weights."""
        return digest(json.dumps(self.identity, sort_keys=True).encode())[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that the fingerprint is made from."""
        rest = {k: v for k, v in asdict(self).items() if k not in ("weights", "note", "runtime")}
        rest["family"] = OLDER_NAMES.get(self.family, self.family)
        if self.family == JOINED:
            rest["params"] = [FeatureSpec.from_json(part).fingerprint for part in self.params["parts"]]
        return {**rest, "weights": {k: v for k, v in (self.weights or {}).items() if k != "location"}}

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the fingerprint."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_json`."""
        renamed = {older: name for name, older in OLDER_NAMES.items()}
        family = renamed.get(value.get("family", ""), value.get("family", ""))
        return cls(**{**{k: v for k, v in value.items() if k != "fingerprint"}, "family": family})


class FrameStream(Protocol):
    """Turns one piece of audio into frames: `push` any number of times, `finish` once, then `frames`.

    Samples may be buffered to be processed in one batch with other streams of the same extractor: finish all of them
    before the first call of `frames`.
    """

    def push(self, samples: np.ndarray) -> None:
        """The next samples: mono float32 of shape (n,), in [-1, 1], at the extractor's rate; n may be 0.

        The frames must not depend on how the audio was cut into blocks. The caller may overwrite the array afterwards.
        """
        ...

    def finish(self) -> None:
        """End of the samples."""
        ...

    def frames(self) -> np.ndarray:
        """(n_frames, F) float32; n_frames is 0 where the audio is too short."""
        ...


class Extractor(ABC):
    """A loaded feature."""

    spec: FeatureSpec

    @abstractmethod
    def start(self) -> FrameStream:
        """A stream for the next piece of audio. Several may be open at the same time."""

    def __call__(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Frames of pieces of audio in memory.

        batch: mono float32 samples of shapes (n_i,), in [-1, 1], at ``spec.sample_rate_hz``.
        Returns float32 matrices of shapes (n_frames_i, ``spec.n_dims``); n_frames_i is 0 where the audio is too short.
        """
        streams = []
        for samples in batch:
            stream = self.start()
            stream.push(samples)
            stream.finish()
            streams.append(stream)
        return [stream.frames() for stream in streams]


def params_model(name: str) -> type[BaseModel]:
    """The settings of a feature, or of each feature of a family."""
    model: type[BaseModel] = importlib.import_module({**MODULES, **FAMILIES}[name]).Params
    return model


def resolve(name: str, params: BaseModel, demo: bool = False, family: str = "") -> FeatureSpec:
    """Settings → spec, in the driver. ``demo`` permits seeded random weights if there are no real ones.

    Raises ConfigError or ServiceError that explains how to get the weights.
    """
    spec: FeatureSpec
    if family:
        spec = importlib.import_module(FAMILIES[family]).resolve(name, params)
    else:
        spec = importlib.import_module(MODULES[name]).resolve(params, demo)
    return spec


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor, in a worker. Raises ModelError if the weights are missing or have changed."""
    module = FAMILIES[spec.family] if spec.family else MODULES[spec.name]
    extractor: Extractor = importlib.import_module(module).load(spec)
    return extractor
