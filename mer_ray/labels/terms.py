"""Matches tags to terms of the lexicon by a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from mer_ray.labels.recipes import BaseRecipe, Match, Reading, Settings, recipe_class

_CACHED = 1_000_000


@dataclass(frozen=True)
class Matcher(Settings):
    """Reads tags by a recipe, each tag once. Raises ConfigError if ``keep`` leaves no term."""

    _cache: dict[str, Reading] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.reader  # noqa: B018 - raises its errors now

    @cached_property
    def reader(self) -> BaseRecipe:
        """The recipe with its settings."""
        return recipe_class(self.recipe)(self)

    def read(self, tag: str) -> Reading:
        """The reading of a tag."""
        found = self._cache.get(tag)
        if found is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            found = self._cache[tag] = self.reader.read(tag)
        return found

    def match(self, tag: str) -> tuple[Match, ...]:
        """The terms that a tag matches; their shares sum to 1."""
        return self.read(tag).matches
