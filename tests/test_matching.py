"""Which hit is the one that was looked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.audio.providers.matching import Hit, Wanted, best, fits, in_media, score

SHARE, LEAST = 0.1, 0.6


def hit(artist: str, title: str, duration_s: float | None = None, spotify_id: str = "x") -> Hit:
    return Hit(spotify_id, tuple(artist.split(" / ")), title, duration_s)


SAME = [
    ("Nobuo Uematsu", "One-Winged Angel", "Nobuo Uematsu", 'One Winged Angel (From "Final Fantasy VII")'),
    ("nobuo uematsu", "Aerith's Theme", "NOBUO UEMATSU", "Aerith’s theme - Remastered 2009"),
    ("Uematsu Nobuo", "Aerith's Theme", "Nobuo Uematsu", "Aerith's Theme"),
    ("Hans Zimmer & James Newton Howard", "Why So Serious?", "Hans Zimmer / James Newton Howard", "Why So Serious?"),
    ("Hans Zimmer", "Time", "Lorne Balfe / Hans Zimmer", "Time"),
    ("Björk", "Jóga", "Bjork", "Joga"),
    ("Yann Tiersen", "Comptine d'un autre été, l'après-midi", "Yann Tiersen", "Comptine d’un autre été: L’après-midi"),
    ("Daft Punk", "Get Lucky", "Daft Punk / Pharrell Williams", "Get Lucky (feat. Pharrell Williams)"),
    ("久石譲", "人生のメリーゴーランド", "久石譲", "人生のメリーゴーランド"),
    ("Jeremy Soule", "Far Horizons", "Jeremy Soule", "Far Horizons"),
]
OTHER = [
    ("Nobuo Uematsu", "One-Winged Angel", "Piano Squall", "One-Winged Angel"),
    ("Nobuo Uematsu", "One-Winged Angel", "Nobuo Uematsu", "Main Theme"),
    ("Composer", "Suite, Pt. 1", "Composer", "Suite, Pt. 2"),
    ("Composer", "Cue 12", "Composer", "Cue 13"),
    ("Composer", "Episode II", "Composer", "Episode III"),
    ("John Williams", 'Main Theme (From "Jaws")', "John Williams", 'Main Theme (From "Superman")'),
    ("久石譲", "人生のメリーゴーランド", "久石譲", "君をのせて"),
    ("Composer", "Storm", "", ""),
]


@pytest.mark.parametrize(("artist", "title", "found_artist", "found_title"), SAME)
def test_the_same_under_another_spelling(artist: str, title: str, found_artist: str, found_title: str) -> None:
    assert score(Wanted(artist, title), hit(found_artist, found_title), SHARE) > 0.85


@pytest.mark.parametrize(("artist", "title", "found_artist", "found_title"), OTHER)
def test_another_piece(artist: str, title: str, found_artist: str, found_title: str) -> None:
    assert score(Wanted(artist, title), hit(found_artist, found_title), SHARE) < LEAST


def test_of_two_recordings_the_one_of_the_right_length_is_taken() -> None:
    hits = [hit("A", "Theme", 400, "long"), hit("A", "Theme", 203, "right"), hit("A", "Theme", 150, "short")]
    assert best(Wanted("A", "Theme", 200.0), hits, SHARE) == (hits[1], pytest.approx(0.9625))
    assert score(Wanted("A", "Theme", 200.0), hits[0], SHARE) < LEAST
    assert best(Wanted("A", "Theme"), hits, SHARE) == (hits[0], 1.0)  # the service's own order
    assert best(Wanted("A", "Theme"), [], SHARE) is None


def test_durations_that_fit() -> None:
    assert fits(219, 200, 0.1)
    assert not fits(221, 200, 0.1)
    assert fits(24.9, 20, 0.1)  # five seconds always may be
    assert not fits(25.1, 20, 0.1)
    assert fits(None, 200, 0.1)
    assert fits(200, None, 0.1)


@pytest.mark.parametrize(
    ("title", "texts"),
    [
        ("Aerith's Theme", ["Final Fantasy VII OST - Aerith's Theme [HQ]", "ff7music"]),
        ('One-Winged Angel (From "Final Fantasy VII")', ["FFVII One Winged Angel"]),
        ("人生のメリーゴーランド", ["久石譲「人生のメリーゴーランド」ハウルの動く城"]),
        ("Cue 12", ["Composer - 12 - Cue"]),
        ("Live and Let Die", ["Live And Let Die (Remastered)"]),
    ],
)
def test_a_video_of_it(title: str, texts: list[str]) -> None:
    assert in_media("Composer", title, texts) > 0.8


@pytest.mark.parametrize(
    ("title", "texts"),
    [
        ("Aerith's Theme", ["Cooking with Bob", "Bob"]),
        ("Cue 12", ["Cue 13 - Composer"]),
        ("Prelude", ["", ""]),
        ("???", ["anything"]),
    ],
)
def test_a_video_of_something_else(title: str, texts: list[str]) -> None:
    assert in_media("Composer", title, texts) < LEAST


def test_another_version_is_second_choice() -> None:
    of = [in_media("A", "Storm", [f"A - Storm{kind}"]) for kind in ("", " (karaoke)", " cover")]
    assert of[0] > max(of[1:])
    assert in_media("A", "Storm (live)", ["A - Storm (live)"]) == in_media("A", "Storm", ["A - Storm"])


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_text_has_a_score(artist: str, title: str, found_artist: str, found_title: str) -> None:
    assert 0 <= score(Wanted(artist, title), hit(found_artist, found_title), SHARE) <= 1
    assert 0 <= in_media(artist, title, [found_title, found_artist]) <= 1
