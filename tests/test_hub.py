"""Any SavedModel as a feature: miniature modules of each kind. 30 s of CPU, a third of it TensorFlow's start."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError, ServiceError, TrackError
from mer_ray.features import saved_model
from mer_ray.features.hub import Params
from mer_ray.features.saved_model import import_tensorflow

RATE = 16_000
WINDOW, HOP = 15_600, 7_680  # YAMNet's: 0.975 s of audio make 0.96 s of spectrogram; every 0.48 s


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, and no proxy between it and the loopback."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tf() -> Any:
    return import_tensorflow()


@pytest.fixture(scope="module")
def module(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a function as a SavedModel: (name, function, shape of its input, whether as a signature) → folder."""
    root = tmp_path_factory.mktemp("modules")

    def save(name: str, function: Callable[[Any], Any], shape: tuple[int | None, ...], served: bool = False) -> Path:
        folder = root / name
        if folder.exists():
            return folder
        spec = tf.TensorSpec(shape, tf.float32, name="waveform")

        class Module(tf.Module):  # type: ignore[misc,name-defined]
            pass

        if not served:
            Module.__call__ = tf.function(lambda self, waveform: function(waveform), input_signature=[spec])
        owner = Module()
        signature = tf.function(lambda waveform: function(waveform), input_signature=[spec]) if served else None
        tf.saved_model.save(owner, str(folder), signatures=signature)
        return folder

    return save


@pytest.fixture(scope="module")
def yamnet(tf: Any, module: Callable[..., Path]) -> Path:
    """YAMNet's signature and padding: scores (N, 521), embeddings (N, 1024), spectrogram (T, 64)."""
    random = np.random.default_rng(0)
    to_embeddings = tf.constant(random.normal(size=(64, 1_024)) / 8, tf.float32)
    to_scores = tf.constant(random.normal(size=(1_024, 521)) / 32, tf.float32)

    def run(waveform: Any) -> Any:
        n = tf.shape(waveform)[0]
        padded = WINDOW + tf.maximum(0, -((WINDOW - n) // HOP)) * HOP
        waveform = tf.pad(waveform, [[0, tf.maximum(WINDOW, padded) - n]])
        spectrum = tf.abs(tf.signal.stft(waveform, 400, 160, 512))
        mel = tf.math.log(tf.matmul(spectrum, tf.signal.linear_to_mel_weight_matrix(64, 257, RATE, 125, 7_500)) + 1e-3)
        patches = tf.signal.frame(mel, 96, 48, axis=0)
        embeddings = tf.nn.relu(tf.matmul(tf.reduce_mean(patches, 1) + tf.reduce_max(patches, 1), to_embeddings))
        return tf.sigmoid(tf.matmul(embeddings, to_scores)), embeddings, mel

    return module("yamnet", run, (None,))


def frames_by(tf: Any, waveform: Any) -> Any:
    """(..., n) → (..., N, 2), from windows of 400 every 160."""
    framed = tf.signal.frame(waveform, 400, 160)
    return tf.stack([tf.reduce_mean(framed, -1), tf.math.reduce_std(framed, -1)], -1)


def sound(seconds: float, seed: int = 1) -> np.ndarray:
    """Noise whose loudness changes all the time: (n,) float32."""
    n = int(seconds * RATE)
    loudness = 0.5 + 0.4 * np.sin(np.arange(n) / 5_000)
    return (loudness * np.random.default_rng(seed).uniform(-0.5, 0.5, n)).astype(np.float32)


def resolve(handle: Path | str, **settings: Any) -> features.FeatureSpec:
    return features.resolve("mine", Params(handle=str(handle), **settings), family="hub")


def streamed(extractor: features.Extractor, audio: np.ndarray, block: int) -> np.ndarray:
    stream = extractor.start()
    for first in range(0, audio.size, block):
        stream.push(audio[first : first + block])
    stream.finish()
    return stream.frames()


# ------------------------------------------------------------------------------------------------- kinds of modules


YAMNET: dict[str, Any] = {"output": 1, "hop_s": 0.48, "context_s": 0.975}


def test_yamnets_signature(tf: Any, yamnet: Path, cache: Path) -> None:
    spec = resolve(yamnet, **YAMNET, piece_s=5)
    assert (spec.family, spec.name, spec.sample_rate_hz, spec.n_dims) == ("hub", "mine", RATE, 1_024)
    assert (spec.hop_s, spec.runtime["context_s"]) == (0.48, 0.975)
    extractor = features.load(features.FeatureSpec.from_json(spec.to_json()))
    direct = tf.saved_model.load(str(yamnet))
    for seconds in (0.3, 0.975, 0.98, 21.0, 30.37):
        audio = sound(seconds)
        wanted = direct(audio)[1].numpy()
        frames = streamed(extractor, audio, 4_096)
        assert frames.shape == wanted.shape == (1 + -(-max(0, audio.size - WINDOW) // HOP), 1_024)
        np.testing.assert_allclose(frames, wanted, atol=1e-5 * wanted.std())
        np.testing.assert_array_equal(frames, extractor([audio])[0])  # to the bit, however it is cut
        np.testing.assert_array_equal(frames, streamed(extractor, audio, 100_000))
    assert extractor([np.zeros(0, np.float32)])[0].shape == (0, 1_024)


@pytest.mark.parametrize(("left", "hop"), [(0, 7_680.0), (None, 7_680.0), (0, 7_680.5)])
def test_the_spec_of_an_older_model_is_still_applied(yamnet: Path, left: int | None, hop: float) -> None:
    spec, audio = resolve(yamnet, output=1, hop_s=0.48, context_s=0.975), sound(40)
    framing = {"n_dims": spec.n_dims, "hop": hop, "left": left, "right": 2, "shortest": 400}
    runtime = {"framing": framing, "piece_s": 5.0, "max_s": 1_200.0, "timeout_s": 5.0}
    older = features.FeatureSpec.from_json({**spec.to_json(), "runtime": runtime})
    assert older.fingerprint == spec.fingerprint
    [found], [wanted] = features.load(older)([audio]), features.load(spec)([audio])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_check_is_done_once_and_then_without_tensorflow(
    yamnet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve(yamnet, **YAMNET)
    (checked,) = cache.glob("*.json")
    with monkeypatch.context() as without:
        without.setattr(saved_model, "import_tensorflow", lambda: pytest.fail("TensorFlow was imported"))
        assert resolve(yamnet, **YAMNET) == first
        assert resolve(yamnet, **YAMNET, piece_s=3, max_s=9, timeout_s=2).fingerprint == first.fingerprint
    checked.write_text("{")
    assert resolve(yamnet, **YAMNET) == first
    assert resolve(yamnet, output=1, hop_s=0.48).fingerprint == first.fingerprint  # how the work is done is no number
    other = resolve(yamnet, output=0, hop_s=0.48)
    assert (other.n_dims, other.fingerprint == first.fingerprint) == (521, False)
    log_mel = resolve(yamnet, output=2, hop_s=0.01)
    assert (log_mel.n_dims, log_mel.hop_s) == (64, 0.01)


def test_a_serving_signature_with_named_outputs(tf: Any, module: Callable[..., Path]) -> None:
    folder = module(
        "served", lambda x: {"embedding": frames_by(tf, x), "logits": frames_by(tf, x)[:, :1]}, (None,), served=True
    )
    spec = resolve(folder, output="embedding", hop_s=0.01)
    assert (spec.n_dims, spec.hop_s) == (2, 0.01)
    audio = sound(2)
    np.testing.assert_allclose(features.load(spec)([audio])[0], frames_by(tf, audio).numpy(), atol=1e-6)
    for output in (None, 1, "scores"):
        with pytest.raises(
            ModelError, match=r"extract\.hub\.mine .* has no output .*'embedding': \[\d+, 2\], 'logits'"
        ):
            resolve(folder, output=output)


def test_a_module_that_wants_a_batch(tf: Any, module: Callable[..., Path]) -> None:
    folder = module("batched", lambda x: frames_by(tf, x), (None, None))
    spec = resolve(folder, hop_s=0.01, context_s=0.025, piece_s=0.5)
    assert (spec.n_dims, spec.hop_s) == (2, 0.01)
    audio = sound(3.21)
    np.testing.assert_allclose(features.load(spec)([audio])[0], frames_by(tf, audio).numpy(), atol=1e-6)


def test_frames_that_depend_on_the_whole_audio(tf: Any, module: Callable[..., Path]) -> None:
    folder = module("peak", lambda x: frames_by(tf, x / tf.reduce_max(tf.abs(x))), (None,))
    with pytest.raises(ConfigError, match=r"context_s is 1, but frames depend on audio further away.*leave it out"):
        resolve(folder, hop_s=0.01, context_s=1)
    extractor = features.load(resolve(folder, hop_s=0.01, max_s=3, piece_s=0.5))
    audio = sound(3)
    wanted = frames_by(tf, audio / np.abs(audio).max()).numpy()
    np.testing.assert_allclose(streamed(extractor, audio, 1_000), wanted, atol=1e-6)
    with pytest.raises(TrackError, match=r"too_long: mine .* takes 3 s \(extract\.hub\.\*\.max_s\)"):
        streamed(extractor, sound(3.1), 1_000)


def test_one_vector_a_clip_is_applied_to_windows(tf: Any, module: Callable[..., Path]) -> None:
    folder = module("clip", lambda x: tf.stack([tf.reduce_mean(x), tf.reduce_max(x), tf.math.reduce_std(x)]), (None,))
    with pytest.raises(ConfigError, match=r"gives one vector, however long.*set extract\.hub\.mine\.window_s"):
        resolve(folder)
    spec = resolve(folder, window_s=1, hop_s=0.25, piece_s=1)
    assert (spec.n_dims, spec.hop_s) == (3, 0.25)
    audio = sound(3.6)
    windows = [audio[i : i + RATE] for i in range(0, audio.size - RATE + 1, RATE // 4)]
    wanted = [[w.mean(), w.max(), w.std()] for w in windows]
    extractor = features.load(spec)
    np.testing.assert_allclose(streamed(extractor, audio, 777), wanted, atol=1e-5)
    assert extractor([audio[: RATE - 1]])[0].shape == (0, 3)
    assert resolve(folder, window_s=2).fingerprint != spec.fingerprint


@pytest.mark.parametrize("batch", [None, 1])
def test_a_module_of_fixed_windows(tf: Any, module: Callable[..., Path], batch: int | None) -> None:
    folder = module(f"fixed{batch}", lambda x: tf.stack([tf.reduce_mean(x, 1), tf.reduce_max(x, 1)], 1), (batch, 8_000))
    spec = resolve(folder)
    assert (spec.n_dims, spec.hop_s) == (2, 0.5)
    audio = sound(10.2)
    wanted = [[w.mean(), w.max()] for w in audio[: 20 * 8_000].reshape(20, 8_000)]
    np.testing.assert_allclose(features.load(spec)([audio])[0], wanted, atol=1e-6)
    with pytest.raises(ConfigError, match=r"window_s is 1, the module's own is 0\.5"):
        resolve(folder, window_s=1)


# -------------------------------------------------------------------------------------------- what is wrong with them


def test_modules_that_are_no_feature_are_refused(tf: Any, tmp_path: Path, module: Callable[..., Path]) -> None:
    refused = {
        "does not run": module("long", lambda x: tf.reshape(x, [17, 3]), (None,)),
        "not finite": module("nan", lambda x: frames_by(tf, x) * float("nan"), (None,)),
        r"must give \(frames, dimensions\)": module("deep", lambda x: frames_by(tf, x)[None, None], (None,)),
        "width depends on the length": module("pitch", lambda x: frames_by(tf, x)[:, 0], (None,)),
        "however long the audio is": module("ten", lambda x: tf.reshape(x[:50], [10, 5]), (None,)),
        "other frames of the same audio": module("random", lambda x: frames_by(tf, x) + tf.random.normal([]), (None,)),
        r"of shape \[None, None, 2\]": module("stereo", lambda x: x, (None, None, 2)),
    }
    for reason, folder in refused.items():
        with pytest.raises(ModelError, match=rf"extract\.hub\.mine.*{reason}"):
            resolve(folder)
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="offers no function"):
        resolve(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ModelError, match="cannot be read as a SavedModel"):
        resolve(tmp_path / "broken")


def test_a_hop_that_is_not_the_modules_or_not_declared_is_refused(yamnet: Path) -> None:
    about = "the module makes a frame about every 0.48 s"
    with pytest.raises(ConfigError, match=rf"extract\.hub\.mine\.hop_s is 0\.96; {about}"):
        resolve(yamnet, output=1, hop_s=0.96)
    with pytest.raises(ConfigError, match=rf"extract\.hub\.mine\.hop_s is not set; {about}"):
        resolve(yamnet, output=1)
    with pytest.raises(ConfigError, match=r"context_s is 0\.4, but frames depend on audio further away"):
        resolve(yamnet, output=1, hop_s=0.48, context_s=0.4)
    with pytest.raises(ConfigError, match="needs a hop of whole samples"):
        resolve(yamnet, output=1, hop_s=0.48001, context_s=1)


def test_a_track_that_a_module_fails_on_costs_that_track_alone(tf: Any, module: Callable[..., Path]) -> None:
    def run(waveform: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(tf.reduce_max(waveform), 2.0)]):
            return frames_by(tf, tf.where(waveform == 1.5, float("nan"), waveform))

    extractor = features.load(resolve(module("picky", run, (None,)), hop_s=0.01, context_s=0.025, piece_s=1))
    audio, loud, odd = sound(3), sound(3), sound(3)
    loud[20_000], odd[20_000] = 5, 1.5
    reasons = []
    for bad in (loud, odd):
        stream = extractor.start()
        stream.push(bad[:30_000])
        stream.push(bad[30_000:])
        stream.finish()
        with pytest.raises(TrackError) as caught:
            stream.frames()
        reasons.append(caught.value.reason)
    assert reasons == ["not_computed", "not_finite"]
    assert extractor([audio])[0].shape == (298, 2)


def test_a_changed_or_lost_module_is_noticed(yamnet: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(yamnet, tmp_path / "copy"))
    spec = resolve(folder, **YAMNET)
    assert spec.fingerprint == resolve(yamnet, **YAMNET).fingerprint  # wherever it lies
    with (folder / "saved_model.pb").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="is not the module that"):
        features.load(spec)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=r"the module of extract\.hub\.mine is gone"):
        features.load(spec)


def test_a_path_without_a_module_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "holds no saved_model.pb"), (tmp_path / "no", "does not exist")):
        with pytest.raises(ConfigError, match=rf"extract\.hub\.mine\.handle: {path} {reason}.*TFHUB_CACHE_DIR"):
            resolve(path)


# ---------------------------------------------------------------------------------------------------------------- hub


def test_a_module_by_its_handle(yamnet: Path, cache: Path) -> None:
    handle = "https://hub.invalid/google/yamnet/1"
    shutil.copytree(yamnet, cache / hashlib.sha1(handle.encode()).hexdigest())  # as tensorflow_hub keeps it
    spec = resolve(handle, **YAMNET)
    assert spec.weights is not None
    assert spec.weights["location"] == handle
    assert spec.fingerprint == resolve(yamnet, **YAMNET).fingerprint
    audio = sound(2)
    np.testing.assert_array_equal(features.load(spec)([audio])[0], features.load(resolve(yamnet, **YAMNET))([audio])[0])


def test_an_unreachable_hub_says_what_to_do() -> None:
    with pytest.raises(ServiceError) as caught:
        resolve("http://127.0.0.1:9/google/yamnet/1", timeout_s=1)
    for part in ("extract.hub.mine: the hub could not be reached", "local SavedModel folder", "TFHUB_CACHE_DIR"):
        assert part in str(caught.value)


def test_settings() -> None:
    assert Params(handle="x").output is None
    assert Params(handle="x", output=1).output == 1
    assert Params(handle="x", output="embeddings").output == "embeddings"
    for wrong in ({"handle": ""}, {"handle": "x", "rate": 0}, {"handle": "x", "layer": 3}, {}):
        with pytest.raises(ValueError):
            Params(**wrong)  # type: ignore[arg-type]
