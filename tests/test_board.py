"""`mer-ray board`: a real TensorBoard, asked over HTTP; and how it starts, follows and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import object_servers as stores
import psutil
import pyarrow as pa
import pytest
from conftest import INTERRUPTIBLE
from test_report import Catalog, typed

from mer_ray.io.tables import Workspace
from mer_ray.training import board
from mer_ray.training.events import Events


def plant(workspace: Workspace, name: str = "cnn-mfcc") -> None:
    """A run with curves of two folds of two members, of which one stops early."""
    catalog = Catalog.make()
    catalog.run(workspace, name, catalog.predicted(0.03, 1))
    rows = [(fold, member, e) for fold in (0, 1) for member in (0, 1) for e in range(4 if member else 6)]
    fold, member, epoch = np.array(rows).T
    loss = 1.0 / (1 + epoch) + 0.1 * member
    columns = {"repeat": 0 * fold, "fold": fold, "member": member, "epoch": epoch, "train_loss": loss}
    workspace.write_table(pa.table({**columns, "valid_loss": loss + fold}), "runs", name, "curves.parquet")


def ask(address: str, path: str) -> dict:
    with urllib.request.urlopen(address + path, timeout=150) as response:
        return json.load(response)


def test_it_shows_runs_and_unfinished_trials_and_leaves_nothing(tmp_path):
    workspace = Workspace(tmp_path / "w")
    plant(workspace)
    events(tmp_path / "w" / "tune" / "train-20251231-000000" / "cnn-mfcc-repeat0-fold0-0a1b2")  # before the run's end
    events(tmp_path / "w" / "tune" / "train-20260102-000000" / "lstm-mfcc-repeat0-fold1-0a1b2")
    command = [*INTERRUPTIBLE, "-m", "mer_ray", "board", "--workspace", str(tmp_path / "w")]
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, env={**os.environ, **environment})
    try:
        address, _, rest = process.stdout.readline().partition(": ")
        assert address.startswith("http://127.0.0.1:")
        assert rest == f"1 finished run of {tmp_path / 'w'}; Ctrl-C ends it\n"
        wanted = {"runs/cnn-mfcc", "runs/cnn-mfcc/repeat0-fold0", "runs/cnn-mfcc/repeat0-fold1"}
        wanted |= {"tune/lstm-mfcc-repeat0-fold1-0a1b2"}
        deadline = time.monotonic() + 150
        while (tags := ask(address, "/data/plugin/scalars/tags")).keys() != wanted:
            assert time.monotonic() < deadline, tags
            time.sleep(0.2)
        assert set(tags["runs/cnn-mfcc/repeat0-fold1"]) == {"loss/train", "loss/valid", "r2/valid"}
        assert {"test/r2_valence", "test/ccc_dominance"} < set(tags["runs/cnn-mfcc"])
        points = ask(address, "/data/plugin/scalars/scalars?tag=r2/valid&run=runs/cnn-mfcc/repeat0-fold1")
        assert [step for _, step, _ in points] == [0, 1, 2, 3, 4, 5]
        means = [1 / (1 + e) + (0.05 if e < 4 else 0) + 1 for e in range(6)]
        assert [value for *_, value in points] == pytest.approx([1 - m for m in means], abs=1e-6)
        described = workspace.read_json("runs", "cnn-mfcc", "model.json")
        [[*_, r2]] = ask(address, "/data/plugin/scalars/scalars?tag=test/r2_arousal&run=runs/cnn-mfcc")
        assert r2 == pytest.approx(described["metrics"]["arousal"]["r2"], abs=1e-6)
        listening = {c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=150)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")
    assert psutil.wait_procs(children, 240)[1] == []
    assert list((tmp_path / "tmp").glob("mer-ray-*/*")) == []
    assert (tmp_path / "w" / "tune" / "train-20260102-000000" / "lstm-mfcc-repeat0-fold1-0a1b2").is_dir()


def events(folder: Path) -> None:
    """A trial's folder as Tune writes it."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("ray/tune/train_loss", 0.5, 0)


def runs(folder: Path) -> set[str]:
    return {str(f.parent.relative_to(folder)) for f in folder.rglob("events.out.tfevents.*")}


def test_it_follows_a_workspace_in_an_object_store(tmp_path):
    with stores.s3() as server:
        workspace = Workspace(stores.uri_of(server, "music", "w"))
        plant(workspace)
        written = Events(workspace, tmp_path)
        folds = {f"runs/cnn-mfcc{end}" for end in ("", "/repeat0-fold0", "/repeat0-fold1")}
        assert written.update() == 1
        assert runs(tmp_path) == folds
        before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("events*")}
        plant(workspace, "lstm-mfcc")
        assert written.update() == 2
        assert runs(tmp_path) == folds | {f.replace("cnn", "lstm") for f in folds}
        assert all(f.stat().st_mtime_ns == at for f, at in before.items())  # what is shown is not written twice


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        ("s3://music/a%20b/tune", "aws s3 sync 's3://music/a b/tune' tune"),
        (
            "s3a://music/tune?scheme=http&endpoint_override=127.0.0.1:9000&region=eu",
            "aws s3 sync --endpoint-url http://127.0.0.1:9000 --region eu s3://music/tune tune",
        ),
        ("gs://music/w/tune", "mkdir -p tune; gcloud storage rsync --recursive gs://music/w/tune tune"),
        ("gcs://anonymous@music/tune", "mkdir -p tune; gcloud storage rsync --recursive gs://music/tune tune"),
    ],
)
def test_trials_in_a_store_are_copied_by_the_tool_of_that_store(uri, command):
    assert board.copying(uri) == command


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard\\.")  # its own code
def test_what_it_cannot_do_is_one_line(tmp_path, monkeypatch):
    code, out, err = typed("board", "--workspace", tmp_path)
    assert (code, out) == (2, "")
    assert err == f"mer-ray: error: workspace {tmp_path} has no runs to show: run `mer-ray train` on it first\n"
    plant(Workspace(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = typed("board", "--workspace", tmp_path, "--port", port)
    assert (code, out) == (2, "")
    assert err == f"mer-ray: error: TensorBoard cannot listen at 127.0.0.1:{port}: give another --port, or none\n"
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    code, out, err = typed("board", "--workspace", tmp_path)
    assert (code, out) == (2, "")
    assert err == "mer-ray: error: this needs tensorboard: pip install 'mer-ray[train]'\n"
