"""What a source of tracks is: a module of this room with a class ``Source``, named as ``collect.source`` names it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar, cast

import pyarrow as pa

from mer_ray.io.track import Found

Stored = Callable[[Sequence[str]], Iterator[pa.Table]]
"""The workspace's rows of ``tracks`` so far, by the columns that are wanted."""


class TrackSource(ABC):
    """A source of tracks. settings: those of ``collect``."""

    by_content: ClassVar[bool] = False
    """Whether tracks of one artist, title and album are told apart by their files' bytes, not by their paths."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def check(self) -> None:  # noqa: B027 - a source may need no check
        """Raises ConfigError or InputError where the settings are of no use, before any stage starts."""

    def identity(self) -> dict[str, Any]:
        """The settings that must not change within a workspace."""
        return {}

    @abstractmethod
    def tracks(self, stored: Stored) -> Iterator[Found]:
        """Each track, or the little that is known of one with the TrackError that it costs.

        Raises a MerRayError where it cannot go on at all. stored: the rows of an earlier run, to save work.
        """

    @property
    def incomplete(self) -> bool:
        """Whether something could not be looked at, so that nothing is known to be gone. Asked after `tracks`."""
        return False

    def notes(self) -> list[str]:
        """Remarks for the summary. Asked after `tracks`."""
        return []


def load(name: str) -> type[TrackSource]:
    """The source of that name."""
    return cast("type[TrackSource]", import_module(f"mer_ray.sources.{name}").Source)
