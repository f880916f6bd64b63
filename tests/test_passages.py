"""Curves by running sums: the same statistics as the network's own, for passages anywhere in a track."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import ModelError
from mer_ray.models import passages
from mer_ray.models.kernel import Kernel
from mer_ray.models.layout import sizes
from mer_ray.training.forward import flat, forward
from mer_ray.training.inference import answers, middle
from mer_ray.training.member import Member, Scaler

HOP_S, N_DIMS, WINDOW = 512 / 22_050, 24, 500


def frames(n: int, n_dims: int = N_DIMS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed + n)
    return (0.3 * rng.standard_normal((n, n_dims)).cumsum(axis=0)).astype(np.float32)


def kernel(hop_s: float = HOP_S, n_dims: int = N_DIMS) -> Kernel:
    """With weights as if it had been solved."""
    rng = np.random.default_rng(1)
    module = Kernel(n_dims, hop_s, nnx.Rngs(0))
    for parameter, spread in ((module.components, 0.3), (module.shift, 0.1), (module.head.kernel, 0.5)):
        parameter[...] = jnp.asarray(spread * rng.standard_normal(parameter.shape), jnp.float32)
    module.scale[...] = jnp.asarray(rng.uniform(0.5, 2, module.scale.shape), jnp.float32)
    module.reach[...] = jnp.asarray(rng.uniform(5, 20, module.reach.shape), jnp.float32)
    return module


def member(module: Kernel, n_dims: int = N_DIMS) -> Member:
    scaler = Scaler(np.zeros(n_dims), np.full(n_dims, 0.1), np.full(n_dims, 2.0), np.full(3, 0.5), np.full(3, 0.1))
    scaler = Scaler(*(np.asarray(v, np.float32) for v in vars(scaler).values()))
    return Member(flat(nnx.state(module, nnx.Param)), scaler)


@nnx.jit
def blocks(module: Kernel, x: jax.Array) -> list[jax.Array]:
    return module.blocks(x, jnp.ones(x.shape[:2]))


def of_network(module: Kernel, x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(b) for b in blocks(module, jnp.asarray(x)[None])], axis=1)[0]


def whole_track(n: int, hop_s: float = HOP_S) -> passages.Grid:
    places, _ = passages.grid(n, 10**9, hop_s)
    last = len(places.first) - 1
    only = slice(last, last + 1)
    return passages.Grid(n, places.size, places.first[only], places.last[only], places.whole[only], places.hop_s)


@pytest.mark.parametrize(("hop_s", "n_dims"), [(HOP_S, N_DIMS), (HOP_S, 60), (0.96, 16)], ids=["few", "many", "slow"])
@pytest.mark.parametrize("n", [1, 7, 22, 130, 500])
def test_a_passage_has_the_statistics_of_the_network(n, hop_s, n_dims):
    module, x = kernel(hop_s, n_dims), frames(n, n_dims)
    found = passages.statistics(x, np.asarray(module.components[...]), whole_track(n, hop_s), hop_s)
    assert found.shape == (1, sum(sizes(n_dims, hop_s)))
    # Of a single frame there is no deviation but rounding, and its logarithm is what is left of it.
    assert found[0] == pytest.approx(of_network(module, x), abs=2e-4 if n > 1 else 0.02)


def test_a_passage_in_the_middle_has_the_statistics_of_its_own_frames():
    """But for the modulation spectrum, whose segments lie as they do from the start of the track."""
    module, x = kernel(), frames(2_000)
    components = np.asarray(module.components[...])
    places, _ = passages.grid(len(x), WINDOW, HOP_S)
    found = passages.statistics(x, components, places, HOP_S)
    n_exact = sum(sizes(N_DIMS, HOP_S)[:-1])
    for i in (0, 13, len(places.first) - 1):
        own = of_network(module, x[places.first_frame[i] : places.last_frame[i]])
        assert found[i, :n_exact] == pytest.approx(own[:n_exact], abs=2e-4)
        assert np.corrcoef(found[i, n_exact:], own[n_exact:])[0, 1] > 0.9


def test_a_short_track_is_answered_as_the_network_answers_its_one_window():
    m = member(kernel())
    tracks = [frames(n) for n in (1, 30, 300, WINDOW)]
    network = forward("kernel", N_DIMS, HOP_S, WINDOW)
    wanted, owner = network.windows(m, tracks)
    found = answers("kernel", N_DIMS, HOP_S, WINDOW, [m])(tracks)
    assert owner.tolist() == [0, 1, 2, 3]
    assert np.stack([a.value for a in found]) == pytest.approx(np.clip(wanted, 0, 1), abs=2e-5)


@settings(max_examples=60)
@given(st.integers(1, 4_000), st.integers(1, 2_000), st.sampled_from([HOP_S, 0.1, 0.5, 0.96, 2.0]))
def test_points_are_about_a_second_apart_and_every_passage_holds_its_point(n, window, hop_s):
    places, points = passages.grid(n, window, hop_s)
    assert points >= 1
    assert places.whole.any()
    assert (places.first >= 0).all()
    assert (places.first < places.last).all()
    assert (places.last_frame <= n).all()
    assert abs(points * places.hop_s - n * hop_s) <= places.hop_s
    if hop_s <= 0.5:
        assert 0.65 <= places.hop_s <= 1.35
    at = np.minimum((np.arange(points) + 0.5) * places.hop_s / hop_s, n - 1)
    assert (places.first_frame[:points] <= at + places.size).all()
    assert (at <= places.last_frame[:points] + places.size).all()


def test_an_answer_does_not_depend_on_the_other_tracks():
    m = member(kernel())
    work = answers("kernel", N_DIMS, HOP_S, WINDOW, [m, m])
    tracks = [frames(n) for n in (900, 40, 2_222)]
    together = work(tracks)
    for track, answer in zip(tracks, together, strict=True):
        alone = work([track])[0]
        assert alone.value == pytest.approx(answer.value, abs=1e-6)
        assert alone.curve == pytest.approx(answer.curve, abs=1e-6)
        assert ((answer.curve >= 0) & (answer.curve <= 1)).all()
    assert work([]) == []


def test_a_curve_follows_the_music():
    """Half of the track at one level and half at another: the curve steps in between, and only there."""
    m, n = member(kernel()), 4_000
    x = frames(n) * 0.1
    x[n // 2 :] += 4
    (answer,) = answers("kernel", N_DIMS, HOP_S, WINDOW, [m])([x])
    half, apart = len(answer.curve) // 2, round(WINDOW * HOP_S)
    first, second = answer.curve[: half - apart], answer.curve[half + apart :]
    gap = np.abs(first.mean(axis=0) - second.mean(axis=0)).max()
    assert gap > 3 * max(first.std(axis=0).max(), second.std(axis=0).max())


def test_windows_of_other_networks_give_a_point_a_second_as_well():
    from mer_ray.training.forward import split

    _, parameters, _ = split("lstm", N_DIMS, HOP_S, 0)
    m = Member(flat(parameters), member(kernel()).scaler)
    tracks = [frames(n) for n in (10, 215, 1_000)]
    for track, answer in zip(tracks, answers("lstm", N_DIMS, HOP_S, 215, [m])(tracks), strict=True):
        seconds = len(track) * HOP_S
        assert len(answer.curve) == max(1, round(seconds))
        assert len(answer.curve) * answer.hop_s == pytest.approx(seconds)
        assert ((answer.curve >= 0) & (answer.curve <= 1)).all()


def test_weights_of_another_network_are_refused():
    m = member(kernel())
    with pytest.raises(ModelError, match="another network"):
        answers("kernel", N_DIMS + 1, HOP_S, WINDOW, [m])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 1))
def test_one_outlier_in_eight_or_more_points_does_not_move_the_middle_beyond_the_others(values, outlier):
    column = np.array(values)[:, None]
    assert column.min() - 1e-12 <= middle(column)[0] <= column.max() + 1e-12
    if len(values) >= 8:
        moved = middle(np.append(column, [[outlier]], axis=0))[0]
        assert column.min() - 1e-12 <= moved <= column.max() + 1e-12
