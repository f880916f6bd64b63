"""Matches tags to terms of the lexicon by a recipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mer_ray.io.identity import digest
from mer_ray.labels.lexicon import fold
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

    def identity(self) -> dict[str, Any]:
        """Everything that decides its readings, except for the names in the catalogue, which may grow. JSON-able."""
        version = self.reader.version
        return {
            "lexicon": self.lexicon.name,
            "scale": list(self.lexicon.scale),
            "recipe": self.recipe if version == 1 else f"{self.recipe} {version}",
            "exclude": _identity(self.exclude),
            "keep": _identity(self.keep),
            "seeds": sorted(self.seeds) if self.reader.uses_names else [],
            "words": self.words,
            "negation": self.negation,
        }


def _identity(entries: Collection[str]) -> str:
    folded = sorted({fold(e) for e in entries})
    return f"{len(folded)} terms, {digest(chr(10).join(folded).encode())[:12]}" if folded else ""
