"""A trained model as a folder: ``model.json``, ``weights.safetensors``, ``predictions.parquet``, ``README.md``.

``model.json`` is written last: a folder without it is not a model. Nothing in it is code, and nothing is a pickle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray import config_checks
from mer_ray.errors import ModelError, WorkspaceError
from mer_ray.evaluation import protocol
from mer_ray.features import FAMILIES, FeatureSpec
from mer_ray.features import MODULES as FEATURES
from mer_ray.features.joined import part_hops, parts
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.models import NETWORKS
from mer_ray.models.regressor import Regressor
from mer_ray.models.statistics import PassageStatistics
from mer_ray.scoring.intervals import Intervals
from mer_ray.training.fit import restore
from mer_ray.training.recipe import Recipe
from mer_ray.training.reference import Reference

FORMAT = 4
AGAIN = "train it again, or copy the whole folder"
PACKAGED = ("light", "default")
"""The models that come with the package, by the names that stand for their folders."""
DEFAULT = "default"
"""The one that is used where none is named."""


@dataclass(frozen=True)
class Model:
    """An ensemble of members, one or more per fold; or one closed-form model that was fitted to all tracks.

    Attributes:
        feature: Its input; frames of another fingerprint are refused.
        window: Frames per window (T).
        intervals: Its 90 % prediction intervals.
        reference: The distribution of its training tracks, for novelty.
        metrics: Per dimension, out of fold, with their 95 % intervals.
        details: Settings and data.
        dimensions: What it predicts, in the order of arrays.
    """

    name: str
    network: str
    feature: FeatureSpec
    window: int
    members: list[Regressor]
    intervals: Intervals
    reference: Reference
    metrics: dict[str, dict[str, Any]]
    details: dict[str, Any] = field(default_factory=dict)
    dimensions: tuple[str, ...] = DIMENSIONS

    @property
    def id(self) -> str:
        """Its name and the first digits of its weights' hash, as in the column ``model`` of scores."""
        return f"{self.name}:{self.details.get('weights_sha256', '')[:12]}"

    @property
    def mean_r2(self) -> float:
        """Mean R² over the dimensions, by which a workspace's best model is chosen."""
        return float(np.mean([m["r2"] for m in self.metrics.values()]))


def best(workspace: Workspace) -> str:
    """The folder of the workspace's model with the highest mean R² over the dimensions.

    Models of a given split, whose R² is of other tracks, only if there are no other ones. Raises WorkspaceError.
    """
    described = {name: describe(workspace, "runs", name) for name in workspace.names("runs")}
    candidates = [(*rank(value), name) for name, value in described.items() if value]
    if not candidates:
        raise WorkspaceError(
            f"workspace {workspace.uri} has no trained model",
            "run `mer-ray train` on it first, or give a model folder with --model",
        )
    return workspace.at("runs", max(candidates)[-1])


def rank(described: dict[str, Any]) -> tuple[int, float]:
    """By which a workspace's models are ordered, the best last. described: a model's ``model.json``."""
    r2 = float(np.mean([m["r2"] for m in described["metrics"].values()]))
    used = list(protocol.TITLES).index(protocol.of(described["details"].get("settings", {})))
    return -used, r2 if math.isfinite(r2) else -math.inf


def located(name: str) -> str:
    """The folder of a packaged model, which is another one on each machine; of anything else, the name itself."""
    return str(Path(__file__).parents[1] / "packaged_models" / name) if name in PACKAGED else name


def save(model: Model, workspace: Workspace, *folder: str) -> None:
    """Write the folder's weights and then its ``model.json``."""
    from safetensors.numpy import save as to_bytes

    tensors = {f"member{i}.{k}": v for i, member in enumerate(model.members) for k, v in member.arrays.items()}
    tensors |= _of_reference(model.reference)
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    weights = to_bytes(tensors)
    workspace.write_bytes(weights, *folder, "weights.safetensors")
    described = {
        "format": FORMAT,
        "name": model.name,
        "network": model.network,
        "feature": model.feature.to_json(),
        "window": model.window,
        "dimensions": list(model.dimensions),
        "members": [list(member.targets) for member in model.members],
        "intervals": model.intervals.to_json(),
        "metrics": model.metrics,
        "details": model.details,
        "weights_sha256": digest(weights),
    }
    workspace.write_json(described, *folder, "model.json")


def describe(workspace: Workspace, *folder: str) -> dict[str, Any] | None:
    """``model.json``, or None where there is no finished model."""
    try:
        value = workspace.read_json(*folder, "model.json")
    except WorkspaceError as error:
        raise ModelError(f"model {workspace.path(*folder)} is damaged ({error.message})", AGAIN) from error
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ModelError(
            f"{workspace.path(*folder)} is not a model that this version reads", "train it again, or remove its folder"
        )
    return {"dimensions": list(DIMENSIONS), **value}  # those of earlier versions name none


def load(uri: str) -> Model:
    """Read a model folder, or a packaged model by its name. Raises ModelError naming what is wrong with which."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    folder = Workspace(located(uri))
    value = describe(folder)
    if value is None:
        raise ModelError(
            f"{uri} is not a model folder: it has no model.json",
            f"give a folder that `mer-ray train` made, runs/NAME, or a packaged model, {' or '.join(PACKAGED)}",
        )
    try:
        data = folder.read_bytes("weights.safetensors")
        if digest(data) != value["weights_sha256"]:
            raise ModelError(f"{uri}/weights.safetensors does not belong to its model.json", "train the model again")
        tensors = from_bytes(data)
        feature = FeatureSpec.from_json(value["feature"])
        if not value["members"] or not parts(feature):
            raise ValueError("no members" if not value["members"] else "no features")
        known = (p.family in FAMILIES if p.family else p.name in FEATURES for p in parts(feature))
        if value["network"] not in NETWORKS or not all(known):
            raise ModelError(
                f"model {uri} is {value['network']} on {feature.name}, which this version does not have",
                "use the version that trained it, or remove its folder",
            )
        dimensions, widths = _dimensions(value), Intervals.from_json(value["intervals"])
        if len(widths.mean) != len(dimensions) or any(len(t) != len(dimensions) for t in value["members"]):
            raise ValueError(f"its intervals or members are not of {', '.join(dimensions)}")
        recipe = Recipe(value["network"], feature.hop_s, value["window"], hops=part_hops(feature))
        return Model(
            value["name"],
            value["network"],
            feature,
            value["window"],
            [restore(recipe, _part(tensors, f"member{i}."), t) for i, t in enumerate(value["members"])],
            widths,
            _reference(tensors),
            value["metrics"],
            {**value["details"], "weights_sha256": value["weights_sha256"]},
            dimensions,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(f"model {uri} is damaged ({one_line(str(error), 200)})", AGAIN) from error


def _dimensions(value: dict[str, Any]) -> tuple[str, ...]:
    """Those of a ``model.json``, which become columns. Raises ValueError where they are no names, or lack figures."""
    names = config_checks.dimensions(list(value["dimensions"]))
    metrics = {name: own for name, own in value["metrics"].items() if isinstance(own, dict) and "r2" in own}
    if missing := [name for name in names if name not in metrics]:
        raise ValueError(f"no metrics of {', '.join(missing)}")
    return tuple(names)


_OF_REFERENCE = ("basis", "columns", "sizes", "limits", "usual")


def _of_reference(reference: Reference) -> dict[str, np.ndarray]:
    arrays = {name: getattr(reference, name) for name in _OF_REFERENCE}
    arrays |= {"limit": np.array([reference.limit]), **reference.statistics.arrays()}
    return {f"reference.{k}": v for k, v in arrays.items()}


def _reference(tensors: dict[str, np.ndarray]) -> Reference:
    own = _part(tensors, "reference.")
    arrays = {name: own[name] for name in _OF_REFERENCE}
    return Reference(statistics=PassageStatistics.from_arrays(own), limit=float(own["limit"][0]), **arrays)


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
