"""Labels of a batch of tracks: Arrow columns → rows of ``labels``, without a loop over tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import DIMENSIONS, EVIDENCE, SCHEMAS
from mer_ray.labels.exclusions import title_forms
from mer_ray.labels.recipes import Reading
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import Batch, combine

MANIFEST = "manifest"
"""The value of the column ``lexicon`` for the source's own labels."""
_SCHEMA = SCHEMAS["labels"]


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


def label_rows(ids: pa.Array, names: Sequence[str], batch: Batch, rows: np.ndarray, lexicon: str) -> pa.Table:
    """Rows of ``labels``: ids of the batch's n tracks, names of its tags, and a mask (n,) of the tracks to write.

    Each of those must have a label.
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
    vad, se = batch.vad[rows], batch.se[rows]
    return pa.Table.from_arrays(
        [
            ids.filter(pa.array(rows)),
            *(pa.array(vad[:, i]) for i in range(3)),
            pa.ListArray.from_arrays(pa.array(offsets), evidence),
            pa.array(batch.coverage[rows]),
            pa.array(n_terms.astype(np.int32)),
            *(pa.array(se[:, i], mask=np.isnan(se[:, i])) for i in range(3)),
            pa.repeat(lexicon, len(n_terms)),
        ],
        schema=_SCHEMA,
    )


def completeness(own: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n,) of the tracks with a complete label of the source, and of those with a partial one."""
    if isinstance(own, pa.ChunkedArray):
        own = own.combine_chunks()
    n_values = np.zeros(len(own), dtype=np.int64)
    for d in DIMENSIONS:
        value = pc.struct_field(own, d)  # null where the struct is null
        n_values += pc.is_valid(value).to_numpy(zero_copy_only=False)
    return n_values == len(DIMENSIONS), (n_values > 0) & (n_values < len(DIMENSIONS))


def source_rows(ids: pa.Array, own: pa.Array) -> pa.Table:
    """Rows of ``labels`` for tracks with a label of the source."""
    n = len(ids)
    unknown = pa.nulls(n, pa.float64())
    return pa.Table.from_arrays(
        [
            ids,
            *(pc.struct_field(own, d) for d in DIMENSIONS),
            pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], EVIDENCE)),
            unknown,
            pa.array(np.zeros(n, np.int32)),
            *(unknown for _ in DIMENSIONS),
            pa.repeat(MANIFEST, n),
        ],
        schema=_SCHEMA,
    )
