"""Recipes: how a tag is read as terms of a lexicon. One file per recipe; this one holds what they have in common.

To add one: write ``labels/recipes/NAME.py`` with a class ``Recipe`` (`BaseRecipe`), and add its name to `RECIPES`. Then
``label.recipe=NAME`` works everywhere, and ``tests/test_recipes.py`` holds for it.
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
    """A term that a tag stands for: its (V, A, D) in 0..1, its share of the tag's weight, and how it was found."""

    term: str
    vad: Scores
    share: float
    how: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a tag says. The shares of ``matches`` sum to 1.

    why: the reason where there are no matches. counts: whether the tag is in the coverage. as_title: the key (see
    `exclusions.key`) of the title that a track would have for this tag to be its name, and so to be left out there; ""
    if that cannot be.
    """

    matches: tuple[Match, ...] = ()
    why: str = ""
    counts: bool = True
    as_title: str = ""


UNKNOWN = Reading(why="unknown")


def left_out(why: str) -> Reading:
    """A tag that does not count, not even in the coverage."""
    return Reading(why=f"left out: {why}", counts=False)


@dataclass(frozen=True)
class Settings:
    """What a recipe works with; which of it matters is the recipe's affair.

    recipe: a name of `RECIPES`. exclude: tags and terms that do not count. keep: where not empty, the only terms of
    the lexicon that count. seeds: tags by which the catalog was collected. names: keys (see `exclusions.key`) of
    artists, albums and films. words, negation: see `BaseRecipe.options`.
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

    options: which of the settings ``words`` and ``negation`` it uses. uses_names: it leaves out the catalog's names and
    a track's own title, so it wants to know them. moderated: see `vad.weighted_means`. version: raised where the same
    tags give other labels, so that labels of two versions never meet in a table.
    """

    version: ClassVar[int] = 1

    options: ClassVar[frozenset[str]] = frozenset()
    uses_names: ClassVar[bool] = False
    moderated: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if ``keep`` leaves no term."""
        self.settings = settings
        self.kept = frozenset(map(fold, settings.keep))
        self.terms = settings.lexicon.terms
        if settings.keep:
            self.terms = {term: scores for term, scores in self.terms.items() if self.is_kept(term)}
            if not self.terms:
                name = settings.lexicon.name
                raise ConfigError(f"label.keep names no term of lexicon {name}", "list terms as it spells them")
        self.excluded = frozenset(map(fold, settings.exclude))

    def is_kept(self, term: str) -> bool:
        """Whether ``keep`` lists a term of the lexicon."""
        return term in self.kept

    def read(self, tag: str) -> Reading:
        """What a tag says, whatever text it is; what ``exclude`` lists, as a tag or as a term, does not count."""
        if fold(tag) in self.excluded:
            return left_out("listed")
        reading = self.find(tag)
        return left_out("listed") if any(fold(m.term) in self.excluded for m in reading.matches) else reading

    @abstractmethod
    def find(self, tag: str) -> Reading:
        """The terms that a tag stands for, or why there are none."""

    def match(self, term: str, how: str, share: float = 1.0) -> Match:
        """A term of the lexicon that a tag stands for."""
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


def check_options(name: str, given: set[str]) -> None:
    """Raises ValueError if the settings that were given hold an option that a recipe does not use."""
    if unused := sorted(given - recipe_class(name).options):
        able = ", ".join(other for other in RECIPES if given <= recipe_class(other).options)
        raise ValueError(f"recipe={name} does not use {' and '.join(unused)}; recipe={able} does")
