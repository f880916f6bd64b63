"""Why a track has no label: the reason and the message of its row in ``failures``."""

from __future__ import annotations

from typing import Any, NamedTuple

from mer_ray.io.schemas import DIMENSIONS


class Criteria(NamedTuple):
    """The settings of ``label`` that decide. lexicon: its name; None where no label is made from tags."""

    source: str
    min_terms: int
    min_coverage: float
    lexicon: str | None


def reason(track: dict[str, Any], n_terms: int, coverage: float, criteria: Criteria) -> tuple[str, str]:
    """(a reason that `io.advice` knows, a message).

    Args:
        track: Its artist, title, tags and the source's own label.
        n_terms: Terms of the lexicon among its tags.
        coverage: Weight of these tags in the weight of all, 0..1.
        criteria: What a label needs.
    """
    name, own, lexicon = f"{track['artist']} – {track['title']}", track["given"], criteria.lexicon
    if own is not None and criteria.source != "tags":
        has, lacks = ([d for d in DIMENSIONS if (own[d] is None) is absent] for absent in (False, True))
        made = " and none can be made from its tags" if lexicon is not None else ""
        why = f"the manifest labels its {' and '.join(has)}, not its {' and '.join(lacks)}"
        return "partial_label", f"{name}: {why}{made} (label.source is {criteria.source}); training needs all three"
    if lexicon is None:
        return "no_label", f"{name}: the manifest brings no label for it, and label.source is {criteria.source}"
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
