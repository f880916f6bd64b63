"""The tags of a manifest's row: text with separators, a list, an object or dict column, or one of them as JSON text.

A written weight is read, or the row is refused; a tag has weight 1 only without a written weight.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mer_ray.errors import TrackError
from mer_ray.io.delimited import number
from mer_ray.io.identity import one_line

Tags = tuple[tuple[str, float], ...]

_SEPARATORS = (";", "\n", "|", ",")
"""The first one in a cell separates its tags; the others are parts of names. A slash separates if there is none."""
_WIDE = str.maketrans("：；，、＝（）", ":;,,=()")
_NAMES = ("name", "tag", "label", "term", "word", "text", "#text")
_WEIGHTS = ("weight", "count", "score", "value", "votes", "frequency", "freq", "percent")
_PLAIN = r"[+-]?(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?"
_NUMBER = rf"(?P<weight>{_PLAIN})\s*%?"
_MARKED = re.compile(rf"(?P<name>.*\S)\s*[:=]\s*{_NUMBER}", re.DOTALL)
_BRACKETED = re.compile(
    rf"(?P<name>.*\S)\s*(?:\(\s*{_NUMBER}\s*\)|\[\s*{_NUMBER.replace('weight', 'w2')}\s*\])", re.DOTALL
)
_NOT_UNDERSTOOD = re.compile(
    rf"{_PLAIN}\s*[:=]\s*\D.*"  # 80:sad
    r"|.*\S\s*=\s*\S+"  # sad=high
    rf"|.*\w\s*:\s*(?:[-+]?(?:nan|inf(?:inity)?)|na|n/a|null|none|)"  # sad:nan, sad:
    rf"|.*\S\s*:\s*[+-]?[\d.,]+\S*"  # sad:1.000,5, sad:80pts
    rf"|.*\D\s*[|,]\s*{_PLAIN}|.*\S\s+{_PLAIN}\s*%"  # sad|80, sad 80%
    rf"|.*\S\s*(?:->|=>|[×*^~@])\s*{_PLAIN}"  # sad*80
    rf"|.*\S\s+-\s+{_PLAIN}"  # sad - 80
    rf"|\(\s*{_PLAIN}\s*\)\s*\S.*",  # (80) sad
    re.DOTALL | re.IGNORECASE,
)
_IN_THE_MIDDLE = re.compile(rf"[^\d\s]\s*[:=]\s*{_PLAIN}\s+[^\s%]")  # sad:80 calm:20
_BARE = re.compile(rf".*\D\s*[-\s]\s*{_PLAIN}\s*%?|.*[^\W\d]\d+|{_PLAIN}\s+\D.*", re.DOTALL)  # sad 80, 80 sad
_SPLIT_NUMBER = re.compile(r"(?:[:=(\[]\s*)\d+,\d+(?![\w,])")
_IS_WEIGHT = "is that a weight? Write name:weight"
_NONE = ("NA", "N/A", "#N/A", "nan", "NaN", "null", "NULL", "None", "-")
"""Cells without tags, as R and pandas write them."""
_MAX_CELL, _MAX_TAG = 1_000_000, 1_000  # characters


def parse(value: Any) -> Tags:
    """(name, weight) pairs from a cell, without tags of weight 0, which Last.fm gives to the rarest.

    Text: ``sad; slow``, ``sad:80, slow:20``, ``sad=80 | slow=20``, ``sad (80) / slow (20)``, or JSON or a Python list.
    A colon belongs to the name unless a number follows it. Else: a list of names, of (name, weight) or of objects
    (``{"name": "sad", "count": 80}``), or one object of weights by name, in which an absent tag is null or false.
    Raises TrackError (``bad_tags``) for a weight that is negative or not understood.
    """
    return tuple((name, weight) for name, weight in _any(value) if weight > 0 and name)


def separator(text: str) -> str:
    """The separator of the tags in a cell of text: ``; | , /`` or a line end; "" where there is one tag, or JSON."""
    text = text.translate(_WIDE).strip()
    if text[:1] in ("[", "{"):
        return ""
    for mark in _SEPARATORS:
        if mark in text.strip(mark):
            return mark
    parts = text.split("/")
    if len(parts) > 1 and (" / " in text or all(_MARKED.fullmatch(p) or _BRACKETED.fullmatch(p) for p in parts)):
        return "/"
    return ""


def _any(value: Any) -> list[tuple[str, float]]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        if all(isinstance(item, str) for item in items):
            return _texts(items)
        return [tag for item in items for tag in _item(item)]
    raise TrackError("bad_tags", f"tags must be text, a list or an object, got {_shown(value)}")


def _text(cell: str) -> list[tuple[str, float]]:
    text = cell.translate(_WIDE).strip()
    if text in _NONE:
        return []
    if text[:1] in ("[", "{") or text[:2] in ("('", '("', "(("):
        return _any(_literal(text))
    if text.startswith(("Counter(", "OrderedDict(", "defaultdict(", "array(", "Index(", "dict(")):
        raise TrackError("bad_tags", f"{_shown(text)} is Python's notation: write JSON, or name:weight; name:weight")
    mark = separator(text)
    if mark == "," and _SPLIT_NUMBER.search(text):
        raise TrackError("bad_tags", f"a comma in {_shown(text)} could be a decimal one: separate the tags by ;")
    return _texts(text.split(mark) if mark else [text.strip("".join(_SEPARATORS))])


def _texts(parts: Iterable[str]) -> list[tuple[str, float]]:
    """Tags from texts of one cell: brackets contain weights if they do so in all of them, else a year for example."""
    parts = [" ".join(part.split()) for part in parts if part.strip()]
    if any(len(part) > _MAX_TAG for part in parts):
        raise TrackError("bad_tags", f"a tag of over {_MAX_TAG:,} characters: are the tags separated by ; or commas?")
    marked = [bool(_MARKED.fullmatch(part)) for part in parts]
    bracketed = [bool(_BRACKETED.fullmatch(part)) for part in parts]
    if any(bracketed) and not all(m or b for m, b in zip(marked, bracketed, strict=True)):
        raise TrackError("bad_tags", f"{_shown(parts[bracketed.index(True)])}: {_IS_WEIGHT}: some tags have none")
    if len(parts) > 1 and not any(marked) and all(_BARE.fullmatch(part) for part in parts):
        raise TrackError("bad_tags", f"{_shown(parts[0])}: {_IS_WEIGHT}: all tags have a number")
    return [_one(part) for part in parts]


def _one(text: str) -> tuple[str, float]:
    found = _MARKED.fullmatch(text) or _BRACKETED.fullmatch(text)
    if found and not _IN_THE_MIDDLE.search(text):
        groups = found.groupdict()
        written = groups["weight"] or groups.get("w2") or ""
        return _unquoted(found["name"]), _weight(written, text)
    if _NOT_UNDERSTOOD.fullmatch(text) or _IN_THE_MIDDLE.search(text):
        raise TrackError("bad_tags", f"the weight of {_shown(text)} is not understood: write name:weight, as in sad:80")
    return _unquoted(text), 1.0


def _unquoted(name: str) -> str:
    bare = name.strip()
    return bare[1:-1].strip() if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "\"'" else bare


def _literal(text: str) -> Any:
    """A list or object in a cell, in JSON or as Python or NumPy print it."""
    if len(text) > _MAX_CELL:
        raise TrackError("bad_tags", f"a cell of {len(text):,} characters is too long for tags")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:  # NumPy prints no commas, without which Python would join the names to one
        return ast.literal_eval(re.sub(r"""(?<=['"])\s+(?=['"])""", ", ", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise TrackError("bad_tags", f"{_shown(text)} looks like a list, and is neither JSON nor Python") from error


def _mapping(value: Mapping[Any, Any]) -> list[tuple[str, float]]:
    folded = {str(k).casefold(): v for k, v in value.items()}
    for wrapper in ("toptags", "tags", "tag"):  # as Last.fm nests them
        if isinstance(folded.get(wrapper), list | tuple | Mapping) and wrapper in folded:
            return _any(folded[wrapper])
    if any(isinstance(folded.get(k), str) and not _is_number(folded[k]) for k in _NAMES):
        return _item(value)
    found = []
    for name, weight in value.items():
        if weight is None or weight is False or (isinstance(weight, float) and math.isnan(weight)):
            continue  # in a struct, an absent tag
        found.append((str(name).strip(), 1.0 if weight is True else _weight(weight, f"{name}: {weight}")))
    return found


def _item(item: Any) -> list[tuple[str, float]]:
    if isinstance(item, str):
        return _texts([item])
    if isinstance(item, Mapping):
        return [_object(item)]
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str):
        return [(item[0].strip(), _weight(item[1], str(item)))]
    raise TrackError("bad_tags", f"a tag must be a name, or a name and a weight, got {_shown(item)}")


def _object(item: Mapping[Any, Any]) -> tuple[str, float]:
    folded = {str(k).casefold(): v for k, v in item.items()}
    name = next((folded[k] for k in _NAMES if isinstance(folded.get(k), str)), None)
    if name is None:
        raise TrackError("bad_tags", f"a tag must have a name, got {_shown(item)}")
    written = {k: folded[k] for k in _WEIGHTS if folded.get(k) is not None}
    if not written:
        others = {k: v for k, v in folded.items() if k not in _NAMES and _is_number(v)}
        if others:
            raise TrackError(
                "bad_tags", f"which of its numbers is the weight of {_shown(item)}? Call it weight, count or score"
            )
        return name.strip(), 1.0
    weights = {_weight(v, str(dict(item))) for v in written.values()}
    if len(weights) > 1:
        raise TrackError("bad_tags", f"{_shown(item)} has two weights: {' and '.join(written)}")
    return name.strip(), weights.pop()


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            number(value)
        except ValueError:
            return False
        return True
    return value is not None and not isinstance(value, bool) and not isinstance(value, list | tuple | Mapping)


def _weight(value: Any, shown: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        weight = number(value.strip().removesuffix("%"), thousands=True) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TrackError("bad_tags", f"the weight of {_shown(shown)} is not understood: a number is wanted") from error
    if not (math.isfinite(weight) and weight >= 0):
        raise TrackError("bad_tags", f"the weight of {_shown(shown)} must be 0 or more")
    return weight


def _shown(value: Any) -> str:
    return one_line(value if isinstance(value, str) else repr(value), 80)
