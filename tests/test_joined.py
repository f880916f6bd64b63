"""Models that read several features: their frames in time, their spec, their statistics."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray import models
from mer_ray.errors import ConfigError, ModelError
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import Joined, frames_of, join, parts, span
from mer_ray.models import passages
from mer_ray.models.kernel import Kernel
from mer_ray.models.regressor import Regressor
from mer_ray.models.scaling import Scaler
from mer_ray.models.statistics import PassageStatistics
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe

# frames in time ------------------------------------------------------------------------------------------------------

HOPS = st.sampled_from([0.0232, 0.05, 0.32, 0.5, 0.96, 1.0, 3.0])
LENGTHS = st.integers(1, 90)
PARTS = st.lists(st.tuples(HOPS, LENGTHS), min_size=1, max_size=4)


def numbered(shapes: list[tuple[float, int]]) -> Joined:
    """Tracks whose frames hold their own number, and that of their feature."""
    own = [np.stack([np.arange(n), np.full(n, k)], axis=1).astype(np.float32) for k, (_, n) in enumerate(shapes)]
    return Joined(tuple(own), tuple(hop_s for hop_s, _ in shapes))


@given(PARTS)
def test_beside_each_frame_stands_the_frame_whose_hop_holds_its_middle_or_the_last_one(shapes):
    track = numbered(shapes)
    finest = min(range(len(shapes)), key=lambda k: shapes[k][0])
    rows = track[:]
    assert rows.shape == track.shape == (shapes[finest][1], 2 * len(shapes))
    assert rows.dtype == np.float32
    middles = (np.arange(len(track)) + 0.5) * shapes[finest][0]
    for k, (hop_s, n) in enumerate(shapes):
        number, feature = rows[:, 2 * k], rows[:, 2 * k + 1]
        assert (feature == k).all()
        assert (number * hop_s <= middles * (1 + 1e-6)).all()
        assert ((middles < (number + 1) * hop_s * (1 + 1e-6)) | (number == n - 1)).all()
    assert (rows[:, 2 * finest] == np.arange(len(track))).all()


@given(PARTS, st.integers(0, 100), st.integers(0, 100), st.integers(1, 3))
def test_slices_and_indices_give_the_rows_of_the_whole(shapes, first, last, step):
    track = numbered(shapes)
    whole = track[:]
    assert np.array_equal(track[first:last:step], whole[first:last:step])
    some = np.arange(len(track))[::-1][:5]
    assert np.array_equal(track[some], whole[some])
    assert track.nbytes == sum(part.nbytes for part in track.parts)


@given(PARTS, st.integers(0, 89), st.integers(1, 90))
def test_a_span_has_every_part_at_the_same_time(shapes, first, length):
    track = numbered(shapes)
    first = min(first, len(track) - 1)
    last = min(len(track), first + length)
    own = track.span(first, last)
    for part, (hop_s, n) in zip(own.parts, shapes, strict=True):
        a, b = part[0, 0], part[-1, 0] + 1
        wanted = first * track.hop_s / hop_s, last * track.hop_s / hop_s
        assert abs(a - wanted[0]) <= 0.5 + 1e-6 or a == n - 1
        assert b == n if last == len(track) else abs(b - wanted[1]) <= 0.5 + 1e-6 or b in (a + 1, n)
    assert np.array_equal(span(track.parts[0], 0, 3), track.parts[0][:3])


@given(st.integers(1, 400), st.integers(1, 200), HOPS, HOPS, st.floats(0.8, 1.2))
def test_passages_of_another_feature_are_those_times_rounded(n_frames, window, hop_s, other_s, longer):
    n_other = max(1, round(n_frames * hop_s / other_s * longer))
    own = passages.grid(n_frames, window, hop_s)
    its = passages.aligned(own, hop_s, n_other, other_s)
    atom_s, its_atom_s = own.size * hop_s, its.size * other_s
    n_atoms = len(its.counts)
    assert (its.last > its.first).all()
    assert (its.first >= 0).all()
    assert (its.last <= n_atoms).all()
    near = np.abs(its.first * its_atom_s - own.first * atom_s) <= its_atom_s * (0.5 + 1e-6)
    assert (near | (its.first == n_atoms - 1)).all()
    at_end = own.last == len(own.counts)
    assert (its.last[at_end] == n_atoms).all()
    near = np.abs(its.last * its_atom_s - own.last * atom_s) <= its_atom_s * (0.5 + 1e-6)
    assert (near | at_end | np.isin(its.last, [n_atoms]) | (its.last == its.first + 1)).all()
    assert (its.n_points, its.hop_s) == (own.n_points, own.hop_s)
    if (hop_s, n_frames) == (other_s, n_other):
        assert (its.first.tolist(), its.last.tolist()) == (own.first.tolist(), own.last.tolist())


# the spec ------------------------------------------------------------------------------------------------------------

FINE = FeatureSpec("logmel", 1, 22_050, 0.1, 3)
COARSE = FeatureSpec("chroma", 1, 16_000, 0.96, 2, weights={"sha256": "0", "location": "here"})


def test_a_joined_feature_follows_from_its_parts():
    spec = join([FINE, COARSE])
    assert (spec.name, spec.n_dims, spec.hop_s, spec.sample_rate_hz) == ("logmel+chroma", 5, 0.1, 22_050)
    assert FeatureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert parts(spec) == [FINE, COARSE]
    assert (join([FINE]), parts(FINE)) == (FINE, [FINE])
    elsewhere = replace(COARSE, weights={"sha256": "0", "location": "there"}, runtime={"batch": 3})
    others = [replace(COARSE, version=2), replace(COARSE, weights={"sha256": "1", "location": "here"})]
    assert join([FINE, elsewhere]).fingerprint == spec.fingerprint
    assert len({spec.fingerprint, *(join([FINE, other]).fingerprint for other in others)}) == 3
    assert join([COARSE, FINE]).fingerprint != spec.fingerprint
    assert join([FINE, replace(COARSE, sample_rate_hz=0)]).sample_rate_hz == 0
    with pytest.raises(ConfigError, match="different excerpts"):
        join([FINE, replace(COARSE, excerpt={"seconds": 3.0, "place": "start", "windows": 1})])


# models --------------------------------------------------------------------------------------------------------------

SPEC = join([FINE, COARSE])
SPEC_HOPS, WINDOW = (FINE.hop_s, COARSE.hop_s), 30


def planted(n: int = 60, seed: int = 0) -> tuple[list[Joined], np.ndarray, list[str]]:
    """Valence is the level of the fine feature, arousal that of the coarse one; read-only, as from Ray's store."""
    rng = np.random.default_rng(seed)
    labels, tracks = rng.uniform(0.2, 0.8, (n, 3)), []
    for label in labels:
        seconds = rng.uniform(2.5, 8)
        own = [rng.standard_normal((round(seconds / p.hop_s), p.n_dims)) for p in (FINE, COARSE)]
        own[0][:, 0] += 20 * (label[0] - 0.5)
        own[1][:, 0] += 20 * (label[1] - 0.5)
        arrays = [array.astype(np.float32) for array in own]
        for array in arrays:
            array.flags.writeable = False
        tracks.append(Joined(tuple(arrays), SPEC_HOPS))
    return tracks, labels, [f"artist {i // 3}" for i in range(n)]


TRACKS, LABELS, ARTISTS = planted()


def fitted(name: str) -> tuple[Recipe, Regressor]:
    recipe = Recipe(name, SPEC.hop_s, WINDOW, 30, learning_rate=1e-2, batch_size=16, hops=SPEC_HOPS)
    return recipe, create(recipe).fit(TRACKS, LABELS, ARTISTS, seed=3)


@pytest.mark.parametrize("name", [*models.NETWORKS, *models.BASELINES])
def test_every_model_learns_from_each_feature_and_is_restored(name):
    recipe, model = fitted(name)
    fresh, truth, _ = planted(seed=1)
    predicted = model.predict(fresh)
    r2 = 1 - np.square(np.stack([p.value for p in predicted]) - truth).mean(axis=0) / truth.var(axis=0)
    assert r2[:2].min() > 0.5
    for track, p in zip(fresh, predicted, strict=True):
        assert len(p.curve) * p.hop_s == pytest.approx(len(track) * SPEC.hop_s, abs=1)
    again = restore(recipe, model.arrays, model.targets)
    again.check(frames_of(SPEC, {"logmel": np.zeros((1, 3), np.float32), "chroma": np.zeros((1, 2), np.float32)}))
    for mine, its in zip(predicted, again.predict(fresh), strict=True):
        assert np.array_equal(mine.value, its.value)
    with pytest.raises(ModelError, match="another network"):
        again.check(Joined((np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32)), SPEC_HOPS))


def test_each_feature_has_the_statistics_that_it_has_alone():
    own = PassageStatistics.fit(TRACKS, LABELS, WINDOW, FINE.hop_s, 0)
    alone = [PassageStatistics.fit([t.parts[k] for t in TRACKS], LABELS, WINDOW, SPEC_HOPS[k], 0) for k in range(2)]
    for k, components in enumerate(own.components):
        assert np.array_equal(components, alone[k].components[0])
    for track in TRACKS[:5]:
        grid = passages.grid(len(track), WINDOW, FINE.hop_s)
        raw, first = own.raw(track, grid, FINE.hop_s), alone[0].raw(track.parts[0], grid, FINE.hop_s)
        assert np.array_equal(raw[:, : first.shape[1]], first)
        its = passages.aligned(grid, FINE.hop_s, len(track.parts[1]), COARSE.hop_s)
        assert np.array_equal(raw[:, first.shape[1] :], alone[1].raw(track.parts[1], its, COARSE.hop_s))
    again = PassageStatistics.from_arrays(own.arrays())
    assert own.equals(again)
    assert not own.equals(alone[0])


def test_a_kernel_has_the_blocks_of_each_feature():
    model = Kernel(FINE.hop_s, WINDOW, SPEC_HOPS).fit(TRACKS[:12], LABELS[:12], ARTISTS[:12])
    sizes = [passages.block_sizes(p.n_dims, p.hop_s) for p in (FINE, COARSE)]
    assert len(model.arrays["network.medians"]) == sum(map(len, sizes))
    assert len(model.arrays["network.shift"]) == sum(map(sum, sizes))


def test_a_scaler_has_the_moments_of_each_feature_s_own_frames():
    own, alone = Scaler.of(TRACKS, LABELS), Scaler.of([t.parts[1] for t in TRACKS], LABELS)
    assert np.array_equal(own.x_mean[3:], alone.x_mean)
    assert np.array_equal(own.split([3, 2])[1].x_sd, alone.x_sd)
    with pytest.raises(ValueError, match="5 dimensions"):
        own.split([3, 3])
