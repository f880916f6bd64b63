"""Tags → valence, arousal, dominance: against a worked example, 4,729 real songs, and the laws of a weighted mean."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.labels import lexicon
from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.vad import from_tags, weighted_mean

WORKED = Lexicon(
    "worked", {"cool": (0.885, 0.930, 0.653), "nice": (0.540, 0.442, 0.361), "study": (0.781, 0.650, 0.768)}
)
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "lastfm_tags"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# the mean ----------------------------------------------------------------------------------------------------------


def test_worked_example():
    label = from_tags([("Cool", 56), ("Nice", 12), ("Study", 12)], WORKED)
    assert label is not None
    assert [round(x, 4) for x in label.vad] == [0.8177, 0.8148, 0.6265]
    assert label.coverage == 1
    assert [(e.tag, e.term, e.weight) for e in label.evidence] == [
        ("Cool", "cool", 56),
        ("Nice", "nice", 12),
        ("Study", "study", 12),
    ]


def test_every_real_song_has_its_published_valence_and_arousal():
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there: it has the 4,729 tagged songs to compare with")
    words = lexicon.load(DATA / "nrc-vad-excerpt.txt")
    songs = [json.loads(line) for line in (DATA / "tracks.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(songs) == 4_729
    assert len(words) == 27
    labels = [from_tags([(n, w) for n, w in song["tags"]], words) for song in songs]
    got = np.array([label.vad[:2] for label in labels if label is not None])
    wanted = np.array([(song["valence"], song["arousal"]) for song in songs])
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-6
    assert {label.coverage for label in labels if label is not None} == {1.0}


terms = st.sampled_from(["cool", "nice", "study", "COOL", " Nice  "])
weights = st.floats(1e-3, 1e6)
known = st.lists(st.tuples(terms, weights), min_size=1, max_size=12)
unknown = st.lists(st.tuples(st.sampled_from(["seen live", "ost", "", "coo"]), weights), max_size=6)


def vad(tags) -> np.ndarray:
    label = from_tags(tags, WORKED)
    assert label is not None
    return np.array(label.vad)


@given(known, st.floats(1e-6, 1e6))
def test_only_the_ratios_of_weights_count(tags, factor):
    scaled = from_tags([(n, w * factor) for n, w in tags], WORKED)
    plain = from_tags(tags, WORKED)
    assert scaled is not None
    assert plain is not None
    assert np.allclose(scaled.vad, plain.vad, atol=1e-9)
    assert math.isclose(scaled.coverage, plain.coverage, rel_tol=1e-9)
    if plain.se is not None:
        assert np.allclose(scaled.se, plain.se, atol=1e-6)


@given(known, st.randoms(use_true_random=False))
def test_order_does_not_count(tags, random):
    shuffled = random.sample(tags, len(tags))
    assert np.allclose(vad(shuffled), vad(tags), atol=1e-12)


@given(known, unknown)
def test_a_label_lies_among_its_terms(tags, others):
    label = from_tags(tags + others, WORKED)
    assert label is not None
    scores = np.array([e.vad for e in label.evidence])
    assert (scores.min(axis=0) <= label.vad).all()
    assert (label.vad <= scores.max(axis=0)).all()
    assert {e.term for e in label.evidence} == {lexicon.fold(n) for n, _ in tags}


@given(known, unknown)
def test_unknown_tags_change_only_the_coverage(tags, others):
    with_them, without = from_tags(others + tags, WORKED), from_tags(tags, WORKED)
    assert with_them is not None
    assert without is not None
    assert np.allclose(with_them.vad, without.vad, atol=1e-12)
    assert with_them.evidence == without.evidence
    matched, total = sum(w for _, w in tags), sum(w for _, w in tags + others)
    assert math.isclose(with_them.coverage, matched / total, rel_tol=1e-9)
    assert 0 < with_them.coverage <= 1


@given(st.lists(st.tuples(terms, st.floats(5e-324, 1e300)), min_size=1, max_size=8))
def test_extreme_weights_give_a_label(tags):
    assume(any(w > 0 for _, w in tags))
    assert np.isfinite(vad(tags)).all()


def test_a_term_spelled_twice_counts_once_with_the_sum_of_its_weights():
    twice = from_tags([("cool", 30), ("Nice", 12), ("COOL", 26), ("study", 12)], WORKED)
    assert twice is not None
    assert [round(x, 4) for x in twice.vad] == [0.8177, 0.8148, 0.6265]
    assert len(twice.evidence) == 3


@pytest.mark.parametrize(
    "tags", [[], [("unheard of", 3)], [("cool", 0)], [("cool", -1)], [("cool", math.nan)], [("cool", math.inf)]]
)
def test_no_known_tag_is_no_label(tags):
    assert from_tags(tags, WORKED) is None


def test_one_term_has_no_standard_error():
    label = from_tags([("cool", 5), ("Cool", 9), ("unheard of", 1)], WORKED)
    assert label is not None
    assert label.se is None
    assert label.vad == (0.885, 0.930, 0.653)


def test_equal_weights_give_the_textbook_standard_error():
    values = np.random.default_rng(0).random((9, 3))
    mean, se = weighted_mean(values, np.full(9, 2.5))
    assert np.allclose(mean, values.mean(axis=0))
    assert np.allclose(se, values.std(axis=0, ddof=1) / 3)


def test_standard_error_agrees_with_the_bootstrap():
    # Drawing whole (value, weight) pairs again is what the estimator approximates.
    rng = np.random.default_rng(1)
    values, weights_ = rng.random((40, 3)), rng.gamma(2.0, size=40)
    _, se = weighted_mean(values, weights_)
    draws = rng.integers(0, 40, (4_000, 40))
    means = (weights_[draws][:, :, None] * values[draws]).sum(1) / weights_[draws].sum(1)[:, None]
    assert se is not None
    assert np.abs(se / means.std(axis=0) - 1).max() < 0.12


def test_standard_error_covers_the_truth_by_simulation():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(400):
        values, weights_ = rng.normal(0.5, 0.1, (30, 3)), rng.uniform(0.5, 2, 30)
        mean, se = weighted_mean(values, weights_)
        inside += int((np.abs(mean - 0.5) < 2 * se).sum())
    assert 0.91 < inside / 1_200 < 0.98


# the lexicon file --------------------------------------------------------------------------------------------------


V1 = "aaaaaaah\t0.479\t0.606\t0.291\nnull\t0.281\t0.157\t0.231\nnan\t0.5\t0.25\t0.75\nNA\t0.1\t0.2\t0.3\n"


@pytest.mark.parametrize("header", ["", "Word\tValence\tArousal\tDominance\n", "term\tvalence\tarousal\tdominance\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_v1_with_and_without_a_header(tmp_path, header, newline, bom):
    words = lexicon.load(write(tmp_path / "NRC-VAD-Lexicon.txt", bom + (header + V1).replace("\n", newline)))
    assert dict(words.terms) == {
        "aaaaaaah": (0.479, 0.606, 0.291),
        "null": (0.281, 0.157, 0.231),
        "nan": (0.5, 0.25, 0.75),
        "na": (0.1, 0.2, 0.3),
    }


def test_v2_has_phrases_and_is_mapped_to_0_1(tmp_path):
    text = "term\tvalence\tarousal\tdominance\nA Cappella\t0.24\t-0.5\t-1.0\nword\t1\t0\t0.5\nnull\t-0.4\t-0.6\t-0.5\n"
    words = lexicon.load(write(tmp_path / "unigrams.txt", text))
    assert words.terms["a cappella"] == (0.62, 0.25, 0.0)
    assert words.terms["word"] == (1.0, 0.5, 0.75)
    label = from_tags([("a  CAPPELLA", 3), ("NULL", 1)], words)
    assert label is not None
    assert label.evidence[0].term == "a cappella"
    assert label.vad[2] == pytest.approx(0.0625)


def test_columns_follow_the_header(tmp_path):
    words = lexicon.load(write(tmp_path / "own.csv", 'Term,D,V,A\n"rock, heavy",0.9,0.4,0.8\n'))
    assert dict(words.terms) == {"rock, heavy": (0.4, 0.8, 0.9)}


def test_a_quotation_mark_in_a_tab_separated_file_is_a_character(tmp_path):
    words = lexicon.load(write(tmp_path / "l.txt", "\"quoted\t0.1\t0.2\t0.3\nrock 'n' roll\"\t0.4\t0.5\t0.6\n"))
    assert set(words.terms) == {'"quoted', "rock 'n' roll\""}


def test_of_a_term_that_stands_twice_the_first_counts(tmp_path):
    words = lexicon.load(write(tmp_path / "l.txt", "Sad\t0.1\t0.2\t0.3\nsad\t0.9\t0.9\t0.9\n"))
    assert dict(words.terms) == {"sad": (0.1, 0.2, 0.3)}


def test_the_name_follows_the_content(tmp_path):
    one = lexicon.load(write(tmp_path / "l.txt", "sad\t0.1\t0.2\t0.3\n")).name
    other = lexicon.load(write(tmp_path / "l.txt", "sad\t0.1\t0.2\t0.4\n")).name
    assert one != other
    assert one.startswith("l.txt:")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sad\t0.1\t0.2", "three numbers"),
        ("sad\t0.1\t0.2\thigh", "three numbers"),
        ("sad 0.1 0.2 0.3", "three numbers"),
        ("sad\t0.1\t0.2\t\t", "three numbers"),
        ("sad\t5\t6\t7", "-1..1"),
        ("sad\t0.1\tnan\t0.3", "-1..1"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, said):
    file = write(tmp_path / "lexicon.txt", f"Word\tValence\tArousal\tDominance\ncalm\t0.8\t0.1\t0.5\n{line}\n")
    with pytest.raises(InputError) as caught:
        lexicon.load(file)
    assert f"{file}, line 3" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"Word\tValence\tArousal\tDominance\n", b"sad\xff\t0.1\t0.2\t0.3\n", b"Word\tJoy\tFear\tRage\n"],
)
def test_a_useless_file_is_named(tmp_path, content):
    file = tmp_path / "lexicon.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"lexicon\.txt"):
        lexicon.load(file)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_missing_file_says_where_to_get_it(tmp_path, name):
    with pytest.raises(InputError, match=r"saifmohammad\.com"):
        lexicon.load(tmp_path / name)


def test_the_demo_lexicon_is_sound():
    words = lexicon.load(lexicon.DEMO)
    assert len(words) > 100
    scores = np.array(list(words.terms.values()))
    assert (scores.min() >= 0) & (scores.max() <= 1)
    assert scores.std(axis=0).min() > 0.15  # spread out, or it would teach nothing
