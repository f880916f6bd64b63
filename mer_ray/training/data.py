"""Tables → arrays: the labelled tracks that have a feature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mer_ray.errors import WorkspaceError
from mer_ray.evaluation import protocol
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import Frames, by_part, frames_of, parts
from mer_ray.io.identity import digest
from mer_ray.io.schemas import DIMENSIONS, features_table, ragged_arrays
from mer_ray.io.tables import Workspace
from mer_ray.models import curves as label_curves
from mer_ray.models.curves import Curve
from mer_ray.training.groups import track_groups

AFTER_END_S = 1.0
"""Up to so late, a label may belong to the last part of the audio."""
_NO_FRAMES = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Examples:
    """Training examples of N tracks.

    Attributes:
        frames: (n_i, F) float32 of each track; those of several features are `mer_ray.features.joined.Joined`.
        labels: (N, D) in 0..1, NaN where a track has no label of a dimension.
        groups: (N,), for the folds.
        errors: (N, D), the labels' standard errors, by which labels are weighted; NaN if unknown.
        dimensions: Names of the D columns.
        curves: (N,) labels over time, None of a track without; empty if no track has one.
    """

    frames: Sequence[Frames]
    labels: np.ndarray
    groups: Sequence[str]
    errors: np.ndarray
    dimensions: tuple[str, ...] = field(default=DIMENSIONS, kw_only=True)
    curves: Sequence[Curve | None] = field(default=(), kw_only=True)

    @property
    def plain(self) -> list[np.ndarray]:
        """The frames, of one feature."""
        return by_part(self.frames)[0] if len(self.frames) else []

    def of(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """Some of the tracks; their frames are not copied."""
        frames, groups = [self.frames[i] for i in rows], [self.groups[i] for i in rows]
        curves = [self.curves[i] for i in rows] if self.curves else ()
        own = self.labels[rows], groups, self.errors[rows]
        return Examples(frames, *own, dimensions=self.dimensions, curves=curves)


@dataclass(frozen=True)
class Dataset(Examples):
    """Tracks in the order of their ids.

    Attributes:
        lexicons: The labels' lexicons.
        audio: The hash of each track's file; for precomputed frames without audio, the path that they were found by.
        datasets: (N,), the data set that each track belongs to, "" where unknown.
        splits: (N,), ``train``, ``valid`` or ``test`` as the source says, "" where it does not.
        given_folds: (N,), the fold that the source says, "" where it does not.
    """

    ids: list[str]
    artists: list[str]
    titles: list[str]
    albums: list[str]
    composers: list[str]
    lexicons: list[str]
    audio: list[str]
    datasets: list[str]
    splits: list[str]
    given_folds: list[str]

    def fingerprint(self, feature: FeatureSpec, settings: Mapping[str, Any] | None = None) -> str:
        """16 hexadecimal digits: a hash of the tracks, files, labels, groups and feature.

        settings: Of a run, which decide whether it depends on the given split or folds, and on the data sets.
        """
        errors = np.nan_to_num(self.errors, nan=-1).round(9).tolist()
        labels = np.nan_to_num(self.labels, nan=-1).round(9).tolist()
        content = [feature.fingerprint, self.ids, self.audio, list(self.groups), labels, errors]
        # Only where there are any, so that runs of earlier versions stay valid.
        if self.dimensions != DIMENSIONS or self.curves:
            curves = [None if c is None else [c.time_s.tolist(), _rounded(c.values)] for c in self.curves]
            content += [self.dimensions, curves]
        settings = settings or {}
        if (how := protocol.of(settings)) != protocol.GROUPS:
            content += [how, self.splits if how == protocol.TEST else self.given_folds]
        if settings.get("source_bias"):
            content += ["datasets", self.datasets]
        return digest(json.dumps(content).encode())[:16]


def with_parts(dataset: Dataset, feature: FeatureSpec, of_parts: Sequence[Dataset]) -> Dataset:
    """The dataset of a joined feature, with the frames that those of its parts have; they are not copied."""
    own = {p.name: dict(zip(d.ids, d.plain, strict=True)) for p, d in zip(parts(feature), of_parts, strict=True)}
    return replace(dataset, frames=[frames_of(feature, {n: f[i] for n, f in own.items()}) for i in dataset.ids])


def load(
    workspace: Workspace, feature: FeatureSpec, groups: Mapping[str, str] | None = None, with_frames: bool = True
) -> Dataset:
    """The labelled tracks that have ``feature``; all parts of it, if it is joined.

    Args:
        workspace: Has both.
        feature: Of the frames.
        groups: Track id → its group, for the folds. If it is None or lacks a track, groups are made from artist,
            composer and album.
        with_frames: False leaves out the frames, which take the most memory and time.

    Raises:
        WorkspaceError: The frames are of another version of the feature.
    """
    dimensions = labelled_dimensions(workspace)
    errors_of = [f"se_{d}" for d in dimensions]
    columns = ["track_id", *dimensions, *errors_of, "curves", "lexicon"]
    labels = workspace.require("labels", "label", columns).sort_by("track_id")
    wanted = ["track_id", "artist", "title", "album", "composer", "dataset", "split", "fold", "uri"]
    described = {r["track_id"]: r for r in workspace.require("tracks", "collect", wanted).to_pylist()}
    ids = labels["track_id"].to_pylist()
    own = {part.name: _frames(workspace, part, with_frames) for part in parts(feature)}
    audio = workspace.read("audio", ["track_id", "sha256"])
    hashes = dict(zip(audio["track_id"].to_pylist(), audio["sha256"].to_pylist(), strict=True))

    usable = np.any([labels[d].is_valid().to_numpy() for d in dimensions], axis=0)
    keep = [
        index
        for index, i in enumerate(ids)
        if usable[index] and i in described and all(i in frames for frames in own.values())
    ]
    labelled = [ids[index] for index in keep]
    values, errors = (
        np.stack([labels[c].to_numpy().astype(float) for c in names], axis=1)[keep] for names in (dimensions, errors_of)
    )
    cells = ([described[i][c] or "" for i in labelled] for c in wanted[1:8])
    artists, titles, albums, composers, datasets, splits, folds = cells
    over_time = [label_curves.from_rows(rows, dimensions) for rows in labels["curves"].take(keep).to_pylist()]
    by_path = any(part.params.get("key") == "path" for part in parts(feature))  # of precomputed frames
    if groups is None or not all(i in groups for i in labelled):
        groups = dict(zip(labelled, track_groups(labelled, artists, albums, composers), strict=True))
    return Dataset(
        ids=labelled,
        artists=artists,
        titles=titles,
        albums=albums,
        composers=composers,
        groups=[groups[i] for i in labelled],
        labels=values,
        errors=errors,
        dimensions=dimensions,
        curves=over_time if any(c is not None for c in over_time) else (),
        datasets=datasets,
        splits=splits,
        given_folds=folds,
        lexicons=sorted(set(labels["lexicon"].take(keep).to_pylist())),
        frames=[frames_of(feature, {name: frames[i] for name, frames in own.items()}) for i in labelled],
        audio=[hashes.get(i) or (described[i]["uri"] if by_path else None) or "" for i in labelled],
    )


def beyond_audio(workspace: Workspace, dataset: Dataset) -> list[str]:
    """A remark where labels over time go on for over `AFTER_END_S` after their audio has ended.

    Their times are then frames, or those of a longer excerpt than the file, and windows get other labels than theirs.
    """
    audio = workspace.read("audio", ["track_id", "duration_s"]) if dataset.curves else None
    lengths = dict(zip(*audio.to_pydict().values(), strict=True)) if audio is not None else {}
    ends = (
        (i, float(curve.time_s[np.isfinite(curve.values).any(axis=1)].max(initial=0.0)), lengths.get(i) or np.inf)
        for i, curve in zip(dataset.ids, dataset.curves, strict=False)
        if curve is not None
    )
    late = [(i, last, length) for i, last, length in ends if last > length + AFTER_END_S]
    if not late:
        return []
    i, last, length = max(late, key=lambda track: track[1] - track[2])
    return [
        f"labels over time of {len(late):,} tracks go on after their audio has ended (track {i}: a label at {last:g} "
        f"s, audio of {length:.4g} s): check whether they are in seconds from the start of these files"
    ]


def labelled_dimensions(workspace: Workspace) -> tuple[str, ...]:
    """The dimensions of which any track has a label, in their order."""
    names = workspace.dimensions("labels")
    labels = workspace.require("labels", "label", list(names))
    return tuple(name for name in names if labels[name].null_count < len(labels))


def _rounded(values: np.ndarray) -> list[list[float]]:
    return list(np.nan_to_num(values, nan=-1).round(9).tolist())


def _frames(workspace: Workspace, feature: FeatureSpec, with_frames: bool) -> dict[str, np.ndarray]:
    """Track id → frames, of one table; empty ones without ``with_frames``."""
    table = features_table(feature.name)
    columns = ["track_id", "fingerprint", *(["frames"] if with_frames else [])]
    rows = workspace.require(table, "extract", columns)
    if set(rows["fingerprint"].to_pylist()) != {feature.fingerprint}:
        raise WorkspaceError(
            f"{workspace.path(table)} was extracted with other settings or weights than extract.{feature.name} has now",
            "choose another --workspace, or remove that folder and run `mer-ray extract`",
        )
    arrays = ragged_arrays(rows["frames"]) if with_frames else [_NO_FRAMES] * len(rows)
    return dict(zip(rows["track_id"].to_pylist(), arrays, strict=True))
