"""The recipe of the original study: a tag, case-folded and with single blanks, is a term or it is not."""

from __future__ import annotations

from mer_ray.labels.lexicon import fold
from mer_ray.labels.recipes import UNKNOWN, BaseRecipe, Reading


class Recipe(BaseRecipe):
    """Exact matches."""

    def find(self, tag: str) -> Reading:
        """See `BaseRecipe`."""
        term = fold(tag)
        return Reading((self.match(term, "exact"),)) if term in self.terms else UNKNOWN
