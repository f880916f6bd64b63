"""musicnn: what two networks trained to tag music hear, 200 numbers each per 3 s, or the tags themselves.

Pons & Serra (2019), "musicnn: pre-trained convolutional neural networks for music audio tagging", ISMIR late-breaking
demo. The weights come with this package (ISC licence, ``musicnn_data/LICENSE.md``); the networks run without TensorFlow
(`musicnn_cpu`), on patches that `musicnn_frontend` cuts. `tags` names the numbers of ``output: tags``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from threadpoolctl import ThreadpoolController

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features import musicnn_frontend as frontend
from mer_ray.features import musicnn_weights as sources
from mer_ray.features.musicnn_cpu import Networks
from mer_ray.features.musicnn_network import N_PENULTIMATE, N_TAGS, TAGS

Network = Literal["msd", "mtt"]


class Params(BaseModel):
    """Settings under ``extract.musicnn``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    networks: list[Network] = Field(["msd", "mtt"], min_length=1)
    """Trained on the Million Song Dataset (`msd`), MagnaTagATune (`mtt`); a frame has the numbers of each, in this
    order."""
    every: int = Field(1, ge=1, le=100)
    """1 for every patch of 3 s, 2 for one in two, at about half the cost."""
    output: Literal["penultimate", "tags"] = "penultimate"
    """The layer before the tags, or the tags' likelihoods in 0..1."""
    weights: str = Field("auto", min_length=1)
    """`auto` (the packaged ones), or a file that `mer-ray weights musicnn` made."""

    @field_validator("networks")
    @classmethod
    def _once_each(cls, value: list[Network]) -> list[Network]:
        if len(set(value)) < len(value):
            raise ValueError("names a network twice")
        return value


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    """Settings → spec. Raises ConfigError or ModelError for weights that cannot be read."""
    return FeatureSpec(
        name="musicnn",
        version=1,
        sample_rate_hz=frontend.SAMPLE_RATE_HZ,
        hop_s=params.every * frontend.PATCH_HOP / frontend.SAMPLE_RATE_HZ,
        n_dims=len(params.networks) * (N_PENULTIMATE if params.output == "penultimate" else N_TAGS),
        params=params.model_dump(exclude={"weights"}),
        weights=sources.find(params.weights),
    )


def tags(spec: FeatureSpec) -> list[str]:
    """The names of a frame's numbers, as in ``msd:rock``. Empty unless ``output`` is ``tags``."""
    networks = spec.params["networks"] if spec.params["output"] == "tags" else []
    return [f"{network}:{tag}" for network in networks for tag in TAGS[network]]


class Musicnn(Extractor):
    """The loaded networks. Raises ModelError if the weights are missing, damaged or changed."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        arrays = sources.load(spec.weights or {})
        self._networks = Networks([arrays[network] for network in spec.params["networks"]])
        self._tags = spec.params["output"] == "tags"
        self._libraries = ThreadpoolController()

    def start(self) -> _Stream:
        """See `mer_ray.features.Extractor`."""
        return _Stream(self)

    def frames(self, patches: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Log-mel patches (187, 96) → their frames (F,) float32.

        On one thread: products of this size take more CPU time on two, up to nine times as much on busy cores.
        """
        with self._libraries.limit(limits=1, user_api="blas"):
            return [self._networks(patch)[self._tags].reshape(-1) for patch in patches]


load = Musicnn


class _Stream:
    """See `mer_ray.features.FrameStream`."""

    def __init__(self, extractor: Musicnn) -> None:
        self._extractor = extractor
        self._patches = frontend.Patches(extractor.spec.params["every"])
        self._frames: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        self._frames.extend(self._extractor.frames(self._patches.push(samples)))

    def finish(self) -> None:
        self._frames.extend(self._extractor.frames(self._patches.finish()))

    def frames(self) -> np.ndarray:
        return np.array(self._frames, np.float32).reshape(-1, self._extractor.spec.n_dims)
