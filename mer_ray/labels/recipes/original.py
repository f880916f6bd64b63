"""The recipe of the original study: a tag, case-folded and with single blanks, is a term or it is not."""

from __future__ import annotations

from mer_ray.labels.lexicon import fold
from mer_ray.labels.recipes import UNKNOWN, BaseRecipe, Reading, left_out


class Recipe(BaseRecipe):
    """Exact matches."""

    def read(self, tag: str) -> Reading:
        """See `BaseRecipe`."""
        term = fold(tag)
        if term in self.excluded:
            return left_out("listed")
        return Reading((self.match(term, "exact"),)) if term in self.terms else UNKNOWN
