"""The stage ``label`` from Parquet to Parquet, its report, and the explanation of one label."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mer_ray import config
from mer_ray.config import Config
from mer_ray.errors import ConfigError, InputError, WorkspaceError
from mer_ray.evaluation import label_report
from mer_ray.io.identity import one_line, track_id
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, TAG
from mer_ray.io.tables import Workspace, now
from mer_ray.labels import columns, lexicon
from mer_ray.labels.explain import figure
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import from_tags
from mer_ray.stages import label as stage

LEXICON = (
    "Word\tValence\tArousal\tDominance\ncool\t.885\t.930\t.653\nnice\t.540\t.442\t.361\nstudy\t.781\t.650\t.768\n"
    "sad\t.1\t.3\t.2\nfeel good\t.9\t.6\t.7\ngladiator\t.5\t.9\t.9\ngreen wood\t.7\t.2\t.4\nquick step\t.6\t.7\t.5\n"
)
SPELLINGS = ["cool", "Cool", "nice", "study", "SAD", "feel good", "feel-good", "ost", "xyzzy", "seen live", "80s"]
SPELLINGS += ["not sad"]


def row(artist: str, title: str, tags: Sequence[tuple[str, float]], **more: object) -> dict[str, object]:
    own = {
        "track_id": track_id(artist, title),
        "artist": artist,
        "title": title,
        "tags": [{"name": n, "weight": float(w)} for n, w in tags],
        "source": "manifest",
        "fetched_at": now(),
    }
    return own | more


def rated(**values: float) -> list[dict[str, object]]:
    """The column ``ratings`` of a track."""
    return [{"dimension": d, "value": x, "se": None} for d, x in values.items()]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "l.txt").write_text(LEXICON)
    return Workspace(tmp_path / "w")


def loaded(workspace: Workspace, *assignments: str) -> Config:
    """Settings of a stage that writes no report (a picture takes a second), unless asked."""
    words = Path(workspace.root).with_name("l.txt")
    common = ["collect.source=manifest", f"label.lexicon={words}", "label.report=false"]
    return config.load(None, [*common, *assignments])


def words_of(workspace: Workspace) -> lexicon.Lexicon:
    return lexicon.load(Path(workspace.root).with_name("l.txt"))


def catalogue(n: int, seed: int = 0) -> list[dict[str, object]]:
    """Tracks with made-up tags: some have none, some only unknown ones, some spell a term twice."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        names = rng.choice(SPELLINGS, rng.integers(0, 6), replace=False)
        rows.append(row(f"Artist {i % 7}", f"Cue {seed}-{i}", [(str(t), int(rng.integers(1, 101))) for t in names]))
    return rows


def expected(rows: Sequence[dict], matcher: Matcher) -> dict[str, dict]:
    """The labels that the scalar function gives, as rows."""
    out = {}
    for r in rows:
        label = from_tags([(t["name"], t["weight"]) for t in r["tags"]], matcher)
        if label is not None:
            out[r["track_id"]] = {
                **dict(zip(DIMENSIONS, label.vad, strict=True)),
                **{f"se_{d}": None if label.se is None else label.se[i] for i, d in enumerate(DIMENSIONS)},
                "curves": None,
                "coverage": label.coverage,
                "n_matched": len(label.evidence),
                "evidence": [(e.tag, e.term, e.weight, *e.vad) for e in label.evidence],
                "lexicon": matcher.lexicon.name,
            }
    return out


def labels(workspace: Workspace) -> dict[str, dict]:
    out = {}
    for r in workspace.read("labels").to_pylist():
        r["evidence"] = [tuple(e.values()) for e in r["evidence"]]
        out[r.pop("track_id")] = r
    return out


def same(got: dict[str, dict], wanted: dict[str, dict]) -> bool:
    assert got.keys() == wanted.keys()
    for key, label in wanted.items():
        assert got[key].keys() == label.keys()
        assert got[key] == {k: pytest.approx(v, abs=1e-12) if isinstance(v, float) else v for k, v in label.items()}
    return True


# tables in pieces --------------------------------------------------------------------------------------------------


def test_a_table_in_pieces_is_the_table(workspace):
    rows = catalogue(40)
    for start in range(0, 40, 8):
        workspace.append_rows("tracks", rows[start : start + 11])  # some are in two shards
    pieces = list(workspace.batches("tracks", ["title", "tags"], rows=10))
    assert all(10 <= len(p) < 20 for p in pieces[:-1])
    assert len(pieces) > 2
    assert pa.concat_tables(pieces).to_pylist() == workspace.read("tracks", ["title", "tags"]).to_pylist()
    assert list(workspace.batches("labels", ["valence"])) == []


# the stage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["original", "careful"])
@pytest.mark.parametrize("shard_rows", [7, 50_000])
def test_what_is_streamed_is_what_the_function_gives(workspace, monkeypatch, recipe, shard_rows):
    monkeypatch.setattr(stage, "SHARD_ROWS", shard_rows)
    rows = catalogue(60)
    for start in (0, 20, 40):
        workspace.append_rows("tracks", rows[start : start + 25])
    summary = stage.run(loaded(workspace, f"label.recipe={recipe}"), workspace)
    wanted = expected(rows, Matcher(words_of(workspace), recipe))
    assert 30 < len(wanted) < 60
    assert same(labels(workspace), wanted)
    assert (summary.made, summary.failed) == (len(wanted), 60 - len(wanted))
    shards = [pq.read_table(workspace.path("labels", n)) for n in workspace.names("labels")]
    assert sum(map(len, shards)) == len(wanted)
    assert (len(shards) > 3) == (shard_rows == 7)
    assert not workspace.exists("report"), "none is wanted"
    assert all(s.schema.equals(SCHEMAS["labels"]) for s in shards)


@settings(deadline=None, max_examples=60)
@given(
    tracks=st.lists(
        st.lists(
            st.tuples(st.sampled_from(SPELLINGS), st.floats(allow_nan=True, allow_infinity=True) | st.integers(1, 100)),
            max_size=6,
        ),
        max_size=8,
    ),
    recipe=st.sampled_from(["original", "careful"]),
    words=st.booleans(),
)
def test_a_batch_is_its_tracks(tracks, recipe, words):
    scores = {"cool": (0.885, 0.93, 0.653), "nice": (0.54, 0.442, 0.361), "sad": (0.1, 0.3, 0.2)}
    matcher = Matcher(lexicon.Lexicon("l", scores), recipe, words=words, negation="reflect")
    lists = pa.array([[{"name": n, "weight": float(w)} for n, w in tags] for tags in tracks], pa.list_(TAG))
    tags = columns.encode(lists)
    batch = columns.label(tags, matcher, pa.array(["a title"] * len(tracks)))
    ends = np.cumsum(batch.n_terms)
    for i, track in enumerate(tracks):
        label = from_tags(track, matcher)
        assert (label is not None) == (batch.n_terms[i] > 0)
        if label is not None:
            at = slice(ends[i] - batch.n_terms[i], ends[i])
            assert np.allclose(batch.vad[i], label.vad, rtol=0, atol=1e-12)
            se = [np.nan] * 3 if label.se is None else label.se
            assert np.allclose(batch.se[i], se, rtol=0, atol=1e-12, equal_nan=True)
            assert batch.coverage[i] == pytest.approx(label.coverage, abs=1e-12)
            assert [tags.names[t] for t in batch.tag[at]] == [e.tag for e in label.evidence]
            assert [batch.terms[t] for t in batch.term[at]] == [e.term for e in label.evidence]
            assert np.allclose(batch.weight[at], [e.weight for e in label.evidence], rtol=1e-12)


def test_slices_and_nulls_of_a_column_of_tags():
    lists = pa.array(
        [[{"name": "x", "weight": 1.0}], None, [], [{"name": None, "weight": 2.0}, {"name": "cool", "weight": None}]],
        pa.list_(TAG),
    )
    tags = columns.encode(lists.slice(1))
    assert tags.lengths.tolist() == [0, 0, 2]
    assert [tags.names[c] for c in tags.codes] == ["", "cool"]
    assert np.isnan(tags.weights).tolist() == [False, True]
    assert columns.encode(pa.chunked_array([], pa.list_(TAG))).lengths.tolist() == []


def test_run_again_and_with_more_tracks(workspace):
    rows = catalogue(30)
    workspace.append_rows("tracks", rows[:20])
    settings_ = loaded(workspace, "label.report=true")
    stage.run(settings_, workspace)
    before = {n: Path(workspace.path("labels", n)).stat().st_mtime_ns for n in workspace.names("labels")}
    assert stage.run(settings_, workspace).made == 0
    workspace.append_rows("tracks", rows[20:])
    again = stage.run(settings_, workspace)
    wanted = expected(rows, Matcher(words_of(workspace)))
    assert same(labels(workspace), wanted)
    assert again.done_before + again.made == len(wanted)
    assert (
        before.items()
        <= {n: Path(workspace.path("labels", n)).stat().st_mtime_ns for n in workspace.names("labels")}.items()
    )
    text = workspace.read_bytes("report", "labels.md").decode()
    assert f"{len(wanted):,} labels, 0 of them given" in text  # the report is on all of them


def test_failures_say_why(workspace):
    rows = [
        row("A", "fine", [("cool", 9), ("sad", 9), ("xyzzy", 2)]),
        row("A", "none", []),
        row("A", "unknown", [("xyzzy", 5), ("plugh", 5)]),
        row("A", "few", [("cool", 5), ("COOL", 5)]),
        row("A", "thin", [("cool", 5), ("sad", 5), ("xyzzy", 90)]),
    ]
    workspace.append_rows("tracks", rows)
    settings_ = loaded(workspace, "label.min_terms=2", "label.min_coverage=0.5", "label.report=true")
    summary = stage.run(settings_, workspace)
    assert (summary.made, summary.failed) == (1, 4)
    said = {f["message"].split(":")[0]: (f["reason"], f["message"]) for f in workspace.failures("label")}
    assert {k: v[0] for k, v in said.items()} == {
        "A – none": "no_tags",
        "A – unknown": "no_known_tag",
        "A – few": "too_few_terms",
        "A – thin": "low_coverage",
    }
    assert "none of its 2 tags is in l.txt:" in said["A – unknown"][1]
    assert "label.min_terms is 2" in said["A – few"][1]
    assert "coverage 0.100, label.min_coverage is 0.5" in said["A – thin"][1]
    stage.run(settings_.model_copy(update={"retry_failed": True}), workspace)
    assert {f["attempts"] for f in workspace.failures("label")} == {2}
    text = workspace.read_bytes("report", "labels.md").decode()
    assert "| low\\_coverage | 1 |" in text


def test_given_labels_and_tags_together(workspace):
    given_ = {"valence": 0.1, "arousal": 0.2, "dominance": 0.3}
    workspace.append_rows(
        "tracks",
        [row("A", "1", [("cool", 1)]), row("A", "2", [("sad", 1)], ratings=rated(**given_)), row("A", "3", [])],
    )
    summary = stage.run(loaded(workspace, "label.report=true"), workspace)
    assert summary.made == 2
    got = labels(workspace)
    two = got[track_id("A", "2")]
    assert two | given_ == two
    assert (two["lexicon"], two["n_matched"], two["coverage"], two["se_valence"]) == ("manifest", 0, None, None)
    assert got[track_id("A", "1")]["valence"] == 0.885
    assert "1 labels are the manifest's own" in summary.notes[0]
    assert "2 labels, 1 of them given" in workspace.read_bytes("report", "labels.md").decode()
    with pytest.raises(WorkspaceError, match=r"label\.source was 'auto', now 'tags'"):
        stage.run(loaded(workspace, "label.source=tags"), workspace)


def failed_rows(workspace: Workspace) -> dict[str, tuple[str, str]]:
    failures = workspace.read("failures", ["track_id", "reason", "message"]).to_pylist()
    return {f["track_id"]: (f["reason"], f["message"]) for f in failures}


WHOLE = {"valence": 0.1, "arousal": 0.2, "dominance": 0.3}
PARTIAL = {"valence": 0.1, "arousal": 0.2}


@pytest.mark.parametrize("source", ["auto", "manifest"])
def test_tracks_without_any_label_are_failures_and_a_part_of_one_is_a_label(workspace, source):
    rows = [
        row("A", "1", [], ratings=rated(**WHOLE)),
        row("A", "2", [("sad", 1)]),
        row("A", "3", [("sad", 1)], ratings=rated(**PARTIAL)),
    ]
    workspace.append_rows("tracks", rows)
    settings = config.load(None, ["collect.source=manifest", f"label.source={source}", "label.report=false"])
    summary = stage.run(settings, workspace)
    assert (summary.made, summary.failed) == (2, 1)
    made = labels(workspace)
    assert {i: [r[d] for d in DIMENSIONS] for i, r in made.items()} == {
        track_id("A", "1"): [0.1, 0.2, 0.3],
        track_id("A", "3"): [0.1, 0.2, None],
    }
    assert {r["lexicon"] for r in made.values()} == {"manifest"}
    reason, message = failed_rows(workspace)[track_id("A", "2")]
    assert reason == "no_label"
    assert f"label.source is {source}" in message
    (note,) = summary.notes
    for said in ("1 track brings no label", "they are failures", "label.source=tags"):
        assert said in note


def test_a_part_of_a_label_is_taken_as_it_is_and_not_mixed_with_tags(workspace):
    rows = [
        row("A", "1", [("cool", 1)], ratings=rated(**PARTIAL)),
        row("A", "2", [("cool", 1)]),
        row("A", "3", [("sad", 1)], ratings=rated(**WHOLE)),
    ]
    workspace.append_rows("tracks", rows)
    summary = stage.run(loaded(workspace), workspace)
    made = labels(workspace)
    one, two = made[track_id("A", "1")], made[track_id("A", "2")]
    assert [one[d] for d in DIMENSIONS] == [0.1, 0.2, None]
    assert (one["lexicon"], one["n_matched"]) == ("manifest", 0)
    assert [two[d] for d in DIMENSIONS] == [0.885, 0.930, 0.653]
    assert any("lack dimensions (dominance 1)" in n and "not taken from tags" in n for n in summary.notes)
    assert any("1 track brings no label: theirs are made from tags" in n for n in summary.notes)


def test_with_no_label_at_all_the_error_says_how_many(workspace):
    workspace.append_rows("tracks", [row("A", "1", []), row("A", "2", [])])
    with pytest.raises(ConfigError, match=r"label\.lexicon is not set, and 2 tracks bring no label"):
        stage.run(config.load(None, ["collect.source=manifest"]), workspace)
    with pytest.raises(ConfigError) as caught:
        stage.run(config.load(None, ["collect.source=manifest", "collect.dimensions=tension,energy"]), workspace)
    assert "name columns of the manifest tension, energy" in str(caught.value)
    assert "NRC" not in str(caught.value)  # no lexicon has these


@pytest.mark.parametrize(
    "change",
    [
        "label.recipe=careful",
        "label.exclude=xyzzy",
        "label.keep=cool",
        "label.min_terms=2",
        "label.min_coverage=0.2",
        "label.scale=[0,2]",
    ],
)
def test_every_setting_that_changes_labels_is_held_to(workspace, change):
    workspace.append_rows("tracks", catalogue(10))
    stage.run(loaded(workspace), workspace)
    with pytest.raises(WorkspaceError, match=re.escape(change.split("=")[0])):
        stage.run(loaded(workspace, change), workspace)


def test_a_list_s_content_counts_and_not_its_name(workspace, tmp_path):
    workspace.append_rows("tracks", catalogue(10))
    (tmp_path / "one.txt").write_text("ost\nxyzzy\n")
    (tmp_path / "two.txt").write_text("# the same\nXyzzy\nost\n")
    stage.run(loaded(workspace, f"label.exclude=['@{tmp_path / 'one.txt'}']"), workspace)
    stage.run(loaded(workspace, f"label.exclude=['@{tmp_path / 'two.txt'}']"), workspace)
    (tmp_path / "two.txt").write_text("xyzzy\n")
    with pytest.raises(WorkspaceError, match=r"label\.exclude"):
        stage.run(loaded(workspace, f"label.exclude=['@{tmp_path / 'two.txt'}']"), workspace)


def test_what_cannot_be_meant_is_said_before_anything_starts(workspace):
    for slip in ("label.words=true", "label.negation=reflect"):
        with pytest.raises(ConfigError, match="recipe=careful"):
            loaded(workspace, slip)
    with pytest.raises(ConfigError, match="lowest, highest"):
        loaded(workspace, "label.scale=[9,1]")
    with pytest.raises(ConfigError, match=r"gone\.txt"):
        stage.check(loaded(workspace, "label.exclude='@gone.txt'"))
    with pytest.raises(ConfigError, match=r"label\.keep"):
        stage.check(loaded(workspace, "label.keep=xyzzy"))


def test_names_in_the_catalogue_and_the_track_s_own_title(workspace):
    rows = [
        row("Green Wood", "A", [("green wood", 5), ("cool", 5)]),
        row("B", "Quick-Step (Live)", [("quick step", 5), ("sad", 5), ("feel good", 5)]),
        row("C", "Other", [("quick step", 5), ("green-wood", 5), ("gladiator", 5), ("not sad", 10)]),
        row("D", 'Free (From "Gladiator")', [("cool", 1)]),
        row("Sad", "Sad", [("sad", 1)]),
    ]
    workspace.append_rows("tracks", rows)
    stage.run(loaded(workspace, "label.recipe=careful"), workspace)
    found = {r["track_id"]: r for r in workspace.read("labels").to_pylist()}
    terms = {r["title"]: [e["term"] for e in found[r["track_id"]]["evidence"]] for r in rows}
    assert terms == {
        "A": ["cool"],
        "Quick-Step (Live)": ["sad", "feel good"],
        "Other": ["quick step"],
        'Free (From "Gladiator")': ["cool"],
        "Sad": ["sad"],  # a word of mood
    }
    assert found[rows[0]["track_id"]]["coverage"] == 1
    assert found[rows[2]["track_id"]]["coverage"] == pytest.approx(1 / 3)


# the report --------------------------------------------------------------------------------------------------------


def cells(text: str, first: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [c.strip() for c in line.strip("|").split("|")]


def test_the_report_s_figures_are_those_of_the_labels(workspace):
    rows = catalogue(300, seed=5)
    workspace.append_rows("tracks", rows)
    stage.run(loaded(workspace, "label.report=true"), workspace)
    text = workspace.read_bytes("report", "labels.md").decode()
    table = workspace.read("labels")
    values = np.stack([table[d].to_numpy() for d in DIMENSIONS])
    for i, d in enumerate(DIMENSIONS):
        head = f"| {d.capitalize()} |"
        spread, correlation = (
            [c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith(head)
        )
        assert spread.pop(0) == f"{len(table):,}"
        assert [float(x) for x in spread[:2]] == pytest.approx([values[i].mean(), values[i].std(ddof=1)], abs=6e-4)
        quantiles = np.quantile(values[i], [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
        assert [float(x) for x in spread[2:7]] == pytest.approx(quantiles, abs=2e-3)
        error = np.nanquantile(table[f"se_{d}"].to_numpy(), 0.5, method="inverted_cdf")
        assert float(spread[7]) == pytest.approx(error, abs=2e-3)
        assert [float(x) for x in correlation] == pytest.approx(np.corrcoef(values)[i], abs=6e-4)
    uses = {"sad": 0, "xyzzy": 0}
    weight = dict(uses)
    total = 0.0
    for r in rows:
        for tag in r["tags"]:
            total += tag["weight"]
            if tag["name"].casefold() in uses:
                uses[tag["name"].casefold()] += 1
                weight[tag["name"].casefold()] += tag["weight"]
    assert cells(text, "sad") == ["sad", "sad", f"{uses['sad']:,}", f"{weight['sad']:,.0f}", "0.100", "0.300", "0.200"]
    share = f"{weight['xyzzy'] / total:.2%}"
    assert cells(text, "xyzzy") == ["xyzzy", "unknown", f"{uses['xyzzy']:,}", f"{weight['xyzzy']:,.0f}", share]
    reasons = {f["reason"] for f in workspace.failures("label")}
    assert reasons == {"no_tags", "no_known_tag"}
    assert sum(int(cells(text, r.replace("_", "\\_"))[1]) for r in reasons) == 300 - len(table)


def test_the_picture_is_a_picture(workspace):
    workspace.append_rows("tracks", [row("A", "1", [("cool", 1)])])  # one label: no spread, no correlation
    stage.run(loaded(workspace, "label.report=true"), workspace)
    import matplotlib.image

    assert workspace.read_bytes("report", "labels.png").startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(workspace.path("report", "labels.png"))
    assert min(pixels.shape[:2]) > 400
    assert pixels[..., :3].std() > 0.02
    assert "–" in cells(workspace.read_bytes("report", "labels.md").decode().split("Correlations")[0], "Valence")


@pytest.mark.parametrize(
    "hostile",
    [
        "a|b",
        "<script>alert(1)</script>",
        "`code` **bold** _it_ ~~no~~",
        "[link](http://example.com)",
        "![image](x.png)",
        "https://example.com www.example.com",
        "# head\n\n## head",
        "\x1b[31mred\x07\u202e",
        "&lt;b&gt; &amp;",
        "\\|",
    ],
)
def test_hostile_tags_are_text_in_the_report(hostile):
    lists = pa.array([[{"name": "cool", "weight": 1.0}, {"name": hostile, "weight": 99.0}]], pa.list_(TAG))
    tags, matcher = columns.encode(lists), Matcher(lexicon.Lexicon("l", {"cool": (0.885, 0.93, 0.653)}))
    statistics, batch = label_report.Statistics(), columns.label(tags, matcher)
    statistics.add_tags(tags)
    statistics.add_labels(columns.label_rows(pa.array(["1"]), tags.names, batch, np.array([True]), "l"))
    text = label_report.markdown(statistics, matcher, {})
    (line,) = [line for line in text.splitlines() if "99.00%" in line]
    table = f"| a | b | c | d | e |\n| --- | --- | --- | --- | --- |\n{line}\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
    cells = [t.children for t in tokens if t.type == "inline"][5:]
    assert [t.type for t in cells[0]] == ["text"] or {t.type for t in cells[0]} <= {"text", "text_special"}
    assert "".join(t.content for t in cells[0]) == one_line(hostile, 60)
    assert len(cells) == 5  # as in the rows beside it
    assert not re.search(r"(?<!\\):(?=//)|www\.", line)  # no link, even for a reader that makes links of addresses


def test_rare_tags_are_forgotten_before_memory_is_full(monkeypatch):
    monkeypatch.setattr(label_report, "_MAX_TAGS", 10)
    statistics = label_report.Statistics()
    for start in (0, 8):
        names = [f"t{i}" for i in range(start, start + 8)]
        statistics.add_tags(columns.Tags(names, np.arange(8), np.arange(8) + 1.0 + start, np.array([8])))
    assert set(statistics.tags) == {f"t{i}" for i in range(11, 16)}


def test_quantiles_of_nothing():
    assert np.isnan(label_report.quantile(np.zeros(10), 0.5))


# one label, explained ----------------------------------------------------------------------------------------------


def explained(workspace: Workspace, capsys, query: str, *assignments: str) -> str:
    capsys.readouterr()
    stage.explain(loaded(workspace, *assignments), workspace, query)
    return capsys.readouterr().out


WORKED = row("Nat King Cole", "Study Time", [("Cool", 56), ("Nice", 12), ("Study", 12), ("xyzzy[bold]", 20)])


@pytest.mark.parametrize(
    "query",
    [
        "Nat King Cole – Study Time",
        "nat king cole - STUDY  time",
        "Nat King Cole — Study Time",
        "study time",
        track_id("Nat King Cole", "Study Time"),
    ],
)
def test_the_worked_example_is_explained(workspace, capsys, monkeypatch, query):
    monkeypatch.setenv("COLUMNS", "60")
    workspace.append_rows("tracks", [WORKED, *catalogue(5)])
    out = explained(workspace, capsys, query)
    lines = [re.sub(r"[^\w.×/=\[\]]+", " ", line).split() for line in out.splitlines()]
    for figures in (
        ["Cool", "cool", "exact", "56", "0.885", "0.930", "0.653", "49.5600", "52.0800", "36.5680"],
        ["Nice", "nice", "exact", "12", "0.540", "0.442", "0.361", "6.4800", "5.3040", "4.3320"],
        ["Study", "study", "exact", "12", "0.781", "0.650", "0.768", "9.3720", "7.8000", "9.2160"],
        ["Sum", "80", "65.4120", "65.1840", "50.1160"],
        ["Label", "=", "sum", "/", "weight", "0.8177", "0.8148", "0.6265"],
        ["Coverage", "0.8000"],
        ["xyzzy[bold]", "20", "unknown"],
    ):
        assert figures in lines
    label = from_tags([(t["name"], t["weight"]) for t in WORKED["tags"]], words_of(workspace))
    assert label is not None
    assert label.se is not None
    assert ["Standard", "error", *(figure(x) for x in label.se)] in lines
    assert not workspace.exists("labels")
    stage.run(loaded(workspace), workspace)
    assert explained(workspace, capsys, query) == out


def test_the_explanation_says_why_tags_do_not_count(workspace, capsys):
    tags = [("cool", 5), ("not sad", 4), ("seen live", 3), ("80s", 2), ("green wood", 1), ("feelgood", 7), ("theme", 6)]
    workspace.append_rows("tracks", [row("Green Wood", "Theme", tags)])
    out = explained(workspace, capsys, "Green Wood – Theme", "label.recipe=careful")
    for tag, why in (
        ("not sad", "negated"),
        ("seen live", "left out: habit or praise"),
        ("80s", "left out: time"),
        ("green wood", "left out: a name"),
        ("theme", "left out: the track's own title"),
        ("feelgood", "variant"),
    ):
        (line,) = [line for line in out.splitlines() if f" {tag} " in line]
        assert why in line
    assert [line for line in out.splitlines() if "Coverage" in line and "0.7500" in line]  # 12 of 12 + 4


def test_a_given_label_and_none_at_all(workspace, capsys):
    given_ = {"valence": 0.1, "arousal": 0.25, "dominance": 0.3}
    workspace.append_rows(
        "tracks",
        [
            row("A", "given", [("cool", 1)], ratings=rated(**given_)),
            row("A", "none", [("xyzzy", 1)]),
            row("A", "few", [("cool", 1)]),
        ],
    )
    assert "the source's own" in explained(workspace, capsys, "A – given")
    assert "0.2500" in explained(workspace, capsys, "A – given")
    assert "0.8850" in explained(workspace, capsys, "A – given", "label.source=tags")
    assert "No label: no tag" in explained(workspace, capsys, "A – none")
    assert "label.min_terms is 2" in explained(workspace, capsys, "A – few", "label.min_terms=2")
    workspace.append_rows("tracks", [row("B", "part", [("cool", 1)], ratings=rated(**PARTIAL))])
    assert "the source's own, not made from tags: valence 0.1000, arousal 0.2000." in explained(
        workspace, capsys, "B – part"
    )
    with pytest.raises(ConfigError, match="no arithmetic"):
        stage.explain(config.load(None, ["collect.source=manifest"]), workspace, "A – none")


def test_no_track_or_several_are_an_error_with_near_ones(workspace):
    with pytest.raises(WorkspaceError, match="mer-ray collect"):
        stage.explain(loaded(workspace), workspace, "A – B")
    workspace.append_rows("tracks", [row("Nat King Cole", "Study", []), row("Nobody", "Study", []), WORKED])
    with pytest.raises(InputError, match=r"no track is called 'Nat King Col – Studi'.*Nat King Cole – Study"):
        stage.explain(loaded(workspace), workspace, "Nat King Col – Studi")
    with pytest.raises(InputError, match=r"2 tracks are called 'study'.*Nobody – Study \("):
        stage.explain(loaded(workspace), workspace, "study")


def test_hostile_names_are_text_in_the_explanation(workspace, capsys):
    workspace.append_rows("tracks", [row("[red]A\x1b[31m", "x\n[/bold]", [("[link=file:///]\x07", 3), ("cool", 1)])])
    (own,) = workspace.read("tracks", ["track_id"])["track_id"].to_pylist()
    out = explained(workspace, capsys, own)
    assert "[red]A" in out
    assert "[link=file:///]" in out
    assert not set("\x1b\x07") & set(out)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.62645, "0.6265"), (50.116 / 80, "0.6265"), (1.0, "1.0000"), (2 / 3, "0.6667"), (1e300, "1e+300")],
)
def test_figures_are_rounded_as_people_do(value, text):
    assert figure(value) == text


def test_real_moods_through_the_stage(tmp_path):
    manifest = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "panda4q" / "manifest.csv"
    if not manifest.is_file():
        pytest.skip(f"{manifest} is not there: it has the moods of 472 clips")
    with manifest.open(encoding="utf-8") as file:
        clips = list(csv.DictReader(file))
    workspace = Workspace(tmp_path / "w")
    rows = [row(c["artist"], c["title"] + c["path"], [(t, 1.0) for t in c["tags"].split("; ")]) for c in clips]
    workspace.append_rows("tracks", rows)
    common = ["collect.source=manifest", f"label.lexicon={lexicon.DEMO}"]
    made = stage.run(config.load(None, common), workspace).made
    assert made == 380
    careful = Workspace(tmp_path / "careful")
    careful.append_rows("tracks", rows)
    assert stage.run(config.load(None, [*common, "label.recipe=careful"]), careful).made >= made
    assert same(labels(workspace), expected(rows, Matcher(lexicon.load(lexicon.DEMO))))


# dimensions, errors, curves ----------------------------------------------------------------------------------------

MOODS = ("valence", "tension", "energy")
OTHER = "collect.dimensions=" + ",".join(MOODS)
CURVE = {"dimension": "tension", "time_s": [0.5, 1.0, 2.5], "value": [0.25, 0.5, 0.75]}


def test_labels_of_other_dimensions_with_errors_and_curves(workspace, capsys):
    own = [{"dimension": "tension", "value": 0.5, "se": 0.125}, {"dimension": "energy", "value": 0.25, "se": None}]
    rows = [row("A", "1", [], ratings=own, curves=[CURVE]), row("A", "2", [("cool", 2), ("sad", 1)])]
    workspace.append_rows("tracks", rows)
    stage.run(loaded(workspace, OTHER, "label.report=true"), workspace)
    assert workspace.dimensions("labels") == MOODS
    made = labels(workspace)
    rated_, tagged = made[track_id("A", "1")], made[track_id("A", "2")]
    assert [rated_[d] for d in MOODS] == [None, 0.5, 0.25]
    assert [rated_[f"se_{d}"] for d in MOODS] == [None, 0.125, None]
    assert rated_["curves"] == [CURVE]
    assert [tagged[d] for d in MOODS] == [pytest.approx((2 * 0.885 + 0.1) / 3), None, None]
    assert tagged["se_valence"] > 0
    assert (tagged["curves"], len(tagged["evidence"])) == (None, 2)
    text = workspace.read_bytes("report", "labels.md").decode()
    assert cells(text.split("Correlations")[0], "Tension")[:4] == ["Tension", "1", "0.500", "–"]
    assert cells(text.split("Labels over time")[1], "Tension") == ["Tension", "1", "3"]
    assert "Dominance" not in text
    assert workspace.read_bytes("report", "labels.png").startswith(b"\x89PNG")
    out = explained(workspace, capsys, "A – 1", OTHER)
    for said in ("tension 0.5000 (standard error 0.1250), energy 0.2500", "3 points from 0.5 to 2.5 s"):
        assert said in out


def test_labels_of_other_dimensions_are_not_mixed_in_one_table(workspace):
    workspace.append_rows("tracks", [row("A", "1", [("cool", 1)], ratings=rated(tension=0.5, valence=0.5))])
    stage.run(loaded(workspace, OTHER), workspace)
    with pytest.raises(
        WorkspaceError, match=r"labels of valence, tension, energy.*collect\.dimensions=valence,tension"
    ):
        stage.run(loaded(workspace), workspace)


@pytest.mark.parametrize("source", ["tags", "auto"])
def test_tags_say_nothing_of_dimensions_that_are_in_no_lexicon(workspace, source):
    workspace.append_rows("tracks", [row("A", "1", [("cool", 1)])])
    settings_ = loaded(workspace, "collect.dimensions=tension", f"label.source={source}")
    for refuse in (lambda: stage.check(settings_), lambda: stage.run(settings_, workspace)):
        with pytest.raises(ConfigError, match=r"from tags are of valence, arousal, dominance.*tension"):
            refuse()


def test_the_report_takes_correlations_over_the_labels_that_have_both(workspace):
    rng = np.random.default_rng(0)
    full = rng.random((60, 3))
    full[:, 1] = 0.6 * full[:, 0] + 0.4 * full[:, 1]
    rows = []
    for i, own in enumerate(full):
        has = [d for d, x in zip(DIMENSIONS, rng.random(3), strict=True) if x < 0.7] or ["valence"]
        values = {d: float(x) for d, x in zip(DIMENSIONS, own, strict=True) if d in has}
        rows.append(row("A", str(i), [], ratings=rated(**values)))
    workspace.append_rows("tracks", rows)
    stage.run(loaded(workspace, "label.source=manifest", "label.report=true"), workspace)
    table = workspace.read("labels")
    values = np.stack([table[d].to_numpy() for d in DIMENSIONS])
    text = workspace.read_bytes("report", "labels.md").decode().split("Correlations")
    for i, d in enumerate(DIMENSIONS):
        own = cells(text[0], d.capitalize())[1:4]
        known = values[i][~np.isnan(values[i])]
        assert own[0] == str(len(known))
        assert [float(x) for x in own[1:]] == pytest.approx([known.mean(), known.std(ddof=1)], abs=6e-4)
        for j, cell in enumerate(cells(text[1], d.capitalize())[1:]):
            both = ~np.isnan(values[[i, j]]).any(axis=0)
            assert float(cell) == pytest.approx(np.corrcoef(values[i][both], values[j][both])[0, 1], abs=6e-4)
