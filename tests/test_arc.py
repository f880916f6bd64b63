"""Playlists that follow an arc: the rule of the assignment, and what the command says."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from test_playlist import SCHEMA, table, typed

from mer_ray.scoring import arc, standing
from mer_ray.scoring.assignment import assigned

percent = st.integers(0, 100)


@st.composite
def catalogs(draw, fewest_each=1):
    """Points and artists of a catalog, of which every artist has some tracks."""
    n_artists = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(fewest_each, 9), min_size=n_artists, max_size=n_artists))
    artists = np.repeat(np.arange(n_artists), sizes)
    artists = artists[draw(st.permutations(range(len(artists))))]
    points = np.array(draw(st.lists(st.tuples(percent, percent), min_size=len(artists), max_size=len(artists))), float)
    return points, artists


ends = st.tuples(percent, percent)


@given(catalogs(), ends, ends, st.integers(2, 20))
def test_an_arc_is_as_long_as_asked_of_different_tracks_fairly_of_all_artists(catalog, start, end, n):
    points, artists = catalog
    n = min(n, len(points))
    goal = arc.path(np.array([start, end], float), n)
    rows = arc.along(points, artists, goal)
    assert len(rows) == n == len(set(rows.tolist()))
    assert (rows == arc.along(points, artists, goal)).all()
    used = np.bincount(artists[rows], minlength=artists.max() + 1)
    there = np.bincount(artists)
    assert used.max() <= used[used < there].min(initial=n) + 1  # none has two more than another one with tracks left
    distances = np.hypot(*(points - goal[0]).T)
    assert distances[rows[0]] == distances.min()
    others = artists != artists[rows[0]]
    if artists[rows[-1]] == artists[rows[0]]:  # where this alone keeps each artist from following itself
        others = ~others
        others[rows[0]] = False
    distances = np.hypot(*(points - goal[-1]).T)
    assert distances[rows[-1]] == distances[others].min()


@given(catalogs(fewest_each=8), ends, ends, st.integers(2, 15))
def test_no_artist_follows_itself(catalog, start, end, n):
    points, artists = catalog
    rows = arc.along(points, artists, arc.path(np.array([start, end], float), n))
    assert (np.diff(artists[rows]) != 0).all()


@given(st.lists(st.tuples(percent, percent), min_size=5, max_size=7), ends, ends)
def test_between_the_ends_no_choice_is_nearer(points, start, end):
    points = np.array(points, float)
    goal = arc.path(np.array([start, end], float), 5)
    rows = arc.along(points, np.arange(len(points)), goal)
    rest = [i for i in range(len(points)) if i not in (rows[0], rows[-1])]
    sums = [((points[list(three)] - goal[1:-1]) ** 2).sum() for three in itertools.permutations(rest, 3)]
    assert ((points[rows[1:-1]] - goal[1:-1]) ** 2).sum() == pytest.approx(min(sums))


def test_a_path_has_equal_steps():
    goal = arc.path(np.array([[0.0, 0.0], [30.0, 40.0], [30.0, 90.0]]), 5)
    assert goal == pytest.approx(np.array([[0, 0], [15, 20], [30, 40], [30, 65], [30, 90]]))


@pytest.mark.parametrize("word", standing.WORDS)
def test_a_mood_stands_where_tracks_have_that_mood(word):
    [code] = standing.moods(*arc.place(word)[:, None])
    assert standing.WORDS[code] == word


@pytest.mark.parametrize(
    "text", ["calm→tense", "calm-tense", "calm:tense", "Calm -> Tense", "calm, tense", "calm tense"]
)
def test_spellings_of_an_arc(text):
    assert arc.parsed(text) == ["calm", "tense"]


@pytest.fixture
def scores(tmp_path, monkeypatch):
    """100 tracks on a grid of the plane, of 50 artists; the last has no file."""
    monkeypatch.chdir(tmp_path)
    grid = [(0.05 + v / 10, 0.05 + a / 10, f"{v}{a}.mp3") for v in range(10) for a in range(10)]
    grid[-1] = (*grid[-1][:2], "")
    rows = table(grid).to_pylist()
    for i, row in enumerate(rows):
        row["artist"] = f"Artist {i % 50}"
    pq.write_table(type(table([])).from_pylist(rows, schema=SCHEMA), "s.parquet")
    return "s.parquet"


def listed(name):
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_an_arc_from_mood_to_mood(scores):
    code, out, err = typed("playlist", scores, "--arc", "calm→tense", "-n", 12, "--out", "l.jsonl")
    assert (code, err) == (0, "")
    assert "l.jsonl: 12 of 100 tracks" in out
    assert "calm → tense: " in out
    rows = listed("l.jsonl")
    arousal = [row["arousal"] for row in rows]
    assert (rows[0]["mood"], rows[-1]["mood"]) == ("calm", "tense")
    assert np.diff(arousal).min() >= -0.11  # the grid's step
    assert arousal[-1] - arousal[0] > 0.55
    assert len({row["artist"] for row in rows}) == 12
    assert "curve" not in rows[0]
    assert set(rows[0]) >= {"track_id", "uri", "lower_valence", "valence_percentile", "mood"}
    assert typed("playlist", scores, "--arc", "calm-tense", "-n", 12, "--out", "again.jsonl")[0] == 0
    assert listed("again.jsonl") == rows


def test_an_arc_from_track_to_track_within_a_condition(scores):
    query = ["playlist", scores, "--from", "00.mp3", "--to", "A – T98", "--where", "arousal < 0.5 or valence > 0.9"]
    code, _, err = typed(*query, "--out", "l.jsonl")
    assert code == 2
    assert "no track is or contains" in err
    query[5] = "Artist 48 – T98"
    code, _, err = typed(*query, "--out", "l.m3u8")
    assert (code, err) == (0, "")
    lines = Path("l.m3u8").read_text(encoding="utf-8").splitlines()[2::2]
    assert (len(lines), lines[0], lines[-1]) == (20, "00.mp3", "98.mp3")
    assert all(int(line[1]) < 5 or line[0] == "9" for line in lines)
    code, out, _ = typed("playlist", scores, "--from", "00.mp3", "--arc", "happy", "-n", 3)
    assert (code, out.count(" – T")) == (0, 4)  # three rows, and the start's name in the remark
    assert "Artist 0 – T0 → happy" in out


def test_what_is_no_arc_is_one_line(scores):
    def refused(*options):
        code, out, err = typed("playlist", *options)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        return err

    assert "there is no mood 'angry'; moods are happy, excited, tense" in refused(
        scores, "--arc", "calm-angry"
    ).replace(": moods", "; moods")
    assert "needs a start and an end" in refused(scores, "--arc", "calm")
    assert "needs a start and an end" in refused(scores, "--from", "00.mp3")
    assert "the same track" in refused(scores, "--from", "00.mp3", "--to", "00.mp3")
    assert "two orders" in refused(scores, "--arc", "calm-tense", "--sort", "valence")
    few = refused(scores, "--arc", "calm-tense", "--where", "valence < 0.1")
    assert "an arc of 20 tracks needs as many, and there are 10" in few
    assert "-n 10" in few
    assert "-n may be 2 to" in refused(scores, "--arc", "calm-tense", "-n", 1)
    assert "no file" in refused(scores, "--from", "Artist 49 – T99", "--to", "00.mp3", "--out", "l.m3u8")
    pq.write_table(table([(0.1, 0.1, "a"), (0.9, 0.9, "b")]), "few.parquet")
    assert "2 tracks have no moods" in refused("few.parquet", "--arc", "calm-tense", "-n", 2)
    plain = table([(0.1, 0.1, "a"), (0.9, 0.9, "b")])
    pq.write_table(plain.select([n for n in plain.column_names if "valence" not in n]), "one.parquet")
    assert "these scores are: arousal, dominance" in refused("one.parquet", "--arc", "calm-tense", "-n", 2)
    assert "these scores are: arousal, dominance" in refused("one.parquet", "--cues", "c.csv")


def test_rules_for_navidrome(scores):
    query = ["playlist", scores, "--out", "Dark & low.nsp", "--where"]
    where = "valence < 0.35 and (0.6 <= arousal or mood in ('Calm', 'sad')) and dominance between 0.2 and 1"
    code, out, err = typed(*query, where, "--sort=-arousal", "-n", 30)
    assert (code, err) == (0, "")
    assert "rules, which " in out
    assert "of 100 tracks fulfil once tagged" in out
    assert json.loads(Path("Dark & low.nsp").read_text(encoding="utf-8")) == {
        "name": "Dark & low",
        "comment": where,
        "all": [
            {"lt": {"valence": "0.350"}},
            {
                "any": [
                    {"any": [{"gt": {"arousal": "0.600"}}, {"is": {"arousal": "0.600"}}]},
                    {"any": [{"is": {"mood": "calm"}}, {"is": {"mood": "sad"}}]},
                ]
            },
            {
                "all": [
                    {"any": [{"gt": {"dominance": "0.200"}}, {"is": {"dominance": "0.200"}}]},
                    {"any": [{"lt": {"dominance": "1.000"}}, {"is": {"dominance": "1.000"}}]},
                ]
            },
        ],
        "sort": "arousal",
        "order": "desc",
        "limit": 30,
    }


def in_sqlite(rule: dict, as_number: bool) -> tuple[str, list[str]]:
    """A rule as Navidrome asks SQLite for it: tags are JSON, and versions after 0.55 cast numbers among them."""
    ((sign, content),) = rule.items()
    if sign in ("all", "any"):
        parts = [in_sqlite(part, as_number) for part in content]
        joined = (" AND " if sign == "all" else " OR ").join(sql for sql, _ in parts)
        return f"({joined})", [value for _, values in parts for value in values]
    ((field, value),) = content.items()
    tag = "CAST(atom AS REAL)" if as_number and field != "mood" else "atom"
    sign = {"lt": "<", "gt": ">", "is": "="}[sign]
    return f"EXISTS (SELECT 1 FROM json_tree(tags, '$.{field}') WHERE key = 'value' AND {tag} {sign} ?)", [value]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("valence < 0.35", lambda v, a: v < 350),
        ("valence <= 0.35", lambda v, a: v <= 350),
        ("valence > 0.3500", lambda v, a: v > 350),
        ("0.35 <= valence", lambda v, a: v >= 350),
        ("valence = 0.35", lambda v, a: v == 350),
        ("valence < 0.3501", lambda v, a: v <= 350),
        ("valence > 3.499e-1", lambda v, a: v >= 350),
        ("valence >= 1", lambda v, a: v == 1000),
        ("valence > -0", lambda v, a: v > 0),
        ("valence in (0, 1)", lambda v, a: v in (0, 1000)),
        ("valence between .3 and 0.35 or arousal > 0.9", lambda v, a: 300 <= v <= 350 or a > 900),
    ],
)
def test_navidrome_finds_what_the_message_says(tmp_path, monkeypatch, where, holds):
    """Whether its version compares tags as text or as numbers."""
    monkeypatch.chdir(tmp_path)
    values = [0, 0.0004, 0.001, 0.2996, 0.3, 0.3494, 0.3496, 0.35, 0.3504, 0.3506, 0.5, 0.9, 0.9004, 0.9996, 1]
    pairs = [(v, a) for v in values for a in (0.1, 0.9, 0.9006)]
    pq.write_table(table([(v, a, f"{i}.mp3") for i, (v, a) in enumerate(pairs)]), "s.parquet")
    code, out, err = typed("playlist", "s.parquet", "--where", where, "--out", "x.nsp")
    assert (code, err) == (0, "")
    tagged = [(f"{v:.3f}", f"{a:.3f}") for v, a in pairs]
    expected = [i for i, (v, a) in enumerate(tagged) if holds(round(float(v) * 1000), round(float(a) * 1000))]
    assert f"rules, which {len(expected)} of {len(pairs)} tracks fulfil once tagged" in out
    rules = json.loads(Path("x.nsp").read_text(encoding="utf-8"))
    (rule,) = [{key: rules[key]} for key in ("all", "any") if key in rules]
    with closing(sqlite3.connect(":memory:")) as server:
        server.execute("CREATE TABLE media_file (id INTEGER, tags TEXT)")
        for i, (valence, arousal) in enumerate(tagged):
            tags = {"valence": [{"value": valence}], "arousal": [{"value": arousal}], "mood": [{"value": "calm"}]}
            server.execute("INSERT INTO media_file VALUES (?, ?)", (i, json.dumps(tags)))
        for as_number in (False, True):
            sql, wanted = in_sqlite(rule, as_number)
            found = server.execute(f"SELECT id FROM media_file WHERE {sql} ORDER BY id", wanted)
            assert [i for (i,) in found] == expected


@pytest.mark.parametrize(
    "options",
    [
        ["--where", "valence_percentile < 20"],
        ["--where", "valence + arousal < 1"],
        ["--where", "not valence < 0.3"],
        ["--where", "mood != 'calm'"],
        ["--where", "valence < arousal"],
        ["--where", "title like '%war%'"],
        ["--where", "valence < 1e999"],
        ["--where", "valence < 0.3", "--sort", "title"],
        ["--where", "valence < 0.3", "--sure"],
        ["--arc", "calm-tense"],
        [],
    ],
)
def test_what_navidrome_cannot_compare_is_refused(scores, tmp_path, options):
    code, out, err = typed("playlist", scores, "--out", "x.nsp", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert not (tmp_path / "x.nsp").exists()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), m=st.integers(1, 9), levels=st.sampled_from([2, 1_000]))
@settings(max_examples=60, deadline=None)
def test_an_assignment_is_as_cheap_as_scipys(seed, n, m, levels):
    costs = np.random.default_rng(seed).integers(0, levels, (n, m)).astype(float)
    columns = assigned(costs)
    taken = columns[columns >= 0]
    assert len(taken) == len(set(taken.tolist())) == min(n, m)
    rows, best = linear_sum_assignment(costs)
    assert costs[columns >= 0, taken].sum() == costs[rows, best].sum()


@pytest.mark.parametrize("n_artists", [1, 2, 4])
def test_fewer_artists_than_steps(n_artists):
    drawn = np.random.default_rng(n_artists)
    rows = arc.along(drawn.random((60, 2)) * 100, np.arange(60) % n_artists, drawn.random((15, 2)) * 100)
    assert len(set(rows.tolist())) == 15
    assert n_artists == 1 or all(a % n_artists != b % n_artists for a, b in itertools.pairwise(rows))
