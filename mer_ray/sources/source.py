"""The interface of sources of tracks: ``collect.source`` names a module of this package with a class ``Source``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar, cast

import pyarrow as pa

from mer_ray.io.track import SourceResult

Stored = Callable[[Sequence[str]], Iterator[pa.Table]]
"""Called with names of columns; yields the workspace's stored rows of ``tracks``."""


class TrackSource(ABC):
    """A source of tracks. settings: of ``collect``."""

    by_content: ClassVar[bool] = False
    """Whether tracks of the same artist, title and album differ by their files' bytes, not by their paths."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def check(self) -> None:  # noqa: B027 - a source may need no check
        """Raises ConfigError or InputError where the settings are invalid. Called before any stage starts."""

    def identity(self) -> dict[str, Any]:
        """The settings that must not change within a workspace."""
        return {}

    @abstractmethod
    def tracks(self, stored: Stored) -> Iterator[SourceResult]:
        """Each track; for an unusable one, its known fields and a TrackError.

        stored: the rows of an earlier run, to save work. Raises a MerRayError where it cannot continue.
        """

    @property
    def incomplete(self) -> bool:
        """Whether a part could not be read, so that missing tracks are not gone. Called after `tracks`."""
        return False

    def notes(self) -> list[str]:
        """Remarks for the summary. Called after `tracks`."""
        return []


def load(name: str) -> type[TrackSource]:
    """The source of that name."""
    return cast("type[TrackSource]", import_module(f"mer_ray.sources.{name}").Source)
