"""Why a track has no label: the reason and the message of its row in ``failures``."""

from __future__ import annotations

from typing import Any, NamedTuple

from mer_ray.io.schemas import DIMENSIONS


class Criteria(NamedTuple):
    """The settings that decide. lexicon: its name; None where no label is made from tags. dimensions: of labels."""

    source: str
    min_terms: int
    min_coverage: float
    lexicon: str | None
    dimensions: tuple[str, ...] = DIMENSIONS


def reason(track: dict[str, Any], n_terms: int, coverage: float, criteria: Criteria) -> tuple[str, str]:
    """(a reason that `io.advice` knows, a message).

    Args:
        track: Its artist, title and tags.
        n_terms: Terms of the lexicon among its tags.
        coverage: Weight of these tags in the weight of all, 0..1.
        criteria: What a label needs.
    """
    name, lexicon = f"{track['artist']} – {track['title']}", criteria.lexicon
    if lexicon is None:
        wanted = ", ".join(criteria.dimensions)
        return "no_label", f"{name}: its source brings no label ({wanted}), and label.source is {criteria.source}"
    if not track["tags"]:
        return "no_tags", f"{name}: it has no tags"
    tags = ", ".join(str(t["name"]) for t in track["tags"][:8])
    if not n_terms:
        return "no_known_tag", f"{name}: none of its {len(track['tags'])} tags is in {lexicon}: {tags}"
    if n_terms < criteria.min_terms:
        return "too_few_terms", f"{name}: {n_terms} terms, label.min_terms is {criteria.min_terms}: {tags}"
    return (
        "low_coverage",
        f"{name}: coverage {coverage:.3f}, label.min_coverage is {criteria.min_coverage:g}: {tags}",
    )
