"""Labels of a batch of tracks: Arrow columns → rows of ``labels``, without a loop over tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import CURVE, DIMENSIONS, EVIDENCE, labels_schema
from mer_ray.labels.exclusions import title_forms
from mer_ray.labels.recipes import Reading
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import Batch, combine

MANIFEST = "manifest"
"""The value of the column ``lexicon`` for the source's own labels."""
_CURVES = pa.list_(CURVE)


@dataclass(frozen=True)
class Tags:
    """The tags of n tracks: distinct names; codes (N,) into them and weights (N,); lengths (n,) tags per track."""

    names: list[str]
    codes: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray


def encode(column: pa.ChunkedArray | pa.Array) -> Tags:
    """Encode a column of lists of (name, weight). A missing name is "", a missing weight NaN."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(lists, pa.ChunkedArray):  # without chunks
        lists = pa.array([], column.type)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = lists.flatten()
    named = pc.fill_null(pc.struct_field(flat, "name"), "").dictionary_encode()
    weights = pc.struct_field(flat, "weight").to_numpy(zero_copy_only=False).astype(np.float64)
    codes = named.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Tags(named.dictionary.to_pylist(), codes, weights, lengths)


def label(tags: Tags, matcher: Matcher, titles: pa.ChunkedArray | pa.Array | None = None) -> Batch:
    """Labels from tags. titles: of the tracks; a recipe that uses names ignores a tag that is its track's title."""
    readings: Sequence[Reading] = [matcher.read(name) for name in tags.names]
    own = own_titles(tags, readings, titles.to_pylist()) if matcher.reader.uses_names and titles is not None else None
    return combine(readings, tags.codes, tags.weights, tags.lengths, matcher.reader.moderated, own)


def own_titles(tags: Tags, readings: Sequence[Reading], titles: Sequence[str | None]) -> np.ndarray | None:
    """Mask (N,) of the tags that are the title of their own track; None if there are none."""
    codes_of: dict[str, list[int]] = {}
    for code, reading in enumerate(readings):
        if reading.as_title:
            codes_of.setdefault(reading.as_title, []).append(code)
    pairs = [
        row * len(tags.names) + code
        for row, title in enumerate(titles)
        for form in title_forms(title or "")
        for code in codes_of.get(form, ())
    ]
    if not pairs:
        return None
    owner = np.repeat(np.arange(len(tags.lengths)), tags.lengths)
    rows = np.zeros(len(tags.lengths), dtype=bool)
    rows[np.array(pairs) // len(tags.names)] = True
    own = rows[owner]
    own[own] = np.isin(owner[own] * len(tags.names) + tags.codes[own], pairs)
    return own


def label_rows(
    ids: pa.Array,
    names: Sequence[str],
    batch: Batch,
    rows: np.ndarray,
    lexicon: str,
    dimensions: Sequence[str] = DIMENSIONS,
) -> pa.Table:
    """Rows of ``labels`` from tags, which have valence, arousal and dominance: other dimensions are null.

    Args:
        ids: Of the batch's n tracks.
        names: Of its tags.
        batch: Their labels.
        rows: Mask (n,) of the tracks to write, each of which must have a label.
        lexicon: Name of the lexicon.
        dimensions: Of the table.
    """
    chosen = np.repeat(rows, batch.n_terms)
    term = batch.term[chosen]
    evidence = pa.StructArray.from_arrays(
        [
            pa.array(names, pa.string()).take(pa.array(batch.tag[chosen])),
            pa.array(batch.terms, pa.string()).take(pa.array(term)),
            pa.array(batch.weight[chosen]),
            *(pa.array(batch.scores[term, i]) for i in range(3)),
        ],
        fields=list(EVIDENCE),
    )
    n_terms = batch.n_terms[rows]
    offsets = np.concatenate([[0], np.cumsum(n_terms)]).astype(np.int32)
    vad, se = (_aligned(values[rows], DIMENSIONS, dimensions) for values in (batch.vad, batch.se))
    return pa.Table.from_arrays(
        [
            ids.filter(pa.array(rows)),
            *_nullable(vad),
            pa.ListArray.from_arrays(pa.array(offsets), evidence),
            pa.array(batch.coverage[rows]),
            pa.array(n_terms.astype(np.int32)),
            *_nullable(se),
            pa.nulls(len(n_terms), _CURVES),
            pa.repeat(lexicon, len(n_terms)),
        ],
        schema=labels_schema(dimensions),
    )


def _aligned(values: np.ndarray, own: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Columns (n, len(own)) in the order of the wanted dimensions, NaN for those that there are none of."""
    unknown = np.full(len(values), np.nan)
    return np.stack([values[:, list(own).index(d)] if d in own else unknown for d in wanted], axis=1)


def _nullable(values: np.ndarray) -> list[pa.Array]:
    """The columns of a matrix (n, D), null for NaN."""
    return [pa.array(column, pa.float64(), mask=np.isnan(column)) for column in values.T]


def ratings(own: pa.ChunkedArray | pa.Array, dimensions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A column ``ratings`` of ``tracks`` as (labels, their standard errors), each (n, D), NaN where there is none."""
    if isinstance(own, pa.ChunkedArray):
        own = own.combine_chunks()
    if isinstance(own, pa.ChunkedArray):  # without chunks
        own = pa.array([], own.type)
    owner = np.repeat(np.arange(len(own)), pc.fill_null(pc.list_value_length(own), 0).to_numpy(zero_copy_only=False))
    flat = own.flatten()
    which = pc.index_in(pc.struct_field(flat, "dimension"), value_set=pa.array(list(dimensions), pa.string()))
    known = which.is_valid().to_numpy(zero_copy_only=False)
    at = owner[known], which.filter(pa.array(known)).to_numpy(zero_copy_only=False)
    found = []
    for name in ("value", "se"):
        values = np.full((len(own), len(dimensions)), np.nan)
        values[at] = pc.struct_field(flat, name).to_numpy(zero_copy_only=False).astype(np.float64)[known]
        found.append(values)
    return found[0], found[1]


def source_rows(
    ids: pa.Array, labels: np.ndarray, errors: np.ndarray, curves: pa.Array, dimensions: Sequence[str] = DIMENSIONS
) -> pa.Table:
    """Rows of ``labels`` for n tracks with labels of the source, and their standard errors, each (n, D)."""
    n = len(ids)
    return pa.Table.from_arrays(
        [
            ids,
            *_nullable(labels),
            pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], EVIDENCE)),
            pa.nulls(n, pa.float64()),
            pa.array(np.zeros(n, np.int32)),
            *_nullable(errors),
            curves,
            pa.repeat(MANIFEST, n),
        ],
        schema=labels_schema(dimensions),
    )
