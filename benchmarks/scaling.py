"""What 10⁴, 10⁶ or 10⁸ tracks take: machines, hours, money, and where it bends first (docs/scaling.md explains it).

    python benchmarks/scaling.py [--tracks 1e4 1e6 1e8] [--minutes 3] [--workers 64] [--cpu-price 0.045] ...
    python benchmarks/scaling.py --validate             # simulated beside measured runs
    python benchmarks/scaling.py --memory 1e5 1e6       # measures what the command's own process holds per track
    python benchmarks/scaling.py --plot docs/scaling.png

Unit costs are measured (`MEASURED`), prices are assumptions (`Prices`), and the schedule is simulated: catalogs of
made-up durations are cut by the functions that the stages call (`mer_ray.stages.blocks`), and an event loop plays
workers that start, differ in speed and are lost with their node; places at servers are given out by the `Gate` that
limits downloads and questions to Last.fm. A catalog of 10⁶ tracks takes half a minute.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np

common.one_thread()

MB, GB, HOUR = 1e6, 1e9, 3600.0


class Figure(NamedTuple):
    """A measured number, its unit and where it comes from."""

    value: float
    unit: str
    source: str


def _figure(value: float, unit: str, source: str) -> Figure:
    return Figure(value, unit, source)


_RESULTS, _HERE = "RESULTS.md", "docs/scaling.md"
MEASURED: dict[str, Figure] = {
    # CPU-seconds of one process with its decoder
    "mfcc": _figure(13.0, "CPU-s an hour of audio", f"{_RESULTS}: 12.2 to 14.2, Vorbis"),
    "logmel": _figure(14.3, "CPU-s an hour of audio", _RESULTS),
    "vggish": _figure(65.0, "CPU-s an hour of audio", f"{_RESULTS}: 65 x real time, and the decoder"),
    "mfcc,vggish": _figure(75.0, "CPU-s an hour of audio", f"{_RESULTS}: 1,500 CPU-s for 20.01 h"),
    "score": _figure(15.5, "CPU-s an hour of audio", _RESULTS),
    "ray": _figure(6.2, "core-s an hour of audio", "beside that, under Ray on 2 cores: the MFCC run of 10.01 h"),
    "collect": _figure(0.18e-3, "CPU-s a track", f"{_HERE}: 18.1 CPU-s for a manifest of 100,000"),
    "label": _figure(43e-6, "CPU-s a track", f"{_RESULTS}: `careful`, 1,000,000 tracks"),
    "acquire": _figure(80e-3, "CPU-s a track", f"{_HERE}: 79 local files checked and hashed, 6.3 CPU-s"),
    "rows": _figure(0.87e-3, "CPU-s a track", f"{_RESULTS}: 1,000,000 rows of 4 ready frames"),
    "hand out": _figure(9.6e-3, "CPU-s a block", f"{_HERE}: Ray Data in the command's process, 4,000 blocks"),
    # bytes
    "media": _figure(19_700, "B a s of audio", f"{_HERE}: 79 soundtracks, Vorbis"),
    "features/mfcc": _figure(3_226, "B a s of audio", _HERE),
    "features/logmel": _figure(20_052, "B a s of audio", _HERE),
    "features/vggish": _figure(503, "B a s of audio", _HERE),
    "scores": _figure(11.6, "B a s of audio", _HERE),
    "shard": _figure(10_000, "B a shard", f"{_HERE}: `scores` of no rows"),
    "tracks": _figure(62, "B a track", f"{_HERE}: a manifest with 3.5 tags a track"),
    "labels": _figure(1_100, "B a track", "README.md: 10 MB for 9,000, an estimate"),
    "audio": _figure(66, "B a track", _HERE),
    "answers": _figure(1_900, "B a track", f"{_RESULTS}: 100 tags, gzip"),
    # memory of the command's own process
    "driver/track": _figure(130, "B a track", f"{_HERE}: --memory, from 10⁵ to 10⁶ tracks"),
}


@dataclass(frozen=True)
class Prices:
    """US dollars. Assumptions of November 2026, about what large clouds asked for in their cheap regions; no quotes."""

    cpu: float = 0.045  # a core (vCPU) and hour, on demand
    spot: float = 0.018  # the same, where it may be taken away
    stored: float = 0.023  # a GB and month
    put: float = 5e-6  # a PUT or LIST
    get: float = 4e-7  # a GET
    egress: float = 0.09  # a GB that leaves the cloud


@dataclass(frozen=True)
class Cluster:
    """What the simulation assumes of the machines; times in s."""

    workers: int = 64  # a core each
    cores: int = 16  # of a node, which is lost as a whole
    start_s: float = 15.0  # until a worker is ready, after Ray is asked; RESULTS.md has 12 to 17
    warm_s: float = 0.0  # that a worker's first block takes longer
    spread: float = 0.1  # SD of the logarithm of the workers' speeds: an assumption
    block_s: float = 0.1  # to write a shard where the workspace is an object store: an assumption
    losses_per_h: float = 0.0  # of a node: 0.05 is our assumption for spot machines
    replace_s: float = 300.0  # until a lost node's successor is there: an assumption
    notice_s: float = 30.0  # until Ray tells that a node is lost: an assumption
    pass_blocks: int = 4096  # of `stages.pool`: after so many blocks, workers start anew


# catalogs -----------------------------------------------------------------------------------------------------------

SPREAD = 0.63
"""SD of the logarithm of durations: 79 real soundtracks over 30 s (Debian's wesnoth and supertuxkart), mean 150 s."""
LONG_SHARE, LONG_S = 1e-4, 36_000.0
"""One track in 10,000 is ten hours long: a mix, an audiobook, a mistake."""


def durations(n: int, mean_s: float, seed: int = 0, long_share: float = LONG_SHARE) -> np.ndarray:
    """Seconds of n tracks, (n,): lognormal with a mean of ``mean_s``, at least 1 s, and a few of ten hours."""
    rng = np.random.default_rng(seed)
    seconds = np.maximum(1.0, rng.lognormal(math.log(mean_s) - SPREAD**2 / 2, SPREAD, n))
    seconds[rng.random(n) < long_share] = LONG_S
    return seconds


def planned(seconds: np.ndarray, workers: int, batch_minutes: float = 30.0) -> Iterator[list[Any]]:
    """Window by window, blocks with columns row and planned_s in the order in which they are handed out."""
    import pyarrow as pa

    from mer_ray.stages import blocks, extract

    rows = pa.table({"row": np.arange(len(seconds)), "planned_s": seconds})
    pieces = (rows.slice(start, 50_000) for start in range(0, len(rows), 50_000))  # as `Workspace.batches`
    for window in blocks.windows(pieces):
        own = window["planned_s"].to_pylist()
        yield list(blocks.by_duration(window, own, workers, extract.SMALLEST_S, 60 * batch_minutes))


def audio_s(block: Any) -> float:
    """Seconds of audio in a block."""
    return float(block["planned_s"].to_numpy().sum())


# the schedule -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """wall_s: until the last answer. busy_s: of all workers together, of which lost_s was for nothing. losses: of
    nodes that had workers. answered: rows, as their answers came."""

    wall_s: float
    busy_s: float
    lost_s: float
    losses: int
    answered: list[int]

    def efficiency(self, workers: int) -> float:
        """Useful worker-seconds over those that were paid for."""
        return (self.busy_s - self.lost_s) / (workers * self.wall_s)


class _Node:
    """Machines of which one follows the other, each lost by chance at a constant rate. up, dies: of the present one."""

    def __init__(self, cluster: Cluster, rng: np.random.Generator) -> None:
        self._cluster, self._rng = cluster, rng
        self._begin(0.0)

    def _begin(self, up: float) -> None:
        rate = self._cluster.losses_per_h
        self.up, self.dies = up, up + (self._rng.exponential(HOUR / rate) if rate else math.inf)

    def room(self, at: float) -> float:
        """When a core of it that is free at ``at`` can be used."""
        while at >= self.dies:
            self._begin(self.dies + self._cluster.replace_s)
        return max(at, self.up)


class _Machines:
    """Workers on nodes, on a clock of their own: ``now``, in s. cost: a block → core-seconds.

    A worker takes a core for as long as it lives, starts, works at its own speed and dies with its node, which the
    driver is told ``notice_s`` later. The driver hands out one block after the other.
    """

    def __init__(self, cluster: Cluster, cost: Callable[[Any], float], seed: int) -> None:
        self.cluster, self.cost, self.rng = cluster, cost, np.random.default_rng(seed)
        self.now = self.busy = self.lost = 0.0
        self.dead: set[tuple[int, float]] = set()
        nodes = [_Node(cluster, self.rng) for _ in range(-(-cluster.workers // cluster.cores))]
        # when it is free, a tie, the node's number, the node
        self.cores = [(0.0, i, i // cluster.cores, nodes[i // cluster.cores]) for i in range(cluster.workers)]
        # when, a tie, the worker, its block (None: it starts), whether it has died
        self.events: list[tuple[float, int, _Worker, Any, bool]] = []
        self.ties = itertools.count(cluster.workers)


class _Worker:
    """A process on a core."""

    def __init__(self, machines: _Machines) -> None:
        self.machines, cluster, cores = machines, machines.cluster, machines.cores
        while True:  # the core that is free first, if its node still lives by then
            free, tie, self.number, self.node = heapq.heappop(cores)
            born = self.node.room(max(free, machines.now))
            if not cores or born <= max(machines.now, cores[0][0]):
                break
            heapq.heappush(cores, (born, tie, self.number, self.node))
        self.dies = self.node.dies
        self.speed = math.exp(machines.rng.normal(0.0, cluster.spread))
        self.extra = cluster.warm_s
        self._until(born + cluster.start_s, None)

    def begin(self, block: Any) -> None:
        """Hand it a block."""
        m = self.machines
        m.now += MEASURED["hand out"].value
        takes = self.extra + m.cluster.block_s + m.cost(block) / self.speed
        self.extra = 0.0
        lives = m.now + takes < self.dies
        spent = takes if lives else max(0.0, self.dies - m.now)
        m.busy, m.lost = m.busy + spent, m.lost + (0.0 if lives else spent)
        self._until(m.now + takes, block)

    def _until(self, at: float, block: Any) -> None:
        m, died = self.machines, at >= self.dies
        if died:
            m.dead.add((self.number, self.dies))
            at = max(m.now, self.dies) + m.cluster.notice_s
        heapq.heappush(m.events, (at, next(m.ties), self, block, died))


def simulate(blocks: list[Any], cost: Callable[[Any], float], cluster: Cluster, seed: int = 0) -> Outcome:
    """The blocks (tables with a column ``row``), handed out in their order to whoever is free, by one set of workers.

    What a lost node had in hand is handed out next, and other workers start in the place of its own.
    """
    machines, todo = _Machines(cluster, cost, seed), deque(blocks)
    answered: list[int] = []
    idle: list[_Worker] = []
    left = len(todo)
    for _ in range(min(cluster.workers, left)):
        _Worker(machines)
    while left:
        at, _, worker, block, died = heapq.heappop(machines.events)
        machines.now = max(machines.now, at)
        if died:
            heapq.heappush(machines.cores, (machines.now, next(machines.ties), worker.number, worker.node))
            _Worker(machines)
            if block is not None:
                todo.appendleft(block)
        else:
            if block is not None:
                answered += block["row"].to_pylist()
                left -= 1
            idle.append(worker)
        while todo and idle:
            idle.pop().begin(todo.popleft())
    return Outcome(machines.now, machines.busy, machines.lost, len(machines.dead), answered)


def asked(n: int, rate: float, answer_s: float, seed: int = 0) -> float:
    """Seconds that n questions to Last.fm take: threads as `stages.collect_lastfm` has them, before its real `Gate`."""
    from mer_ray.io.rate_limit import Gate, per_second
    from mer_ray.stages.collect_lastfm import MAX_THREADS

    rng = np.random.default_rng(seed)
    gate = Gate(**per_second(rate), now=0.0)
    free, left, now = min(MAX_THREADS, max(4, round(2 * rate))), n, 0.0
    flying: list[float] = []
    while left or flying:
        wake = math.inf
        if left and free:
            wait_s = gate.take(now)
            if not wait_s:
                heapq.heappush(flying, now + answer_s * rng.lognormal(-0.125, 0.5))
                free, left = free - 1, left - 1
                continue
            wake = max(now + wait_s, math.nextafter(now, math.inf))
        if flying and flying[0] <= wake:
            now = heapq.heappop(flying)
            gate.release(now)
            free += 1
        else:
            now = wake
    return now


def downloaded(n: int, hosts: int, per_host: int, workers: int, file_s: float, seed: int = 0) -> float:
    """Seconds that n downloads from so many hosts take: `stages.acquire`'s blocks and threads, before real gates."""
    import pyarrow as pa

    from mer_ray.io.rate_limit import Gate
    from mer_ray.stages import acquire, blocks

    rng = np.random.default_rng(seed)
    host, takes = rng.integers(0, hosts, n), file_s * rng.lognormal(-0.125, 0.5, n)
    rows = pa.table({"row": np.arange(n)})
    todo = deque(blocks.split(rows, blocks.balanced(n, acquire.BATCH, workers)))
    gates = [Gate(per_host, 0.0, 0.0, now=0.0) for _ in range(hosts)]
    waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(hosts)]
    mine: list[deque[int]] = [deque() for _ in range(workers)]
    open_ = [0] * workers  # rows of its block that are not done
    flying: list[tuple[float, int, int]] = []
    now = 0.0

    def serve(at: int) -> None:
        while waiting[at]:
            if gates[at].take(now):
                return
            row, worker = waiting[at].popleft()
            heapq.heappush(flying, (now + takes[row], row, worker))

    def ask(worker: int) -> None:
        if mine[worker]:
            row = mine[worker].popleft()
            waiting[host[row]].append((row, worker))
            serve(host[row])

    def begin(worker: int) -> None:
        if todo:
            mine[worker] = deque(todo.popleft()["row"].to_pylist())
            open_[worker] = len(mine[worker])
            for _ in range(acquire.THREADS):
                ask(worker)

    for worker in range(workers):
        begin(worker)
    while flying:
        now, row, worker = heapq.heappop(flying)
        gates[host[row]].release(now)
        serve(host[row])
        open_[worker] -= 1
        ask(worker)
        if not open_[worker]:
            begin(worker)
    return now


# stages -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A catalog and what is done to it.

    sample: tracks that are simulated; more are so many such catalogs in turn. one_pool: one set of workers for all
    passes, which the stages do not have yet.
    """

    tracks: int
    minutes: float = 3.0
    features: str = "mfcc"
    batch_minutes: float = 30.0
    hosts: int = 20
    per_host: int = 4
    file_s: float = 2.0
    rate: float = 5.0
    answer_s: float = 0.2
    seed: int = 0
    sample: int = 100_000
    one_pool: bool = False

    @property
    def hours(self) -> float:
        """Of audio."""
        return self.tracks * self.minutes / 60


@dataclass(frozen=True)
class Stage:
    """What a stage takes. objects: Parquet shards that it writes. open_s: to read one column of them all, in an object
    store; what every later stage does as it starts."""

    name: str
    cpu_h: float
    wall_h: float
    gb: float
    objects: int
    puts: int = 0
    gets: int = 0
    open_s: float = 0.0
    lost_h: float = 0.0
    efficiency: float = math.nan

    def money(self, prices: Prices, spot: bool, workers: int) -> float:
        """Dollars for machines (all of them, as long as it lasts, where it uses them all) and requests."""
        paid_h = self.wall_h * workers if math.isfinite(self.efficiency) else self.cpu_h
        return paid_h * (prices.spot if spot else prices.cpu) + self.puts * prices.put + self.gets * prices.get


WARM_S = 7.5
"""That VGGish's first block takes longer: 1.8 CPU-s to load and 5 to 6 to compile (RESULTS.md)."""
GET_S, LIST_S, IO_THREADS = 0.03, 0.1, 8
"""Seconds of a small GET and of a LIST of 1,000 names (assumptions), and pyarrow's threads that wait for them."""


def opened(objects: int) -> tuple[int, int, float]:
    """(LISTs, GETs, seconds) to read one column of a table in an object store: a footer and a column chunk a shard."""
    lists, gets = -(-objects // 1000), 2 * objects
    return lists, gets, lists * LIST_S + gets * GET_S / IO_THREADS


def core_s(what: str) -> float:
    """Core-seconds that a second of audio takes under Ray."""
    return (MEASURED[what].value + MEASURED["ray"].value) / HOUR


class Pass(NamedTuple):
    """What `extract` or `score` takes. busy_h, lost_h: of all workers together."""

    wall_h: float
    blocks: int
    busy_h: float
    lost_h: float


def over_audio(scenario: Scenario, cluster: Cluster, what: str) -> Pass:
    """Simulated on `Scenario.sample` tracks at most, and then multiplied."""
    n = min(scenario.tracks, scenario.sample)
    seconds = durations(n, 60 * scenario.minutes, scenario.seed)
    if "vggish" in what:
        cluster = replace(cluster, warm_s=WARM_S)
    wall_s = busy_s = lost_s = 0.0
    blocks = 0
    windows = planned(seconds, cluster.workers, scenario.batch_minutes)
    passes = (
        window[i : i + cluster.pass_blocks] for window in windows for i in range(0, len(window), cluster.pass_blocks)
    )
    if scenario.one_pool:
        passes = iter([list(itertools.chain.from_iterable(passes))])
    for number, cut in enumerate(passes):  # each with workers of its own
        found = simulate(cut, lambda block: core_s(what) * audio_s(block), cluster, scenario.seed + number)
        wall_s, busy_s, lost_s = wall_s + found.wall_s, busy_s + found.busy_s, lost_s + found.lost_s
        blocks += len(cut)
    times = scenario.tracks / n
    return Pass(times * wall_s / HOUR, round(times * blocks), times * busy_s / HOUR, times * lost_s / HOUR)


def stages(scenario: Scenario, cluster: Cluster) -> list[Stage]:
    """Each stage of a catalog whose audio is listed in a manifest, from its list to its scores."""
    from mer_ray.stages import acquire, changes, label

    n, seconds = scenario.tracks, 60 * scenario.minutes * scenario.tracks
    out: list[Stage] = []

    def add(name: str, cpu_s: float, wall_h: float, size: float, objects: int, reads: int, **more: float) -> None:
        lists, gets, _ = opened(reads)
        size += objects * (MEASURED["shard"].value if name == "score" else 0)
        open_s = opened(objects)[2]
        out.append(Stage(name, cpu_s / HOUR, wall_h, size / GB, objects, objects + lists, gets, open_s, **more))

    def per_track(name: str) -> float:
        return MEASURED[name].value * n

    listed, labelled, fetched = (-(-n // size) for size in (changes.AT_ONCE, label.SHARD_ROWS, acquire.BATCH))
    add("collect", per_track("collect"), per_track("collect") / HOUR, per_track("tracks"), listed, 0)
    add("label", per_track("label"), per_track("label") / HOUR, per_track("labels"), labelled, listed)
    few = min(n, 20_000)
    got_s = downloaded(few, scenario.hosts, scenario.per_host, cluster.workers, scenario.file_s, scenario.seed)
    wall_h = max(got_s * n / few, per_track("acquire") / cluster.workers) / HOUR
    media = MEASURED["media"].value * seconds + per_track("audio")
    add("acquire", per_track("acquire"), wall_h, media, fetched, listed)
    for name in (scenario.features, "score"):
        found = over_audio(scenario, cluster, name)
        tables = ["scores"] if name == "score" else [f"features/{f}" for f in name.split(",")]
        size = sum(MEASURED[t].value for t in tables) * seconds
        busy = (found.busy_h - found.lost_h) / (cluster.workers * found.wall_h)
        stage, reads = ("score", 0) if name == "score" else (f"extract {name}", fetched)
        objects = found.blocks * len(tables)
        add(stage, found.busy_h * HOUR, found.wall_h, size, objects, reads, lost_h=found.lost_h, efficiency=busy)
    return out


def driver_gb(tracks: int) -> float:
    """Memory of the command's own process: what it holds per track, beside Python's and Ray's 0.25 GB."""
    return 0.25 + MEASURED["driver/track"].value * tracks / GB


TRAINING = {"mfcc": 3_446, "logmel": 22_053, "vggish": 530}
"""Bytes of frames in memory per second of audio: float32, as `training.data.load` holds them."""


def training(tracks: int, seconds: float) -> dict[str, float]:
    """Labelled tracks of so many seconds → GB of frames by feature, and CPU-h of a cross-validation's parts."""
    frames = {f"{name} GB": rate * seconds * tracks / GB for name, rate in TRAINING.items()}
    # RESULTS.md: CPU-s an epoch of 9,000 tracks; 40 epochs at most, 5 folds of 2 members on 4 tracks of 5.
    fits = 40 * 5 * 2 * 0.8 * tracks / 9_000 / HOUR
    pairs = 219.0 * (tracks / 10_000) ** 2 * seconds / 30.0 / HOUR
    return frames | {"LSTM CPU-h": 5.99 * fits, "CNN CPU-h": 24.8 * fits, "near-duplicates CPU-h": pairs}


# measured runs beside simulated ones --------------------------------------------------------------------------------


class Run(NamedTuple):
    """A measured run. start_s: until its first worker was ready."""

    what: str
    hours: float
    workers: int
    start_s: float
    wall_s: float
    source: str


RUNS = [
    Run("mfcc", 10.01, 2, 14.9, 111.0, f"{_RESULTS}; the share of Ray is from this run"),
    Run("mfcc", 1.04, 2, 15.6, 32.0, _RESULTS),
    Run("mfcc", 20.01, 2, 11.8, 256.0, _RESULTS),
    Run("mfcc", 20.01, 2, 11.5, 208.0, f"{_RESULTS}, a second time"),
    Run("mfcc,vggish", 1.04, 2, 16.6, 75.0, _RESULTS),
    Run("mfcc,vggish", 20.01, 2, 15.1, 833.0, _RESULTS),
    Run("score", 3.12, 2, 15.0, 53.0, f"{_RESULTS}; the start is assumed"),
]


def replayed(run: Run, seed: int = 0) -> float:
    """Wall seconds of a measured run, simulated."""
    n = round(run.hours * HOUR / 217)  # the 35 soundtracks' mean
    seconds = durations(n, 217, seed, long_share=0.0)
    seconds *= run.hours * HOUR / seconds.sum()
    warm_s = WARM_S if "vggish" in run.what else 0.0
    cluster = Cluster(run.workers, start_s=run.start_s, warm_s=warm_s, spread=0.0, block_s=0.02)
    (cut,) = planned(seconds, run.workers)
    return simulate(cut, lambda block: core_s(run.what) * audio_s(block), cluster, seed).wall_s


def validate() -> list[dict[str, Any]]:
    """Each of `RUNS`: measured, simulated, and the error of that."""
    return [{**run._asdict(), "simulated_s": (s := replayed(run)), "error": s / run.wall_s - 1} for run in RUNS]


# memory of the command's process -------------------------------------------------------------------------------------

_MAKE = """
import sys
import pyarrow as pa
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace

place, n = sys.argv[1], int(sys.argv[2])
for start in range(0, n, 5_000):
    ids = [f"{(i * 0x9E3779B97F4A7C15) % 2**64:016x}" for i in range(start, min(n, start + 5_000))]
    m = len(ids)
    uris = [f"/shared/music/artist {i % 977}/album {i % 7919}/{i:08d} - a title.ogg" for i in range(start, start + m)]
    rows = [ids, uris, ["file"] * m, [4 * i for i in ids], [180.0] * m, [44_100] * m, [2] * m, [[]] * m, [None] * m]
    names = SCHEMAS["audio"].names
    table = pa.table(dict(zip(names, rows)), schema=SCHEMAS["audio"])
    Workspace(place).append("audio", table, str(start))
"""
_PLAN = """
import resource, sys, time
import mer_ray.stages.extract
from mer_ray.stages import blocks
from mer_ray.io.tables import Workspace

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

workspace, n = Workspace(sys.argv[1]), 0
workspace.names("audio")
for _ in workspace.batches("audio", ["track_id"]):
    break
base, began = peak(), time.process_time()
done = workspace.ids("audio")
ids, ids_s = peak(), time.process_time()
for rows in blocks.windows(workspace.batches("audio", ["track_id", "uri", "duration_s"])):
    n += len(list(blocks.by_duration(rows, rows["duration_s"].to_pylist(), 64, 180.0, 1800.0)))
print(base, ids - base, peak() - base, ids_s - began, time.process_time() - ids_s, n)
"""


def memory(n: int) -> dict[str, float]:
    """What `stages.extract` holds to plan n tracks: peaks in MB above the start, and CPU-s of each step."""
    with tempfile.TemporaryDirectory(prefix="mer-ray-bench-") as place:
        subprocess.run([sys.executable, "-c", _MAKE, place, str(n)], check=True)
        done = subprocess.run([sys.executable, "-c", _PLAN, place], capture_output=True, text=True, check=True)
    base, ids, everything, ids_s, plan_s, blocks = map(float, done.stdout.split())
    sizes = {"start MB": base / MB, "ids MB": ids / MB, "all MB": everything / MB}
    return {"tracks": n, **sizes, "ids CPU-s": ids_s, "plan CPU-s": plan_s, "blocks": blocks}


# what is printed ------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that count, or a dash."""
    if math.isnan(value):
        return "-"
    if value >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else "<0.01"


COLUMNS = ["stage", "core-h", "wall h", "busy", "lost h", "GB", "objects", "opened in", "$ on demand", "$ spot"]


def lines(found: list[Stage], workers: int, prices: Prices) -> list[list[str]]:
    """A row of texts for each stage, and their sum."""
    rows, sums = [], np.zeros(6)
    for s in found:
        money = [s.money(prices, spot, workers) for spot in (False, True)]
        sums += [s.cpu_h, s.wall_h, s.gb, s.objects, *money]
        figures = [s.cpu_h, s.wall_h, s.efficiency, s.lost_h, s.gb, s.objects]
        rows.append([s.name, *map(number, figures), f"{number(s.open_s)} s", *map(number, money)])
    cpu_h, wall_h, *rest = map(number, sums)
    return [*rows, ["together", cpu_h, wall_h, "-", "-", *rest[:2], "", *rest[2:]]]


def show(scenario: Scenario, cluster: Cluster, prices: Prices) -> None:
    """The table of one catalog, and what stands under it."""
    found = stages(scenario, cluster)
    title = f"{scenario.tracks:,} tracks of {scenario.minutes:g} min ({number(scenario.hours)} h)"
    common.show(f"{title}, {cluster.workers} workers", COLUMNS, lines(found, cluster.workers, prices))
    few = min(scenario.tracks, 20_000)
    days = asked(few, scenario.rate, scenario.answer_s) * scenario.tracks / few / 86_400
    answers_mb = MEASURED["answers"].value * scenario.tracks / MB
    gb = sum(s.gb for s in found)
    kept, taken = number(gb * prices.stored), number(gb * prices.egress)
    print(f"\nFrom Last.fm: {number(days)} days of questions, {number(answers_mb)} MB of answers (its terms: 100 MB).")
    print(f"In an object store: {kept} $ a month; taken out of the cloud once: {taken} $.")
    print(f"Memory of the command's own process: {number(driver_gb(scenario.tracks))} GB.")


def plot(place: Path) -> None:
    """Hours of a million tracks by the number of workers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    workers = [16, 64, 256, 1024]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for what, one_pool, style in (("mfcc,vggish", False, "^-"), ("mfcc", False, "o-"), ("mfcc", True, "s-")):
        scenario = Scenario(1_000_000, features=what, one_pool=one_pool)
        hours = [over_audio(scenario, Cluster(w, losses_per_h=0.05), what).wall_h for w in workers]
        label = f"{what}, {'one set of workers' if one_pool else 'workers anew for each pass'}"
        (line,) = axes.plot(workers, hours, style, markersize=4, label=label)
        if not one_pool:
            ideal = [scenario.hours * core_s(what) / w for w in workers]
            axes.plot(workers, ideal, ":", color=line.get_color(), linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="workers (cores)", ylabel="hours to extract 10⁶ tracks of 3 min")
    axes.set_xticks(workers, [str(w) for w in workers])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title("Spot nodes, 5 % lost an hour; dotted: no overhead at all", fontsize=9)
    figure.savefig(place, dpi=110, metadata={"Software": None})


def main() -> None:
    """Print the tables, or what else is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=lambda t: int(float(t)), nargs="+", default=[10_000, 1_000_000, 100_000_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 64, 1024], help="one for each of --tracks")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--features", default="mfcc", choices=["mfcc", "logmel", "vggish", "mfcc,vggish"])
    parser.add_argument("--batch-minutes", type=float, default=30.0)
    parser.add_argument("--hosts", type=int, default=20, help="that audio is downloaded from")
    parser.add_argument("--per-host", type=int, default=4, help="downloads at once from one")
    parser.add_argument("--losses", type=float, default=0.0, help="of a node of 16 cores, an hour (spot: 0.05)")
    parser.add_argument("--one-pool", action="store_true", help="as if one set of workers did all passes")
    for name, value in vars(Prices()).items():
        parser.add_argument(f"--{name}-price", type=float, default=value, metavar="$")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--memory", type=lambda t: int(float(t)), nargs="+", metavar="TRACKS")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    args = parser.parse_args()
    if args.validate:
        rows = [
            [r["what"], r["hours"], r["wall_s"], r["simulated_s"], f"{r['error']:+.0%}", r["source"]]
            for r in validate()
        ]
        common.show(
            "Measured and simulated", ["what", "h of audio", "measured s", "simulated s", "error", "from"], rows
        )
    elif args.memory:
        print(json.dumps([memory(n) for n in args.memory], indent=2))
    elif args.plot:
        plot(args.plot)
    else:
        prices = Prices(**{name: getattr(args, f"{name}_price") for name in vars(Prices())})
        workers = args.workers * len(args.tracks) if len(args.workers) == 1 else args.workers
        for tracks, n in zip(args.tracks, workers, strict=False):
            scenario = Scenario(tracks, args.minutes, args.features, args.batch_minutes, args.hosts, args.per_host)
            show(replace(scenario, one_pool=args.one_pool), Cluster(n, losses_per_h=args.losses), prices)


if __name__ == "__main__":
    main()
