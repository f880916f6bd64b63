"""A trained model as a folder: ``model.json``, ``weights.safetensors``, ``predictions.parquet``, ``README.md``.

``model.json`` is written last: a folder without it is not a model. Nothing in it is code, and nothing is a pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mer_ray.errors import ModelError, WorkspaceError
from mer_ray.features import FAMILIES, FeatureSpec
from mer_ray.features import MODULES as FEATURES
from mer_ray.io.identity import digest, one_line
from mer_ray.io.tables import Workspace
from mer_ray.models import N_TARGETS, NETWORKS
from mer_ray.models.statistics import Statistics
from mer_ray.scoring.intervals import Intervals
from mer_ray.training.member import Member, Scaler
from mer_ray.training.reference import Reference

FORMAT = 3
AGAIN = "train it again, or copy the whole folder"


@dataclass(frozen=True)
class Model:
    """An ensemble of members, one or more per fold; or one network that was solved on all tracks.

    feature: what it reads; frames of another fingerprint are refused. window: frames per window (T). intervals: how far
    it may be off. reference: what its training tracks sound like. metrics: per dimension, out of fold, with their 95 %
    intervals. details: settings and data. outputs: width of the networks' answers, the first three being V, A, D.
    """

    name: str
    network: str
    feature: FeatureSpec
    window: int
    members: list[Member]
    intervals: Intervals
    reference: Reference
    metrics: dict[str, dict[str, Any]]
    details: dict[str, Any] = field(default_factory=dict)
    outputs: int = N_TARGETS

    @property
    def id(self) -> str:
        """Its name and the first digits of its weights' hash: what scores say they were made by."""
        return f"{self.name}:{self.details.get('weights_sha256', '')[:12]}"

    @property
    def mean_r2(self) -> float:
        """The figure by which the best model of a workspace is chosen."""
        return float(np.mean([m["r2"] for m in self.metrics.values()]))


def save(model: Model, workspace: Workspace, *folder: str) -> None:
    """Write the folder's weights and then its ``model.json``."""
    from safetensors.numpy import save as to_bytes

    tensors: dict[str, np.ndarray] = {}
    shared = _shared(model.members)
    tensors |= {f"shared.network.{k}": np.ascontiguousarray(v) for k, v in shared.items()}
    for index, member in enumerate(model.members):
        own = {k: v for k, v in member.parameters.items() if k not in shared}
        tensors |= {f"member{index}.network.{k}": np.ascontiguousarray(v) for k, v in own.items()}
        tensors |= {f"member{index}.scaler.{k}": np.ascontiguousarray(v) for k, v in asdict(member.scaler).items()}
    tensors |= _of_reference(model.reference)
    weights = to_bytes(tensors)
    workspace.write_bytes(weights, *folder, "weights.safetensors")
    described = {
        "format": FORMAT,
        "name": model.name,
        "network": model.network,
        "feature": model.feature.to_json(),
        "window": model.window,
        "outputs": model.outputs,
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
        raise ModelError(f"{workspace.path(*folder)} is not a model that this version reads", "train it again")
    return value


def load(uri: str) -> Model:
    """Read a model folder. Raises ModelError naming the folder and what is wrong with it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    place = Workspace(uri)
    value = describe(place)
    if value is None:
        raise ModelError(
            f"{uri} is not a model folder: it has no model.json", "give a folder that `mer-ray train` made, runs/NAME"
        )
    try:
        data = place.read_bytes("weights.safetensors")
        if digest(data) != value["weights_sha256"]:
            raise ModelError(f"{uri}/weights.safetensors does not belong to its model.json", "train the model again")
        tensors = from_bytes(data)
        shared = _part(tensors, "shared.network.")
        members = [_member(tensors, f"member{i}.", shared, targets) for i, targets in enumerate(value["members"])]
        feature = FeatureSpec.from_json(value["feature"])
        known = feature.family in FAMILIES if feature.family else feature.name in FEATURES
        if value["network"] not in NETWORKS or not known:
            raise ModelError(f"model {uri} is {value['network']} on {feature.name}, which this version does not have")
        return Model(
            value["name"],
            value["network"],
            feature,
            value["window"],
            members,
            Intervals.from_json(value["intervals"]),
            _reference(tensors),
            value["metrics"],
            {**value["details"], "weights_sha256": value["weights_sha256"]},
            value["outputs"],
        )
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelError(f"model {uri} is damaged ({one_line(str(error), 200)})", AGAIN) from error


def _member(
    tensors: dict[str, np.ndarray], prefix: str, shared: dict[str, np.ndarray], targets: Sequence[int]
) -> Member:
    own, scaler = _part(tensors, f"{prefix}network."), _part(tensors, f"{prefix}scaler.")
    return Member({**shared, **own}, Scaler(**scaler), tuple(targets))


def _of_reference(reference: Reference) -> dict[str, np.ndarray]:
    own = reference.statistics
    arrays = {"basis": reference.basis, "limit": np.array([reference.limit])}
    arrays |= {name: getattr(own, name) for name in ("components", "shift", "scale")}
    arrays |= {f"scaler.{k}": v for k, v in asdict(own.scaler).items()}
    return {f"reference.{k}": np.ascontiguousarray(v) for k, v in arrays.items()}


def _reference(tensors: dict[str, np.ndarray]) -> Reference:
    own = _part(tensors, "reference.")
    scaler = Scaler(**_part(own, "scaler."))
    statistics = Statistics(scaler, own["components"], own["shift"], own["scale"])
    return Reference(statistics, own["basis"], float(own["limit"][0]))


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _shared(members: Sequence[Member]) -> dict[str, np.ndarray]:
    """The parameters that are the same in all of several members: what a network draws once and does not learn."""
    if len(members) < 2:
        return {}
    first, others = members[0].parameters, members[1:]
    return {k: v for k, v in first.items() if all(np.array_equal(v, m.parameters.get(k, ())) for m in others)}
