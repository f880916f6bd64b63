"""``train.inputs``: a catalog from audio to scores, with models that read several features."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import soundfile
from parts import raw_ids, sets

import mer_ray as public
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace

VALUES = (*DIMENSIONS, "novelty")
N_TRACKS = 16
CATALOG = [f"collect.demo.cues={N_TRACKS}", "collect.demo.seconds=5", "extract.features=mfcc,chroma"]
# Other rates, and hops of 0.064 and 0.37 s: what stands beside what is not trivial.
EXTRACT = [f"extract.mfcc.{k}={v}" for k, v in {"sample_rate_hz": 8_000, "n_mels": 16, "n_mfcc": 8}.items()]
EXTRACT += [f"extract.chroma.{k}=8192" for k in ("hop_length", "n_fft")]
TRAIN = ["train.networks=kernel,cnn", "train.inputs=[[mfcc],[mfcc,chroma]]", "train.folds=2", "train.members=1"]
TRAIN += ["train.epochs=2", "train.window_s=3"]


def settings(workspace: Path, *more: str) -> list[object]:
    return ["--workspace", workspace, *sets(*CATALOG, *EXTRACT, *TRAIN, *more)]


@pytest.fixture(scope="module")
def trained(ray_session, tmp_path_factory) -> Path:
    """A demo catalog, from audio to the report."""
    from click.testing import CliRunner

    from mer_ray import cli

    folder = tmp_path_factory.mktemp("joined") / "w"
    for stage in ("collect", "label", "acquire", "extract", "train", "report"):
        arguments = [stage, *(settings(folder) if stage != "report" else ["--workspace", folder])]
        result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "w"))


def test_training_makes_a_run_of_each_model_on_each_input(trained):
    runs = {"kernel-mfcc", "kernel-mfcc+chroma", "cnn-mfcc", "cnn-mfcc+chroma"}
    assert {p.name for p in (trained / "runs").iterdir()} == runs
    assert {p.name for p in (trained / "features").iterdir()} == {"mfcc", "chroma"}
    report = (trained / "report" / "report.md").read_text()
    for row in ("kernel | MFCC + chroma", "CNN | MFCC + chroma", "SVR | MFCC + chroma", "kernel | MFCC"):
        assert report.count(f"| {row} |") >= 3, row
    card = (trained / "runs" / "kernel-mfcc+chroma" / "README.md").read_text()
    assert card.startswith("# kernel on MFCC + chroma\n")
    assert "- Feature: mfcc, 8,000 Hz" in card
    assert "- Feature: chroma, 22,050 Hz" in card


def test_training_again_finds_everything_done(trained, mer_ray):
    code, out, err = mer_ray("train", *settings(trained))
    assert code == 0, out + err
    assert "found everything done" in out + err


@pytest.mark.parametrize("network", ["kernel", "cnn"])
def test_scores_from_audio_are_those_from_the_tables(copied, mer_ray, tmp_path, network):
    model = copied / "runs" / f"{network}-mfcc+chroma"
    code, out, err = mer_ray("score", *settings(copied, f"score.model={model}"))
    assert (code, "no tempo, key and loudness" in out) == (0, True), out + err
    stored = Workspace(copied).read("scores")
    assert stored.num_rows == N_TRACKS
    own = {Path(row["uri"]).name: [row[c] for c in VALUES] for row in stored.to_pylist()}
    code, out, err = mer_ray("score", copied / "media", "--model", model, "--out", tmp_path / "out", "--keep-features")
    assert code == 0, out + err
    from_audio = Workspace(tmp_path / "out").read("scores")
    assert from_audio.num_rows == N_TRACKS
    for row in from_audio.to_pylist():
        assert [row[c] for c in VALUES] == pytest.approx(own[Path(row["uri"]).name], abs=2e-5)
    for name in ("mfcc", "chroma"):
        kept, made = (Workspace(w).read(f"features/{name}") for w in (tmp_path / "out", copied))
        assert kept.num_rows == N_TRACKS
        assert set(kept["fingerprint"].to_pylist()) == set(made["fingerprint"].to_pylist())


def test_a_loaded_model_predicts_samples(trained):
    model = public.load_model(trained / "runs" / "kernel-mfcc+chroma")
    file = sorted((trained / "media").rglob("*.flac"))[0]
    samples, rate = soundfile.read(file, dtype="float32")
    prediction = model.predict(samples, rate)
    (row,) = public.score(file, model=model).to_pylist()
    assert [row[d] for d in DIMENSIONS] == pytest.approx(prediction.vad, abs=1e-3)


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Each shard of a table, changed by a function of its rows."""
    for path in folder.glob("*.parquet"):
        pq.write_table(change(pq.read_table(path)), path)


def to_do(folder: Path, mer_ray: Callable[..., tuple[int, str, str]]) -> list[dict[str, str]]:
    """What `mer-ray status` names next, if anything."""
    code, out, err = mer_ray("status", "--workspace", folder, "--json")
    assert code == 0, out + err
    return [what for what in [json.loads(out)["next"]] if what]


def test_a_track_without_all_features_is_scored_once_it_has_them(copied, mer_ray):
    workspace = Workspace(copied)
    chroma = workspace.read("features/chroma")
    late = chroma["track_id"].to_pylist()[:3]

    def of_them(rows: pa.Table) -> pa.Array:
        return pc.is_in(rows["track_id"], pa.array(late))

    rewrite(copied / "features" / "chroma", lambda rows: rows.filter(pc.invert(of_them(rows))))
    options = settings(copied, f"score.model={copied / 'runs' / 'kernel-mfcc+chroma'}")
    code, out, err = mer_ray("score", *options)
    assert code == 0, out + err
    assert len(raw_ids(copied, "scores")) == N_TRACKS - len(late)
    assert raw_ids(copied, "scores").keys().isdisjoint(late)
    assert not [what for what in to_do(copied, mer_ray) if what["stage"] == "score"]
    workspace.append("features/chroma", chroma.filter(of_them(chroma)), "late")
    assert [what["why"] for what in to_do(copied, mer_ray)] == [f"{len(late)} tracks are not scored yet"]
    code, out, err = mer_ray("score", *options)
    assert code == 0, out + err
    assert f"{N_TRACKS} tracks · {len(late)} new" in out
    assert raw_ids(copied, "scores") == raw_ids(copied, "features/mfcc")


def test_frames_of_another_fingerprint_and_tables_as_a_catalog_are_refused(copied, mer_ray, tmp_path):
    model = copied / "runs" / "kernel-mfcc+chroma"
    table = next((copied / "features" / "mfcc").glob("*.parquet"))
    code, _, err = mer_ray("score", table, "--model", model, "--out", tmp_path / "x.parquet")
    assert code == 2
    assert "reads several features" in err

    def of_another(rows: pa.Table) -> pa.Table:
        other = pa.array(["0" * 16] * len(rows))
        return rows.set_column(rows.column_names.index("fingerprint"), rows.schema.field("fingerprint"), other)

    rewrite(copied / "features" / "chroma", of_another)
    code, _, err = mer_ray("score", *settings(copied, f"score.model={model}"))
    assert code == 2
    assert "features/chroma" in err
    assert "0" * 16 in err


def test_precomputed_frames_are_joined_too_and_scored_from_the_workspace_alone(copied, mer_ray, tmp_path):
    ids = Workspace(copied).read("tracks")["track_id"].to_pylist()
    frames = np.random.default_rng(0).standard_normal((len(ids), 6, 3)).astype(np.float32)
    pq.write_table(pa.table({"track_id": ids, "frames": frames.tolist()}), tmp_path / "mine.parquet")
    more = ["extract.features=mfcc,mine", f"extract.precomputed.mine.path={tmp_path / 'mine.parquet'}"]
    more += ["extract.precomputed.mine.hop_s=0.96", "train.inputs=mfcc+mine", "train.networks=kernel"]
    for stage in ("extract", "train"):
        code, out, err = mer_ray(stage, *settings(copied, *more))
        assert code == 0, out + err
    model = copied / "runs" / "kernel-mfcc+mine"
    code, out, err = mer_ray("score", *settings(copied, *more, f"score.model={model}"))
    assert code == 0, out + err
    assert raw_ids(copied, "scores").keys() == set(ids)
    code, _, err = mer_ray("score", copied / "media", "--model", model, "--out", tmp_path / "x.parquet")
    assert code == 2
    assert "score the workspace that has all features" in err


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("mfcc,foo", "unknown feature 'foo'"),
        ("mfcc+logmel", "logmel is not extracted"),
        ("mfcc+mfcc", "names a feature twice"),
        ("mfcc+chroma,chroma+mfcc", "listed twice"),
        ("[]", "at least one feature"),
        ("[[]]", "a list is empty"),
    ],
)
def test_inputs_that_make_no_sense_are_refused_by_name(mer_ray, tmp_path, inputs, message):
    code, _, err = mer_ray("train", *settings(tmp_path, f"train.inputs={inputs}"))
    assert code == 2
    assert "train.inputs" in err
    assert message in err


def test_models_of_an_older_format_are_trained_again(copied, mer_ray):
    described = [copied / "runs" / name / "model.json" for name in ("kernel-mfcc", "cnn-mfcc+chroma")]
    made = [json.loads(path.read_text()) for path in described]
    for path, was in zip(described, made, strict=True):
        path.write_text(json.dumps({**was, "format": was["format"] - 1}))
    code, _, err = mer_ray("score", "--workspace", copied)
    assert code == 2
    assert "is not a model that this version reads: train it again" in err
    code, out, err = mer_ray("train", *settings(copied))
    assert code == 0, out + err
    for path, was in zip(described, made, strict=True):
        assert f"{path.parent.name} is trained again" in " ".join((out + err).split())
        again = json.loads(path.read_text())
        assert (again["format"], again["weights_sha256"]) == (was["format"], was["weights_sha256"])
