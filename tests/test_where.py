"""Conditions: what they mean, against Python itself, and what is said of those that mean nothing."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.io.schemas import SCHEMAS
from mer_ray.scoring.where import MAX_LENGTH, NAMES, mask, order

SCHEMA = SCHEMAS["scores"]
TYPES = {name: SCHEMA.field(name).type for name in NAMES if name != "width"}
ROWS = [
    {
        "valence": 0.1,
        "arousal": 0.9,
        "dominance": 0.5,
        "duration_s": 60.0,
        "novelty": None,
        "title": "Final Battle",
        "album": "X",
    },
    {
        "valence": 0.3,
        "arousal": 0.3,
        "dominance": 0.0,
        "duration_s": 0.0,
        "novelty": 0.7,
        "title": "calm",
        "in_distribution": True,
    },
    {
        "valence": 0.8,
        "arousal": 0.6,
        "dominance": 1.0,
        "duration_s": 90.5,
        "novelty": 1.5,
        "title": "Ça va",
        "in_distribution": False,
    },
]
for i, own in enumerate(ROWS):
    ends = {
        f"{end}_{d}": own[d] + w
        for d in ("valence", "arousal", "dominance")
        for end, w in (("lower", 0), ("upper", 0.1 * i))
    }
    own |= {"artist": "", "album": None, "uri": "", "model": "m", "in_distribution": None} | ends | own


def table() -> pa.Table:
    return pa.table({name: pa.array([r[name] for r in ROWS], kind) for name, kind in TYPES.items()})


class Null:
    """What Python would need for a null: unordered, infectious, false."""

    def _self(self, *_: object) -> Null:
        return self

    def _no(self, *_: object) -> bool:
        return False

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _self
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __bool__ = __contains__ = _no  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def in_python(expression: str) -> list[bool]:
    names = [
        {k: Null() if v is None else v.casefold() if isinstance(v, str) else v for k, v in r.items()} for r in ROWS
    ]
    return [bool(eval(expression, {"__builtins__": {}}, row)) for row in names]


NUMBER = st.recursive(
    st.sampled_from(["valence", "arousal", "dominance", "novelty", "duration_s", "upper_valence"])
    | st.sampled_from(["0", "0.3", "1", "60", "1e-3"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner)
        | st.builds("(-{})".format, inner)
        | st.builds("({} / 4)".format, inner)
    ),
    max_leaves=4,
)
ORDER = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
TEXT = st.sampled_from(["title", "'a'", "'calm'", "'ça'"])  # album: Python asks the null's __contains__, not the text's
CONDITION = st.recursive(
    st.builds("({} {} {})".format, NUMBER, ORDER, NUMBER)
    | st.builds("({} {} {} {} {})".format, NUMBER, ORDER, NUMBER, ORDER, NUMBER)
    | st.builds("({} {} {})".format, TEXT, st.sampled_from(["in", "not in", "==", "!="]), TEXT)
    | st.sampled_from(["in_distribution", "True", "False", "(in_distribution == False)"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(CONDITION)
@example("valence < 0.35 and arousal > 0.6 or not 0.2 < dominance <= 1")
def test_it_means_what_python_means(expression):
    assert mask(expression, table()).tolist() == in_python(expression)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("'BATTLE' in title", [1, 0, 0]),
        ("title == 'Calm'", [0, 1, 0]),
        ("title != 'calm'", [1, 0, 1]),
        ("'ÇA' in title", [0, 0, 1]),
        ("album == 'x'", [1, 0, 0]),
        ("album != 'y'", [1, 0, 0]),
        ("'y' not in album", [1, 0, 0]),
        ("novelty != 0", [0, 1, 1]),
        ("in_distribution", [0, 1, 0]),
        ("in_distribution != True", [0, 0, 1]),
        ("width > 0.15", [0, 0, 1]),
        ("1 / duration_s > 0", [1, 0, 1]),
        ("1 / 0 == 1 / 0", [0, 0, 0]),
        ("1e308 * 10 > 0", [0, 0, 0]),
        ("  valence\n< 0.2  ", [1, 0, 0]),
        ("True", [1, 1, 1]),
    ],
)
def test_nulls_text_and_what_cannot_be_computed(expression, holds):
    found = mask(expression, table())
    assert found.dtype == bool
    assert found.tolist() == [bool(h) for h in holds]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            "valence < 0.3 and arousl > 0.6",
            "valence < 0.3 and »arousl« > 0.6: there is no column arousl; did you mean arousal?",
        ),
        ("tempo > 0.6", "»tempo« > 0.6: no such column; there are valence, arousal"),
        ("Valence < 1", "did you mean valence?"),
        ("valence", "»valence«: this is a number, and a condition is needed here"),
        ("valence < 0.3 and arousal", "valence < 0.3 and »arousal«"),
        ("valence < 'high'", "valence < »'high'«: this is a text, and a number is needed here"),
        ("'é' in title and title < 'b'", "title < »'b'«: a text is compared with == or != or in"),
        ("valence = 0.3", "=="),
        ("valence <", "valence <»«"),
        ("(valence < 0.3", "»(«valence < 0.3"),
        ("valence < 0.3 & arousal > 0.6", "write and"),
        ("title is 'calm'", "write =="),
        ("~in_distribution", "»~in_distribution«: write not"),
        ("__import__('os').system('true')", "»__import__('os').system('true')«"),
        ("valence.__class__ == 1", "»valence.__class__« == 1"),
        ("[valence for valence in title]", "numbers, 'text', columns"),
        ("valence < 1j", "»1j«"),
        ("album == None", "»None«"),
        ("valence ** 9 < 1", "»valence ** 9«"),
        ("valence < 1" + "0" * 400, "this number is too large"),
        ("", "empty"),
        ("not " * 200 + "True", "nested too deeply"),
        ("-" * 1500 + "1 < 2", "nested too deeply"),
        ("(" * 900 + "1", "too many nested parentheses"),
        ("x" * (MAX_LENGTH + 1), "longer than 2,000"),
        ("valence < 1\x00 \x1b[31m", "invalid decimal literal"),
    ],
)
def test_a_slip_is_shown_where_it_is(expression, said):
    with pytest.raises(InputError) as error:
        mask(expression, table())
    assert said in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="valence<>=()'\"0.1+-*/ andortif", max_size=60))
def test_no_text_at_all_is_a_traceback(expression):
    with suppress(InputError):
        assert mask(expression, table()).shape == (3,)


def test_the_order_of_numbers_and_text():
    assert order("arousal", table()).tolist() == [1, 2, 0]
    assert order("-arousal", table()).tolist() == [0, 2, 1]
    assert order("novelty", table()).tolist() == [1, 2, 0]
    assert order("-novelty", table()).tolist() == [2, 1, 0]
    assert order("title", table()).tolist() == [1, 0, 2]
    assert order("album", table()).tolist() == [0, 1, 2]
    assert order("model", table()).tolist() == [0, 1, 2]


def test_no_rows_give_no_rows():
    none = table().slice(0, 0)
    assert mask("valence < 1 and 'a' in title", none).tolist() == []
    assert order("title", none).dtype == order("valence", none).dtype == np.int64
