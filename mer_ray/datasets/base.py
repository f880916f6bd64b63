"""`DataSet`: what is known of a published data set, and how a copy of it is read."""

from __future__ import annotations

import importlib
import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mer_ray.datasets import DATASETS
from mer_ray.datasets.copied import Folder

Scale = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A track of a data set.

    Attributes:
        track_id: Its id in the data set, under its name where that is a number: several sets can be one catalog.
        path: Where its audio is, or should be; None for a data set without audio.
        values: Its labels by dimension, on the data set's own scale.
        errors: Their standard errors, on the same scale.
        split: ``train``, ``valid``, ``test``, or "".
        more: Other columns of the manifest, as ``spotify_id``.
    """

    track_id: str
    path: Path | None = None
    artist: str = ""
    title: str = ""
    album: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    tags: Sequence[str] = ()
    split: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Contents:
    """What a copy holds.

    Attributes:
        curves: (track_id, seconds from the start of its audio, labels by dimension) of labels over time.
        tables: Further files, by name: rows, the header first.
        notes: Remarks for the user.
    """

    items: list[Item]
    curves: list[tuple[str, float, Mapping[str, float]]] = field(default_factory=list)
    tables: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class DataSet(ABC):
    """A published data set.

    Attributes:
        n_tracks: Of the whole release.
        labels: What its labels are, and by whom.
        licence: Of annotations and audio, as the release says.
        where: The site that has it.
        protocol: The split or protocol that is common on it.
        dimensions: Of its labels; none where they are tags or comparisons.
        scale: The lowest and highest possible label.
        curve_scale: That of labels over time; None where it has none.
        archives: The release's archives and their hashes ("sha256:..."), as `archives_from` states them. One that lies
            in the copy is checked.
        settings: More settings for the copy's ``config.yaml``.
        needs: Options of ``mer-ray run`` that it cannot do without.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    n_tracks: ClassVar[int]
    labels: ClassVar[str]
    citation: ClassVar[str]
    licence: ClassVar[str]
    where: ClassVar[str]
    protocol: ClassVar[str]
    dimensions: ClassVar[tuple[str, ...]] = ("valence", "arousal")
    scale: ClassVar[Scale] = (1.0, 9.0)
    curve_scale: ClassVar[Scale | None] = None
    archives: ClassVar[Mapping[str, str]] = {}
    archives_from: ClassVar[str] = ""
    needs: ClassVar[str] = ""

    @abstractmethod
    def read(self, folder: Folder) -> Contents:
        """The tracks of a copy, in the order of their ids. Raises InputError for one that is damaged or incomplete."""

    def next_command(self, out: Path) -> str:
        """What to type after ``mer-ray dataset`` has written ``out``."""
        return f"mer-ray run -c {shlex.quote(str(out / 'config.yaml'))} {self.needs}".strip()


def load(name: str) -> DataSet:
    """The data set of a name in `DATASETS`."""
    found: DataSet = importlib.import_module(DATASETS[name]).DATASET
    return found


def standard_error(deviation: float, n_raters: int) -> float:
    """The standard error of a mean, from the raters' SD about it that divides by n: SD / sqrt(n - 1).

    The released SDs of DEAM and PMEmo divide by n: with ten integer ratings, a mean of 3.0 and an SD of 0.63 (DEAM,
    song 2, arousal) are possible so (0.632), and not with n - 1 (0.577 or 0.667).
    """
    return deviation / math.sqrt(n_raters - 1)
