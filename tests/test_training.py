"""Training: splits that keep artists apart, windows that miss nothing, a fit that repeats itself, models on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sounds
from conftest import LONG
from hypothesis import given
from hypothesis import strategies as st
from parts import blank_reference, cross_validate, even_intervals

from mer_ray import features
from mer_ray.errors import MerRayError, ModelError, TrackError, WorkspaceError
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import DIMENSIONS, features_schema, ragged_column
from mer_ray.io.tables import Workspace, now
from mer_ray.models.regressor import Regressor
from mer_ray.models.scaling import Scaler
from mer_ray.models.splits import grouped_folds
from mer_ray.models.windows import all_starts, cut, starts, track_means, window_frames
from mer_ray.scoring import model_folder, predictor
from mer_ray.training import data
from mer_ray.training.crossval import parts
from mer_ray.training.fit import create, restore
from mer_ray.training.recipe import Recipe, label_weights

SPEC = features.resolve("mfcc", Params())

# windows -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 60))
def test_windows_cover_every_frame(n_frames, window):
    begins = starts(n_frames, window)
    covered = np.zeros(n_frames, int)
    for begin in begins:
        assert 0 <= begin <= max(0, n_frames - window)
        covered[begin : begin + window] += 1
    assert covered.min() >= 1
    assert len(begins) == len(set(begins))
    assert list(begins) == sorted(begins)


def test_a_cut_is_scaled_frames_and_zeros_behind():
    tracks = [np.arange(1, 11, dtype=np.float32).reshape(5, 2), np.ones((1, 2), np.float32)]
    owner, first = all_starts(tracks, 4)
    assert (owner.tolist(), first.tolist()) == ([0, 0, 1], [0, 1, 0])
    x, mask = cut(tracks, np.array([0, 1]), np.array([3, 0]), 4, lambda frames: frames * 2)
    assert x.tolist() == [[[14, 16], [18, 20], [0, 0], [0, 0]], [[2, 2], [0, 0], [0, 0], [0, 0]]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(("window_s", "hop_s", "frames"), [(5.0, 0.96, 5), (5.0, 512 / 22_050, 215), (0.1, 0.96, 1)])
def test_a_window_is_at_least_a_frame(window_s, hop_s, frames):
    assert window_frames(window_s, hop_s) == frames


def test_the_mean_of_a_track_is_over_its_own_windows():
    values = np.array([[1.0, 2, 3], [3, 4, 5], [7, 7, 7]])
    assert track_means(values, np.array([1, 1, 0]), 2).tolist() == [[7, 7, 7], [2, 3, 4]]


# the fit -----------------------------------------------------------------------------------------------------------

RECIPE = Recipe(
    "lstm", hop_s=0.5, window=6, epochs=30, patience=30, batch_size=16, learning_rate=1e-2, weight_decay=0.01
)


def planted(n: int = 96, n_dims: int = 4, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Tracks whose first three coefficients lie where their labels say."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0.2, 0.8, (n, 3))
    tracks = []
    for label in labels:
        frames = rng.standard_normal((int(rng.integers(3, 15)), n_dims)) * 5 + 100
        frames[:, :3] += 40 * (label - 0.5)
        tracks.append(frames.astype(np.float32))
    return tracks, labels, [f"artist {i // 4}" for i in range(n)]


TRACKS, LABELS, ARTISTS = planted()
HELD = np.arange(len(TRACKS)) >= 72


def fit(recipe: Recipe, tracks=TRACKS, labels=LABELS, held=HELD, seed=3, weights=None, **training) -> Regressor:
    groups = ARTISTS[: len(tracks)]
    return create(recipe, **training).fit(tracks, labels, groups, weights=weights, seed=seed, validation=held)


@pytest.fixture(scope="module")
def trained() -> tuple[Regressor, list[tuple[int, float, float]]]:
    message: list[tuple[int, float, float]] = []
    return fit(RECIPE, on_epoch=lambda *epoch: message.append(epoch)), message


def answers(member: Regressor, tracks: list[np.ndarray]) -> np.ndarray:
    return np.stack([p.value for p in member.predict(tracks)])


def test_a_planted_signal_is_learnt(trained):
    member, message = trained
    fresh, truth, _ = planted(seed=1)
    r2 = 1 - ((answers(member, fresh) - truth) ** 2).mean(axis=0) / truth.var(axis=0)
    assert r2.min() > 0.6
    assert [epoch for epoch, _, _ in message] == list(range(len(message)))
    assert message[-1][1] < 0.5 * message[0][1]


def test_the_same_seed_gives_the_same_weights(trained):
    again = fit(RECIPE)
    other = fit(replace(RECIPE, epochs=1), seed=4)
    assert set(again.arrays) == set(other.arrays)
    for name, values in trained[0].arrays.items():
        assert np.array_equal(values, again.arrays[name]), name
    assert any(not np.array_equal(v, other.arrays[k]) for k, v in again.arrays.items())


def test_held_out_tracks_take_no_part_but_to_stop(trained):
    changed = [t if not h else t * 0 + 7 for t, h in zip(TRACKS, HELD, strict=True)]
    member = fit(replace(RECIPE, epochs=1), changed)
    for name in "scaler.x_mean", "scaler.y_sd":
        assert np.array_equal(member.arrays[name], trained[0].arrays[name])


def test_training_stops_when_it_gets_no_better():
    noise = np.random.default_rng(0).uniform(size=LABELS.shape)
    losses: list[float] = []
    recipe = replace(RECIPE, epochs=200, patience=3)
    model = fit(recipe, labels=noise, seed=0, on_epoch=lambda epoch, train, valid: losses.append(valid))
    assert model.curve[:, 1].tolist() == losses
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 200


def test_one_artist_alone_can_be_trained_on():
    member = create(replace(RECIPE, epochs=1)).fit(TRACKS, LABELS, ["one"] * 96)
    assert np.isfinite(answers(member, TRACKS[:3])).all()


def test_scaling_gives_means_of_0_and_deviations_of_1():
    scaler = Scaler.of(TRACKS, LABELS)
    scaled = np.concatenate([scaler.frames(t) for t in TRACKS])
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(scaled.std(axis=0), 1, atol=1e-4)
    constant = Scaler.of([np.full((9, 2), 3.0)], np.full((4, 3), 0.5))
    assert constant.x_sd.tolist() == [1, 1]
    assert constant.y_sd.tolist() == [1, 1, 1]
    known = np.arange(96) % 3 > 0
    partly = Scaler.of(TRACKS, np.where(known[:, None], LABELS, np.nan))
    assert partly.y_mean == pytest.approx(LABELS[known].mean(axis=0), rel=1e-6)
    assert partly.y_sd == pytest.approx(LABELS[known].std(axis=0), rel=1e-6)
    assert np.array_equal(partly.x_mean, scaler.x_mean)


@pytest.fixture(scope="module")
def crossed():
    recipe = replace(RECIPE, epochs=15)
    fold = np.stack([grouped_folds(ARTISTS, 3, seed) for seed in (0, 1)])
    return cross_validate(recipe, TRACKS, LABELS, ARTISTS, fold, members=2)


def test_every_track_is_predicted_by_those_who_have_not_heard_its_artist(crossed):
    result = crossed
    assert len(result.members) == len(result.plan) == 12
    assert len({part.seed for part in result.plan}) == 12
    assert result.predicted.shape == (2, 96, 3)
    assert (result.predicted >= 0).all()
    assert (result.predicted <= 1).all()
    for r, k in product(range(2), range(3)):
        outside = np.flatnonzero(result.fold[r] == k)
        assert not {ARTISTS[i] for i in outside} & {ARTISTS[i] for i in np.flatnonzero(result.fold[r] != k)}
        mine = [m for p, m in zip(result.plan, result.members, strict=True) if (p.repeat, p.fold) == (r, k)]
        assert len(mine) == 2
        mean = np.mean([answers(m, [TRACKS[i] for i in outside]) for m in mine], axis=0)
        assert np.allclose(mean, result.predicted[r, outside], atol=1e-6)


def test_three_artists_are_enough_for_two_folds():
    artists = list("aaabbc") * 16  # in each fold as many tracks as a batch has: one compilation
    fold = grouped_folds(artists, 2, 0)[None]
    result = cross_validate(replace(RECIPE, epochs=1), TRACKS, LABELS, artists, fold, members=1)
    assert np.isfinite(result.predicted).all()


def test_separate_heads_answer_for_one_dimension_each():
    recipe, fold = replace(RECIPE, epochs=2), grouped_folds(ARTISTS, 2, 0)[None]
    result = cross_validate(recipe, TRACKS, LABELS, ARTISTS, fold, members=1, separate=True)
    assert [(p.fold, p.target) for p in result.plan] == [(k, t) for k in (0, 1) for t in (0, 1, 2)]
    assert [m.targets for m in result.members[:3]] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    outside = np.flatnonzero(fold[0] == 0)
    for d, member in enumerate(result.members[:3]):
        alone = answers(member, [TRACKS[i] for i in outside])[:, d]
        assert np.allclose(alone, result.predicted[0, outside, d], atol=1e-6)


def test_every_part_has_a_seed_of_its_own():
    plan = parts("lstm", folds=5, repeats=3, members=2, separate=3, seed=7)
    assert len(plan) == len({p.seed for p in plan}) == len({p.number for p in plan}) == 90
    assert len(parts("kernel", folds=5, repeats=3, members=2, separate=3, seed=7)) == 15
    assert [p.target for p in parts("lstm", folds=1, repeats=1, members=1, separate=2, seed=7)] == [0, 1]


@pytest.mark.parametrize("loss", ["huber", "ccc", "nll"] if LONG else ["ccc", "nll"])
def test_every_loss_learns_the_planted_signal(loss):
    recipe = replace(RECIPE, loss=loss, epochs=25, mixup=0.2, mask_share=0.1)
    fresh, truth, _ = planted(seed=1)
    r2 = 1 - ((answers(fit(recipe), fresh) - truth) ** 2).mean(axis=0) / truth.var(axis=0)
    assert r2.min() > 0.4


def test_uncertain_labels_count_less():
    errors = np.full(LABELS.shape, 0.05)
    errors[0], errors[1] = 0.3, np.nan
    weights = label_weights(LABELS, errors)
    assert np.allclose(weights.mean(axis=0), 1, atol=1e-5)
    assert (weights[0] < weights[2]).all()
    assert (weights[1] == weights[0]).all()  # unknown: as the least certain
    assert (label_weights(LABELS, np.full(LABELS.shape, np.nan)) == 1).all()
    assert (label_weights(LABELS, None) == 1).all()
    wrong = LABELS.copy()
    wrong[:40] = 1 - wrong[:40]
    uncertain = np.where(np.arange(len(LABELS)) < 40, 1.0, 0.01)[:, None] * np.ones(3)
    trusted = fit(RECIPE, labels=wrong, weights=label_weights(wrong, uncertain))
    deceived = fit(RECIPE, labels=wrong)
    fresh, truth, _ = planted(seed=1)
    miss = [((answers(m, fresh) - truth) ** 2).mean() for m in (trusted, deceived)]
    assert miss[0] < 0.7 * miss[1]


class EveryStep:
    """Keeps the weights, their average and the best average after every epoch, which is a step here."""

    every_s = 0.0

    def __init__(self, n_parameters: int) -> None:
        self.n, self.weights, self.averages = n_parameters, [], []

    def load(self) -> None:
        return None

    def save(self, arrays, progress) -> None:
        self.weights.append(arrays[: self.n])
        self.averages.append(arrays[self.n : 2 * self.n])


def n_parameters(member: Regressor) -> int:
    return sum(name.startswith("network.") for name in member.arrays)


FEW = slice(0, 20)
"""Tracks of which a batch of 16 is all that an epoch has."""


def test_the_average_of_the_weights_is_of_those_that_were_trained(trained):
    """Of few steps as well: the weights that a network starts with are no part of it."""
    kept = EveryStep(n_parameters(trained[0]))
    recipe = replace(RECIPE, epochs=7, learning_rate=2e-3)
    fit(recipe, TRACKS[FEW], LABELS[FEW], HELD[FEW], checkpoint=kept)
    assert len(kept.weights) == 7
    for t, average in enumerate(kept.averages, start=1):
        shares = recipe.ema ** np.arange(t - 1, -1, -1.0)
        for i, values in enumerate(average):
            wanted = np.average([np.asarray(w[i], float) for w in kept.weights[:t]], axis=0, weights=shares)
            np.testing.assert_allclose(values, wanted, atol=2e-6)
    moved = max(np.abs(a - b).max() for a, b in zip(kept.weights[0], kept.weights[-1], strict=True))
    assert moved > 1e-3, "the weights hardly moved: this says nothing"


def test_without_an_average_the_last_weights_are_kept(trained):
    kept = EveryStep(n_parameters(trained[0]))
    fit(replace(RECIPE, epochs=2, ema=0.0), TRACKS[FEW], LABELS[FEW], HELD[FEW], checkpoint=kept)
    for weights, average in zip(kept.weights, kept.averages, strict=True):
        assert all(np.array_equal(w, a) for w, a in zip(weights, average, strict=True))


def test_a_planted_signal_is_learnt_from_few_tracks():
    """40 steps: an average that began at the fresh weights would still have 0.98^40, nearly half, of them."""
    recipe = replace(RECIPE, epochs=40, learning_rate=2e-3)
    fresh, truth, _ = planted(seed=1)
    r2 = []
    for seed in range(3):
        member = fit(recipe, TRACKS[FEW], LABELS[FEW], HELD[FEW], seed)
        r2.append(1 - ((answers(member, fresh) - truth) ** 2).mean(axis=0) / truth.var(axis=0))
    assert np.mean(r2) > 0.5


def test_frames_that_are_never_negative_and_mostly_near_zero_are_rooted():
    """Not those around a mean that is well above zero."""
    rng = np.random.default_rng(0)
    tracks = [
        np.stack([rng.exponential(size=50) ** 2, rng.normal(size=50), rng.uniform(size=50)], axis=1) for _ in range(4)
    ]
    scaler = Scaler.of(tracks, np.zeros((4, 3)))
    assert scaler.x_root.tolist() == [1, 0, 0]
    rooted = np.sqrt(np.concatenate(tracks)[:, 0])
    assert scaler.x_mean[0] == pytest.approx(rooted.mean(), rel=1e-5)
    assert np.isfinite(scaler.frames(np.array([[-1.0, 2.0, 0.5]]))).all()


# models on disk ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(trained) -> model_folder.Model:
    """Trained on 4 MFCCs a half second, as its spec says."""
    feature = features.resolve("mfcc", Params(n_mfcc=4, sample_rate_hz=8_000, hop_length=4_000, n_mels=16))
    figures = {d: {"mse": 0.01, "mae": 0.1, "r2": 0.5, "n": 96, "label_sd": 0.17, "intervals": {}} for d in DIMENSIONS}
    arrays = {k: v * 0.9 if k.startswith("network.") else v for k, v in trained[0].arrays.items()}
    members = [trained[0], restore(RECIPE, arrays, (1, 1, 1))]
    around = even_intervals([0.1, 0.2, 0.9]), blank_reference(feature.n_dims, feature.hop_s)
    return model_folder.Model("lstm-mfcc", "lstm", feature, RECIPE.window, members, *around, figures, {"seed": 0})


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model_folder.save(model, Workspace(tmp_path), "runs", "lstm-mfcc")
    return tmp_path / "runs" / "lstm-mfcc"


def test_a_saved_model_answers_the_same(model, folder):
    loaded = predictor.load(str(folder))
    fresh = predictor.Predictor(model)
    for mine, its in zip(fresh.predict_frames(TRACKS), loaded.predict_frames(TRACKS), strict=True):
        assert np.array_equal(mine.vad, its.vad)
        assert np.array_equal(mine.curve, its.curve)
    assert loaded.model.feature == model.feature
    assert loaded.model.mean_r2 == 0.5
    assert loaded.name == f"lstm-mfcc:{json.loads((folder / 'model.json').read_text())['weights_sha256'][:12]}"


def test_a_saved_model_answers_the_same_in_another_process(folder):
    code = (
        "import sys, numpy as np; from mer_ray.scoring import predictor;"
        "x = np.linspace(50, 150, 80, dtype=np.float32).reshape(20, 4);"
        "print(predictor.load(sys.argv[1]).predict_frames([x])[0].vad.tolist())"
    )
    message = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    x = np.linspace(50, 150, 80, dtype=np.float32).reshape(20, 4)
    mine = predictor.load(str(folder)).predict_frames([x])[0].vad
    assert json.loads(message.stdout) == pytest.approx(mine.tolist(), abs=1e-6)


def test_a_model_names_its_dimensions_and_one_of_an_earlier_version_has_v_a_and_d(folder):
    described = json.loads((folder / "model.json").read_text())
    assert described.pop("dimensions") == list(DIMENSIONS)
    (folder / "model.json").write_text(json.dumps(described))
    assert model_folder.load(str(folder)).dimensions == DIMENSIONS
    assert model_folder.describe(Workspace(folder.parent), folder.name)["dimensions"] == list(DIMENSIONS)


def test_a_model_folder_is_plain_data(folder):
    from safetensors.numpy import load

    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "weights.safetensors"]
    assert b"pickle" not in (folder / "weights.safetensors").read_bytes()
    tensors = load((folder / "weights.safetensors").read_bytes())
    assert all(t.dtype.kind in "fi" for t in tensors.values())


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "weights changed": lambda f: (f / "weights.safetensors").write_bytes(
        (f / "weights.safetensors").read_bytes()[:-1] + b"x"
    ),
    "weights cut": lambda f: (f / "weights.safetensors").write_bytes(b""),
    "weights gone": lambda f: (f / "weights.safetensors").unlink(),
    "no model.json": lambda f: (f / "model.json").unlink(),
    "half a model.json": lambda f: (f / "model.json").write_text((f / "model.json").read_text()[:200]),
    "not an object": lambda f: (f / "model.json").write_text("[]"),
    "another format": lambda f: edit(f / "model.json", format=99),
    "more members than weights": lambda f: edit(f / "model.json", members=3),
    "members of another type": lambda f: edit(f / "model.json", members="two"),
    "an unknown network": lambda f: edit(f / "model.json", network="os"),
    "an unknown feature": lambda f: edit(
        f / "model.json", feature={"name": "os", "version": 1, "sample_rate_hz": 1, "hop_s": 1.0, "n_dims": 4}
    ),
    "a feature without name": lambda f: edit(f / "model.json", feature={}),
    "a network of another width": lambda f: edit(f / "model.json", network="cnn"),
    "fewer dimensions than weights": lambda f: edit(f / "model.json", dimensions=["valence", "arousal"]),
    "more dimensions than figures": lambda f: edit(f / "model.json", dimensions=[*DIMENSIONS, "tension"]),
    "a dimension without R²": lambda f: edit(f / "model.json", metrics={d: {} for d in DIMENSIONS}),
    "figures of another type": lambda f: edit(f / "model.json", metrics=dict.fromkeys(DIMENSIONS)),
    "a dimension twice": lambda f: edit(f / "model.json", dimensions=["valence", "arousal", "arousal"]),
    "a dimension that is a path": lambda f: edit(f / "model.json", dimensions=["valence", "arousal", "../x"]),
    "dimensions of another type": lambda f: edit(f / "model.json", dimensions=3),
    "intervals of two dimensions": lambda f: edit(f / "model.json", intervals=even_intervals([0.1, 0.2]).to_json()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_a_model_error(folder, damage):
    DAMAGES[damage](folder)
    with pytest.raises(ModelError) as caught:
        predictor.load(str(folder)).predict_frames(TRACKS[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_what_is_no_model_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises((ModelError, WorkspaceError), match=place):
        predictor.load(str(tmp_path / place))


def test_a_folder_without_model_json_is_not_a_model_yet(tmp_path):
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "weights.safetensors").write_bytes(b"half")
    assert model_folder.describe(Workspace(tmp_path), "runs", "x") is None


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_prediction_lies_in_its_interval_and_in_0_1(folder, rate):
    loaded = predictor.load(str(folder))
    prediction = loaded.predict(sounds.noise(9.0, rate)[:, 0], rate)
    for values in prediction.vad, prediction.lower, prediction.upper, prediction.curve:
        assert ((values >= 0) & (values <= 1)).all()
    assert (prediction.lower <= prediction.vad).all()
    assert (prediction.vad <= prediction.upper).all()
    assert prediction.curve.shape[1] == 3
    # The curve runs through the answers for the windows whose mean the value is.
    assert (prediction.curve.min(axis=0) <= prediction.vad + 1e-6).all()
    assert (prediction.vad <= prediction.curve.max(axis=0) + 1e-6).all()
    assert prediction.hop_s == pytest.approx(1, abs=0.1)


def test_wild_frames_stay_in_0_1(folder):
    loaded = predictor.load(str(folder))
    wild = [np.full((5, 4), v, np.float32) for v in (-1e9, 1e9)]
    for prediction in loaded.predict_frames(wild):
        assert ((prediction.vad >= 0) & (prediction.vad <= 1)).all()
    assert loaded.predict_frames([]) == []


@pytest.mark.parametrize("n", [0, 1, 500])
def test_too_little_audio_costs_the_track_only(folder, n):
    with pytest.raises(TrackError) as caught:
        predictor.load(str(folder)).predict(np.zeros(n, np.float32), 8_000)
    assert caught.value.reason == "too_short"


# tables → arrays ---------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """Four tracks: one without frames, one without a label, two of one artist; rows in different orders."""

    made = Workspace(tmp_path / "workspace")
    nothing = dict.fromkeys(("album", "composer", "mbid", "spotify_id", "uri"))
    nothing["tags"] = []
    named = {"d": ("Björk", "1"), "a": ("BJORK", "2"), "c": ("", "3"), "b": ("B", "4"), "e": ("E", "5")}
    made.append_rows(
        "tracks",
        [
            {"track_id": i, "artist": a, "title": t, "source": "folder", "fetched_at": now(), **nothing}
            for i, (a, t) in named.items()
        ],
    )
    label = {
        "evidence": [],
        "coverage": None,
        "n_matched": 0,
        "lexicon": "manifest",
        **{f"se_{d}": None for d in DIMENSIONS},
    }
    made.append_rows(
        "labels",
        [
            {"track_id": i, "valence": v, "arousal": v / 2, "dominance": 1 - v, **label}
            for i, v in zip("cdab", (0.3, 0.4, 0.1, 0.2), strict=True)
        ],
    )
    frames = {i: np.full((n, 2), n, np.float32) for i, n in zip("edca", (5, 4, 3, 1), strict=True)}
    columns = [
        pa.array(list(frames)),
        ragged_column(list(frames.values()), 2),
        pa.array([0.1] * 4),
        pa.array([SPEC.fingerprint] * 4),
    ]
    made.append("features/mfcc", pa.Table.from_arrays(columns, schema=features_schema(2)), "x")
    return made


def test_frames_of_other_settings_are_refused(workspace):
    with pytest.raises(MerRayError, match="other settings or weights"):
        data.load(workspace, features.resolve("mfcc", Params(n_mfcc=13)))


def test_rows_find_each_other_by_their_ids(workspace):
    dataset = data.load(workspace, SPEC)
    assert dataset.ids == ["a", "c", "d"]
    assert dataset.labels.tolist() == [[0.1, 0.05, 0.9], [0.3, 0.15, 0.7], [0.4, 0.2, 0.6]]
    assert [len(f) for f in dataset.frames] == [1, 3, 4]
    assert dataset.groups == ["bjork", "c", "bjork"]
    assert dataset.titles == ["2", "3", "1"]
    spec = SPEC
    assert dataset.fingerprint(spec) == data.load(workspace, SPEC).fingerprint(spec)
    assert dataset.fingerprint(spec) != dataset.fingerprint(features.resolve("mfcc", Params(n_mfcc=13)))
    assert dataset.fingerprint(spec) != replace(dataset, labels=dataset.labels + 0.01).fingerprint(spec)


def test_labels_are_of_the_dimensions_that_any_track_has_one_of(workspace):
    rows = workspace.read("labels").drop_columns("dominance").to_pylist()
    (a,) = [r for r in rows if r["track_id"] == "a"]
    a |= {"arousal": None, "se_valence": 0.05}
    a["curves"] = [
        {"dimension": "valence", "time_s": [0.5, 1.0], "value": [0.25, 0.5]},
        {"dimension": "arousal", "time_s": [1.0, 2.0], "value": [0.75, 1.0]},
    ]
    workspace.discard("labels")
    workspace.append_rows("labels", rows)
    dataset = data.load(workspace, SPEC)
    assert dataset.dimensions == ("valence", "arousal")
    nan = np.nan
    np.testing.assert_array_equal(dataset.labels, [[0.1, nan], [0.3, 0.15], [0.4, 0.2]])
    np.testing.assert_array_equal(dataset.errors, [[0.05, nan], [nan, nan], [nan, nan]])
    curve, *others = dataset.curves
    assert others == [None, None]
    assert curve is not None
    assert curve.time_s.tolist() == [0.5, 1.0, 2.0]
    np.testing.assert_array_equal(curve.values, [[0.25, nan], [0.5, 0.75], [nan, 1.0]])
    some = dataset.of([2, 0])
    assert (some.dimensions, list(some.curves)) == (dataset.dimensions, [None, curve])
    prints = {dataset.fingerprint(SPEC), replace(dataset, curves=()).fingerprint(SPEC)}
    prints.add(replace(dataset, dimensions=("valence", "tension")).fingerprint(SPEC))
    assert len(prints) == 3


@pytest.mark.parametrize(("length", "told"), [(3.0, False), (0.9, True), (None, False)])
def test_labels_after_the_end_of_the_audio_are_told(workspace, length, told):
    """Frames taken for seconds, or the labels of a whole song with an excerpt of it."""
    rows = workspace.read("labels").to_pylist()
    for row in rows:
        if row["track_id"] == "a":
            row["curves"] = [{"dimension": "valence", "time_s": [0.5, 1.0, 2.0], "value": [0.25, 0.5, 0.5]}]
    workspace.discard("labels")
    workspace.append_rows("labels", rows)
    file = {"uri": "/m/a.mp3", "provider": "file", "sha256": "0", "sample_rate": 8_000, "channels": 1, "tried": []}
    if length:
        workspace.append_rows("audio", [{"track_id": "a", "duration_s": length, "fetched_at": now(), **file}])
    found = data.beyond_audio(workspace, data.load(workspace, SPEC))
    said = "labels over time of 1 tracks go on after their audio has ended (track a: a label at 2 s, audio of 0.9 s)"
    assert [note.partition(": check")[0] for note in found] == [said] * told


def test_sets_splits_and_folds_are_those_of_the_tracks(workspace):
    plain = data.load(workspace, SPEC)
    assert (plain.datasets, plain.splits, plain.given_folds) == ([""] * 3, [""] * 3, [""] * 3)
    rows = workspace.read("tracks").to_pylist()
    for row in rows:
        row |= {"c": {"dataset": "DEAM", "split": "test"}, "d": {"split": "train", "fold": "2"}}.get(
            row["track_id"], {}
        )
    workspace.discard("tracks")
    workspace.append_rows("tracks", rows)
    dataset = data.load(workspace, SPEC)
    assert dataset.datasets == ["", "DEAM", ""]
    assert dataset.splits == ["", "test", "train"]
    assert dataset.given_folds == ["", "", "2"]
    ways = [{}, {"split": "test"}, {"split": "folds"}, {"source_bias": True}]
    prints = [(of.fingerprint(SPEC, settings), settings) for of in (plain, dataset) for settings in ways]
    assert prints[0][0] == prints[4][0] == dataset.fingerprint(SPEC)  # folds of groups do not depend on them
    assert len({own for own, _ in prints}) == len(prints) - 1


@pytest.mark.parametrize(("table", "stage"), [("labels", "label"), ("tracks", "collect"), ("features/mfcc", "extract")])
def test_a_missing_table_names_its_stage(workspace, table, stage):
    workspace.discard(table)
    with pytest.raises(MerRayError, match=f"run `mer-ray {stage}`"):
        data.load(workspace, SPEC)
