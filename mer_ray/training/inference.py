"""Members of an ensemble at work on a track: its value, and its curve over time.

The one place that says what a model answers, for cross-validation and for scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mer_ray.errors import ModelError
from mer_ray.models import N_TARGETS, layout, passages
from mer_ray.models.statistics import Statistics
from mer_ray.training.member import Member

AT_ONCE = 32
"""Passages whose waves are in the processor's cache together."""


@dataclass(frozen=True)
class Answer:
    """value: (3,), V, A, D of the track. curve: (n, 3), point i at (i + 1/2) hop_s. Both in 0..1.

    statistics: (P,), the mean over the passages of the first member's standardised statistics; None where the network
    looks at frames.
    """

    value: np.ndarray
    curve: np.ndarray
    hop_s: float
    statistics: np.ndarray | None = None


class Answers(Protocol):
    """Members at work."""

    def __call__(self, tracks: Sequence[np.ndarray]) -> list[Answer]:
        """Frames (n_i, F), n_i >= 1, of each track."""
        ...


def answers(
    network: str, n_dims: int, hop_s: float, window: int, members: Sequence[Member], outputs: int = N_TARGETS
) -> Answers:
    """Members of a network, each clipped to 0..1, a dimension being answered by those that were trained on it.

    Raises ModelError where the weights are of another network.
    """
    if network == "kernel":
        return _Passages(n_dims, hop_s, window, members)
    return _Windows(network, n_dims, hop_s, window, members, outputs)


def middle(values: np.ndarray) -> np.ndarray:
    """The interquartile mean: (n, 3) → (3,). Neither a fade nor one loud bar decides what a track is like."""
    n = len(values)
    cut = n // 4
    return np.asarray(np.sort(values, axis=0)[cut : n - cut].mean(axis=0))


class _Passages:
    """The kernel network: passages around points a second apart, in NumPy (`mer_ray.models.passages`).

    The value is the interquartile mean over the passages that are whole; a track that is shorter is one passage.
    """

    def __init__(self, n_dims: int, hop_s: float, window: int, members: Sequence[Member]) -> None:
        self.hop_s, self.window = hop_s, window
        self.heads = [_Head(n_dims, hop_s, member) for member in members]
        self.targets = np.array([member.targets for member in members], float)

    def __call__(self, tracks: Sequence[np.ndarray]) -> list[Answer]:
        if not tracks:
            return []
        grids = [passages.grid(len(track), self.window, self.hop_s) for track in tracks]
        total, first = 0.0, None
        for head, own in zip(self.heads, self.targets, strict=True):
            of_tracks = [head.statistics.raw(t, g, self.hop_s) for t, (g, _) in zip(tracks, grids, strict=True)]
            values = head.statistics.standardised(np.concatenate(of_tracks))
            first = values if first is None else first
            total = total + np.clip(head(values), 0, 1) * own
        answered = np.asarray(total / self.targets.sum(axis=0))
        out, start = [], 0
        for places, n in grids:
            mine = slice(start, start + len(places.first))
            curve = answered[mine]
            assert first is not None
            out.append(Answer(middle(curve[places.whole]), curve[:n], places.hop_s, first[mine][:n].mean(axis=0)))
            start = mine.stop
        return out


class _Head:
    """One member: statistics → waves → V, A, D, as `mer_ray.models.kernel.Kernel` has them."""

    def __init__(self, n_dims: int, hop_s: float, member: Member) -> None:
        own, sizes = member.parameters, layout.sizes(n_dims, hop_s)
        waves = layout.N_WAVES // len(sizes)
        n_inputs = len(sizes) * len(layout.BANDWIDTHS) * 2 * waves
        wanted = {
            "components": (n_dims, layout.n_components(n_dims, hop_s)),
            "shift": (sum(sizes),),
            "scale": (sum(sizes),),
            "reach": (len(sizes),),
            "head.kernel": (n_inputs, N_TARGETS),
            "head.bias": (N_TARGETS,),
        }
        if {name: value.shape for name, value in own.items()} != wanted:
            raise ModelError("the model's weights are of another network", "train it again with this version")
        self.statistics = Statistics(member.scaler, own["components"], own["shift"], own["scale"])
        self.ends = np.cumsum(sizes)[:-1]
        self.directions = [layout.directions(i, n, waves) for i, n in enumerate(sizes)]
        width = np.sqrt(2 * np.asarray(layout.BANDWIDTHS))[:, None] / own["reach"][:, None, None]
        self.width = width.astype(np.float32)
        # (blocks, bandwidths, cosines and sines, waves, 3)
        head = own["head.kernel"].reshape(len(sizes), len(layout.BANDWIDTHS), 2, waves, N_TARGETS)
        head = head / np.float32(np.sqrt(waves))
        self.cosines, self.sines = (np.ascontiguousarray(head[:, :, i]).reshape(-1, N_TARGETS) for i in (0, 1))
        self.bias, self.scaler = own["head.bias"], member.scaler

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standardised statistics (n, P) → (n, 3), in the labels' unit."""
        values = np.clip(values, -layout.CLIP, layout.CLIP)
        out = np.empty((len(values), N_TARGETS))
        for i in range(0, len(values), AT_ONCE):
            parts = np.split(values[i : i + AT_ONCE], self.ends, axis=1)
            angle = np.stack([part @ d for part, d in zip(parts, self.directions, strict=True)], axis=1)
            wide = (angle[:, :, None, :] * self.width).reshape(len(angle), -1)
            out[i : i + AT_ONCE] = np.cos(wide) @ self.cosines + np.sin(wide) @ self.sines
        return np.asarray((out + self.bias) * self.scaler.y_sd + self.scaler.y_mean)


class _Windows:
    """Any other network: windows half a window apart, compiled once. The value is their mean; the curve runs through
    their middles, and is level before the first and after the last."""

    def __init__(
        self, network: str, n_dims: int, hop_s: float, window: int, members: Sequence[Member], outputs: int
    ) -> None:
        from mer_ray.training.forward import forward

        self.hop_s, self.window, self.members = hop_s, window, members
        self.forward = forward(network, n_dims, hop_s, window, outputs)

    def __call__(self, tracks: Sequence[np.ndarray]) -> list[Answer]:
        from mer_ray.training.forward import ensemble, track_means
        from mer_ray.training.windows import starts

        if not tracks:
            return []
        values, owner = ensemble(self.forward, self.members, tracks)
        means = track_means(values, owner, len(tracks))
        out = []
        for i, track in enumerate(tracks):
            n_points = max(1, round(len(track) * self.hop_s / passages.POINT_S))
            hop_s = len(track) * self.hop_s / n_points
            first = starts(len(track), self.window)
            middles = (first + np.minimum(first + self.window, len(track))) / 2 * self.hop_s
            points = (np.arange(n_points) + 0.5) * hop_s
            mine = values[owner == i]
            curve = np.stack([np.interp(points, middles, column) for column in mine.T], axis=1)
            out.append(Answer(means[i], curve, hop_s))
        return out
