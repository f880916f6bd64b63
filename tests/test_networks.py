"""Every network as a module: padding, neighbours, dropout and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mer_ray import models
from mer_ray.models.pooling import masked_mean_sd, pool_time
from mer_ray.models.recurrence import lstm

HOPS = {"mfcc": 512 / 22_050, "vggish": 0.96}
LENGTHS = [1, 7, 22, 29]
NETWORKS = [name for name in models.NETWORKS if models.is_network(name)]
BOTH = [(n, h) for n in NETWORKS for h in HOPS]
quickly_compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
each_network = pytest.mark.parametrize(("name", "hop"), BOTH, ids=["-".join(pair) for pair in BOTH])
each_name = pytest.mark.parametrize("name", NETWORKS)


def piece(n_dims: int = 20, time: int = 29, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (4, T, F) of pieces of `LENGTHS`, zeros behind them, and the mask (4, T)."""
    x = np.random.default_rng(seed).standard_normal((len(LENGTHS), time, n_dims)).astype(np.float32)
    mask = (np.arange(time)[None] < np.array(LENGTHS)[:, None]).astype(np.float32)
    return x * mask[:, :, None], mask


def built(name: str, n_dims: int = 20, hop_s: float = 0.96, seed: int = 0, outputs: int = 3) -> nnx.Module:
    return models.module(name).build(n_dims, hop_s, nnx.Rngs(seed), outputs)


@lru_cache
def network(name: str, hop: str, n_dims: int = 20, seed: int = 0) -> Callable[..., np.ndarray]:
    """(x, mask, dropout seed or None) → outputs (B, 3), compiled, but not well: else these tests would take minutes."""
    graph, state = nnx.split(built(name, n_dims, HOPS[hop], seed))

    @quickly_compiled
    def plain(state, x, mask):
        return nnx.merge(graph, state)(x, mask)

    @quickly_compiled
    def dropping(state, x, mask, key):
        return nnx.merge(graph, state)(x, mask, nnx.Rngs(dropout=key))

    def answer(x: np.ndarray, mask: np.ndarray, dropout: int | None = None) -> np.ndarray:
        out = plain(state, x, mask) if dropout is None else dropping(state, x, mask, jax.random.key(dropout))
        return np.asarray(out)

    return answer


@each_network
def test_one_frame_is_enough(name, hop):
    x, mask = piece()
    out = network(name, hop)(x[:, :1], mask[:, :1])
    assert out.shape == (4, 3)
    assert np.allclose(out[0], network(name, hop)(x, mask)[0], atol=1e-5)


@each_network
@pytest.mark.parametrize("garbage", [1e6, np.nan, np.inf])
def test_what_stands_in_the_padding_changes_nothing(name, hop, garbage):
    x, mask = piece()
    filled = np.where(mask[:, :, None] > 0, x, np.float32(garbage))
    assert np.allclose(network(name, hop)(filled, mask), network(name, hop)(x, mask), atol=1e-5)


@each_network
def test_more_padding_changes_nothing(name, hop):
    x, mask = piece()
    longer = np.pad(x, ((0, 0), (0, 9), (0, 0)), constant_values=7), np.pad(mask, ((0, 0), (0, 9)))
    assert np.allclose(network(name, hop)(*longer), network(name, hop)(x, mask), atol=1e-5)


@each_network
def test_a_piece_does_not_hear_its_neighbours(name, hop):
    x, mask = piece()
    together = network(name, hop)(x, mask)
    for i in range(len(x)):
        alone = np.repeat(x[i : i + 1], 4, axis=0), np.repeat(mask[i : i + 1], 4, axis=0)
        assert np.allclose(network(name, hop)(*alone), together[i], atol=1e-5)


@each_network
def test_every_part_of_a_piece_is_heard(name, hop):
    x, mask = piece()
    before = network(name, hop)(x, mask)
    for frame in 0, 15, 28:
        changed = x.copy()
        changed[3, frame] += 3
        after = network(name, hop)(changed, mask)
        assert np.abs(after[3] - before[3]).max() > 1e-5, frame
        assert np.array_equal(after[:3], before[:3])


@each_name
def test_dropout_is_on_only_with_rngs(name):
    net, (x, mask) = network(name, "vggish"), piece()
    assert np.array_equal(net(x, mask), net(x, mask))
    first = net(x, mask, dropout=1)
    assert np.array_equal(first, net(x, mask, dropout=1))
    assert not np.allclose(first, net(x, mask, dropout=2), atol=1e-4)
    assert not np.allclose(first, net(x, mask), atol=1e-4)


@each_name
def test_the_answer_is_as_wide_as_the_loss_needs(name):
    x, mask = piece()
    graph, state = nnx.split(built(name, 20, 0.96, outputs=6))
    assert jax.eval_shape(lambda state: nnx.merge(graph, state)(x, mask), state).shape == (4, 6)


@each_name
def test_the_seed_makes_the_weights(name):
    def weights(seed: int) -> list[np.ndarray]:
        state = nnx.state(built(name, seed=seed), nnx.Param)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]

    assert all(np.array_equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(weights(1), weights(2), strict=True))


@each_name
def test_every_parameter_learns(name):
    x, mask = piece()
    graph, parameters, rest = nnx.split(built(name, 20, HOPS["mfcc"]), nnx.Param, ...)
    slope = quickly_compiled(jax.grad(lambda p: (nnx.merge(graph, p, rest)(x, mask) ** 2).sum()))
    for path, gradient in nnx.to_flat_state(slope(parameters)):
        values = np.asarray(gradient.get_value())
        assert np.isfinite(values).all(), path
        assert np.abs(values).max() > 0, path


def test_the_recurrence_is_an_lstm_and_its_gradient_is_the_one_that_jax_derives():
    def step_by_step(inputs, kernel):
        hidden = cell = jnp.zeros((3, 6))
        heard = []
        for x in inputs:
            i, f, g, o = jnp.split(x + hidden @ kernel, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            heard.append(hidden)
        return jnp.stack(heard)

    rng = np.random.default_rng(0)
    inputs, kernel, slope = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3, 24), (6, 24), (4, 3, 6)))

    @partial(quickly_compiled, static_argnums=0)
    def answer_and_gradient(function):
        out, pull = jax.vjp(function, inputs, kernel)
        return out, *pull(slope)

    for found, wanted in zip(answer_and_gradient(lstm), answer_and_gradient(step_by_step), strict=True):
        assert np.allclose(found, wanted, atol=1e-5)


def test_means_and_deviations_are_over_what_is_there():
    x, mask = piece(5)
    mean, sd = masked_mean_sd(x, mask)
    for i, n in enumerate(LENGTHS):
        assert np.allclose(mean[i], x[i, :n].mean(axis=0), atol=1e-5)
        assert np.allclose(sd[i], np.sqrt(x[i, :n].var(axis=0) + 1e-6), atol=1e-5)
    nothing, _ = masked_mean_sd(x, np.zeros_like(mask))
    assert np.abs(nothing).max() == 0


def test_time_is_pooled_in_whole_steps():
    x, mask = piece(5)
    pooled, share = pool_time(x, mask, 8)
    assert pooled.shape == (4, 4, 10)
    assert np.allclose(share, [[1 / 8, 0, 0, 0], [7 / 8, 0, 0, 0], [1, 1, 6 / 8, 0], [1, 1, 1, 5 / 8]])
    assert np.allclose(pooled[3, 1, :5], x[3, 8:16].mean(axis=0), atol=1e-5)
    same, as_it_is = pool_time(x, mask, 1)
    assert same is x
    assert as_it_is is mask
