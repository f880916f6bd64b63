"""Reads settings, a YAML file and ``a.b=value`` assignments, as nested dicts; errors become sentences.

Relative paths in a file start at the file's folder.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from mer_ray.errors import ConfigError

_PATHS = (
    "collect.folder",
    "label.lexicon",
    "acquire.folder",
    "extract.vggish.weights",
    "extract.musicnn.weights",
    "extract.hub.*.handle",
    "extract.precomputed.*.path",
    "extract.brought.*.path",
    "score.model",
)
"""Settings that are paths of inputs; ``*`` stands for a user's name."""
_SEVERAL = ("collect.manifest", "collect.curves")
"""Settings that are a path or several, also with commas between them."""
_LISTS = ("label.exclude", "label.keep")
"""Settings in which ``@FILE`` names a list."""
_WORDS = {
    "label.lexicon": ("demo",),
    "extract.vggish.weights": ("auto", "random"),
    "extract.musicnn.weights": ("auto",),
    "score.model": ("light", "default"),
}
"""Values that are not paths."""


def read(file: str | Path | None, assignments: Sequence[str]) -> dict[str, Any]:
    """The settings of YAML files, later ones over earlier ones, with the assignments on top.

    file: several, as ``-c`` gives them, are joined by ``os.pathsep``.

    Raises:
        ConfigError: With the file or the assignment.
    """
    values: dict[str, Any] = {}
    for path in [] if file is None else [file] if Path(file).exists() else str(file).split(os.pathsep):
        own = _read(Path(path))
        _anchor(own, Path(path).expanduser().parent)
        _merge(values, own)
    for assignment in assignments:
        _assign(values, assignment)
    return values


def _merge(values: dict[str, Any], own: dict[str, Any]) -> None:
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"config file {file} does not exist", "give -c an existing YAML file, as in configs/"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"config file {file} cannot be read ({' '.join(str(error).split())})") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {file} must hold keys and values, as in configs/demo.yaml")
    return values


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {assignment!r} is not of the form key=value", "for example --set train.folds=10")
    try:
        # YAML reserves @, which here begins the name of a file with a list.
        value = text.strip() if text.strip().startswith("@") else yaml.safe_load(text) if text.strip() else None
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment!r}: the value is not valid YAML") from error
    for part in parts[:-1]:
        inner = values.setdefault(part, {})
        if inner is None:
            inner = values[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {assignment!r}: {part} is not a section")
        values = inner
    values[parts[-1]] = value


def explain(error: dict[str, Any], model: type[BaseModel]) -> str:
    """One of pydantic's errors as a sentence with the key, and for an unknown key similar ones."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys_at([str(p) for p in error["loc"][:-1]], model)
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key}: {advice}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return (
        f"{key}: {message} (got {error['input']!r})"
        if not isinstance(error["input"], dict | BaseModel)
        else f"{key}: {message}".removeprefix(": ")  # of all settings together
    )


def _keys_at(path: list[str], model: Any) -> list[str]:
    for part in path:
        if isinstance(model, dict):  # of sections under the user's names
            model = model[""]
            continue
        known_as = {name: info for info in model.model_fields.values() for name in _older_names(info)}
        info = {**known_as, **model.model_fields}.get(part)
        kinds = [info.annotation, *get_args(info.annotation)] if info is not None else []
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not sections:
            return []
        model = {"": sections[0]} if get_origin(kinds[0]) is dict else sections[0]
    return [] if isinstance(model, dict) else list(model.model_fields)


def _older_names(info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else []


def _anchor(values: dict[str, Any], folder: Path) -> None:
    """Make a file's relative paths start at its folder. Addresses and ``~`` are unchanged."""

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

    def paths(text: str) -> str:
        return path(text) if (folder / text).is_file() else ",".join(path(part.strip()) for part in text.split(","))

    for setting in _SEVERAL:
        _change(values, setting.split("."), paths)
    for setting in _LISTS:
        _change(values, setting.split("."), items)


def _change(values: Any, keys: list[str], change: Callable[[str], str]) -> None:
    if not isinstance(values, dict):
        return  # reported when the settings are validated
    first, *rest = keys
    for key in list(values) if first == "*" else [first] if first in values else []:
        value = values[key]
        if rest:
            _change(value, rest, change)
        elif isinstance(value, str):
            values[key] = change(value)
        elif isinstance(value, list):
            values[key] = [change(entry) if isinstance(entry, str) else entry for entry in value]


def names(value: Any) -> Any:
    """Accept ``a,b`` and ``a`` as lists."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def check_names(kind: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    """Raise ValueError where a list of names is empty, has one twice, or an unknown one. kind: for the message."""
    if not names:
        raise ValueError(f"name at least one {kind} of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {kind} is named twice")
