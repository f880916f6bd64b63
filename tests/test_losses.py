"""What the training makes small, and what it does to batches first."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.training.augment import mixup, spec_augment
from mer_ray.training.losses import loss_value, outputs

KINDS = ["mse", "huber", "ccc", "nll"]
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=20, deadline=None)
quickly_compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
value = quickly_compiled(loss_value, static_argnums=0)
slope = quickly_compiled(jax.grad(loss_value, argnums=1), static_argnums=0)
masked = quickly_compiled(spec_augment, static_argnums=2)
mixed = quickly_compiled(mixup, static_argnums=1)


def batch(seed: int, n: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers (n, 6), labels (n, 3), weights (n, 3)."""
    rng = np.random.default_rng(seed)
    out, y = rng.standard_normal((n, 6)) * 2, rng.standard_normal((n, 3))
    return tuple(a.astype(np.float32) for a in (out, y, rng.uniform(0.1, 3, (n, 3))))


def answers(kind: str, out: np.ndarray) -> np.ndarray:
    return out[:, : outputs(kind, 3)]


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=seeds)
def test_a_loss_is_finite_and_does_not_know_the_order_of_a_batch(kind, seed):
    out, y, weight = batch(seed)
    out = answers(kind, out)
    found = float(value(kind, out, y, weight))
    assert np.isfinite(found)
    assert np.isfinite(slope(kind, out, y, weight)).all()
    order = np.random.default_rng(seed).permutation(len(y))
    assert found == pytest.approx(float(value(kind, out[order], y[order], weight[order])), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=seeds)
def test_a_dimension_without_weight_teaches_nothing(kind, seed):
    out, y, weight = batch(seed)
    weight[:, 1] = 0
    gradient = np.asarray(slope(kind, answers(kind, out), y, weight))
    assert not gradient[:, 1::3].any()
    assert gradient[:, 0].any()


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seed=seeds, dimensions=st.sampled_from([1, 2, 4]))
def test_what_stands_for_an_unknown_label_changes_nothing(kind, seed, dimensions):
    rng = np.random.default_rng(seed)
    out, y, weight = (a.astype(np.float32) for a in rng.uniform(0.1, 2, (3, 8, dimensions)))
    out = np.tile(out, outputs(kind, dimensions) // dimensions)
    unknown = rng.random(y.shape) < 0.4
    weight[unknown] = 0
    other = np.where(unknown, np.float32(1e3), y)
    assert np.array_equal(value(kind, out, y, weight), value(kind, out, other, weight))
    gradient = np.asarray(slope(kind, out, y, weight))
    assert np.array_equal(gradient, slope(kind, out, other, weight))
    assert not np.abs(gradient[:, :dimensions][unknown]).max(initial=0)


@pytest.mark.parametrize("kind", ["mse", "huber", "ccc"])
def test_the_labels_themselves_are_the_best_answer(kind):
    _, y, weight = batch(0)
    assert float(value(kind, y, y, weight)) == pytest.approx(0, abs=1e-5)


def test_mse_is_the_mean_square():
    out, y, weight = batch(1)
    assert float(value("mse", out[:, :3], y, weight)) == pytest.approx(
        np.mean(weight * (out[:, :3] - y) ** 2), rel=1e-5
    )


def test_huber_is_mse_for_small_errors_and_a_line_for_large_ones():
    y = np.zeros((1, 3), np.float32)
    losses = [float(value("huber", np.full((1, 3), e, np.float32), y, y + 1)) for e in (0.5, 1.0, 3.0, 4.0, -4.0)]
    assert losses == pytest.approx([0.25, 1.0, 5.0, 7.0, 7.0])


def test_ccc_is_one_less_the_concordance():
    out, y, _ = batch(2, 50)
    a, b = out[:, :3], y
    r = np.array([np.corrcoef(a[:, d], b[:, d])[0, 1] for d in range(3)])
    apart = (a.mean(axis=0) - b.mean(axis=0)) ** 2
    wanted = 2 * r * a.std(axis=0) * b.std(axis=0) / (a.var(axis=0) + b.var(axis=0) + apart)
    assert float(value("ccc", a, b, np.ones_like(b))) == pytest.approx(1 - wanted.mean(), abs=1e-5)


def test_nll_learns_the_spread_of_the_errors():
    rng = np.random.default_rng(0)
    y = (rng.standard_normal((4_000, 3)) * [0.5, 1, 2]).astype(np.float32)

    @jax.jit
    def descend(log_variance):
        out = jnp.concatenate([jnp.zeros((len(y), 3)), jnp.broadcast_to(log_variance, (len(y), 3))], axis=1)
        gradient = jax.grad(loss_value, argnums=1)("nll", out, y, jnp.ones_like(y))
        return log_variance - gradient[:, 3:].sum(axis=0)

    log_variance = jnp.zeros(3)
    for _ in range(100):
        log_variance = descend(log_variance)
    assert np.exp(log_variance / 2) == pytest.approx([0.5, 1, 2], rel=0.05)


@few
@given(seed=seeds, share=st.sampled_from([0.1, 0.5, 1.0]))
def test_masks_take_at_most_their_share_of_time_and_of_coefficients(seed, share):
    x = np.ones((3, 20, 10), np.float32)
    found = np.asarray(masked(jax.random.key(seed), x, share))
    assert set(np.unique(found)) <= {0.0, 1.0}
    for piece in found:
        rows, columns = (piece == 0).all(axis=1), (piece == 0).all(axis=0)
        if rows.all() or columns.all():
            continue  # one mask has taken it all
        assert rows.sum() <= share * 20
        assert columns.sum() <= share * 10
        assert np.array_equal(piece == 0, rows[:, None] | columns[None, :])
        for gone in rows, columns:
            assert np.count_nonzero(np.diff(np.concatenate([[False], gone, [False]]).astype(int)) == 1) <= 1


@few
@given(seed=seeds)
def test_a_mixture_lies_between_two_pieces_and_its_label_at_the_same_place(seed):
    y = np.random.default_rng(seed).standard_normal((6, 3)).astype(np.float32)
    x = np.broadcast_to(y[:, None], (6, 4, 3))  # frames that say their label
    there = np.ones((6, 4), np.float32)
    frames, mask, labels, weight = (np.asarray(a) for a in mixed(jax.random.key(seed), 0.4, x, there, y, np.abs(y)))
    assert np.allclose(frames, labels[:, None], atol=1e-5)
    assert labels.max() <= y.max() + 1e-5
    assert labels.min() >= y.min() - 1e-5
    assert (weight >= 0).all()
    assert np.array_equal(mask, there)


@few
@given(seed=seeds)
def test_a_mixture_with_an_unknown_label_has_no_weight(seed):
    rng = np.random.default_rng(seed)
    y, weight = rng.standard_normal((6, 2)).astype(np.float32), rng.uniform(0.5, 2, (6, 2)).astype(np.float32)
    weight[unknown := rng.random(y.shape) < 0.4] = 0
    x, there = np.ones((6, 4, 3), np.float32), np.ones((6, 4), np.float32)
    _, _, labels, mixed_weight = (
        np.asarray(a) for a in mixed(jax.random.key(seed), 0.4, x, there, np.where(unknown, np.float32(1e3), y), weight)
    )
    assert not mixed_weight[unknown].any()
    assert np.abs(labels[mixed_weight > 0]).max(initial=0) <= np.abs(y).max() + 1e-5


def test_a_mixture_is_there_where_either_piece_is():
    mask = (np.arange(4)[None] < np.array([1, 3, 4, 2, 1, 2])[:, None]).astype(np.float32)
    x = np.where(mask[:, :, None] > 0, 1, np.float32(1e6)) * np.ones((6, 4, 3), np.float32)
    y = np.zeros((6, 3), np.float32)
    frames, both, _, _ = (np.asarray(a) for a in mixed(jax.random.key(0), 0.4, x, mask, y, y))
    assert (both >= mask).all()
    assert np.abs(frames).max() <= 1 + 1e-5, "what stands in the padding is not mixed in"
    assert not frames[both == 0].any()
