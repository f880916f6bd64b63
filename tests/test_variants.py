"""One piece under several names: what is merged, what stays apart, and that nothing gets lost on the way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io import variants
from mer_ray.io.identity import normalise
from mer_ray.io.track import Track
from mer_ray.io.variants import Variant, piece

ARTIST = "Hans Zimmer"

SAME = [
    # remasters
    ("Time", "Time - Remastered 2009", "remaster"),
    ("Time", "Time - Remastered", "remaster"),
    ("Time", "Time - 2009 Remaster", "remaster"),
    ("Time", "Time - 2009 - Remaster", "remaster"),
    ("Time", "Time (2011 Remaster)", "remaster"),
    ("Time", "Time (Remastered)", "remaster"),
    ("Time", "Time [Remastered 2011]", "remaster"),
    ("Time", "Time (Digitally Remastered)", "remaster"),
    ("Time", "Time (2004 Digital Remaster)", "remaster"),
    ("Time", "Time (Remastered Version)", "remaster"),
    ("Time", "Time - 1999 Re-Master", "remaster"),
    # films
    ("Time", 'Time (From "Inception")', "film"),
    ("Time", "Time (from Inception)", "film"),
    ("Time", 'Time - From "Inception"', "film"),
    ("Time", "Time - From “Inception”", "film"),
    ("Time", 'Time [From the Motion Picture "Inception"]', "film"),
    ("Time", 'Time (From the Original Motion Picture "Inception")', "film"),
    ("Time", 'Time (Theme from "Inception")', "film"),
    ("Time", 'Time (Music from "Inception")', "film"),
    ("Time", 'Time (From "Inception" Soundtrack)', "film"),
    ("Time", 'Time - From "Inception" Original Motion Picture Soundtrack', "film"),
    ("Time", "Time (As Featured in Inception)", "film"),
    ("Time", "Time (Original Motion Picture Soundtrack)", "film"),
    ("Time", "Time - Original Soundtrack", "film"),
    ("Time", "Time (OST)", "film"),
    # the same film under several spellings
    ('Time (From "The Inception")', "Time (From 'Inception')", "spelling"),
    ('Time (From "Inception")', 'Time (From the Film "Inception")', "spelling"),
    # guests
    ("Time", "Time (feat. Johnny Marr)", "guest"),
    ("Time", "Time (ft. Johnny Marr)", "guest"),
    ("Time", "Time [featuring Johnny Marr]", "guest"),
    ("Time", "Time feat. Johnny Marr", "guest"),
    ("Time", "Time ft. Johnny Marr", "guest"),
    ("Time", "Time featuring Johnny Marr", "guest"),
    ("Time", "Time - feat. Johnny Marr", "guest"),
    # several at once
    ("Time", 'Time (From "Inception") - Remastered 2010', "film+remaster"),
    ("Time", 'Time (feat. Johnny Marr) [From "Inception"] (2010 Remaster)', "film+guest+remaster"),
    # spelling
    ("Time", "TIME", "spelling"),
    ("Time", "  Time ", "spelling"),
    ("Amélie – Première", "Amelie - Premiere", "spelling"),
    ("Amélie", "Ame\u0301lie", "spelling"),
    ("Rock ’n’ Roll", "Rock 'n' Roll", "spelling"),
    ("One—Two", "One-Two", "spelling"),
    ("Ｔｉｍｅ", "Time", "spelling"),
]

APART = [
    ("Time", "Time (Live)"),
    ("Time", "Time - Live"),
    ("Time", "Time - Live from Prague"),
    ("Time", "Time (Live From Prague)"),
    ("Time", "Time (Acoustic)"),
    ("Time", "Time - Acoustic Version"),
    ("Time", "Time (Remix)"),
    ("Time", "Time - Alan Walker Remix"),
    ("Time", "Time (Part 2)"),
    ("Time, Pt. 1", "Time, Pt. 2"),
    ("Time", "Time (Reprise)"),
    ("Time", "Time - Reprise"),
    ("Prelude", "Prelude (In C Minor)"),
    ("Man", "Man - From Earth"),
    ("Time", "Time - 2009"),
    ("Time", "Time (2009)"),
    ("Time", "Time (Demo)"),
    ("Time", "Time (Extended Version)"),
    ("Time", "Time (Instrumental)"),
    ("Time", "Time II"),
    ("Time", "Times"),
    ("Time", "Defeat"),
    ("Lift", "Lift Me"),
    ("Time (Live)", "Time (Acoustic)"),
    ("Time", "Time (Live) (Remastered 2009)"),
    ("(From Above)", "Above"),
    ("Six Ft Under", "Six Ft Deep"),
    ("10 Ft. Tall", "10"),
]


def names(tracks: list[Track]) -> list[tuple[str, str]]:
    return [(track.artist, track.title) for track in tracks]


def merge(listed: list[Track]) -> tuple[list[Track], list[Variant]]:
    """The pieces and their other names; every listed track is told which piece it is."""
    merged = variants.merge(listed)
    assert len(merged.ids) == len(listed)
    assert list(dict.fromkeys(merged.ids)) == [track.id for track in merged.tracks]
    return merged.tracks, merged.variants


@pytest.mark.parametrize(("first", "second", "rule"), SAME)
def test_the_same_piece_is_one_track_under_its_first_name(first: str, second: str, rule: str) -> None:
    for kept, other in ((first, second), (second, first)):
        tracks, others = merge([Track(ARTIST, kept), Track(ARTIST, other)])
        assert names(tracks) == [(ARTIST, kept)]
        assert [(v.merged_into, v.track.title, v.rule) for v in others] == [(Track(ARTIST, kept).id, other, rule)]


@pytest.mark.parametrize(("first", "second"), APART)
def test_another_recording_stays_another_track(first: str, second: str) -> None:
    for titles in ((first, second), (second, first)):
        tracks, others = merge([Track(ARTIST, title) for title in titles])
        assert [track.title for track in tracks] == list(titles)
        assert others == []


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ("Hans Zimmer", "Hans Zimmer feat. Johnny Marr", "guest"),
        ("Hans Zimmer", "Hans Zimmer ft. Johnny Marr", "guest"),
        ("Hans Zimmer", "Hans Zimmer Featuring Johnny Marr", "guest"),
        ("Hans Zimmer", "HANS  ZIMMER", "spelling"),
        ("Sigur Rós", "Sigur Ros", "spelling"),
    ],
)
def test_an_artists_guests_and_spelling_do_not_matter(first: str, second: str, rule: str) -> None:
    tracks, others = merge([Track(first, "Time"), Track(second, "Time")])
    assert names(tracks) == [(first, "Time")]
    assert [(v.track.artist, v.rule) for v in others] == [(second, rule)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Hans Zimmer", "Hans Zimmer & Lisa Gerrard"),
        ("Hans Zimmer", "Hans"),
        ("Feat", "Feat. Somebody"),
        ("Little Feat", "Little"),
        ("A Defeat", "A"),
        ("10 Ft. Ganja Plant", "10"),
    ],
)
def test_other_artists_are_other_tracks(first: str, second: str) -> None:
    assert len(merge([Track(first, "Time"), Track(second, "Time")])[0]) == 2


def test_themes_of_two_films_stay_apart_and_so_does_the_bare_one() -> None:
    titles = [
        "Main Theme",
        'Main Theme (From "Alien")',
        'Main Theme - From "Jaws"',
        "Main Theme (2009 Remaster)",
        'Main Theme [From the Motion Picture "Alien"]',
    ]
    tracks, others = merge([Track("Composer", title) for title in titles])
    assert [track.title for track in tracks] == titles[:3]
    assert [(v.merged_into, v.track.title, v.rule) for v in others] == [
        (tracks[0].id, titles[3], "remaster"),
        (tracks[1].id, titles[4], "spelling"),
    ]


def test_a_second_film_far_down_the_list_parts_them_too() -> None:
    titles = ["Theme", 'Theme (From "Alien")', *map(str, range(100)), 'Theme (From "Jaws")']
    assert len(merge([Track("Composer", title) for title in titles])[0]) == len(titles)


def test_films_of_other_artists_or_titles_part_nothing() -> None:
    listed = [
        Track("A", "Theme"),
        Track("A", 'Theme (From "Alien")'),
        Track("B", 'Theme (From "Jaws")'),
        Track("A", 'Love Theme (From "Jaws")'),
    ]
    tracks, _ = merge(listed)
    assert names(tracks) == [("A", "Theme"), ("B", 'Theme (From "Jaws")'), ("A", 'Love Theme (From "Jaws")')]


def test_the_first_mbid_and_duration_that_any_name_has_are_kept() -> None:
    listed = [
        Track("A", "One"),
        Track("A", "One (Remastered)", duration_s=60.0),
        Track("A", "ONE", mbid="first", duration_s=70.0),
        Track("A", "One (2009 Remaster)", mbid="second", duration_s=80.0),
    ]
    (track,), others = merge(listed)
    assert track == Track("A", "One", mbid="first", duration_s=60.0)
    assert [v.track for v in others] == listed[1:]
    assert {v.merged_into for v in others} == {track.id}


def test_what_a_track_has_is_not_overwritten() -> None:
    listed = [Track("A", "One", mbid="mine", duration_s=1.0), Track("A", "ONE", mbid="yours", duration_s=2.0)]
    assert merge(listed)[0] == listed[:1]


def test_exact_repeats_are_no_variants() -> None:
    listed = [Track("A", "One"), Track("A", "One", mbid="m"), Track("A", "ONE"), Track("A", "ONE", mbid="n")]
    tracks, others = merge(listed)
    assert tracks == [Track("A", "One", mbid="m")]
    assert [v.track for v in others] == [listed[2]]


def test_tracks_without_a_name_are_compared_with_nothing() -> None:
    listed = [Track("", "One"), Track("", "One (Remastered)"), Track("A", ""), Track("", "One")]
    tracks, others = merge(listed)
    assert names(tracks) == [("", "One"), ("", "One (Remastered)"), ("A", "")]
    assert others == []


def test_nothing_makes_nothing() -> None:
    assert merge([]) == ([], [])


ARTISTS = st.sampled_from(["Ann", "ANN", "Ann feat. Bob", "Bob", "Böb", "Ann & Bob", "", "Feat"])
BASES = st.sampled_from(["Theme", "theme", "Thème", "Love Theme", "Theme II", "", "- ", "(", "Theme)"])
ADDITIONS = st.sampled_from(
    [
        "",
        " (From Alien)",
        ' - From "Jaws"',
        " [From the Film “Alien”]",
        " - Remastered 2009",
        " (2011 Remaster)",
        " (Live)",
        " ft. Bob",
        " (feat. Bob)",
        " (OST)",
        " - From Earth",
        " (From )",
        ' (From "")',
        " - ",
    ]
)
TITLES = st.builds(lambda base, one, two: base + one + two, BASES, ADDITIONS, ADDITIONS) | st.text(max_size=20)
TRACKS = st.builds(
    Track,
    ARTISTS | st.text(max_size=8),
    TITLES,
    mbid=st.none() | st.sampled_from(["m1", "m2"]),
    duration_s=st.none() | st.sampled_from([60.0, 70.0]),
)
LISTINGS = st.lists(TRACKS, max_size=25)


@settings(max_examples=400, deadline=None)
@given(LISTINGS)
def test_merging_again_changes_nothing(listed: list[Track]) -> None:
    once, _ = merge(listed)
    assert merge(once) == (once, [])


@settings(max_examples=400, deadline=None)
@given(LISTINGS)
def test_every_listed_name_is_kept_or_recorded_under_a_kept_track(listed: list[Track]) -> None:
    tracks, others = merge(listed)
    kept = set(names(tracks))
    recorded = {(v.track.artist, v.track.title) for v in others}
    nameless = {track.id for track in tracks if not (track.artist and track.title)}
    for track in listed:
        name = (track.artist, track.title)
        assert name in kept or name in recorded or track.id in nameless
    assert kept | recorded <= set(names(listed))
    assert {v.merged_into for v in others} <= {track.id for track in tracks}
    repeats = Counter((v.merged_into, v.track.artist, v.track.title) for v in others)
    assert set(repeats.values()) <= {1}


@settings(max_examples=400, deadline=None)
@given(LISTINGS)
def test_tracks_and_variants_stand_in_the_order_of_their_first_appearance(listed: list[Track]) -> None:
    tracks, others = merge(listed)
    first = {name: place for place, name in reversed(list(enumerate(names(listed))))}
    for found in (names(tracks), names([v.track for v in others])):
        places = [first[name] for name in found]
        assert places == sorted(places)


@settings(max_examples=400, deadline=None)
@given(LISTINGS)
def test_different_artists_are_never_merged(listed: list[Track]) -> None:
    tracks, others = merge(listed)
    by_id: dict[str, set[str]] = {}
    for track in tracks:
        by_id.setdefault(track.id, set()).add(piece(track.artist, "x").artist)
    for variant in others:
        assert piece(variant.track.artist, "x").artist in by_id[variant.merged_into]
        if " f" not in normalise(variant.track.artist):  # no guest
            assert piece(variant.track.artist, "x").artist == normalise(variant.track.artist)


@settings(max_examples=400, deadline=None)
@given(TRACKS)
def test_a_pieces_name_is_no_longer_than_the_tracks_and_has_nothing_more_to_take_off(track: Track) -> None:
    found = piece(track.artist, track.title)
    assert normalise(track.artist).startswith(found.artist)
    assert len(found.title) <= len(normalise(track.title))
    assert piece(found.artist, found.title).title == found.title
    assert bool(found.rules) or (found.artist, found.film) == (normalise(track.artist), "")


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        ")",
        "()",
        "[(",
        "(ft a)",
        "(ft ",
        " - ",
        "-",
        " ft ft",
        "feat. ",
        '"',
        "(from ",
        " (from '",
        "(from - ",
        "(2009 remaster)",
        "2009 - ",
        " ",
        "a" * 99 + " ",
        "ﷺ",  # one character that becomes 18
        "(from ﷺ",
        "e\u0301\u0301",
    ],
)
def test_endless_titles_come_to_an_end(unit: str) -> None:
    for text in (unit * (10_000 // len(unit)), "Theme " + unit * (10_000 // len(unit)) + ")", "Theme (From " + unit):
        tracks, _ = merge([Track("A", text), Track(text, "A"), Track("A", "Theme")])
        assert 2 <= len(tracks) <= 3
