"""The leakage report: what is planted shows, and nothing shows where nothing is."""

from __future__ import annotations

import json

import numpy as np

from mer_ray.models.splits import grouped_folds
from mer_ray.training.duplicates import Duplicate
from mer_ray.training.groups import track_groups
from mer_ray.training.leakage import Leakage, leakage, out_of_fold

N = 120


def noise(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Statistics (N, 10) that say nothing of the labels (N, 3), two tracks by each artist."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, 10)), rng.uniform(0, 1, (N, 3)), [f"artist {i // 2}" for i in range(N)]


def grouped(artists: list[str], duplicates: list[Duplicate]) -> list[str]:
    nothing = [None] * len(artists)
    return track_groups([f"id{i}" for i in range(len(artists))], artists, nothing, nothing, duplicates)


def measured(x: np.ndarray, labels: np.ndarray, groups: list[str], repeats: int) -> Leakage:
    fold = np.stack([grouped_folds(groups, 4, r, labels) for r in range(repeats)])
    return leakage(out_of_fold("svr", x, labels, fold), x, labels, groups, fold, 0)


def test_no_leak_is_seen_where_there_is_none():
    x, labels, artists = noise(1)
    found = measured(x, labels, grouped(artists, []), 2)
    assert (found.leak_lower < 0).all()
    assert (found.leak_upper > 0).all()
    assert (np.abs(found.leak) < 0.1).all()
    np.testing.assert_allclose(found.leak, found.random_r2 - found.grouped_r2)


def test_tracks_that_are_there_twice_under_other_names_raise_the_report():
    x, labels, artists = noise()
    copies = np.arange(0, N, 2)
    rng = np.random.default_rng(1)
    x = np.concatenate([x, x[copies] + 0.05 * rng.standard_normal((len(copies), 10))])
    labels = np.concatenate([labels, labels[copies]])
    artists += [f"another {i}" for i in copies]
    duplicates = [Duplicate(int(i), N + k, 0.9) for k, i in enumerate(copies)]
    joined = measured(x, labels, grouped(artists, duplicates), 2)
    assert (joined.leak_lower > 0).all()
    assert (joined.leak > 0.1).all()
    # By artist alone, the copies are on both sides of the grouped folds as well: the leak is there, and does not show.
    by_artist = measured(x, labels, grouped(artists, []), 2)
    assert (by_artist.leak < joined.leak / 2).all()
    assert (by_artist.grouped_r2 > joined.grouped_r2 + 0.1).all()

    report = joined.to_json("mfcc", "f", "d", [f"id{i}" for i in range(len(x))], artists, duplicates)
    assert report["n_duplicates_across_artists"] == len(copies)


def test_what_an_artist_s_tracks_share_is_a_leak():
    rng = np.random.default_rng(2)
    artists = [f"artist {i // 6}" for i in range(N)]
    style, mood = rng.standard_normal((N // 6, 10)), rng.uniform(0.2, 0.8, (N // 6, 3))
    x = np.repeat(style, 6, axis=0) + 0.2 * rng.standard_normal((N, 10))
    labels = np.clip(np.repeat(mood, 6, axis=0) + 0.05 * rng.standard_normal((N, 3)), 0, 1)
    found = measured(x, labels, grouped(artists, []), 1)
    assert (found.leak_lower > 0.2).all()


def test_the_report_is_plain_json():
    found = Leakage(*np.arange(15.0).reshape(5, 3))
    ids, artists = ["a", "b", "c", "d"], ["Björk", "BJORK", "", ""]
    pairs = [Duplicate(0, 1, 0.75), Duplicate(1, 2, 0.5), Duplicate(2, 3, 0.5)]
    report = found.to_json("mfcc", "1234", "5678", ids, artists, pairs, ["a note"])
    assert json.loads(json.dumps(report, allow_nan=False)) == {
        "feature": "mfcc",
        "fingerprint": "1234",
        "data": "5678",
        "model": "svr",
        "dimensions": ["valence", "arousal", "dominance"],
        "grouped_r2": [0, 1, 2],
        "random_r2": [3, 4, 5],
        "leak": [6, 7, 8],
        "leak_lower": [9, 10, 11],
        "leak_upper": [12, 13, 14],
        "notes": ["a note"],
        "duplicates": [
            {"a": "a", "b": "b", "similarity": 0.75, "same_artist": True},
            {"a": "b", "b": "c", "similarity": 0.5, "same_artist": False},
            {"a": "c", "b": "d", "similarity": 0.5, "same_artist": False},
        ],
        "n_duplicates_across_artists": 2,
    }
