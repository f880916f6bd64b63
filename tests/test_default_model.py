"""The models in the package: what their cards say, and how they behave on real and on odd sounds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mer_ray
from mer_ray import models
from mer_ray.errors import ModelError
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import parts
from mer_ray.io.identity import digest
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.models.gaussian import LENGTH_SCALES
from mer_ray.models.kernel import RIDGE_ALPHAS
from mer_ray.scoring import model_folder
from mer_ray.scoring.card import card
from mer_ray.scoring.intervals import LEVEL
from mer_ray.scoring.predictor import Prediction, Predictor

RATE = 22_050
MUSIC = Path(__file__).parents[2] / "shared" / "data" / "panda4q" / "audio"
N_CLIPS = 12


each = pytest.mark.parametrize("name", model_folder.PACKAGED)


def folder_of(name: str) -> Path:
    return Path(model_folder.located(name))


@pytest.fixture(scope="module", params=model_folder.PACKAGED)
def model(request: pytest.FixtureRequest) -> Predictor:
    return mer_ray.load_model(request.param)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Real music, mono at 22,050 Hz."""
    if not MUSIC.is_dir():
        pytest.skip(f"no real music at {MUSIC}")
    files = sorted(MUSIC.rglob("*.mp3"))
    return [soundfile.read(f, dtype="float32")[0] for f in files[:: len(files) // N_CLIPS][:N_CLIPS]]


@pytest.fixture(scope="module")
def plain(model: Predictor, clips: list[np.ndarray]) -> list[Prediction]:
    """What is predicted of the clips as they are."""
    return [model.predict(c, RATE) for c in clips]


def test_a_name_stands_for_a_packaged_model_and_a_folder_of_that_name_is_given_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder_of("light"), tmp_path / "default")
    light, default = (mer_ray.load_model(name) for name in ("light", "default"))
    assert light.name != default.name
    assert mer_ray.load_model().name == default.name
    assert mer_ray.load_model("./default").name == light.name
    with pytest.raises(ModelError, match="light or default"):
        mer_ray.load_model("heavy")


@pytest.mark.parametrize(
    "change",
    [
        {"members": []},
        {"feature": {"params": {"parts": []}}},
        {"feature": {"params": {"parts": "none"}}},
        {"intervals": {"growth": [[1, 1, 1]]}},
        {"intervals": {"seconds": ["short"]}},
        {"intervals": {"factor": 2.0}},
    ],
    ids=str,
)
def test_a_description_that_is_damaged_is_an_error_that_names_the_folder(tmp_path, change):
    folder = shutil.copytree(folder_of("light"), tmp_path / "mine")
    described = json.loads((folder / "model.json").read_text())
    for key, value in change.items():
        described[key] = {**described[key], **value} if isinstance(value, dict) else value
    (folder / "model.json").write_text(json.dumps(described))
    with pytest.raises(ModelError, match="mine is damaged"):
        mer_ray.load_model(folder)


@each
def test_it_is_small_and_whole_and_says_what_it_is(name):
    folder = folder_of(name)
    message = json.loads((folder / "model.json").read_text())
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 3e6
    assert digest((folder / "weights.safetensors").read_bytes()) == message["weights_sha256"]
    assert {f.name for f in folder.iterdir()} == {"model.json", "weights.safetensors", "README.md"}
    assert message["feature"]["sample_rate_hz"] == RATE
    assert message["feature"]["name"] == "logmel+rhythm+tonal" + ("+musicnn" if name == "default" else "")
    assert str(Path.cwd().parent) not in (folder / "model.json").read_text()


def fingerprints(message: dict) -> list[str]:
    return [part.fingerprint for part in parts(FeatureSpec.from_json(message["feature"]))]


@each
def test_its_card_has_its_own_figures(name):
    message = json.loads((folder_of(name) / "model.json").read_text())
    card = (folder_of(name) / "README.md").read_text()
    for dimension in DIMENSIONS:
        r2 = message["metrics"][dimension]["r2"]
        low, high = message["metrics"][dimension]["intervals"]["r2"]
        assert f"{r2:.3f} [{low:.3f}, {high:.3f}]" in card
    for lines in ("472", "Panda", "NRC VAD", "never on both sides", *fingerprints(message)):
        assert lines in card
    assert ("Million Song Dataset" in card) == ("ISC licence" in card) == (name == "default")
    assert all(0.87 <= share <= 0.93 for share in message["details"]["coverage"])
    assert message["details"]["repeats"] == 3
    assert LEVEL == 0.9


@each
def test_its_card_lists_what_was_used_and_chosen(name):
    model = model_folder.load(name)
    text = (folder_of(name) / "README.md").read_text()
    message = text.split("## Training")[1].split("## Use")[0].replace("\\_", "_")
    for used in ("folds 5", "repeats 3", "seed 0", "window_s 30.0"):
        assert used in message
    unused = set(models.STEPPED) - models.uses("kernel")
    assert not [name for name in unused if name in message or name in model.details["settings"]]
    mixtures = model.members[0].arrays["network.mixtures"]
    for i, dimension in enumerate(DIMENSIONS):
        chosen = model.details["chosen"][dimension]
        has = [round(b, 4) for k, b in enumerate(LENGTH_SCALES) if mixtures[i, :, k].any()]
        assert chosen["length_scales"] == has, "the weights say which kernels were taken"
        assert chosen["ridge_alpha"] in RIDGE_ALPHAS
        shown = ", ".join(f"{b:g}" for b in has)
        assert f"| {dimension.capitalize()} | {shown} | {chosen['ridge_alpha']:g} |" in message


@each
def test_its_card_is_what_the_code_makes_of_it(name):
    """But for the table of metrics, which has the baselines beside, and those are in no model."""
    text, again = (folder_of(name) / "README.md").read_text(), card(model_folder.load(name), packaged=name)
    for of in (text, again):
        assert of.count("## Metrics") == of.count("## Training") == 1
    assert text.split("## Metrics")[0] == again.split("## Metrics")[0]
    assert text.split("## Training")[1] == again.split("## Training")[1]


@each
def test_its_card_points_to_nothing_that_is_not_there(name):
    text = (folder_of(name) / "README.md").read_text()
    named = re.findall(r"[\w./-]+\.(?:parquet|json|csv|safetensors|md|yaml|png)\b", text) + re.findall(
        r"\]\(([^)]+)\)", text
    )
    assert [file for file in named if not (folder_of(name) / file).exists()] == []
    assert "runs/" not in text


def test_a_minute_of_music_has_a_minute_of_curve(model, clips):
    samples = np.concatenate(clips[:2])
    found = model.predict(samples, RATE)
    seconds = len(samples) / RATE
    assert len(found.curve) * found.hop_s == pytest.approx(seconds, abs=1.1)
    assert 0.9 <= found.hop_s <= 1.1
    assert (found.lower <= found.vad).all()
    assert (found.vad <= found.upper).all()


def odd_sounds(name: str) -> list[np.ndarray]:
    """Ten of a kind that is no music."""
    made = []
    for i in range(10):
        rng = np.random.default_rng(i)
        n = int(RATE * rng.uniform(8, 20))
        t, level = np.arange(n) / RATE, rng.uniform(0.05, 0.5)
        if name == "white noise":
            made.append(level * np.clip(rng.standard_normal(n) / 4, -1, 1))
        elif name == "silence":
            made.append(np.zeros(n) if i == 0 else 10 ** -rng.uniform(3.3, 4.5) * rng.standard_normal(n))
        else:
            low, high = rng.uniform(20, 200), rng.uniform(4_000, 11_000)
            rise = np.log(high / low)
            even, ratio = low * t + (high - low) * t**2 / (2 * t[-1]), low * t[-1] / rise * np.exp(t / t[-1] * rise)
            made.append(level * np.sin(2 * np.pi * (even if i % 2 else ratio)))
    return [m.astype(np.float32) for m in made]


@pytest.mark.parametrize("kind", ["white noise", "silence", "sine sweep"])
def test_sounds_that_are_no_music_are_flagged(model, kind):
    assert sum(not model.predict(s, RATE).in_distribution for s in odd_sounds(kind)) >= 9


VOICES = ["en", "en-us", "de", "fr", "es", "en+f3", "en+m7", "it", "en+croak", "en-gb"]
TEXT = """It was late in the evening when the letter came, and nobody in the house was willing to open it. She put it on
the table, beside the lamp, and went back to her book. What could it say that was not known by now? The rain went on."""


def test_speech_is_flagged(model, tmp_path):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    flagged = 0
    for i, voice in enumerate(VOICES):
        file = tmp_path / f"{i}.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(130 + 7 * i), "-w", file, TEXT], check=True)
        samples, rate = soundfile.read(file, dtype="float32")
        flagged += not model.predict(samples, rate).in_distribution
    assert flagged >= 9


def test_real_music_is_not_flagged(plain):
    assert sum(not found.in_distribution for found in plain) <= 1


@pytest.fixture
def changes(
    model: Predictor, clips: list[np.ndarray], plain: list[Prediction]
) -> Callable[[Callable[[np.ndarray], np.ndarray]], np.ndarray]:
    """(clips, 3): what a change of the audio does to V, A, D."""
    before = np.stack([found.vad for found in plain])
    return lambda change: np.stack([model.predict(change(c), RATE).vad for c in clips]) - before


def filtered(samples: np.ndarray, folder: Path, *options: str, through: str = "out.wav") -> np.ndarray:
    """The samples after a pass through FFmpeg, mono at 22,050 Hz again."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-nostdin", "-i"]
    soundfile.write(folder / "in.wav", samples, RATE)
    subprocess.run([*command, folder / "in.wav", *options, folder / through], check=True)
    subprocess.run([*command, folder / through, "-ac", "1", "-ar", str(RATE), folder / "back.wav"], check=True)
    return soundfile.read(folder / "back.wav", dtype="float32")[0]


def test_faster_music_has_more_arousal(changes, tmp_path):
    assert changes(lambda c: filtered(c, tmp_path, "-af", "atempo=1.25"))[:, 1].mean() > 0


def test_louder_music_has_more_arousal(changes):
    assert changes(lambda c: np.clip(2 * c, -1, 1))[:, 1].mean() > 0


def test_a_lower_level_changes_valence_by_less_than_its_interval(model, plain, changes):
    moved = np.abs(changes(lambda c: c * np.float32(10 ** (-12 / 20)))[:, 0])
    radius = model.model.intervals.radius(np.stack([found.vad for found in plain]))[:, 0]
    assert (moved < radius).all()


def test_a_poor_encoding_moves_nothing_by_much(changes, tmp_path):
    moved = changes(lambda c: filtered(c, tmp_path, "-b:a", "64k", through="poor.mp3"))
    assert np.abs(moved).mean(axis=0).max() <= 0.05
