"""Providers of audio: a registered file each, with a subclass of `Provider`.

To add one, write ``providers/NAME.py`` and add its class to `PROVIDERS`. ``acquire.providers=[NAME]`` then works, and
the contract test (``tests/test_providers.py``) tests it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from mer_ray.io.rate_limit import Slot
from mer_ray.io.track import Track

PROVIDERS = {
    "uri": "mer_ray.audio.providers.own_uri.OwnUri",
    "folder": "mer_ray.audio.providers.music_folder.MusicFolder",
    "savify": "mer_ray.audio.providers.savify.Savify",
}
"""The name in ``acquire.providers`` → the class."""


class Settings(Protocol):
    """The settings ``acquire`` that providers may read. Keys and passwords come from the environment."""

    @property
    def folder(self) -> str | None:
        """A folder of music."""

    @property
    def allow_private(self) -> bool:
        """Whether audio may be downloaded from private networks."""

    @property
    def duration_tolerance(self) -> float:
        """Share by which a recording may be longer or shorter than expected."""

    @property
    def min_similarity(self) -> float:
        """The lowest similarity of artist and title, in 0..1."""


@dataclass(frozen=True)
class Limits:
    """Of one track's download: seconds (without waiting for a slot), and megabytes (10^6 bytes).

    slot: a context to be entered with a host's name for each exchange, which limits simultaneous ones.
    """

    timeout_s: float
    max_mb: float
    slot: Slot


@dataclass(frozen=True)
class ProviderResult:
    """The audio that a provider found.

    Attributes:
        path: The file, in the folder passed to `Provider.get`, or the user's own.
        uri: The permanent local path or object's address; None for a file to copy into the workspace.
        shown: Its name in messages.
        spotify_id: The track that Spotify found.
    """

    path: Path
    uri: str | None = None
    shown: str = ""
    spotify_id: str | None = None


class Provider(ABC):
    """Made once in the driver, and sent to the workers, where several threads call `get`."""

    name: ClassVar[str]
    searches: ClassVar[bool] = True
    """Whether audio is found by artist and title, so that a renamed track is searched again."""

    def __init__(self, settings: Settings) -> None:
        self.notes: list[str] = []
        """Remarks for the user."""

    @staticmethod  # noqa: B027
    def check(settings: Settings) -> None:
        """Raises ConfigError or InputError where something is missing. Fast; called before a run begins."""

    def source(self, track: Track) -> str:
        """The origin of this track's audio, for the table ``audio``."""
        return self.name

    @abstractmethod
    def get(self, track: Track, folder: Path, limits: Limits) -> ProviderResult | None:
        """Get a track's audio; None where the provider does not know the track.

        Args:
            track: To find.
            folder: Empty, for this track alone; removed afterwards.
            limits: To be obeyed.

        Raises:
            TrackError: The audio cannot be obtained. Messages have no secrets (`mer_ray.io.address.shown`).
        """


def provider_class(name: str) -> type[Provider]:
    """name: a key of `PROVIDERS`."""
    module, _, attribute = PROVIDERS[name].rpartition(".")
    found: type[Provider] = getattr(importlib.import_module(module), attribute)
    return found


def check(names: Iterable[str], settings: Settings) -> None:
    """Raises ConfigError or InputError where a provider lacks something."""
    for name in names:
        provider_class(name).check(settings)


def load(names: Iterable[str], settings: Settings) -> list[Provider]:
    """The providers of these names, in their order."""
    return [provider_class(name)(settings) for name in names]


def searches(source: str) -> bool:
    """Whether the provider of an origin in the table ``audio`` searches by artist and title."""
    return source in PROVIDERS and provider_class(source).searches
