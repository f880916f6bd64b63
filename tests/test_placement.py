"""One network on several devices and processes: real ones, that JAX's distributed runtime connects."""

from __future__ import annotations

import math
import multiprocessing
import os
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import cross_validate, free_ports

from mer_ray.errors import InputError, ServiceError
from mer_ray.training import placement
from mer_ray.training.network import Network
from mer_ray.training.placement import Placement
from mer_ray.training.recipe import Recipe

PROCESSES, DEVICES_EACH = 2, 2
STEPS, BATCH, FRAMES, DIMS = 50, 16, 12, 8


def train(place: Placement, only: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """50 steps of the real thing: losses of training and validation (50, 2), and final weights.

    only: the tracks that there are, each as often as it takes.
    """
    rng, losses = np.random.default_rng(2), []
    tracks = list(rng.standard_normal((BATCH, 2 * FRAMES, DIMS)).astype(np.float32))
    labels = np.stack([0.5 + track.mean(axis=0)[:3] for track in tracks])
    tracks, labels = np.resize(tracks[only], (BATCH, 2 * FRAMES, DIMS)), np.resize(labels[only], (BATCH, 3))
    recipe = Recipe("lstm", 0.1, FRAMES, STEPS, STEPS, BATCH, 1e-2, 0.1, mask_share=0.2, ema=0.8)
    model = Network(recipe, lambda _, *both: losses.append(both), place)
    model.fit(tracks, labels, [""] * BATCH, validation=np.zeros(BATCH, bool))
    weights = [np.ravel(w) for name, w in model.arrays.items() if name.startswith("network.")]
    return np.array(losses), np.concatenate(weights)


def same(place: Placement, value: float) -> list[str]:
    """What is said of a value, if anything."""
    try:
        place.check_same(value, "rank")
    except ServiceError as error:
        return [error.message]
    return []


def one_of_the_group(rank: int, port: int, folder: str) -> None:
    """What each process of the group does."""
    placement.initialize(f"127.0.0.1:{port}", PROCESSES, rank, timeout_s=200)
    place = Placement.everywhere()
    losses, weights = train(place)
    rows = place.rows(BATCH)
    split = place.batch(np.arange(BATCH, dtype=np.float32)[rows])
    with pytest.raises(ValueError, match="split over devices"):
        place.local(split)
    with pytest.raises(InputError, match="10 tracks does not divide among 4 devices"):
        place.rows(10)
    np.savez(
        Path(folder, f"{rank}.npz"),
        losses=losses,
        weights=weights,
        rows=[rows.start, rows.stop],
        first=place.is_first,
        total=place.local(jax.jit(jnp.sum)(split)),
        replicated=place.local(place.replicate({"a": np.full((2, 3), rank + 7)}))["a"],
        same=same(place, rank),
        agreed=[place.agree(rank + 0.1), place.agree(math.inf if rank == 0 else 1)],
        devices=[jax.process_count(), len(jax.devices())],
    )
    placement.shutdown()


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> list[dict[str, np.ndarray]]:
    """What two processes of two devices each came to, by rank."""
    folder, port, context = tmp_path_factory.mktemp("group"), free_ports(1)[0], multiprocessing.get_context("spawn")
    with pytest.MonkeyPatch.context() as environment:
        devices = f"--xla_force_host_platform_device_count={DEVICES_EACH}"
        environment.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} {devices}")
        members = [context.Process(target=one_of_the_group, args=(r, port, str(folder))) for r in range(PROCESSES)]
        for member in members:
            member.start()
    for member in members:
        member.join(480)
        member.kill()  # one that waits for a partner who is gone
    assert [member.exitcode for member in members] == [0, 0]
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def alone() -> tuple[np.ndarray, np.ndarray]:
    return train(Placement.single())


def test_a_group_has_the_loss_curve_of_one_process(group, alone):
    losses, weights = alone
    assert losses.shape == (STEPS, 2)
    assert (losses[-5:].mean(axis=0) < losses[0] / 2).all()
    for member in group:
        np.testing.assert_allclose(member["losses"], losses, atol=1e-3)
        np.testing.assert_allclose(member["weights"], weights, atol=1e-3)


def test_its_processes_stay_the_same_to_the_last_bit(group):
    for what in ("losses", "weights"):
        np.testing.assert_array_equal(group[0][what], group[1][what])


def test_each_one_learns_from_the_others_rows(group):
    """Its own half of every batch alone leads elsewhere."""
    _, weights = train(Placement.single(), slice(*group[0]["rows"]))
    assert np.abs(weights - group[0]["weights"]).max() > 0.01


def test_the_group_is_one(group):
    for rank, member in enumerate(group):
        assert member["devices"].tolist() == [PROCESSES, PROCESSES * DEVICES_EACH]
        assert member["rows"].tolist() == [rank * BATCH // 2, (rank + 1) * BATCH // 2]
        assert member["total"] == sum(range(BATCH))
        assert member["first"] == (rank == 0)


def test_the_first_process_decides(group):
    for member in group:
        assert member["agreed"].tolist() == [0.1, math.inf]
        np.testing.assert_array_equal(member["replicated"], np.full((2, 3), 7))


def test_who_has_another_value_than_the_first_process_ends(group):
    assert group[0]["same"].tolist() == []
    assert group[1]["same"].tolist() == ["process 1 of the group found rank 1, and the first one 0"]


def test_a_group_that_finds_different_files_does_not_train(monkeypatch):
    """Gradients of different epochs, or of different folds, would be added up: their shapes are the same."""
    monkeypatch.setattr(Placement, "agree", lambda self, value: value + 1)
    with pytest.raises(ServiceError, match="found a checkpoint of epoch 0, and the first one 1"):
        train(Placement.everywhere())
    tracks, labels = [np.ones((FRAMES, DIMS), np.float32)] * 4, np.full((4, 3), 0.5)
    recipe, fold = Recipe("lstm", 0.1, FRAMES, 1, 1, 2, 1e-2, 0.1), np.array([[0, 0, 1, 1]])
    with pytest.raises(ServiceError, match="part 0 finished: 0, and the first one 1"):
        cross_validate(recipe, tracks, labels, list("abcd"), fold, 1, placement=Placement.everywhere())


def test_on_one_device_arrays_pass_through_as_they_are():
    place, array = Placement.single(), np.ones((3, 2))
    assert place.rows(7) == slice(0, 7)
    assert place.batch(array) is array
    assert place.replicate(array) is array
    assert place.local(array) is array
    assert place.is_first


def test_everywhere_is_one_device_where_there_is_no_group():
    place = Placement.everywhere()
    assert place.rows(7) == slice(0, 7)
    assert place.is_first
    key = place.replicate(jax.random.key(3))
    np.testing.assert_array_equal(jax.random.key_data(place.local(key)), jax.random.key_data(jax.random.key(3)))
    np.testing.assert_array_equal(place.local(place.batch(np.eye(4, 2, dtype=np.float32))), np.eye(4, 2))


@settings(max_examples=30, deadline=None)
@given(st.floats())
def test_what_is_agreed_on_keeps_all_its_bits(value):
    assert struct.pack("d", Placement.everywhere().agree(value)) == struct.pack("d", value)


def test_a_coordinator_that_does_not_answer_is_an_error_and_no_end_of_the_process():
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServiceError, match=address) as caught:
        placement.initialize(address, 2, rank=1, timeout_s=0.1)
    assert "\n" not in str(caught.value)


def test_who_has_computed_already_cannot_join():
    jnp.ones(2).block_until_ready()
    with pytest.raises(ServiceError, match="process 0 of 1 could not join"):
        placement.initialize(f"127.0.0.1:{free_ports(1)[0]}", 1, rank=0, timeout_s=1)
