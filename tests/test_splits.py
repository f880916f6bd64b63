"""Splits: groups stay whole, folds are alike; and what belongs into one group."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.models.splits import grouped_folds, grouped_holdout, random_folds
from mer_ray.training.groups import LARGEST_SHARE, grouping, track_groups

# folds -------------------------------------------------------------------------------------------------------------

groups = st.lists(st.sampled_from([f"artist {i}" for i in range(12)] + ["", "Ünï 🎻"]), min_size=1, max_size=80)


def labels_of(n: int, seed: int = 0) -> np.ndarray:
    """Labels (n, 3) of which the first two hang together, as valence and dominance do."""
    drawn = np.random.default_rng(seed).normal(size=(n, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0], [0, 0, 1]])
    return np.clip(0.5 + 0.15 * drawn, 0, 1)


@settings(max_examples=60, deadline=None)
@given(groups, st.integers(2, 8), st.integers(0, 2**31), st.booleans())
def test_no_artist_stands_on_both_sides(names, folds, seed, stratified):
    labels = labels_of(len(names)) if stratified else None
    if len(set(names)) < folds:
        with pytest.raises(InputError, match=f"{len(set(names))} artists cannot make {folds} folds"):
            grouped_folds(names, folds, seed, labels)
        return
    fold = grouped_folds(names, folds, seed, labels)
    assert all(len(set(fold[np.array(names) == n])) == 1 for n in set(names))
    sizes = Counter(fold.tolist())
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= max(Counter(names).values())
    assert np.array_equal(fold, grouped_folds(names, folds, seed, labels))


@pytest.mark.parametrize("stratified", [False, True])
def test_another_seed_is_another_split(stratified):
    names = [f"artist {i}" for i in range(40)]
    splits = [grouped_folds(names, 5, seed, labels_of(40) if stratified else None) for seed in range(5)]
    assert all(Counter(s.tolist()) == dict.fromkeys(range(5), 8) for s in splits)
    # Not the same folds under other numbers: of the pairs in one fold here, few are in one fold there.
    pairs = [np.equal.outer(s, s)[np.triu_indices(40, 1)] for s in splits]
    assert all((a & b).sum() < 0.5 * a.sum() for i, a in enumerate(pairs) for b in pairs[:i])


def test_stratified_folds_have_labels_alike():
    rng = np.random.default_rng(0)
    names = [f"artist {i}" for i in rng.integers(0, 120, 300)]
    labels = labels_of(300)

    def spread(fold: np.ndarray) -> np.ndarray:
        parts = [labels[fold == k, :2] for k in range(5)]
        return np.array([np.std([figure(p, axis=0) for p in parts], axis=0).mean() for figure in (np.mean, np.std)])

    plain = np.mean([spread(grouped_folds(names, 5, seed)) for seed in range(10)], axis=0)
    stratified = np.mean([spread(grouped_folds(names, 5, seed, labels)) for seed in range(10)], axis=0)
    assert stratified[0] < 0.6 * plain[0]
    assert stratified[1] < 0.9 * plain[1]


@settings(max_examples=30, deadline=None)
@given(groups, st.integers(0, 2**31), st.integers(0, 3))
def test_folds_do_not_depend_on_dimensions_beyond_the_first_two(names, seed, more):
    labels = labels_of(len(names), seed % 7)
    other = np.random.default_rng(seed).choice([np.nan, 0.2, 0.9], (len(names), more))
    folds = min(3, len(set(names)))
    wanted = grouped_folds(names, folds, seed, labels[:, :2])
    assert np.array_equal(wanted, grouped_folds(names, folds, seed, np.column_stack([labels[:, :2], other])))


def test_tracks_without_a_label_belong_to_no_class_of_it():
    """Those that have one are spread as evenly over the folds as if there were no others."""
    names, labels = [f"artist {i}" for i in range(200)], labels_of(200)
    labels[np.arange(200) % 4 > 0, 0] = np.nan
    fold = grouped_folds(names, 5, 0, labels)
    known = np.isfinite(labels[:, 0])
    low = known & (labels[:, 0] < np.nanquantile(labels[:, 0], 0.2))
    assert [int((low & (fold == k)).sum()) for k in range(5)] == [2] * 5
    nothing = grouped_folds(names, 5, 0, np.full((200, 2), np.nan))
    assert Counter(nothing.tolist()) == dict.fromkeys(range(5), 40)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_a_holdout_leaves_labels_of_every_dimension_on_both_sides(seed, dimensions):
    """Of the last one only two artists of twenty have a label."""
    names, rng = [f"artist {i // 2}" for i in range(40)], np.random.default_rng(seed)
    labels = rng.uniform(size=(40, dimensions))
    labels[8:, -1] = np.nan
    held = grouped_holdout(names, 0.25, seed, labels)
    assert np.isfinite(labels[held]).any(axis=0).all()
    assert np.isfinite(labels[~held]).any(axis=0).all()


def test_random_folds_part_what_belongs_together():
    fold = random_folds(40, 5, 0, labels_of(40))
    assert Counter(fold.tolist()) == dict.fromkeys(range(5), 8)
    assert not np.array_equal(fold, random_folds(40, 5, 1, labels_of(40)))
    with pytest.raises(InputError, match="4 tracks cannot make 5 folds"):
        random_folds(4, 5, 0)


@settings(max_examples=60, deadline=None)
@given(groups, st.floats(0.05, 0.4), st.integers(0, 2**31), st.booleans())
def test_a_holdout_is_some_artists_and_never_all(names, share, seed, stratified):
    labels = labels_of(len(names)) if stratified else None
    held = grouped_holdout(names, share, seed, labels)
    assert np.array_equal(held, grouped_holdout(names, share, seed, labels))
    inside = {n for n, h in zip(names, held, strict=True) if h}
    assert not inside & {n for n, h in zip(names, held, strict=True) if not h}
    if len(set(names)) > 1:
        assert 0 < held.sum() < len(names)
        # more than its share by half an artist at most, or else the smallest artist alone
        assert held.sum() <= share * len(names) + max(Counter(names)[n] for n in inside) / 2 or (
            len(inside) == 1 and held.sum() == min(Counter(names).values())
        )
    else:
        assert not held.any()


def test_an_artist_with_most_of_the_tracks_is_not_held_out():
    names = ["prolific"] * 90 + [f"artist {i}" for i in range(10)]
    assert all(5 <= grouped_holdout(names, 0.15, seed).sum() <= 15 for seed in range(20))


def test_a_holdout_s_labels_are_like_the_whole_s():
    names, labels = [f"artist {i // 2}" for i in range(200)], labels_of(200)

    def apart(stratify: bool) -> float:
        held = [grouped_holdout(names, 0.15, seed, labels if stratify else None) for seed in range(20)]
        own = labels[:, :2]
        return float(np.mean([np.abs(own[h].mean(axis=0) - own.mean(axis=0)).mean() for h in held]))

    assert apart(True) < 0.6 * apart(False)


# groups ------------------------------------------------------------------------------------------------------------


def groups_of(*tracks: tuple[str, str, str], duplicates: tuple = (), among: int = 40) -> list[str]:
    """The groups of tracks (artist, album, composer), in a catalogue of others."""
    rows = [*tracks, *((f"other {i}", "", "") for i in range(among))]
    artists, albums, composers = zip(*rows, strict=True)
    return track_groups([f"id{i}" for i in range(len(rows))], artists, albums, composers, duplicates)[: len(tracks)]


def together(*tracks: tuple[str, str, str], **more) -> bool:
    return len(set(groups_of(*tracks, **more))) == 1


def test_an_artist_is_one_group_however_it_is_spelt():
    assert together(("Björk", "", ""), ("BJORK", "x", ""), ("björk feat. Someone", "", ""))
    assert groups_of(("Björk", "", ""), ("", "", ""), (None, None, None)) == ["bjork", "id1", "id2"]


@pytest.mark.parametrize(
    "nobody", ["", " ", "Various Artists", "VARIOUS", "V.A.", "Unknown Artist", "[unknown]", "n/a"]
)
def test_names_that_name_nobody_join_nothing(nobody):
    assert not together((nobody, "", ""), (nobody, "", ""))
    assert not together(("A", "", nobody), ("B", "", nobody))


def test_composers_join_whoever_plays():
    assert together(("An Orchestra", "", "Hans Zimmer"), ("Hans Zimmer", "", ""), ("A Choir", "", "X / hans zimmer"))
    assert not together(("A", "", "Traditional"), ("B", "", "traditional"))


@pytest.mark.parametrize(
    ("album", "joins"),
    [
        ("Homogenic", True),
        ("Pulp Fiction (Music from the Motion Picture)", True),
        ("Greatest Hits", False),
        ("The Very Best Of, Vol. 2", False),
        ("MTV Unplugged", False),
        ("Live (Deluxe Edition)", False),
        ("Original Motion Picture Soundtrack", False),
        ("Singles", False),
        ("", False),
        ("...", False),
    ],
)
def test_albums_join_unless_many_are_called_so(album, joins):
    assert together(("A", album, ""), ("B", album.upper(), "")) == joins


def test_an_album_is_known_without_what_is_in_brackets():
    assert together(("A", "Inception", ""), ("B", "Inception (Music from the Motion Picture) [Disc 2]", ""))


def test_a_compilation_joins_nothing_and_a_soundtrack_all():
    singers = [f"singer {i}" for i in range(6)]
    assert together(*((s, "Pulp Fiction: The Soundtrack", "") for s in singers))
    assert len(set(groups_of(*((s, "Now That's What I Call It 45", "") for s in singers)))) == 6


def test_chains_do_not_swallow_the_catalogue():
    # Each orchestra has played two of the composers: all hang together by a chain.
    n = 100
    artists, composers = [f"orchestra {i // 4}" for i in range(n)], [f"composer {(i + 2) // 4}" for i in range(n)]
    found = grouping([f"id{i}" for i in range(n)], artists, [None] * n, composers)
    assert found.largest[1] <= LARGEST_SHARE * n
    assert found.left_out
    assert "composer" in found.sentence()


def test_duplicates_join_without_limit():
    pairs = tuple((i, i + 1, 0.9) for i in range(20))
    assert together(*((f"artist {i}", "", "") for i in range(21)), duplicates=pairs)


def test_a_group_says_what_joined_it():
    found = grouping(["a", "b", "c"], ["X", "x", "Y"], ["", "", ""], ["", "", ""], [(0, 2)])
    assert found.groups == ["x", "x", "x"]
    assert found.joins == {"near-duplicates": 1, "artist": 1, "composer": 0, "album": 0}
    assert found.sentence().startswith("3 tracks in 1 groups; the largest, x, has 3 (100.0%)")


def test_an_artist_who_is_called_like_an_id_is_another_group():
    assert len(set(track_groups(["x", "b"], ["", "X"], ["", ""], ["", ""]))) == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_groups_do_not_depend_on_the_order_of_the_tracks(data):
    names = st.sampled_from(["", "A", "b", "Various Artists", "C feat. A"])
    rows = data.draw(st.lists(st.tuples(names, st.sampled_from(["", "One", "Live", "Two OST"]), names), max_size=30))
    order = data.draw(st.permutations(range(len(rows))))

    def parts(places):
        named = track_groups([str(p) for p in places], *([rows[p][c] for p in places] for c in range(3)))
        found: dict[str, set[int]] = {}
        for place, name in zip(places, named, strict=True):
            found.setdefault(name, set()).add(place)
        return sorted(map(sorted, found.values()))

    assert parts(list(range(len(rows)))) == parts(order)
