"""`mer-ray extract` against the same functions in a process pool: wall time, CPU, memory, from 1 to 20 hours of audio.

    python benchmarks/extract.py --music FOLDER [--hours 1,10,20] [--features mfcc,vggish] [--weights PATH]
                                 [--ten-hours FOLDER] [--json FILE]

The soundtracks under FOLDER are listed as often as it takes to fill the hours, each time under another name. The last
of the sizes is also done by the pool, which has as many processes as the machine has cores; each makes the very worker
that Ray's actors make, and writes the same shards. Without --weights, VGGish's are random ones that the script makes:
speed does not depend on their values.

Bars (2 cores): MFCC and VGGish together at most 1.10 x the pool's wall time, start-up included; MFCC alone at most
1.10 x after Ray's start-up; twice the audio at most 2.1 x the CPU; peak memory flat, under 1.5 GiB a worker. 20 hours
of both features take about 20 minutes, MFCC alone 6.

--ten-hours FOLDER: also one file of 10 hours (WAV, 8 kHz noise, made there), beside one of 3 minutes.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import common
import psutil

MIB = 1 << 20


class Watched:
    """A command and all that it starts: wall and CPU seconds, and the largest memory of a worker with its decoder."""

    def __init__(self, command: list[str], alone: bool = False) -> None:
        self.alone = alone  # the command itself is the worker
        self.cpu: dict[int, float] = {}
        self.peak_mib = 0.0
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.root = psutil.Process(process.pid)
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,))
        watch.start()
        self.output = process.communicate()[0]
        self.wall_s = time.perf_counter() - started
        ended.set()
        watch.join()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{self.output}")
        self.cpu_s = sum(self.cpu.values())

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.25):
            memory: dict[int, float] = {}
            for process, line in common.family(self.root, self.cpu):
                is_decoder = "mer_ray.audio" in line
                is_alone = self.alone and process == self.root
                if (
                    is_decoder
                    or is_alone
                    or any(kind in line for kind in ("_Extract", "MapWorker", "MapBatches", "spawn_main"))
                ):
                    with suppress(psutil.Error):
                        owner = process.ppid() if is_decoder else process.pid
                        memory[owner] = memory.get(owner, 0.0) + process.memory_full_info().uss / MIB
            self.peak_mib = max([self.peak_mib, *memory.values()])


def manifest(files: list[tuple[Path, float]], hours: float, target: Path) -> float:
    """A manifest of so many hours; returns the hours that it has."""
    seconds, copy = 0.0, 0
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "artist", "title"])
        while seconds < 3600 * hours:
            path, length = files[copy % len(files)]
            writer.writerow([path.resolve(), f"Copy {copy // len(files)}", path.stem])
            seconds, copy = seconds + length, copy + 1
    return seconds / 3600


def prepared(work: Path, name: str, listed: Path) -> Path:
    """A workspace that has its audio."""
    workspace = work / name
    for stage in ("collect", "acquire"):
        settings = common.sets("collect.source=manifest", f"collect.manifest={listed}")
        common.mer_ray(stage, "--workspace", workspace, *settings)
    return workspace


def settings(features: str, weights: Path | None, listed: Path) -> list[str]:
    """The options of extract, by Ray and by the pool."""
    chosen = ["collect.source=manifest", f"collect.manifest={listed}", f"extract.features={features}"]
    if "vggish" in features:
        chosen.append(f"extract.vggish.weights={weights}")
    return common.sets(*chosen)


def by_ray(workspace: Path, options: list[str]) -> dict[str, Any]:
    """``mer-ray extract``, as a user types it."""
    ran = Watched([sys.executable, "-m", "mer_ray", "extract", "--workspace", str(workspace), *options])
    line = next(line for line in ran.output.splitlines() if "after the start" in line)
    start_s = float(line.split(" s after the start")[0].split()[-1])
    return {"wall_s": ran.wall_s, "start_s": start_s, "cpu_s": ran.cpu_s, "worker_mib": ran.peak_mib}


def by_pool(workspace: Path, options: list[str]) -> dict[str, Any]:
    """The same worker in a pool of processes."""
    ran = Watched([sys.executable, __file__, "--pool", str(workspace), *options])
    start_s = float(ran.output.split("ready after ")[1].split()[0])
    return {"wall_s": ran.wall_s, "start_s": start_s, "cpu_s": ran.cpu_s, "worker_mib": ran.peak_mib}


_worker: Any = None
_ready = 0.0


def _start(arguments: dict[str, Any]) -> None:
    from mer_ray.stages.extract import _Extract

    global _worker, _ready
    _worker, _ready = _Extract(**arguments), time.time()


def _work(rows: Any) -> tuple[int, float]:
    return _worker(rows).made, _ready


def pool(workspace_path: str, options: list[str]) -> None:
    """What the pool's command does: `stages.extract` with multiprocessing instead of Ray."""
    from mer_ray import config as configs
    from mer_ray.console import Summary
    from mer_ray.io.tables import Workspace
    from mer_ray.stages import extract, plan

    started = time.time()
    config = configs.load(None, [o for o in options if o != "--set"])
    workspace, specs = Workspace(workspace_path), list(extract.check(config).values())
    part, n = 60 * config.extract.batch_minutes, os.cpu_count() or 1
    with plan.Work(extract.lacking(config, workspace, specs, Summary("extract"))) as work:
        blocks = list(work.blocks(n, plan.Sizes(extract.SMALLEST_S, part, extract.LARGEST * part)))
    arguments = {
        "workspace": workspace,
        "specs": [s.to_json() for s in specs],
        "min_duration_s": config.extract.min_duration_s,
        "gpus": 0.0,
    }
    common.one_thread()
    context = multiprocessing.get_context("spawn")
    with context.Pool(n, _start, (arguments,)) as workers:
        parts = [rows for block in blocks for rows in plan.parts(block, part)]
        made, ready = zip(*workers.imap_unordered(_work, parts), strict=True)
        workers.close()
        workers.join()
    print(f"{sum(made)} made, ready after {min(ready) - started:.2f} s")


def same(a: Path, b: Path, feature: str) -> bool:
    """Whether both made the same bits."""
    from mer_ray.io.schemas import features_table
    from mer_ray.io.tables import Workspace

    tables = [Workspace(w).read(features_table(feature)).sort_by("track_id") for w in (a, b)]
    return len(tables[0]) > 0 and bool(tables[0].equals(tables[1]))


def random_weights(target: Path) -> Path:
    """VGGish's arrays with random numbers."""
    from safetensors.numpy import save_file

    from mer_ray.features.vggish_network import random_weights

    save_file(random_weights(0), target)
    return target


def sizes(args: Any, work: Path, features: str, weights: Path | None) -> dict[str, Any]:
    """Each size by Ray, and the last also by the pool."""
    files = common.soundtracks(args.music)
    figures: dict[str, Any] = {}
    for hours in args.hours:
        listed = work / f"{features}-{hours:g}.csv"
        real = manifest(files, hours, listed)
        options = settings(features, weights, listed)
        workspace = prepared(work, f"ray-{features}-{hours:g}", listed)
        figures[f"{hours:g}"] = {"hours": real, "ray": by_ray(workspace, options)}
        if hours == args.hours[-1]:
            other = prepared(work, f"pool-{features}-{hours:g}", listed)
            figures[f"{hours:g}"] |= {"pool": by_pool(other, options)}
            figures[f"{hours:g}"]["same"] = all(same(workspace, other, f) for f in features.split(","))
    return figures


def table(features: str, figures: dict[str, Any]) -> None:
    """Print what `sizes` measured."""
    rows = []
    for size in figures.values():
        for who in ("pool", "ray"):
            if who in size:
                f = size[who]
                speed = 3600 * size["hours"] / (f["wall_s"] - f["start_s"])
                rows.append(
                    [f"{size['hours']:.2f}", who, f["wall_s"], f["start_s"], speed, f["cpu_s"], f["worker_mib"]]
                )
    columns = ["hours of audio", "by", "wall s", "of that start-up s", "x real time after it", "CPU s", "MiB a worker"]
    common.show(features, columns, rows)
    *smaller, full = figures.values()
    ray, other = full["ray"], full["pool"]
    print(f"\nray / pool, wall: {ray['wall_s'] / other['wall_s']:.3f} in all,", end=" ")
    print(f"{(ray['wall_s'] - ray['start_s']) / (other['wall_s'] - other['start_s']):.3f} after each one's start-up")
    for size in smaller:
        times, cpu = full["hours"] / size["hours"], ray["cpu_s"] / size["ray"]["cpu_s"]
        print(f"{times:.2f} times the audio costs {cpu:.3f} times the CPU")
    print(f"the same bits by both: {full['same']}")


def ten_hours(work: Path) -> dict[str, Any]:
    """One file of 10 hours, and one of 3 minutes: MFCC in one process, no Ray."""
    import numpy as np
    import soundfile

    figures = {}
    noise = (np.random.default_rng(0).standard_normal(8_000 * 60) * 0.1).astype(np.float32)
    for name, minutes in (("3-minutes", 3), ("10-hours", 600)):
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(folder / f"{name}.wav", "w", 8_000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(noise)
        options = common.sets("collect.source=folder", f"collect.folder={folder}", "extract.features=mfcc")
        for stage in ("collect", "acquire"):
            common.mer_ray(stage, "--workspace", folder / "w", *options)
        command = [sys.executable, "-m", "mer_ray", "extract", "--workspace", str(folder / "w"), *options]
        ran = Watched(command, alone=True)
        figures[name] = {"wall_s": ran.wall_s, "cpu_s": ran.cpu_s, "mib": ran.peak_mib, "output": ran.output}
    return figures


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--pool"]:
        pool(sys.argv[2], sys.argv[3:])
        return
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--hours", type=lambda text: sorted(map(float, text.split(","))), default=[1.0, 10.0, 20.0])
    parser.add_argument("--features", default="mfcc,vggish")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--ten-hours", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mer-ray-bench-") as temporary:
        work = Path(temporary)
        weights = args.weights
        if "vggish" in args.features and weights is None:
            weights = random_weights(work / "vggish.safetensors")
        figures[args.features] = sizes(args, work, args.features, weights)
        table(args.features, figures[args.features])
        if args.ten_hours:
            figures["ten_hours"] = ten_hours(args.ten_hours)
            print(json.dumps(figures["ten_hours"], indent=2))
    common.save(args.json, figures)


if __name__ == "__main__":
    main()
