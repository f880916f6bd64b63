"""From tags to terms: each step of the sequence, what is left out, and what must never be matched."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import ConfigError
from mer_ray.labels import exclusions
from mer_ray.labels.exclusions import Names, entries, films, habits, is_mood, key, title_forms
from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.spelling import is_time, joined, normal, spaced
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import from_tags

SCORES = {
    "happy": (0.95, 0.7, 0.7),
    "unhappy": (0.1, 0.4, 0.2),
    "sad": (0.1, 0.3, 0.2),
    "not good": (0.2, 0.4, 0.3),
    "good": (0.9, 0.4, 0.6),
    "feel good": (0.9, 0.6, 0.7),
    "a cappella": (0.6, 0.3, 0.5),
    "upbeat": (0.9, 0.8, 0.7),
    "love song": (0.8, 0.5, 0.5),
    "rock 'n' roll": (0.7, 0.9, 0.7),
    "melancholy": (0.2, 0.3, 0.3),
    "alive": (0.9, 0.6, 0.7),
    "nowhere": (0.3, 0.3, 0.2),
    "notable": (0.8, 0.4, 0.7),
    "nonstop": (0.5, 0.8, 0.6),
    "café": (0.7, 0.4, 0.5),
    "calm": (0.8, 0.1, 0.5),
    "gladiator": (0.5, 0.9, 0.9),
    "null": (0.3, 0.2, 0.2),
    "live": (0.8, 0.6, 0.6),
    "dream": (0.8, 0.4, 0.5),
    "strange": (0.4, 0.5, 0.4),
}
WORDS = Lexicon("words", SCORES)


def careful(**options) -> Matcher:
    return Matcher(WORDS, "careful", **options)


def found(matcher: Matcher, tag: str) -> dict[str, str]:
    """Term → how."""
    return {m.term: m.how for m in matcher.match(tag)}


# the sequence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "term", "how"),
    [
        ("  HAPPY ", "happy", "exact"),
        ("ｈａｐｐｙ", "happy", "exact"),
        ("Feel Good", "feel good", "exact"),
        ("feel_good", "feel good", "exact"),
        ("feel+good!", "feel good", "exact"),
        ("#happy", "happy", "exact"),
        ("♥ happy ♥", "happy", "exact"),
        ("“happy”", "happy", "exact"),
        ("'happy'", "happy", "exact"),
        ("rock ’n’ roll", "rock 'n' roll", "exact"),
        ("NULL", "null", "exact"),
        ("feel-good", "feel good", "variant"),
        ("feel–good", "feel good", "variant"),
        ("feelgood", "feel good", "variant"),
        ("up beat", "upbeat", "variant"),
        ("up-beat", "upbeat", "variant"),
        ("acappella", "a cappella", "variant"),
        ("rock & roll", "rock 'n' roll", "variant"),
        ("Rock and Roll", "rock 'n' roll", "variant"),
        ("rock n roll", "rock 'n' roll", "exact"),
        ("cafe", "café", "variant"),
        ("cafe\u0301", "café", "exact"),
        ("happier", "happy", "lemma"),
        ("love songs", "love song", "lemma"),
        ("love-songs", "love song", "lemma"),
        ("not good", "not good", "exact"),
        ("not-good", "not good", "variant"),
        ("unhappy", "unhappy", "exact"),
        ("un-happy", "unhappy", "variant"),
        ("non stop", "nonstop", "variant"),
    ],
)
def test_each_step_of_the_careful(tag, term, how):
    (match,) = careful().match(tag)
    assert (match.term, match.how, match.share) == (term, how, 1.0)
    assert match.vad == SCORES[term]


@pytest.mark.parametrize("tag", ["feel-good", "happier", "love songs", "cafe", "#happy", "not sad", "happy music", ""])
def test_the_original_takes_exact_matches_only(tag):
    reading = Matcher(WORDS).read(tag)
    assert reading.matches == ()
    assert (reading.why, reading.counts) == ("unknown", True)


@pytest.mark.parametrize("tag", ["Happy", " feel  GOOD ", "not good", "live"])
def test_the_original_folds_case_and_blanks(tag):
    assert [m.how for m in Matcher(WORDS).match(tag)] == ["exact"]


@pytest.mark.parametrize(
    "tag", ["a live", "no where", "not able", "happy music", "xyzzy", "", "   ", "!!!", "♥", "-", "'", "feel good inc"]
)
def test_what_stands_for_nothing(tag):
    assert careful().read(tag).matches == ()
    assert careful().read(tag).counts


# negation ----------------------------------------------------------------------------------------------------------

NEGATED = [
    *("not happy", "Not-Happy", "non-happy", "no happy", "never happy", "without happy", "isn't happy", "not so happy"),
    *("not very happy", "not happier", "anti happy", "isn’t happy", "cannot be happy"),
]


@pytest.mark.parametrize("tag", [*NEGATED, "un sad", "not unhappy", "not feelgood", "never love songs"])
def test_what_is_negated_is_not_matched(tag):
    reading = careful().read(tag)
    assert reading.matches == ()
    assert (reading.why, reading.counts) == ("negated", True)
    by_words = careful(words=True).read(tag)
    assert by_words.matches == ()


@pytest.mark.parametrize("tag", NEGATED)
def test_what_is_negated_can_be_mirrored(tag):
    (match,) = careful(negation="reflect").match(tag)
    assert match.term == "not happy"
    assert match.vad == pytest.approx((0.05, 0.5, 0.5))
    assert match.how == "negated"


def test_a_phrase_of_the_lexicon_wins_over_negation():
    for matcher in (careful(), careful(negation="reflect")):
        assert found(matcher, "Not good") == {"not good": "exact"}


def test_a_negated_tag_is_weight_without_a_match():
    label = from_tags([("happy", 30), ("not sad", 10)], careful())
    assert label is not None
    assert (label.vad, label.coverage) == (SCORES["happy"], 0.75)


@settings(deadline=None)
@given(
    st.sampled_from(["not", "non", "no", "never", "without", "isn't", "NOT", "don’t"]),
    st.sampled_from([" ", "-", "  ", "_", " so "]),
    st.sampled_from(["happy", "sad", "calm", "feelgood", "Happier", "love songs", "strange"]),
    st.booleans(),
    st.sampled_from(["", " ", "!", " music"]),
)
def test_a_negated_word_never_counts_as_itself(negation, gap, word, words, tail):
    for how in ("drop", "reflect"):
        terms = found(careful(words=words, negation=how), negation + gap + word + tail)
        assert all(term.startswith("not ") for term in terms)
        assert how == "reflect" or not terms


# words of a phrase -------------------------------------------------------------------------------------------------


def test_words_of_a_phrase_only_if_asked_for():
    assert careful().match("sad but strangely happy song") == ()
    matches = careful(words=True).match("sad and happy dreams")
    assert {m.term: m.share for m in matches} == pytest.approx({"sad": 1 / 3, "happy": 1 / 3, "dream": 1 / 3})
    label = from_tags([("sad and happy xyzzy", 30), ("calm", 30)], careful(words=True))
    assert label is not None
    assert {e.term: e.weight for e in label.evidence} == {"sad": 15, "happy": 15, "calm": 30}
    assert label.coverage == 1


def test_behind_a_negation_inside_a_phrase_words_do_not_count():
    assert found(careful(words=True), "happy but not sad") == {"happy": "word"}
    assert found(careful(words=True, negation="reflect"), "happy but not sad") == {
        "happy": "word",
        "not sad": "negated",
    }


def test_two_spellings_of_a_term_are_one_piece_of_evidence():
    label = from_tags([("feelgood", 30), ("sad", 5), ("Feel Good", 10), ("feel-good", 5)], careful())
    assert label is not None
    assert [(e.tag, e.term, e.weight) for e in label.evidence] == [("feelgood", "feel good", 45), ("sad", "sad", 5)]


# what is left out --------------------------------------------------------------------------------------------------

NAMES = Names()
NAMES.add(
    ["Hans Zimmer", "Calm", "Gladiator", "Feel Good Inc", "Love Song"],
    ["Up (Original Motion Picture Soundtrack)", None, "Strange World: The Score", "Dream"],
    ['Now We Are Free (From "The Happy Film")', "Theme [From the film Not Good]", "From Here", "x"],
)


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("Sound-Track", "the tag of the harvest"),
        ("film scores", "the tag of the harvest"),
        ("80s", "time"),
        ("'80s", "time"),
        ("1980's", "time"),
        ("2009", "time"),
        ("late 90s", "time"),
        ("The Sixties", "time"),
        ("seen live", "habit or praise"),
        ("Seen_Live", "habit or praise"),
        ("favourites", "habit or praise"),
        ("Albums I Own", "habit or praise"),
        ("my music", "habit or praise"),
        ("Spotify", "habit or praise"),
        ("live", "habit or praise"),
        ("hans zimmer", "a name"),
        ("Gladiator", "a name"),
        ("strange world", "a name"),
        ("the happy film", "a name"),
        ("not good", "a name"),
        ("up", "a name"),
        ("xyzzy", "listed"),
        ("Plugh Plugh", "listed"),
        ("strange", "listed"),
        ("stranger", "listed"),
    ],
)
def test_what_the_careful_leave_out(tag, why):
    matcher = careful(seeds=["sound track", "Film-Scores"], names=NAMES, exclude=["xyzzy", "plugh-plugh", "Strange"])
    reading = matcher.read(tag)
    assert reading.matches == ()
    assert (reading.why, reading.counts) == (f"left out: {why}", False)


@pytest.mark.parametrize("tag", ["calm", "dreams", "love song", "happy", "feel good"])
def test_a_word_of_mood_counts_whoever_bears_it_as_a_name(tag):
    assert careful(names=NAMES).match(tag)


@pytest.mark.parametrize("tag", ["80s", "live", "gladiator", "hans zimmer"])
def test_the_original_leaves_out_only_what_is_listed(tag):
    assert Matcher(WORDS, seeds=[tag], names=NAMES).read(tag).counts
    assert not Matcher(WORDS, exclude=[tag.upper()]).read(f" {tag}").counts


def test_what_is_left_out_is_not_in_the_coverage_and_what_is_unknown_is():
    label = from_tags([("happy", 30), ("seen live", 1_000), ("xyzzy", 10)], careful())
    assert label is not None
    assert label.coverage == 0.75
    label = from_tags([("happy", 30), ("seen live", 60), ("xyzzy", 10)], Matcher(WORDS, exclude=["xyzzy"]))
    assert label is not None
    assert label.coverage == pytest.approx(1 / 3)


def test_only_what_is_kept_counts():
    assert careful(keep=["Happy", "feel good"]).read("sad").why == "unknown"
    assert found(careful(keep=["feel-good"]), "feelgood") == {"feel good": "variant"}
    assert found(careful(keep=["live"]), "live") == {"live": "exact"}  # though it is a habit in the packaged list
    assert not careful(keep=["live", "sad"], exclude=["live"]).read("live").counts


def test_lists_can_come_from_files(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# people\nJohn Williams  # a composer\n\nÉtude\n", encoding="utf-8")
    assert entries("label.exclude", ["ost", f"@{file}", "ost"]) == ("ost", "John Williams", "Étude")
    with pytest.raises(ConfigError, match=r"label\.keep: .*gone\.txt"):
        entries("label.keep", [f"@{tmp_path / 'gone.txt'}"])
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"list\.txt"):
        entries("label.keep", [f"@{file}"])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ('Now We Are Free (From "Gladiator")', ["Gladiator"]),
        ("Theme [From “Up”]", ["Up"]),
        ('My Heart Will Go On - From "Titanic"', ["Titanic"]),
        ('Duel (Music from the Motion Picture "Star Wars")', ["Star Wars"]),
        ("Song (from the film Drive)", ["Drive"]),
        ("From Here to Eternity", []),
        ("A Letter from Home", []),
        ("", []),
    ],
)
def test_films_in_titles(title, expected):
    assert films(title) == expected


@pytest.mark.parametrize(
    ("album", "film"),
    [
        ("Gladiator (Original Motion Picture Soundtrack)", "gladiator"),
        ("Gladiator: Music From The Motion Picture", "gladiator"),
        ("Gladiator OST", "gladiator"),
        ("Gladiator [Original Soundtrack]", "gladiator"),
        ("Gladiator - The Original Score", "gladiator"),
    ],
)
def test_films_in_names_of_albums(album, film):
    names = Names()
    names.add([], [album], [])
    assert key(film) in names


def test_titles_with_and_without_brackets():
    assert title_forms("Feel-Good (Live)") == {"feel good live", "feel good"}
    assert title_forms("") == set()
    assert title_forms("x" * 500) == set()


# forms -------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=30))
def test_a_form_is_its_own_form(text):
    assert normal(normal(text)) == normal(text)
    assert normal(text) == " ".join(normal(text).split())
    assert spaced(spaced(normal(text))) == spaced(normal(text))
    assert " " not in joined(normal(text))


@pytest.mark.parametrize("text", ["808", "90", "80s love songs", "2525", "sixty", "s", "1980s to 1990s"])
def test_what_is_no_time(text):
    assert not is_time(text)


def test_the_packaged_lists_are_in_the_form_in_which_they_are_compared():
    assert len(habits()) > 100
    for name in ("not_about_the_music.txt", "mood_words.txt"):
        text = (exclusions._DATA / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert lines == [key(line) for line in lines]
        assert len(lines) == len(set(lines))
    assert {form for form in habits() if is_mood(form)} == {"loved"}  # a form of love, but a button of Last.fm too
