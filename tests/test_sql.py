"""Conditions: what they mean, against Python itself, and that they reach nothing but the scores."""

from __future__ import annotations

from contextlib import suppress

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.io.schemas import SCHEMAS
from mer_ray.scoring import sql
from mer_ray.scoring.sql import MAX_LENGTH, mask, order

SCHEMA = SCHEMAS["scores"]
TYPES = {f.name: f.type for f in SCHEMA if not pa.types.is_nested(f.type)}
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
    own |= (
        {"artist": ["Straße", "ΣΊΣΥΦΟΣ", ""][i], "album": None, "uri": "", "model": "m", "in_distribution": None}
        | ends
        | own
    )


def table() -> pa.Table:
    return pa.table({name: pa.array([r.get(name) for r in ROWS], kind) for name, kind in TYPES.items()})


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
    | st.sampled_from(["0", "0.3", "1", "(59 + 1)", "1e-3"]),
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
@example("valence < 0.35 and arousal > 0.6 or not (0.2 < dominance and dominance <= 1)")
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
        ("novelty > 0", [0, 1, 1]),
        ("not novelty > 1", [1, 1, 0]),
        ("not in_distribution", [1, 0, 1]),
        ("in_distribution is not null", [0, 1, 1]),
        ("in_distribution is true", [0, 1, 0]),
        ("novelty is null", [1, 0, 0]),
        ("valence = 0.3", [0, 1, 0]),
        ("Valence between 0 and 0.1", [1, 0, 0]),
        ("title in ('CALM', 'x')", [0, 1, 0]),
        ("title not in ('calm')", [1, 0, 1]),
        ("title like '%BATTLE'", [1, 0, 0]),
        ("title not like 'c%'", [1, 0, 1]),
        ("regexp_matches(title, '^final')", [1, 0, 0]),
        ("lower(title) = 'calm'", [0, 1, 0]),
        ("regexp_matches(title, '^FINAL\\s')", [1, 0, 0]),
        ("title ~ 'BATTLE'", [1, 0, 0]),
        ("ends_with(title, 'BATTLE') or starts_with(title, 'CALM')", [1, 1, 0]),
        ("artist = 'STRASSE' or artist = 'σίσυφος'", [1, 1, 0]),
        ("'ΦΟΣ' in artist and artist like '%ΟΣ'", [0, 1, 0]),
        ("not not novelty > 1", [0, 0, 1]),
        ("not not novelty not in (0.7)", [0, 0, 1]),
        ("duration_s > 2 * 1024 * 1024 * 1024 - 2147483648", [1, 0, 1]),
        ("abs(valence - arousal) < 0.01", [0, 1, 0]),
        ("valence < 0.2 -- sad", [1, 0, 0]),
        ("  valence\n< 0.2  ", [1, 0, 0]),
        ("True", [1, 1, 1]),
    ],
)
def test_nulls_text_and_what_cannot_be_computed(expression, holds):
    found = mask(expression, table())
    assert found.dtype == bool
    assert found.tolist() == [bool(h) for h in holds]


@pytest.mark.parametrize("typed", ["Größe", "GRÖSSE", "Gro\u0308ße"])
def test_an_accent_is_the_same_however_it_is_encoded(typed):
    """As one character, or as macOS writes it into names: a letter and a mark."""
    named = pa.Table.from_pylist(
        [r | {"title": t} for r, t in zip(ROWS, ["Gro\u0308ße", "Größe", "x"], strict=True)], SCHEMA
    )
    for condition in (f"title = '{typed}'", f"title like '%{typed[1:]}%'", f"'{typed}' in title"):
        assert mask(condition, named).tolist() == [True, True, False]
    assert mask(f"regexp_matches(title, '^{typed[:-2]}')", named).tolist() == [True, True, False]


def test_what_is_not_finite_is_not_known():
    odd = table().set_column(table().column_names.index("novelty"), "novelty", pa.array([np.nan, np.inf, 0.7]))
    assert mask("novelty > 0.5", odd).tolist() == [False, False, True]
    assert mask("novelty <= 0.5", odd).tolist() == [False, False, False]
    assert order("-novelty", odd).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("valence < 0.3 and arousl > 0.6", "there is no column arousl: did you mean arousal?"),
        ("danceability > 0.6", "there is no column danceability: there are track_id, artist, title"),
        ('"battle" in title', "text is written in 'single quotes'"),
        ('title = "album"', "columns have no quotes, and text is written in 'single quotes'"),
        ("valence < 0,35", "write 0.5, with a point"),
        ("album == None", "write IS NULL"),
        ("valence", "a condition is needed here: write one SQL condition, as in valence < 0.35"),
        ("valence < 0.3 and arousal", "and, or and not join conditions"),
        ("not valence", "and, or and not join conditions"),
        ("in_distribution < 1", "a condition is compared with a number or text"),
        ("valence < 'high'", "Could not convert string 'high' to DOUBLE"),
        ("title < 5", "Cannot compare values of type VARCHAR"),
        ("0.2 < valence < 0.5", "use AND to combine comparisons"),
        ("valence <", "syntax error"),
        ("(valence < 0.3", "syntax error"),
        ("title is 'calm'", "syntax error at or near \"'calm'\": write one SQL condition"),
        ("valence = 1 & 2", "write and"),
        ("~in_distribution", "write not"),
        ("novelty < 1" + "0" * 400, "Could not convert"),
        ("valence < 1" + "0" * 400, "valence is from 0 to 1"),
        ("arousal > 60", "arousal is from 0 to 1, and 60 is outside: arousal_percentile is from 0 to 100"),
        ("2 > upper_valence or title = 'a'", "valence is from 0 to 1, and 2 is outside"),
        ("dominance between -1 and 0.5", "dominance is from 0 to 1, and -1 is outside"),
        ("valence in (0.3, 1.5)", "valence is from 0 to 1, and 1.5 is outside"),
        ("album = null", "no comparison with null holds: write is null or is not null"),
        ("not title in ('a', null)", "no comparison with null holds"),
        ("", "it is empty"),
        ("not " * 200 + "True", "nested too deeply"),
        ("- " * 900 + "valence < 2", "nested too deeply"),
        ("(" * 900 + "1", "syntax error"),
        ("x" * (MAX_LENGTH + 1), "longer than 2,000"),
        ("valence < 1\x00 \x1b[31m", "syntax error"),
        ("title.x == 1", "there is no column title.x"),
        ("regexp_matches(title, '(a{1000}){1000}')", "invalid repetition size"),
    ],
)
def test_a_slip_is_one_line_that_shows_what_to_write(expression, message):
    with pytest.raises(InputError) as error:
        mask(expression, table())
    assert message in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 800


def of(*dimensions: str) -> pa.Table:
    """Two rows by a model of these dimensions, 0.2 and 0.4, with intervals of 0.1 and 0.3."""
    values = {f"{end}{d}": [0.2 + w, 0.4 + 3 * w] for d in dimensions for end, w in ENDS.items()}
    return pa.table({"title": ["a", "b"], **values})


ENDS = {"": 0.0, "lower_": -0.05, "upper_": 0.05}


def test_the_columns_are_those_of_the_scores_own_dimensions():
    assert mask("tension > 0.3 and upper_energy < 0.6", of("tension", "energy")).tolist() == [False, True]
    assert mask("width > 0.2", of("arousal")).tolist() == [False, True]
    assert order("-tension", of("tension", "energy", "wonder")).tolist() == [1, 0]
    assert mask("title = 'a' and width < 0.2", of("order", "select")).tolist() == [True, False]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("key = 'Bb'", "there is no key 'Bb': write one of C, C#, D"),
        ("KEY in ('C#', 'D minor')", "there is no key 'D minor'"),
        ("'min' != mode or title = 'a'", "there is no mode 'min': write one of major, minor"),
        ("mood not in ('Calm', 'angry')", "there is no mood 'angry': write one of happy, excited"),
    ],
)
def test_a_word_that_a_column_never_has_is_refused(expression, words):
    rows = of("valence", "arousal")
    for name, value in (("key", "C#"), ("mode", "minor"), ("mood", "calm")):
        rows = rows.append_column(name, pa.array([value, None]))
    with pytest.raises(InputError) as error:
        mask(expression, rows)
    assert words in str(error.value)
    assert mask("key in ('c#', 'D') and mode = 'MINOR' and mood != 'sad' and title = 'A'", rows).tolist() == [
        True,
        False,
    ]


def test_text_is_equal_however_its_accents_are_encoded():
    composed, apart = "Überfahrt", "U\u0308berfahrt"
    for stored, typed in ((composed, apart), (apart, composed)):
        rows = of("valence").set_column(0, "title", pa.array([stored, "Uberfahrt"]))
        for condition in ("title = '{}'", "title like '{}%'", "regexp_matches(title, '^{}$')", "'{}' in title"):
            assert mask(condition.format(typed.lower()), rows).tolist() == [True, False], condition


@pytest.mark.parametrize(
    ("expression", "dimensions", "message"),
    [
        ("dominance > 0.5", ["valence", "arousal"], "these scores have no dominance: their dimensions are: valence, a"),
        ("Upper_Dominance > 0.5", ["arousal"], "these scores have no dominance: their dimensions are: arousal"),
        ("valence_percentile > 50", ["tension", "energy"], "no valence: their dimensions are: tension, energy"),
        (
            "mood = 'calm'",
            ["tension", "energy"],
            "a mood follows from valence and arousal, and these scores have tension",
        ),
        ("mood = 'calm'", ["arousal"], "these scores have arousal"),
        ("tension > 0.5", ["valence", "arousal"], "there is no column tension: there are"),
        ("tension > 0.5", ["valence", "arousal"], "the dimensions are valence, arousal;"),
        ("tensoin > 0.5", ["tension", "energy"], "did you mean tension?"),
    ],
)
def test_a_dimension_that_the_scores_lack_is_named_with_those_that_they_have(expression, dimensions, message):
    for ask, text in ((mask, expression), (order, expression.split()[0])):
        with pytest.raises(InputError) as error:
            ask(text, of(*dimensions))
        assert message in str(error.value)


@pytest.mark.parametrize(
    "expression",
    [
        "true; drop table scores",
        "true) from read_csv('/etc/passwd'); select (true",
        "true), (true",
        "true) union select (true",
        "true or exists (select 1)",
        "(select count(*) from range(1000000000000)) > 0",
        "(select content from read_text('/etc/passwd')) like '%root%'",
        "title in (select file from glob('/etc/*'))",
        "title in (from '/etc/passwd')",
        "title = getenv('HOME')",
        "title = current_setting('memory_limit')",
        "title = current_user",
        "repeat('a', 1000000000) = title",
        "len(range(1000000000000)) > 0",
        "title || title = title",
        "random() < 0.5",
        "nextval('s') > 0",
        "sum(valence) > 1",
        "row_number() over () = 1",
        "valence = ?",
        "valence = $1",
        "columns(*) > 0",
        "valence::date > '2020-01-01'",
        "[x for x in [1]] = [1]",
        "main.abs(valence) < 1",
        "attach '/tmp/x.db'",
        "copy scores to '/tmp/x.csv'",
        "pragma version",
        "set threads = 9",
        "install httpfs",
        "__import__('os').system('true')",
    ],
)
def test_a_condition_reads_the_scores_and_nothing_else(expression):
    with pytest.raises(InputError) as error:
        mask(expression, table())
    assert repr(expression) in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM a_local",
        "ATTACH '/tmp/mer-ray.db'",
        "COPY (SELECT 1) TO '/tmp/mer-ray.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SELECT getenv('HOME')",
    ],
)
def test_even_whole_statements_reach_no_file_and_no_setting(statement):
    a_local = table()
    with pytest.raises(duckdb.Error):
        sql.query(statement, scores=a_local)


def test_what_takes_too_long_ends(monkeypatch):
    monkeypatch.setattr(sql, "LIMIT_S", 0.5)
    with pytest.raises(duckdb.InterruptException):
        sql.query("SELECT count(*) FROM range(1000000000000)")


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
    assert order("abs(valence - 0.5)", table()).tolist() == [1, 2, 0]


def test_no_rows_give_no_rows():
    none = table().slice(0, 0)
    assert mask("valence < 1 and 'a' in title", none).tolist() == []
    assert order("title", none).dtype == order("valence", none).dtype == np.int64
