"""Recipes: how a tag is mapped to terms of a lexicon. One file per recipe; this one has what they share.

To add one: write ``labels/recipes/NAME.py`` with a class ``Recipe`` (`BaseRecipe`), and add its name to `RECIPES`. Then
``label.recipe=NAME`` works everywhere, and ``tests/test_recipes.py`` tests it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import ClassVar, Literal

from mer_ray.errors import ConfigError
from mer_ray.labels.lexicon import Lexicon, Scores, fold

RECIPES = {
    "original": "mer_ray.labels.recipes.original",
    "careful": "mer_ray.labels.recipes.careful",
}


@dataclass(frozen=True, slots=True)
class Match:
    """A term that a tag matches: its (V, A, D) in 0..1, its share of the tag's weight, and how it was matched."""

    term: str
    vad: Scores
    share: float
    how: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The terms of a tag. The shares of ``matches`` sum to 1.

    Attributes:
        matches: The terms.
        why: The reason if there are none.
        counts: Whether the tag is in the coverage.
        as_title: The tag's `exclusions.key`, if it is to be ignored for tracks of that title; else "".
    """

    matches: tuple[Match, ...] = ()
    why: str = ""
    counts: bool = True
    as_title: str = ""


UNKNOWN = Reading(why="unknown")


def left_out(why: str) -> Reading:
    """The reading of an ignored tag, which is not in the coverage either."""
    return Reading(why=f"left out: {why}", counts=False)


@dataclass(frozen=True)
class Settings:
    """The settings of recipes; each uses some of them.

    Attributes:
        lexicon: Its terms.
        recipe: A name of `RECIPES`.
        exclude: Tags and terms to ignore.
        keep: If not empty, the only terms of the lexicon that count.
        seeds: Tags by which the catalog was collected.
        names: Keys (see `exclusions.key`) of artists, albums and films.
        words: See `BaseRecipe.options`.
        negation: See `BaseRecipe.options`.
    """

    lexicon: Lexicon
    recipe: str = "original"
    exclude: Collection[str] = ()
    keep: Collection[str] = ()
    seeds: Collection[str] = ()
    names: Container[str] = ()
    words: bool = False
    negation: Literal["drop", "reflect"] = "drop"


class BaseRecipe(ABC):
    """A way to read tags.

    Attributes:
        options: Which of the settings ``words`` and ``negation`` it uses.
        uses_names: Whether it ignores the catalog's names and a track's own title, and so needs them.
        moderated: See `vad.weighted_means`.
        version: Raised whenever the same tags give other labels, so that labels of two versions never meet.
    """

    version: ClassVar[int] = 1

    options: ClassVar[frozenset[str]] = frozenset()
    uses_names: ClassVar[bool] = False
    moderated: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if ``keep`` leaves no term."""
        self.settings = settings
        self.listed = frozenset(map(fold, settings.keep))
        self.terms = settings.lexicon.terms
        if settings.keep:
            self.terms = {term: scores for term, scores in self.terms.items() if self.is_listed(term)}
            if not self.terms:
                name = settings.lexicon.name
                raise ConfigError(f"label.keep names no term of lexicon {name}", "list terms as it spells them")
        self.excluded = frozenset(map(fold, settings.exclude))

    def is_listed(self, term: str) -> bool:
        """Whether ``keep`` lists a term of the lexicon."""
        return term in self.listed

    def read(self, tag: str) -> Reading:
        """Read a tag, without what ``exclude`` lists as a tag or as a term."""
        if fold(tag) in self.excluded:
            return left_out("listed")
        reading = self.find(tag)
        return left_out("listed") if any(fold(m.term) in self.excluded for m in reading.matches) else reading

    @abstractmethod
    def find(self, tag: str) -> Reading:
        """The terms that a tag matches, or why there are none."""

    def match(self, term: str, how: str, share: float = 1.0) -> Match:
        """A match of a term of the lexicon."""
        return Match(term, self.terms[term], share, how)


def recipe_class(name: str) -> type[BaseRecipe]:
    """The recipe of a name in `RECIPES`."""
    recipe: type[BaseRecipe] = importlib.import_module(RECIPES[name]).Recipe
    return recipe


def known_recipe(name: str) -> str:
    """The name itself. Raises ValueError if there is no such recipe."""
    if name not in RECIPES:
        raise ValueError(f"known are {', '.join(map(repr, RECIPES))}")
    return name


def check_options(name: str, used: set[str]) -> None:
    """Raises ValueError if ``used``, the names of the user's options, has one that the recipe does not use."""
    if unused := sorted(used - recipe_class(name).options):
        able = ", ".join(other for other in RECIPES if used <= recipe_class(other).options)
        raise ValueError(f"recipe={name} does not use {' and '.join(unused)}; recipe={able} does")
