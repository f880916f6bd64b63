"""How runs were evaluated, by the settings in their ``model.json``: in which folds or split, and with which seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GROUPS, FOLDS, TEST = "groups", "folds", "test"
"""Cross-validation in folds of whole groups; in folds that the source gives; and a test set that the source gives."""
SUFFIX = {GROUPS: "", FOLDS: ".folds", TEST: ".test"}
"""Ends of the names of runs and files, as a workspace can hold runs of each."""
TITLES = {GROUPS: "Metrics", FOLDS: "Metrics in the given folds", TEST: "Metrics on the given test set"}
SHORT = {GROUPS: "", FOLDS: ", given folds", TEST: ", given test set"}
"""Added to the titles of tables."""


def of(settings: Mapping[str, Any]) -> str:
    """`GROUPS`, `FOLDS` or `TEST`."""
    split = settings.get("split", GROUPS)
    return split if split in SUFFIX else GROUPS


def seeds(settings: Mapping[str, Any], repeats: int) -> list[int]:
    """The seed of each repeat."""
    return list(settings.get("seeds") or range(settings["seed"], settings["seed"] + repeats))


def in_words(numbers: list[int]) -> str:
    """``seed 3``, ``seeds 3 to 5``, or ``seeds 0, 7 and 42``."""
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"seeds {numbers[0]} to {numbers[-1]}"
    return f"seeds {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
