"""From a downloaded data set to its table: a DEAM in miniature, with the demo's music, through two commands."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import soundfile
from dataset_copies import Song, write_deam
from parts import raw_rows, sets

from mer_ray.audio.providers import demo
from mer_ray.audio.providers.demo.affect import affect
from mer_ray.sources.demo import names

ROOT = Path(__file__).parents[1]
SEED = 7
N_TRAIN, N_TEST = 16, 4
SMALL = ["extract.features=mfcc", "extract.mfcc.sample_rate_hz=8000", "extract.mfcc.n_mels=16", "extract.mfcc.n_mfcc=8"]
SMALL += ["train.inputs=[[mfcc]]", "train.folds=2", "train.seeds=[3]"]


def song(index: int) -> Song:
    """A song whose labels are the affect that the demo composed it from; the last ones are of 2015."""
    samples, rate = demo.render(f"demo:{SEED}/{index}/3")
    audio = io.BytesIO()
    soundfile.write(audio, samples, rate, format="MP3")
    valence, arousal, _ = affect(SEED, index)
    artist, title, _ = names.cue(SEED, index)
    number = index + 1 if index < N_TRAIN else 2001 + index - N_TRAIN
    curves = {"valence": {1000: 2 * valence - 1}, "arousal": {1000: 2 * arousal - 1}}
    labels = [(round(1 + 8 * x, 2), 1.2) for x in (valence, arousal)]
    return Song(number, artist, title, labels[0], labels[1], curves, audio.getvalue())


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_deam(tmp_path / "DEAM", [song(index) for index in range(N_TRAIN + N_TEST)])
    return tmp_path / "DEAM"


def test_two_commands_lead_from_the_release_to_a_table_beside_the_published_one(copy, ray_session, mer_ray):
    code, out, err = mer_ray("dataset", "deam", copy)
    assert code == 0, err
    assert "split: 16 train, 4 test" in out
    settings = ["-c", "datasets/deam/config.yaml", "-c", ROOT / "configs" / "bench-deam.yaml", *sets(*SMALL)]
    code, out, err = mer_ray("run", *settings)
    assert code == 0, err
    work = Path("work/bench-deam")
    labels = {row["track_id"]: row for row in raw_rows(work, "labels").to_pylist()}
    assert len(labels) == N_TRAIN + N_TEST
    assert labels["deam-1"]["valence"] == pytest.approx(affect(SEED, 0)[0], abs=0.001)
    assert labels["deam-1"]["se_arousal"] == pytest.approx(1.2 / 3 / 8, abs=1e-6)  # ten raters, nine points
    assert labels["deam-2004"]["se_arousal"] == pytest.approx(1.2 / 2 / 8, abs=1e-6)  # five
    assert "dominance" not in labels["deam-1"]
    report = (work / "report" / "report.md").read_text(encoding="utf-8")
    assert "Music2Emo (published)" in report
    assert "| kernel | MFCC |" in report
    code, out, _ = mer_ray("run", *settings)
    assert code == 0
    assert "everything was done already" in out
    (work / "runs" / "kernel-mfcc" / "model.json").unlink()
    code, out, _ = mer_ray("status", "--workspace", work)
    both = os.pathsep.join(["datasets/deam/config.yaml", str(ROOT / "configs" / "bench-deam.yaml")])
    assert f"mer-ray train -c {both}" in " ".join(out.split())


def test_the_songs_of_2015_are_the_test_set(copy, ray_session, mer_ray):
    assert mer_ray("dataset", "deam", copy)[0] == 0
    given = ["-c", "datasets/deam/config.yaml", *sets(*SMALL, "train.networks=kernel")]
    code, _, err = mer_ray("run", *given)
    assert code == 0, err
    report = Path("work/deam/report/report.md").read_text(encoding="utf-8")
    assert report.startswith("# Metrics on the given test set\n")
    assert f"{N_TEST} tracks by 1 artist" in report
    assert f"other tracks: {N_TRAIN} of train" in report
