"""The whole pipeline as a job on a cluster that is hurt in every stage, and what has to come out of it all the same."""

from __future__ import annotations

import csv
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from clusters import STATES, Cluster, Job, Node
from conftest import write_tunes
from parts import raw_rows, sets

from mer_ray.io.tables import Workspace

STAGES = ("collect", "label", "acquire", "extract", "train", "report", "score")
SPREAD = ("acquire", "extract", "train", "score")
"""The stages that work on the nodes; the others work in the driver, so that only its death touches them."""
KINDS = ("worker", "raylet", "cut", "driver")
SICK = ("hidden", "full")
TABLES = {"tracks": ["fetched_at"], "labels": [], "audio": [], "features/mfcc": [], "scores": ["model"]}
"""With the columns in which two runs may differ."""
TOLERANCE = 1e-6
RUN_S = 600.0
GIVEN_UP_S = 60.0


def catalogue(folder: Path, n: int = 24, seconds: float = 20.0) -> Path:
    """A manifest of n tunes with labels, of n / 2 artists, and of one file that is no music."""
    rng = np.random.default_rng(0)
    paths = write_tunes(folder / "music", n, seconds)
    (folder / "music" / "broken.flac").write_bytes(b"fLaC" + rng.bytes(5_000))
    rows = [[p.name, f"Artist {i // 2}", f"Tune {i}", *rng.uniform(0.1, 0.9, 3).round(3)] for i, p in enumerate(paths)]
    rows.append(["broken.flac", "Artist 0", "Broken", 0.5, 0.5, 0.5])
    manifest = folder / "music" / "manifest.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "artist", "title", "valence", "arousal", "dominance"], *rows])
    return manifest


def submit(cluster: Cluster, manifest: Path, workspace: Path, networks: str = "kernel") -> Job:
    """All stages, small."""
    options = sets(
        *("collect.source=manifest", f"collect.manifest={manifest}", "extract.features=mfcc"),
        *(f"train.networks={networks}", "train.folds=2", "train.members=1", "train.epochs=2", "train.batch_size=8"),
    )
    return cluster.submit("python", "jobs/run.py", "--workspace", workspace, *options)


def durations(log: str) -> dict[str, float]:
    """Seconds of each stage that has ended, from the lines that sum it up."""
    lines = re.findall(rf"^({'|'.join(STAGES)}) +\d.* · ([\d.]+) s$", log, re.MULTILINE)
    return {stage: float(seconds) for stage, seconds in lines}


def undisturbed(cluster: Cluster, manifest: Path, workspace: Path, networks: str = "kernel") -> dict[str, float]:
    """Seconds of each stage."""
    job = submit(cluster, manifest, workspace, networks)
    assert job.wait(RUN_S) == "SUCCEEDED", job.log()
    return durations(job.log())


@dataclass
class Storm:
    """One run with a fault in every stage: which, when and where follows from the seed.

    seconds: of each stage when nothing happens; the fault comes in its first half, and where the stage is quicker than
    that this time, not at all: `plan` keeps it. Each of the four kinds is meant for one of the four stages that work on
    the nodes; in the other stages the driver is killed. From `acquire` on, one node is sick until it is started again:
    it does not see the music, or cannot write temporary files.
    """

    cluster: Cluster
    manifest: Path
    workspace: Path
    seconds: dict[str, float]
    seed: int
    networks: str = "kernel"
    struck: dict[str, str] = field(default_factory=dict)
    submissions: int = 0
    unexpected: list[str] = field(default_factory=list)
    accidents: int = 0
    named: bool = False
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        kinds = dict(zip(SPREAD, self.rng.permutation(KINDS).tolist(), strict=True))
        self.plan = {stage: kinds.get(stage, "driver") for stage in STAGES}
        self.after_s = {stage: self.rng.uniform(0.0, 0.5) * self.seconds[stage] for stage in STAGES}
        self.sick, self.patient = str(self.rng.choice(SICK)), self.cluster.nodes[int(self.rng.integers(1, 3))]
        self.is_sick = False
        self.down: set[int] = set()
        self.repairs: list[threading.Thread] = []
        self.over = threading.Event()

    def run(self) -> None:
        """Submit, strike, submit again after the driver's death, until the job has succeeded."""
        began = time.monotonic()
        try:
            while not self._one(began + RUN_S):
                pass
            self.wall_s = time.monotonic() - began
            for repair in self.repairs:
                repair.join()
            for node in self.cluster.nodes[1:]:
                if not node.runs():
                    self.accidents += 1
                    self.cluster.restart(node)
            self.cluster.wait_for(len(self.cluster.nodes))
        finally:
            self.over.set()
            for repair in self.repairs:
                repair.join()
            self.cluster.heal(self.patient, self.manifest.parent)

    def _one(self, deadline: float) -> bool:
        """One submission. Whether it has succeeded."""
        submitted = time.time()
        job = submit(self.cluster, self.manifest, self.workspace, self.networks)
        self.submissions += 1
        stage, since, asked = "", 0.0, time.monotonic()
        killed = False
        while True:
            time.sleep(0.01)
            now, log = time.monotonic(), job.log()
            assert now < deadline, f"seed {self.seed}, after {self.struck}:\n{log}"
            current = self._stage(log, submitted)
            if current != stage:
                stage, since = current, now
            if stage == "acquire" and not self.is_sick:
                self._sicken()
            if stage in self.plan and now - since >= self.after_s[stage]:
                target = self._strike(self.plan[stage], job)
                if target:
                    kind = self.plan.pop(stage)
                    self.struck[stage] = f"{kind} ({target}, {now - since:.1f} s)"
                    killed |= kind == "driver"
            if now - asked >= 0.5:
                asked = now
                for node in self.cluster.nodes[1:]:
                    if node.number not in self.down and not node.runs():
                        self.accidents += 1  # nobody struck it: Ray gave it up, on a machine that was too busy
                        self._mend(node, "raylet", 0.0)
                self.named |= f"node {self.patient.address} was set aside" in log
                state = job.state()
                if state == "SUCCEEDED":
                    return True
                if state not in STATES:
                    if not killed:
                        self.unexpected.append(job.log()[-2000:])
                        assert len(self.unexpected) <= 2, self.unexpected
                    return False

    def _sicken(self) -> None:
        self.is_sick = True
        if self.sick == "hidden":
            self.cluster.hide(self.patient, self.manifest.parent)
        else:
            self.cluster.fill(self.patient)

    def _stage(self, log: str, submitted: float) -> str:
        done = durations(log)
        for stage in STAGES:
            if stage not in done:
                break
        else:
            return ""
        if stage == "collect":  # it has no stage before it; it begins with this file
            file = self.workspace / "settings" / "collect.json"
            return stage if file.exists() and file.stat().st_mtime >= submitted else ""
        return stage

    def _strike(self, kind: str, job: Job) -> str:
        """Who was hit, or "" as long as there is nobody to hit."""
        nodes = [n for n in self.cluster.nodes[1:] if n.number not in self.down and n.raylet() is not None]
        if kind == "driver":
            return "head" if job.kill() else ""
        if not nodes:
            return ""
        if kind == "worker":
            busy = [n for n in nodes if n.workers()]
            if not busy:
                return ""
            node = busy[self.rng.integers(len(busy))]
            name = self.cluster.kill_worker(node)
            return f"node {node.number}, {name.removeprefix('ray::')}" if name else ""
        node = nodes[self.rng.integers(len(nodes))]
        if kind == "raylet":
            self.cluster.kill_raylet(node)
        else:
            self.cluster.cut(node)
        self._mend(node, kind, self.rng.uniform(2, 5))
        return f"node {node.number}"

    def _mend(self, node: Node, kind: str, after_s: float) -> None:
        """As those who run a cluster do: what has failed is started again."""
        self.down.add(node.number)
        repair = threading.Thread(target=self._repair, args=(node, kind, after_s))
        repair.start()
        self.repairs.append(repair)

    def _repair(self, node: Node, kind: str, pause_s: float) -> None:
        time.sleep(pause_s)
        if kind == "cut":
            give_up = time.monotonic() + GIVEN_UP_S
            while self.cluster.counts(node) and time.monotonic() < give_up:
                time.sleep(0.5)
            self.cluster.join(node)
        while not self.over.is_set():
            try:
                self.cluster.restart(node)
                break
            except AssertionError:  # the machine was too busy to start it
                continue
        self.down.discard(node.number)


def differences(expected: Workspace, found: Workspace) -> list[str]:
    """What is in one workspace and not in the other; [] if a run was not touched by what happened to it."""
    differing = []
    for table, but in TABLES.items():
        rows = [raw_rows(w.uri, table).drop_columns(but).sort_by("track_id") for w in (expected, found)]
        ids = rows[1]["track_id"].to_pylist()
        if len(set(ids)) < len(ids):
            differing.append(f"{table}: {len(ids) - len(set(ids))} rows are there twice")
        elif table != "scores" and not rows[0].equals(rows[1]):
            differing.append(f"{table} differs")
        elif table == "scores":
            differing += _far(table, rows[0], rows[1])
    failures = [sorted((f["stage"], f["track_id"], f["reason"]) for f in w.failures()) for w in (expected, found)]
    if failures[0] != failures[1]:
        differing.append(f"failures differ: {failures}")
    metrics = [
        list(csv.reader(Path(w.path("report", "metrics.csv")).read_text().splitlines())) for w in (expected, found)
    ]
    if [len(row) for row in metrics[0]] != [len(row) for row in metrics[1]]:
        differing.append("metrics.csv has other rows")
    else:
        pairs = zip(*(sorted(rows) for rows in metrics), strict=True)
        differing += [f"metrics.csv: {one} is {other}" for one, other in pairs if not all(map(_alike, one, other))]
    return differing


def _alike(one: str, other: str) -> bool:
    """Whether two cells are the same text, or numbers that are as good as equal."""
    try:
        return one == other or abs(float(one) - float(other)) <= TOLERANCE
    except ValueError:
        return False


def _far(name: str, a: pa.Table, b: pa.Table) -> list[str]:
    differing = []
    for column in a.column_names:
        x, y = a[column], b[column]
        if x.equals(y):
            continue
        x, y = (_flat(v) for v in (x, y))
        if x is None or y is None or len(x) != len(y) or not np.allclose(x, y, 0, TOLERANCE):
            differing.append(f"{name}.{column} differs")
    return differing


def _flat(column: pa.ChunkedArray) -> np.ndarray | None:
    values = column.combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False), float) if pa.types.is_floating(values.type) else None
