"""Ready features scored from Parquet to Parquet: CPU and memory for 100,000 and 1,000,000 rows, and a kill in between.

    python benchmarks/score_rows.py [--rows 100000 1000000] [--kill]

Rows of 4 frames of a 16-dimensional embedding and a `kernel` model for it, both made up here: what is measured is the
way of a row, not music. Memory: the sum of proportional set sizes of the command and its workers, from the first shard
on. --kill ends the command with SIGKILL half-way and starts it again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import common

common.one_thread()

N_DIMS, N_FRAMES, HOP_S, GROUP = 16, 4, 0.96, 50_000


def model(folder: Path) -> object:
    """Saves a model; returns the feature that it reads."""
    import numpy as np

    from mer_ray.evaluation.summary import evaluate
    from mer_ray.features import FeatureSpec
    from mer_ray.io.tables import Workspace
    from mer_ray.models.kernel import Kernel
    from mer_ray.scoring import model_folder
    from mer_ray.scoring.intervals import intervals
    from mer_ray.training import reference

    rng = np.random.default_rng(0)
    labels = rng.uniform(0.2, 0.8, (200, 3))
    mix = rng.standard_normal((3, N_DIMS))
    tracks = [(row @ mix + rng.standard_normal((20, N_DIMS))).astype(np.float32) for row in labels]
    groups = [str(i) for i in range(200)]
    spec = FeatureSpec("made", 1, 0, HOP_S, N_DIMS, family="precomputed")
    member = Kernel(HOP_S, 31).fit(tracks, labels, groups)
    statistics = member.statistics
    means = np.stack([statistics.mean(t, 31, HOP_S) for t in tracks])
    predicted = labels[None] + 0.05 * rng.standard_normal((1, 200, 3))
    model_folder.save(
        model_folder.Model(
            "kernel-made", "kernel", spec, 31, [member], intervals(labels, predicted, groups),
            reference.fit(statistics, means, groups, 0), evaluate(labels, predicted, groups),
        ),
        Workspace(str(folder)),
    )  # fmt: skip
    return spec


def table(spec: object, rows: int, path: Path) -> None:
    """Writes features of so many tracks."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mer_ray.io.schemas import features_schema, ragged_column

    schema = features_schema(N_DIMS)
    rng = np.random.default_rng(1)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for start in range(0, rows, GROUP):
            n = min(GROUP, rows - start)
            frames = list(rng.standard_normal((n, N_FRAMES, N_DIMS)).astype(np.float32))
            columns = [
                pa.array([f"{i:016x}" for i in range(start, start + n)]),
                ragged_column(frames, N_DIMS),
                pa.array(np.full(n, HOP_S)),
                pa.array([spec.fingerprint] * n),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=GROUP)


def watch(command: list[str], out: Path, stop_at: int = 0) -> dict[str, float]:
    """Runs it: wall and CPU seconds, peak and late memory (MB). stop_at: shards at which it is killed."""
    import psutil

    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    cpu: dict[int, float] = {}
    memory: list[float] = []
    while process.poll() is None:
        total = 0.0
        for p, line in common.family(psutil.Process(process.pid), cpu):
            if line.startswith("ray::") or p.pid == process.pid:
                with suppress(psutil.Error):
                    total += p.memory_full_info().pss / 1e6
        shards = len(list((out / "scores").glob("*.parquet"))) if (out / "scores").is_dir() else 0
        if shards:
            memory.append(total)
        if stop_at and shards >= stop_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(1.0)
    quarter = max(1, len(memory) // 4)
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": sum(cpu.values()),
        "first_mb": sum(memory[:quarter]) / quarter if memory else 0.0,
        "last_mb": sum(memory[-quarter:]) / quarter if memory else 0.0,
        "rc": float(process.returncode),
    }


def main() -> None:
    """Print the table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    import pyarrow.dataset as ds

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spec = model(root / "model")
        for rows in options.rows:
            table(spec, rows, root / "frames.parquet")
            out = root / f"out{rows}"
            command = [sys.executable, "-m", "mer_ray", "score", str(root / "frames.parquet")]
            command += ["--model", str(root / "model"), "--out", str(out)]
            if options.kill:
                print("killed:", watch(command, out, stop_at=max(1, rows // 2_048)), flush=True)
            r = figures[f"{rows}"] = watch(command, out)
            ids = ds.dataset(out / "scores").to_table(["track_id"])["track_id"]
            exactly = len(ids) == rows and len(ids.unique()) == rows
            print(
                f"{rows:>9,} rows: {r['cpu_s']:.0f} CPU-s, {r['wall_s']:.0f} s, {rows / r['wall_s']:.0f} rows/s, "
                f"{1e3 * r['cpu_s'] / rows:.2f} CPU-ms a row; memory {r['first_mb']:.0f} MB in the first quarter, "
                f"{r['last_mb']:.0f} MB in the last; each id exactly once: {exactly}",
                flush=True,
            )
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
