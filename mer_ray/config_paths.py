"""Relative paths in a settings file: they start at the folder that the file is in, wherever a command is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_PATHS = (
    "collect.manifest",
    "collect.folder",
    "label.lexicon",
    "acquire.folder",
    "extract.vggish.weights",
    "extract.hub.*.handle",
    "extract.precomputed.*.path",
    "extract.brought.*.path",
    "score.model",
)
"""The settings that name what is read; ``*`` stands for a name that the user chose."""
_LISTS = ("label.exclude", "label.keep")
"""The settings in which ``@FILE`` names a list."""
_WORDS = {"label.lexicon": ("demo",), "extract.vggish.weights": ("auto", "random")}
"""Values that are no paths."""


def anchor(values: dict[str, Any], folder: Path) -> None:
    """Let the paths among the settings that a file holds start at its folder. Addresses and ``~`` stay as they are."""

    def path(text: str) -> str:
        is_free = not text.strip() or "://" in text or text.startswith("~") or Path(text).is_absolute()
        return text if is_free else str(folder / text)

    def item(text: str) -> str:
        bare = text.strip()
        return f"@{path(bare[1:])}" if bare.startswith("@") and len(bare) > 1 else text

    def items(text: str) -> str:
        return ",".join(item(part) for part in text.split(","))

    for setting in _PATHS:
        words = _WORDS.get(setting, ())
        _change(values, setting.split("."), lambda text, words=words: text if text in words else path(text))  # type: ignore[misc]
    for setting in _LISTS:
        _change(values, setting.split("."), items)


def _change(values: Any, keys: list[str], change: Callable[[str], str]) -> None:
    if not isinstance(values, dict):
        return  # it is told when the settings are checked
    first, *rest = keys
    for key in list(values) if first == "*" else [first] if first in values else []:
        value = values[key]
        if rest:
            _change(value, rest, change)
        elif isinstance(value, str):
            values[key] = change(value)
        elif isinstance(value, list):
            values[key] = [change(entry) if isinstance(entry, str) else entry for entry in value]
