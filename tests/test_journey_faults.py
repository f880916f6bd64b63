"""What goes wrong on the way: bad files, bad services, killed processes. Nothing is missing, nothing is there twice."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tune_of, write_tunes
from parts import held, raw_ids, sets, wait_until
from services import LastFm, Song

from mer_ray.io.tables import Workspace

KILLS = 3 if os.environ.get("MER_RAY_LONG_TESTS") else 1
FOLDER = sets("collect.source=folder", "extract.features=mfcc")


def stages(mer_ray, names: list[str], *options: object) -> None:
    for name in names:
        code, out, err = mer_ray(name, *options)
        assert code == 0, f"{name}: {out}{err}"


def test_what_failed_for_good_waits_until_it_is_asked_for(ray_session, mer_ray, tmp_path):
    music, workspace = tmp_path / "music", tmp_path / "w"
    good = write_tunes(music, 4)
    soundfile.write(music / "silent.wav", np.zeros(2 * RATE, np.float32), RATE)
    soundfile.write(music / "short.wav", tune_of(1, 0.5), RATE)
    (music / "zero.ogg").touch()
    options = ["--workspace", workspace, *FOLDER, *sets(f"collect.folder={music}")]
    stages(mer_ray, ["collect", "acquire", "extract"], *options)

    table = Workspace(workspace)

    def by_file(column: str) -> dict[str, object]:
        return {Path(f["message"].split(" ")[0].rstrip(":")).name: f[column] for f in table.failures()}

    assert by_file("reason") == {"silent.wav": "silent", "short.wav": "too_short", "zero.ogg": "empty"}
    assert len(table.ids("features/mfcc")) == len(good)
    code, out, _ = mer_ray("status", "--workspace", workspace)
    assert code == 0
    assert "3 failures" in out
    assert "too_short" in out

    soundfile.write(music / "short.wav", tune_of(1, 1.5), RATE)
    stages(mer_ray, ["extract"], *options)
    assert len(table.ids("features/mfcc")) == len(good)
    stages(mer_ray, ["extract"], *options, "--retry-failed")
    assert len(table.ids("features/mfcc")) == len(good) + 1
    assert by_file("attempts") == {"silent.wav": 2, "zero.ogg": 1}


def test_nothing_but_bad_files_is_an_error(ray_session, mer_ray, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    for i in range(3):
        (music / f"{i}.mp3").write_text(f"not music {i}")
    options = ["--workspace", tmp_path / "w", *FOLDER, *sets(f"collect.folder={music}")]
    stages(mer_ray, ["collect"], *options)
    code, out, err = mer_ray("acquire", *options)
    assert code == 2
    assert "no audio for any of 3 tracks" in err
    assert "Traceback" not in out + err


def test_lastfm_to_labels(mer_ray, tmp_path, monkeypatch):
    songs = [Song("Composer", f"Cue {i}", (("sad", 100 - i), ("soundtrack", 50))) for i in range(5)]
    songs += [Song("Composer", "Untagged", ()), Song("Composer", "Foreign", (("xyzzy", 10),))]
    lexicon = tmp_path / "NRC-VAD-Lexicon.txt"
    lexicon.write_text("Word\tValence\tArousal\tDominance\nsad\t0.225\t0.333\t0.149\n")
    with LastFm(songs=songs) as server:
        monkeypatch.setenv("LASTFM_API_KEY", server.key)
        settings = ("collect.source=lastfm", f"collect.api_url={server.url}", "collect.requests_per_s=200")
        options = ["--workspace", tmp_path / "w", *sets(*settings, f"label.lexicon={lexicon}")]
        stages(mer_ray, ["collect", "label"], *options)
        asked = server.count("track.getTopTags")
        stages(mer_ray, ["collect"], *options)
        assert server.count("track.getTopTags") == asked
    workspace = Workspace(tmp_path / "w")
    labels = workspace.read("labels").to_pylist()
    assert len(labels) == 5
    assert {(r["valence"], r["arousal"], r["dominance"]) for r in labels} == {(0.225, 0.333, 0.149)}
    assert all(0 < r["coverage"] < 1 for r in labels)
    assert {f["reason"] for f in workspace.failures("label")} == {"no_tags", "no_known_tag"}
    key = server.key.encode()
    assert not [p for p in (tmp_path / "w").rglob("*") if p.is_file() and key in p.read_bytes()]


@pytest.mark.timeout(600)
def test_extract_killed_in_a_row_and_finished(ray_session, mer_ray, tmp_path):
    import ray

    n, rng = 60, random.Random(4)
    music, workspace, clean = tmp_path / "music", tmp_path / "w", tmp_path / "clean"
    write_tunes(music, n, seconds=12)
    source = [*FOLDER, *sets(f"collect.folder={music}", "extract.batch_minutes=0.2")]
    stages(mer_ray, ["collect", "acquire", "extract"], "--workspace", clean, *source)
    stages(mer_ray, ["collect", "acquire"], "--workspace", workspace, *source)

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "mer_ray", "extract", "--workspace", workspace, "--address", address, *source]
    shards = workspace / "features" / "mfcc"
    for _ in range(KILLS):
        before = len(list(shards.glob("part-*")))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            deadline, more = time.monotonic() + 150, rng.randrange(1, 6)
            while len(list(shards.glob("part-*"))) < before + more:
                assert process.poll() is None, process.stderr.read().decode()
                assert time.monotonic() < deadline, "extract made nothing to kill"
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
    assert KILLS <= len(raw_ids(workspace, "features/mfcc")) < n, "the kills came too late to say anything"

    stages(mer_ray, ["extract"], "--workspace", workspace, *source)
    ids = raw_ids(workspace, "features/mfcc")
    assert len(ids) == n
    assert set(ids.values()) == {1}
    by_id = [Workspace(w).read("features/mfcc").sort_by("track_id") for w in (workspace, clean)]
    assert by_id[0].equals(by_id[1])  # to the bit
    assert Workspace(workspace).failures() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a disk of its own can be mounted by root only")
    yield folder

    def unmounted() -> bool:
        return subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0

    # Arrow's own threads close a file some time after its rows are there.
    wait_until(unmounted, lambda: held(folder))


def test_a_full_disk_ends_extract_with_one_line_and_no_damage(mer_ray, ray_session, small_disk, tmp_path):
    music, workspace = tmp_path / "music", small_disk / "w"
    write_tunes(music, 30, seconds=12)
    settings = sets(f"collect.folder={music}", "extract.batch_minutes=0.4", "extract.mfcc.n_mfcc=128")
    options = ["--workspace", workspace, *FOLDER, *settings]
    stages(mer_ray, ["collect", "acquire"], *options)
    code, out, err = mer_ray("extract", *options)
    assert code == 2
    message = err.split("mer-ray: error:")[1]
    assert "No space left on device" in message
    assert "free some space" in message
    assert "Traceback" not in out + message
    some = raw_ids(workspace, "features/mfcc")  # reads every shard that is there
    assert 0 < len(some) < 30
    # The worker that was not struck is told to stop, and does so a moment later.
    wait_until(lambda: not list((workspace / ".tmp").glob("*")), lambda: list((workspace / ".tmp").glob("*")))

    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    stages(mer_ray, ["extract"], *options)
    assert set(raw_ids(workspace, "features/mfcc").values()) == {1}
    assert len(raw_ids(workspace, "features/mfcc")) == 30


def test_a_full_disk_is_one_clear_line(tmp_path):
    # A file that may not grow stands in for a disk that is full: the same error, from the same call.
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from mer_ray.cli import main; main(sys.argv[1:])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "collect", "--workspace", str(tmp_path / "w")],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "w" / "tracks").glob("part-*"))
    assert not list((tmp_path / "w" / ".tmp").glob("*"))


def test_weights_that_are_none_end_extract_with_one_error(ray_session, mer_ray, tmp_path):
    write_tunes(tmp_path / "music", 2)
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "saved_model.pb").write_bytes(b"no model")
    settings = ("collect.source=folder", f"collect.folder={tmp_path / 'music'}", "extract.features=vggish")
    options = ["--workspace", tmp_path / "w", *sets(*settings, f"extract.vggish.weights={tmp_path / 'module'}")]
    stages(mer_ray, ["collect", "acquire"], *options)
    code, out, err = mer_ray("extract", *options)
    assert code == 2
    assert "mer-ray: error:" in err
    assert "cannot be read as a SavedModel" in err.split("mer-ray: error:")[1]
    assert "Traceback" not in err.split("mer-ray: error:")[1] + out
