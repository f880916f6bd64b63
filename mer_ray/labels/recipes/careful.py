"""The recipe ``careful``: a tag's terms come from the first of these steps that finds any.

1. fold: Unicode NFKC, case folding, curly apostrophes and dashes made plain, separators (``_ / + . &`` ...) made
   blanks.
2. ignore tags that are not about the music: listed tags (``label.exclude``), the tags that the catalogue was collected
   by, habits of listeners (seen live, favourites), years and decades, names of the catalogue's artists, albums and
   films, and the track's own title. A name that is a word of mood (an artist called Calm) still counts.
   Ignored tags count neither in the label nor in its coverage. What ``label.keep`` lists is ignored only by
   ``label.exclude``.
3. exact phrase: "a cappella", and "not good" where the lexicon has that phrase.
4. hyphen and space variants: feel-good, feel good and feelgood are the same. An article or a "not" is not joined
   with the next word ("a live" is not alive).
5. negation: after not, non, no, never, without, un or a word in n't, a term is never matched as itself. By default
   it counts as an unknown tag; with ``label.negation: reflect`` as "not TERM". "unhappy" is a word of its own.
6. lemma: of a single word and of a phrase's last word (simplemma's table for English): happier → happy,
   love songs → love song.
7. words of a phrase, only with ``label.words``: the tag's weight is divided equally among the words that are found.

"not TERM" has the valence of the term mirrored about 0.5 (the classic "switch" negation; Taboada et al. 2011,
Computational Linguistics 37, 267-307, section 2.4, discuss it and its alternatives), and the unknown arousal and
dominance are 0.5. That is a convention, not a measurement.
"""

from __future__ import annotations

from functools import cached_property

from mer_ray.labels.exclusions import habits, is_mood, key
from mer_ray.labels.lexicon import fold
from mer_ray.labels.recipes import UNKNOWN, BaseRecipe, Match, Reading, Settings, left_out
from mer_ray.labels.spelling import FUNCTION_WORDS, is_time, joined, lemma, normal, spaced

_PREFIXES = {"un", "non", "anti"}  # of words: un-happy is the lexicon's unhappy
_NEGATIONS = {"not", "no", "never", "without", "nt", "cannot", "dont", "isnt", "aint", "cant"} | _PREFIXES
_NEGATED = Reading(why="negated")


class Recipe(BaseRecipe):
    """The steps above, one method each."""

    options = frozenset({"words", "negation"})
    uses_names = True
    moderated = True

    def __init__(self, settings: Settings) -> None:
        self._listed_keys = frozenset(map(key, settings.keep))
        self._seeds = frozenset(map(key, settings.seeds))
        super().__init__(settings)
        self.excluded |= frozenset(map(key, settings.exclude))

    def is_listed(self, term: str) -> bool:
        """See `BaseRecipe.is_listed`; in any spelling."""
        return term in self.listed or key(term) in self._listed_keys

    def find(self, tag: str) -> Reading:
        form = normal(tag)
        plain = spaced(form)
        why = self._why_out(plain)
        if why:
            return left_out(why)
        found = self._find(tag, form, plain)
        return found if plain in self._listed_keys or is_mood(plain) else Reading(found.matches, found.why, True, plain)

    def _why_out(self, plain: str) -> str:
        if plain in self.excluded:
            return "listed"
        if plain in self._listed_keys:
            return ""
        if plain in self._seeds:
            return "the tag of the harvest"
        if plain in habits():
            return "habit or praise"
        if is_time(plain):
            return "time"
        return "a name" if plain in self.settings.names else ""

    def _find(self, tag: str, form: str, plain: str) -> Reading:
        if fold(tag) in self.terms:
            return Reading((self.match(fold(tag), "exact"),))
        if not form:
            return UNKNOWN
        term, how = self._spelled(form, plain)
        if term:
            return Reading((self.match(term, how),))
        words = plain.split()
        if _negates(words[0]) and len(words) > 1:
            inner = self._inner(words[1:])
            if inner:
                return self._negated(inner)
        else:
            term = self._lemma(words)
            if term:
                return Reading((self.match(term, "lemma"),))
        return self._by_words(words) if self.settings.words and len(words) > 1 else UNKNOWN

    def _spelled(self, form: str, plain: str) -> tuple[str, str]:
        """The term that differs only in blanks, hyphens, apostrophes and accents, or ""."""
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
        """The term after a negation."""
        while len(words) > 1 and words[0] in FUNCTION_WORDS:  # not so sad, not very sad
            words = words[1:]
        if _negates(words[0]):
            return ""
        plain = " ".join(words)
        return self._spelled(plain, plain)[0] or self._lemma(words)

    def _negated(self, term: str) -> Reading:
        return _NEGATED if self.settings.negation == "drop" else Reading((self._mirrored(term, 1.0),))

    def _mirrored(self, term: str, share: float) -> Match:
        return Match(f"not {term}", (1.0 - self.terms[term][0], 0.5, 0.5), share, "negated")

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
        counted = [f for f in found if not f[1] or self.settings.negation == "reflect"]
        if not counted:
            return _NEGATED if found else UNKNOWN
        share = 1.0 / len(counted)
        return Reading(
            tuple(
                self._mirrored(term, share) if mirrored else self.match(term, "word", share)
                for term, mirrored in counted
            )
        )

    @cached_property
    def _forms(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Terms by normal form, by `spelling.spaced` and by `spelling.joined` form; the first of each counts."""
        normals: dict[str, str] = {}
        spaces: dict[str, str] = {}
        pieces: dict[str, str] = {}
        for term in self.terms:
            form = normal(term)
            if form:
                normals.setdefault(form, term)
                spaces.setdefault(spaced(form), term)
                pieces.setdefault(joined(form), term)
        return normals, spaces, pieces


def _negates(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")
