"""SQL over tables of scores, by DuckDB: conditions that users type, orders, and roll-ups.

DuckDB sees Arrow tables in memory and nothing else: it has no access to files, extensions and settings. A user types
one expression on one row: DuckDB parses it, it is checked against the lists below, and only then run.
"""

from __future__ import annotations

import difflib
import functools
import json
import threading
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS, dimensions_of
from mer_ray.scoring import standing
from mer_ray.scoring.measures.pitches import KEYS, MODES

if TYPE_CHECKING:
    import duckdb

LIMIT_S = 60.0
MAX_LENGTH = 2_000
MAX_DEPTH = 60
_CONFIG: dict[str, Any] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,  # a Python variable is not a table
    "error_on_division_by_zero": False,
    "ieee_floating_point_ops": False,  # a division by 0 is null, like all missing values
    "temp_directory": "",
    "memory_limit": "2GB",
    "threads": 1,  # sums in a fixed order, for reproducible figures
}
_WORDS = {"key": KEYS, "mode": MODES, "mood": standing.WORDS}
"""Columns that have no other values."""
_EQUALITIES = {"COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_IN", "COMPARE_NOT_IN"}
_EQUALITIES |= {"COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"}
_CONDITIONS = {"COMPARISON", "CONJUNCTION", "BETWEEN"}
_OPERATORS = {"OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "COMPARE_IN", "COMPARE_NOT_IN"}
_PREDICATES = {"contains", "starts_with", "ends_with", "regexp_matches", "~~", "!~~", "~~*", "!~~*"}
_FUNCTIONS = _PREDICATES | {"+", "-", "*", "/", "%", "abs", "round", "least", "greatest", "length", "lower", "upper"}
_INSTEAD = {"&": "and", "|": "or", "~": "not", "!": "not", "row": "0.5, with a point"}
_WRITE = (
    "write one SQL condition, as in valence < 0.35 and title like '%war%': columns, numbers, 'text', and, or, not, "
    "= != < <= > >=, between, in, like, is null, + - * /"
)
_WRITE_KEY = "write a number or text to sort by, as in title, or -arousal for the highest first"


def query(sql: str, ignore_case: bool = False, **tables: pa.Table) -> pa.Table:
    """The result of SQL over Arrow tables, by their names. Raises duckdb.Error, also after `LIMIT_S`.

    ignore_case: compare and sort text regardless of case.
    """
    with _database("NOCASE" if ignore_case else "").cursor() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        timer = threading.Timer(LIMIT_S, connection.interrupt)
        timer.start()
        try:
            return connection.sql(sql).to_arrow_table()
        finally:
            timer.cancel()


@functools.cache
def _database(collation: str) -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:", config={**_CONFIG, "default_collation": collation, "lock_configuration": True})


def mask(condition: str, table: pa.Table) -> np.ndarray:
    """Which rows of ``scores`` a condition holds for: (N,) bool.

    It may name the table's columns without lists, and ``width``, the mean width of the 90 % intervals. Text is
    compared regardless of case and of the encoding of accents. A comparison with a missing value (null, not finite,
    divided by 0) is false.

    Raises InputError with the condition and what to write instead.
    """
    holds = np.zeros(table.num_rows, bool)
    holds[_rows(condition, table, "WHERE {}", is_condition=True)] = True
    return holds


def order(expression: str, table: pa.Table) -> np.ndarray:
    """The rows in ascending order of a number (``-arousal``: descending) or text: (N,) int64; stable, nulls last.

    Raises InputError as `mask` does.
    """
    return _rows(expression, table, "ORDER BY {} NULLS LAST, row", is_condition=False)


def _rows(text: str, table: pa.Table, clause: str, is_condition: bool) -> np.ndarray:
    import duckdb

    text = "".join(c if c.isprintable() else " " for c in text).strip()
    fields = [f for f in table.schema if not pa.types.is_nested(f.type)]
    names = [f.name for f in fields]
    columns = [f'"{f.name}"' for f in fields if pa.types.is_floating(f.type)]
    finite = [f"if(isfinite({name}), {name}, NULL) AS {name}" for name in columns]
    dimensions = dimensions_of(table.schema, "scores")
    width = f"({' + '.join(f'(upper_{d} - lower_{d})' for d in dimensions)}) / {len(dimensions)} AS width"
    truths = [f.name for f in fields if pa.types.is_boolean(f.type)]
    checked = _Checked(text, [*names, "width"], truths, dimensions, is_condition)
    expression = checked.sql()
    numbered = table.select(names).append_column("row", pa.array(np.arange(len(table))))
    for index, field in enumerate(numbered.schema):
        if pa.types.is_string(field.type) and field.name in checked.used:  # DuckDB's NOCASE knows no ß and no final ς
            folded = [None if t is None else _folded(t) for t in numbered[index].to_pylist()]
            numbered = numbered.set_column(index, field, pa.array(folded, field.type))
    sql = f"SELECT row FROM (SELECT * REPLACE ({', '.join(finite)}), {width} FROM scores) {clause.format(expression)}"  # noqa: S608
    try:
        found = query(sql, ignore_case=True, scores=numbered)
    except duckdb.InterruptException:
        raise checked.refused(f"it takes longer than {LIMIT_S:.0f} s", "give a simpler one") from None
    except duckdb.Error as error:
        raise checked.refused(str(error).partition("\n")[0].partition(": ")[2]) from None
    return np.asarray(found["row"].to_numpy(), np.int64)


def _folded(text: str) -> str:
    """Text for comparisons: without case, and composed (NFC), since macOS and some taggers write u and ¨ for ü."""
    return unicodedata.normalize("NFC", text.casefold())


class _Checked:
    """One typed expression, parsed by DuckDB and checked against the lists of what is allowed."""

    def __init__(
        self, text: str, names: list[str], truths: list[str], dimensions: tuple[str, ...], is_condition: bool
    ) -> None:
        """names: of columns. truths: names of the boolean ones."""
        self.text, self.names, self.truths, self.is_condition = text, names, truths, is_condition
        self.dimensions = dimensions
        self.used, self.patterns = set[str](), list[int]()

    def refused(self, why: str, write: str = "") -> InputError:
        """The error with the expression, the reason, and what to write instead."""
        write = write or (_WRITE if self.is_condition else _WRITE_KEY)
        return InputError(f"{one_line(self.text, 200)!r}: {one_line(why, 300)}", write)

    def sql(self) -> str:
        """The expression, parsed and written again. Raises InputError."""
        if not self.text:
            raise self.refused("it is empty")
        if len(self.text) > MAX_LENGTH:
            raise InputError(f"the condition is longer than {MAX_LENGTH:,} characters", "give a shorter one")
        try:
            # On separate lines, so that a comment in the text ends there.
            parsed, plain = (syntax_tree(f"SELECT (\n{text}\n)") for text in (self.text, "true"))
            if parsed["error"]:
                raise self.refused(parsed["error_message"])
            expressions, _ = (tree["statements"][0]["node"].pop("select_list", []) for tree in (parsed, plain))
            if len(expressions) != 1 or parsed != plain:
                raise self.refused("this is not one expression")
            [expression] = expressions
            self._check(expression, 0)
            if self._is_condition(expression) != self.is_condition:
                raise self.refused(f"a {'condition' if self.is_condition else 'number or text'} is needed here")
            plain["statements"][0]["node"]["select_list"] = [expression]
            written = query(
                "SELECT json_deserialize_sql(sql) AS sql FROM typed", typed=pa.table({"sql": [json.dumps(plain)]})
            )
        except RecursionError:
            raise self.refused("it is nested too deeply", "give a simpler one") from None
        return str(written["sql"][0]).removeprefix("SELECT ")

    def _check(self, node: Any, depth: int) -> None:
        """Refuse what is on no list, fold the case of text, and make ``not`` of an unknown comparison true."""
        if depth > MAX_DEPTH:
            raise self.refused("it is nested too deeply", "give a simpler one")
        if isinstance(node, dict) and "class" in node:
            self._check_node(node)
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            self._check(child, depth + isinstance(node, dict))
        if isinstance(node, dict) and node.get("type") == "OPERATOR_NOT" and self._at(node) in ("not", ""):
            # In front of a comparison, not as in NOT IN, which is one itself. The second of NOT NOT has no location.
            node["children"] = [{**node, "type": "OPERATOR_COALESCE", "children": [*node["children"], _FALSE]}]

    def _check_node(self, node: dict[str, Any]) -> None:
        kind, of = node["class"], node["type"]
        if kind == "COLUMN_REF":
            self._check_column(node)
        elif kind == "FUNCTION":
            name = node["function_name"]
            if name not in _FUNCTIONS or len(node["qualified_name"]["path"]) > 1:
                raise self.refused(f"{name} cannot be used here", f"write {_INSTEAD[name]}" if name in _INSTEAD else "")
            self._prepare(name, [a["expression"] for a in node["arguments"]])
        elif kind == "CONSTANT" and node.get("literal", {}).get("kind") == "STRING" and id(node) not in self.patterns:
            node["literal"]["text"] = _folded(node["literal"]["text"])
        elif not (kind == "CONSTANT" or self._is_condition(node) or node.get("type_name") == "BOOLEAN"):
            raise self.refused(f"{of.lower().replace('_', ' ')} cannot be used here")
        if (kind == "CONJUNCTION" or of == "OPERATOR_NOT") and not all(map(self._is_condition, node["children"])):
            raise self.refused("and, or and not join conditions, as in valence < 0.35 and arousal > 0.6")
        if kind == "COMPARISON" and self._is_condition(node["left"]) != self._is_condition(node["right"]):
            raise self.refused("a condition is compared with a number or text")
        if kind in ("COMPARISON", "BETWEEN") or of in ("COMPARE_IN", "COMPARE_NOT_IN"):
            parts = [node[name] for name in ("left", "right", "input", "lower", "upper") if name in node]
            self._check_compared(of, parts or node["children"])

    def _check_compared(self, of: str, compared: list[dict[str, Any]]) -> None:
        """Refuse what a column never is: it would pass for what no track, or every track, is."""
        names = {".".join(c.get("column_names", [])).casefold() for c in compared}
        literals = [(c["literal"]["kind"], c["literal"]["text"]) for c in compared if "literal" in c]
        if "DISTINCT" not in of and any(kind == "NULL_LITERAL" for kind, _ in literals):
            raise self.refused("no comparison with null holds", "write is null or is not null")
        for column in names & _WORDS.keys() if of in _EQUALITIES else ():
            for kind, text in literals:
                if kind == "STRING" and text.casefold() not in map(str.casefold, _WORDS[column]):
                    hint = f"write one of {', '.join(_WORDS[column])}"
                    raise self.refused(f"there is no {column} {one_line(text, 40)!r}", hint)
        for d in self.dimensions:
            if names & {d, f"lower_{d}", f"upper_{d}"}:
                for kind, text in literals:
                    if kind in ("INTEGER", "NUMERIC") and not 0 <= float(text) <= 1:
                        hint = f"{d}_percentile is from 0 to 100"
                        raise self.refused(f"{d} is from 0 to 1, and {one_line(text, 40)} is outside", hint)

    def _prepare(self, name: str, arguments: list[dict[str, Any]]) -> None:
        """Make a pattern ignore case, and whole numbers of a sum doubles, which 2 * 1024 * 1024 * 1024 fits into."""
        for argument in arguments:
            literal = argument.get("literal", {})
            if name == "regexp_matches" and argument is arguments[1] and literal.get("kind") == "STRING":
                argument["literal"] = {**literal, "text": f"(?i){unicodedata.normalize('NFC', literal['text'])}"}
                self.patterns.append(id(argument))
            elif name in ("+", "-", "*") and len(arguments) > 1 and literal.get("kind") == "INTEGER":
                literal.update(kind="NUMERIC", text=f"{literal['text']}e0")

    def _check_column(self, node: dict[str, Any]) -> None:
        name = ".".join(node["column_names"])
        if self._at(node).startswith('"'):  # or title = "album" would compare two columns
            raise self.refused(f'"{name}"', "columns have no quotes, and text is written in 'single quotes'")
        if name.casefold() in self.names:
            self.used.add(name.casefold())
            return
        own = ", ".join(self.dimensions)
        for d in DIMENSIONS:
            if d not in self.dimensions and name.casefold() in (d, f"lower_{d}", f"upper_{d}", f"{d}_percentile"):
                raise self.refused(f"these scores have no {d}", f"their dimensions are: {own}")
        if name.casefold() == "mood":
            raise self.refused(f"a mood follows from valence and arousal, and these scores have {own}")
        near = difflib.get_close_matches(name.casefold(), self.names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.names)}; the dimensions are {own};"
        if name.casefold() == "none":
            hint = "write IS NULL or IS NOT NULL;"
        raise self.refused(f"there is no column {one_line(name, 40)}", f"{hint} text is written in 'single quotes'")

    def _is_condition(self, node: dict[str, Any]) -> bool:
        literal, names = node.get("literal", {}), node.get("column_names", [""])
        return (
            node["class"] in _CONDITIONS
            or node["type"] in _OPERATORS
            or node.get("function_name") in _PREDICATES
            or (node["class"] == "CAST" and self._is_condition(node["child"]))  # as in IS TRUE
            or literal.get("kind") == "BOOLEAN"
            or names[0].casefold() in self.truths
        )

    def _at(self, node: dict[str, Any]) -> str:
        start = node["query_location"] - len("SELECT (\n")
        return self.text.encode()[start : start + 3].decode(errors="replace").lower()


_FALSE = {
    "class": "CONSTANT",
    "type": "VALUE_CONSTANT",
    "alias": "",
    "query_location": 0,
    "query_location_length": 0,
    "literal": {"kind": "BOOLEAN", "text": "false"},
}


def syntax_tree(sql: str) -> dict[str, Any]:
    """DuckDB's tree of a query, which is not run; with ``error`` true where it is none."""
    found = query("SELECT json_serialize_sql(sql) AS tree FROM typed", typed=pa.table({"sql": [sql]}))
    tree: dict[str, Any] = json.loads(str(found["tree"][0]))
    return tree
