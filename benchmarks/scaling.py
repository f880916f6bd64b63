"""Core-hours, wall hours, GB and objects of 10⁴, 10⁶ and 10⁸ tracks, from measured unit costs (docs/scaling.md).

    python benchmarks/scaling.py [--tracks 1e4 1e6 1e8] [--workers 16 64 1024] [--minutes 3] [--features mfcc] ...
    python benchmarks/scaling.py --busy                 # of more or fewer workers, some of them lost
    python benchmarks/scaling.py --training             # memory and CPU of a cross-validation
    python benchmarks/scaling.py --validate             # modelled beside measured runs
    python benchmarks/scaling.py --costs                # the unit costs

The unit costs are `MEASURED`. Catalogs of random durations are cut by the stages' own code (`mer_ray.io.plan`) into
blocks and their parts, and given in order to the worker that is free first. Workers are lost at random (Poisson): one
starts again, and its block goes to the next free worker without the parts that are committed. At most 1,000,000 tracks
are scheduled; larger catalogs are so many of these, one after the other. It takes some twenty seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import common
import numpy as np

common.one_thread()

GB, HOUR = 1e9, 3600.0


class Figure(NamedTuple):
    """A measured number, its unit and where it comes from."""

    value: float
    unit: str
    source: str


_RESULTS, _HERE = "RESULTS.md", "measured for docs/scaling.md"
MEASURED: dict[str, Figure] = {
    # CPU-seconds of one process with its decoder
    "mfcc": Figure(13.0, "CPU-s an hour of audio", f"{_RESULTS}: 12.2 to 14.2, Vorbis"),
    "logmel": Figure(14.3, "CPU-s an hour of audio", _RESULTS),
    "vggish": Figure(65.0, "CPU-s an hour of audio", f"{_RESULTS}: 65 x real time, and the decoder"),
    "mfcc,vggish": Figure(75.0, "CPU-s an hour of audio", f"{_RESULTS}: 1,500 CPU-s for 20.01 h"),
    "score": Figure(57.0, "CPU-s an hour of audio", f"{_RESULTS}: `default` 52, its measures 5; `light` 16 in all"),
    "ray": Figure(0.038, "of a worker's CPU", "added by Ray on 2 cores: fitted to the first row of `--validate`"),
    "collect": Figure(0.18e-3, "CPU-s a track", f"{_HERE}: 18.1 CPU-s for a manifest of 100,000"),
    "label": Figure(43e-6, "CPU-s a track", f"{_RESULTS}: `careful`, 1,000,000 tracks"),
    "acquire": Figure(80e-3, "CPU-s a track", f"{_HERE}: 79 local files checked and hashed, 6.3 CPU-s"),
    "plan": Figure(5e-6, "CPU-s a track", f"{_RESULTS}: planning `extract` of 10⁶, before the first block"),
    "block": Figure(6.0e-3, "CPU-s a block", f"{_HERE}: the command's process, 1,000 blocks of one part and of four"),
    "part": Figure(3.1e-3, "CPU-s a report", f"{_HERE}: the same; of each part, with over 64 workers of each block"),
    # bytes
    "media": Figure(19_700, "B a s of audio", f"{_HERE}: 79 soundtracks, Vorbis"),
    "features/mfcc": Figure(3_226, "B a s of audio", _HERE),
    "features/logmel": Figure(20_052, "B a s of audio", _HERE),
    "features/vggish": Figure(503, "B a s of audio", _HERE),
    "scores": Figure(11.6, "B a s of audio", _HERE),
    "shard": Figure(10_000, "B a shard", f"{_HERE}: `scores` of no rows"),
    "tracks": Figure(62, "B a track", f"{_HERE}: a manifest with 3.5 tags a track"),
    "labels": Figure(1_100, "B a track", "docs/how-to/lastfm.md: 10 MB for 9,000, an estimate"),
    "audio": Figure(66, "B a track", _HERE),
    "lastfm": Figure(1_900, "B a track", f"{_RESULTS}: 100 tags, gzip"),
    "driver": Figure(
        110, "B a track", f"{_RESULTS}: planning `extract` of 10⁵ and 10⁶ tracks, peak; 290 MB at the start"
    ),
}
END_S = 3.5
"""That the command takes to be loaded and, after the last block, to end Ray."""
START_S = 15.0
"""Until a worker is ready, after Ray is asked for it; RESULTS.md has 12 to 17."""
VGGISH_S = 7.5
"""That VGGish's first block takes longer: 1.8 CPU-s to load and 5 to 6 to compile (RESULTS.md)."""
WRITE_S, GET_S, LIST_S, IO_THREADS = 0.1, 0.03, 0.1, 8
"""Of an object store, assumed: s to write a shard, of a small GET, of a LIST of 1,000 names; pyarrow's threads."""
FOUND_S = 30.0
"""Until a lost machine is known to be lost, assumed: Ray asks several times."""
LASTFM_PER_S = 4.1
"""Requests to Last.fm, measured at `collect.requests_per_s` 5 and 0.2 s a response."""
FRAMES = {"mfcc": 3_446, "logmel": 22_053, "vggish": 530}
"""Bytes of float32 frames in memory per second of audio."""

SD = 0.63
"""Of the logarithm of durations: 79 real soundtracks over 30 s (Debian's wesnoth and supertuxkart), mean 150 s."""
LONG_SHARE, LONG_S = 1e-4, 36_000.0
"""One track in 10,000 is ten hours long: a mix, an audiobook, a mistake."""


@dataclass(frozen=True)
class Scenario:
    """A catalog and the settings it is processed with.

    lost: share of the workers lost an hour. file_s: s a download takes. sample: tracks scheduled at most.
    """

    tracks: int
    workers: int
    minutes: float = 3.0
    features: str = "mfcc"
    batch_minutes: float = 60.0
    lost: float = 0.05
    hosts: int = 20
    per_host: int = 4
    file_s: float = 2.0
    sample: int = 1_000_000

    @property
    def hours(self) -> float:
        """Of audio."""
        return self.tracks * self.minutes / 60


class Stage(NamedTuple):
    """What a stage takes. busy: share of the workers' time that is work. shards: Parquet files it writes."""

    name: str
    core_h: float
    wall_h: float
    busy: float
    gb: float
    shards: int

    @property
    def open_s(self) -> float:
        """Seconds to read one column of its table from an object store: a footer and a column chunk a shard."""
        return -(-self.shards // 1000) * LIST_S + 2 * self.shards * GET_S / IO_THREADS


def durations(n: int, mean_s: float, long_share: float = LONG_SHARE) -> np.ndarray:
    """Seconds of n tracks, (n,): lognormal with a mean of ``mean_s``, at least 1 s, and a few of ten hours."""
    rng = np.random.default_rng(0)
    seconds = np.maximum(1.0, rng.lognormal(math.log(mean_s) - SD**2 / 2, SD, n))
    seconds[rng.random(n) < long_share] = LONG_S
    return seconds


@lru_cache
def cut(n: int, mean_s: float, workers: int, batch_minutes: float, long_share: float = LONG_SHARE) -> list[np.ndarray]:
    """Seconds of audio of each part of each block, in the order in which `extract` and `score` hand them out."""
    import pyarrow as pa

    from mer_ray.io import plan
    from mer_ray.stages import extract

    part = 60 * batch_minutes
    rows = pa.table({"track_id": np.arange(n), "planned": durations(n, mean_s, long_share)})
    with plan.Work([rows]) as work:
        blocks = work.blocks(workers, plan.Sizes(extract.SMALLEST_S, part, extract.LARGEST * part))
        return [np.array([np.sum(p["planned"].to_numpy()) for p in plan.parts(block, part)]) for block in blocks]


def schedule(
    blocks: Sequence[np.ndarray], workers: int, start_s: float = START_S, plan_s: float = 0.0, lost: float = 0.0
) -> float:
    """Seconds until the last block is done, each given to the worker that is free first, one after the other.

    blocks: core-seconds of the parts of each. lost: share of the workers lost an hour.
    """
    from mer_ray.stages.task import FEW

    rng = np.random.default_rng(0)
    end = rng.exponential(HOUR / lost, workers) if lost else np.full(workers, np.inf)  # of each worker
    free = [(plan_s + start_s, worker) for worker in range(workers)]
    again: list[tuple[float, int, np.ndarray]] = []  # since when a block is known to be lost, a number, its rest
    todo, now, last, n_lost = iter(blocks), plan_s, plan_s + start_s, 0
    following = next(todo, None)
    while following is not None or again:
        at, worker = heapq.heappop(free)
        while end[worker] < at:  # while it had nothing to do
            end[worker] += rng.exponential(HOUR / lost)
        if again and (following is None or again[0][0] <= at):
            known, _, block = heapq.heappop(again)
            at = max(at, known)
        else:
            block, following = following, next(todo, None)
        now = max(now, at) + MEASURED["block"].value + MEASURED["part"].value * (len(block) if workers <= FEW else 1)
        done = now + np.cumsum(block)
        if end[worker] < done[-1]:
            n_lost += 1
            heapq.heappush(again, (end[worker] + FOUND_S, n_lost, block[done > end[worker]]))
            heapq.heappush(free, (end[worker] + start_s, worker))
            end[worker] += rng.exponential(HOUR / lost)
        else:
            heapq.heappush(free, (float(done[-1]), worker))
            last = max(last, float(done[-1]))
    return last


def per_second(what: str) -> float:
    """Core-seconds that a second of audio takes under Ray."""
    return MEASURED[what].value * (1 + MEASURED["ray"].value) / HOUR


def over_audio(scenario: Scenario, what: str) -> Stage:
    """`extract` of some features, or `score` from audio."""
    n = min(scenario.tracks, scenario.sample)
    blocks = cut(n, 60 * scenario.minutes, scenario.workers, scenario.batch_minutes)
    todo = [per_second(what) * seconds + WRITE_S for seconds in blocks]
    start_s = START_S + VGGISH_S * ("vggish" in what)
    work_s = sum(float(block.sum()) for block in todo)
    wall_s = schedule(todo, scenario.workers, start_s, MEASURED["plan"].value * n, scenario.lost)
    times = scenario.tracks / n
    tables = ["scores"] if what == "score" else [f"features/{name}" for name in what.split(",")]
    shards = round(times * sum(map(len, blocks))) * len(tables)
    size = sum(MEASURED[t].value for t in tables) * scenario.hours * HOUR
    size += MEASURED["shard"].value * shards * (what == "score")
    name, busy = what if what == "score" else f"extract {what}", work_s / (scenario.workers * wall_s)
    return Stage(name, times * work_s / HOUR, times * wall_s / HOUR, busy, size / GB, shards)


def stages(scenario: Scenario) -> list[Stage]:
    """Each stage of a catalog whose audio is listed in a manifest, from its list to its scores."""
    from mer_ray.audio import acquisition
    from mer_ray.io import buffer, changes
    from mer_ray.stages import label

    n, found = scenario.tracks, []
    for name, table, rows in (("collect", "tracks", changes.BATCH), ("label", "labels", label.SHARD_ROWS)):
        core_h = MEASURED[name].value * n / HOUR
        found.append(Stage(name, core_h, core_h, math.nan, MEASURED[table].value * n / GB, -(-n // rows)))
    core_h = MEASURED["acquire"].value * n / HOUR
    in_flight = min(scenario.hosts * scenario.per_host, acquisition.THREADS * scenario.workers)
    wall_h = max(scenario.file_s * n / in_flight / HOUR, core_h / scenario.workers)
    size = MEASURED["media"].value * scenario.hours * HOUR + MEASURED["audio"].value * n
    found.append(Stage("acquire", core_h, wall_h, math.nan, size / GB, -(-n // buffer.COMMIT_ROWS)))
    return [*found, over_audio(scenario, scenario.features), over_audio(scenario, "score")]


BUSY = [(64, 0.05), (256, 0.05), (1024, 0.0), (1024, 0.05), (1024, 0.2), (2048, 0.05)]
BUSY_COLUMNS = ["workers", "lost an hour", "blocks", "shards", "wall h", "busy"]


def busy(workers: int, lost: float, tracks: int = 1_000_000) -> list[str]:
    """A row of `BUSY_COLUMNS`: MFCC of tracks of 3 minutes."""
    scenario = Scenario(tracks, workers, lost=lost)
    found, blocks = over_audio(scenario, "mfcc"), cut(tracks, 180.0, workers, scenario.batch_minutes)
    return [f"{workers:,}", f"{lost:.0%}", *map(number, (len(blocks), found.shards, found.wall_h, found.busy))]


def training(tracks: int, seconds: float) -> dict[str, float]:
    """Labelled tracks of so many seconds → GB of frames by feature, and CPU-h of a cross-validation's parts."""
    frames = {f"{name} GB": size * seconds * tracks / GB for name, size in FRAMES.items()}
    # RESULTS.md: CPU-s an epoch of 9,000 tracks; 40 epochs at most, 5 folds of 2 members on 4 tracks of 5.
    fits = 40 * 5 * 2 * 0.8 * tracks / 9_000 / HOUR
    pairs = 219.0 * (tracks / 10_000) ** 2 * seconds / 30.0 / HOUR
    return frames | {"LSTM CPU-h": 5.99 * fits, "CNN CPU-h": 24.8 * fits, "near-duplicates CPU-h": pairs}


TRAINED = [(10_000, 30), (10_000, 180), (20_000, 180), (100_000, 180)]


# measured runs beside modelled ones ---------------------------------------------------------------------------------


class Run(NamedTuple):
    """A measured run on 2 workers. start_s: until its first block began. alone: CPU-s an hour without Ray, then."""

    what: str
    hours: float
    start_s: float
    wall_s: float
    alone: float

    def modelled_s(self) -> float:
        """Wall seconds of it by the model: tracks of 217 s, the mean of the 35 soundtracks."""
        blocks = cut(round(self.hours * HOUR / 217), 217, 2, 60.0, 0.0)
        per_s = self.alone * (1 + MEASURED["ray"].value) * self.hours / sum(float(block.sum()) for block in blocks)
        return schedule([per_s * block + 0.02 for block in blocks], 2, self.start_s) + END_S


RUNS = [  # from RESULTS.md
    Run("mfcc", 20.02, 8.1, 85.8, 7.14),
    Run("mfcc", 5.02, 7.9, 30.2, 7.14),
    Run("mfcc", 1.03, 10.1, 21.3, 7.14),
    Run("mfcc", 20.02, 8.1, 87.7, 6.99),
    Run("mfcc", 20.02, 8.0, 88.6, 6.84),
]


# what is printed ------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, or a dash."""
    if math.isnan(value):
        return "-"
    if value >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.3g}" if value >= 0.01 or value == 0 else "<0.01"


def lines(found: list[Stage]) -> list[list[str]]:
    """A row of texts for each stage, and their sum."""
    rows = [[s.name, *map(number, (s.core_h, s.wall_h, s.busy, s.gb, s.shards, s.open_s))] for s in found]
    core_h, wall_h, gb, shards = (sum(getattr(s, name) for s in found) for name in ("core_h", "wall_h", "gb", "shards"))
    return [*rows, ["together", number(core_h), number(wall_h), "-", number(gb), number(shards), "-"]]


def show(scenario: Scenario) -> None:
    """The table of one catalog, and what else grows with it."""
    title = f"{scenario.tracks:,} tracks of {scenario.minutes:g} min ({number(scenario.hours)} h)"
    columns = ["stage", "core-h", "wall h", "busy", "GB", "shards", "opened in, s"]
    common.show(f"{title}, {scenario.workers} workers", columns, lines(stages(scenario)))
    days, mb = scenario.tracks / LASTFM_PER_S / 86_400, MEASURED["lastfm"].value * scenario.tracks / 1e6
    print(f"\nFrom Last.fm: {number(days)} days of requests, {number(mb)} MB of responses (its terms: 100 MB).")
    planned = min(scenario.tracks, scenario.sample)
    print(f"Memory of the command: {number(0.29 + MEASURED['driver'].value * planned / GB)} GB.")


def main() -> None:
    """Print the tables of catalogs, or what else is asked for."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=float, nargs="+", default=[1e4, 1e6, 1e8])
    parser.add_argument("--workers", type=int, nargs="+", default=[16, 64, 1024], help="one for each of --tracks")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--features", default="mfcc", choices=["mfcc", "logmel", "vggish", "mfcc,vggish"])
    parser.add_argument("--batch-minutes", type=float, default=60.0)
    parser.add_argument("--lost", type=float, default=0.05, help="share of the workers lost an hour")
    parser.add_argument("--hosts", type=int, default=20, help="that audio is downloaded from")
    parser.add_argument("--per-host", type=int, default=4, help="concurrent downloads from one")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--costs", action="store_true")
    args = parser.parse_args()
    if args.training:
        found = [[f"{n:,}", seconds, *map(number, training(n, seconds).values())] for n, seconds in TRAINED]
        common.show("Training", ["tracks", "s", *training(1, 1.0)], found)
    elif args.busy:
        common.show("Extracting MFCC from 10⁶ tracks", BUSY_COLUMNS, [busy(*case) for case in BUSY])
    elif args.validate:
        times = [(run, run.modelled_s()) for run in RUNS]
        rows = [[r.what, f"{r.hours:.2f}", round(r.wall_s), round(s), f"{s / r.wall_s - 1:+.0%}"] for r, s in times]
        common.show("Measured and modelled", ["what", "h of audio", "measured s", "modelled s", "error"], rows)
    elif args.costs:
        common.show("Unit costs", ["what", "value", "unit", "from"], [[k, *f] for k, f in MEASURED.items()])
    else:
        for tracks, workers in zip(args.tracks, args.workers, strict=len(args.workers) > 1):
            settings = (args.minutes, args.features, args.batch_minutes, args.lost, args.hosts, args.per_host)
            show(Scenario(int(tracks), workers, *settings))


if __name__ == "__main__":
    main()
