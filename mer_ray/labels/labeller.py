"""Labels a batch of tracks, from their tags or with the source's own labels; what gets none is a failure.

A track that the source labels keeps that label as it is, even if it lacks a dimension: valence and arousal that people
rated are not mixed with a dominance from tags, which is on another footing and has other errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.io.schemas import labels_schema
from mer_ray.io.tables import failure
from mer_ray.labels import columns, unlabelled
from mer_ray.labels.terms import Matcher
from mer_ray.labels.unlabelled import Criteria

COLUMNS = ("track_id", "artist", "title", "tags", "ratings", "curves")
"""Columns of ``tracks`` that are needed."""


@dataclass
class Outcome:
    """Rows of ``labels`` and ``failures``; how many labels are the source's own; the tags that were read."""

    labels: pa.Table
    failures: list[dict[str, Any]] = field(default_factory=list)
    own: int = 0
    tags: columns.Tags | None = None


def label(
    tracks: pa.Table, todo: np.ndarray, attempts: np.ndarray, matcher: Matcher | None, criteria: Criteria
) -> Outcome:
    """Label the tracks that need it.

    Args:
        tracks: Rows of ``tracks`` with `COLUMNS`.
        todo: Mask (n,) of those that need a label; the tags of the others are read as well, for `Outcome.tags`.
        attempts: (n,), how often each has failed before.
        matcher: Reads tags; None where no label is made from them.
        criteria: What a label needs, and its dimensions.
    """
    dimensions = criteria.dimensions
    own, errors = columns.ratings(tracks["ratings"], dimensions)
    labelled = ~np.isnan(own).all(axis=1) & (criteria.source != "tags")
    out = Outcome(labels_schema(dimensions).empty_table())
    if (chosen := labelled & todo).any():
        ids, curves = (_array(tracks[name].filter(pa.array(chosen))) for name in ("track_id", "curves"))
        out.labels = columns.source_rows(ids, own[chosen], errors[chosen], curves, dimensions)
        out.own = len(ids)
    tagged, todo, attempts = tracks.filter(pa.array(~labelled)), todo[~labelled], attempts[~labelled]
    n_terms, coverage = np.zeros(len(tagged), int), np.zeros(len(tagged))
    if matcher is not None:
        out.tags = columns.encode(tagged["tags"])
    if matcher is not None and out.tags is not None and todo.any():
        batch = columns.label(out.tags, matcher, tagged["title"] if matcher.reader.uses_names else None)
        n_terms, coverage = batch.n_terms, batch.coverage
        good = todo & (n_terms > 0) & (n_terms >= criteria.min_terms) & (coverage >= criteria.min_coverage)
        ids, names = _array(tagged["track_id"]), out.tags.names
        made = columns.label_rows(ids, names, batch, good, matcher.lexicon.name, dimensions)
        out.labels, todo = pa.concat_tables([out.labels, made]), todo & ~good
    for i, track in zip(np.flatnonzero(todo), tagged.filter(pa.array(todo)).to_pylist(), strict=True):
        reason, message = unlabelled.reason(track, int(n_terms[i]), float(coverage[i]), criteria)
        out.failures.append(failure("label", track["track_id"], reason, message, attempts=int(attempts[i]) + 1))
    return out


def _array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        return whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    return whole
