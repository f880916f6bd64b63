"""What an interrupted training leaves, and that nobody can tell from its result that it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parts import cross_validate

from mer_ray.errors import InputError, WorkspaceError
from mer_ray.io.tables import Workspace
from mer_ray.models.regressor import Regressor
from mer_ray.models.scaling import Scaler
from mer_ray.models.splits import grouped_folds
from mer_ray.training.checkpoint import Checkpoint, Checkpoints, from_bytes, to_bytes
from mer_ray.training.crossval import read_member
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe

RECIPE = Recipe(
    network="cnn",
    hop_s=0.25,
    window=8,
    epochs=4,
    patience=4,
    batch_size=8,
    learning_rate=1e-2,
    weight_decay=0.1,
    mask_share=0.2,
    mixup=0.3,
)
RNG = np.random.default_rng(0)
LABELS = RNG.uniform(0.2, 0.8, (48, 3))
TRACKS = [
    (RNG.standard_normal((int(n), 4)) + 4 * LABELS[i, 0]).astype(np.float32)
    for i, n in enumerate(np.resize(range(5, 21), 48))
]
ARTISTS = [f"artist {i // 3}" for i in range(48)]
HELD = np.arange(48) % 5 > 1  # as many batches as in a fold of the cross-validation below: one compilation


def same(a: Regressor, b: Regressor) -> bool:
    """Whether two members are the same to the bit, types and shapes included."""
    pairs = [(a.arrays[k], b.arrays[k]) for k in a.arrays]
    alike = all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)
    alike &= list(a.arrays) == list(b.arrays) and np.array_equal(a.curve, b.curve)
    return alike and a.targets == b.targets and a.chosen == b.chosen


def fit(recipe: Recipe, labels: np.ndarray, seed: int, **training: Any) -> Regressor:
    return create(recipe, **training).fit(TRACKS, labels, ARTISTS, seed=seed, validation=HELD)


# bytes -------------------------------------------------------------------------------------------------------------

ARRAYS = st.lists(
    st.sampled_from([np.float32, np.float64, np.int32, np.uint32]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    min_size=1,
    max_size=12,
)
NUMBERS = st.floats(allow_nan=False) | st.integers(0, 2**127)
PROGRESS = st.dictionaries(st.text(max_size=5), NUMBERS | st.lists(st.lists(NUMBERS, max_size=2)) | st.text(max_size=9))


@settings(deadline=None, max_examples=40)
@given(ARRAYS, PROGRESS)
def test_arrays_and_progress_come_back_as_they_were(arrays, progress):
    kept = from_bytes(to_bytes(arrays, progress))
    assert kept.progress == progress
    assert [(a.dtype, a.shape, a.tobytes()) for a in kept.arrays] == [(a.dtype, a.shape, a.tobytes()) for a in arrays]


def test_arrays_that_are_views_come_back_in_their_order():
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = [whole.T, whole[:, ::2], np.broadcast_to(whole[0], (3, 6))] * 40  # more than ten, more than a hundred
    kept = from_bytes(to_bytes(views, {"best_loss": float("inf")}))
    assert all(np.array_equal(a, b) for a, b in zip(kept.arrays, views, strict=True))
    assert kept.progress == {"best_loss": float("inf")}


# an interrupted fit ------------------------------------------------------------------------------------------------


class Interrupted:
    """Keeps every epoch, and is interrupted right after one of them."""

    every_s = 0.0

    def __init__(self, after: int) -> None:
        self.after, self.saves, self.kept = after, 0, b""

    def load(self) -> Checkpoint | None:
        return from_bytes(self.kept) if self.kept else None

    def save(self, arrays: Sequence[np.ndarray], progress: dict[str, Any]) -> None:
        self.kept = to_bytes(arrays, progress)
        self.saves += 1
        if self.saves == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("network", "mixup"), [("cnn", 0.3), ("lstm", 0.0)])
def test_an_interrupted_fit_ends_in_the_same_bits(network, mixup):
    recipe = replace(RECIPE, network=network, mixup=mixup)
    whole: list[tuple[int, float, float]] = []
    member = fit(recipe, LABELS, 5, on_epoch=lambda *epoch: whole.append(epoch))
    for after in range(1, recipe.epochs + 1):
        checkpoint = Interrupted(after)
        curve: list[tuple[int, float, float]] = []
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, LABELS, 5, checkpoint=checkpoint)
        again = fit(recipe, LABELS, 5, on_epoch=lambda *epoch, to=curve: to.append(epoch), checkpoint=checkpoint)
        assert same(again, member), f"interrupted after epoch {after}"
        assert curve == whole
        assert checkpoint.saves == recipe.epochs, "epochs were trained twice"


def test_patience_is_not_granted_anew():
    # With such steps it never gets better.
    recipe = replace(RECIPE, patience=3, learning_rate=1e30)
    checkpoint = Interrupted(2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, LABELS, 0, checkpoint=checkpoint)
    with pytest.raises(InputError, match="diverged"):
        fit(recipe, LABELS, 0, checkpoint=checkpoint)
    assert checkpoint.saves == 3


# the folder ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path)


def planted_member(curve: np.ndarray) -> Regressor:
    head = RNG.standard_normal((4, 3)).astype(np.float32)
    arrays = {"head.kernel": head, "a.10.b": np.float32([1, -0.0]), **Scaler.of(TRACKS, LABELS).arrays()}
    member = restore(RECIPE, arrays, (0, 1, 0), {"arousal": {"length_scales": [0.5, 1.0], "ridge_alpha": 0.4}})
    member.curve = curve
    return member


def test_members_come_back_to_the_bit(workspace):
    checkpoints, member = Checkpoints(workspace, "cnn-mfcc-12345678"), planted_member(RNG.uniform(size=(7, 2)))
    assert read_member(checkpoints, 3, RECIPE) is None
    checkpoints.write_member(3, member)
    assert same(read_member(Checkpoints(workspace, "cnn-mfcc-12345678"), 3, RECIPE), member)
    assert checkpoints.member(2) is None
    assert Checkpoints(workspace, "cnn-mfcc-87654321").member(3) is None, "another key is another training"


def test_a_finished_member_needs_no_state_and_a_finished_run_no_folder(workspace):
    checkpoints = Checkpoints(workspace, "cnn-mfcc-12345678")
    state = checkpoints.state(0)
    assert state.load() is None
    state.save([np.float32([1, 2])], {"best_loss": float("inf")})
    assert state.load().progress == {"best_loss": float("inf")}
    checkpoints.write_member(0, planted_member(np.zeros((0, 2))))
    assert state.load() is None
    assert read_member(checkpoints, 0, RECIPE).curve.shape == (0, 2)
    checkpoints.clear()
    checkpoints.clear()  # also by one who finds nothing
    assert not workspace.exists("checkpoints", "cnn-mfcc-12345678")


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def of_another_kind(data: bytes) -> bytes:
    from safetensors.numpy import save

    return save({"x": np.zeros(3, np.float32)})


@pytest.mark.parametrize("damage", [cut_short, of_another_kind, lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_file_is_named(workspace, damage):
    checkpoints = Checkpoints(workspace, "cnn-mfcc-12345678")
    checkpoints.write_member(7, planted_member(np.zeros((1, 2))))
    checkpoints.state(8).save([np.zeros(3, np.float32)], {})
    folder = ("checkpoints", "cnn-mfcc-12345678")
    for name, read in [
        ("member0007.safetensors", lambda: checkpoints.member(7)),
        ("state0008.safetensors", checkpoints.state(8).load),
    ]:
        workspace.write_bytes(damage(workspace.read_bytes(*folder, name)), *folder, name)
        with pytest.raises(WorkspaceError, match=f"{name} is damaged") as caught:
            read()
        assert "remove it" in str(caught.value.hint)


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_an_interrupted_cross_validation_trains_no_member_twice(workspace):
    recipe, fold = RECIPE, grouped_folds(ARTISTS, 2, 0)[None]

    def run(checkpoints, on_epoch=lambda *epoch: None):
        return cross_validate(recipe, TRACKS, LABELS, ARTISTS, fold, 2, on_epoch=on_epoch, checkpoints=checkpoints)

    def until_the_third(number: int, *epoch: float) -> None:
        if (number, epoch[0]) == (2, 1):
            raise Stopped

    whole = run(Checkpoints(workspace, "whole"))
    with pytest.raises(Stopped):
        run(Checkpoints(workspace, "interrupted", every_s=0.0), until_the_third)
    files = workspace.names("checkpoints", "interrupted")
    assert sorted(files) == ["member0000.safetensors", "member0001.safetensors", "state0002.safetensors"]
    heard: list[int] = []
    again = run(Checkpoints(workspace, "interrupted"), lambda number, *epoch: heard.append(number))
    assert sorted(set(heard)) == [2, 3]
    assert np.array_equal(again.predicted, whole.predicted)
    assert all(same(a, b) for a, b in zip(again.members, whole.members, strict=True))
