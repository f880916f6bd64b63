"""A night's run in small: 100,000 short synthetic tracks through `extract` and `score`, watched all the while.

    python benchmarks/soak.py [--tracks 100000] [--seconds 1.5] [--keep FOLDER]

What must not grow: the memory of the command and of its workers, and their open files. What must not fall: the rate.
The machine's other load cannot be controlled, so the rate is shown in tracks a CPU-second of all of Ray's and our
processes as well, and beside it what the same small piece of work cost the watcher meanwhile, in CPU-ms: where that
rises, a CPU-second has become worth less. Quarters are of the tracks, not of the time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

common.one_thread()

RATE = 16_000
FILES = 500  # a folder


def music(folder: Path, tracks: int, seconds: float) -> list[dict[str, Any]]:
    """Writes so many different chords as WAV; returns rows of ``audio``."""
    import numpy as np
    import soundfile

    t = np.arange(int(seconds * RATE)) / RATE
    tones = np.sin(2 * np.pi * 55 * 2 ** (np.arange(60) / 12)[:, None] * t).astype(np.float32)
    rows = []
    for n in range(tracks):
        path = folder / f"{n // FILES:04d}" / f"{n:06d}.wav"
        if n % FILES == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            rng = np.random.default_rng(n)
            chord = (rng.uniform(0.02, 0.1, 5)[:, None] * tones[rng.choice(60, 5, replace=False)]).sum(0)
            soundfile.write(path, chord * (0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(0.5, 4) * t)), RATE)
        about = {"provider": "file", "sha256": f"{n:064x}", "duration_s": len(t) / RATE, "sample_rate": RATE}
        about |= {"channels": 1, "tried": [], "spotify_id": None, "decoded_share": 1.0}
        rows.append({"track_id": f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}", "uri": str(path), **about})
    return rows


def reference() -> float:
    """CPU-ms that a fixed piece of work takes now."""
    import numpy as np

    began = time.process_time()
    for _ in range(20):
        np.fft.rfft(np.ones(1 << 15, np.float32))
    return 1e3 * (time.process_time() - began)


def watch(command: list[str], counted: Path, expected: int, every_s: float) -> list[dict[str, float]]:
    """Runs it to its end: a sample every so often of what is done and what the processes take."""
    import psutil
    import pyarrow.parquet as pq

    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    cpu: dict[int, float] = {}
    known: dict[str, int] = {}
    samples: list[dict[str, float]] = []
    while True:
        ended = process.poll() is not None
        sample = {"s": time.monotonic() - started, "driver_mb": 0.0, "workers_mb": 0.0, "ray_mb": 0.0}
        sample |= {"driver_files": 0.0, "worker_files": 0.0, "workers": 0.0}
        most = 0.0
        for p, title in () if ended else common.family(psutil.Process(process.pid), cpu):
            try:
                memory, files = p.memory_full_info().uss / 1e6, p.num_fds()
            except psutil.Error:
                continue
            if p.pid == process.pid:
                sample |= {"driver_mb": memory, "driver_files": files}
            elif title.startswith("ray::") and "IDLE" not in title:
                most = max(most, memory)
                sample["workers"] += 1
                sample["worker_files"] = max(sample["worker_files"], files)
            else:
                sample["ray_mb"] += memory
        sample |= {"workers_mb": most, "reference_ms": reference()}
        for shard in counted.glob("part-*.parquet") if counted.is_dir() else ():
            if shard.name not in known:
                known[shard.name] = pq.read_metadata(shard).num_rows
        samples.append({**sample, "done": float(sum(known.values())), "cpu_s": sum(cpu.values())})
        if ended:
            break
        time.sleep(every_s)
    assert process.stderr is not None
    printed = process.stderr.read().decode()
    if process.returncode or samples[-1]["done"] != expected:
        sys.exit(f"{command[3]} ended with {process.returncode}, {samples[-1]['done']:,.0f} rows: {printed[-2000:]}")
    return samples


def quarters(samples: list[dict[str, float]]) -> list[list[object]]:
    """A row for each quarter of the tracks that were done after the first shards had come."""
    import numpy as np

    busy = [s for s in samples[:-1] if s["done"] and s["workers"]]
    total = busy[-1]["done"] - busy[0]["done"]
    out: list[list[object]] = []
    for k in range(4):
        low, high = busy[0]["done"] + total * k / 4, busy[0]["done"] + total * (k + 1) / 4
        own = [s for s in busy if low <= s["done"] <= high]
        if len(own) < 2:
            continue
        first, last = own[0], own[-1]
        n, wall, cpu = (last[c] - first[c] for c in ("done", "s", "cpu_s"))
        means = [float(np.median([s[c] for s in own])) for c in ("driver_mb", "workers_mb", "ray_mb")]
        means.append(float(np.median([s["reference_ms"] for s in own])))
        files = [int(max(s[c] for s in own)) for c in ("driver_files", "worker_files")]
        out.append([k + 1, float(n / wall), float(n / max(cpu, 1e-9)), *means, *files])
    return out


def main() -> None:
    """Print the tables."""
    parser = common.arguments(__doc__, music=False)
    parser.add_argument("--tracks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="between two looks at the processes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and leave it; else a temporary one")
    options = parser.parse_args()
    if options.tracks * options.seconds < 1_000:
        parser.error("1,000 s of audio or more: less is done in the command's own process, without workers")
    with tempfile.TemporaryDirectory() as temporary:
        soak(options, options.keep or Path(temporary))


def soak(options: argparse.Namespace, root: Path) -> None:
    """Both stages, one after the other."""
    import pyarrow.dataset as ds

    from mer_ray.io.tables import Workspace, now

    workspace = Workspace(str(root / "w"))
    rows = music(root / "music", options.tracks, options.seconds)
    for start in range(0, len(rows), 5_000):
        part = rows[start : start + 5_000]
        workspace.append_rows("audio", part)
        named = [{"track_id": r["track_id"], "artist": "", "title": r["track_id"], "source": "folder"} for r in part]
        workspace.append_rows("tracks", [{**r, "tags": [], "fetched_at": now()} for r in named])
    print(f"{options.tracks:,} tracks of {options.seconds:g} s are there", flush=True)
    titles = ["quarter", "tracks/s", "tracks/CPU-s", "driver MB", "largest worker MB", "Ray's own MB"]
    titles += ["reference CPU-ms", "driver files", "worker files"]
    figures: dict[str, Any] = {"tracks": options.tracks}
    stages = {"extract": ("features/logmel", []), "score": ("scores", common.sets("score.model=light"))}
    for stage, (table, more) in stages.items():
        command = [sys.executable, "-m", "mer_ray", stage, "--workspace", str(root / "w"), *more]
        command += common.sets(
            "collect.source=folder", "extract.features=logmel,rhythm,tonal", "extract.logmel.fmax=7500"
        )
        command += common.sets("extract.batch_minutes=10")
        samples = watch(command, root / "w" / table, options.tracks, options.every)
        shown = quarters(samples)
        took, cpu = samples[-1]["s"], max(s["cpu_s"] for s in samples)
        common.show(f"{stage}: {took:.0f} s, {cpu:.0f} CPU-s with start-up", titles, shown)
        ids = ds.dataset(root / "w" / table).to_table(["track_id"])["track_id"]
        once = len(ids) == len(ids.unique()) == options.tracks
        print(f"each id exactly once: {once}", flush=True)
        figures[stage] = {"wall_s": took, "cpu_s": cpu, "quarters": shown, "exactly_once": once}
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
