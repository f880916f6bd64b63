"""VGGish as a feature: settings, spec, streams, postprocessing, and the published smoke test."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from vggish_sounds import RATE, assert_names_the_ways, music, noise, sine

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError
from mer_ray.features import vggish
from mer_ray.features.vggish import Params
from mer_ray.features.vggish_postprocess import Postprocess

PUBLISHED_MEAN, PUBLISHED_SD = 0.000657, 0.343  # vggish_smoke_test.py of the AudioSet release, raw embeddings


def resolve_random(**changes: Any) -> features.FeatureSpec:
    return features.resolve("vggish", Params(weights="random", **changes), demo=True)


@pytest.fixture(scope="module")
def stand_in() -> features.Extractor:
    return features.load(resolve_random(batch_patches=8))


# ------------------------------------------------------------------------------------------------------ spec, settings


def test_spec() -> None:
    spec = resolve_random()
    assert (spec.name, spec.version, spec.sample_rate_hz, spec.n_dims) == ("vggish", 2, 16_000, 128)
    assert spec.hop_s == pytest.approx(0.96)
    assert spec.params == {"precision": "float32", "postprocess": None}
    stored = features.FeatureSpec.from_json(spec.to_json())
    assert stored.fingerprint == spec.fingerprint


def test_how_the_work_is_done_is_not_in_the_fingerprint() -> None:
    assert resolve_random().fingerprint == resolve_random(batch_patches=3, timeout_s=1).fingerprint
    assert resolve_random().fingerprint != resolve_random(seed=1).fingerprint
    assert resolve_random().fingerprint != resolve_random(precision="tf32").fingerprint


def test_random_weights_are_for_the_demo_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        features.resolve("vggish", Params(weights="random"), demo=False)
    assert_names_the_ways(caught.value)
    spec = resolve_random(seed=7)
    assert spec.weights == {"kind": "random", "seed": 7}
    assert "seeded random weights (seed 7)" in spec.note


@pytest.mark.parametrize(
    "wrong", [{"precision": "float16"}, {"postprocess": True}, {"batch_patches": 0}, {"weights": ""}, {"wheights": "x"}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Params(**wrong)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precisions_of_gpus_are_refused_on_cpus(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(ConfigError, match=rf"extract\.vggish\.precision: {precision} needs a GPU.*float32"):
        features.load(resolve_random(precision=precision))


def test_import_is_light() -> None:
    heavy = "{'jax', 'tensorflow', 'httpx', 'numba', 'scipy', 'safetensors'}"
    code = f"import sys, mer_ray.features.vggish; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------------------- embeddings


def test_random_embeddings_tell_sounds_apart(stand_in: features.Extractor) -> None:
    sounds = [music(3, 9), music(3, 10), noise(3, 11), sine(300, 3), 0.1 * music(3, 9)]
    tracks = stand_in(sounds)
    every = np.concatenate(tracks)
    assert 0.1 < np.abs(every).mean() < 30
    assert np.isfinite(every).all()
    assert tracks[0].std(0).mean() > 0.01 * every.std()  # from patch to patch of one piece
    centred = every - every.mean(0)
    assert np.linalg.matrix_rank(centred, tol=1e-3 * np.linalg.norm(centred, 2)) >= 5
    for i, one in enumerate(tracks):
        for other in tracks[i + 1 :]:
            assert np.linalg.norm(one.mean(0) - other.mean(0)) > 0.05 * np.linalg.norm(one.mean(0))


def test_batch_size_reaches_the_extractor_and_changes_no_bit(stand_in: features.Extractor) -> None:
    assert isinstance(stand_in, vggish.Vggish)
    assert stand_in.batch_patches == 8
    batch = [music(10, 16), music(3, 17)]
    other = vggish.Vggish(stand_in.spec, stand_in._embed, 5)
    for found, wanted in zip(other(batch), stand_in(batch), strict=True):
        np.testing.assert_array_equal(found, wanted)


# -------------------------------------------------------------------------------------------------------------- streams


def plain(batch_patches: int) -> vggish.Vggish:
    """An extractor whose embedding of a window is its first, middle and last samples: cheap, and easy to check."""

    def embed(windows: np.ndarray) -> np.ndarray:
        assert 0 < len(windows) <= batch_patches
        return np.concatenate([windows[:, :40], windows[:, 7_000:7_040], windows[:, -48:]], axis=1)

    return vggish.Vggish(resolve_random(), embed, batch_patches)


def expected(samples: np.ndarray) -> np.ndarray:
    starts = range(0, samples.size - 15_600 + 1, 15_360)
    parts = [[samples[s : s + 40], samples[s + 7_000 : s + 7_040], samples[s + 15_552 : s + 15_600]] for s in starts]
    return np.array([np.concatenate(p) for p in parts], np.float32).reshape(-1, 128)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(0, 0), (1, 0), (15_599, 0), (15_600, 1), (30_959, 1), (30_960, 2), (30 * RATE, 31), (600 * RATE, 624)],
)
def test_the_frame_rule_at_its_edges(n_samples: int, n_frames: int) -> None:
    assert len(plain(64)([np.zeros(n_samples, np.float32)])[0]) == n_frames


@given(
    lengths=st.lists(st.integers(0, 100_000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 40_000), min_size=1, max_size=8),
    batch_patches=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_streams_may_be_cut_and_interleaved_in_any_way(
    lengths: list[int], cuts: list[int], batch_patches: int, seed: int
) -> None:
    sounds = [np.random.default_rng(i).random(n, np.float32) for i, n in enumerate(lengths)]
    extractor, rng = plain(batch_patches), np.random.default_rng(seed)
    streams, sent = [extractor.start() for _ in sounds], [0] * len(sounds)
    while any(sent[i] < sound.size for i, sound in enumerate(sounds)):
        i, n = rng.integers(len(sounds)), rng.choice([*cuts, 5_000])
        block = sounds[i][sent[i] : sent[i] + n].copy()
        streams[i].push(block)
        block[:] = np.nan  # it belongs to the caller
        sent[i] += n
    for stream in streams:
        stream.finish()
    for i in rng.permutation(len(sounds)):
        np.testing.assert_array_equal(streams[i].frames(), expected(sounds[i]))


def test_streams_that_are_dropped_harm_nobody_and_do_not_stay() -> None:
    extractor = plain(4)
    kept, dropped = extractor.start(), extractor.start()
    sound = noise(10, 1)
    kept.push(sound[:50_000])
    dropped.push(noise(2, 2))
    gone = weakref.ref(dropped)
    del dropped
    kept.push(sound[50_000:])
    kept.finish()
    np.testing.assert_array_equal(kept.frames(), expected(sound))
    gc.collect()
    assert gone() is None


def test_a_batch_that_fails_is_not_taken_for_done() -> None:
    failures = iter([True, False])

    def embed(windows: np.ndarray) -> np.ndarray:
        if next(failures, False):
            raise MemoryError
        return windows[:, :128]

    stream = vggish.Vggish(resolve_random(), embed, 4).start()
    stream.push(noise(2, 3))
    stream.finish()
    with pytest.raises(MemoryError):
        stream.frames()
    assert stream.frames().shape == (2, 128)


def test_long_audio_needs_no_more_memory_than_short() -> None:
    def peak(minutes: int) -> int:
        extractor = plain(64)
        block = np.zeros(60 * RATE, np.float32)
        tracemalloc.start()
        stream = extractor.start()
        for _ in range(minutes):
            stream.push(block)
        stream.finish()
        frames = stream.frames()
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result - 2 * frames.nbytes

    assert peak(60) < 1.5 * peak(4) + 1e6 < 20e6


# ------------------------------------------------------------------------------------------------------- postprocessing


def pca_file(path: Path, seed: int = 0) -> Path:
    """A file like the published one."""
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.standard_normal((128, 128)))[0]
    np.savez(path, pca_eigen_vectors=vectors.astype(np.float32), pca_means=rng.random((128, 1), np.float32))
    return path


def published(path: Path, embeddings: np.ndarray) -> np.ndarray:
    """``Postprocessor.postprocess`` of the release's vggish_postprocess.py."""
    params = np.load(path)
    pca_applied = np.dot(params["pca_eigen_vectors"], (embeddings.T - params["pca_means"])).T
    clipped = np.clip(pca_applied, -2.0, 2.0)
    return ((clipped + 2.0) * (255.0 / 4.0)).astype(np.uint8)


def test_postprocessing_is_the_published_one(tmp_path: Path) -> None:
    path = pca_file(tmp_path / "vggish_pca_params.npz")
    embeddings = (1.5 * np.random.default_rng(1).standard_normal((300, 128))).astype(np.float32)
    found = Postprocess.read(str(path))(embeddings)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 255)
    wanted = published(path, embeddings).astype(np.float32)
    assert np.mean(found == wanted) > 0.9999  # one that is almost an integer may fall on either side
    assert np.abs(found - wanted).max() <= 1
    np.testing.assert_array_equal(Postprocess.read(str(path))(embeddings[7:8]), found[7:8])


def test_postprocessing_as_a_setting(tmp_path: Path, stand_in: features.Extractor) -> None:
    path = pca_file(tmp_path / "a.npz")
    spec = resolve_random(postprocess=str(path))
    assert spec.fingerprint != resolve_random().fingerprint
    assert resolve_random(postprocess=str(pca_file(tmp_path / "b.npz"))).fingerprint == spec.fingerprint
    assert resolve_random(postprocess=str(pca_file(tmp_path / "c.npz", seed=1))).fingerprint != spec.fingerprint
    assert isinstance(stand_in, vggish.Vggish)
    sound = music(3, 18)
    pca = Postprocess.read(str(path), spec.params["postprocess"])
    found = vggish.Vggish(spec, stand_in._embed, 8, pca)([sound, sound[:100]])
    np.testing.assert_array_equal(found[0], pca(stand_in([sound])[0]))
    assert found[1].shape == (0, 128)
    pca_file(path, seed=2)
    with pytest.raises(ModelError, match="not the one that the features were made with"):
        features.load(spec)


def test_a_file_that_is_no_pca_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.savez(tmp_path / "small.npz", pca_eigen_vectors=np.eye(3), pca_means=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", pca_eigen_vectors=np.array([{}]), pca_means=np.zeros(128))
    for name in ("missing.npz", "text.npz", "other.npz", "small.npz", "pickle.npz"):
        with pytest.raises(ConfigError, match=rf"extract\.vggish\.postprocess: .*{name}"):
            resolve_random(postprocess=str(tmp_path / name))


# --------------------------------------------------------------------------------------------------------- real weights


def test_published_smoke_test() -> None:
    real = os.environ.get("MER_RAY_VGGISH_WEIGHTS")
    if not real:
        pytest.skip("set MER_RAY_VGGISH_WEIGHTS to real weights: SavedModel folder, checkpoint or .safetensors")
    embeddings = features.load(features.resolve("vggish", Params(weights=real)))([sine(1_000, 3)])[0]
    assert embeddings.shape == (3, 128)
    np.testing.assert_allclose([embeddings.mean(), embeddings.std()], [PUBLISHED_MEAN, PUBLISHED_SD], rtol=0.1)
