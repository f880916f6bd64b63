"""The memory that a catalog's end takes: what `mer-ray score CATALOG` does with its scores once all tracks are scored.

    python benchmarks/score_memory.py [--rows 300000] [--json FILE]

Random scores (curves of 60 points) lie in a folder, a .parquet and a .csv. A process of its own each writes what goes
with them, with nothing new or with 1,000 rows more; it tells by how much its memory grew at the most.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

STEP, NEW, POINTS, MODEL = 5_000, 1_000, 60, "model:1"
CASES = (("folder", 0), ("scores.parquet", 0), ("scores.parquet", NEW), ("scores.csv", NEW))


def rows(start: int, stop: int):
    """Scores of tracks number start to stop."""
    import numpy as np
    import pyarrow as pa

    from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, ragged_column

    n, rng, schema = stop - start, np.random.default_rng(start), SCHEMAS["scores"]
    numbers = range(start, stop)
    columns = {
        "track_id": [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in numbers],
        "artist": [f"Artist {i % 500}" for i in numbers],
        "title": [f"Title {i}" for i in numbers],
        "album": [f"Album {i % 3_000}" for i in numbers],
        "uri": [f"/music/{i % 3_000}/{i}.flac" for i in numbers],
        "duration_s": [60.0] * n,
        "decoded_share": [1.0] * n,
        "in_distribution": [True] * n,
        "novelty": [0.5] * n,
        "curve": ragged_column(list(rng.random((n, POINTS, 3), np.float32)), 3),
        "curve_hop_s": [1.0] * n,
        "sound": list(rng.random((n, 16), np.float32)),
        "waveform": list(rng.integers(0, 255, (n, 300), np.uint8)),
        "model": [MODEL] * n,
    }
    columns |= {f"{end}{d}": rng.uniform(0.3, 0.7, n) for end in ("", "lower_", "upper_") for d in DIMENSIONS}
    made = [c if isinstance(c := columns[f.name], pa.ChunkedArray | pa.Array) else pa.array(c, f.type) for f in schema]
    return pa.Table.from_arrays(made, schema=schema)


def make(folder: Path, n: int) -> None:
    """A folder of shards and the same rows in one file of each kind."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from mer_ray.io.schemas import SCHEMAS
    from mer_ray.io.tables import Workspace
    from mer_ray.scoring.output import NESTED

    flat = pa.schema([f for f in SCHEMAS["scores"] if f.name not in NESTED])
    workspace = Workspace(folder / "folder")
    with (
        pq.ParquetWriter(folder / "scores.parquet", SCHEMAS["scores"], compression="zstd") as whole,
        pacsv.CSVWriter(str(folder / "scores.csv"), flat) as text,
    ):
        for start in range(0, n, STEP):
            table = rows(start, min(n, start + STEP))
            whole.write_table(table)
            text.write_table(table.select(flat.names))
            workspace.append("scores", table, f"{start}")


def memory_mb(kind: str) -> float:
    """VmRSS: what this process holds. VmHWM: the most that it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def end(target: str, new: int, n: int) -> dict[str, float]:
    """What the command does last, in this process."""
    from mer_ray.io.tables import Workspace
    from mer_ray.scoring import output, preview

    if new:
        Workspace(f"{target}.parts").append("scores", rows(n, n + new), "new")
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    started, cpu = time.monotonic(), time.process_time()
    place = output.Output(target)
    place.open(MODEL)
    done = len(place.done())
    place.finish([], done)
    list(preview.tables(place.uri, 120))
    assert done == n + new, f"{done:,} rows of {n + new:,}"
    return {
        "grown_mb": memory_mb("VmHWM") - before,
        "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--case", nargs=2, metavar=("TARGET", "NEW"), help="in this process, for the benchmark itself")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(end(options.case[0], int(options.case[1]), options.rows)))
        return
    found = {}
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        for name, new in CASES:
            make(Path(folder), options.rows)
            command = [sys.executable, __file__, "--rows", options.rows, "--case", Path(folder, name), new]
            told = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
            found[f"{name} + {new:,}"] = json.loads(told)
            print(f"{name}, {options.rows:,} rows and {new:,} new:", told.strip(), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
