"""The stage ``train`` with real trials: what it writes, and that kills leave no trace in it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mer_ray import features
from mer_ray.config import TrainConfig
from mer_ray.errors import WorkspaceError
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import DIMENSIONS, features_schema, ragged_column
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.training import data, work
from mer_ray.training.settings import used
from mer_ray.training.trial import RESTARTS, Order, Trial

HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
MFCC = {"sample_rate_hz": 8_000, "hop_length": 4_000, "n_mels": 16, "n_mfcc": 8}
FOLDS, REPEATS, MEMBERS, EPOCHS = 2, 2, 2, 60
TRAIN = {"folds": FOLDS, "repeats": REPEATS, "members": MEMBERS, "epochs": EPOCHS, "patience": EPOCHS}
TRAIN |= {"networks": "cnn", "batch_size": 8, "window_s": 4.0, "seed": 3}
N_MEMBERS = FOLDS * REPEATS * MEMBERS
N_TRACKS, N_FRAMES = 40, 60


def options(workspace: Path, **train: object) -> list[object]:
    values = {f"extract.mfcc.{k}": v for k, v in MFCC.items()} | {f"train.{k}": v for k, v in (TRAIN | train).items()}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["--workspace", workspace, "--set", "collect.source=folder", "--set", "extract.features=mfcc", *sets]


@pytest.fixture(scope="module")
def seed(tmp_path_factory) -> Path:
    """A workspace with all that training needs: ten artists, whose labels are the levels of three coefficients."""
    folder = tmp_path_factory.mktemp("seed")
    workspace, rng = Workspace(folder), np.random.default_rng(0)
    ids, labels = [f"{i:016x}" for i in range(N_TRACKS)], rng.uniform(0.2, 0.8, (N_TRACKS, 3))
    nothing = dict.fromkeys(["album", "composer", "mbid", "spotify_id", "duration_s", "uri", "given"])
    message = {"source": "folder", "fetched_at": now(), "tags": [], **nothing}
    tracks = [
        {"track_id": t, "artist": f"Artist {i % 10}", "title": f"Cue | {i}", **message} for i, t in enumerate(ids)
    ]
    workspace.append_rows("tracks", tracks)
    more = {"evidence": [], "coverage": None, "n_matched": 0, "lexicon": "manifest"}
    more |= {f"se_{d}": None for d in DIMENSIONS}
    rows = [{"track_id": t, **dict(zip(DIMENSIONS, v, strict=True)), **more} for t, v in zip(ids, labels, strict=True)]
    workspace.append_rows("labels", rows)
    spec = features.resolve("mfcc", Params(**MFCC))
    frames = rng.standard_normal((N_TRACKS, N_FRAMES, spec.n_dims)).astype(np.float32)
    frames[:, :, :3] += 8 * labels[:, None].astype(np.float32)
    columns = [
        pa.array(ids),
        ragged_column(list(frames), spec.n_dims),
        pa.array([spec.hop_s] * N_TRACKS),
        pa.array([spec.fingerprint] * N_TRACKS),
    ]
    workspace.append("features/mfcc", pa.Table.from_arrays(columns, schema=features_schema(spec.n_dims)), "all")
    return folder


@pytest.fixture
def copied(seed, tmp_path) -> Path:
    return Path(shutil.copytree(seed, tmp_path / "w"))


@pytest.fixture(scope="module")
def undisturbed(ray_session, seed, tmp_path_factory) -> Path:
    """A workspace that was trained and reported without a fault."""
    from click.testing import CliRunner

    from mer_ray import cli
    from mer_ray.stages import session

    folder = Path(shutil.copytree(seed, tmp_path_factory.mktemp("undisturbed") / "w"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "close", lambda: None)
        for arguments in (["train", *options(folder)], ["report", "--workspace", folder]):
            result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
            assert result.exit_code == 0, result.output
    return folder


def table(folder: Path, *parts: str) -> pa.Table:
    return pq.read_table(io.BytesIO(folder.joinpath(*parts).read_bytes()))


def members(workspace: Path, name: str = "cnn-mfcc") -> list[Path]:
    """Files of finished members of a run that is not finished."""
    return sorted((workspace / "checkpoints").glob(f"{name}-*/member*.safetensors"))


def same_runs(one: Path, other: Path) -> bool:
    """Whether two runs are the same to the bit, but for when they were made."""
    files = ("predictions.parquet", "curves.parquet", "weights.safetensors")
    folders = [w / "runs" / "cnn-mfcc" for w in (one, other)]
    return all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in files)


# what is written ---------------------------------------------------------------------------------------------------


def test_a_run_has_a_prediction_of_every_track_in_every_repeat(undisturbed):
    rows = table(undisturbed, "runs", "cnn-mfcc", "predictions.parquet")
    assert rows.num_rows == REPEATS * N_TRACKS
    columns = ["track_id", "artist", "title", "group", "repeat", "fold", *DIMENSIONS]
    assert rows.column_names == [*columns, *(f"predicted_{d}" for d in DIMENSIONS)]
    assert rows.schema.field("repeat").type == rows.schema.field("fold").type == pa.int32()
    labels, predicted = (np.stack([rows[p + d] for d in DIMENSIONS], axis=1) for p in ("", "predicted_"))
    assert ((predicted >= 0) & (predicted <= 1)).all()
    fold = np.reshape(rows["fold"], (REPEATS, N_TRACKS))
    assert (fold[0] != fold[1]).any(), "a repeat has other folds"
    group = rows["group"].to_pylist()[:N_TRACKS]
    for of in fold:
        assert len(set(zip(group, of, strict=True))) == len(set(group)) == 10
    described = json.loads((undisturbed / "runs" / "cnn-mfcc" / "model.json").read_text())
    for i, d in enumerate(DIMENSIONS):
        squared = np.square(labels[:, i] - predicted[:, i]).reshape(REPEATS, N_TRACKS).mean(axis=1)
        r2 = (1 - squared / labels[:N_TRACKS, i].var()).mean()
        assert described["metrics"][d]["r2"] == pytest.approx(r2)
        assert described["metrics"][d]["intervals"]["r2"][0] <= r2 <= described["metrics"][d]["intervals"]["r2"][1]
        assert r2 > 0.3
    wanted = {"settings", "data", "n_tracks", "n_artists", "repeats", "labels", "trained_at"}
    assert wanted <= set(described["details"])
    assert len(described["members"]) == N_MEMBERS


def test_the_curves_have_every_epoch_of_every_member(undisturbed):
    rows = table(undisturbed, "runs", "cnn-mfcc", "curves.parquet")
    assert rows.column_names == ["repeat", "fold", "member", "epoch", "train_loss", "valid_loss"]
    assert [str(f.type) for f in rows.schema] == ["int32"] * 4 + ["double"] * 2
    places = [tuple(r.values())[:4] for r in rows.to_pylist()]
    assert places == [tuple(map(int, p)) for p in np.ndindex(REPEATS, FOLDS, MEMBERS, EPOCHS)]
    losses = np.reshape(rows["train_loss"], (N_MEMBERS, EPOCHS))
    assert (losses[:, -1] < losses[:, 0]).all()


def test_the_baselines_stand_on_the_same_folds(undisturbed):
    run, rows = (
        table(undisturbed, "runs", "cnn-mfcc", "predictions.parquet"),
        table(undisturbed, "baselines", "mfcc.parquet"),
    )
    assert set(rows["model"].to_pylist()) == {"ridge", "svr"}
    shared = ["track_id", "artist", "title", "group", "repeat", "fold", *DIMENSIONS]
    order = [("repeat", "ascending"), ("track_id", "ascending")]
    for model in ("ridge", "svr"):
        own = rows.filter(pa.compute.equal(rows["model"], model)).sort_by(order)
        assert own.select(shared).equals(run.sort_by(order).select(shared))
    report = json.loads((undisturbed / "baselines" / "mfcc.json").read_text())
    described = json.loads((undisturbed / "runs" / "cnn-mfcc" / "model.json").read_text())
    assert report["feature"] == "mfcc"
    assert report["model"] == "svr"
    assert report["data"] == described["details"]["data"]
    assert report["fingerprint"] == features.resolve("mfcc", Params(**MFCC)).fingerprint
    for name in ("grouped_r2", "random_r2", "leak", "leak_lower", "leak_upper"):
        assert len(report[name]) == 3
    assert np.allclose(np.subtract(report["random_r2"], report["grouped_r2"]), report["leak"])
    assert report["duplicates"] == []
    assert report["n_duplicates_across_artists"] == 0


def test_the_card_names_the_baselines(undisturbed):
    card = (undisturbed / "runs" / "cnn-mfcc" / "README.md").read_text()
    assert "ridge" in card.lower()
    assert "svr" in card.lower()


def test_nothing_is_left_of_the_way_there_and_once_more_it_was_done(undisturbed, mer_ray):
    assert not members(undisturbed)
    assert not list((undisturbed / "checkpoints").glob("*"))
    before = {p: p.stat().st_mtime_ns for p in (undisturbed / "runs").rglob("*") if p.is_file()}
    # As a kill after model.json leaves them, and those of a run that is not finished.
    for name in ("cnn-mfcc-12345678", "lstm-mfcc-12345678"):
        (undisturbed / "checkpoints" / name).mkdir()
        (undisturbed / "checkpoints" / name / "fold0-0.safetensors").write_bytes(b"")
    code, out, err = mer_ray("train", *options(undisturbed))
    assert code == 0, out + err
    assert "found everything done" in out + err
    assert [p.name for p in (undisturbed / "checkpoints").glob("*")] == ["lstm-mfcc-12345678"]
    shutil.rmtree(undisturbed / "checkpoints" / "lstm-mfcc-12345678")
    assert before == {p: p.stat().st_mtime_ns for p in (undisturbed / "runs").rglob("*") if p.is_file()}


KERNEL = {"networks": "kernel", "repeats": 1, "baselines": False, "loss": "nll", "members": 3, "heads": "separate"}
KERNEL["learning_rate"] = 0.5
IGNORED = "train.members, train.heads, train.loss, train.epochs, train.patience, train.batch_size and "
IGNORED += "train.learning_rate are not used by kernel"


def test_settings_of_other_networks_are_named_and_come_into_nothing(ray_session, copied, mer_ray):
    """Such as a loss that wants a wider answer, at which the kernel network once failed when it was done."""
    code, out, err = mer_ray("train", *options(copied, **KERNEL))
    assert code == 0, out + err
    assert out.count("not used by kernel") == 1
    assert IGNORED in out
    run = copied / "runs" / "kernel-mfcc"
    described = json.loads((run / "model.json").read_text())
    assert set(described["details"]["settings"]) == {"folds", "repeats", "seed", "window_s", "weigh_labels"}
    card = (run / "README.md").read_text()
    for d in DIMENSIONS:
        ridge_alpha = described["details"]["chosen"][d]["ridge_alpha"]
        assert any(
            line.startswith(f"| {d.capitalize()} |") and line.endswith(f"| {ridge_alpha:g} |")
            for line in card.splitlines()
        )
    assert "nll" not in card
    assert (run / "predictions.parquet").exists() == ("`predictions.parquet`" in card)

    # As an older version recorded it, with all settings: that is no other model.
    settings = {**described["details"]["settings"], "loss": "mse", "members": 2, "epochs": 40}
    described["details"]["settings"] = settings
    (run / "model.json").write_text(json.dumps(described))
    code, out, err = mer_ray("train", *options(copied, **KERNEL | {"loss": "huber", "mixup": 0.2}))
    assert code == 0, out + err
    assert "found everything done" in out
    assert out.count("not used by kernel") == 1
    assert "train.learning_rate and train.mixup are not used by kernel" in out


def test_a_model_of_an_older_version_is_named(undisturbed, copied, mer_ray):
    for name in ("baselines", "runs"):
        shutil.copytree(undisturbed / name, copied / name)
    path = copied / "runs" / "cnn-mfcc" / "model.json"
    described = json.loads(path.read_text())
    assert described["details"].pop("version") == 3
    path.write_text(json.dumps(described))
    code, out, err = mer_ray("train", *options(copied))
    assert code == 0, out + err
    assert "found everything done" in out
    assert out.count("cnn-mfcc: trained by an older version") == 1


# kills -------------------------------------------------------------------------------------------------------------


def trial_processes() -> list[psutil.Process]:
    """The processes of this session's Ray in which Tune has a trial."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ImplicitFunc"):
                found.append(process)
    return found


def kill_trials() -> list[psutil.Process]:
    """Those that were killed with -9, once they are gone."""
    killed = trial_processes()
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(killed, timeout=240)
    return killed


def finished(workspace: Path) -> dict[str, tuple[int, int]]:
    """Name → inode and time of each member's file: who trains it again writes another."""
    found = {}
    for path in members(workspace):
        with suppress(FileNotFoundError):  # the run is complete
            found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


class Watch(threading.Thread):
    """Looks at the members' files as long as the training goes on, and kills its process, if asked to, at two."""

    def __init__(self, workspace: Path, kills: bool) -> None:
        super().__init__(daemon=True)
        self.workspace, self.kills, self.ended = workspace, kills, threading.Event()
        self.killed: list[psutil.Process] = []
        self.at_the_kill: dict[str, tuple[int, int]] = {}
        self.seen: dict[str, set[tuple[int, int]]] = defaultdict(set)

    def run(self) -> None:
        while not self.ended.wait(0.005):
            there = finished(self.workspace)
            for name, file in there.items():
                self.seen[name].add(file)
            if self.kills and len(there) >= 2 and not self.killed:
                self.killed = kill_trials()
                self.at_the_kill = finished(self.workspace)


@contextmanager
def watched(workspace: Path, kills: bool) -> Iterator[Watch]:
    watch = Watch(workspace, kills)
    watch.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        watch.join()


def test_a_killed_trial_continues_and_ends_in_the_same_bits(undisturbed, copied, mer_ray):
    shutil.copytree(undisturbed / "baselines", copied / "baselines")
    with watched(copied, kills=True) as watch:
        code, out, err = mer_ray("train", *options(copied))
    assert code == 0, out + err
    assert watch.killed, "nothing was found to kill"
    assert 2 <= len(watch.at_the_kill) < N_MEMBERS, "the kill came too late to say anything"
    assert all(watch.seen[name] == {file} for name, file in watch.at_the_kill.items()), "a member was trained twice"
    assert same_runs(copied, undisturbed)
    assert Workspace(copied).failures() == []
    assert not list((copied / "checkpoints").glob("*"))


def test_a_trial_whose_process_dies_before_it_begins_is_tried_again(ray_session, copied, mer_ray, monkeypatch):
    """Between two trials in one process, which Tune itself does not make good."""
    from ray import tune
    from ray.tune.trainable import wrap_function

    struck = copied.parent / "struck"

    def frail(function, **shared):
        class Struck(wrap_function(with_parameters(function, **shared))):
            def reset_config(self, new_config):
                if not struck.exists():
                    struck.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().reset_config(new_config)

        return Struck

    with_parameters = tune.with_parameters
    monkeypatch.setattr(tune, "with_parameters", frail)
    code, out, err = mer_ray("train", *options(copied, cpus_per_trial=2, epochs=3))
    assert code == 0, out + err
    assert struck.exists(), "no process was handed from one trial to the next"
    assert (copied / "runs" / "cnn-mfcc" / "model.json").exists()
    assert (copied / "baselines" / "mfcc.json").exists()
    assert Workspace(copied).failures() == []


def of_run(run: str, folds: int = 2) -> list[Trial]:
    spec = features.resolve("mfcc", Params(**MFCC))
    of_folds = [Trial("fold", run, "cnn", spec, "", {}, fold=k) for k in range(folds)]
    return [*of_folds, Trial("assemble", run, "cnn", spec, "", {})]


def drawn(order: Order) -> list[str]:
    """The trials that may run now, each known to Tune by its name."""
    found = []
    while (trial := order.next(f"id {len(order.running)} {sum(order.deaths.values())}")) is not None:
        found.append(trial.name)
    return found


def ids(order: Order, name: str) -> str:
    return next(i for i, t in order.running.items() if t.name == name)


def test_a_run_is_assembled_when_its_folds_are_done():
    order = Order([*of_run("a"), *of_run("b")])
    assert drawn(order) == ["a-repeat0-fold0", "a-repeat0-fold1", "b-repeat0-fold0", "b-repeat0-fold1"]
    order.end(ids(order, "b-repeat0-fold1"), failed=False, died=False)
    assert drawn(order) == []
    order.end(ids(order, "b-repeat0-fold0"), failed=False, died=False)
    assert drawn(order) == ["b-assemble"]
    assert not order.is_empty


def test_a_run_with_a_failed_fold_is_given_up_alone():
    order = Order([*of_run("a", 3), *of_run("b")])
    first = order.next("1")
    order.end("1", failed=True, died=False)
    assert first.name == "a-repeat0-fold0"
    assert drawn(order) == ["b-repeat0-fold0", "b-repeat0-fold1"]


def test_a_trial_that_died_comes_again_a_few_times():
    order = Order(of_run("a", 1))
    for attempt in range(1 + RESTARTS):
        assert order.next(str(attempt)).name == "a-repeat0-fold0"
        assert order.next("another") is None
        order.end(str(attempt), failed=False, died=True)
    assert order.is_empty


@pytest.mark.timeout(600)
def test_each_fold_is_trained_with_what_its_own_search_has_chosen(long_tests, ray_session, copied, mer_ray, tmp_path):
    place = {"mlflow": str(tmp_path / "ml")} if HAS_MLFLOW else {}
    fixed = {"loss": "mse", "mixup": 0, "mask_share": 0, "weight_decay": 0.1}  # one compilation
    short = {"repeats": 1, "epochs": 3, "baselines": False, "search.trials": 3, "search.grace_epochs": 1}
    code, out, err = mer_ray("train", *options(copied, **short, **fixed, **place))
    assert code == 0, out + err
    choices = json.loads((copied / "search" / "cnn-mfcc.json").read_text())["choices"]
    assert [(c["repeat"], c["fold"], c["target"], len(c["trials"])) for c in choices] == [
        (0, k, None, 3) for k in (0, 1)
    ]
    assert all(c["settings"].keys() == {"learning_rate"} for c in choices)
    described = json.loads((copied / "runs" / "cnn-mfcc" / "model.json").read_text())
    rates = sorted({c["settings"]["learning_rate"] for c in choices})
    assert described["details"]["searched"] == {"learning_rate": rates}
    assert not list((copied / "checkpoints").glob("*"))
    for folder in (copied / "tune").glob("train-*/cnn-mfcc-repeat0-fold*"):
        rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
        assert {r["search_trial"] for r in rows if "search_trial" in r} == {0, 1, 2}
        assert rows[-1]["steps_done"] == 3 + MEMBERS
        events = next(folder.glob("events.out.tfevents.*")).read_bytes()
        assert b"ray/tune/valid_loss" in events
    if HAS_MLFLOW:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path}/ml/mlflow.db")
        (experiment,) = client.search_experiments(filter_string="name LIKE 'train-%'")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted((r.data.params["kind"], r.data.params["fold"]) for r in runs) == [
            ("assemble", "0"),
            ("fold", "0"),
            ("fold", "1"),
        ]
        assert {r.data.params["network"] for r in runs} == {"cnn"}
        written = [f.read_bytes() for f in (copied / "tune").rglob("*") if f.is_file()]
        assert not any(str(tmp_path / "ml").encode() in content for content in written)


@pytest.mark.timeout(600)
def test_eight_nodes_of_one_cpu_have_eight_trials_in_flight(long_tests, copied):
    """In a process of its own, as that of the session has a Ray of its own."""
    code = """
import sys, threading, time, psutil
from ray.cluster_utils import Cluster
from mer_ray import cli
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
for _ in range(8):
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
most = 0
def watch():
    global most
    while True:
        try:
            own = [p.as_dict(["cmdline"]) for p in psutil.Process().children(recursive=True)]
            commands = [p["cmdline"] or [""] for p in own]
        except psutil.NoSuchProcess:  # it has just ended
            continue
        most = max(most, sum(c[0].startswith("ray::ImplicitFunc.train") for c in commands))
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
cli.main([*sys.argv[1:], "--address", cluster.address], standalone_mode=False)
print("in flight:", most)
"""
    several = options(copied, folds=4, members=1, baselines=False)
    command = [sys.executable, "-c", code, "train", *map(str, several)]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert "in flight: 8" in lines.stdout, lines.stdout + lines.stderr
    assert (copied / "runs" / "cnn-mfcc" / "model.json").exists()


def test_a_failure_is_over_when_the_model_is_there(undisturbed, copied):
    workspace = Workspace(copied)
    workspace.append_rows(
        "failures", [failure("train", n, "trial_failed", "x") for n in ("cnn-mfcc", "baselines-mfcc")]
    )
    assert {f["track_id"] for f in workspace.failures()} == {"cnn-mfcc", "baselines-mfcc"}
    shutil.copytree(undisturbed / "baselines", copied / "baselines", copy_function=shutil.copy)
    assert [f["track_id"] for f in workspace.failures()] == ["cnn-mfcc"]
    shutil.copytree(undisturbed / "runs", copied / "runs", copy_function=shutil.copy)
    assert workspace.failures() == []
    workspace.append_rows("failures", [failure("train", "cnn-mfcc", "trial_failed", "on new data")])
    assert [f["message"] for f in workspace.failures("train")] == ["on new data"]


def test_a_killed_experiment_is_continued_by_the_next_command(long_tests, undisturbed, copied, mer_ray):
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "mer_ray", "train", *map(str, options(copied)), "--address", address]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while len(members(copied)) < 2:
            assert driver.poll() is None, driver.stderr.read().decode()
            assert time.monotonic() < deadline, "train made nothing to kill"
            time.sleep(0.005)
    finally:
        driver.kill()
        trials = kill_trials()
        driver.wait()
        driver.stderr.close()
    assert trials
    before = finished(copied)
    assert 2 <= len(before) < N_MEMBERS, "the kill came too late to say anything"
    assert not (copied / "runs" / "cnn-mfcc" / "model.json").exists()

    with watched(copied, kills=False) as watch:
        code, out, err = mer_ray("train", *options(copied))
    assert code == 0, out + err
    assert all(watch.seen[name] == {file} for name, file in before.items()), "a member was trained twice"
    assert same_runs(copied, undisturbed)
    assert not list((copied / "checkpoints").glob("*"))
    code, out, err = mer_ray("report", "--workspace", copied)
    assert code == 0, out + err
    for name in ("metrics.csv", "report.md", "report.tex"):
        assert (copied / "report" / name).read_bytes() == (undisturbed / "report" / name).read_bytes(), name
    code, out, err = mer_ray("train", *options(copied))
    assert code == 0, out + err
    assert "found everything done" in out + err


def test_what_was_removed_of_a_finished_fold_is_trained_again(copied):
    settings = used(TrainConfig(folds=5), "kernel")
    trial = Trial("fold", "kernel-mfcc", "kernel", features.resolve("mfcc", Params(**MFCC)), "0", settings)
    workspace = Workspace(copied)

    def run() -> None:
        work.train(trial, workspace, data.load(workspace, trial.feature), lambda values, due: None)

    run()
    [member] = members(copied, "kernel-mfcc")
    as_it_was, others = member.read_bytes(), {p: p.stat().st_mtime_ns for p in member.parent.iterdir() if p != member}
    member.write_bytes(as_it_was[:100])
    with pytest.raises(WorkspaceError, match=f"{member.name} is damaged.*remove it"):
        run()
    member.unlink()
    run()
    assert member.read_bytes() == as_it_was
    after = {p: p.stat().st_mtime_ns for p in member.parent.iterdir()}
    run()
    assert {p: p.stat().st_mtime_ns for p in member.parent.iterdir()} == after, "a finished fold was trained again"
    assert after.keys() == {member, *others}


# failures ----------------------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_fails_alone_and_is_not_tried_again(undisturbed, copied, mer_ray):
    shutil.copytree(undisturbed / "baselines", copied / "baselines")
    short = {"epochs": 2, "repeats": 1, "members": 1, "baselines": False, "networks": "[cnn,kernel]"}
    code, out, err = mer_ray("train", *options(copied, learning_rate="1e+30", **short))
    assert code == 0, out + err
    [row] = Workspace(copied).failures()
    assert (row["stage"], row["track_id"], row["reason"], row["attempts"]) == ("train", "cnn-mfcc", "trial_failed", 1)
    assert "the training diverged" in row["message"]
    assert "Traceback" not in out + err
    assert sorted(p.name for p in (copied / "runs").iterdir()) == ["kernel-mfcc"]
    assert not list((copied / "tune").rglob("error.txt")), "Tune took an answer for a crash, and tried again"
