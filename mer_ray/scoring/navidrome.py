"""A condition as a smart playlist for Navidrome (``.nsp``): rules, which its server applies to its own library.

Its rules compare its own fields, and tags of the files that its settings (``Tags``, 0.55 and later) name. So only
comparisons of a dimension or the mood translate, with the tags of these names; percentiles, intervals and arithmetic do
not. Of the operators, all versions know ``is``, ``gt`` and ``lt`` for tags (github.com/navidrome/navidrome,
model/criteria): ``>=`` is ``gt`` or ``is``.

Tags are text in its database (SQLite). Later versions cast those of type ``float``; 0.55 does not, and there every text
is greater than every number (issue 4055). So a rule's value is text as well, with as many decimals as the tags have:
between 0 and 1, such texts are in the order of their numbers, and beside a cast SQLite compares the numbers.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring.sql import mask, syntax_tree
from mer_ray.scoring.tagging.fields import DECIMALS, number

Rule = dict[str, Any]
_OPERATORS = {
    "COMPARE_LESSTHAN": ("lt",),
    "COMPARE_GREATERTHAN": ("gt",),
    "COMPARE_EQUAL": ("is",),
    "COMPARE_LESSTHANOREQUALTO": ("lt", "is"),
    "COMPARE_GREATERTHANOREQUALTO": ("gt", "is"),
}
_TURNED = {"lt": "gt", "gt": "lt", "is": "is"}
_JOINED = {"CONJUNCTION_AND": "all", "CONJUNCTION_OR": "any"}


def smart_playlist(table: pa.Table, name: str, where: str | None, sort: str | None, limit: int | None) -> str:
    """The text of the file. Raises InputError for a condition or order that is no rule of Navidrome's.

    table: scores, whose dimensions the condition may name.
    """
    if where is None:
        raise InputError("a .nsp file holds rules", "give --where")
    where = "".join(c if c.isprintable() else " " for c in where)  # as `mask` reads it
    mask(where, table)  # before anything else, refuse what is no condition
    fields = (*dimensions_of(table.schema, "scores"), *(["mood"] if "mood" in table.column_names else []))
    rule = _rule(syntax_tree(f"SELECT (\n{where}\n)")["statements"][0]["node"]["select_list"][0], fields)
    rule = rule if {"all", "any"} & set(rule) else {"all": [rule]}
    order: Rule = {}
    if sort is not None:
        key = sort.strip().removeprefix("-").strip().casefold()
        if key not in fields:
            raise _refused(f"--sort {one_line(sort, 40)}", fields)
        order = {"sort": key, "order": "desc" if sort.strip().startswith("-") else "asc"}
    whole = {"name": name, "comment": one_line(where), **rule, **order, **({"limit": limit} if limit else {})}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def as_tagged(table: pa.Table) -> pa.Table:
    """Scores with the dimensions rounded as in the files' tags, which is what the rules compare."""
    for d in dimensions_of(table.schema, "scores"):
        values = np.asarray(table[d].to_numpy(zero_copy_only=False), float)
        rounded = pa.array([float(number(value)) for value in values])
        table = table.set_column(table.column_names.index(d), d, rounded)
    return table


def _rule(node: Rule, fields: tuple[str, ...]) -> Rule:
    kind = node["type"]
    if kind in _JOINED:
        return {_JOINED[kind]: [_rule(child, fields) for child in node["children"]]}
    if kind == "COMPARE_BETWEEN":
        ends = (("gt", node["lower"]), ("lt", node["upper"]))
        return {"all": [_compared((sign, "is"), node["input"], end, fields) for sign, end in ends]}
    if kind == "COMPARE_IN":
        column, *constants = node["children"]
        return {"any": [_compared(("is",), column, constant, fields) for constant in constants]}
    if kind not in _OPERATORS:
        raise _refused(f"{kind.lower().replace('_', ' ')} in the condition", fields)
    left, right, signs = node["left"], node["right"], _OPERATORS[kind]
    if left["class"] == "CONSTANT":
        left, right, signs = right, left, tuple(_TURNED[sign] for sign in signs)
    return _compared(signs, left, right, fields)


def _compared(signs: tuple[str, ...], column: Rule, constant: Rule, fields: tuple[str, ...]) -> Rule:
    field = ".".join(column.get("column_names", ["an expression"])).casefold()
    literal = constant.get("literal", {}) if constant["class"] == "CONSTANT" else {}
    is_text = literal.get("kind") == "STRING"
    if field not in fields or literal.get("kind") not in ("INTEGER", "NUMERIC", "STRING"):
        raise _refused(f"the comparison with {one_line(field, 40)}", fields)
    if is_text != (field == "mood") or (is_text and signs != ("is",)):
        raise _refused(f"this comparison of {field}", fields)
    if not is_text and not math.isfinite(float(literal["text"])):
        raise _refused(f"{field} compared with {one_line(literal['text'], 40)}", fields)
    value = literal["text"].casefold() if is_text else _decimal(literal["text"])
    rules = [{sign: {field: value}} for sign in signs]
    return rules[0] if len(rules) == 1 else {"any": rules}


def _decimal(text: str) -> str:
    whole, _, decimals = f"{(Decimal(text) + 0).normalize():f}".partition(".")  # + 0: -0 is 0
    return f"{whole}.{decimals:0<{DECIMALS}}"


def _refused(what: str, fields: tuple[str, ...]) -> InputError:
    return InputError(
        f"{what} is no rule for Navidrome, which knows the files' tags only",
        f"compare {', '.join(fields)} with a number or a mood by = < <= > >= between and in, joined by and, or; "
        "or write a list, .m3u8",
    )
