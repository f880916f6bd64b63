"""The stage: what it computes, what it brings, what it refuses, and when it does without Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import tune_of, write_tunes

from mer_ray.io.schemas import ragged_arrays
from mer_ray.io.tables import Workspace

RATE = 22_050


def sets(*assignments: str) -> list[str]:
    return [part for a in assignments for part in ("--set", a)]


def typed(mer_ray, stage: str, workspace: Path, *options: str) -> str:
    code, out, err = mer_ray(stage, "--workspace", workspace, *options)
    assert code == 0, f"{stage}: {out}{err}"
    return out + err


def test_a_handful_of_files_needs_no_ray(tmp_path):
    write_tunes(tmp_path / "music", 3, seconds=2)
    options = sets("collect.source=folder", f"collect.folder={tmp_path / 'music'}", "extract.features=mfcc")
    script = (
        "import sys; from mer_ray.cli import main\n"
        "for stage in ('collect', 'acquire', 'extract'): main([stage, *sys.argv[1:]], standalone_mode=False)\n"
        "assert 'ray' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", script, "--workspace", str(tmp_path / "w"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "x real time" in done.stdout
    assert len(Workspace(tmp_path / "w").ids("features/mfcc")) == 3


@pytest.fixture
def one(mer_ray, tmp_path) -> tuple[Path, list[str]]:
    """A workspace with the audio of one tune of 12 s, and its options."""
    music = tmp_path / "music"
    music.mkdir()
    sounds.write(music / "tune.flac", tune_of(1, 12, RATE), RATE)
    options = sets("collect.source=folder", f"collect.folder={music}", "extract.features=mfcc")
    for stage in ("collect", "acquire"):
        typed(mer_ray, stage, tmp_path / "w", *options)
    return tmp_path / "w", options


def frames(workspace: Path, feature: str = "mfcc") -> np.ndarray:
    (only,) = ragged_arrays(Workspace(workspace).read(f"features/{feature}")["frames"])
    return only


@pytest.mark.parametrize(("place", "windows", "starts"), [("start", 1, [0]), ("centre", 1, [4]), ("spread", 2, [2, 8])])
def test_an_excerpt_has_the_frames_of_its_windows(mer_ray, one, place, windows, starts):
    import librosa

    workspace, options = one
    excerpt = f"extract.excerpt={{seconds: 4, place: {place}, windows: {windows}}}"
    typed(mer_ray, "extract", workspace, *options, *sets(excerpt))
    samples, each = tune_of(1, 12, RATE), 4 // windows
    wanted = [librosa.feature.mfcc(y=samples[s * RATE : (s + each) * RATE], sr=RATE).T for s in starts]
    assert frames(workspace) == pytest.approx(np.concatenate(wanted), abs=0.05)  # FLAC has 16 bits


def test_another_excerpt_is_another_feature(mer_ray, one):
    workspace, options = one
    typed(mer_ray, "extract", workspace, *options, *sets("extract.excerpt.seconds=4"))
    code, _, err = mer_ray("extract", "--workspace", workspace, *options)
    assert code == 2
    assert "excerpt was" in err
    assert "another --workspace" in err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("extract.excerpt={seconds: 4, windows: 2}", "spread"),
        ("extract.excerpt={seconds: 0}", "extract.excerpt.seconds"),
        ("extract.excerpt.second=4", "did you mean seconds?"),
        ("extract.hub.mfcc={handle: x}", "two features"),
        ("extract.precomputed.x/y={path: x}", "extract.precomputed"),
        ("extract.hub.new.rates=8000", "did you mean rate?"),
    ],
)
def test_settings_that_cannot_be_are_named(mer_ray, tmp_path, setting, message):
    code, _, err = mer_ray("extract", "--workspace", tmp_path / "w", *sets(setting))
    assert code == 2
    assert message in err


def test_precomputed_frames_need_no_audio_and_those_that_lack_are_failures(mer_ray, tmp_path):
    manifest = tmp_path / "tracks.csv"
    manifest.write_text("path,artist,title\na.mp3,A,One\nb.mp3,B,Two\nc.mp3,C,Three\n")
    values = {name: np.full((4, 3), i, np.float16) for i, name in enumerate(("a.mp3", "b.mp3"))}
    column = pa.array([v.tolist() for v in values.values()], pa.list_(pa.list_(pa.float16())))
    pq.write_table(
        pa.table({"path": list(values), "frames": column, "hop_s": [0.96, 0.96]}), tmp_path / "frames.parquet"
    )
    workspace = tmp_path / "w"
    options = sets(
        "collect.source=manifest",
        f"collect.manifest={manifest}",
        f"extract.precomputed.own={{path: {tmp_path / 'frames.parquet'}}}",
        "extract.features=own",
    )
    typed(mer_ray, "collect", workspace, *options)
    typed(mer_ray, "extract", workspace, *options)
    rows = Workspace(workspace).read("features/own").sort_by("track_id").to_pylist()
    titles = {t["track_id"]: t["title"] for t in Workspace(workspace).read("tracks").to_pylist()}
    assert {titles[r["track_id"]]: r["frames"] for r in rows} == {
        "One": values["a.mp3"].tolist(),
        "Two": values["b.mp3"].tolist(),
    }
    (failed,) = Workspace(workspace).failures()
    assert (failed["stage"], failed["reason"], titles[failed["track_id"]]) == ("extract:own", "no_frames", "Three")
    assert "nothing new" in typed(mer_ray, "extract", workspace, *options)
