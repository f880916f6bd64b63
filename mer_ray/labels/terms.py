"""From a tag to the terms of the lexicon that it stands for.

The recipe ``original`` knows one step: the tag, case-folded and with single blanks, is a term or it is not.

The recipe ``careful`` takes the first of these steps that finds anything:

1. fold: Unicode NFKC, case folding, curly apostrophes and dashes made plain, separators (``_ / + . &`` ...) made
   blanks.
2. leave out what is not about the music: listed tags (``label.exclude``), the tags that the catalogue was collected
   by, habits of listeners (seen live, favourites), years and decades, names of the catalogue's artists, albums and
   films, and the track's own title. A name that is a word of mood (an artist called Calm) is still a tag of mood.
   Such tags count neither in the label nor in its coverage. What ``label.keep`` lists is left out only by
   ``label.exclude``.
3. exact phrase: "a cappella", and "not good" where the lexicon has that phrase.
4. hyphen and space variants: feel-good, feel good and feelgood are the same. An article or a "not" does not melt
   into the next word ("a live" is not alive).
5. negation: behind not, non, no, never, without, un or a word in n't, a term is never matched as itself. By default
   it counts as an unknown tag; with ``label.negation: reflect`` as "not TERM". "unhappy" is a word of its own.
6. lemma: of a single word and of a phrase's last word (simplemma's table for English): happier → happy,
   love songs → love song.
7. words of a phrase, only with ``label.words``: the tag's weight is shared equally among the words that are found.

"not TERM" has the valence of the term mirrored about the middle (the classic "switch" negation; Taboada et al. 2011,
Computational Linguistics 37, 267-307, section 2.4, discuss it and its alternatives) and arousal and dominance in the
middle, 0.5, since nothing is known of them. That is a convention, no measurement.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from mer_ray.errors import ConfigError
from mer_ray.labels.exclusions import habits, is_mood, key
from mer_ray.labels.lexicon import Lexicon, Scores, fold
from mer_ray.labels.spelling import FUNCTION_WORDS, is_time, joined, lemma, normal, spaced

_PREFIXES = {"un", "non", "anti"}  # they make words: un-happy is the lexicon's unhappy
_NEGATIONS = {"not", "no", "never", "without", "nt", "cannot", "dont", "isnt", "aint", "cant"} | _PREFIXES
_CACHED = 1_000_000

Recipe = Literal["original", "careful"]


@dataclass(frozen=True, slots=True)
class Match:
    """A term that a tag stands for: its (V, A, D) in 0..1, its share of the tag's weight, and how it was found."""

    term: str
    vad: Scores
    share: float
    how: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a tag says. Without matches, ``why`` tells the reason, and ``counts`` whether it is in the coverage.

    as_title: the key of the title that a track would have to have for this tag to be its name, and so to be left out
    there; "" if that cannot be.
    """

    matches: tuple[Match, ...] = ()
    why: str = ""
    counts: bool = True
    as_title: str = ""


_UNKNOWN = Reading(why="unknown")
_NEGATED = Reading(why="negated")


def _left_out(why: str) -> Reading:
    return Reading(why=f"left out: {why}", counts=False)


@dataclass(frozen=True)
class Matcher:
    """Reads tags with a lexicon, as the module's head says.

    exclude: tags and terms that do not count. keep: where not empty, the only terms of the lexicon that count. seeds:
    tags that say how the catalogue was collected. names: keys (see `exclusions.key`) of artists, albums and films.
    words, negation, seeds and names matter to ``careful`` only. Raises ConfigError if ``keep`` leaves no term.
    """

    lexicon: Lexicon
    recipe: Recipe = "original"
    exclude: Collection[str] = ()
    keep: Collection[str] = ()
    seeds: Collection[str] = ()
    names: Container[str] = ()
    words: bool = False
    negation: Literal["drop", "reflect"] = "drop"
    _cache: dict[str, Reading] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.keep and not self._terms:
            raise ConfigError(
                f"label.keep names no term of lexicon {self.lexicon.name}", "list terms as it spells them"
            )

    @property
    def is_careful(self) -> bool:
        """Whether the recipe is ``careful``."""
        return self.recipe == "careful"

    def read(self, tag: str) -> Reading:
        """What a tag says."""
        found = self._cache.get(tag)
        if found is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            found = self._cache[tag] = self._careful(tag) if self.is_careful else self._original(tag)
        return found

    def match(self, tag: str) -> tuple[Match, ...]:
        """The terms that a tag stands for; their shares sum to 1."""
        return self.read(tag).matches

    def _original(self, tag: str) -> Reading:
        term = fold(tag)
        if term in self._excluded:
            return _left_out("listed")
        return self._exact(term) if term in self._terms else _UNKNOWN

    def _careful(self, tag: str) -> Reading:
        form = normal(tag)
        plain = spaced(form)
        why = self._why_out(fold(tag), plain)
        if why:
            return _left_out(why)
        found = self._find(tag, form, plain)
        if any(fold(m.term) in self._excluded for m in found.matches):
            return _left_out("listed")
        return found if plain in self._kept or is_mood(plain) else Reading(found.matches, found.why, True, plain)

    def _why_out(self, folded: str, plain: str) -> str:
        if folded in self._excluded or plain in self._excluded:
            return "listed"
        if plain in self._kept:
            return ""
        if plain in self._seeds:
            return "the tag of the harvest"
        if plain in habits():
            return "habit or praise"
        if is_time(plain):
            return "time"
        return "a name" if plain in self.names else ""

    def _find(self, tag: str, form: str, plain: str) -> Reading:
        if fold(tag) in self._terms:
            return self._exact(fold(tag))
        if not form:
            return _UNKNOWN
        term, how = self._spelled(form, plain)
        if term:
            return Reading((Match(term, self._terms[term], 1.0, how),))
        words = plain.split()
        if _negates(words[0]) and len(words) > 1:
            inner = self._inner(words[1:])
            if inner:
                return self._negated(inner)
        else:
            term = self._lemma(words)
            if term:
                return Reading((Match(term, self._terms[term], 1.0, "lemma"),))
        return self._by_words(words) if self.words and len(words) > 1 else _UNKNOWN

    def _exact(self, term: str) -> Reading:
        return Reading((Match(term, self._terms[term], 1.0, "exact"),))

    def _spelled(self, form: str, plain: str) -> tuple[str, str]:
        """The term that is spelled like this but for blanks, hyphens, apostrophes and accents, or ""."""
        normals, spaces, pieces = self._forms
        if form in normals:
            return normals[form], "exact"
        if plain in spaces:
            return spaces[plain], "variant"
        term = pieces.get(joined(form), "")
        first, _, rest = plain.partition(" ")
        if rest and " " not in term and (first in FUNCTION_WORDS or (_negates(first) and first not in _PREFIXES)):
            return "", ""
        return term, "variant"

    def _lemma(self, words: list[str]) -> str:
        base = lemma(words[-1])
        if base == words[-1]:
            return ""
        plain = " ".join([*words[:-1], base])
        return self._spelled(plain, plain)[0]

    def _inner(self, words: list[str]) -> str:
        """The term behind a negation."""
        while len(words) > 1 and words[0] in FUNCTION_WORDS:  # not so sad, not very sad
            words = words[1:]
        if _negates(words[0]):
            return ""
        plain = " ".join(words)
        return self._spelled(plain, plain)[0] or self._lemma(words)

    def _negated(self, term: str) -> Reading:
        return _NEGATED if self.negation == "drop" else Reading((self._mirrored(term, 1.0),))

    def _mirrored(self, term: str, share: float) -> Match:
        return Match(f"not {term}", (1.0 - self._terms[term][0], 0.5, 0.5), share, "negated")

    def _by_words(self, words: list[str]) -> Reading:
        found: list[tuple[str, bool]] = []
        negated = False
        for word in words:
            if _negates(word):
                negated = True
            elif word not in FUNCTION_WORDS:
                term = self._spelled(word, word)[0] or self._lemma([word])
                if term:
                    found.append((term, negated))
        counted = [f for f in found if not f[1] or self.negation == "reflect"]
        if not counted:
            return _NEGATED if found else _UNKNOWN
        share = 1.0 / len(counted)
        return Reading(
            tuple(
                self._mirrored(term, share) if mirrored else Match(term, self._terms[term], share, "word")
                for term, mirrored in counted
            )
        )

    @cached_property
    def _terms(self) -> Mapping[str, Scores]:
        if not self.keep:
            return self.lexicon.terms
        kept = {fold(k) for k in self.keep}
        if not self.is_careful:
            return {t: s for t, s in self.lexicon.terms.items() if t in kept}
        return {t: s for t, s in self.lexicon.terms.items() if t in kept or key(t) in self._kept}

    @cached_property
    def _forms(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Terms by normal form, by that with blanks for hyphens, and by that in one piece; the first of each counts."""
        normals: dict[str, str] = {}
        spaces: dict[str, str] = {}
        pieces: dict[str, str] = {}
        for term in self._terms:
            form = normal(term)
            if form:
                normals.setdefault(form, term)
                spaces.setdefault(spaced(form), term)
                pieces.setdefault(joined(form), term)
        return normals, spaces, pieces

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return _keys(self.exclude, self.is_careful)

    @cached_property
    def _kept(self) -> frozenset[str]:
        return frozenset(map(key, self.keep))

    @cached_property
    def _seeds(self) -> frozenset[str]:
        return frozenset(map(key, self.seeds))


def _keys(values: Iterable[str], careful: bool) -> frozenset[str]:
    return frozenset(map(fold, values)) | (frozenset(map(key, values)) if careful else frozenset())


def _negates(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")
