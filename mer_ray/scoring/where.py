"""Conditions on scores as people write them: ``valence < 0.35 and arousal > 0.6 and 'battle' in title``.

The language is a part of Python's expressions: and, or, not, comparisons (chained, too), numbers, text, True, False,
``+ - * /``, and columns by their names; ``'text' in column`` finds a part of it. Text is compared regardless of case. A
value that is not known (null, or divided by 0) makes every comparison with it false. Nothing is executed: the text is
parsed, and the few kinds of nodes below are computed on whole columns.
"""

from __future__ import annotations

import ast
import difflib
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS

NUMBERS = (
    *DIMENSIONS,
    *(f"{end}_{d}" for d in DIMENSIONS for end in ("lower", "upper")),
    "width",
    "duration_s",
    "novelty",
)
TRUTHS = ("in_distribution",)
TEXTS = ("artist", "title", "album", "uri", "model")
NAMES = (*NUMBERS, *TRUTHS, *TEXTS)
"""What a condition may name: columns of ``scores``, and ``width``, the mean width of the three 90 % intervals."""

MAX_LENGTH = 2_000
MAX_DEPTH = 40

_ORDERS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SUMS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_WRITE: dict[type, str] = {
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "!=",
    ast.Invert: "not",
    ast.Is: "==",
    ast.IsNot: "!=",
}


def mask(expression: str, table: pa.Table) -> np.ndarray:
    """Which rows of ``scores`` the condition holds for: (N,) bool.

    Raises InputError, showing the expression with the place of the error between » and «.
    """
    reader = _Reader(expression, table)
    value = reader.value(reader.tree, 0)
    reader.expect(value, "condition", reader.tree)
    return np.broadcast_to(value.data, table.num_rows).copy()


def order(expression: str, table: pa.Table) -> np.ndarray:
    """The rows in rising order of a number (``-arousal``: falling) or text: (N,) int64; stable, the unknown last."""
    reader = _Reader(expression, table)
    value = reader.value(reader.tree, 0)
    if value.kind == "condition":
        reader.refuse(reader.tree, "a number or text is needed here, as in -arousal")
    data = np.broadcast_to(value.data, table.num_rows)
    if value.kind == "text":
        known = [i for i, text in enumerate(data) if text is not None]
        unknown = [i for i, text in enumerate(data) if text is None]
        return np.array([*sorted(known, key=lambda i: str(data[i])), *unknown], dtype=np.int64)
    return np.argsort(data, kind="stable")


@dataclass(frozen=True)
class _Value:
    """kind: number | text | condition. data: float64, str or None, bool; (N,), or () for one value of all rows.

    known: for conditions, where they are (a column can be null; it is False there).
    """

    kind: str
    data: np.ndarray
    known: np.ndarray | bool = True


class _Reader:
    """Computes the nodes of one expression on one table."""

    def __init__(self, expression: str, table: pa.Table) -> None:
        self.text = "".join(c if c.isprintable() else " " for c in expression).strip()
        self.table = table
        if not self.text:
            raise InputError("the condition is empty", f"it is to be like valence < 0.35; columns: {', '.join(NAMES)}")
        if len(self.text) > MAX_LENGTH:
            raise InputError(f"the condition is longer than {MAX_LENGTH:,} characters", "give a shorter one")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the compiler thinks of literals
                self.tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            # The parser counts from 1; 0 is where it wanted more.
            start = (error.offset or 0) - 1 if error.offset else len(self.text)
            end = max(start + 1, (error.end_offset or 0) - 1)
            here = self.text[start:end]
            said = {"": "the condition ends too early", "=": "write =="}.get(here, one_line(error.msg, 100))
            self._refuse(start, end, said)
        except (ValueError, RecursionError, MemoryError):
            raise InputError("the condition is nested too deeply", "give a simpler one") from None

    def value(self, node: ast.expr, depth: int) -> _Value:
        if depth > MAX_DEPTH:
            self.refuse(node, "this is nested too deeply")
        match node:
            case ast.Constant(value=bool() as truth):
                return _Value("condition", np.array(truth))
            case ast.Constant(value=int() | float() as number):
                try:
                    return _Value("number", np.array(float(number)))
                except OverflowError:
                    self.refuse(node, "this number is too large")
            case ast.Constant(value=str() as text):
                return _Value("text", np.array(text.casefold(), dtype=object))
            case ast.Name(id=name):
                return self._column(name, node)
            case ast.BoolOp(op=op, values=nodes):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                parts = [self.expect(self.value(n, depth + 1), "condition", n).data for n in nodes]
                whole = parts[0]
                for part in parts[1:]:
                    whole = join(whole, part)
                return _Value("condition", whole)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _Value("condition", ~self.expect(self.value(operand, depth + 1), "condition", operand).data)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                signed = self.expect(self.value(operand, depth + 1), "number", operand).data
                return _Value("number", -signed if isinstance(sign, ast.USub) else signed)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _SUMS:
                a, b = (self.expect(self.value(n, depth + 1), "number", n).data for n in (left, right))
                with np.errstate(all="ignore"):
                    result = np.asarray(_SUMS[type(op)](a, b))
                return _Value("number", np.where(np.isfinite(result), result, np.nan))
            case ast.Compare(left=left, ops=ops, comparators=others):
                nodes = [left, *others]
                values = [self.value(n, depth + 1) for n in nodes]
                whole = np.array(True)
                for i, comparison in enumerate(ops):
                    whole = whole & self._compare(comparison, values[i], values[i + 1], nodes[i], nodes[i + 1])
                return _Value("condition", whole)
        instead = _WRITE.get(type(getattr(node, "op", node)))
        self.refuse(
            node,
            f"write {instead}"
            if instead
            else "a condition has numbers, 'text', columns, and or not, comparisons, in, and + - * / alone",
        )

    def expect(self, value: _Value, kind: str, node: ast.expr) -> _Value:
        """The value, if it is of that kind."""
        if value.kind != kind:
            hint = ", as in valence < 0.35" if kind == "condition" else ""
            self.refuse(node, f"this is a {value.kind}, and a {kind} is needed here{hint}")
        return value

    def refuse(self, node: ast.expr, why: str) -> NoReturn:
        """Raise InputError that marks the node."""
        data = self.text.encode()  # the parser counts bytes
        start = len(data[: node.col_offset].decode())
        self._refuse(start, start + len(data[node.col_offset : node.end_col_offset].decode()), why)

    def _refuse(self, start: int, end: int, why: str) -> NoReturn:
        near, far = max(0, start - 80), min(len(self.text), end + 80)
        shown = f"{self.text[near:start]}»{one_line(self.text[start:end], 80)}«{self.text[end:far]}"
        raise InputError(
            f"in {'…' * (near > 0)}{shown}{'…' * (far < len(self.text))}",
            why,
        )

    def _column(self, name: str, node: ast.expr) -> _Value:
        if name in NUMBERS:
            return _Value("number", _numbers(self.table, name))
        if name in TRUTHS:
            column = self.table[name]
            known = column.is_valid().to_numpy()
            return _Value("condition", column.fill_null(False).to_numpy(), known)
        if name in TEXTS:
            texts = [None if t is None else t.casefold() for t in self.table[name].to_pylist()]
            return _Value("text", np.array(texts, dtype=object))
        near = difflib.get_close_matches(name.casefold(), NAMES, n=1)
        where = f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}; text is written in '…'"
        self.refuse(node, f"there is no column {one_line(name, 40)}; {where}" if near else f"no such column; {where}")

    def _compare(self, op: ast.cmpop, a: _Value, b: _Value, left: ast.expr, right: ast.expr) -> np.ndarray:
        if isinstance(op, ast.In | ast.NotIn):
            self.expect(a, "text", left)
            self.expect(b, "text", right)
            inside = isinstance(op, ast.In)
            return _each(lambda x, y: (x in y) is inside, a.data, b.data)
        if type(op) not in _ORDERS:
            self.refuse(right, f"write {_WRITE[type(op)]}")
        self.expect(b, a.kind, right)
        compare = _ORDERS[type(op)]
        if a.kind != "number" and not isinstance(op, ast.Eq | ast.NotEq):
            self.refuse(right, f"a {a.kind} is compared with == or !=" + (" or in" if a.kind == "text" else ""))
        if a.kind == "text":
            return _each(compare, a.data, b.data)
        if a.kind == "condition":
            return np.asarray(compare(a.data, b.data) & a.known & b.known)
        return np.asarray(compare(a.data, b.data) & ~np.isnan(a.data) & ~np.isnan(b.data))


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, NaN where it is not known."""
    if name == "width":
        widths = [_numbers(table, f"upper_{d}") - _numbers(table, f"lower_{d}") for d in DIMENSIONS]
        return np.asarray(sum(widths) / len(widths))
    values = table[name].to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _each(holds: Callable[[str, str], bool], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether it holds for each pair of texts; not where one of them is null."""
    a, b = np.broadcast_arrays(a, b)
    pairs = zip(a.ravel(), b.ravel(), strict=True)
    found = [x is not None and y is not None and holds(x, y) for x, y in pairs]
    return np.array(found, dtype=bool).reshape(a.shape)
