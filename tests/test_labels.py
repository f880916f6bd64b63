"""Tags → valence, arousal, dominance: against a worked example, 4,729 real songs, and the laws of a weighted mean."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mer_ray.errors import ConfigError, InputError
from mer_ray.labels import lexicon
from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import PRIOR_SD, PRIOR_TERMS, from_tags, weighted_means

OF_WORKED = [0.81765, 0.8148, 0.62645]  # .8177 .8148 .6265 in the published table, which rounds halves up
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
    assert np.allclose(label.vad, OF_WORKED, rtol=0, atol=1e-12)
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
unknown = st.lists(st.tuples(st.sampled_from(["ost", "", "coo", "xyzzy plugh"]), weights), max_size=6)
careless = st.lists(
    st.tuples(st.sampled_from(["seen live", "1980s", "Favourites", "by The Nices"]), weights), max_size=6
)
both = pytest.mark.parametrize(
    "words", [WORKED, Matcher(WORKED, "careful", names={"by the nices"})], ids=["original", "careful"]
)


def vad(tags, words: Lexicon | Matcher = WORKED) -> np.ndarray:
    label = from_tags(tags, words)
    assert label is not None
    return np.array(label.vad)


@both
@settings(deadline=None)
@given(tags=known, factor=st.floats(1e-6, 1e6))
def test_only_the_ratios_of_weights_count(words, tags, factor):
    scaled = from_tags([(n, w * factor) for n, w in tags], words)
    plain = from_tags(tags, words)
    assert scaled is not None
    assert plain is not None
    assert np.allclose(scaled.vad, plain.vad, atol=1e-9)
    assert math.isclose(scaled.coverage, plain.coverage, rel_tol=1e-9)
    assert (scaled.se is None) == (plain.se is None)
    if plain.se is not None:
        assert np.allclose(scaled.se, plain.se, atol=1e-6)


@both
@settings(deadline=None)
@given(tags=known, random=st.randoms(use_true_random=False))
def test_order_does_not_count(words, tags, random):
    shuffled = random.sample(tags, len(tags))
    assert np.allclose(vad(shuffled, words), vad(tags, words), atol=1e-12)


@both
@settings(deadline=None)
@given(tags=known, others=unknown)
def test_a_label_lies_among_its_terms(words, tags, others):
    label = from_tags(tags + others, words)
    assert label is not None
    scores = np.array([e.vad for e in label.evidence])
    assert (scores.min(axis=0) <= label.vad).all()
    assert (label.vad <= scores.max(axis=0)).all()
    assert {e.term for e in label.evidence} == {lexicon.fold(n) for n, _ in tags}


@both
@settings(deadline=None)
@given(tags=known, others=unknown)
def test_unknown_tags_change_only_the_coverage(words, tags, others):
    with_them, without = from_tags(others + tags, words), from_tags(tags, words)
    assert with_them is not None
    assert without is not None
    assert np.allclose(with_them.vad, without.vad, atol=1e-12)
    assert with_them.evidence == without.evidence
    assert with_them.se == without.se
    matched, total = sum(w for _, w in tags), sum(w for _, w in tags + others)
    assert math.isclose(with_them.coverage, matched / total, rel_tol=1e-9)
    assert 0 < with_them.coverage <= 1


@settings(deadline=None)
@given(tags=known, others=careless)
def test_tags_that_are_not_about_the_music_change_not_even_the_coverage_of_the_careful(tags, others):
    words = Matcher(WORKED, "careful", names={"by the nices"})
    with_them, without = from_tags(others + tags, words), from_tags(tags, words)
    assert with_them == without
    plain = from_tags(others + tags, WORKED)
    assert plain is not None
    assert (plain.coverage < 1) == bool(others)  # to the original they are unknown


@settings(deadline=None)
@given(st.lists(st.tuples(terms, st.floats(5e-324, 1e300)), min_size=1, max_size=8))
def test_extreme_weights_give_a_label(tags):
    assume(any(w > 0 for _, w in tags))
    assert np.isfinite(vad(tags)).all()


def test_a_term_spelled_twice_counts_once_with_the_sum_of_its_weights():
    twice = from_tags([("cool", 30), ("Nice", 12), ("COOL", 26), ("study", 12)], WORKED)
    assert twice is not None
    assert np.allclose(twice.vad, OF_WORKED, rtol=0, atol=1e-12)
    assert [(e.tag, e.weight) for e in twice.evidence] == [("cool", 56), ("Nice", 12), ("study", 12)]


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
    mean, se = weighted_means(values, np.full(9, 2.5), np.array([9]))
    assert np.allclose(mean, values.mean(axis=0))
    assert np.allclose(se, values.std(axis=0, ddof=1) / 3)


def test_a_term_of_vanishing_weight_changes_nothing():
    values = np.array([[0.2, 0.4, 0.6], [0.8, 0.5, 0.1], [1.0, 1.0, 1.0]])
    mean, se = weighted_means(values[:2], np.array([3.0, 2.0]), np.array([2]))
    nearly, nearly_se = weighted_means(values, np.array([3.0, 2.0, 1e-9]), np.array([3]))
    assert np.allclose(mean, nearly, atol=1e-8)
    assert np.allclose(se, nearly_se, atol=1e-8)
    alone = weighted_means(values, np.array([1.0, 1e-15, 1e-15]), np.array([3]))[1]
    assert np.isnan(alone).all()  # that is one term


def heavy_tailed(n: int, tracks: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (tracks, n) like Last.fm's: the heaviest tag at 100, the others falling off fast."""
    falling = 100 / np.arange(1, n + 1) ** 1.2
    return np.maximum(1, np.round(falling * rng.uniform(0.6, 1.4, (tracks, n))))


WEIGHTS = {
    "equal": lambda n, tracks, rng: np.ones((tracks, n)),
    "Last.fm": heavy_tailed,
    "Pareto": lambda n, tracks, rng: 1 + rng.pareto(1.0, (tracks, n)),
}
T90 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 6: 1.943, 9: 1.833, 11: 1.796}  # Student's t, two-sided 90 %
TRACKS = 20_000


def simulated(n: int, kind: str, spread: np.ndarray | float, moderated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the mean and their standard errors, (TRACKS, 3) each, of tracks whose truth is 0."""
    rng = np.random.default_rng(n)
    values = rng.normal(size=(TRACKS, n, 3)) * spread
    drawn = WEIGHTS[kind](n, TRACKS, rng)
    return weighted_means(values.reshape(-1, 3), drawn.ravel(), np.full(TRACKS, n), moderated)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_standard_error_is_calibrated(kind, n):
    error, se = simulated(n, kind, 0.25, moderated=False)
    assert np.sqrt((se**2).mean() / (error**2).mean()) == pytest.approx(1, abs=0.03)
    inside = (np.abs(error) < T90[n - 1] * se).mean()
    assert 0.885 < inside < 0.935


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_the_moderated_standard_error_is_calibrated_where_the_prior_holds(kind, n):
    # Tracks differ in how much their terms disagree, as the prior says: PRIOR_SD² over a mean of PRIOR_TERMS squares.
    mixed = PRIOR_SD / np.sqrt((np.random.default_rng(99).normal(size=(TRACKS, 1, 3, PRIOR_TERMS)) ** 2).mean(-1))
    error, se = simulated(n, kind, mixed, moderated=True)
    inside = (np.abs(error) < T90[n - 1 + PRIOR_TERMS] * se).mean()
    assert 0.885 < inside < 0.93
    error, se = simulated(n, kind, PRIOR_SD, moderated=True)
    assert np.sqrt((se**2).mean() / (error**2).mean()) == pytest.approx(1, abs=0.04)


def test_one_term_has_a_standard_error_where_it_is_moderated():
    label = from_tags([("cool", 5)], Matcher(WORKED, "careful"))
    assert label is not None
    assert label.se == pytest.approx((PRIOR_SD,) * 3)


def test_halves_of_real_songs_differ_as_the_standard_error_says():
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there: it has the 4,729 tagged songs")
    words = lexicon.load(DATA / "nrc-vad-excerpt.txt")
    rng = np.random.default_rng(0)
    squares = []
    for line in (DATA / "tracks.jsonl").read_text(encoding="utf-8").splitlines():
        tags = json.loads(line)["tags"]
        rng.shuffle(tags)
        one, other = (from_tags(half, words) for half in (tags[::2], tags[1::2]))
        if one and other and one.se and other.se:
            difference = np.subtract(one.vad, other.vad)
            squares.append([difference**2, np.square(one.se) + np.square(other.se)])
    assert len(squares) > 2_000
    seen, message = np.mean(squares, axis=0)
    assert np.sqrt(message / seen) == pytest.approx(np.ones(3), abs=0.1)


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


SAD = {"sad": (0.1, 0.2, 0.3)}
OF_1_TO_9 = {"sad": (0.25, 0.5, 1.0)}


@pytest.mark.parametrize(
    ("name", "text", "terms"),
    [
        (
            "NRC-VAD-bilingual.txt",
            "English Word\tValence\tArousal\tDominance\tGerman Word\nsad\t.1\t.2\t.3\ttraurig\n",
            SAD,
        ),
        ("l.txt", "English Word\tGerman Word\tValence\tArousal\tDominance\nsad\ttraurig, weh\t.1\t.2\t.3\n", SAD),
        ("l.csv", "Word;Valence;Arousal;Dominance\nsad;0,1;0,2;0,3\n", SAD),
        ("l.csv", "sep=;\nWord;V;A;D\nsad;0.1;0.2;0.3\n", SAD),
        ("l.csv", "sad;0,1;0,2;0,3\n", SAD),
        ("l.txt", "Word,Valence,Arousal,Dominance\nsad,0.1,0.2,0.3\n", SAD),
        ("l.txt", '"Word"\t"Valence"\t"Arousal"\t"Dominance"\n"sad"\t0.1\t0.2\t0.3\n', SAD),
        (
            "l.csv",
            '"","Lemma","mean_valence","mean_arousal","mean_dominance","sd_valence"\n"1","sad",.1,.2,.3,2\n',
            SAD,
        ),
        ("l.csv", "Term,ValMn,AroMn,DomMn\nsad,0.1,0.2,0.3\n", SAD),
        ("l.csv", "Description,Word No.,ValMn,ValSD,AroMn,AroSD,DomMn,DomSD\nsad,621,3,2,5,2,9,2\n", OF_1_TO_9),
        ("l.txt", "Word\tValence Mean\tValence SD\tArousal Mean\tDominance Mean\nsad\t3\t2\t5\t9\n", OF_1_TO_9),
        ("l.csv", "Word;V.Mean.Sum;A.Mean.Sum;D.Mean.Sum\nsad;3,0;5,0;9,0\n", OF_1_TO_9),
        ("l.csv", "Word,V,A,D\nnull,0.1,0.2,0.3\ntrue,0.1,0.2,0.3\n", {"null": SAD["sad"], "true": SAD["sad"]}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lexicons_as_people_have_them(tmp_path, name, text, terms, encoding):
    (tmp_path / name).write_text(text, encoding=encoding)
    assert dict(lexicon.load(tmp_path / name).terms) == terms


def test_a_lexicon_in_windows_1252(tmp_path):
    (tmp_path / "l.txt").write_text("voilà\t0.1\t0.2\t0.3\n", encoding="cp1252")
    assert set(lexicon.load(tmp_path / "l.txt").terms) == {"voilà"}


WARRINER = (
    ",Word,V.Mean.Sum,V.SD.Sum,V.Rat.Sum,A.Mean.Sum,A.SD.Sum,A.Rat.Sum,D.Mean.Sum,D.SD.Sum,D.Rat.Sum,V.Mean.M\n"
    "1,aardvark,6.26,2.21,19,2.41,1.4,22,4.27,1.75,15,6.18\n2,word,9,2,20,1,1.9,20,5,2.48,23,4.29\n"
)
NO_NUMBERS = (b"\t0.1\t0.2", b"\t0.1\t0.2\thigh", b" 0.1 0.2 0.3", b"\t0.1\t0.2\t\t")
CALM = b"Word\tValence\tArousal\tDominance\ncalm\t0.8\t0.1\t0.5\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"Word,Joy,Fear,Anger\nsad,0.1,0.2,0.3\n", "wanted are a column of terms"),
        ("l.csv", b"Emotion,Valence,Arousal,Dominance\nsad,0.1,0.2,0.3\n", "wanted are a column of terms"),
        ("l.csv", b"Word,Valence,Arousal\nsad,0.1,0.2\n", "Valence, Arousal, Dominance"),
        ("l.csv", b"Word,Valence,valence,Arousal,Dominance\nsad,0.1,0.2,.3,.4\n", "could both be meant"),
        ("l.csv", b"Word,V,A,D\nsad,0,1,0,2,0,3\n", "line 2: expected a term and three numbers"),
        ("l.csv", b"sad,0,1,0,2,0,3\n", "line 1: expected a term and three numbers"),
        ("l.csv", b'Word,V,A,D\n"sad,0.1,0.2,0.3\ncalm,0.1,0.2,0.3\n', "quotation mark"),
        ("l.csv", b"Word,V,A,D\nsad,0.1,0.2,0.3,0.4\n", "line 2"),
        ("l.xlsx", b"PK\x03\x04 and so on", "workbook.*save it as CSV"),
        ("l.csv", b"Word,ValMn,AroMn,DomMn\nsad,3,5,10\n", r"1\.\.9 \(ANEW\)"),
        ("w.csv", WARRINER.encode() + b"3,abalone,0.5,1,20,2,1,20,3,1,20,4\n", r"line 4: scores must lie in 1\.\.9"),
        *[("l.txt", CALM + b"sad" + line, "line 3: .*three numbers") for line in NO_NUMBERS],
        *[("l.txt", CALM + b"sad" + line, r"line 3: .*-1\.\.1") for line in (b"\t5\t6\t7", b"\t0.1\tnan\t0.3")],
        *[("l.txt", content, "l.txt") for content in (b"", b"\n\n", CALM[:31], b"sad\xff\t0.1\t0.2\t0.3\n")],
        ("l.txt", b"Word\tJoy\tFear\tRage\n", "wanted are a column of terms"),
    ],
)
def test_a_lexicon_that_cannot_be_read_says_what_is_wanted(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        lexicon.load(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_missing_file_says_where_to_get_it(tmp_path, name):
    with pytest.raises(InputError, match=r"saifmohammad\.com"):
        lexicon.load(tmp_path / name)


def test_warriner_s_norms_bring_their_scale(tmp_path):
    words = lexicon.load(write(tmp_path / "Ratings_Warriner_et_al.csv", WARRINER))
    assert words.scale == (1.0, 9.0)
    assert words.terms["aardvark"] == pytest.approx(((6.26 - 1) / 8, (2.41 - 1) / 8, (4.27 - 1) / 8))
    assert words.terms["word"] == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("term,valence,arousal,dominance\nsad,1,3,5\n", "own.csv", {"sad": (0.0, 0.5, 1.0)}),
        ("Id\tD\tA\tV\tLemma\n7\t5\t3\t1\tSad\n", "own.tsv", {"sad": (0.0, 0.5, 1.0)}),
        ("sad\t1\t3\t5\n", "own.txt", {"sad": (0.0, 0.5, 1.0)}),
    ],
)
def test_any_table_on_a_declared_scale(tmp_path, text, name, expected):
    words = lexicon.load(write(tmp_path / name, text), (1, 5))
    assert dict(words.terms) == expected
    assert words.scale == (1.0, 5.0)


def test_a_score_outside_the_declared_scale_is_named(tmp_path):
    file = write(tmp_path / "own.csv", 'term,valence,arousal,dominance\nsad,1,3,5\n"two\nlines",1,2,3\nglad,5,6,1\n')
    with pytest.raises(InputError, match=r"own\.csv, line 5: scores must lie in 1\.\.5.*label\.scale"):
        lexicon.load(file, (1, 5))
    with pytest.raises(InputError, match=r"own\.csv, line 2: .*declare another scale as label\.scale"):
        lexicon.load(file)
    with pytest.raises(ConfigError, match=r"label\.scale"):
        lexicon.load(file, (5, 1))


@pytest.mark.parametrize(("line", "scale"), [("sad\t0.1\t0.2\t0.3", (0.0, 1.0)), ("sad\t0.1\t-0.2\t0.3", (-1.0, 1.0))])
def test_the_scale_is_on_record(tmp_path, line, scale):
    assert lexicon.load(write(tmp_path / "l.txt", f"calm\t0.5\t0.5\t0.5\n{line}\n")).scale == scale


@pytest.mark.parametrize("word", ["word", "term", "lemma", "nan", "null", "inf"])
def test_a_first_line_that_is_an_entry_is_no_header(tmp_path, word):
    words = lexicon.load(write(tmp_path / "l.txt", f"{word}\t0.1\t0.2\t0.3\n"))
    assert dict(words.terms) == {word: (0.1, 0.2, 0.3)}


def test_the_demo_lexicon_is_sound():
    words = lexicon.load(lexicon.DEMO)
    assert len(words) > 100
    scores = np.array(list(words.terms.values()))
    assert (scores.min() >= 0) & (scores.max() <= 1)
    assert scores.std(axis=0).min() > 0.15  # spread out, or it would teach nothing
