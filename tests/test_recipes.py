"""One contract for every recipe of labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray import config
from mer_ray.errors import ConfigError
from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.recipes import RECIPES
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import from_tags

WORDS = Lexicon("w", {"happy": (0.9, 0.6, 0.7), "sad": (0.1, 0.3, 0.2), "feel good": (0.8, 0.5, 0.6)})


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_term_stands_for_itself_whatever_its_case(recipe: str) -> None:
    for tag in ("happy", " HAPPY ", "Happy"):
        (match,) = Matcher(WORDS, recipe).match(tag)
        assert (match.term, match.vad, match.share) == ("happy", (0.9, 0.6, 0.7), 1.0)
    label = from_tags([("happy", 30), ("sad", 10), ("xyzzy", 10)], Matcher(WORDS, recipe))
    assert label is not None
    np.testing.assert_allclose(label.vad, [0.7, 0.525, 0.575])
    assert label.coverage == pytest.approx(0.8)


@pytest.mark.parametrize("recipe", RECIPES)
def test_exclude_and_keep_hold(recipe: str) -> None:
    assert not Matcher(WORDS, recipe, exclude=["Sad"]).read("sad").counts
    kept = Matcher(WORDS, recipe, keep=["happy"])
    assert [bool(kept.match(tag)) for tag in WORDS.terms] == [True, False, False]
    with pytest.raises(ConfigError, match=r"label\.keep names no term"):
        Matcher(WORDS, recipe, keep=["xyzzy"])


@pytest.mark.parametrize("recipe", RECIPES)
@given(tag=st.text(max_size=40), words=st.booleans())
def test_any_text_is_read_and_says_why_it_matches_nothing(recipe: str, tag: str, words: bool) -> None:
    matcher = Matcher(WORDS, recipe, words=words, negation="reflect")
    reading = matcher.read(tag)
    assert reading == matcher.reader.read(tag)
    if reading.matches:
        assert sum(m.share for m in reading.matches) == pytest.approx(1)
        assert all(0 <= x <= 1 for m in reading.matches for x in m.vad)
    else:
        assert reading.why


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_setting_and_refuses_options_that_it_does_not_use(recipe: str) -> None:
    for option in ("words=true", "negation=reflect"):
        settings = [f"label.recipe={recipe}", f"label.{option}"]
        if option.split("=")[0] in Matcher(WORDS, recipe).reader.options:
            assert config.load(None, settings).label.recipe == recipe
        else:
            with pytest.raises(ConfigError, match=f"recipe={recipe} does not use"):
                config.load(None, settings)
