"""A cluster of several nodes on this machine: faults in every stage, one node against two, and what a cluster costs.

    python benchmarks/cluster.py chaos --repeats 10      (3-5 minutes a repetition on 2 cores)
    python benchmarks/cluster.py scale --repeats 3       (about 15 minutes)

Nodes are raylets in network namespaces (tests/clusters.py; needs root and `ip`). For ``scale`` each has a core of its
own, so the machine needs two that nothing else uses.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
FEATURES = "mfcc,logmel,chroma,spectral"
NETWORKS = "kernel,lstm"


def chaos(repeats: int, first_seed: int, folder: Path) -> dict[str, Any]:
    """The whole pipeline with a fault in every stage, against a run without."""
    from chaos import STAGES, Storm, catalogue, differences, undisturbed
    from clusters import Cluster

    from mer_ray.io.tables import Workspace

    manifest, rows, results = catalogue(folder), [], []
    with Cluster(2) as cluster:
        began = time.monotonic()
        seconds = undisturbed(cluster, manifest, folder / "calm", NETWORKS)
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        for seed in range(first_seed, first_seed + repeats):
            storm = Storm(cluster, manifest, folder / f"storm-{seed}", seconds, seed, NETWORKS)
            try:
                storm.run()
                found = differences(Workspace(folder / "calm"), Workspace(storm.workspace))
                found += [f"a job failed by itself: {log[-300:]}" for log in storm.unexpected]
            except AssertionError as error:
                found = [str(error)[-2000:]]
            verdict = "; ".join(found) or "the same"
            struck = (storm.struck.get(s, "too quick") for s in STAGES)
            rows.append([seed, *struck, storm.accidents, storm.submissions, storm.wall_s, verdict])
            results.append({"seed": seed, "struck": storm.struck, "wall_s": storm.wall_s, "differences": found})
            print(rows[-1], flush=True)
            shutil.rmtree(storm.workspace, ignore_errors=not found)
    common.show("Chaos", ["seed", *STAGES, "other nodes lost", "submissions", "wall s", "tables"], rows)
    return {"chaos": results, "undisturbed_s": seconds}


class Meter(threading.Thread):
    """CPU seconds of the cluster's processes, by stage and by whose they are: the job's driver, workers, Ray's own."""

    def __init__(self, cluster: Any, job: Any) -> None:
        super().__init__(daemon=True)
        self.cluster, self.job, self.over = cluster, job, threading.Event()
        self.cpu_s: Counter[tuple[str, str]] = Counter()

    def run(self) -> None:
        from chaos import STAGES, durations
        from clusters import commands

        last: dict[tuple[int, float], float] = {}
        while not self.over.wait(0.25):
            done = durations(self.job.log())
            stage = next((s for s in STAGES if s not in done), STAGES[-1])
            for node in self.cluster.nodes:
                for process, command in commands(node.pids()):
                    with suppress(Exception):  # it has just ended
                        used = process.cpu_times()
                        total, key = used.user + used.system, (process.pid, process.create_time())
                        self.cpu_s[stage, _whose(command)] += total - last.get(key, 0.0 if last else total)
                        last[key] = total


def _whose(command: list[str]) -> str:
    if any(part.startswith("jobs/") for part in command):
        return "driver"
    works = command[0].startswith("ray::") and not command[0].endswith(("Agent", "Supervisor"))
    return "workers" if works or "decode" in " ".join(command) else "ray"


def long_catalogue(folder: Path, rows: int, tunes: int = 12, seconds: float = 90.0) -> Path:
    """A manifest of many tracks that share a few files: the work of hours of audio, the disk of minutes."""
    from conftest import write_tunes

    paths = write_tunes(folder / "music", tunes, seconds)
    manifest = folder / "music" / "manifest.csv"
    with manifest.open("w", newline="") as file:
        lines = [[paths[i % tunes].name, f"Artist {i // 2}", f"Tune {i}"] for i in range(rows)]
        csv.writer(file).writerows([["path", "artist", "title"], *lines])
    return manifest


def scale(repeats: int, tracks: int, folder: Path) -> dict[str, Any]:
    """Extraction on one node and on two, in turn, each node on a core of its own."""
    import re

    from clusters import Cluster

    manifest = long_catalogue(folder, tracks)
    options = common.sets("collect.source=manifest", f"collect.manifest={manifest}", f"extract.features={FEATURES}")
    times: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for turn in range(repeats):
        for n in (1, 2):
            with Cluster(n, pin=True) as cluster:
                workspace = folder / f"{turn}-{n}"
                for stage in ("collect", "acquire", "extract"):
                    job = cluster.submit("python", f"jobs/{stage}.py", "--workspace", str(workspace), *options)
                    assert job.wait(900) == "SUCCEEDED", job.log()
                log = job.log()
                total = float(re.findall(r"^extract .* · ([\d.]+) s$", log, re.MULTILINE)[0])
                work = float(re.findall(r"h of audio in ([\d.]+) s", log)[0])
                times[n].append((work, total))
                print(n, work, total, flush=True)
                shutil.rmtree(workspace)
    rows = []
    for part, name in ((0, "from the first worker's start to the end"), (1, "the whole stage")):
        one, two = (statistics.median(t[part] for t in times[n]) for n in (1, 2))
        rows.append([name, one, two, one / two])
    hours = tracks * 90 / 3600
    common.show(
        f"Extraction of {hours:.1f} h of audio ({FEATURES}), median of {repeats}, s",
        ["", "1 node", "2 nodes", "speed-up"],
        rows,
    )
    return {"scale": times}


def overhead(folder: Path) -> dict[str, Any]:
    """Where the time of a small run goes, stage by stage, on two nodes."""
    from chaos import STAGES, catalogue, durations, submit
    from clusters import Cluster

    with Cluster(2) as cluster:
        job = submit(cluster, catalogue(folder), folder / "calm", NETWORKS)
        meter = Meter(cluster, job)
        meter.start()
        assert job.wait(900) == "SUCCEEDED", job.log()
        meter.over.set()
        meter.join()
        wall = durations(job.log())
    rows = [[s, wall[s], *(meter.cpu_s[s, whose] for whose in ("driver", "workers", "ray"))] for s in STAGES]
    common.show(
        "25 tracks of 20 s on 2 nodes, s (collect: with the driver's start)",
        ["stage", "wall", "CPU of the driver", "CPU of the workers", "CPU of Ray itself"],
        rows,
    )
    return {"overhead": rows}


def main() -> None:
    """Run what is asked for, print its table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("what", choices=("chaos", "scale", "overhead"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first repetition")
    parser.add_argument("--tracks", type=int, default=160, help="of scale, 90 s each")
    options = parser.parse_args()
    common.one_thread()
    with tempfile.TemporaryDirectory(prefix="mer-ray-cluster-") as name:
        folder = Path(name)
        if options.what == "chaos":
            figures = chaos(options.repeats, options.seed, folder)
        elif options.what == "scale":
            figures = scale(options.repeats, options.tracks, folder)
        else:
            figures = overhead(folder)
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
