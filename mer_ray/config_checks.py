"""Checks of settings that depend on each other. Each raises ValueError, which names the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,30}")
_TAKEN = re.compile(
    r"track_id|artist|title|album|composer|mbid|spotify_id|duration_s|uri|tags|ratings|curves?|dataset|split|fold|size|"
    r"mtime_ns|mtime_ms|source|fetched_at|evidence|coverage|n_matched|lexicon|sha256|decoded_share|in_distribution|"
    r"tempo|tempo_confidence|key|mode|key_confidence|loudness|true_peak|"
    r"novelty|curve_hop_s|sound|waveform|model|mood|width|name|kind|n|row|group|repeat|path|"
    r"(se|lower|upper|mean|sd|predicted)_.*|.*_percentile"
)
"""Columns of tables, which no dimension may be named like."""


def processes(workers: int, gpus: float, batch_size: int) -> None:
    """``train.workers`` with ``train.gpus_per_trial`` and ``train.batch_size``."""
    if workers > 1 and batch_size % workers:
        raise ValueError(f"train.batch_size must be a multiple of train.workers ({workers})")
    if workers == 1 and gpus > 1:
        raise ValueError(
            "train.gpus_per_trial: one process trains on one GPU at most; set it to 1, and train.workers to the "
            "number of GPUs that shall train one network"
        )
    if workers > 1 and gpus % 1:
        raise ValueError(
            "train.gpus_per_trial: with train.workers it is 0 or whole, as NCCL joins no two processes on one GPU"
        )


def seeds(values: dict[str, Any]) -> dict[str, Any]:
    """``train`` with the ``seed`` and ``repeats`` that follow from its ``seeds``, where it has any."""
    listed = values.get("seeds")
    if not isinstance(listed, list) or not listed:
        return values  # absent, or of another type, which its field refuses
    if len(set(map(str, listed))) < len(listed):
        raise ValueError("seeds must be different numbers")
    follows = {"seed": listed[0], "repeats": len(listed)}
    for name, value in follows.items():
        if values.get(name, value) != value:
            raise ValueError(f"seeds {listed} and {name} {values[name]} contradict each other: leave {name} out")
    return {**values, **follows}


def input_lists(value: Any) -> Any:
    """Accept ``mfcc,logmel+chroma``, and names in place of lists of one, as lists of names."""
    items = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, list):
        return items
    return [[name.strip() for name in item.split("+")] if isinstance(item, str) else item for item in items]


def inputs(lists: Sequence[Sequence[str]] | None, extracted: Sequence[str], known: Sequence[str]) -> None:
    """``train.inputs`` with ``extract.features``, of which they are. known: every feature that has a name."""
    if lists is None:
        return
    if not lists:
        raise ValueError("train.inputs: name at least one feature, or leave it out")
    for names in lists:
        if not names:
            raise ValueError("train.inputs: a list is empty; name the features that a model reads together")
        for name in names:
            if name not in known:
                raise ValueError(f"train.inputs: unknown feature {name!r}; known: {', '.join(known)}")
            if name not in extracted:
                raise ValueError(
                    f"train.inputs: {name} is not extracted; extract.features has {', '.join(extracted)}: add it there"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"train.inputs: {'+'.join(names)} names a feature twice")
    together = [frozenset(names) for names in lists]
    if twice := next((names for names in lists if together.count(frozenset(names)) > 1), None):
        raise ValueError(f"train.inputs: {'+'.join(twice)} is listed twice")


def dimensions(names: list[str]) -> list[str]:
    """``collect.dimensions``, which become columns."""
    if not names or len(set(names)) < len(names):
        raise ValueError("dimensions must name at least one dimension, each once")
    for name in names:
        if not is_dimension(name):
            raise ValueError(
                f"dimensions: {name!r} cannot be the name of a column: use lower-case letters, as in tension"
            )
    return names


def is_dimension(name: str) -> bool:
    """Whether a dimension may have this name: it becomes part of columns, and must be none of the others."""
    return bool(_DIMENSION.fullmatch(name)) and not _TAKEN.fullmatch(name)
